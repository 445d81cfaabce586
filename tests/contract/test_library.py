"""What the library answers, over every store: in memory, in SQLite, and over one that takes a round trip.

Each test runs twice over each: with the rooms open, where memory answers what it knows for certain, and with none open,
where each question goes to the store. What is right is said by the test, and not by another implementation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from parlerd.core.model import HOME_ROOM, AgentId, MessageId, Position, PrincipalId, RoomId, Seq, View
from parlerd.core.public_line import first_line
from parlerd.core.room import Room
from parlerd.engine.audit import Audited
from parlerd.engine.driver import Driver
from parlerd.engine.library import Library, Numbered
from parlerd.engine.rooms import RoomDoor, fold
from parlerd.store.memory import MemoryStore
from parlerd.store.port import MarkDelivery, MoveCursor, Store
from parlerd.store.sqlite import SqliteStore
from tests.support.engine import FarDriver, Party, PlugDriver, World, run

Driven = tuple[Store, Callable[[Store], Driver]]
Make = Callable[[Path], AbstractContextManager[Driven]]


@contextmanager
def in_memory(path: Path) -> Iterator[Driven]:
    yield MemoryStore(), PlugDriver


@contextmanager
def in_sqlite(path: Path) -> Iterator[Driven]:
    yield SqliteStore(path / "parler.db", backups=path / "backups"), PlugDriver


@contextmanager
def far_away(path: Path) -> Iterator[Driven]:
    yield MemoryStore(), FarDriver


@contextmanager
def in_postgres(path: Path) -> Iterator[Driven]:
    from parlerd.store.postgres import PostgresStore
    from tests.support.postgres import shared, with_tables

    with shared().database(with_tables) as database:
        yield PostgresStore(database.relay), FarDriver


class NoRooms:
    """No room is open, so that memory knows nothing."""

    def open_actor(self, room: RoomId) -> None:
        return None


@dataclass
class Home:
    """Alice's session `one` with bob and carol in it, and dan at its door; her session `two` with nobody else.

    In `one` stand, in this order: her recap (1), `hello` by alice (2), `psst` for bob alone (3), bob's reply to `hello`
    (4). Numbers are bob's; carol does not see the third, so the reply is her third.
    """

    library: Library
    alice: Party
    bob: Party
    one: RoomId
    two: RoomId
    key: str
    ids: dict[str, AgentId]
    sent: dict[str, MessageId]
    room: Room
    principal: PrincipalId

    def view(self, name: str) -> View:
        return self.room.view(self.ids[name])


@asynccontextmanager
async def home(make: Make, path: Path, *, rooms_open: bool) -> AsyncIterator[Home]:
    async with AsyncExitStack() as stack:
        store, driver = stack.enter_context(make(path))
        served = await stack.enter_async_context(World(store=store, driver=driver).serving())
        world = served.world
        alice, bob, carol, dan = [await served.agent(name) for name in ("alice", "bob", "carol", "dan")]
        one = await alice.open("one")
        await served.admit(one, bob, carol)
        hello = await alice.send("hello")
        psst = await alice.send("psst", visible_to=("bob",))
        world.clock.move(seconds=5)
        reply = await bob.send("hi", reply_to=hello.id)
        await dan.join(one.session_key)
        two = await alice.open("two", "")
        rooms = served.engine._desk.rooms
        library = Library(served.driver, rooms if rooms_open else cast(RoomDoor, NoRooms()))
        parties = {"alice": alice, "bob": bob, "carol": carol, "dan": dan}
        yield Home(
            library=library,
            alice=alice,
            bob=bob,
            one=RoomId(one.room),
            two=RoomId(two.room),
            key=str(one.session_key),
            ids={name: AgentId((await party.whoami()).id) for name, party in parties.items()},
            sent={name: MessageId(sent.id) for name, sent in (("hello", hello), ("psst", psst), ("reply", reply))},
            room=await (await rooms.get(RoomId(one.room))).quiet(),
            principal=world.keys.principal,
        )


def over_every_store(test: Callable[[Home], Awaitable[None]]) -> Callable[..., None]:
    @pytest.mark.parametrize("make", [in_memory, in_sqlite, far_away, in_postgres])
    @pytest.mark.parametrize("rooms_open", [True, False])
    def in_home(make: Make, tmp_path: Path, *, rooms_open: bool) -> None:
        async def main() -> None:
            async with home(make, tmp_path, rooms_open=rooms_open) as given:
                await test(given)

        run(main)

    return in_home


@over_every_store
async def test_rooms_are_found_by_who_is_in_them_knocks_at_them_or_owns_them(home: Home) -> None:
    library, ids = home.library, home.ids
    assert await library.all_rooms() == [home.one, home.two]
    assert await library.my_rooms(ids["alice"]) == [home.one, home.two]
    assert await library.rooms_of([ids["bob"], ids["dan"]]) == {ids["bob"]: [home.one], ids["dan"]: []}
    assert await library.doors(ids["dan"]) == [home.one]
    assert await library.doors(ids["bob"]) == []
    assert [(each.room, each.state) for each in await library.memberships(ids["dan"])] == [(home.one, "pending")]
    ((standing, stands),) = await library.standings(ids["dan"])
    assert (standing.state, stands) == ("pending", home.room.position)
    assert sorted(await library.owned(home.principal)) == sorted([home.one, home.two])
    assert await library.owned("nobody") == []


@over_every_store
async def test_a_key_leads_to_its_room_and_no_other_does(home: Home) -> None:
    (key,) = home.room.state.keys
    assert await home.library.room_of_key(key) == home.one
    assert await home.library.room_of_key(cast(Any, "0" * 64)) is None


@over_every_store
async def test_a_reader_stands_where_it_acknowledged_and_has_unread_what_others_said_since(home: Home) -> None:
    library, bob = home.library, home.view("bob")
    cursor = await library.cursor(home.one, bob.reader)
    assert cursor.acknowledged == cursor.delivered
    # Of what it may see: the recap was acknowledged, and its own reply is none of it.
    unread = await library.unread(home.room, bob, cursor.acknowledged)
    assert (unread.number, unread.upto) == (2, home.room.position)
    assert (await library.unread(home.room, home.view("carol"), cursor.acknowledged)).number == 2
    assert (await library.unread(home.room, bob, home.room.position)).number == 0


@over_every_store
async def test_a_glance_tells_nothing_of_what_is_hidden_from_the_reader(home: Home) -> None:
    await home.alice.send("for bob alone", room=home.one, visible_to=("bob",))
    bob, carol = [await home.library.glance(home.one, home.view(name)) for name in ("bob", "carol")]
    assert (bob.unread, carol.unread) == (3, 2)
    reply = await home.library.trace(home.sent["reply"])
    assert reply is not None
    assert carol.last_at == reply.header.at
    assert bob.last_at >= carol.last_at


@over_every_store
async def test_each_reader_has_numbers_of_its_own_both_ways(home: Home) -> None:
    library = home.library
    for name, numbers in (("bob", {"hello": 2, "psst": 3, "reply": 4}), ("carol", {"hello": 2, "reply": 3})):
        view = home.view(name)
        for message, number in numbers.items():
            found = await library.trace(home.sent[message])
            assert found is not None
            position = found.header.position
            assert await library.seq_at(home.room, view, position) == number
            assert await library.position_of(home.one, view, Seq(number)) == position
            assert await library.numbered(home.one, view, Seq(number)) == home.sent[message]
            assert await library.read_up_to(home.one, view, Seq(number)) == position
        assert await library.numbered(home.one, view, Seq(0)) is None
        assert await library.numbered(home.one, view, Seq(9)) is None
        assert await library.read_up_to(home.one, view, Seq(9)) is None


@over_every_store
async def test_the_last_number_of_the_newest_page_means_all_that_was_shown_with_it(home: Home) -> None:
    cursor = await home.library.cursor(home.one, home.ids["bob"])
    seq = await home.library.seq_at(home.room, home.view("bob"), cursor.delivered)
    assert seq == 1
    assert await home.library.read_up_to(home.one, home.view("bob"), seq) == cursor.delivered


@over_every_store
async def test_what_was_seen_ends_where_it_was_shown_with_the_public_line_there(home: Home) -> None:
    library = home.library
    seen = await library.seen(home.one, home.ids["bob"])
    assert seen.upto == (await library.cursor(home.one, home.ids["bob"])).delivered
    assert seen.shown == await library.shown_at(home.one, seen.upto)
    assert seen.shown.number == 1
    nothing = await library.seen(home.one, home.ids["dan"])
    assert nothing == (0, (0, first_line(home.one, home.room.state.home)))


@over_every_store
async def test_what_a_reply_answers_has_a_number_only_for_whoever_may_see_it(home: Home) -> None:
    asked = [home.sent["hello"], home.sent["psst"], MessageId("m_none")]
    bob, carol = [await home.library.replied_to(home.one, home.view(name), asked) for name in ("bob", "carol")]
    assert bob == {home.sent["hello"]: 2, home.sent["psst"]: 3}
    assert carol == {home.sent["hello"]: 2}
    assert await home.library.replied_to(home.two, home.view("bob"), asked) == {}


@over_every_store
async def test_a_message_is_traced_with_every_mark_of_it(home: Home) -> None:
    found = await home.library.trace(home.sent["hello"])
    assert found is not None
    assert found.room == home.one
    assert {(mark.reader, mark.stage) for mark in found.marks} == {(home.ids["bob"], "acted")}
    assert await home.library.trace(MessageId("m_none")) is None


@over_every_store
async def test_what_a_request_led_to_is_told_once_with_the_readers_number(home: Home) -> None:
    traced = await home.library.trace(home.sent["reply"])
    assert traced is not None

    async def posted(position: Position) -> Numbered | None:
        told: list[tuple[Numbered | None, BaseException | None]] = []
        heard = trio.Event()

        def hear(answer: Numbered | None, error: BaseException | None) -> None:
            told.append((answer, error))
            heard.set()

        home.library.ask_posted(home.one, home.view("bob"), position, hear)
        await heard.wait()
        ((answer, error),) = told
        assert error is None
        return answer

    found = await posted(traced.header.position)
    assert found is not None
    assert found[:2] == (traced.header, 4)
    assert await posted(Position(1)) is None


@over_every_store
async def test_pages_and_facts_are_those_of_the_log(home: Home) -> None:
    library, bob = home.library, home.view("bob")
    page = await library.page(home.room, bob, Position(0), limit=10, skip_own=True)
    assert [each.seq for each in page.messages] == [1, 2, 3]
    tail = await library.tail(home.one, bob, limit=2, max_bytes=10_000)
    assert ([each.seq for each in tail.messages], tail.more) == ([3, 4], True)
    facts = await library.facts(home.one, Position(0), 100)
    assert [header.position for header in facts] == list(range(1, home.room.position + 1))
    assert await library.few_facts(home.one, Position(1), 2) == facts[1:3]


@over_every_store
async def test_what_is_recorded_moves_a_cursor_and_is_a_mark(home: Home) -> None:
    bob, upto = home.ids["bob"], home.room.position
    await home.library.record(
        [MarkDelivery(home.one, bob, "read", upto=upto, at=home.room.last_at), MoveCursor(home.one, bob, upto)]
    )
    assert (await home.library.cursor(home.one, bob)).acknowledged == upto
    found = await home.library.trace(home.sent["psst"])
    assert found is not None
    assert (bob, "read") in {(mark.reader, mark.stage) for mark in found.marks}


@over_every_store
async def test_a_sound_home_has_no_problems_and_every_fact_is_its_authors(home: Home) -> None:
    library = home.library
    assert await library.problems() == []
    logs = await library.logs()
    assert logs[home.one] == home.room.position
    for room, head in logs.items():
        assert await library.first_broken(room) is None
        about = None
        if room != HOME_ROOM:
            opened = (await library.bodies(room, [1]))[1]
            folded, _ = await library._driver.read(partial(fold, room=room, make=Room, restore=Room.restore))
            about = Audited.of(folded.state, opened.body)
        assert await library.unsigned(room, Position(0), head, about) == []
    assert await library.aside(lambda: 7) == 7


@over_every_store
async def test_only_a_store_at_hand_answers_whoever_cannot_wait(home: Home) -> None:
    library, bob = home.library, home.view("bob")
    far = isinstance(library._driver, FarDriver)
    assert library.numbered_now(home.one, bob, Seq(2)) == (None if far else home.sent["hello"])
    assert library.seen_now(home.one, bob.reader) == (None if far else await library.seen(home.one, bob.reader))
