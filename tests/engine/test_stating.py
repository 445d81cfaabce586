"""What an agent says that it is doing: beside what is found out of it, and never in its place."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from parlerd.engine.presence import DERIVED, ENDS_MS
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, SteppedClock, World, engine_world, run


async def state(who: Party, status: str = "", text: str = "") -> t.PresenceIs:
    return await who.ask("agent.presence", t.StatePresence(status=status, text=text), t.PresenceIs)


async def seen(by: Party, name: str) -> tuple[str, tuple[str, str] | None]:
    """What the roster says of a member: found out, and stated."""
    member = (await by.roster())[name]
    return member.presence, _said(member.stated)


def _said(stated: t.StatedStatus | msgspec.UnsetType) -> tuple[str, str] | None:
    return (stated.status, stated.text) if isinstance(stated, t.StatedStatus) else None


def test_what_is_stated_stands_beside_what_is_found_out_and_no_call_or_wait_changes_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert await seen(alice, "bob") == ("active", None)
            found = await state(bob, "busy", "running the long tests")
            assert (found.name, found.presence, _said(found.stated)) == (
                "bob",
                "active",
                ("busy", "running the long tests"),
            )
            stated = ("busy", "running the long tests")
            assert await seen(alice, "bob") == ("active", stated)
            served.world.clock.move(seconds=61)
            assert await seen(alice, "bob") == ("idle", stated)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(bob.recv, wait=60))
                await trio.testing.wait_all_tasks_blocked()
                assert await seen(alice, "bob") == ("waiting", stated)
                await alice.send("wake up")
            assert await seen(alice, "bob") == ("active", stated)
            assert _said((await state(bob)).stated) == stated
            assert await seen(alice, "alice") == ("active", None)
            await state(bob, "away")
            assert await seen(alice, "bob") == ("active", ("away", ""))
            await state(bob, "none")
            assert await seen(alice, "bob") == ("active", None)

    run(main)


def test_what_is_stated_ends_when_its_agent_was_offline_for_ten_minutes_and_not_before() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            await state(bob, "busy")
            await served.leave(bob)
            served.world.clock.move(seconds=ENDS_MS / 1000 - 1)
            assert await seen(alice, "bob") == ("offline", ("busy", ""))
            # It is back in time.
            again = await served.agent("bob")
            await again.whoami()
            served.world.clock.move(seconds=2 * ENDS_MS / 1000)
            assert await seen(alice, "bob") == ("idle", ("busy", ""))
            await served.leave(again)
            served.world.clock.move(seconds=ENDS_MS / 1000)
            assert await seen(alice, "bob") == ("offline", None)
            back = await served.agent("bob")
            assert _said((await state(back)).stated) is None

    run(main)


def test_after_a_restart_of_the_daemon_nothing_is_stated() -> None:
    async def main() -> None:
        world = World(clock=SteppedClock(), store=MemoryStore())
        async with world.serving() as served:
            await state(await served.agent("bob"), "busy")
        async with world.serving() as served:
            assert _said((await state(await served.agent("bob"))).stated) is None

    run(main)


@pytest.mark.parametrize("status", ["two words", "\x1b[2K", "b\u00fcsy", "x" * 65, "a\nb", "\u202ebusy"])
def test_a_status_is_a_word_that_may_stand_outside_a_fence(status: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            bob = await served.agent("bob")
            assert (await bob.refused("agent.presence", t.StatePresence(status=status))).code == "invalid_name"
            assert _said((await state(bob)).stated) is None

    run(main)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        *[({"status": word}, "status") for word in (*sorted(DERIVED), "module")],
        ({"text": "without a word"}, "status"),
        ({"status": "none", "text": "x"}, "status"),
    ],
)
def test_nobody_states_what_is_found_out_or_a_text_without_a_word(params: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            error = await (await served.agent("bob")).refused("agent.presence", t.StatePresence(**params))
            assert (error.code, error.details["param"]) == ("invalid_param", param)

    run(main)


def test_a_card_shows_what_its_agent_states() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await bob.ask("directory.register", t.Register(visibility="public"), t.Registered)
            await state(bob, "busy", "tests")
            found = await alice.ask("directory.discover", t.Discover(), t.FoundAgents)
            assert [(each.name, each.status, _said(each.stated)) for each in found.agents] == [
                ("bob", "active", ("busy", "tests"))
            ]
            card = await alice.ask("directory.card", t.ShowCard(agent="bob"), t.FoundAgent)
            assert _said(card.stated) == ("busy", "tests")

    run(main)
