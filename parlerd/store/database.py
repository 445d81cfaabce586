"""One SQLite file: its connections, its safety settings, and what its errors mean.

Not here: tables and queries (`sqlite`), creating and upgrading (`upgrade`). One writing connection, and a pool of
reading ones that are lent to whichever thread reads. Invariant: every commit is on the disk before it is acknowledged
(`synchronous=FULL`), and no error of SQLite leaves this package untranslated.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from parlerd.core.errors import ParlerError, StoreError
from parlerd.store.upgrade import Schema, bring_up_to_date, newest_backup, shipped_schema

log = logging.getLogger(__name__)

OLDEST_SQLITE: Final = (3, 37, 0)
"""STRICT tables. Source: SQLite's release notes."""
BUSY_TIMEOUT_MS: Final = 5_000
_OWN_CHECKPOINT_PAGES: Final = 8_000
"""Where SQLite moves the log into the file by itself, within a commit. `checkpoint` is to come long before."""
_CACHED_STATEMENTS: Final = 640
"""For each connection. A writer under load uses some 64 sizes of INSERT for each of the busiest tables."""

Parameters = Sequence[Any] | Mapping[str, Any]

ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What SQLite's module raises: text that rotted is not UTF-8 any more, and in a name or a message it says so itself."""
_NO_TEXT: Final = "Could not decode to UTF-8"
"""How the module says it of a column, with an error that has no code. Source: CPython, Modules/_sqlite/cursor.c."""

_MEANING: Final[dict[int, str]] = {
    sqlite3.SQLITE_FULL: "store_full",
    sqlite3.SQLITE_BUSY: "store_locked",
    sqlite3.SQLITE_LOCKED: "store_locked",
    sqlite3.SQLITE_PROTOCOL: "store_locked",
    sqlite3.SQLITE_READONLY: "store_readonly",
    sqlite3.SQLITE_CANTOPEN: "store_readonly",
    sqlite3.SQLITE_PERM: "store_readonly",
    sqlite3.SQLITE_CORRUPT: "store_corrupt",
    sqlite3.SQLITE_NOTADB: "store_corrupt",
}


