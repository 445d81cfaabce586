"""What the database itself refuses, each tried with raw SQL: the named list of the record's invariants."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import Position, RoomId, View
from parlerd.store.sqlite import SqliteStore
from tests.store.conftest import Raw
from tests.support.facts import ANN, BEN, CAT, ROOM, append, everything, message, opened

# The first room's log has the number one, the second's number two and no facts.
_FACT = "INSERT INTO facts VALUES ({log} << 32 | {position}, {type}, {v}, {at}, {header}, {salt}, {digest}, {chain})"
_GOOD = {
    "log": "1",
    "position": "4",
    "type": "'message_posted'",
    "v": "1",
    "at": "9000",
    "header": "x'01'",
    "salt": "zeroblob(16)",
    "digest": "zeroblob(32)",
    "chain": "zeroblob(32)",
}


def _fact(**changes: str) -> str:
    return _FACT.format(**_GOOD | changes)


_Z = "zeroblob(32)"
_NONE = "'', '', 0"


def _line(token: str, *, agent: str = "U", wall: int = 999) -> str:
    """A place in an own line of a fact that came by a token."""
    return f"INSERT INTO own_lines VALUES (1 << 32 | 1, zeroblob(32), 1, zeroblob(32), '{token}', '{agent}', {wall})"


def _token(parent: str, *, agent: str = "U", until: int = 1000) -> str:
    return f"INSERT INTO tokens VALUES ('tk_new', '{agent}', 0, {until}, '{parent}')"


REFUSED = {
    "a fact is never changed": "UPDATE facts SET at = 1 WHERE position = 1",
    "nor by replacing it": _fact(position="3").replace("INSERT", "INSERT OR REPLACE"),
    "nor by an update that replaces": "UPDATE OR REPLACE facts SET id = 1 << 32 | 1 WHERE position = 3",
    "nor by an upsert": _fact(position="3") + " ON CONFLICT DO UPDATE SET at = 1",
    "a fact is never removed": "DELETE FROM facts WHERE position = 3",
    "nor all of them": "DELETE FROM facts",
    "a position is never skipped": _fact(position="5"),
    "nor taken twice": _fact(position="3"),
    "nor below one": _fact(position="0"),
    "a room begins at one": _fact(log="2", position="2"),
    "a fact belongs to a log": _fact(log="3", position="1"),
    "also one without a number": _fact(log="0", position="1"),
    "a log has a room": "INSERT INTO logs VALUES (3, '')",
    "a room has one log": "INSERT INTO logs VALUES (3, 'r_one')",
    "a log's number leaves room for positions": "INSERT INTO logs VALUES (2147483648, 'r_new')",
    "and is above zero": "INSERT INTO logs VALUES (0, 'r_new')",
    "a number is never given to another room": "UPDATE logs SET room = 'r_new' WHERE number = 1",
    "nor a room another number": "UPDATE logs SET number = 9 WHERE number = 1",
    "nor by replacing it ": "INSERT OR REPLACE INTO logs VALUES (1, 'r_new')",
    "a number is never given up": "DELETE FROM logs WHERE number = 2",
    "time never goes back": _fact(at="2999"),
    "a type must be known": _fact(type="'gossip'"),
    "and so must its version": _fact(v="9"),
    "a version counts from one": _fact(v="0"),
    "a fact has a header": _fact(header="NULL"),
    "that is not empty": _fact(header="x''"),
    "and is bytes": _fact(header="'text'"),
    "a time is a number": _fact(at="'noon'"),
    "a salt has sixteen bytes": _fact(salt="zeroblob(15)"),
    "a digest has thirty-two": _fact(digest="zeroblob(31)"),
    "a digest is not absent": _fact(digest="NULL"),
    "a chain digest has thirty-two": _fact(chain="zeroblob(33)"),
    "a body belongs to a fact": "INSERT INTO bodies VALUES (1 << 32 | 9, x'00', NULL)",
    "a body is never changed": "UPDATE bodies SET body = x'00'",
    "nor its signature": "UPDATE bodies SET signature = NULL",
    "a signature has sixty-four bytes": "INSERT INTO bodies VALUES (1 << 32 | 1, x'00', zeroblob(63))",
    "a message has one id": "INSERT INTO messages VALUES ('m_r_one_2', 'r_one', 1)",
    "a key has one room": "INSERT INTO room_keys VALUES ('key', 'r_two')",
    "nobody acknowledges more than was delivered": "INSERT INTO cursors VALUES ('r_one', 'U', 1, 2)",
    "nobody acknowledges less than nothing": "INSERT INTO cursors VALUES ('r_one', 'U', 1, -1)",
    "a mark covers something": "INSERT INTO deliveries VALUES ('r_one', 'U', 'read', 3, 3, 1)",
    "a stage must be known": "INSERT INTO deliveries VALUES ('r_one', 'U', 'guessed', 3, 0, 1)",
    "a membership has a known state": "INSERT INTO memberships VALUES ('U', 'r_one', 'owner')",
    "an own line has no gaps": f"INSERT INTO own_lines VALUES (1 << 32 | 1, {_Z}, 2, {_Z}, {_NONE})",
    "nor begins at none": f"INSERT INTO own_lines VALUES (1 << 32 | 1, {_Z}, 0, {_Z}, {_NONE})",
    "nor has a number twice": f"INSERT INTO own_lines SELECT 1<<32|1, thread, 1, line, {_NONE} FROM own_lines LIMIT 1",
    "a fact has one place in it": f"INSERT INTO own_lines SELECT id, {_Z}, 1, line, {_NONE} FROM own_lines LIMIT 1",
    "an own line is of a fact": f"INSERT INTO own_lines VALUES (1 << 32 | 9, {_Z}, 1, {_Z}, {_NONE})",
    "an own line has thirty-two bytes": f"INSERT INTO own_lines VALUES (1 << 32 | 1, {_Z}, 1, zeroblob(31), {_NONE})",
    "an own line is never changed": "UPDATE own_lines SET line = zeroblob(32)",
    "nor replaced": f"INSERT OR REPLACE INTO own_lines SELECT id, thread, 1, {_Z}, {_NONE} FROM own_lines LIMIT 1",
    "an own line is never removed": "DELETE FROM own_lines",
    "nobody's cursor goes back": "UPDATE cursors SET acknowledged = 1 WHERE reader = 'V'",
    "nor what was delivered to it": "UPDATE cursors SET delivered = 2, acknowledged = 0 WHERE reader = 'V'",
    "a cursor is never another's": "UPDATE cursors SET reader = 'W' WHERE reader = 'V'",
    "a cursor is never removed": "DELETE FROM cursors",
    "what was delivered is never changed": "UPDATE deliveries SET at = 1",
    "nor removed": "DELETE FROM deliveries",
    "a body goes only with its mark": "DELETE FROM bodies WHERE position = 2",
    "the mark of an erased body stays": "DELETE FROM erased_bodies",
    "and stays where it is": "UPDATE erased_bodies SET id = 1 << 32 | 2",
    "what was erased was a message": "INSERT INTO erased_bodies (id) VALUES (1 << 32 | 1)",
    "a request has one row": "INSERT INTO idempotency VALUES ('r_one', 'U', 'message.send', 'key', 3)",
    "no fact is by a token that was revoked": _line("tk_revoked"),
    "nor by one that was made of such a token": _line("tk_of_revoked"),
    "nor by one that is over": _line("tk_one", wall=1000),
    "nor by one that there never was": _line("tk_none"),
    "nor by another agent's": _line("tk_one", agent="V"),
    "nor by one of another room": _line("tk_two"),
    "a fact says by which token it came": "INSERT INTO own_lines (id, thread, number, line)"
    " VALUES (1 << 32 | 1, zeroblob(32), 1, zeroblob(32))",
    "no token is made of one that there never was": _token("tk_none"),
    "nor of one that was revoked": _token("tk_revoked"),
    "nor holds for longer than the one that it is made of": _token("tk_one", until=1001),
    "nor is another agent's": _token("tk_one", agent="V"),
    "nor is for more": "INSERT INTO token_access VALUES ('tk_child', 'mint')",
    "nor for more rooms": "INSERT INTO token_rooms VALUES ('tk_child', 'r_two', 0)",
    "nor is for anything that nobody minted": "INSERT INTO token_access VALUES ('tk_none', 'read')",
    "nor of any room": "INSERT INTO token_rooms VALUES ('tk_none', 'r_one', 0)",
    "a token is minted once": "INSERT INTO tokens VALUES ('tk_one', 'U', 0, 9, '')",
    "and never changed": "UPDATE tokens SET expires_at = 2000",
    "a tombstone names a room": "INSERT INTO tombstones VALUES ('', 1)",
}


@pytest.fixture(autouse=True)
def _three_facts(store: SqliteStore, raw: Raw) -> None:
    (outcome,) = store.transact([[append(opened(), message(2), message(3), own_lines=True)]])
    assert outcome.error is None
    raw("INSERT INTO room_keys VALUES ('key', 'r_one')")
    raw("INSERT INTO cursors VALUES ('r_one', 'V', 3, 2)")
    raw("INSERT INTO deliveries VALUES ('r_one', 'V', 'read', 3, 0, 9)")
    raw("INSERT INTO erased_bodies (id) VALUES (1 << 32 | 3)")
    raw("INSERT INTO idempotency VALUES ('r_one', 'U', 'message.send', 'key', 2)")
    raw("INSERT INTO logs VALUES (2, 'r_two')")
    for token, parent, room in (
        ("tk_one", "", "r_one"),
        ("tk_child", "tk_one", "r_one"),
        ("tk_two", "", "r_two"),
        ("tk_revoked", "", "r_one"),
        ("tk_of_revoked", "tk_revoked", "r_one"),
    ):
        raw("INSERT INTO tokens VALUES (?, 'U', 0, 1000, ?)", (token, parent))
        raw("INSERT INTO token_access VALUES (?, 'read')", (token,))
        raw("INSERT INTO token_rooms VALUES (?, ?, 0)", (token, room))
    raw("INSERT INTO revoked_tokens VALUES ('tk_revoked')")


@pytest.mark.parametrize("sql", REFUSED.values(), ids=REFUSED.keys())
def test_the_database_refuses(sql: str, store: SqliteStore, raw: Raw) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        raw(sql)
    assert store.head(ROOM).position == 3
    assert store.verify_chain(ROOM) is None
    assert store.first_unlined(ROOM) is None


def test_the_fact_that_these_attempts_vary_would_itself_be_taken(raw: Raw) -> None:
    """Else each of them could be refused for another reason than its own."""
    raw(_fact())
    assert raw("SELECT max(position) FROM facts") == [(4,)]


def test_a_place_in_an_own_line_that_these_attempts_vary_would_itself_be_taken(raw: Raw) -> None:
    raw("INSERT INTO own_lines VALUES (1 << 32 | 1, zeroblob(32), 1, zeroblob(32), '', '', 0)")
    assert raw("SELECT count(*) FROM own_lines") == [(3,)]


@pytest.mark.parametrize("token", ["tk_one", "tk_child"])
def test_a_fact_by_a_token_that_holds_would_itself_be_taken(token: str, raw: Raw) -> None:
    raw(_line(token))
    assert raw("SELECT count(*) FROM own_lines WHERE token = ?", (token,)) == [(1,)]


@pytest.mark.parametrize("parent", ["", "tk_one", "tk_child"])
def test_a_token_that_these_attempts_vary_would_itself_be_taken(parent: str, raw: Raw) -> None:
    raw(_token(parent))
    raw("INSERT INTO token_access VALUES ('tk_new', 'read')")
    raw("INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 0)")
    raw(_line("tk_new"))
    assert raw("SELECT count(*) FROM own_lines WHERE token = 'tk_new'") == [(1,)]


def test_others_come_in_with_a_token_that_joins_alone(raw: Raw) -> None:
    raw("INSERT INTO tokens VALUES ('tk_joins', 'U', 1, 1000, '')")
    raw(_token("tk_joins", agent="V"))
    assert raw("SELECT agent FROM tokens WHERE token = 'tk_new'") == [("V",)]


def test_a_room_that_was_opened_with_a_token_is_one_of_those_that_it_was_made_of(raw: Raw) -> None:
    """And of none that is made of those otherwise."""
    raw(_token("tk_two"))
    raw("INSERT INTO token_rooms VALUES ('tk_new', 'r_one', 1)")
    raw("INSERT INTO tokens VALUES ('tk_sister', 'U', 0, 1000, 'tk_two')")
    with pytest.raises(sqlite3.IntegrityError, match="other rooms"):
        raw(_line("tk_sister"))
    raw(_line("tk_two"))


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
        raw(_fact(position="1"))


def test_nothing_is_added_to_a_deleted_room(store: SqliteStore, raw: Raw) -> None:
    raw("INSERT INTO tombstones VALUES ('r_one', 1)")
    (outcome,) = store.transact([[append(message(4))]])
    assert outcome.error is not None
    with pytest.raises(sqlite3.IntegrityError, match="deleted"):
        raw(_fact())


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
