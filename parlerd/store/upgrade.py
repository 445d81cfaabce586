"""The shape of the database file: creating it, and bringing an older file up to date without risk.

Not here: what the tables mean (`schema/*.sql`). Above: `parlerd.store.database`. Below: `indexing`, `searching` and
`statements`, for the rows of indexes that are newer than the file. Invariants: a file of an older schema is first
copied (SQLite's online backup, 0600, on the disk) and then changed in one transaction, so it is either the old file or
the new one; a file of a newer schema is refused and left alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import parlerd
from parlerd.core.errors import Refused, StoreError
from parlerd.core.events import CURRENT_V, decode_header
from parlerd.core.model import RoomId
from parlerd.store.indexing import PROJECTIONS, Counts
from parlerd.store.searching import add_missing
from parlerd.store.statements import insertion, on_conflict, stored

_CHUNK: Final = 1_000
"""How many facts are read at a time."""
_MEMORY_SINCE: Final = 11
"""The schema that made the index of what rooms remember as it is."""
_INDEXED_AT_ONCE: Final = 5_000
"""How many messages an upgrade puts in that index, in a third of a second (measured): all that most homes have. The
rest is put in while the daemon runs."""
_FOLDER: Final = Path(__file__).parent / "schema"
_BACKUP_PREFIX: Final = "parler-schema-"


Fill = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class Schema:
    """The steps to today's tables. `scripts[n]` is the SQL that leads from schema n-1 to n; the first starts from an
    empty file. In a file that has facts already, `fills[n]` then makes the rows that SQL cannot read out of headers.
    All scripts run before the first fill, so a fill finds the tables as the last script left them."""

    scripts: Mapping[int, str]
    fills: Mapping[int, Fill] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return max(self.scripts)


def shipped_schema() -> Schema:
    """The schema of this program. The rows of an index that came with a later schema are made from the facts."""
    scripts = {int(path.stem): path.read_text(encoding="utf-8") for path in _FOLDER.glob("*.sql")}
    later = {each.since for each in PROJECTIONS if each.since > 1}
    fills: dict[int, Fill] = {version: partial(_fill, since=version) for version in later}
    fills[_MEMORY_SINCE] = partial(add_missing, limit=_INDEXED_AT_ONCE)
    return Schema(scripts, fills)


def _fill(connection: sqlite3.Connection, *, since: int) -> None:
    """Make the rows of every index that came with schema `since`."""
    indexes = [projection for projection in PROJECTIONS if projection.since == since]
    inserts = [insertion(each.table, len(each.columns), 1, on_conflict(each)) for each in indexes]
    of = [{str(event.__struct_config__.tag) for event in each.of} for each in indexes]
    types = set().union(*of) if all(of) else set()
    numbers = dict(connection.execute("SELECT room, number FROM logs"))
    counted: dict[RoomId, Counts] = {}
    facts = connection.execute(
        "SELECT l.room, f.type, f.header FROM facts f JOIN logs l ON l.number = f.log ORDER BY f.id"
    )
    while chunk := facts.fetchmany(_CHUNK):
        rows: list[list[tuple[Any, ...]]] = [[] for _ in indexes]
        for room, kind, fact in chunk:
            if types and kind not in types:
                continue
            try:
                header = decode_header(fact)
            except Refused:
                continue  # a newer Parler wrote this fact, and will make its rows
            counts = counted.setdefault(room, Counts())
            for place, projection in enumerate(indexes):
                if not of[place] or kind in of[place]:
                    projection.derive(rows[place], room, header, counts)
        for projection, insert, made in zip(indexes, inserts, rows, strict=True):
            connection.executemany(insert, stored(projection, made, numbers))


def bring_up_to_date(
    connection: sqlite3.Connection, schema: Schema, backups: Path, now_ms: Callable[[], int]
) -> Path | None:
    """Create the file behind `connection`, or upgrade it to `schema`. Gives the backup that was made, if one was
    needed.

    Raises `StoreError(newer_store)` for a newer schema, and lets `sqlite3.Error` pass, with the file unchanged.
    """
    found = _version(connection)
    backup: Path | None = None
    if found > schema.version:
        needs = _meta(connection, "written_by") or "a newer version"
        raise StoreError(
            "newer_store",
            f"The database has schema {found}, written by Parler {needs}; this is Parler {parlerd.__version__}.",
            hint=f"Upgrade this install to Parler {needs} or newer.",
            schema=found,
            known=schema.version,
            needs=needs,
        )
    if 0 < found < schema.version:
        backup = back_up(connection, backups, found, now_ms())
    if found < schema.version:
        _atomically(connection, schema, found)
    _allow_types(connection)
    return backup


def back_up(connection: sqlite3.Connection, backups: Path, schema: int, now_ms: int) -> Path:
    """A whole copy of the database in `backups`, 0600 and on the disk before this returns."""
    backups.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%S%f")[:-3]
    path = backups / f"{_BACKUP_PREFIX}{schema}-{stamp}.db"
    copy_whole(connection, path)
    return path


def copy_whole(connection: sqlite3.Connection, path: Path) -> None:
    """A whole copy of the database at `path`, 0600 and on the disk before this returns. Raises `FileExistsError` rather
    than replace a file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)
        os.fsync(descriptor)
    except BaseException:
        # Half a copy must never be taken for a backup.
        path.unlink()
        raise
    finally:
        os.close(descriptor)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def newest_backup(backups: Path) -> Path | None:
    """The backup that was made last, by the time in its name."""
    found = [path for path in backups.glob(f"{_BACKUP_PREFIX}*.db") if path.is_file()]
    return max(found, key=lambda path: path.stem.rpartition("-")[2], default=None)


def _version(connection: sqlite3.Connection) -> int:
    if connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is None:
        return 0
    text = _meta(connection, "schema")
    if text is None or not text.isdigit():
        raise StoreError("store_corrupt", "The file is a database, but not one of Parler's.")
    return int(text)


def _meta(connection: sqlite3.Connection, key: str) -> str | None:
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'meta'").fetchone()
    if known is None:
        return None
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _atomically(connection: sqlite3.Connection, schema: Schema, found: int) -> None:
    steps = [step for step in sorted(schema.scripts) if step > found]
    # The script holds its own BEGIN, because `executescript` would otherwise commit each statement by itself.
    try:
        connection.executescript("\n".join(["BEGIN EXCLUSIVE;", *(schema.scripts[step] for step in steps)]))
        for step in steps:
            if found and step in schema.fills:
                schema.fills[step](connection)
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [("schema", str(schema.version)), ("written_by", parlerd.__version__)],
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _allow_types(connection: sqlite3.Connection) -> None:
    known = dict(connection.execute("SELECT type, v FROM fact_types"))
    missing = [(kind, v) for kind, v in CURRENT_V.items() if known.get(kind, 0) < v]
    if missing:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO fact_types VALUES (?, ?) ON CONFLICT (type) DO UPDATE SET v = excluded.v", missing
        )
        connection.execute("COMMIT")
