"""What a PostgreSQL database refuses, each tried with raw SQL as a relay and as the owner; and without its trigger."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from parlerd.store.indexing import PROJECTIONS
from tests.support.invariants import REFUSED, TAKEN, Tables, line_by, new_token, steps
from tests.support.postgres import Database
from tests.support.postgres_tables import IN_POSTGRES, PLANTED, REASONS, TABLES
from tests.support.processes import until

Connection = psycopg.Connection[tuple[object, ...]]
ATTEMPTS = {name: attempt(TABLES) for name, attempt in REFUSED.items()} | dict(IN_POSTGRES)
_SALT = bytes(16)
_ONCE_MORE = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED"


def _prepare(connection: Connection, attempt: str) -> str:
    """Do all of an attempt but its last statement, which this gives."""
    *before, last = steps(attempt)
    for statement in before:
        connection.execute(statement.encode())
    connection.execute(_ONCE_MORE)
    return last


def _take(connection: Connection, statement: str) -> None:
    """Do a statement, and look at what waits for the commit."""
    connection.execute(statement.encode())
    connection.execute(_ONCE_MORE)


def _rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_database_refuses_its_owner(name: str, owner: Connection) -> None:
    """By its triggers and constraints: the owner has every right."""
    last = _prepare(owner, ATTEMPTS[name])
    with pytest.raises(psycopg.IntegrityError, match=REASONS.get(name)):
        _take(owner, last)


@pytest.mark.parametrize("name", ATTEMPTS)
def test_the_database_refuses_a_relay(name: str, relay: Connection) -> None:
    """For want of a right, or by the same rules."""
    last = _prepare(relay, ATTEMPTS[name])
    with pytest.raises((psycopg.IntegrityError, psycopg.errors.InsufficientPrivilege)):
        _take(relay, last)


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN.keys())
def test_what_these_attempts_vary_would_itself_be_taken(taken: Callable[[Tables], str], owner: Connection) -> None:
    _take(owner, _prepare(owner, taken(TABLES)))


@pytest.mark.parametrize(("table", "trigger"), PLANTED, ids=[f"{table}-{trigger}" for table, trigger in PLANTED])
def test_without_its_trigger_what_it_refuses_is_taken(table: str, trigger: str, owner: Connection) -> None:
    """So each attempt is one that its trigger alone refuses."""
    owner.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), sql.Identifier(table)))
    _take(owner, _prepare(owner, ATTEMPTS[PLANTED[table, trigger]]))


def test_every_trigger_has_an_attempt(owner: Connection) -> None:
    there = _rows(owner, "SELECT tgrelid::regclass::text, tgname::text FROM pg_trigger WHERE NOT tgisinternal")
    assert sorted(there) == sorted(PLANTED)


def test_the_version_of_the_tables_is_not_a_relays_to_raise(relay: Connection, owner: Connection) -> None:
    higher = "UPDATE meta SET value = '999' WHERE key = 'schema'"
    with pytest.raises(psycopg.IntegrityError, match="their owner's to say"):
        _take(relay, higher)
    _take(owner, higher)


def test_no_table_has_a_foreign_key(owner: Connection) -> None:
    """It would cost as much again as the triggers."""
    assert _rows(owner, "SELECT conname FROM pg_constraint WHERE contype = 'f'") == []


# -- many at once ----------------------------------------------------------------------------------------------


def _append(connection: Connection, room: str, first: int, count: int, *, moved: int | None = None) -> list[bytes]:
    """Facts of one room in one statement, after its head, as a relay adds them; gives their digests."""
    row = connection.execute("SELECT chain FROM heads WHERE room = %s", (room,)).fetchone()
    chain = bytes(32) if row is None else row[0]
    assert isinstance(chain, bytes)
    facts: list[tuple[object, ...]] = []
    digests = []
    for position in range(first, first + count):
        digests.append(hashlib.sha256(_SALT + b"%d" % position).digest())
        chain = hashlib.sha256(chain + digests[-1]).digest()
        facts.append((room, position, "message_posted", 1, 9000, b"%d" % position, _SALT, digests[-1], chain))
    connection.execute(
        "INSERT INTO heads VALUES (%s, 1, %s, 9000, %s) ON CONFLICT (room) DO UPDATE"
        " SET position = excluded.position, at = excluded.at, chain = excluded.chain",
        (room, moved or first + count - 1, chain),
    )
    values = sql.SQL(", ").join([sql.SQL("(%s, %s, %s, %s, %s, %s, %s, %s, %s)")] * count)
    connection.execute(
        sql.SQL("INSERT INTO facts VALUES {}").format(values), [value for fact in facts for value in fact]
    )
    return digests


def test_facts_of_several_rooms_are_taken_together(relay: Connection) -> None:
    _append(relay, "r_one", 4, 3)
    _append(relay, "r_two", 1, 2)
    relay.execute(_ONCE_MORE)
    assert _rows(relay, "SELECT room, max(position), count(*) FROM facts GROUP BY room ORDER BY room") == [
        ("r_one", 6, 6),
        ("r_two", 2, 2),
    ]


def test_of_several_facts_none_is_left_out(relay: Connection) -> None:
    with pytest.raises(psycopg.IntegrityError, match="moves with its facts"):
        _append(relay, "r_one", 4, 3, moved=7)


# -- tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", ["", "tk_one", "tk_child"])
def test_a_token_that_was_made_of_one_that_holds_is_for_as_much(parent: str, relay: Connection) -> None:
    for statement in (
        new_token(TABLES, parent),
        "INSERT INTO token_access VALUES ('tk_new', 'read')",
        "INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 0)",
        line_by(TABLES, "tk_new"),
    ):
        relay.execute(statement.encode())
    assert _rows(relay, "SELECT count(*) FROM own_lines WHERE token = 'tk_new'") == [(1,)]


def test_others_come_in_with_a_token_that_joins_alone(relay: Connection) -> None:
    _take(relay, f"INSERT INTO tokens VALUES ('tk_joins', {TABLES.agent('U')}, 1, 1000, '')")
    _take(relay, new_token(TABLES, "tk_joins", agent="V"))


def test_a_room_that_was_opened_with_a_token_is_one_of_those_that_it_was_made_of(relay: Connection) -> None:
    """And of none that is made of those otherwise."""
    _take(relay, new_token(TABLES, "tk_two"))
    _take(relay, "INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 1)")
    _take(relay, f"INSERT INTO tokens VALUES ('tk_sister', {TABLES.agent('U')}, 0, 1000, 'tk_two')")
    with pytest.raises(psycopg.IntegrityError, match="other rooms"), relay.transaction():
        _take(relay, line_by(TABLES, "tk_sister"))
    _take(relay, "INSERT INTO token_rooms VALUES ('tk_sister', 'r_one', 0)")
    _take(relay, line_by(TABLES, "tk_two"))


# -- what takes away -------------------------------------------------------------------------------------------


def test_words_go_with_their_mark(relay: Connection) -> None:
    """Those of a message alone, and what is gone already gets no mark."""
    _take(relay, "SELECT erase_bodies('{r_one,r_one,r_one,r_two}', '{1,2,2,2}')")
    _take(relay, "SELECT erase_bodies('{r_one}', '{2}')")
    assert _rows(relay, "SELECT position FROM bodies ORDER BY 1") == [(1,), (3,)]
    assert _rows(relay, "SELECT position FROM erased_bodies ORDER BY 1") == [(2,), (3,)]


def test_marks_go_with_the_words_that_they_speak_of(relay: Connection) -> None:
    marks = "SELECT after, upto FROM deliveries WHERE room = 'r_one' AND at = 77 ORDER BY 1, 2"
    _take(
        relay,
        "INSERT INTO deliveries SELECT 'r_one', reader, 'acted', upto, after, 77"
        " FROM cursors, (VALUES (1, 2), (0, 2), (1, 3)) AS m (after, upto) WHERE room = 'r_one' LIMIT 3",
    )
    _take(relay, "SELECT forget_marks('r_one', 1, 9, 99)")
    assert _rows(relay, marks) == [(0, 2), (1, 2), (1, 3)]
    _take(relay, "SELECT erase_bodies('{r_one}', '{2}')")
    _take(relay, "SELECT forget_marks('r_two', 1, 9, 99)")
    _take(relay, "SELECT forget_marks('r_one', 2, 9, 99)")
    left = _rows(relay, marks)
    assert (1, 2) not in left
    assert (0, 2) in left


def test_nothing_is_cleared_of_a_room_that_exists(relay: Connection) -> None:
    for clearing in ("SELECT clear_facts('r_one', 3)", "SELECT clear_marks('r_one', 9)"):
        with (
            pytest.raises(psycopg.IntegrityError, match=r"while its room (exists|has the words)|was erased"),
            relay.transaction(),
        ):
            relay.execute(clearing)


def test_a_deleted_room_is_cleared_from_its_newest_fact_on(relay: Connection) -> None:
    _take(relay, "SELECT bury_room('r_one', 7)")
    _take(relay, "SELECT bury_room('r_one', 8)")
    assert _rows(relay, "SELECT * FROM tombstones") == [("r_one", 7)]
    assert _rows(relay, "SELECT * FROM heads") == []
    _take(relay, "SELECT clear_facts('r_one', 2)")
    for table in ("facts", "bodies"):
        assert _rows(relay, f"SELECT position FROM {table}") == [(1,)]
    for table in ("own_lines", "erased_bodies"):
        assert _rows(relay, f"SELECT position FROM {table}") == []
    assert _rows(relay, "SELECT clear_marks('r_one', 9)") == [(2,)]
    assert _rows(relay, "SELECT clear_marks('r_one', 9)") == [(0,)]
    _take(relay, "SELECT clear_facts('r_one', 1)")
    assert _rows(relay, "SELECT count(*) FROM facts") == [(0,)]


def test_a_room_may_be_added_to_deleted_and_cleared_in_one_transaction(relay: Connection) -> None:
    _append(relay, "r_one", 4, 1)
    relay.execute("SELECT bury_room('r_one', 7)")
    relay.execute("SELECT clear_facts('r_one', 1)")
    relay.execute(_ONCE_MORE)


def test_a_deleted_room_does_not_begin_anew(relay: Connection) -> None:
    _take(relay, "SELECT bury_room('r_one', 7)")
    _take(relay, "SELECT clear_facts('r_one', 1)")
    with pytest.raises(psycopg.IntegrityError, match="was deleted"):
        _take(relay, TABLES.fact(position=1))


def _forget_index(relay: Connection) -> None:
    relay.execute("SELECT forget_index()")
    for table in ("messages", "idempotency", "room_keys", "tokens", "revoked_tokens"):
        assert _rows(relay, f"SELECT count(*) FROM {table}") == [(0,)]
    assert _rows(relay, "SELECT count(*) FROM facts") == [(3,)]


_ROOM = "INSERT INTO rooms VALUES ('r_one', 1000, '', '')"
_REVOKED = "INSERT INTO revoked_tokens VALUES ('tk_revoked')"


def test_an_index_is_forgotten_for_whoever_makes_it_anew(relay: Connection) -> None:
    _forget_index(relay)
    for statement in (_ROOM, _REVOKED):
        relay.execute(statement.encode())
    relay.execute(_ONCE_MORE)


@pytest.mark.parametrize(
    ("made", "lacking"), [("SELECT 1", "listed as long"), (_REVOKED, "listed as long"), (_ROOM, "revoked stays so")]
)
def test_an_index_that_is_forgotten_and_not_made_anew_comes_back(relay: Connection, made: str, lacking: str) -> None:
    _forget_index(relay)
    relay.execute(made.encode())
    with pytest.raises(psycopg.IntegrityError, match=lacking):
        relay.execute(_ONCE_MORE)


def test_what_is_forgotten_is_every_index_and_nothing_else(owner: Connection) -> None:
    ((body,),) = _rows(owner, "SELECT prosrc FROM pg_proc WHERE proname = 'forget_index'")
    emptied = re.findall(r"DELETE FROM (\w+)", str(body))
    assert sorted(emptied) == sorted(["remembered", *(projection.table for projection in PROJECTIONS)])


# -- two at a time ---------------------------------------------------------------------------------------------


@pytest.fixture
def first(stored: Database) -> Iterator[Connection]:
    """The connection of a relay that is first, and may commit."""
    with closing(psycopg.connect(stored.relay)) as connection:
        yield connection


def _while_waiting(
    stored: Database, holder: Connection, wanted: Callable[[Connection], object]
) -> BaseException | None:
    """Do something that has to wait for what `holder` holds, which commits then; how that something ended."""
    ended: list[BaseException | None] = []
    with closing(psycopg.connect(stored.relay)) as second:
        pid = second.info.backend_pid

        def work() -> None:
            try:
                with second.transaction():
                    wanted(second)
                ended.append(None)
            except psycopg.Error as error:
                ended.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        with closing(psycopg.connect(stored.relay, autocommit=True)) as watcher:
            until(lambda: _rows(watcher, f"SELECT pg_blocking_pids({pid})") != [([],)], "second that waits")
        holder.commit()
        thread.join()
    return ended[0]


def test_a_room_is_deleted_after_what_is_being_added_to_it(stored: Database, first: Connection) -> None:
    _append(first, "r_one", 4, 1)
    assert _while_waiting(stored, first, lambda second: second.execute("SELECT bury_room('r_one', 7)")) is None
    assert _rows(first, "SELECT count(*) FROM facts") == [(4,)]
    assert _rows(first, "SELECT count(*) FROM heads") == [(0,)]


def test_nothing_is_added_to_a_room_that_is_being_deleted(stored: Database, first: Connection) -> None:
    _take(first, "SELECT bury_room('r_one', 7)")
    ended = _while_waiting(stored, first, lambda second: _append(second, "r_one", 4, 1))
    assert isinstance(ended, psycopg.IntegrityError)
    assert "was deleted" in str(ended)


def test_of_two_that_add_at_the_same_place_one_is_refused(stored: Database, first: Connection) -> None:
    """Also where the second believes that the log still ends where it did."""
    _append(first, "r_one", 4, 1)
    ended = _while_waiting(stored, first, lambda second: _append(second, "r_one", 4, 1))
    assert isinstance(ended, psycopg.IntegrityError)
    assert _rows(first, "SELECT count(*) FROM facts") == [(4,)]


# -- nobody leads it astray ------------------------------------------------------------------------------------


def test_a_table_of_the_callers_own_is_not_the_one_that_is_looked_at(relay: Connection) -> None:
    """Names are looked for in a caller's temporary tables first, unless somebody says otherwise."""
    relay.execute("CREATE TEMPORARY TABLE heads AS SELECT 'r_one' AS room, 4::bigint AS position, 9000::bigint AS at")
    relay.execute("CREATE TEMPORARY TABLE tombstones AS SELECT 'r_one' AS room")
    for attempt in ("a fact moves the head of its room", "a position is never skipped"):
        with pytest.raises(psycopg.Error), relay.transaction():
            _take(relay, ATTEMPTS[attempt].replace("INTO heads", "INTO public.heads"))
    with pytest.raises(psycopg.IntegrityError, match=r"while its room (exists|has the words)|was erased"):
        relay.execute("SELECT clear_facts('r_one', 3)")


