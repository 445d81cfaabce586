"""Transactions of the store over PostgreSQL: locks, lost answers, other writers, and what a commit waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import MessageId, Millis, Position, RoomId
from parlerd.core.shards import shard_of
from parlerd.store.port import (
    BuryRoom,
    Cursor,
    JobOutcome,
    Lease,
    MarkDelivery,
    MoveCursor,
    PutLease,
    PutSnapshot,
    Write,
    has_happened,
)
from parlerd.store.postgres import PostgresStore
from tests.store.postgres.between import Cut, between
from tests.support.facts import ANN, BEN, OTHER, ROOM, append, everything, joined, message, opened
from tests.support.postgres import Database


def do(store: PostgresStore, *writes: Write) -> JobOutcome:
    """One job that must succeed."""
    (outcome,) = store.transact([writes])
    assert outcome.error is None
    return outcome


def codes(outcomes: list[JobOutcome]) -> list[str | None]:
    return [outcome.error.code if isinstance(outcome.error, ParlerError) else None for outcome in outcomes]


def by_hand(prepared: Database, *statements: str) -> None:
    with psycopg.connect(prepared.superuser, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def answer(prepared: Database, query: str) -> object:
    with psycopg.connect(prepared.superuser, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


class Working(threading.Thread):
    """Something that is done in a thread of its own; `result` waits for it."""

    def __init__(self, work: Callable[[], list[JobOutcome]]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._done: list[JobOutcome] = []
        self.start()

    def run(self) -> None:
        self._done = self._work()

    def result(self) -> list[JobOutcome]:
        self.join(30)
        assert not self.is_alive()
        return self._done


@contextmanager
def locked(prepared: Database, room: RoomId) -> Iterator[None]:
    """While somebody else has the lock of a room's head."""
    with psycopg.connect(prepared.superuser) as connection:
        connection.execute("SELECT FROM heads WHERE room = %s FOR UPDATE", (room,))
        yield
        connection.rollback()


