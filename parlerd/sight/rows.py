"""The record of a host that keeps its conversations in a database of SQLite, read beside the host that writes it.

Not here: what an entry means (`core.judge`), when it is read (`trail`, `snapshots`). Above: `trail`. Below: `core`,
`sqlite3`. Invariants: the database is opened for reading alone, each time anew, and never waited for, and no file is
made beside one that its host has closed; a query takes at most `MAX_STEPS` steps and is asked for a bounded number of
rows; what is broken in the file is told as unreadable.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

from parlerd.core.judge import Answer, decoded
from parlerd.core.records import Record
from parlerd.core.sight import MARKED, MARKER
from parlerd.sight.snapshots import Unreadable

BACK: Final = 200
"""How many of the newest parts may be older than what is waited for. The part of a call is made before the call, and
changed when it has its result; parallel calls and what the model said beside them are made in between."""
MAX_ROWS: Final = 2_000
"""Entries that are read of one conversation, from the message with the result on. Up to the reply there are some
ten."""
MAX_STEPS: Final = 2_000_000
"""Steps of SQLite's machine in one query, some tenth of a second."""
MAX_DATA: Final = 4 * 1024 * 1024
"""Bytes of one row, as of a line."""
MAX_READ: Final = 32 * 1024 * 1024
"""Bytes of all rows that one look keeps, which are decoded meanwhile. Of a conversation with more nothing is proved."""
MAX_VALUE: Final = 64 * 1024 * 1024
"""Bytes of any value that SQLite takes into memory, as it has to for the length of a text. A file with a longer one
among the rows that are looked at is not read."""
_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT)

_WITH_LOG_AT: Final = 18
"""Where the header of a database says how it is written and read."""
_WITH_LOG: Final = b"\2\2"
"""It is written and read with a log beside it (WAL)."""
_FUNCTIONS: Final = ("instr", "length", "max")


