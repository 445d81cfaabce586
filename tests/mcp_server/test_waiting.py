"""What ends a wait of a model, what a notice beside an answer says, and what is on record as read."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from mcp_server.heard import hear
from parlerd.core.errors import StoreError
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from tests.support.engine import SlowDriver, World, engine_world, run
from tests.support.models import Model, at_the_door, ended, model, pair, waits

REPO = "/home/sam/shop"


# -- what ends a wait --------------------------------------------------------------------------------------------------


def test_a_knock_ends_a_wait_that_is_the_first_call_of_its_window() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            opened = await (await served.window("w1", workspace=REPO)).open("auth")
        async with world.serving() as served:
            # The daemon came back, and the host makes its call again.
            owner = await served.window("w1", workspace=REPO)
            window = Model(served, owner)
            async with waits(window) as answered:
                await (await model(served, "w9")).call("parler_join_session", key=opened.session_key)
                assert await ended(answered)

    run(main)


def test_closing_a_session_ends_the_waits_of_those_at_its_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await at_the_door(served)
            alice, window = room.alice, room.bob
            async with waits(window) as answered:
                await alice.close()
                assert await ended(answered)

    run(main)


def test_who_knocked_at_a_session_that_was_closed_is_told_so_and_not_that_a_person_declined() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await at_the_door(served)
            alice, window, opened = room.alice, room.bob, room.opened
            await alice.close()
            text = await window.call("parler_join_session", key=opened.session_key)
            assert "closed" in text, text
            assert "declined" not in text

    run(main)


def test_who_was_declined_once_long_ago_hears_that_it_has_no_session_and_not_that() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await at_the_door(served)
            window, bob = room.bob, room.bob.party
            await (await served.person()).deny((await bob.whoami()).id)
            await window.call("parler_open_session", topic="mine")
            await window.call("parler_leave")
            assert hear(await window.call("parler_recv")).error == "no_active_session"

    run(main)


# -- what is on record -------------------------------------------------------------------------------------------------


def test_a_message_that_a_waiting_window_was_not_shown_is_not_on_record_as_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            room = await pair(served)
            alice, window = room.alice, room.bob
            await window.call("parler_recv")
            texts: list[str] = []
            sent: list[t.Sent] = []
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    texts.append(await window.call("parler_recv", wait_secs=40))

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                # Hidden characters: as many as are sent, five times as many as are shown.
                texts_sent = [f"{n}" + "\x01" * 3000 for n in range(2)]
                begun = [served.engine.begin("message.send", t.Send(text=x), alice.caller) for x in texts_sent]
                for posting in begun:
                    assert posting is not None
                    sent.append(await posting.result())
            shown = set(hear(texts[0]).seqs)
            unshown = [each for each in sent if each.seq not in shown]
            assert unshown
            for each in unshown:
                assert "read" not in (await alice.why(each.id))["claude-code@bob"]

    run(main)


def test_a_hook_of_a_thread_that_called_nothing_yet_learns_nothing_of_another_thread_of_its_process() -> None:
    """Codex serves several threads from one process: who descends from it is not yet the thread that called."""

    async def main() -> None:
        async with engine_world() as served:
            about: dict[str, Any] = {"host": "codex", "workspace": REPO, "parents": frozenset({4321})}
            first = await served.connect("mcp", window="w1", conversation="thread-a", is_exact=True, **about)
            alice = await served.agent("alice")
            opened = await alice.open("auth")
            await served.admit(opened, first)
            await served.acknowledge(first)
            await alice.send("for thread a alone")
            hook = await served.connect("hook", conversation="thread-b", **about)
            found = await hook.ask("wake.check", t.WakeCheck(turn=True), t.Waiting)
            assert (found.agent, found.unread) != ((await first.whoami()).name, 1)
            assert found.unread == 0

    run(main)


def test_a_denial_at_one_of_two_doors_ends_the_wait_of_who_stands_at_both() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            doors = [await alice.open("one"), await alice.open("two")]
            bob = await served.window("w1", workspace=REPO)
            window = Model(served, bob)
            for door in doors:
                await window.call("parler_join_session", key=door.session_key)
            async with waits(window) as answered:
                await (await served.person()).deny((await bob.whoami()).id, room=doors[0].room)
                assert await ended(answered)

    run(main)


def test_a_read_of_a_closed_session_says_that_it_is_closed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            bob = await served.window("w1", workspace=REPO)
            await served.admit(await alice.open("auth"), bob)
            window = Model(served, bob)
            await window.call("parler_recv")
            await alice.close()
            assert "closed" in await window.call("parler_recv")

    run(main)


def test_a_notice_that_failed_half_way_is_said_by_the_next_answer() -> None:
    async def main() -> None:
        async with engine_world() as served:
            bob = await served.window("w1", workspace=REPO)
            rooms = [await bob.open(topic) for topic in ("one", "two")]
            window = Model(served, bob)
            await window.call("parler_rooms")
            await (await served.agent("carol")).join(rooms[1].session_key)
            real = served.engine._desk.rooms.get

            async def get(room: RoomId) -> Any:
                if room == rooms[0].room:
                    raise StoreError("store_failed")
                return await real(room)

            # "two" is the active session and comes first; then the other cannot be read for a moment.
            served.engine._desk.rooms.get = get  # type: ignore[method-assign]
            text = await window.call("parler_send", text="x")
            served.engine._desk.rooms.get = real  # type: ignore[method-assign]
            assert "knocks" in text + await window.call("parler_recv")

    run(main)


def test_a_message_that_was_being_stored_as_a_notice_was_written_is_noticed_afterwards() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice = await served.agent("alice")
            bob = await served.window("w1", workspace=REPO)
            await served.admit(await alice.open("auth"), bob)
            await served.acknowledge(bob)
            await served.notice(bob)
            await alice.send("one")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(alice.send, "two")
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert await served.notice(bob) == "Meanwhile: 1 new in 'auth'."
            assert await served.notice(bob) == "Meanwhile: 2 new in 'auth'."

    run(main)
