"""Gated messages in a home: their timers while it runs, while it does not, and when nobody has the room open."""

from __future__ import annotations

import trio

from parlerd.core.model import RoomId
from parlerd.engine.rooms import IDLE_SECONDS
from parlerd.operations import types as t
from tests.support.engine import Party, Served, SteppedClock, World, run, settle
from tests.support.room_state import put


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock())


async def together(served: Served) -> tuple[Party, Party]:
    alice, bob = await served.agent("alice"), await served.agent("bob")
    opened = await alice.open(approval=False)
    await bob.come_in(opened.session_key)
    return alice, bob


async def words(who: Party) -> list[str]:
    page = await who.recv(all=True)
    return [str(each.text) for each in page.messages if each.kind != "context"]


def test_a_message_comes_later_and_another_goes() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await together(served)
            await alice.send("later", timer=t.TimerAsked(ms=20_000, effect="enable"))
            await alice.send("for a while", timer=t.TimerAsked(ms=60_000))
            assert await words(bob) == ["for a while"]
            async with trio.open_nursery() as nursery:
                heard: list[str] = []

                async def wait() -> None:
                    page = await bob.recv(wait=60)
                    await bob.commit(page)
                    page = await bob.recv(wait=60)
                    heard.extend(str(each.text) for each in page.messages)

                nursery.start_soon(wait)
                await trio.sleep(19)
                assert heard == []
                await trio.sleep(2)
                assert heard == ["later"]
            await trio.sleep(60)
            assert "for a while" not in "".join(await words(bob))
            assert "later" in await words(bob)

    run(main)


def test_a_room_that_nobody_has_open_is_looked_at_when_a_message_is_due() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await together(served)
            sent = await alice.send("later", timer=t.TimerAsked(ms=24 * 3_600_000, effect="enable"))
            room = RoomId(sent.room)
            await trio.sleep(IDLE_SECONDS * 3)
            assert served.engine._desk.rooms.open_actor(room) is None
            await trio.sleep(24 * 3_600)
            await settle()
            trace = await served.engine._desk.library.trace(sent.id)  # type: ignore[arg-type]
            assert trace is not None
            assert await words(bob) == ["later"]

    run(main)


def test_what_was_due_while_nobody_ran_happens_once_and_late() -> None:
    clock = SteppedClock()
    home = World(clock=clock)

    async def first() -> None:
        async with home.serving() as served:
            alice, _ = await together(served)
            await alice.send("later", timer=t.TimerAsked(ms=10_000, effect="enable"))
            await alice.send("when it opens", enabled="has(state._shared.open)")

    async def second() -> None:
        clock.step(seconds=3_600)
        async with home.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await settle()
            assert await words(bob) == ["later"]
            await put(alice, "open", True)
            assert await words(bob) == ["later", "when it opens"]
            assert await words(bob) == ["later", "when it opens"]

    run(first)
    run(second)


def test_a_message_whose_author_is_elsewhere_in_no_room_is_refused() -> None:
    async def main() -> None:
        async with world().serving() as served:
            cat = await served.agent("cat")
            error = await cat.refused("message.send", t.Send(text="hello", enabled="true"))
            assert error.code == "no_active_session"
            error = await cat.refused("message.withdraw", t.WithdrawMessage(id="m_1"))
            assert error.code == "no_active_session"

    run(main)