class Database:
    """A `Source` in one file."""

    def __init__(self, record: Record, path: str) -> None:
        rows = record.rows
        assert rows is not None, "`records.check` wants them"
        messages, parts = _named(rows.messages), _named(rows.parts)
        self._path = path
        self._tables = (rows.messages, rows.parts)
        self._floors: dict[Answer, int] = {}
        """Of each answer, the number of the newest part that can hold no result of it. An answer waits for ten minutes
        at most, so what is looked through does not grow with the age of the record."""
        # The names are those of a description, and checked.
        self._newest = f"SELECT max(rowid) FROM {parts}"  # noqa: S608
        self._holding = (
            f"SELECT session_id, message_id, data FROM {parts}"  # noqa: S608
            " WHERE rowid > ? AND length(data) <= ? AND instr(data, ?) > 0 ORDER BY rowid DESC LIMIT ?"
        )
        self._following = (
            "SELECT m.id, m.data, p.id, p.data"  # noqa: S608
            f" FROM {messages} m LEFT JOIN {parts} p ON p.message_id = m.id AND length(p.data) <= ?"
            " WHERE m.session_id = ? AND m.id >= ? ORDER BY m.id, p.id LIMIT ?"
        )

    def entries(self, descriptor: int, size: int, answers: Sequence[Answer]) -> Iterable[Any] | None:
        del size
        closed = self._closed(descriptor)
        try:
            with closing(self._open(is_closed=closed is not None)) as database:
                found = self._read(database, answers)
        except sqlite3.Error as error:
            is_locked = getattr(error, "sqlite_errorcode", 0) & 0xFF in _LOCKED
            if is_locked or (closed is not None and self._closed(descriptor) != closed):
                return None
            raise Unreadable("record_unreadable") from None
        except (UnicodeDecodeError, OverflowError, MemoryError):
            raise Unreadable("record_unreadable") from None
        # What somebody wrote to meanwhile was read without a lock, and says nothing.
        return found if closed is None or self._closed(descriptor) == closed else None

    def _closed(self, descriptor: int) -> tuple[int, int] | None:
        """The length of the file and when it was last written to, where it is a database with a log beside it while
        somebody has it open, and there is no log; else nothing."""
        try:
            if os.pread(descriptor, len(_WITH_LOG), _WITH_LOG_AT) != _WITH_LOG or os.path.lexists(f"{self._path}-wal"):
                return None
            status = os.fstat(descriptor)
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns

    def _open(self, *, is_closed: bool) -> sqlite3.Connection:
        # To read a database that nobody has open, SQLite would make a log and an index of it, and leave both.
        how = "mode=ro&immutable=1" if is_closed else "mode=ro"
        database = sqlite3.connect(
            f"file:{quote(self._path)}?{how}", uri=True, timeout=0, isolation_level=None, check_same_thread=False
        )
        steps = [MAX_STEPS // 1_000]

        def spent() -> int:
            steps[0] -= 1
            return int(steps[0] < 0)

        database.set_progress_handler(spent, 1_000)
        database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
        database.execute("PRAGMA query_only = ON")
        # A file that somebody else made must not run anything of its own while it is read. `trusted_schema` would say
        # so, but then Kilo's file, which has an index over `json_extract`, is not read at all.
        database.set_authorizer(self._may)
        return database

    def _may(self, act: int, one: str | None, other: str | None, _of: str | None, by: str | None) -> int:
        """Whether a statement may do this; nothing may be done by a view or a trigger."""
        match act:
            case sqlite3.SQLITE_SELECT | sqlite3.SQLITE_TRANSACTION:
                allowed = True
            case sqlite3.SQLITE_READ:
                allowed = one in self._tables
            case sqlite3.SQLITE_FUNCTION:
                allowed = other in _FUNCTIONS
            case _:
                allowed = False
        return sqlite3.SQLITE_OK if allowed and by is None else sqlite3.SQLITE_DENY

    def _read(self, database: sqlite3.Connection, answers: Sequence[Answer]) -> list[Any]:
        database.execute("BEGIN")  # every query sees the same moment
        if any(answer not in self._floors for answer in answers):
            ((newest,),) = database.execute(self._newest).fetchall()
            floor = (newest if isinstance(newest, int) else 0) - BACK
            self._floors = {answer: self._floors.get(answer, floor) for answer in answers}
        markers = {marker for answer in answers for marker in answer.left}
        starts: dict[Any, str] = {}
        if not markers:
            return []
        # One pass for all markers, of which a page has many.
        lowest = min(self._floors[answer] for answer in answers)
        for session, message, data in database.execute(self._holding, (lowest, MAX_DATA, MARKED, MAX_ROWS)):
            text = data.decode(errors="replace") if isinstance(data, bytes) else data
            # Any column may hold a value of any type.
            if isinstance(text, str) and isinstance(message, str) and not markers.isdisjoint(MARKER.findall(text)):
                starts[session] = min(starts.get(session, message), message)
        left = [MAX_READ]
        return [entry for place in starts.items() for entry in self._entries(database, *place, left)]

    def _entries(self, database: sqlite3.Connection, session: Any, message: str, left: list[int]) -> Iterable[Any]:
        """The entries of a session from a message on, of which `left` bytes are still kept."""
        kept: dict[Any, Any] = {}
        for of, said, id, part in database.execute(self._following, (MAX_DATA, session, message, MAX_ROWS)):
            left[0] -= _size(part) + (0 if of in kept else _size(said))
            if left[0] < 0:
                raise Unreadable("too_long")
            if of not in kept:
                kept[of] = _json(said)
            yield {"session": session, "of": of, "id": id, "message": kept[of], "part": _json(part)}


def _size(data: Any) -> int:
    return len(data) if isinstance(data, str | bytes) else 0


def _json(data: Any) -> Any:
    match data:
        case str():
            return decoded(data.encode("utf-8", "surrogatepass"))
        case bytes():
            return decoded(data)
        case _:
            return None


def _named(table: str) -> str:
    if not table.isidentifier():
        raise ValueError(f"{table!r} is no name of a table")
    return f'"{table}"'
