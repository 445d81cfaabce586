"""The record of a host in a database of SQLite: a real database, written by another connection."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from parlerd.core.judge import Answer
from parlerd.core.records import Call, Kind, Reply, Result, Rows, Test
from parlerd.core.sight import expected, marker_of
from parlerd.sight import rows
from parlerd.sight.trail import Change, Trail
from tests.sight.test_trail import RECORD as LINES
from tests.sight.test_trail import told

RECORD: Final = msgspec.structs.replace(
    LINES,
    form="rows",
    files=("host.db",),
    rows=Rows(messages="message", parts="part"),
    conversation=("session",),
    calls=(Call(name="call", has=(Test("part.type", ("tool",)),), calls="part.call", id="of"),),
    results=(
        Result(
            name="tool part",
            has=(Test("part.type", ("tool",)), Test("part.status", ("completed",))),
            each="part",
            call="call",
            text="output",
        ),
    ),
    replies=(
        Reply(
            name="text part",
            has=(Test("message.role", ("assistant",)), Test("part.type", ("text",))),
            lacks=(Test("message.error"),),
            differs="of",
        ),
    ),
    endings=(),
    harmless=(Kind(name="other", has=(Test("of"),)),),
)
TEXT: Final = f"words\n{marker_of(bytes(8))}"


class Host:
    """The host's own database, in its own connection."""

    def __init__(self, folder: Path, journal: str) -> None:
        folder.mkdir()
        self.path = folder.resolve() / "host.db"
        self.database = sqlite3.connect(self.path, isolation_level=None)
        self.database.execute(f"PRAGMA journal_mode = {journal}")
        self.database.execute("CREATE TABLE message (id text PRIMARY KEY, session_id text, data text)")
        self.database.execute("CREATE TABLE part (id text PRIMARY KEY, message_id text, session_id text, data text)")
        self.answer = Answer([expected(TEXT)])
        self.trail = Trail(str(folder), RECORD, "host 1")
        self.trail.survey()
        self.trail.walk()

    def says(self, id: str, session: str = "s", **data: Any) -> None:
        self.database.execute("INSERT INTO message VALUES (?, ?, ?)", (id, session, json.dumps(data)))

    def part(self, id: str, of: str, session: str = "s", **data: Any) -> None:
        text = json.dumps(data)
        self.database.execute(
            "INSERT INTO part VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            (id, of, session, text),
        )

    def calls(self, session: str = "s", output: str = TEXT) -> None:
        """A call that is made, and then has its result."""
        self.says("m1", session, role="assistant")
        self.part("p1", "m1", session, type="tool", call="c1", status="running")
        self.part("p2", "m1", session, type="step-finish")
        self.part("p1", "m1", session, type="tool", call="c1", status="completed", output=output)

    def look(self) -> list[tuple[str, str]]:
        return told(self.trail.look([Change(f"{self.path}-wal", added=False)], [self.answer]))


@pytest.fixture(params=["WAL", "DELETE"])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Host]:
    host = Host(tmp_path / "records", request.param)
    yield host
    host.database.close()


def test_a_part_of_a_later_message_proves(host: Host) -> None:
    host.calls()
    assert host.look() == []
    host.says("m2", role="assistant")
    assert host.look() == []
    host.part("p3", "m2", type="text")
    assert host.look() == [("shown", "reply")]


def test_a_part_of_the_message_that_called_proves_nothing(host: Host) -> None:
    host.calls()
    host.part("p3", "m1", type="text")
    assert host.look() == []


def test_a_part_of_another_conversation_proves_nothing(host: Host) -> None:
    host.calls()
    host.says("m2", "other", role="assistant")
    host.part("p3", "m2", "other", type="text")
    assert host.look() == []


def test_a_message_with_an_error_proves_nothing(host: Host) -> None:
    host.calls()
    host.says("m2", role="assistant", error={"name": "APIError"})
    host.part("p3", "m2", type="text")
    assert host.look() == []


def test_a_result_that_the_host_cut_is_cut(host: Host) -> None:
    host.calls(output=TEXT[1:])
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    assert host.look() == [("cut", "cut_by_host")]


def test_a_call_that_was_taken_back_was_not_shown(host: Host) -> None:
    host.calls()
    assert host.look() == []
    host.database.execute("DELETE FROM part")
    assert host.look() == [("not_shown", "rolled_back")]


