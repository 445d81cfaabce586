"""The connections to one PostgreSQL server: one that writes and at most four that read, how each is set, and what the
server's errors mean.

A connection is opened when it is first needed, and again after it broke. Not here: tables and queries (`store`), and
which server is good enough (`opening`). Above: `opening`, `writing`, `store`. Invariants: a commit is on the server's
disk before it is acknowledged, whatever a role or a database sets for itself; no error of the driver leaves this
package untranslated; a password stands in no error, representation or log.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from parlerd.core.errors import StoreError
from parlerd.store.postgres.tables import teach

log = logging.getLogger(__name__)

READERS: Final = 4
"""How many connections read at the same time. One more thread that reads waits until another is done."""
ANSWER_MS: Final = 10_000
"""How long the server may take for one answer. `statement_timeout` does not end the wait of a commit for a standby, so
the wait for a commit has the same bound on this side."""

_SCHEMES: Final = ("postgresql://", "postgres://")
_SETTINGS: Final = "; ".join(
    f"SET {name} = {value}"
    for name, value in (
        # A role or a database may have other defaults. With the isolation of another level a batch would decide by what
        # it saw before it had its locks.
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "'read committed'"),
        ("statement_timeout", ANSWER_MS),
        ("lock_timeout", 3_000),
        # That nobody waits for a standby any more is said in a warning (`commit`).
        ("client_min_messages", "warning"),
        # Frees the rows of a writer that was stopped in the middle of a transaction.
        ("idle_in_transaction_session_timeout", 1_000),
        # The queries are short; compiling one would take longer than running it.
        ("jit", "off"),
    )
)
_PARAMETERS: Final[dict[str, str | int]] = {
    "application_name": "parler",
    "client_encoding": "UTF8",
    "connect_timeout": 5,
    # A server that is gone without a word is noticed after about ten seconds, like one that does not answer.
    "keepalives": 1,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": ANSWER_MS,
}

_BACKEND: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
# One row where the backend is still there: whether it has ended now. A process of a later time with the same number is
# another one. A role may end what it began itself.
_END: Final = """
    SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
     WHERE pid = %s::bigint AND backend_start = %s"""
_IS_THERE: Final = "SELECT 1 FROM pg_stat_activity WHERE pid = %s::bigint AND backend_start = %s"

T = TypeVar("T")


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that does not wait for ever. A server that stands still, or a cable that was cut, says nothing, and
    so ends no statement itself."""

    patience_s: float | None = (ANSWER_MS + 2_000) / 1000
    """How long it waits for one answer; None while a statement may take as long as tables are large. The server ends a
    statement before."""

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                # The answer may still come, to whatever would be asked next.
                self.pgconn.finish()
            raise

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let the statements of the transaction that has begun take as long as they do."""
        self.execute("SET LOCAL statement_timeout = 0")
        self.patience_s = None
        try:
            yield
        finally:
            del self.patience_s


_MEANING: Final = {
    "53100": ("store_full", "The disk of the PostgreSQL server is full; nothing was stored."),
    "25006": ("store_readonly", "The PostgreSQL server takes no writes: it is a standby, or was set so."),
    "42501": ("store_readonly", "The role of the URL may not do this in the database."),
    "40001": ("store_locked", "Others wrote at the same time, again and again."),
    "40P01": ("store_locked", "Others wrote at the same time, again and again."),
    "55P03": ("store_locked", "Another program holds rows of the database."),
    "53300": ("store_unreachable", "The PostgreSQL server has no free connection."),
    "57014": ("store_failed", "The PostgreSQL server did not answer in time."),
    "3D000": ("store_failed", "There is no database of that name at the PostgreSQL server."),
    "28000": ("store_failed", "The PostgreSQL server refuses the role of the URL."),
    "28P01": ("store_failed", "The PostgreSQL server refuses the role of the URL or its password."),
}
"""What errors of the server mean, by their SQLSTATE. Source: PostgreSQL 15, appendix A."""
_LET_IN: Final = (
    ("too many", "53300"),
    ("connection slots", "53300"),
    ("permission denied", "42501"),
    ("password authentication failed", "28P01"),
    ("no pg_hba.conf entry", "28000"),
    ('database "', "3D000"),
    ('role "', "28000"),
)
"""Words of the sentences with which a server lets nobody in, and the SQLSTATE that the driver leaves out there; the
first counts. A server that speaks another language than English just cannot be reached. Source: PostgreSQL, postinit.c,
auth.c."""
_DAMAGED: Final = frozenset({"XX001", "XX002"})
RETRIED: Final = frozenset({"40001", "40P01"})
"""Errors after which the same transaction may work: a serialization failure, a deadlock."""


class LostAnswer(Exception):
    """Nobody can know whether a commit happened."""


class Server:
    """The server and database of `url`. Raises `StoreError(invalid_settings)` for what is no URL of a database; nothing
    is connected yet."""

    def __init__(self, url: str) -> None:
        if not url.startswith(_SCHEMES):
            raise StoreError("invalid_settings", f"The URL of a database begins with {_SCHEMES[0]}.")
        try:
            self._conninfo = make_conninfo(url, **_PARAMETERS)
            known = conninfo_to_dict(url)
        except psycopg.Error:
            # The driver's own sentence may repeat a part of the URL, and so the password.
            raise StoreError("invalid_settings", "The URL of the database cannot be read.") from None
        self.name = f"{known.get('dbname') or ''} at {known.get('host') or 'this machine'}"
        """The database and the server, for people."""
        self.damaged = False
        """Whether a read found damage. Nothing is written then, until the store is opened again."""
        self._writer: Connection | None = None
        # The server's process behind the writing connection, and when it began; and the one whose last commit may or
        # may not have happened.
        self._backend: tuple[Any, ...] | None = None
        self._lost: tuple[Any, ...] | None = None
        self._settling = threading.Lock()
        # The reading connections that no thread uses now.
        self._idle: deque[Connection] = deque()
        self._free = threading.BoundedSemaphore(READERS)
        self._closed = False

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    # -- connections ---------------------------------------------------------------------------------------

    @property
    def writer(self) -> Connection:
        """The connection of the thread that writes. Raises `StoreError`."""
        if self._writer is None or self._writer.closed:
            if self._lost is not None:
                self._settle()
            self._writer = self._connect()
            try:
                self._backend = self._writer.execute(_BACKEND).fetchone()
            except psycopg.Error as error:
                self.drop_writer()
                raise self.meaning(error) from None
        return self._writer

    @property
    def writer_if_open(self) -> Connection | None:
        """The same, where it is open."""
        return None if self._writer is None or self._writer.closed else self._writer

    def lose_writer(self) -> None:
        """Close the writing connection, whose last commit may or may not have happened. Whatever is asked next waits
        until that is settled."""
        self._lost = self._backend
        self.drop_writer()

    def drop_writer(self) -> None:
        """Close the writing connection; the next use opens another."""
        if self._writer is not None:
            with suppress(psycopg.Error):
                self._writer.close()
            self._writer = None

    def ask(self, work: Callable[[Connection], T]) -> T:
        """What `work` reads over a connection of its own. It is done twice where the connection had broken while nobody
        used it. Raises `StoreError`."""
        if self._lost is not None:
            self._settle()
        if not self._free.acquire(timeout=ANSWER_MS / 1000):
            raise StoreError("store_locked", "All connections that read are in use.")
        try:
            while True:
                fresh = not self._idle
                try:
                    connection = self._connect() if fresh else self._idle.pop()
                except IndexError:
                    continue
                try:
                    answer = work(connection)
                except psycopg.Error as error:
                    if not connection.closed:
                        # The driver may take a statement for prepared that the server passed over after the error.
                        connection.close()
                        raise self.meaning(error) from None
                    # The others of the same age broke with this one.
                    self._drop_idle()
                    if fresh:
                        raise self.meaning(error) from None
                except BaseException:
                    self._give_back(connection)
                    raise
                else:
                    self._give_back(connection)
                    return answer
        finally:
            self._free.release()

    def rows(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows of a read."""
        if not can_be(*_values(parameters)):
            return []
        return self.ask(lambda connection: connection.execute(sql, parameters, binary=True).fetchall())

    def row(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> Any:
        """The first row of a read, or None."""
        if not can_be(*_values(parameters)):
            return None
        return self.ask(lambda connection: connection.execute(sql, parameters, binary=True).fetchone())

    def slowly(self, sql: str) -> list[Any]:
        """All rows of a read that may take as long as the tables are large."""

        def work(connection: Connection) -> list[Any]:
            with connection.transaction(), connection.unhurried():
                return connection.execute(sql, binary=True).fetchall()

        return self.ask(work)

    def together(self, asked: Sequence[tuple[str, dict[str, Any]]]) -> list[list[Any]]:
        """All rows of several reads, in one way to the server and back."""

        def work(connection: Connection) -> list[list[Any]]:
            with connection.pipeline():
                cursors = [connection.execute(sql, parameters, binary=True) for sql, parameters in asked]
            # Within the pipeline the first of these would be a way to the server of its own.
            return [cursor.fetchall() for cursor in cursors]

        return self.ask(work)

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._closed = True
        self._drop_idle()
        self.drop_writer()

    def _settle(self) -> None:
        """Wait until the backend has ended that was committing when its connection broke. Until then its commit may
        still happen, whatever can be read: it may wait for a standby, or for the disk."""
        with self._settling:
            if self._lost is None:
                return
            connection = self._connect()
            try:
                row = connection.execute(_END, self._lost).fetchone()
                # It may have ended between being seen and being told to; then it could not be told.
                is_there = row is not None and not row[0] and connection.execute(_IS_THERE, self._lost).fetchone()
            except psycopg.Error as error:
                raise self.meaning(error) from None
            finally:
                connection.close()
            if is_there:
                raise StoreError("store_locked", "The PostgreSQL server is still busy with a commit.")
            self._lost = None

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _connect(self) -> Connection:
        if self._closed:
            raise StoreError("store_failed", "The store is closed.")
        try:
            connection = Connection.connect(self._conninfo, autocommit=True)
            try:
                connection.execute(_SETTINGS)
                teach(connection)
            except BaseException:
                connection.close()
                raise
        except psycopg.Error as error:
            raise self.meaning(error) from None
        return connection

    # -- errors --------------------------------------------------------------------------------------------

    def meaning(self, error: psycopg.Error) -> StoreError:
        """`error` as a `StoreError`. When it means damage, `damaged` is set, which stops all writing. What the driver
        says is left out: it may repeat the URL, or the words of a row."""
        state = error.sqlstate or _why_not_let_in(str(error))
        if state in _DAMAGED:
            return self.found_damage()
        if state in _MEANING:
            code, sentence = _MEANING[state]
            return StoreError(code, sentence, sqlstate=state, database=self.name)
        if isinstance(error, psycopg.OperationalError) and (state is None or state[:2] in ("08", "57")):
            return StoreError("store_unreachable", sqlstate=state, database=self.name)
        return StoreError("store_failed", sqlstate=state or type(error).__name__, database=self.name)

    def found_damage(self) -> StoreError:
        """Note that something that was read cannot have been written so. From now on nothing is written, because nobody
        knows what else is wrong. Gives the error to raise."""
        damage = self.damage()
        if not self.damaged:
            log.error("%s: %s %s", damage.code, damage.message, damage.hint)
        self.damaged = True
        return damage

    def damage(self) -> StoreError:
        """The error for a damaged database."""
        hint = "Stop the relay, keep a copy of the database before anything else, and restore the newest good one."
        return StoreError("store_corrupt", hint=hint, database=self.name)


def can_be(*values: object) -> bool:
    """Whether these can stand in the database. No text there has the character 0, so what is asked for by one that has
    it is not there."""
    return not any(isinstance(value, str) and "\0" in value for value in values)


def _values(parameters: Sequence[Any] | dict[str, Any]) -> Iterable[Any]:
    return parameters.values() if isinstance(parameters, dict) else parameters


def _why_not_let_in(said: str) -> str | None:
    """The SQLSTATE with which a server let nobody in, by what it said."""
    _, _, fatal = said.partition("FATAL:  ")
    return next((state for words, state in _LET_IN if words in fatal), None)


def commit(connection: Connection, *, within_ms: int = ANSWER_MS) -> None:
    """Commit what the connection has begun.

    Raises `LostAnswer` when nobody can know whether that happened: the connection broke, the answer did not come in
    time, or the server stopped waiting for its standby, which it says in a warning and answers like a success. Raises
    `psycopg.Error` when nothing happened.
    """
    warned: list[str] = []

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        warned.append(diagnostic.sqlstate or "")

    connection.add_notice_handler(hear)
    try:
        result = _answer(connection.pgconn, b"COMMIT", time.monotonic() + within_ms / 1000)
    except psycopg.OperationalError:
        raise LostAnswer from None
    finally:
        connection.remove_notice_handler(hear)
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    severity = result.error_field(pq.DiagnosticField.SEVERITY_NONLOCALIZED)
    if severity in (b"FATAL", b"PANIC") or connection.pgconn.status == pq.ConnStatus.BAD or warned:
        raise LostAnswer
    if result.status != pq.ExecStatus.COMMAND_OK:
        raise psycopg.errors.lookup(state)("the server refused to commit") if state else psycopg.DatabaseError()
    if result.command_status != b"COMMIT":
        raise psycopg.errors.InFailedSqlTransaction("the transaction had failed")


def _answer(connection: pq.abc.PGconn, query: bytes, deadline: float) -> pq.abc.PGresult:
    """The server's answer to one query. Raises `psycopg.OperationalError` when there is none by the deadline."""
    connection.send_query(query)
    poller = select.poll()
    flushed = connection.flush() == 0
    poller.register(connection.socket, select.POLLIN | (0 if flushed else select.POLLOUT))
    found: pq.abc.PGresult | None = None
    while True:
        while connection.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise psycopg.OperationalError("no answer in time")
            connection.consume_input()
            if not flushed and connection.flush() == 0:
                flushed = True
                poller.modify(connection.socket, select.POLLIN)
        result = connection.get_result()
        if result is None:
            break
        found = found or result
    if found is None:
        raise psycopg.OperationalError("no answer")
    return found
