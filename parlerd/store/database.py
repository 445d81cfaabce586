"""One SQLite file: its connections, its safety settings, and what its errors mean.

There is one writing connection, and a pool of reading connections that are lent to whichever thread reads. Not here:
tables and queries (`sqlite`), creating and upgrading (`upgrade`). Above: `sqlite`. Below: `upgrade`. Invariants: every
commit is on the disk before it is acknowledged (`synchronous=FULL`); no error of SQLite leaves this package
untranslated.
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
from parlerd.store.upgrade import Schema, bring_up_to_date, copy_whole, newest_backup, shipped_schema

log = logging.getLogger(__name__)

OLDEST_SQLITE: Final = (3, 37, 0)
"""The first SQLite with STRICT tables. Source: SQLite's release notes."""
BUSY_TIMEOUT_MS: Final = 5_000
"""How long a patient writer waits for another process that is writing."""
_OWN_CHECKPOINT_PAGES: Final = 8_000
"""How many pages the log must have before SQLite moves it into the file by itself, within a commit. The store calls
`checkpoint` long before that."""
_CACHED_STATEMENTS: Final = 640
"""How many prepared statements each connection keeps. A writer under load uses some 64 sizes of INSERT for each of the
busiest tables."""

Parameters = Sequence[Any] | Mapping[str, Any]

ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What Python's SQLite module raises. It raises UnicodeDecodeError where a damaged name or message is no UTF-8 text."""
_NO_TEXT: Final = "Could not decode to UTF-8"
"""How an error begins that the module raises, without a code, where a column is no UTF-8 text. Source: CPython,
Modules/_sqlite/cursor.c."""

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

    `max_pages` bounds the file as a full disk would, for tests. Raises `StoreError` with a `store_*` code or
    `newer_store`.
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
        """The folder of the copies that were made before upgrades."""
        self.damaged = False
        """Whether a read found damage. Nothing is written then, until the file is opened again."""
        self._busy_timeout_ms = busy_timeout_ms
        # The reading connections that no thread uses now. A deque, because threads take from it without a lock.
        self._idle: deque[sqlite3.Connection] = deque()
        self._closed = False
        # Whether the writing connection waits for another process that is writing: see `be_patient`.
        self._patient = True
        _make_private(path)
        try:
            self.writer = self._connect()
        except ERRORS as error:
            raise self.meaning(error) from error
        try:
            # WAL lets readers go on while the writer commits. FULL puts each commit on the disk before COMMIT returns.
            self.writer.execute("PRAGMA journal_mode = WAL")
            self.writer.execute("PRAGMA synchronous = FULL")
            # What is erased is not left in pages that are free; not every build of SQLite does so unasked.
            self.writer.execute("PRAGMA secure_delete = ON")
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
        """Close every connection that is not in use. The writer is closed last, and then moves the log into the
        file."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        self.writer.close()

    def be_patient(self, patient: bool) -> None:
        """Let the writer wait for another process that is writing, or else fail at once."""
        if patient is not self._patient:
            self.writer.execute(f"PRAGMA busy_timeout = {self._busy_timeout_ms if patient else 0}")
            self._patient = patient

    def checkpoint(self) -> None:
        """Move the log into the file, as far as no reader needs the log. If that fails, the log grows, and nothing
        else."""
        try:
            self.writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except ERRORS as error:
            log.warning("the log could not be moved into the file: %s", self.meaning(error).code)

    def empty_log(self) -> bool:
        """Move the whole log into the file and leave it empty; whether that was done. It is not done while somebody
        reads, and waits for nobody."""
        try:
            self.be_patient(False)
            busy, _, _ = self.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except ERRORS as error:
            log.warning("the log could not be emptied: %s", self.meaning(error).code)
            return False
        return not busy

    def copy(self, path: Path) -> None:
        """A whole copy of what is committed, by a connection of its own, which holds up no other."""
        try:
            connection = self._connect()
            try:
                copy_whole(connection, path)
            finally:
                connection.close()
        except ERRORS as error:
            raise self.meaning(error) from error

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
            # The connection that was given back last has its statements prepared and its pages in memory.
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
        """`error` as a `StoreError`. When it means a damaged file, `damaged` is set, which stops all writing."""
        # The low byte of SQLite's code is the kind of error; the other bytes tell cases of one kind apart.
        code: int | None = getattr(error, "sqlite_errorcode", None)
        name = _MEANING.get(code & 0xFF, "store_failed") if code is not None else "store_failed"
        if isinstance(error, UnicodeDecodeError) or (code is None and str(error).startswith(_NO_TEXT)):
            name = "store_corrupt"
        if name == "store_corrupt":
            return self.found_damage()
        return StoreError(name, sqlite=getattr(error, "sqlite_errorname", type(error).__name__), path=str(self.path))

    def found_damage(self) -> StoreError:
        """Note that something that was read cannot have been written so. From now on nothing is written, because nobody
        knows what else is wrong. Gives the error to raise."""
        damage = self.damage()
        if not self.damaged:
            log.error("%s: %s %s", damage.code, damage.message, damage.hint)
        self.damaged = True
        return damage

    def damage(self) -> StoreError:
        """The error for a damaged file, which says what to restore and how."""
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
        # REPLACE runs the triggers that guard rows only with the first of these. The second keeps a damaged schema from
        # running functions.
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection


def _make_private(path: Path) -> None:
    """Make the file if it is missing, and give it the mode 0600 in any case. SQLite gives its -wal and -shm files the
    same mode."""
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
