"""How the store over PostgreSQL reads: in few ways to the server and back, and by its indexes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
import trio

from parlerd.core.events import RoomOpened
from parlerd.core.model import MessageId, Position, RoomId, View, drawn_key
from parlerd.engine.driver import InlineDriver
from parlerd.engine.library import Library
from parlerd.store.postgres import PostgresStore, queries
from parlerd.store.postgres import store as module
from parlerd.store.postgres.tables import Numbers, Texts
from tests.support.facts import ANN, BEN, ROOM, append, everything, message, opened, remembering


@contextmanager
def counted(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the ways to the server and back of reads."""
    ways: list[int] = []
    ask = store._server.ask

    def count(work: Any) -> Any:
        ways.append(1)
        return ask(work)

    with monkeypatch.context() as patch:
        patch.setattr(store._server, "ask", count)
        yield ways


def fill(store: PostgresStore, messages: int = 40) -> None:
    facts = [message(place, (ANN, BEN)[place % 2]) for place in range(2, messages + 2)]
    (outcome,) = store.transact([[append(opened(), *facts)]])
    assert outcome.error is None


def test_a_page_takes_two_ways_however_many_spans_the_reader_has(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    many = View(reader=BEN, spans=((2, 4), (6, 9), (11, 20), (25, None)))
    for view in (everything(BEN), many):
        with counted(store, monkeypatch) as ways:
            page = store.page(ROOM, view, Position(3), limit=50, max_bytes=9_999, skip_own=True)
            assert len(page.messages) > 10
            assert len(ways) == 2
        # Two more say how many messages there are up to the last of a page that was cut, and what is shown there.
        with counted(store, monkeypatch) as ways:
            page = store.page(ROOM, view, Position(3), limit=5, max_bytes=9_999, skip_own=True)
            assert (len(page.messages), page.more, len(ways)) == (5, True, 4)
    with counted(store, monkeypatch) as ways:
        page = store.page(ROOM, many, Position(3), limit=5, max_bytes=9_999, skip_own=True, names=("*", "@dev"))
        assert (page.messages, page.end, len(ways)) == ([], 3, 3)
    with counted(store, monkeypatch) as ways:
        assert store.tail(ROOM, many, limit=50, max_bytes=9_999).messages
        assert len(ways) == 2


def test_a_poll_that_finds_nothing_new_takes_one_way(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    head = store.head(ROOM).position
    with counted(store, monkeypatch) as ways:
        assert store.page(ROOM, everything(BEN), head, limit=5, max_bytes=9_999, skip_own=True).messages == []
        assert len(ways) == 1


def test_everything_that_a_batch_needs_of_the_past_takes_one_way(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = drawn_key(MessageId("m_x"))
    fill(store)
    last = message(42, id="m_x", key=drawn, operation="message.send")
    store.transact([[append(last, message(43, key="k", operation="message.send"))]])
    newest = store.shown_at(ROOM, Position(43)).number
    with counted(store, monkeypatch) as ways:
        past = store.past(
            ROOM,
            [(ANN, "message.send", drawn), (ANN, "message.send", "k"), (ANN, "message.send", "j")],
            [MessageId("m_x"), MessageId("m_none")],
            lines=[newest, newest - 3, newest - 20],
        )
        assert len(ways) == 1
    assert [prior.position for prior in past.priors.values()] == [43, 42]
    assert past.messages == {"m_x": last.header}
    assert past.lines == {number: store.line_at(ROOM, number) for number in (newest, newest - 3, newest - 20)}


def test_the_lines_of_older_messages_are_found_as_well(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    monkeypatch.setattr(module, "_NEWEST_LINES", 2)
    past = store.past(ROOM, [], [], lines=[0, 1, 7, 40, 41])
    assert past.lines == {number: store.line_at(ROOM, number) for number in (0, 1, 7, 40)}


def test_a_log_that_is_read_a_little_at_a_time_is_read_whole(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 7)
    fill(store)
    assert (store.verify_chain(ROOM), store.first_unlined(ROOM)) == (None, None)
    assert [place for place, *_ in store._each(queries.WHOLE_FACTS, ROOM)] == list(range(1, 42))


def test_no_read_of_a_page_or_a_memory_looks_through_a_table(store: PostgresStore) -> None:
    store.transact([[append(opened(), *(remembering(place, f"words {place}") for place in range(2, 1_500)))]])
    connection = store._server.writer
    with connection.transaction():
        connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        asked: dict[str, Any] = {
            "room": ROOM,
            "reader": 1,
            "reader_id": BEN,
            "lows": Numbers([0]),
            "highs": Numbers([1_499]),
            "names": Texts(["*"]),
            "kind": "",
            "after": 0,
            "before": 1_000,
            "head": 1_499,
            "skip_own": True,
            "limit": 51,
            "max_bytes": 1 << 20,
            "places": Numbers([3, 900]),
            "position": 900,
        }
        q = queries
        for query in (q.PAGE, q.TAIL, q.FILTERED_PAGE, q.TALLIES, q.SHOWN, q.FACTS, q.BODIED_FACTS):
            # Only what a plan would do matters, and with a page of a few rows any plan is fast.
            plan = connection.execute(f"EXPLAIN {query}", asked).fetchall()
            scanned = [line for (line,) in plan if "Seq Scan" in line]
            assert scanned == [], "\n".join(line for (line,) in plan)


def test_what_is_looked_at_when_a_relay_starts_takes_few_ways_however_many_rooms_there_are(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [RoomId(f"r_{number}") for number in range(200)]
    jobs = [[append(opened(room), *(message(n, room=room) for n in range(2, 5)), room=room)] for room in rooms]
    assert all(outcome.error is None for outcome in store.transact(jobs))
    home = store.facts(rooms[0], Position(0), 1)[0].event
    assert isinstance(home, RoomOpened)

    async def main() -> None:
        library = Library(InlineDriver(store), cast(Any, None))
        with counted(store, monkeypatch) as ways:
            # Which rooms there are, and where each lives.
            assert len(await library.rooms_at(home.home)) == 200
            assert await library.rooms_elsewhere(home.home) == []
            assert len(ways) == 4
        with counted(store, monkeypatch) as ways:
            assert set((await library.logs()).values()) == {4}
            assert len(ways) == 2
        with counted(store, monkeypatch) as ways:
            grown = await library.grown(dict.fromkeys(rooms, Position(0)))
            assert ({held.messages for held, _ in grown.values()}, len(grown), len(ways)) == ({3}, 200, 2)

    trio.run(main)


@pytest.mark.parametrize("span", [1, 3, 7, 100])
def test_what_a_room_holds_is_counted_a_stretch_at_a_time(
    span: int, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store)
    other = RoomId("r_other")
    store.transact([[append(opened(other), message(2, room=other), room=other)]])
    places = [(0, None), (0, 41), (5, 12), (12, 12), (40, 99)]
    whole = [store.held(ROOM, Position(low), None if high is None else Position(high)) for low, high in places]
    after = {ROOM: Position(7), other: Position(0)}
    grown = store.grown(after)
    monkeypatch.setattr(module, "_SPAN", span)
    with counted(store, monkeypatch) as ways:
        assert store.held(ROOM) == whole[0]
        assert len(ways) == -(-41 // span)
    assert [store.held(ROOM, Position(low), None if high is None else Position(high)) for low, high in places] == whole
    assert store.grown(after) == grown == {ROOM: (store.held(ROOM, Position(7)), 41), other: (store.held(other), 2)}