def test_every_function_says_where_names_are_looked_for(owner: Connection) -> None:
    """But those that look for none."""
    free = _rows(
        owner,
        "SELECT proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " AND NOT coalesce(proconfig, '{}') @> '{search_path=public\\, pg_temp}' ORDER BY 1",
    )
    assert free == [("refuse",), ("refuse_for",)]


def test_a_check_reads_no_table_from_end_to_end(stored: Database) -> None:
    """Whatever a plan was made for: a connection keeps its first one, maybe of a table that was small."""
    looked_at = "facts fact_types tombstones erased_bodies own_lines"
    with closing(psycopg.connect(stored.superuser, autocommit=True)) as connection:
        for table in looked_at.split():
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))

        def read() -> list[tuple[object, ...]]:
            connection.execute("SELECT pg_stat_force_next_flush()")
            query = "SELECT relname::text, seq_scan FROM pg_stat_user_tables WHERE relname = ANY (%s) ORDER BY 1"
            return connection.execute(query, (looked_at.split(),)).fetchall()

        before = read()
        assert len(before) == 5
        for position in range(4, 10):
            with connection.transaction():
                (digest,) = _append(connection, "r_one", position, 1)
            thread = hashlib.sha256(b"%d" % position).digest()
            connection.execute(
                "INSERT INTO own_lines VALUES ('r_one', %s, %s, 1, %s, '', 0, 0)",
                (position, thread, hashlib.sha256(thread + digest).digest()),
            )
            connection.execute("INSERT INTO bodies VALUES ('r_one', %s, '')", (position,))
        assert read() == before