def test_parts_from_long_before_are_not_looked_into(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BACK", 1)
    host.calls()
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    assert host.look() == []


def test_a_database_that_is_locked_is_read_later(host: Host) -> None:
    host.calls()
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    host.database.execute("PRAGMA locking_mode = EXCLUSIVE")
    host.database.execute("BEGIN EXCLUSIVE")
    host.part("p4", "m2", type="text")
    locked = host.look()
    assert locked in ([], [("shown", "reply")])  # with WAL, readers read what was committed
    host.database.execute("COMMIT")
    host.database.execute("PRAGMA locking_mode = NORMAL")
    host.database.execute("SELECT * FROM part").fetchall()
    assert locked or host.look() == [("shown", "reply")]


@pytest.mark.parametrize("at", [0, 40, 100, 4_096, 5_000])
def test_a_database_that_is_broken_ends_the_proof(host: Host, at: int) -> None:
    host.calls()
    assert host.look() == []
    host.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    host.database.close()
    data = host.path.read_bytes()
    host.path.write_bytes(data[:at] + os.urandom(3_000) + data[at + 3_000 :])
    found = host.look()
    assert found in ([], [("unknown", "record_unreadable")], [("not_shown", "rolled_back")])
    if at in (0, 4_096):
        assert found


def test_what_is_no_database_cannot_be_read(host: Host) -> None:
    host.calls()
    host.look()
    host.database.close()
    host.path.write_bytes(b"something else " * 1_000)
    assert host.look() == [("unknown", "record_unreadable")]


def test_tables_of_another_shape_cannot_be_read(host: Host) -> None:
    host.calls()
    host.look()
    host.database.execute("ALTER TABLE part RENAME COLUMN data TO body")
    assert host.look() == [("unknown", "record_unreadable")]


def test_an_index_over_a_function_is_no_hindrance(host: Host) -> None:
    host.database.execute("CREATE INDEX roles ON message (json_extract(data, '$.role'))")
    host.calls()
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    assert host.look() == [("shown", "reply")]


def test_a_view_in_the_place_of_a_table_is_not_read(host: Host) -> None:
    host.calls()
    host.look()
    host.database.execute("ALTER TABLE part RENAME TO other")
    host.database.execute("CREATE VIEW part AS SELECT *, rowid FROM other")
    assert host.look() == [("unknown", "record_unreadable")]


@pytest.mark.parametrize("data", [b"\xff\xfe", 7, None, b"[" * 100_000, "[1]", '"' + TEXT.replace("\n", " ") + '"'])
def test_rows_that_hold_anything_else_prove_nothing(host: Host, data: Any) -> None:
    host.calls()
    host.database.execute("INSERT INTO message VALUES ('m2', 's', ?)", (data,))
    host.database.execute("INSERT INTO part VALUES ('p3', 'm2', 's', ?)", (data,))
    assert ("shown", "reply") not in host.look()


def test_a_query_that_takes_too_long_is_given_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_STEPS", 1_000)
    host.calls()
    for number in range(2_000):
        host.part(f"q{number:05}", "m1", type="other")
    host.says("m2", role="assistant")
    host.part("z", "m2", type="text")
    assert host.look() == []


def test_no_more_rows_are_read_than_the_bound(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_ROWS", 20)
    host.calls()
    for number in range(30):
        host.part(f"q{number:05}", "m1", type="other")
    host.says("m2", role="assistant")
    host.part("z", "m2", type="text")
    assert host.look() == []


@pytest.mark.parametrize("what", ["parts", "messages", "sessions"])
def test_no_more_bytes_are_kept_than_the_bound(host: Host, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(rows, "MAX_READ", 100_000)
    host.calls()
    assert host.look() == []
    for number in range(12):
        if what == "parts":
            host.part(f"q{number:05}", "m1", type="step-finish", words="x" * 10_000)
        elif what == "messages":
            host.says(f"m1{number:05}", role="assistant", words="x" * 10_000)
        else:
            # The marker stands in conversations that are read before ours, because they came later.
            host.says(f"n{number:05}", f"t{number}", role="assistant")
            host.part(f"r{number:05}", f"n{number:05}", f"t{number}", type="other", words=TEXT + "x" * 10_000)
    host.says("m2", role="assistant")
    host.part("z", "m2", type="text")
    assert host.look() == [("unknown", "too_long")], "what was read before was not taken back"
    monkeypatch.setattr(rows, "MAX_READ", 1_000_000)
    assert host.look() == [("shown", "reply")]


def test_nothing_is_written_to_the_database_of_the_host(host: Host) -> None:
    host.calls()
    host.look()
    before = host.path.read_bytes()
    host.says("m2", role="assistant")
    host.look()
    assert host.database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    if host.database.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        assert host.path.read_bytes() == before


def test_no_file_is_made_beside_a_database_that_its_host_has_closed(host: Host) -> None:
    host.calls()
    assert host.look() == []
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    host.database.close()
    assert os.listdir(host.path.parent) == [host.path.name]
    assert host.look() == [("shown", "reply")]
    assert os.listdir(host.path.parent) == [host.path.name]


@pytest.mark.parametrize("is_closed_again", [False, True])
@pytest.mark.parametrize("is_torn", [False, True])
def test_a_closed_database_that_is_written_to_while_it_is_read_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_closed_again: bool, is_torn: bool
) -> None:
    host = Host(tmp_path / "records", "WAL")
    host.calls()
    assert host.look() == []
    host.says("m2", role="assistant")
    host.database.close()

    def read(self: rows.Database, database: sqlite3.Connection, answers: Sequence[Answer]) -> list[Any]:
        del self, database, answers
        host.database = sqlite3.connect(host.path, isolation_level=None)
        host.part("p3", "m2", type="text")
        if is_closed_again:
            host.database.close()
        if is_torn:
            raise sqlite3.DatabaseError("malformed")
        return []

    with monkeypatch.context() as patched:
        patched.setattr(rows.Database, "_read", read)
        assert host.look() == []
    assert host.look() == [("shown", "reply")]
    host.database.close()


def test_what_is_looked_through_does_not_grow_with_the_age_of_the_record(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BACK", 5)
    text = f"later\n{marker_of(b'12345678')}"
    host.calls()
    assert host.look() == []
    host.says("m0", role="assistant")
    host.part("p4", "m0", type="tool", call="c2", status="completed", output=text)
    for number in range(5):
        host.part(f"p5{number}", "m0", type="step")
    host.says("m2", role="assistant")
    host.part("p6", "m2", type="text")
    assert host.look() == [("shown", "reply")]
    later = Answer([expected(text)])
    changes = [Change(str(host.path), added=False)]
    assert host.trail.look(changes, [later]) == [], "what is older is no result of it"
    host.part("p7", "m1", type="tool", call="c3", status="completed", output=text)
    assert told(host.trail.look(changes, [later])) == [("shown", "reply")]


def test_many_markers_are_looked_for_in_one_pass(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"words\n{marker_of(number.to_bytes(8, 'big'))}" for number in range(50)]
    asked: list[str] = []
    real = rows.Database._open

    def opened(self: rows.Database, **how: Any) -> sqlite3.Connection:
        database = real(self, **how)
        database.set_trace_callback(asked.append)
        return database

    monkeypatch.setattr(rows.Database, "_open", opened)
    host.answer = Answer([expected(text) for text in texts])
    host.calls(output="\n".join(texts))
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    assert host.look() == [("shown", "reply")] * 50
    assert sum("instr" in each for each in asked) == 1


def test_ids_of_any_type_are_no_failure(host: Host) -> None:
    host.calls()
    data = json.dumps({"type": "tool", "status": "completed", "output": TEXT})
    for id, message in (("q1", 7), ("q2", b"m"), ("q3", None), ("q4", 2.5)):
        host.database.execute("INSERT INTO part VALUES (?, ?, 's', ?)", (id, message, data))
    host.says("m2", role="assistant")
    host.part("p3", "m2", type="text")
    assert host.look() == [("shown", "reply")]


def test_a_table_has_a_name_of_letters() -> None:
    with pytest.raises(ValueError, match="no name of a table"):
        rows.Database(msgspec.structs.replace(RECORD, rows=Rows(messages="x; DROP", parts="part")), "/nowhere")


def test_a_value_without_an_end_is_not_taken_into_memory(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_VALUE", 100_000)
    host.calls()
    assert host.look() == []
    # SQLite ends the length of a text at its first NUL, and would hand the whole of it over.
    host.database.execute(
        "INSERT INTO message VALUES ('m2', 's', CAST(? AS TEXT))", (b'{"role":"assistant"}\0' * 9_000,)
    )
    assert host.look() == [("unknown", "record_unreadable")]