def wait_for_waiting(prepared: Database, count: int) -> None:
    """Until so many stores wait for a lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'parler' AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    with psycopg.connect(prepared.superuser, autocommit=True) as connection:
        found = -1
        while found != count:
            (found,) = connection.execute(query.encode()).fetchone() or (-1,)


# -- an answer that was lost -------------------------------------------------------------------------------


@pytest.mark.parametrize(("cut", "happened"), [("before", False), ("after", True)])
def test_a_commit_whose_answer_was_lost_is_unknown_and_the_chain_tells_whether_it_happened(
    prepared: Database, cut: Cut, happened: bool
) -> None:
    with between(prepared) as way, closing(PostgresStore(way.url)) as store:
        do(store, append(opened()))
        way.cut_next_commit(cut)
        outcomes = store.transact([[append(message(2))], [append(message(9))], [append(opened(OTHER), room=OTHER)]])
        assert codes(outcomes) == ["store_unknown", "stale_position", "store_unknown"]
        assert way.was_cut
        assert [has_happened(store, outcomes[at]) for at in (0, 2)] == [happened, happened]
        assert (store.head(ROOM).position, store.head(OTHER).position) == ((2, 1) if happened else (1, 0))
        # Nothing is remembered that may not be so.
        do(store, append(message(3 if happened else 2)))
        assert store.seq_at(ROOM, everything(BEN), Position(3)) == (2 if happened else 1)
        assert (store.verify_chain(ROOM), store.check()) == (None, [])


def test_a_commit_that_is_still_under_way_is_settled_before_anybody_reads(prepared: Database) -> None:
    with between(prepared) as way, closing(PostgresStore(way.url)) as store:
        do(store, append(opened()))
        way.cut_next_commit("held")
        (lost,) = store.transact([[append(message(2))]])
        assert codes([lost]) == ["store_unknown"]
        assert not has_happened(store, lost)
        # What was read stays true: the commit comes to the server only now, and nobody is there to take it.
        way.release.set()
        assert way.passed.wait(30)
        do(store, append(message(2, BEN)))
        assert not has_happened(store, lost)
        assert store.verify_chain(ROOM) is None


def test_a_connection_that_breaks_before_the_commit_loses_nothing(prepared: Database, store: PostgresStore) -> None:
    do(store, append(opened()))
    store.head(ROOM)
    by_hand(prepared, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parler'")
    assert store.head(ROOM).position == 1
    do(store, append(message(2)))
    assert store.head(ROOM).position == 2


def test_a_commit_that_the_server_warns_about_is_unknown(prepared: Database, store: PostgresStore) -> None:
    # As when an operator ends the wait for a standby: a warning, and then what looks like a success.
    by_hand(
        prepared,
        "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'no standby'; RETURN NULL;"
        " END $$",
        "CREATE CONSTRAINT TRIGGER warns AFTER INSERT ON heads DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
        " EXECUTE FUNCTION warn()",
    )
    (outcome,) = store.transact([[append(opened())]])
    assert codes([outcome]) == ["store_unknown"]
    assert has_happened(store, outcome)


# -- other writers -----------------------------------------------------------------------------------------


def test_the_rooms_of_a_batch_are_locked_in_the_order_of_their_ids(prepared: Database, store: PostgresStore) -> None:
    first, last = sorted((ROOM, OTHER))
    for room in (last, first):
        do(store, append(opened(room), room=room))
    with locked(prepared, last), psycopg.connect(prepared.superuser) as another:
        jobs = [[append(message(2, room=room), room=room)] for room in (last, first)]
        working = Working(lambda: store.transact(jobs))
        wait_for_waiting(prepared, 1)
        # It waits for the last room, and has the first already, in whichever order its jobs name them.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            another.execute("SELECT FROM heads WHERE room = %s FOR UPDATE NOWAIT", (first,))
    assert codes(working.result()) == [None, None]


def test_two_writers_with_rooms_in_opposite_orders_both_go_on(
    prepared: Database, store: PostgresStore, other: PostgresStore
) -> None:
    rooms = [RoomId(f"r_{number}") for number in range(8)]
    do(store, *(append(opened(room), room=room) for room in rooms))
    together = threading.Barrier(2)

    def write(writer: PostgresStore, order: list[RoomId]) -> list[JobOutcome]:
        together.wait(30)
        found = []
        for _ in range(30):
            found += writer.transact(
                [
                    [
                        append(
                            message(int(writer.head(room).position) + 1, room=room, id=f"{id(writer)}{room}{_}"),
                            room=room,
                        )
                    ]
                    for room in order
                ]
            )
        return found

    outcomes = [Working(lambda: write(store, rooms)), Working(lambda: write(other, rooms[::-1]))]
    found = [outcome for each in outcomes for outcome in each.result()]
    assert len(found) == 2 * 30 * len(rooms)
    assert set(codes(found)) <= {None, "stale_position"}
    happened = codes(found).count(None)
    assert sum(store.head(room).position for room in rooms) == happened + len(rooms)
    assert all(store.verify_chain(room) is None for room in rooms)
    store.close()
    other.close()
    assert answer(prepared, "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


def test_of_two_transactions_of_one_room_the_second_is_stale_and_there_is_no_hole(
    prepared: Database, store: PostgresStore, other: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The second waits for the lock and sees what the first did, so the database has nothing to refuse.
    for writer in (store._writer, other._writer):
        monkeypatch.setattr(writer, "_one_by_one", pytest.fail)
    do(store, append(opened()))
    assert codes(other.transact([[append(message(9))]])) == ["stale_position"]
    with locked(prepared, ROOM):
        workers = [
            Working(lambda: store.transact([[append(message(2, id="m_one"), message(3, id="m_two"))]])),
            Working(lambda: other.transact([[append(message(2, id="m_three"))]])),
        ]
        wait_for_waiting(prepared, 2)
    outcomes = [worker.result()[0] for worker in workers]
    assert sorted(codes(outcomes), key=str) == [None, "stale_position"]
    won = next(outcome for outcome in outcomes if outcome.error is None)
    assert store.head(ROOM) == won.heads[ROOM]
    assert [header.position for header in store.facts(ROOM, Position(0), 9)] == list(
        range(1, won.heads[ROOM].position + 1)
    )
    assert (store.verify_chain(ROOM), store.check()) == (None, [])


def test_two_that_open_a_room_at_once_leave_one_of_them_stale(
    prepared: Database, store: PostgresStore, other: PostgresStore
) -> None:
    with between(prepared) as way, closing(PostgresStore(way.url)) as slow:
        way.cut_next_commit("held")
        together = Working(lambda: slow.transact([[append(opened())]]))
        assert codes(together.result()) == ["store_unknown"]
        # The other's row is there and not committed, so this waits for it, and then finds that it is gone.
        waiting = Working(lambda: store.transact([[append(opened(at=7))]]))
        wait_for_waiting(prepared, 1)
        way.release.set()
        assert codes(waiting.result()) == ["stale_position"]
        assert codes(other.transact([[append(opened(at=9))]])) == ["stale_position"]
        assert other.head(ROOM).position == 1


def test_what_is_remembered_of_a_room_is_forgotten_where_another_wrote(
    store: PostgresStore, other: PostgresStore
) -> None:
    private = (ANN, BEN)
    do(store, append(opened(), message(2), message(3, visible_to=private), own_lines=True))
    do(other, append(message(4), message(5, BEN), message(6, visible_to=private), own_lines=True))
    assert codes(store.transact([[append(message(4))]])) == ["stale_position"]
    do(store, append(message(7), message(8, visible_to=private), own_lines=True))
    assert [
        found.seq
        for found in store.page(ROOM, everything(BEN), Position(0), limit=9, max_bytes=99_999, skip_own=False).messages
    ] == [1, 2, 3, 4, 5, 6, 7]
    assert (store.verify_chain(ROOM), store.first_unlined(ROOM), store.check()) == (None, None, [])


def test_a_room_that_another_deleted_takes_nothing_more(store: PostgresStore, other: PostgresStore) -> None:
    do(store, append(opened(), joined(2, ANN)))
    do(other, BuryRoom(ROOM, Millis(7)))
    outcomes = store.transact([[append(message(3))], [MoveCursor(ROOM, BEN, Position(1))]])
    assert codes(outcomes) == ["room_deleted", None]
    assert (store.head(ROOM).position, store.cursor(ROOM, BEN)) == (0, Cursor())


def test_a_cursor_never_goes_back_whichever_relay_moves_it(store: PostgresStore, other: PostgresStore) -> None:
    do(store, MoveCursor(ROOM, BEN, Position(5)))
    do(other, MoveCursor(ROOM, BEN, Position(3)), MarkDelivery(ROOM, BEN, "read", Position(4), Millis(1)))
    assert store.cursor(ROOM, BEN) == other.cursor(ROOM, BEN) == Cursor(Position(5), Position(5))
    do(other, MoveCursor(ROOM, BEN, Position(9)), MoveCursor(ROOM, BEN, Position(6)))
    assert store.cursor(ROOM, BEN) == Cursor(Position(9), Position(9))
    do(other, MarkDelivery(ROOM, BEN, "read", Position(20), Millis(2)))
    do(store, MoveCursor(ROOM, BEN, Position(12)))
    assert store.cursor(ROOM, BEN) == Cursor(Position(20), Position(12))


def test_a_row_that_is_not_visible_yet_is_not_passed(prepared: Database, store: PostgresStore) -> None:
    do(store, append(opened(), message(2)))
    with between(prepared) as way, ExitStack() as stack:
        slow = stack.enter_context(closing(PostgresStore(way.url)))
        way.cut_next_commit("held")
        # The rows are written, and their commit is on its way.
        assert codes(slow.transact([[append(message(3), message(4))]])) == ["store_unknown"]
        do(store, append(opened(OTHER), room=OTHER))
        page = store.page(ROOM, everything(BEN), Position(2), limit=9, max_bytes=99_999, skip_own=True)
        assert (page.messages, page.end) == ([], 2)
        way.release.set()
        assert way.passed.wait(30)
        while store.head(ROOM).position < 4:
            pass
        later = store.page(ROOM, everything(BEN), page.end, limit=9, max_bytes=99_999, skip_own=True)
        assert [found.header.position for found in later.messages] == [3, 4]


# -- what a transaction does again -------------------------------------------------------------------------


def failing(prepared: Database, state: str, *, times: int) -> None:
    """Let so many transactions that add facts fail with this error."""
    by_hand(
        prepared,
        "CREATE SEQUENCE tries",
        "GRANT USAGE ON SEQUENCE tries TO PUBLIC",
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF nextval('tries') <= {times} THEN"
        f" RAISE EXCEPTION USING ERRCODE = '{state}'; END IF; RETURN NULL; END $$",
        "CREATE TRIGGER fails AFTER INSERT ON facts FOR EACH STATEMENT EXECUTE FUNCTION fail()",
    )


@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_transaction_that_met_another_is_done_again(prepared: Database, store: PostgresStore, state: str) -> None:
    failing(prepared, state, times=2)
    do(store, append(opened(), message(2)))
    assert store.seq_at(ROOM, everything(BEN), Position(2)) == 1
    assert answer(prepared, "SELECT last_value FROM tries") == 3


def test_a_transaction_that_meets_others_again_and_again_is_given_up(prepared: Database, store: PostgresStore) -> None:
    failing(prepared, "40001", times=99)
    with pytest.raises(StoreError) as caught:
        store.transact([[append(opened())]])
    assert caught.value.code == "store_locked"
    assert answer(prepared, "SELECT last_value FROM tries") == 5
    assert store.head(ROOM).position == 0


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(prepared: Database, store: PostgresStore) -> None:
    do(store, append(opened()))
    store._server.writer.execute("SET lock_timeout = 50")
    with locked(prepared, ROOM), pytest.raises(StoreError) as caught:
        store.transact([[append(message(2))]])
    assert caught.value.code == "store_locked"
    do(store, append(message(2)))


def test_a_job_that_the_database_cannot_hold_fails_alone(store: PostgresStore) -> None:
    outcomes = store.transact(
        [
            [append(opened(), message(2), own_lines=True)],
            [append(message(3, key="a\0b"), own_lines=True)],
            [append(message(3, BEN), message(4), own_lines=True)],
            [PutLease(Lease("w", ANN, "host", "/repo", 0, Millis(1)))],
        ]
    )
    assert codes(outcomes) == [None, "internal", None, None]
    assert store.head(ROOM).position == 4
    assert [lease.window for lease in store.leases()] == ["w"]
    assert (store.verify_chain(ROOM), store.first_unlined(ROOM), store.check()) == (None, None, [])


def test_a_message_whose_id_is_taken_fails_alone(store: PostgresStore, other: PostgresStore) -> None:
    do(other, append(opened(OTHER), message(2, room=OTHER, id="m_x"), room=OTHER))
    outcomes = store.transact([[append(opened())], [append(message(2, id="m_x"))], [append(message(2, id="m_y"))]])
    assert codes(outcomes) == [None, "internal", None]
    assert store.find_message(MessageId("m_x")) == (OTHER, 2)
    assert store.find_message(MessageId("m_y")) == (ROOM, 2)


# -- what a commit waits for -------------------------------------------------------------------------------


def test_only_what_is_repeated_or_made_again_may_be_lost_with_the_servers_last_moments(
    prepared: Database, store: PostgresStore
) -> None:
    by_hand(
        prepared,
        "CREATE TABLE waited (what text, setting text)",
        "GRANT INSERT ON waited TO PUBLIC",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO waited VALUES (TG_TABLE_NAME, current_setting('synchronous_commit')); RETURN NULL; END $$",
        *(
            f"CREATE TRIGGER notes AFTER INSERT OR UPDATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION note()"
            for table in ("heads", "cursors", "snapshots", "leases")
        ),
    )
    cursor, snapshot = MoveCursor(ROOM, BEN, Position(1)), PutSnapshot(ROOM, 1, Position(1), b"data")
    store.transact([[cursor], [snapshot]])
    store.transact([[append(opened())], [MoveCursor(ROOM, BEN, Position(2))]])
    store.transact([[PutLease(Lease("w", ANN, "host", "/repo", 0, Millis(1)))]])
    with psycopg.connect(prepared.superuser) as connection:
        found = set(connection.execute("SELECT what, setting FROM waited").fetchall())
    assert found == {("cursors", "off"), ("snapshots", "off"), ("heads", "on"), ("cursors", "on"), ("leases", "on")}


def test_a_room_stands_in_one_of_1024_shards_by_its_id_alone() -> None:
    shards = [shard_of(RoomId(f"r_{number}")) for number in range(20_000)]
    assert set(shards) == set(range(1024))
    assert shard_of(ROOM) == shard_of(RoomId(str(ROOM)))
