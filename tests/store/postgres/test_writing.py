"""Transactions of the store over PostgreSQL: locks, lost answers, other writers, and what a commit waits for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager

import psycopg
import pytest

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId
from parlerd.core.recall import asked, parse
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
from tests.support.facts import ANN, BEN, CAT, OTHER, ROOM, append, everything, joined, message, opened, remembering
from tests.support.postgres import Database, Postgres, serving, with_tables


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
        self.join(60)
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
        assert way.passed.wait(60)
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
        together.wait(60)
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


def test_a_room_that_is_being_opened_is_not_shut(prepared: Database, store: PostgresStore) -> None:
    with between(prepared) as way, closing(PostgresStore(way.url)) as slow:
        way.cut_next_commit("held")
        together = Working(lambda: slow.transact([[append(opened())]]))
        assert codes(together.result()) == ["store_unknown"]
        waiting = Working(lambda: store.transact([[BuryRoom(ROOM, Millis(7), unopened=True)]]))
        wait_for_waiting(prepared, 1)
        way.release.set()
        assert codes(waiting.result()) == ["stale_position"]
        assert (store.head(ROOM).position, store.is_deleted(ROOM)) == (1, False)


def test_a_room_that_is_being_shut_is_not_opened(prepared: Database, store: PostgresStore) -> None:
    with between(prepared) as way, closing(PostgresStore(way.url)) as slow:
        way.cut_next_commit("held")
        together = Working(lambda: slow.transact([[BuryRoom(ROOM, Millis(7), unopened=True)]]))
        assert codes(together.result()) == ["store_unknown"]
        waiting = Working(lambda: store.transact([[append(opened())]]))
        wait_for_waiting(prepared, 1)
        way.release.set()
        # The database refuses it, because the tombstone came after this had looked for one.
        assert waiting.result()[0].error is not None
        assert codes(store.transact([[append(opened())]])) == ["room_deleted"]
        assert (store.head(ROOM).position, store.is_deleted(ROOM), store.check()) == (0, True, [])


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
        assert way.passed.wait(60)
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


_LONG = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(60))
"""More than an index takes, and nothing that could be packed."""


@pytest.mark.parametrize(
    "write",
    [
        append(message(2, key=_LONG)),
        append(message(2, role=_LONG)),
        append(message(2, id=_LONG)),
        append(message(2, AgentId(_LONG))),
        append(message(2, key="a\ud800")),
        append(message(2, at=2**64 - 1)),
        MoveCursor(ROOM, AgentId(_LONG), Position(1)),
        MoveCursor(ROOM, AgentId("a\ud800"), Position(1)),
        MoveCursor(ROOM, ANN, Position(2**63)),
        PutLease(Lease("w", ANN, "host", "/repo", 2**63, Millis(1))),
        PutLease(Lease("w", ANN, "h\ud800", "/repo", 0, Millis(1))),
        PutLease(Lease("w", ANN, "h\0", "/repo", 0, Millis(1))),
        PutLease(Lease(_LONG, ANN, "host", "/repo", 0, Millis(1))),
    ],
)
def test_what_no_row_can_hold_fails_alone(write: Write, store: PostgresStore) -> None:
    do(store, append(opened(), own_lines=True))
    outcomes = store.transact(
        [[append(opened(OTHER), room=OTHER, own_lines=True)], [write], [append(message(2, BEN), own_lines=True)]]
    )
    assert codes(outcomes) == [None, "internal", None]
    assert [store.head(room).position for room in (ROOM, OTHER)] == [2, 1]
    do(store, append(message(3), own_lines=True))
    assert (store.verify_chain(ROOM), store.first_unlined(ROOM), store.check()) == (None, None, [])


def test_a_word_that_is_longer_than_an_index_takes_is_remembered_and_found(store: PostgresStore) -> None:
    # A query is cut at 1,024 letters.
    word = _LONG[:900]
    text = f"the digests {_LONG} {_LONG[::-1]} {word} of a build"
    do(store, append(opened(), remembering(2, text), remembering(3, "the digests")))

    def found(query: str) -> list[int]:
        terms = asked(parse(query).words)
        return [each.header.position for each in store.remembered(ROOM, terms, Position(0), Position(9), 9)]

    assert found(word) == found(f"{word} build") == found(f"{word[:4]}*") == [2]
    assert found("digests") == [3, 2]
    assert found(f"{word}x") == []


@pytest.mark.parametrize("before", [0, 1])
def test_rows_that_are_refused_leave_nothing_that_others_stumble_over(before: int, store: PostgresStore) -> None:
    """A driver prepares what it is asked often, also in a pipeline of which the server passes over the rest."""
    do(store, append(opened(OTHER), message(2, room=OTHER, id="m_x"), room=OTHER))
    do(store, append(opened(), own_lines=True))
    for position in range(2, 22):
        jobs: list[list[Write]] = [[append(message(position, BEN, visible_to=(CAT,)), own_lines=True)]]
        expected: list[str | None] = [None]
        if position % 2 == before:
            jobs.append([append(message(position + 1, id="m_x"), own_lines=True)])
            expected.append("internal")
        assert codes(store.transact(jobs)) == expected
    store.rebuild_index()
    assert (store.head(ROOM).position, store.first_unlined(ROOM), store.check()) == (21, None, [])


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
    # A number that is given anew is waited for, whatever needs it.
    do(store, MoveCursor(OTHER, BEN, Position(1)))
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


def test_the_number_of_an_agent_is_never_lost_with_the_servers_last_moments(postgres: Postgres) -> None:
    """A server that lost it would give it to another agent, while this store still writes it for the first."""
    # A server that writes nothing down by itself, until a commit asks for it.
    settings = {"wal_writer_delay": "10s", "wal_writer_flush_after": "0"}
    with serving(postgres.server.version, on_disk=True, settings=settings) as own, own.database(with_tables) as made:
        with closing(PostgresStore(made.relay)) as store:
            do(store, append(opened()))
            do(store, MoveCursor(ROOM, BEN, Position(1)))
            own.server.kill()
            own.server.start()
            do(store, append(message(2, CAT, visible_to=(CAT,))))
            assert store.cursor(ROOM, BEN).acknowledged == 1
            assert store.seq_at(ROOM, everything(BEN), Position(2)) == 0
        assert answer(made, "SELECT count(DISTINCT id) FROM agents") == 2


def test_no_number_of_an_agent_outlives_the_connection(prepared: Database, store: PostgresStore) -> None:
    """Behind the next connection may stand a server that was brought back to a state before it was given."""
    do(store, append(opened(), message(2, BEN)))
    by_hand(
        prepared,
        "ALTER TABLE agents DISABLE TRIGGER USER",
        "UPDATE agents SET id = 'UCAT' WHERE id = 'UBEN'",
        "ALTER TABLE agents ENABLE TRIGGER USER",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'parler'",
    )
    do(store, append(message(3, BEN)))
    assert answer(prepared, "SELECT count(DISTINCT author) FROM public_messages") == 2


def test_a_room_stands_in_one_of_1024_shards_by_its_id_alone() -> None:
    shards = [shard_of(RoomId(f"r_{number}")) for number in range(20_000)]
    assert set(shards) == set(range(1024))
    assert shard_of(ROOM) == shard_of(RoomId(str(ROOM)))
