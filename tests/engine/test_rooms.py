"""Open rooms: folded on demand, kept while used, closed when not, and read-only when they are from the future."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.events import Header
from parlerd.core.home import HomeRoom
from parlerd.core.model import HOME_ROOM, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine import rooms as rooms_module
from parlerd.engine.rooms import IDLE_SECONDS, fold
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import PutSnapshot, Snapshot, Store
from tests.support import facts as f
from tests.support.engine import (
    PlugDriver,
    World,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.faulty_store import FaultyStore

T = TypeVar("T")


class CountingStore(MemoryStore):
    """Counts what is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.folds: list[tuple[RoomId, Position]] = []

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        self.folds.append((room, after))
        return super().facts(room, after, limit)


# -- folding -----------------------------------------------------------------------------------------------


def a_room(store: MemoryStore) -> None:
    store.transact([[f.append(f.opened(), f.joined(2, f.ANN), *(f.message(n) for n in range(3, 40)))]])


def test_a_room_folds_the_same_from_its_facts_and_from_any_snapshot() -> None:
    store = MemoryStore()
    a_room(store)
    whole, frozen = fold(store, f.ROOM, Room, Room.restore)
    assert not frozen
    assert whole.position == 39
    part = Room()
    for fact in store.whole_facts(f.ROOM, Position(0), 20):
        part.apply(fact.header, fact.body)
    store.transact([[PutSnapshot(f.ROOM, part.fold_version, part.position, part.snapshot())]])
    again, _ = fold(store, f.ROOM, Room, Room.restore)
    assert again.state == whole.state


@pytest.mark.parametrize(
    "snapshot", [Snapshot(99, Position(20), b"\x80"), Snapshot(1, Position(20), b"not a snapshot")]
)
def test_a_snapshot_of_another_version_or_of_nonsense_is_not_used(snapshot: Snapshot) -> None:
    store = MemoryStore()
    a_room(store)
    whole, _ = fold(store, f.ROOM, Room, Room.restore)
    store.transact([[PutSnapshot(f.ROOM, snapshot.fold_version, snapshot.position, snapshot.data)]])
    again, _ = fold(store, f.ROOM, Room, Room.restore)
    assert again.state == whole.state


def test_a_room_longer_than_a_page_of_facts_folds_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_module, "FOLD_PAGE", 13)
    store = MemoryStore()
    store.transact([[f.append(f.opened(), f.joined(2, f.ANN), *(f.message(n) for n in range(3, 27)))]])
    assert fold(store, f.ROOM, Room, Room.restore)[0].position == 26


def test_a_room_that_is_not_there_folds_to_nothing() -> None:
    assert fold(MemoryStore(), f.ROOM, Room, Room.restore)[0].position == 0
    assert fold(MemoryStore(), HOME_ROOM, HomeRoom, HomeRoom.restore)[0].position == 0


# -- opening and closing -----------------------------------------------------------------------------------


class Slow(PlugDriver):
    """Answers a second after it was asked."""

    async def read(self, query: Callable[[Store], T]) -> T:
        await trio.sleep(1)
        return await super().read(query)


def test_a_room_whose_log_is_being_read_when_the_engine_stops_is_not_opened_any_more() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            await served.room("alice", "bob")
        world.driver = Slow
        told: list[str] = []
        async with trio.open_nursery() as nursery, world.serving() as served:
            alice = await served.agent("alice")
            await alice.whoami()

            async def ask() -> None:
                told.append((await alice.refused("rooms.list", t.ListRooms())).code)

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert served.open_rooms == 0
        assert told == ["draining"]

    run(main)


def test_a_room_is_folded_once_however_many_ask_for_it_at_the_same_time() -> None:
    async def main() -> None:
        world = World(store=CountingStore())
        async with world.serving() as served:
            await served.room("alice", "bob")
        assert isinstance(world.store, CountingStore)
        world.driver = Slow
        async with world.serving() as served:
            parties = [await served.agent(name) for name in ("alice", "bob")]
            for party in parties:
                await party.whoami()
            # The home has looked how much its rooms hold.
            await trio.sleep(60)
            world.store.folds.clear()
            await gather(*(party.rooms for party in parties))
            assert len(world.store.folds) == 1
            assert served.open_rooms == 1

    run(main)


def test_a_room_nobody_uses_is_closed_with_a_snapshot_and_opens_again_from_it() -> None:
    async def main() -> None:
        store = CountingStore()
        async with engine_world(store=store) as served:
            alice, bob = await served.room("alice", "bob")
            room = RoomId((await alice.rooms())[0].room)
            await trio.sleep(IDLE_SECONDS * 1.3)
            assert served.open_rooms == 0
            snapshot = store.snapshot(room)
            assert snapshot is not None
            assert snapshot.position == store.head(room).position
            store.folds.clear()
            await alice.send("again")
            assert store.folds == [(room, snapshot.position)]
            assert await bob.read() == ["again"]

    run(main)


