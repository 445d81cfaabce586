"""What the database itself refuses, each tried with raw SQL: the named list of the record's invariants."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import Millis, Position, RoomId, View
from parlerd.store.port import EraseBodies, MarkDelivery
from parlerd.store.sqlite import SqliteStore
from tests.store.conftest import Raw
from tests.support.facts import ANN, BEN, CAT, ROOM, append, everything, message, opened
from tests.support.invariants import REFUSED, TAKEN, Tables, given, line_by, new_token, steps


class SqliteTables:
    """`Tables` of SQLite. The first room's log has the number one, the second's number two and no facts."""

    fact_key = "(id)"

    def blob(self, size: int) -> str:
        return f"zeroblob({size})"

    def agent(self, name: str) -> str:
        return f"'{name}'"

    def fact(self, *, room: str = "r_one", position: int = 4, **columns: str) -> str:
        good = {
            "log": {"r_one": "1", "r_two": "2"}[room],
            "type": "'message_posted'",
            "v": "1",
            "at": "9000",
            "header": "x'01'",
            "salt": self.blob(16),
            "digest": self.blob(32),
            "chain": self.blob(32),
        }
        return _FACT.format(**good | columns, position=position)

    def body(self, position: int, *, signature: str = "NULL") -> str:
        return f"INSERT INTO bodies VALUES (1 << 32 | {position}, x'00', {signature})"

    def erased(self, position: int) -> str:
        return f"INSERT INTO erased_bodies (id) VALUES (1 << 32 | {position})"

    def erased_elsewhere(self) -> str:
        return "UPDATE erased_bodies SET id = 1 << 32 | 2"

    def line(self, *, position: int = 1, thread: str = "", number: int = 1, line: str = "", **by: str) -> str:
        token, agent, wall = (by.get(name, none) for name, none in (("token", "''"), ("agent", "''"), ("wall", "0")))
        words = f"{thread or self.blob(32)}, {number}, {line or self.blob(32)}, {token}, {agent}, {wall}"
        return f"INSERT INTO own_lines VALUES (1 << 32 | {position}, {words})"

    def a_thread(self) -> str:
        return "(SELECT thread FROM own_lines LIMIT 1)"


_FACT = "INSERT INTO facts VALUES ({log} << 32 | {position}, {type}, {v}, {at}, {header}, {salt}, {digest}, {chain})"
TABLES = SqliteTables()
_Z = "zeroblob(32)"
_NONE = "'', '', 0"
IN_A_FILE = {
    "a fact is never replaced": TABLES.fact(position=3).replace("INSERT", "INSERT OR REPLACE"),
    "nor by an update that replaces": "UPDATE OR REPLACE facts SET id = 1 << 32 | 1 WHERE position = 3",
    "a fact belongs to a log": TABLES.fact(log="3", position=1),
    "also one without a number": TABLES.fact(log="0", position=1),
    "a header is bytes": TABLES.fact(header="'text'"),
    "a time is a number": TABLES.fact(at="'noon'"),
    "a log has a room": "INSERT INTO logs VALUES (3, '')",
    "a room has one log": "INSERT INTO logs VALUES (3, 'r_one')",
    "a log's number leaves room for positions": "INSERT INTO logs VALUES (2147483648, 'r_new')",
    "and is above zero": "INSERT INTO logs VALUES (0, 'r_new')",
    "a number is never given to another room": "UPDATE logs SET room = 'r_new' WHERE number = 1",
    "nor a room another number": "UPDATE logs SET number = 9 WHERE number = 1",
    "nor by replacing it ": "INSERT OR REPLACE INTO logs VALUES (1, 'r_new')",
    "a number is never given up": "DELETE FROM logs WHERE number = 2",
    "an own line is never replaced": f"INSERT OR REPLACE INTO own_lines SELECT id, thread, 1, {_Z}, {_NONE}"
    " FROM own_lines LIMIT 1",
    "the version of the tables is not replaced by an older one": "INSERT OR REPLACE INTO meta VALUES ('schema', '1')",
    "a fact says by which token it came": "INSERT INTO own_lines (id, thread, number, line)"
    f" VALUES (1 << 32 | 1, {_Z}, 1, {_Z})",
}
"""What only a file of SQLite has, or may be written in its dialect alone."""
ATTEMPTS = {name: attempt(TABLES) for name, attempt in REFUSED.items()} | IN_A_FILE


@pytest.fixture(autouse=True)
def _three_facts(store: SqliteStore, raw: Raw) -> None:
    (outcome,) = store.transact([[append(opened(), message(2), message(3), own_lines=True)]])
    assert outcome.error is None
    raw("INSERT INTO logs VALUES (2, 'r_two')")
    for row in given(TABLES):
        raw(row)


@pytest.mark.parametrize("sql", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_the_database_refuses(sql: str, store: SqliteStore, raw: Raw) -> None:
    *before, last = steps(sql)
    for statement in before:
        raw(statement)
    stood = store.head(ROOM), store.verify_chain(ROOM)
    with pytest.raises(sqlite3.IntegrityError):
        raw(last)
    assert (store.head(ROOM), store.verify_chain(ROOM)) == stood
    # A fact that an attempt began with has a header that is none.
    assert before or store.first_unlined(ROOM) is None


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN.keys())
def test_what_these_attempts_vary_would_itself_be_taken(taken: Callable[[Tables], str], raw: Raw) -> None:
    for statement in steps(taken(TABLES)):
        raw(statement)


@pytest.mark.parametrize("parent", ["", "tk_one", "tk_child"])
def test_a_token_that_was_made_of_one_that_holds_is_for_as_much(parent: str, raw: Raw) -> None:
    raw(new_token(TABLES, parent))
    raw("INSERT INTO token_access VALUES ('tk_new', 'read')")
    raw("INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 0)")
    raw(line_by(TABLES, "tk_new"))
    assert raw("SELECT count(*) FROM own_lines WHERE token = 'tk_new'") == [(1,)]


def test_others_come_in_with_a_token_that_joins_alone(raw: Raw) -> None:
    raw("INSERT INTO tokens VALUES ('tk_joins', 'U', 1, 1000, '')")
    raw(new_token(TABLES, "tk_joins", agent="V"))
    assert raw("SELECT agent FROM tokens WHERE token = 'tk_new'") == [("V",)]


def test_a_room_that_was_opened_with_a_token_is_one_of_those_that_it_was_made_of(raw: Raw) -> None:
    """And of none that is made of those otherwise."""
    raw(new_token(TABLES, "tk_two"))
    raw("INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 1)")
    raw("INSERT INTO tokens VALUES ('tk_sister', 'U', 0, 1000, 'tk_two')")
    with pytest.raises(sqlite3.IntegrityError, match="other rooms"):
        raw(line_by(TABLES, "tk_sister"))
    raw(line_by(TABLES, "tk_two"))


def test_an_own_line_that_was_made_up_is_found(store: SqliteStore, raw: Raw) -> None:
    """The file holds no function that could compute a line: who adds one past the store is found by the audit."""
    raw("INSERT INTO own_lines VALUES (1 << 32 | 1, zeroblob(32), 1, zeroblob(32), '', '', 0)")
    assert store.first_unlined(ROOM) == 1


def test_an_own_line_that_somebody_cut_off_is_found(store: SqliteStore, raw: Raw) -> None:
    """The next fact would be given the number of the one that was cut off."""
    raw("DROP TRIGGER own_lines_are_never_removed")
    raw("DELETE FROM own_lines WHERE id = 1 << 32 | 3")
    assert store.first_unlined(ROOM) == 3


def test_a_place_of_no_fact_is_found(store: SqliteStore, raw: Raw) -> None:
    raw("DROP TRIGGER own_lines_go_on")
    raw("INSERT INTO own_lines VALUES (1 << 32 | 9, zeroblob(32), 1, zeroblob(32), '', '', 0)")
    assert store.first_unlined(ROOM) == 9


def test_the_facts_of_a_deleted_room_may_go_once_its_tombstone_stands(store: SqliteStore, raw: Raw) -> None:
    other = RoomId("r_two")
    store.transact([[append(opened(other), room=other)]])
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    raw("DELETE FROM facts WHERE log = 1")
    assert store.head(ROOM).position == 0
    with pytest.raises(sqlite3.IntegrityError, match="while its room exists"):
        raw("DELETE FROM facts WHERE log = 2")


@pytest.mark.parametrize("sql", ["DELETE FROM tombstones", "UPDATE tombstones SET room = 'r_two'"])
def test_a_tombstone_stands_for_ever(sql: str, raw: Raw) -> None:
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    with pytest.raises(sqlite3.IntegrityError, match="tombstone"):
        raw(sql)


def test_a_deleted_room_does_not_begin_anew(raw: Raw) -> None:
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    raw("DELETE FROM facts")
    with pytest.raises(sqlite3.IntegrityError, match="deleted"):
        raw(TABLES.fact(position=1))


def test_nothing_is_added_to_a_deleted_room(store: SqliteStore, raw: Raw) -> None:
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    (outcome,) = store.transact([[append(message(4))]])
    assert outcome.error is not None
    with pytest.raises(sqlite3.IntegrityError, match="deleted"):
        raw(TABLES.fact())


@pytest.mark.parametrize("how", ["INSERT", "INSERT OR REPLACE", "INSERT OR IGNORE"])
def test_a_row_for_a_reader_that_has_one_only_moves_it_on(how: str, raw: Raw) -> None:
    for delivered, acknowledged in ((0, 0), (3, 1), (5, 0), (4, 4)):
        raw(f"{how} INTO cursors VALUES ('r_one', 'V', {delivered}, {acknowledged})")
    raw(f"{how} INTO cursors VALUES ('r_one', 'V', 1, 0), ('r_one', 'W', 1, 0), ('r_one', 'V', 6, 0)")
    assert raw("SELECT * FROM cursors ORDER BY reader") == [("r_one", "V", 6, 4), ("r_one", "W", 1, 0)]


def test_marks_may_go_once_the_tombstone_of_their_room_stands(raw: Raw) -> None:
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    for table in ("cursors", "deliveries", "bodies", "erased_bodies"):
        raw(f"DELETE FROM {table}")
        assert raw(f"SELECT count(*) FROM {table}") == [(0,)]


def test_marks_may_go_with_the_words_that_they_speak_of(store: SqliteStore, raw: Raw) -> None:
    store.transact([[MarkDelivery(ROOM, BEN, "read", Position(2), Millis(1), Position(1))]])
    store.transact([[MarkDelivery(ROOM, BEN, "read", Position(3), Millis(2), Position(1))]])
    store.transact([[EraseBodies(ROOM, [Position(2)])]])
    with pytest.raises(sqlite3.IntegrityError, match="while its room has the words"):
        raw("DELETE FROM deliveries WHERE upto = 3")
    raw("DELETE FROM deliveries WHERE upto = 2 AND after = 1")
    assert [row[0] for row in raw("SELECT upto FROM deliveries WHERE room = 'r_one' AND after = 1")] == [3]


@pytest.mark.parametrize(
    ("position", "spans"),
    # What was said to Ben alone; and what was said to everybody before Cat came in.
    [(4, ((0, None),)), (2, ((3, None),))],
)
def test_an_index_that_shows_somebody_what_is_hidden_shows_nothing(
    position: int, spans: tuple[tuple[int, int | None], ...], path: Path, backups: Path, store: SqliteStore, raw: Raw
) -> None:
    store.transact([[append(message(4, visible_to=(ANN, BEN)))]])
    cat = View(reader=CAT, spans=spans)

    def shown(of: SqliteStore) -> list[int]:
        page = of.page(ROOM, cat, Position(0), limit=9, max_bytes=999, skip_own=False)
        return [found.header.position for found in page.messages]

    before = shown(store)
    assert position not in before
    raw("INSERT INTO private_messages VALUES ('r_one', ?, ?, 1, 0, 2, ?, 'text')", (CAT, position, ANN))
    for look in (shown, lambda of: of.tail(ROOM, cat, limit=9, max_bytes=999)):
        with pytest.raises(StoreError, match="store_corrupt"):
            look(store)
    store.close()
    again = SqliteStore(path, backups=backups)
    assert shown(again) == before
    again.close()


def test_a_body_may_be_erased(store: SqliteStore, raw: Raw) -> None:
    raw("INSERT INTO erased_bodies (id) VALUES (1 << 32 | 2)")
    raw("DELETE FROM bodies WHERE position = 2")
    page = store.page(ROOM, everything(ANN), Position(0), limit=9, max_bytes=999, skip_own=False)
    assert [found.body is None for found in page.messages] == [True, False]
    assert store.verify_chain(ROOM) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("header", "x'00'"),
        ("salt", "zeroblob(16)"),
        ("digest", "zeroblob(32)"),
        ("chain", "zeroblob(32)"),
    ],
)
def test_a_fact_that_was_changed_by_someone_who_holds_the_file_is_found(
    column: str, value: str, store: SqliteStore, raw: Raw
) -> None:
    raw("DROP TRIGGER facts_never_change")
    raw(f"UPDATE facts SET {column} = {value} WHERE position = 2")
    assert store.verify_chain(ROOM) == 2


def test_a_body_that_was_changed_by_someone_who_holds_the_file_is_found(store: SqliteStore, raw: Raw) -> None:
    raw("DROP TRIGGER bodies_never_change")
    raw("UPDATE bodies SET body = x'00' WHERE position = 3")
    assert store.verify_chain(ROOM) == 3


def test_a_fact_that_is_missing_is_found(store: SqliteStore, raw: Raw) -> None:
    raw("DROP TRIGGER facts_stay_while_their_room_does")
    raw("DELETE FROM facts WHERE position = 2")
    assert store.verify_chain(ROOM) == 2
    assert any("some are missing" in sentence for sentence in store.check())
