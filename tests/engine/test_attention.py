"""What begins a turn of an idle agent, as the agent itself says, and that nothing is held back from who reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parlerd.operations import types as t
from tests.engine.test_waking import check, hook, in_one_room, window
from tests.support.engine import Party, Served, engine_world, run


async def attend(party: Party, mode: str | None = None, room: str | None = None) -> t.AttentionIs:
    params = msgspec.convert({"mode": mode, "room": room}, t.SetAttention)
    return await party.ask("agent.attention", params, t.AttentionIs)


async def begins(ours: Party, served: Served, act: Any) -> bool:
    """Whether what `act` says begins a turn."""
    hooked = await hook(served)
    await act()
    answer = await check(hooked, turn=True)
    assert answer.unread or answer.requests
    return answer.wake


@pytest.mark.parametrize(
    ("mode", "here", "expected"),
    [
        ("open", None, {"public": True, "to": True, "private": True, "handoff": True}),
        ("dnd", None, {"public": False, "to": True, "private": True, "handoff": True}),
        ("focus", None, {"public": False, "to": False, "private": False, "handoff": True}),
        ("open", "quiet", {"public": False, "to": True, "private": True, "handoff": True}),
        ("open", "muted", {"public": False, "to": False, "private": False, "handoff": False}),
    ],
)
@pytest.mark.parametrize("said", ["public", "to", "private", "handoff"])
def test_attention_says_what_begins_a_turn_and_keeps_nothing_from_being_read(
    mode: str, here: str | None, expected: dict[str, bool], said: str
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, room = await in_one_room(served)
            me = await ours.whoami()
            await attend(ours, mode)
            if here is not None:
                await attend(ours, here, room)

            async def act() -> None:
                # More than one page of words that are for nobody, before what counts.
                for number in range(25):
                    await alice.send(f"{number}")
                if said == "handoff":
                    await alice.handoff("look", to=me.id)
                elif said != "public":
                    await alice.send(said, **{"to" if said == "to" else "visible_to": (me.id,)})

            assert await begins(ours, served, act) is expected[said]
            assert len(await ours.read(limit=100)) >= 25

    run(main)


def test_a_knock_begins_no_turn_of_an_owner_who_does_not_want_to_be_disturbed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ours = await window(served)
            opened = await ours.open("ours", "")
            for mode, expected in (("dnd", False), ("open", True)):
                await attend(ours, mode)
                other = await served.connect(as_name=f"knocks-at-{mode}", host="codex")

                async def knock(other: Party = other) -> None:
                    await other.join(opened.session_key)

                assert await begins(ours, served, knock) is expected
                await (await served.person()).deny(f"knocks-at-{mode}")

    run(main)


def test_attention_outlives_the_daemon_and_shows_what_holds() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ours, room = await in_one_room(served)
            await attend(ours, "focus")
            shown = await attend(ours, "muted", room)
            assert (shown.mode, [(each.room, each.mode) for each in shown.rooms]) == ("focus", [(room, "muted")])
            for wrong in ({"mode": "dnd", "room": room}, {"mode": "quiet"}):
                assert (await ours.refused("agent.attention", t.SetAttention(**wrong))).code == "invalid_param"  # type: ignore[arg-type]
            unknown = await ours.refused("agent.attention", t.SetAttention(mode="quiet", room="nowhere"))
            assert unknown.code == "no_such_room"
            world = served.world
        async with world.serving() as again:
            ours = await window(again)
            assert await attend(ours) == shown
            assert (await attend(ours, "inherit", room)).rooms == []

    run(main)
