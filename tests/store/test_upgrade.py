"""Bringing a database file up to date: a backup first, one transaction, and a newer file left alone."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

import parlerd
from parlerd.core.errors import StoreError
from parlerd.core.events import CURRENT_V, MessagePosted, names_of
from parlerd.core.model import AgentId, HomeId, Millis, Position, Stage
from parlerd.core.public_line import first_line, next_line
from parlerd.core.room import Room
from parlerd.store.indexing import PROJECTIONS, PUBLIC, Counts, Rows, derive
from parlerd.store.port import Append, Delivery, MarkDelivery, NewFact
from parlerd.store.sqlite import SqliteStore
from parlerd.store.staging import EMPTY, Staged, stage
from parlerd.store.statements import stored
from parlerd.store.upgrade import Schema, newest_backup, shipped_schema
from tests.store.conftest import Raw
from tests.support.facts import ANN, BEN, OWNER, ROOM, append, everything, message, minted, opened
from tests.support.golden import recorded

NOW = 1_700_000_000_123


def _next(sql: str) -> Schema:
    """The shipped schema and one step more."""
    shipped = shipped_schema()
    return Schema({**shipped.scripts, shipped.version + 1: sql})


@pytest.fixture
def old(path: Path, backups: Path) -> None:
    """A database file of the shipped schema with two facts."""
    store = SqliteStore(path, backups=backups)
    (outcome,) = store.transact([[append(opened(), message(2))]])
    assert outcome.error is None
    store.close()


def test_a_new_file_needs_no_backup_and_says_its_schema_and_who_wrote_it(
    store: SqliteStore, backups: Path, raw: Raw
) -> None:
    assert not backups.exists()
    assert raw("SELECT * FROM meta ORDER BY key") == [
        ("schema", str(shipped_schema().version)),
        ("written_by", parlerd.__version__),
    ]


def test_the_types_of_facts_are_those_of_the_program(store: SqliteStore, raw: Raw) -> None:
    assert dict(raw("SELECT type, v FROM fact_types")) == CURRENT_V  # type: ignore[arg-type]


def test_types_that_the_program_gained_are_allowed_when_it_opens_an_older_file(
    old: None, path: Path, backups: Path, raw: Raw
) -> None:
    raw("DELETE FROM fact_types WHERE type = 'message_posted'")
    store = SqliteStore(path, backups=backups)
    (outcome,) = store.transact([[append(message(3))]])
    assert outcome.error is None
    store.close()


@pytest.mark.usefixtures("old")
def test_an_older_file_is_copied_whole_before_it_is_changed(path: Path, backups: Path, raw: Raw) -> None:
    schema = _next("CREATE TABLE later (x INTEGER) STRICT; INSERT INTO later VALUES (1); INSERT INTO later VALUES (2);")
    store = SqliteStore(path, backups=backups, schema=schema, now_ms=lambda: NOW)
    assert raw("SELECT x FROM later") == [(1,), (2,)]
    assert raw("SELECT value FROM meta WHERE key = 'schema'") == [(str(schema.version),)]
    (outcome,) = store.transact([[append(message(3))]])
    assert outcome.error is None
    store.close()

    backup = newest_backup(backups)
    assert backup is not None
    assert [found.name for found in backups.iterdir()] == [backup.name]
    assert backup.name == f"parler-schema-{shipped_schema().version}-20231114T221320123.db"
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert stat.S_IMODE(backups.stat().st_mode) == 0o700
    kept = SqliteStore(backup, backups=backups)
    assert kept.head(ROOM).position == 2
    assert kept.verify_chain(ROOM) is None
    page = kept.page(ROOM, everything(ANN), Position(0), limit=9, max_bytes=999, skip_own=False)
    assert len(page.messages) == 1
    kept.close()


@pytest.mark.usefixtures("old")
def test_what_was_only_in_the_log_of_a_killed_daemon_is_in_the_backup(path: Path, backups: Path) -> None:
    writer = SqliteStore(path, backups=backups)
    writer.transact([[append(message(3))]])
    copy = path.with_name("copy.db")
    copy.write_bytes(path.read_bytes())
    Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    writer.close()
    SqliteStore(copy, backups=backups, schema=_next("CREATE TABLE later (x INTEGER) STRICT;")).close()
    backup = newest_backup(backups)
    assert backup is not None
    with closing(sqlite3.connect(backup)) as kept:
        assert kept.execute("SELECT max(position) FROM facts").fetchone() == (3,)


@pytest.mark.usefixtures("old")
def test_an_upgrade_that_fails_half_way_leaves_the_old_file(path: Path, backups: Path, raw: Raw) -> None:
    broken = _next("CREATE TABLE later (x INTEGER) STRICT; DROP TABLE bodies; INSERT INTO nowhere VALUES (1);")
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, backups=backups, schema=broken)
    assert caught.value.code == "store_failed"
    assert raw("SELECT name FROM sqlite_schema WHERE name = 'later'") == []
    store = SqliteStore(path, backups=backups)
    assert store.body(ROOM, Position(2)) is not None
    store.close()


@pytest.mark.usefixtures("old")
def test_several_steps_are_taken_at_once_and_each_only_once(path: Path, backups: Path, raw: Raw) -> None:
    two = _next("CREATE TABLE second (x INTEGER) STRICT;")
    three = Schema({**two.scripts, two.version + 1: "CREATE TABLE third (x INTEGER) STRICT;"})
    for _ in range(2):
        SqliteStore(path, backups=backups, schema=three).close()
    assert raw("SELECT name FROM sqlite_schema WHERE name IN ('second', 'third') ORDER BY 1") == [
        ("second",),
        ("third",),
    ]
    assert len(list(backups.iterdir())) == 1


@pytest.mark.usefixtures("old")
def test_a_newer_file_is_refused_with_the_version_it_needs_and_left_alone(path: Path, backups: Path, raw: Raw) -> None:
    SqliteStore(path, backups=backups, schema=_next("CREATE TABLE later (x INTEGER) STRICT;")).close()
    raw("UPDATE meta SET value = '9.8.7' WHERE key = 'written_by'")
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, backups=backups)
    assert caught.value.code == "newer_store"
    known = shipped_schema().version
    assert caught.value.details == {"schema": known + 1, "known": known, "needs": "9.8.7"}
    assert "9.8.7" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.usefixtures("old")
def test_without_room_for_a_backup_nothing_is_changed(path: Path, backups: Path, raw: Raw) -> None:
    backups.write_text("a file where the folder should be")
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, backups=backups, schema=_next("CREATE TABLE later (x INTEGER) STRICT;"))
    assert caught.value.code == "store_readonly"
    assert raw("SELECT value FROM meta WHERE key = 'schema'") == [(str(shipped_schema().version),)]


@pytest.mark.parametrize("version", sorted(shipped_schema().scripts)[:-1])
def test_every_older_schema_becomes_the_shipped_one_and_keeps_its_facts(
    version: int, path: Path, backups: Path, tmp_path: Path
) -> None:
    facts = [opened(), message(2, key="k", to=(ANN,)), message(3, kind="task", role="dev", visible_to=(ANN,))]
    facts.append(minted(4, "key"))
    written = stage(append(*facts), EMPTY, bytes(range(64)))
    _write_old(path, version, written)
    line = next_line(first_line(ROOM, HomeId(OWNER)), hashlib.sha256(f"m_{ROOM}_2".encode()).digest())
    store = SqliteStore(path, backups=backups)
    assert (store.head(ROOM), len(store.facts(ROOM, Position(0), 9))) == (written.head, 4)
    assert _found(store, kind="task") == [3]
    assert _found(store, names=names_of(ANN)) == [2]
    assert _found(store, names=names_of(ANN, "dev")) == [2, 3]
    assert store.snapshot(ROOM) is None
    assert store.deadlines(Millis(0)) == {ROOM: 1}
    assert store.shown_at(ROOM, Position(4)) == (1, line)
    page = store.page(ROOM, everything(ANN), Position(0), limit=9, max_bytes=999, skip_own=False)
    assert [found.body for found in page.messages] == [body.body for body in written.bodies if body.position > 1]
    assert [outcome.error for outcome in store.transact([[append(message(5))]])] == [None]
    assert store.verify_chain(ROOM) is None
    assert store.check() == []
    assert store.rooms() == [ROOM]
    prior = store.prior(ROOM, ANN, "", "k")
    assert prior is not None
    assert prior.position == 2
    store.close()
    new = tmp_path / "new.db"
    SqliteStore(new, backups=backups).close()
    assert _shape(path) == _shape(new)


def test_the_marks_of_readers_are_carried_over(path: Path, backups: Path, raw: Raw) -> None:
    before = Schema({step: script for step, script in shipped_schema().scripts.items() if step < 21})
    marks: list[tuple[AgentId, Stage, int, int]] = [
        (ANN, "read", 0, 2),
        (ANN, "read", 1, 3),
        (ANN, "acknowledged", 0, 2),
        (BEN, "pushed", 0, 3),
    ]
    writes = [
        MarkDelivery(ROOM, reader, stage, Position(upto), Millis(at), Position(after))
        for at, (reader, stage, after, upto) in enumerate(marks, 1)
    ]

    def ladders(store: SqliteStore) -> list[list[Delivery]]:
        return [store.deliveries(ROOM, Position(position)) for position in range(1, 5)]

    store = SqliteStore(path, backups=backups, schema=before)
    (outcome,) = store.transact([[append(opened(), message(2)), *writes]])
    assert outcome.error is None
    store.close()
    assert raw("SELECT type FROM sqlite_master WHERE name = 'deliveries'") == [("table",)]
    rows = raw("SELECT * FROM deliveries ORDER BY reader, stage, upto")
    store = SqliteStore(path, backups=backups)
    assert raw("SELECT * FROM deliveries ORDER BY reader, stage, upto") == rows
    assert len(rows) == len(marks)
    told = ladders(store)
    assert [[(mark.reader, mark.stage, mark.at) for mark in each] for each in told] == [
        [(ANN, "read", 1), (ANN, "acknowledged", 3), (BEN, "pushed", 4)],
        [(ANN, "read", 1), (ANN, "acknowledged", 3), (BEN, "pushed", 4)],
        [(ANN, "read", 2), (BEN, "pushed", 4)],
        [],
    ]
    # The same once more says nothing new, and what does goes on.
    store.transact([[*writes, MarkDelivery(ROOM, ANN, "acknowledged", Position(4), Millis(9), Position(2))]])
    assert raw("SELECT count(*) FROM deliveries") == [(len(marks) + 1,)]
    assert ladders(store)[:2] == told[:2]
    store.close()


def test_the_public_line_of_a_log_from_before_the_line_covers_its_messages_of_version_1(
    path: Path, backups: Path
) -> None:
    saved = recorded("room_v1")
    headers = [fact.header for fact in saved]
    room = Room()
    for header in headers:
        room.apply(header)
    log = room.state.room
    bodiless = [NewFact(msgspec.structs.replace(header, body=None)) for header in headers]
    staged = stage(Append(log, Position(0), bodiless), EMPTY, bytes(16 * len(saved)))
    as_saved = [row._replace(v=fact.v, header=fact.data) for row, fact in zip(staged.facts, saved, strict=True)]
    _write_old(path, 5, replace(staged, facts=as_saved))
    store = SqliteStore(path, backups=backups)
    line = first_line(log, room.state.home)
    assert store.line_at(log, 0) == line
    posted = [each.event for each in headers if isinstance(each.event, MessagePosted)]
    for n, event in enumerate(each for each in posted if each.visibility is None):
        line = next_line(line, event.envelope)
        assert store.line_at(log, n + 1) == line
    assert store.shown_at(log, headers[-1].position) == room.state.shown
    assert room.state.shown.number < len(posted)
    store.close()


def _found(store: SqliteStore, **filters: Any) -> list[int]:
    page = store.page(ROOM, everything(ANN), Position(0), limit=9, max_bytes=999, skip_own=False, **filters)
    return [found.header.position for found in page.messages]


def _write_old(path: Path, version: int, written: Staged) -> None:
    """A file as Parler wrote it while its schema had this version."""
    index = Rows()
    counts = Counts()
    for header in written.headers:
        derive(index, written.room, header, counts)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for step, script in sorted(shipped_schema().scripts.items()):
            if step <= version:
                connection.executescript(script)
        log: list[tuple[Any, ...]] = []
        facts: list[tuple[Any, ...]]
        bodies: list[tuple[Any, ...]]
        if version == 1:
            facts = [(written.room, *row[:4], str(ANN), *row[4:]) for row in written.facts]
            bodies = [(written.room, *row) for row in written.bodies]
        else:
            log = [(1, written.room)]
            facts = [((1 << 32) + row.position, *row[1:]) for row in written.facts]
            bodies = [((1 << 32) + row.position, *row[1:]) for row in written.bodies]
        tables: tuple[tuple[str, Sequence[tuple[Any, ...]]], ...] = (
            ("meta", [("schema", str(version)), ("written_by", "0.0.1")]),
            ("fact_types", list(CURRENT_V.items())),
            ("logs", log),
            ("facts", facts),
            ("bodies", bodies),
            ("snapshots", [(written.room, 1, 1, b"old")] if version < 3 else []),
            *(
                (each.table, stored(each, index.of(each), {written.room: 1}))
                for each in PROJECTIONS
                if each.since <= version
            ),
            ("public_messages", [row[:6] for row in index.of(PUBLIC)] if version < 6 else []),
        )
        for table, rows in tables:
            for row in rows:
                connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)


def _shape(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name, sql FROM sqlite_schema ORDER BY name").fetchall()


def test_the_newest_backup_is_told_by_the_time_in_its_name(backups: Path) -> None:
    assert newest_backup(backups) is None
    backups.mkdir()
    for name in ("parler-schema-9-20230101T000000000.db", "parler-schema-10-20240101T000000000.db", "notes.db"):
        (backups / name).touch()
    assert newest_backup(backups) == backups / "parler-schema-10-20240101T000000000.db"