def wall_clock_ms() -> int:
    """Now, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Database:
    """The file at `path`, created 0600 if it is missing and brought up to `schema`.

    `max_pages` bounds the file as a full disk would. Raises `StoreError` with a `store_*` code or `newer_store`.
    """

    def __init__(
        self,
        path: Path,
        *,
        backups: Path,
        schema: Schema | None = None,
        busy_timeout_ms: int = BUSY_TIMEOUT_MS,
        max_pages: int | None = None,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(map(str, OLDEST_SQLITE))
            raise StoreError("store_failed", f"SQLite {needed} or newer is needed; here is {sqlite3.sqlite_version}.")
        self.path = path
        self.backups = backups
        self.damaged = False
        self._busy_timeout_ms = busy_timeout_ms
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        self._patient = True
        _make_private(path)
        try:
            self.writer = self._connect()
        except ERRORS as error:
            raise self.meaning(error) from error
        try:
            # WAL lets readers go on while the writer commits; FULL puts each commit on the disk before it is told.
            self.writer.execute("PRAGMA journal_mode = WAL")
            self.writer.execute("PRAGMA synchronous = FULL")
            self.writer.execute(f"PRAGMA wal_autocheckpoint = {_OWN_CHECKPOINT_PAGES}")
            bring_up_to_date(self.writer, schema or shipped_schema(), backups, now_ms)
            if max_pages is not None:
                self.writer.execute(f"PRAGMA max_page_count = {int(max_pages)}")
        except BaseException as error:
            self.writer.close()
            if isinstance(error, ERRORS):
                raise self.meaning(error) from error
            if isinstance(error, OSError):
                raise _file_error(backups, error) from error
            raise

    def close(self) -> None:
        """Close every connection that is not in use, the writer last: it moves the log into the file."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        self.writer.close()

    def be_patient(self, patient: bool) -> None:
        """Whether the writer waits for another process that is writing, or fails at once."""
        if patient is not self._patient:
            self.writer.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms if patient else 0}")
            self._patient = patient

    def checkpoint(self) -> None:
        """Move the log into the file, as far as no reader needs it. If that fails the log only grows."""
        try:
            self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except ERRORS as error:
            log.warning("the log could not be moved into the file: %s", self.meaning(error).code)

    def rows(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """All rows of a read, on a reading connection."""
        try:
            connection = self.borrow()
            try:
                return connection.execute(sql, parameters).fetchall()
            finally:
                self.give_back(connection)
        except ERRORS as error:
            raise self.meaning(error) from error

    def row(self, sql: str, parameters: Parameters = ()) -> Any:
        """The first row of a read, or None."""
        try:
            connection = self.borrow()
            try:
                return connection.execute(sql, parameters).fetchone()
            finally:
                self.give_back(connection)
        except ERRORS as error:
            raise self.meaning(error) from error

    def borrow(self) -> sqlite3.Connection:
        """A reading connection for the calling thread alone, until it gives it back."""
        try:
            # The last one given back: its statements are prepared and its pages are warm.
            return self._idle.pop()
        except IndexError:
            if self._closed:
                raise StoreError("store_failed", "The store is closed.") from None
            connection = self._connect()
            connection.execute("PRAGMA query_only = ON")
            return connection

    def give_back(self, connection: sqlite3.Connection) -> None:
        """Return a connection to the pool."""
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def meaning(self, error: Exception) -> StoreError:
        """`error` as one of ours. A damaged file is remembered: `damaged` refuses further writes."""
        # The low byte is the kind; the rest says which of its cases.
        code: int | None = getattr(error, "sqlite_errorcode", None)
        name = _MEANING.get(code & 0xFF, "store_failed") if code is not None else "store_failed"
        if isinstance(error, UnicodeDecodeError) or (code is None and str(error).startswith(_NO_TEXT)):
            name = "store_corrupt"
        if name == "store_corrupt":
            return self.found_damage()
        return StoreError(name, sqlite=getattr(error, "sqlite_errorname", type(error).__name__), path=str(self.path))

    def found_damage(self) -> StoreError:
        """Note that what was read cannot be what was written, whoever noticed: from here on nothing more is written,
        for what else is wrong is not known. The answer to raise."""
        damage = self.damage()
        if not self.damaged:
            log.error("%s: %s %s", damage.code, damage.message, damage.hint)
        self.damaged = True
        return damage

    def damage(self) -> StoreError:
        """The answer of a damaged file: what to restore and how."""
        backup = newest_backup(self.backups)
        if backup is None:
            hint = f"There is no backup. Stop the daemon and keep a copy of {self.path} before anything else."
            return StoreError("store_corrupt", hint=hint, path=str(self.path), backup=None)
        restore = f"cp {backup} {self.path} && rm -f {self.path}-wal {self.path}-shm"
        hint = f"Run `parler daemon stop`, keep a copy of {self.path}, then run: {restore}"
        return StoreError("store_corrupt", hint=hint, path=str(self.path), backup=str(backup), restore=restore)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=self._busy_timeout_ms / 1000,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_CACHED_STATEMENTS,
        )
        # So that REPLACE runs the triggers that guard rows, and a damaged schema cannot run functions.
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def _make_private(path: Path) -> None:
    """Make the file if it is missing, 0600 in any case: SQLite gives its -wal and -shm the same mode."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            found = os.fstat(descriptor)
            if found.st_uid != os.geteuid():
                raise ParlerError("home_unsafe", f"{path} belongs to another user.", path=str(path))
            if found.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ParlerError("home_unsafe", f"{path} is a symlink.", path=str(path)) from error
        raise _file_error(path, error) from error


def _file_error(path: Path, error: OSError) -> StoreError:
    code = "store_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store_readonly"
    return StoreError(code, f"{path} cannot be written: {error.strerror}.", path=str(path))