def test_a_room_that_is_used_stays_open() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            for _ in range(10):
                await trio.sleep(IDLE_SECONDS / 2)
                await bob.recv()
                assert served.open_rooms == 1
            await alice.send("x")

    run(main)


def test_past_the_limit_the_longest_unused_rooms_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms_module, "MAX_OPEN", 3)

    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            rooms = []
            for n in range(6):
                rooms.append((await alice.open(f"room {n}")).room)
                await trio.sleep(1)
            await alice.send("x", room=rooms[0])
            await trio.sleep(IDLE_SECONDS / 10)
            kept = {room for room in rooms if served.engine._desk.rooms.open_actor(RoomId(room)) is not None}
            assert kept == {rooms[0], rooms[4], rooms[5]}
            for room in rooms:
                await alice.send("still there", room=room)

    run(main)


def test_an_orderly_end_leaves_every_room_with_a_snapshot() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice")
            await alice.open("second")
        for room in world.store.rooms():
            snapshot = world.store.snapshot(room)
            assert snapshot is not None
            assert snapshot.position == world.store.head(room).position

    run(main)


def test_a_room_whose_first_commit_failed_is_not_there() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice = await served.agent("alice")
            await alice.whoami()
            store.fail_commit_number(store.commits + 2)
            assert (await alice.refused("session.open", t.OpenSession(topic="x"))).code == "store_full"
            assert await alice.rooms() == []
            assert (await alice.refused("message.recv", t.Recv())).code == "no_active_session"
            assert (await alice.refused("message.recv", t.Recv(room="x"))).code == "no_such_room"

    run(main)


def test_a_room_that_cannot_be_read_is_an_error_for_who_asks_and_for_nobody_else() -> None:
    async def main() -> None:
        world = World(store=FaultyStore())
        async with world.serving() as served:
            (alice,) = await served.room("alice")
        assert isinstance(world.store, FaultyStore)
        async with world.serving() as served:
            alice = await served.agent("alice")
            world.store.unreadable = "store_corrupt"
            assert (await alice.refused("message.recv", t.Recv(room="auth-redesign"))).code == "store_corrupt"
            assert (await alice.whoami()).name == "alice"
            world.store.unreadable = None
            assert texts(await alice.recv(all=True)) == ["Chose PKCE."]

    run(main)


# -- the future --------------------------------------------------------------------------------------------


class Future(MemoryStore):
    """One room's log ends with a fact that this version does not know."""

    newer: RoomId | None = None

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        if room == self.newer:
            raise Refused("newer_log")
        return super().facts(room, after, limit)


def test_a_room_with_facts_of_a_newer_parler_is_shown_as_far_as_it_is_known_and_refuses_writes() -> None:
    async def main() -> None:
        world = World(store=Future())
        async with world.serving() as served:
            alice, _ = await served.room("alice", "bob")
            room = (await alice.rooms())[0].room
        assert isinstance(world.store, Future)
        world.store.newer = RoomId(room)
        async with world.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert (await alice.refused("message.send", t.Send(text="x"))).code == "newer_log"
            assert texts(await bob.recv(all=True)) == ["Chose PKCE."]
            assert set(await bob.roster()) == {"alice", "bob"}
            opened = await alice.open("another", "works")
            assert (await alice.send("x", room=opened.room)).seq == 2

    run(main)


def test_a_snapshot_holds_no_words_of_any_message() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            (alice,) = await served.room("alice", context="canary recap")
            await alice.send("canary message")
        for room in world.store.rooms():
            snapshot = world.store.snapshot(room)
            assert snapshot is not None
            assert b"canary" not in snapshot.data
            assert msgspec.msgpack.decode(snapshot.data)

    run(main)


def test_events_of_the_home_room_never_reach_a_reader() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            for room in ("home", HOME_ROOM):
                for op, params in (("message.recv", t.Recv(room=room)), ("rooms.roster", t.Roster(room=room))):
                    assert (await alice.refused(op, params)).code == "no_such_room"
                assert (await alice.refused("message.send", t.Send(text="x", room=room))).code == "no_such_room"
            facts = served.world.store.facts(HOME_ROOM, Position(0), 100)
            assert not any(isinstance(header.event, e.MessagePosted) for header in facts)

    run(main)


def test_many_rooms_are_used_side_by_side() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            rooms = [(await alice.open(f"room {n}")).room for n in range(10)]
            sent = await gather(*(partial(alice.send, "x", room=room) for room in rooms))
            assert [one.room for one in sent] == rooms
            assert {one.seq for one in sent} == {2}

    run(main)
