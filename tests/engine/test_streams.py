"""Live views: what waits for a person, a room as it goes on, and room ids for subscriptions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import msgspec
import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.engine import streams as streams_module
from parlerd.engine.notifier import LocalNotifier
from parlerd.engine.recent import Recent
from parlerd.engine.rooms import IDLE_SECONDS
from parlerd.operations import types as t
from tests.support.engine import HookDriver, Party, Served, engine_world, gather, run, settle
from tests.support.faulty_store import FaultyStore

R = TypeVar("R", bound=t.Result)


class Stream:
    """What a stream gave so far, read as it comes."""

    def __init__(self, items: trio.MemoryReceiveChannel[t.Result]) -> None:
        self._items = items

    async def next(self, result: type[R]) -> R:
        with trio.fail_after(60):
            item = await self._items.receive()
        assert isinstance(item, result)
        return item

    async def texts(self, count: int) -> list[str]:
        found = []
        for _ in range(count):
            item = await self.next(t.WatchItem)
            assert isinstance(item.message, t.Message)
            found.append(str(item.message.text))
        return found

    async def silent(self) -> bool:
        """Whether nothing comes for a while."""
        with trio.move_on_after(5):
            await self._items.receive()
            return False
        return True

    async def ended(self) -> bool:
        with trio.fail_after(60):
            try:
                await self._items.receive()
            except trio.EndOfChannel:
                return True
        return False


@asynccontextmanager
async def watching(served: Served, party: Party, op: str, params: t.Params) -> AsyncIterator[Stream]:
    async with served.engine.stream(op, params, party.caller) as items, trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[t.Result](0)

        async def read() -> None:
            """In a task of its own, as a door does: whoever stops waiting for the next item must not end the stream."""
            async with send:
                async for item in items:
                    await send.send(item)

        nursery.start_soon(read)
        yield Stream(receive)
        nursery.cancel_scope.cancel()


async def follow(served: Served, party: Party, params: t.WatchRoom, seen: list[str]) -> None:
    """Follow a room as a door does, to its end."""
    async with served.engine.stream("room.watch", params, party.caller) as items:
        async for item in items:
            assert isinstance(item, t.WatchItem)
            assert isinstance(item.message, t.Message)
            seen.append(str(item.message.text))


async def refused(served: Served, party: Party, params: t.WatchRoom) -> str:
    """The code that following a room is refused with before anything was seen."""
    seen: list[str] = []
    with pytest.raises(ParlerError) as refusal:
        await follow(served, party, params, seen)
    assert seen == []
    return refusal.value.code


# -- approvals ---------------------------------------------------------------------------------------------


def test_a_person_sees_what_waits_now_and_at_every_change() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, person = await served.agent("alice"), await served.agent("bob"), await served.person()
            one, two = await alice.open("one"), await bob.open("two")
            async with watching(served, person, "approvals.watch", t.WatchApprovals()) as stream:
                assert (await stream.next(t.RequestList)).requests == []
                carol = await served.agent("carol")
                await carol.join(one.session_key)
                await carol.join(two.session_key)
                await settle()
                seen = await stream.next(t.RequestList)
                while len(seen.requests) < 2:
                    seen = await stream.next(t.RequestList)
                assert [request.room_name for request in seen.requests] == ["one", "two"]
                await alice.deny("carol")
                while len(seen.requests) > 1:
                    seen = await stream.next(t.RequestList)
                await bob.close()
                while seen.requests:
                    seen = await stream.next(t.RequestList)

    run(main)


def test_as_an_agent_only_its_own_rooms_are_listed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            await carol.join((await alice.open("one")).session_key)
            listed = await bob.ask("approvals.list", t.ListApprovals(), t.RequestList)
            assert listed.requests == []
            async with watching(served, bob, "approvals.watch", t.WatchApprovals()) as stream:
                assert (await stream.next(t.RequestList)).requests == []

    run(main)


# -- a room ------------------------------------------------------------------------------------------------


def test_a_room_is_followed_from_its_newest_messages_on_each_once_and_in_order() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            person = await served.person()
            for n in range(5):
                await alice.send(f"{n}")
            async with watching(served, person, "room.watch", t.WatchRoom(tail=2)) as stream:
                assert await stream.texts(2) == ["3", "4"]
                for n in range(5, 8):
                    await bob.send(f"{n}")
                assert await stream.texts(3) == ["5", "6", "7"]
                assert await stream.silent()

    run(main)


def test_more_than_a_page_that_came_at_once_is_followed_to_its_end() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom(tail=0)) as stream:
                await settle()
                for n in range(250):
                    await alice.send(f"{n}")
                assert await stream.texts(250) == [str(n) for n in range(250)]

    run(main)


def test_the_person_sees_what_any_of_their_agents_sees_and_an_agent_what_it_sees_itself() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await served.room("alice", "bob", "carol")
            await bob.send("between bob and carol", visible_to=("carol",))
            await bob.send("for all")
            room = (await alice.rooms())[0].room
            watch = t.WatchRoom(room=room)
            async with watching(served, await served.person(), "room.watch", watch) as stream:
                assert await stream.texts(3) == ["Chose PKCE.", "between bob and carol", "for all"]
                assert await stream.silent()
            async with watching(served, alice, "room.watch", watch) as stream:
                assert await stream.texts(2) == ["Chose PKCE.", "for all"]
                await bob.send("again between them", visible_to=("carol",))
                assert await stream.silent()
            async with watching(served, await served.agent("bob"), "room.watch", watch) as stream:
                assert len(await stream.texts(4)) == 4

    run(main)


def test_watching_acknowledges_nothing_is_on_record_and_is_in_no_roster() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            sent = await alice.send("one")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                await stream.texts(2)
                assert set(await alice.roster()) == {"alice", "bob"}
            observer = (await person.whoami()).id
            store = served.world.store
            found = store.find_message(sent.id)  # type: ignore[arg-type]
            assert found is not None
            assert {(mark.reader, mark.stage) for mark in store.deliveries(*found)} == {(observer, "pushed")}
            assert await bob.read() == ["one"]

    run(main)


def test_whoever_watches_sees_an_invocation_at_once() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _ = await served.room("alice", "bob")
            await alice.call("action.register", t.RegisterAction(id="go"))
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                await stream.texts(1)
                seen: list[str] = []

                async def wait() -> None:
                    seen.extend(await stream.texts(1))

                async def act() -> None:
                    await settle()
                    await alice.call("action.invoke", t.InvokeAction(id="go"))

                with trio.fail_after(60):
                    await gather(wait, act)
                assert seen == ["alice invoked go"]

    run(main)


async def watched(stream: Stream, count: int) -> list[tuple[int, str, object]]:
    """(number, event, who or what was said) of the next items."""
    found: list[tuple[int, str, object]] = []
    for _ in range(count):
        item = await stream.next(t.WatchItem)
        said = item.message
        if isinstance(said, t.Message):
            assert said.seq == item.number
        found.append((item.number, item.event, str(said.text) if isinstance(said, t.Message) else item.agent))
    return found


def test_the_items_of_a_stream_have_one_numbering_whichever_agent_sees_them() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, _ = await served.room("alice", "bob", "carol", history="from-join")
            await bob.send("between bob and carol", visible_to=("carol",))
            await bob.send("for all")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                await alice.send("more")
                assert await watched(stream, 4) == [
                    (1, "message", "Chose PKCE."),
                    (2, "message", "between bob and carol"),
                    (3, "message", "for all"),
                    (4, "message", "more"),
                ]
            # The numbers tell nothing of what is hidden from whoever watches.
            async with watching(served, alice, "room.watch", t.WatchRoom()) as stream:
                assert [number for number, _, _ in await watched(stream, 3)] == [1, 2, 3]

    run(main)


def test_a_person_sees_who_knocks_comes_goes_and_was_declined_in_the_order_it_happened() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice", context="")
            opened = await alice.open("another", context="")
            bob, dan = await served.agent("bob"), await served.agent("dan")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom(room=opened.room)) as stream:
                await settle()
                await bob.join(opened.session_key)
                assert await watched(stream, 1) == [(1, "knocked", "bob")]
                await alice.send("hm")
                await alice.approve("bob")
                await dan.join(opened.session_key)
                await alice.deny("dan")
                await bob.send("hello", room=opened.room)
                await bob.close(opened.room)
                await alice.close(opened.room)
                assert await watched(stream, 7) == [
                    (2, "message", "hm"),
                    (3, "joined", "bob"),
                    (4, "knocked", "dan"),
                    (5, "denied", "dan"),
                    (6, "message", "hello"),
                    (7, "left", "bob"),
                    (8, "closed", msgspec.UNSET),
                ]
                assert await stream.ended()
            async with watching(served, person, "room.watch", t.WatchRoom(room=opened.room)) as stream:
                assert [event for _, event, _ in await watched(stream, 3)] == ["message", "message", "closed"]
                assert await stream.ended()

    run(main)


def test_a_member_that_watches_sees_who_comes_and_goes_and_nothing_of_who_knocks() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one", context="")
            await served.admit(opened, bob)
            async with watching(served, bob, "room.watch", t.WatchRoom()) as stream:
                await settle()
                for name in ("carol", "dan"):
                    await (await served.agent(name)).join(opened.session_key)
                await alice.deny("carol")
                await alice.approve("dan")
                assert await watched(stream, 1) == [(1, "joined", "dan")]
                assert await stream.silent()

    run(main)


def test_whoever_watches_sees_what_the_owner_says_that_a_member_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob", context="")
            async with watching(served, bob, "room.watch", t.WatchRoom()) as stream:
                await settle()
                for role in ("reviewer", ""):
                    await alice.call("room.role", t.GiveRole(agent="bob", role=role))
                    item = await stream.next(t.WatchItem)
                    assert (item.event, item.agent, item.role) == ("role", "bob", role)

    run(main)


def test_what_an_agent_that_came_later_may_see_is_followed_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.agent("alice"), await served.agent("bob"), await served.agent("carol")
            opened = await alice.open("one", context="")
            await served.admit(opened, bob)
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom(room=opened.room)) as stream:
                await settle()
                await served.admit(opened, carol)
                assert [event for _, event, _ in await watched(stream, 2)] == ["knocked", "joined"]
                await bob.send("for carol", visible_to=("carol",))
                assert await watched(stream, 1) == [(3, "message", "for carol")]
                await carol.close()
                await carol.join(opened.session_key)
                await alice.send("meanwhile", visible_to=("bob",))
                assert [event for _, event, _ in await watched(stream, 3)] == ["left", "knocked", "message"]

    run(main)


def test_whoever_left_follows_a_room_no_longer() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob", context="")
            room = (await alice.rooms())[0].room
            codes: list[str] = []

            async def watch() -> None:
                codes.append(await refused(served, bob, t.WatchRoom(room=room)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                await settle()
                await (await served.agent("bob")).close()
                await alice.send("not for bob")
            assert codes == ["no_such_room"]

    run(main)


def test_who_came_and_went_is_found_among_any_number_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "LIFE_PAGE", 7)

    async def main() -> None:
        async with engine_world() as served:
            alice, _, carol = await served.room("alice", "bob", "carol", context="")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom(tail=0)) as stream:
                await settle()
                for n in range(150):
                    await alice.send(f"{n}")
                await carol.close()
                for n in range(150, 250):
                    await alice.send(f"{n}")
                seen = await watched(stream, 251)
                assert [number for number, _, _ in seen] == list(range(1, 252))
                assert [index for index, (_, event, _) in enumerate(seen) if event == "left"] == [150]

    run(main)


def test_an_outsider_cannot_watch() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room
            bob = await served.agent("bob")
            # Which of the two tasks notices the end first is drawn anew each time.
            for _ in range(10):
                for wanted in (room, "auth-redesign", "r_none"):
                    assert await refused(served, bob, t.WatchRoom(room=wanted)) == "no_such_room"
                assert await refused(served, bob, t.WatchRoom()) == "no_active_session"

    run(main)


def test_a_stream_ends_when_the_room_closes_and_when_the_daemon_drains() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice", context="")
            person = await served.person()
            async with (
                watching(served, person, "room.watch", t.WatchRoom()) as room,
                watching(served, person, "approvals.watch", t.WatchApprovals()) as approvals,
            ):
                await approvals.next(t.RequestList)
                await settle()
                await alice.close()
                assert (await room.next(t.WatchItem)).event == "closed"
                assert await room.ended()
                await served.engine.drain()
                assert await approvals.ended()

    run(main)


def test_a_room_that_was_closed_for_want_of_use_is_still_followed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice", context="")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                await trio.sleep(IDLE_SECONDS * 1.5)
                await alice.send("one")
                assert await stream.texts(1) == ["one"]
                await alice.close()
                assert (await stream.next(t.WatchItem)).event == "closed"

    run(main)


def test_a_slow_watcher_holds_up_neither_the_room_nor_the_engines_end() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            person = await served.person()
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                for n in range(50):
                    assert (await alice.send(f"{n}")).seq == n + 2
                assert await stream.texts(3) == ["Chose PKCE.", "0", "1"]
            notifier = served.engine._desk.notifier
            assert isinstance(notifier, LocalNotifier)
            assert len(notifier.waiters) == 0

    run(main)


def test_what_two_of_a_persons_agents_see_comes_once_also_when_it_is_posted_between_their_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # From memory all of them read at once; from the store something may come between.
    monkeypatch.setattr(Recent, "page", lambda *_, **__: None)

    async def main() -> None:
        async with engine_world(driver=HookDriver) as served:
            alice, bob = await served.room("alice", "bob", context="")
            person = await served.person()
            assert isinstance(served.driver, HookDriver)
            await alice.send("first")
            served.driver.then = partial(bob.send, "while the tails are read")
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                assert await stream.texts(2) == ["first", "while the tails are read"]
                assert await stream.silent()
                served.driver.then = partial(bob.send, "while the pages are read")
                await alice.send("second")
                assert await stream.texts(2) == ["second", "while the pages are read"]
                assert await stream.silent()

    run(main)


def test_a_person_follows_a_room_that_one_of_their_agents_leaves_while_it_is_first_read() -> None:
    async def main() -> None:
        async with engine_world(driver=HookDriver) as served:
            alice, bob = await served.room("alice", "bob", context="")
            person = await served.person()
            assert isinstance(served.driver, HookDriver)
            await alice.send("first")
            served.driver.then = bob.close
            async with watching(served, person, "room.watch", t.WatchRoom()) as stream:
                assert await stream.texts(1) == ["first"]

    run(main)


def test_a_store_that_fails_under_a_stream_ends_it_with_its_code_and_nothing_else() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice", context="")
            person = await served.person()
            await person.whoami()
            await alice.send("one")
            store.unreadable = "store_locked"
            assert await refused(served, person, t.WatchRoom(room=(await alice.rooms())[0].room)) == "store_locked"
            store.unreadable = None
            assert (await alice.send("two")).seq == 2

    run(main)


# -- changes -----------------------------------------------------------------------------------------------


def test_room_ids_come_for_what_the_reader_may_see_and_carry_nothing_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            room = (await alice.rooms())[0].room
            async with served.changes(alice) as changes:
                await settle()
                await bob.send("hidden", visible_to=("carol",))
                with trio.move_on_after(5) as nothing:
                    await changes.receive()
                assert nothing.cancelled_caught
                await carol.send("public")
                with trio.fail_after(60):
                    assert await changes.receive() == room
                await bob.send("for alice", visible_to=("alice",))
                with trio.fail_after(60):
                    assert await changes.receive() == room

    run(main)


def test_what_is_posted_as_soon_as_changes_are_followed_is_told() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await alice.rooms())[0].room
            async with served.changes(alice) as changes:
                await bob.send("at once")
                with trio.fail_after(60):
                    assert await changes.receive() == room
                with trio.move_on_after(5) as nothing:
                    await changes.receive()
                assert nothing.cancelled_caught

    run(main)


def test_a_room_joined_meanwhile_is_followed_too_and_one_left_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await bob.whoami()
            async with served.changes(bob) as changes:
                await settle()
                opened = await alice.open("x", "")
                await served.admit(opened, bob)
                await settle()
                await alice.send("one")
                with trio.fail_after(60):
                    assert await changes.receive() == opened.room
                await (await served.agent("bob")).close()
                await alice.send("two")
                with trio.move_on_after(5) as nothing:
                    await changes.receive()
                assert nothing.cancelled_caught
                await served.engine.drain()
                with trio.fail_after(60), pytest.raises(trio.EndOfChannel):
                    await changes.receive()

    run(main)


def test_an_unknown_stream_is_refused_before_it_begins() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person = await served.person()
            for op in ("message.recv", "nothing", "x" * 500):
                with pytest.raises(ParlerError) as refused:
                    served.engine.stream(op, t.WatchRoom(), person.caller)
                assert refused.value.code == "unknown_operation"
            await served.engine.drain()
            with pytest.raises(ParlerError) as refused:
                served.engine.stream("room.watch", t.WatchRoom(), person.caller)
            assert refused.value.code == "draining"

    run(main)


def test_many_streams_of_one_caller_run_side_by_side() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice", context="")
            person = await served.person()

            async def follow(seen: list[str]) -> None:
                async with watching(served, person, "room.watch", t.WatchRoom(tail=0)) as stream:
                    seen += await stream.texts(3)

            seen: list[list[str]] = [[] for _ in range(5)]
            async with trio.open_nursery() as nursery:
                for one in seen:
                    nursery.start_soon(partial(follow, one))
                await settle()
                for n in range(3):
                    await alice.send(f"{n}")
            assert seen == [["0", "1", "2"]] * 5

    run(main)
