"""The store in one SQLite file, which every home uses.

Writing takes few, large statements, because the thread that writes shares one interpreter with the event loop, and may
have to wait for the interpreter at each statement. Reading relies on facts being append-only: whatever stands in a log
up to a head that was read never changes, so the queries of one read need no transaction around them.

Above: `parlerd.engine`. Below: `database` (connections, errors), `staging` (checks, digests), `indexing`, `numbering`.
Invariant: a transaction happens as a whole or not at all, and after any failure the connection is clean.
"""

from __future__ import annotations

import hashlib
import heapq
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec

from parlerd.core.errors import Refused, StoreError
from parlerd.core.events import Header, brought, decode_header, is_remembered
from parlerd.core.model import (
    AgentId,
    BlobId,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    RoomId,
    Shown,
    View,
)
from parlerd.core.recall import Term
from parlerd.store.batching import Batch, Noted, Room, Sources, noted
from parlerd.store.checking import (
    COUNTS,
    ERASED_BODY,
    MISCOUNTED_KINDS,
    MISCOUNTED_MESSAGES,
    MISSING_FACTS,
    NO_WORDS,
    STRAY_BODY,
    UNKNOWN_TYPE,
    remade,
    wrong_lines,
    wrong_snapshots,
)
from parlerd.store.database import BUSY_TIMEOUT_MS, ERRORS, Database, wall_clock_ms
from parlerd.store.deleting import DELETED, LOG, UNCLEARED, bury, hide
from parlerd.store.deleting import clear as clear_room
from parlerd.store.indexing import ANYBODY, MEMBERSHIPS, PROJECTIONS, Counts, derive, line_before
from parlerd.store.judging import first_unchained, whole_snapshot
from parlerd.store.memo import Memo
from parlerd.store.numbering import Numbering, Tally
from parlerd.store.paging import Found, Paged, Wanted
from parlerd.store.port import (
    START,
    Cursor,
    Delivery,
    DropEpochSecrets,
    DropFileSeals,
    DropKeyExchange,
    DropLease,
    DropOutbox,
    DropRenewal,
    DropSealingKeys,
    EpochSecretRow,
    FileSealRow,
    ForgetMarks,
    Head,
    Held,
    JobOutcome,
    KeyExchangeRow,
    KeyTriesRow,
    Lease,
    MadeRecordRow,
    Membership,
    NewFact,
    OutboxRow,
    Past,
    PutEpochSecret,
    PutFileSeal,
    PutKeyExchange,
    PutKeyTries,
    PutLease,
    PutMadeRecord,
    PutOutbox,
    PutRenewal,
    PutSealingKey,
    PutSight,
    Receipted,
    Remembered,
    SealingKeyRow,
    Snapshot,
    UsedKey,
    Write,
    past_one_by_one,
    prior_by_id,
)
from parlerd.store.searching import (
    BY_TERMS,
    IS_LEFT,
    NEWEST,
    NEWEST_MISSING,
    clear,
    forget,
    matching,
    note,
    tend,
)
from parlerd.store.several import OneByOne
from parlerd.store.staging import EMPTY, MESSAGE, NO_CHAIN
from parlerd.store.statements import insertion, on_conflict, stored
from parlerd.store.upgrade import Schema

log = logging.getLogger(__name__)

_MAX_CACHED_ROOMS: Final = 4_096
"""How many rooms the writer remembers between transactions."""
_REBUILD_CHUNK: Final = 5_000
"""How many facts of a room are read at a time to make the index anew."""
_CHECKPOINT_PAGES: Final = 1_000
"""About how many pages SQLite's log may hold before they are moved into the file. This is SQLite's own default; a
larger number made no commit faster (measured)."""
_MAX_INSERT: Final = 64
"""How many rows one INSERT holds. A statement is prepared once for each table and number of rows, and kept; see
`database`."""


class SqliteStore(Paged, OneByOne):
    """`FileStore` over the file at `path`; the copies that are made before an upgrade go to `backups`.

    One thread at a time writes, and others that want to write wait for it; any thread may read. Opening a store raises
    `StoreError` as `Database` does.
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
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database = Database(
            path,
            backups=backups,
            schema=schema,
            busy_timeout_ms=busy_timeout_ms,
            max_pages=max_pages,
            now_ms=now_ms,
        )
        # A file that says that the index was found damaged. When the store is opened next, it makes the index anew.
        self._to_remake = path.with_name(f"{path.name}-remake-index")
        # Held by the thread that writes.
        self._writing = threading.Lock()
        # What the writer knows of rooms between transactions; emptied whenever a transaction fails.
        self._rooms: dict[RoomId, _Room] = {}
        # About how many pages were written to SQLite's log since the last checkpoint.
        self._put_off = 0
        # Whether SQLite's log may hold words of a room that was deleted, and is to be emptied.
        self._to_empty = False
        # The deleted rooms of which only words in the search index are left, which are being merged.
        self._merging: set[RoomId] = set()
        # Answers that every call asks for. `_bases` leads from a room to where its rows in `facts` begin.
        self._bases = Memo(self._read_base)
        self._heads = Memo(self._read_head)
        self._lines_before = Memo(self._read_line_before)
        self._deleted = Memo(self._read_deleted)
        self._cursors = Memo(self._read_cursor)
        self._memberships = Memo(self._read_memberships)
        self._sources = Sources(self._room, self._deleted, self._end_of, random_bytes)
        self._remake_index_if_asked()

    # -- writing -------------------------------------------------------------------------------------------

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        return self._transact(jobs, patient=True)

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        return self._transact(jobs, patient=False)

    def _transact(self, jobs: Sequence[Sequence[Write]], *, patient: bool) -> list[JobOutcome]:
        if not self._writing.acquire(blocking=patient):
            raise StoreError("store_locked")
        try:
            # A job that our own checks refuse adds no rows, so the other jobs share statements and need no savepoint.
            with self._transaction(patient=patient):
                batch = _Batch()
                outcomes = [batch.take(job, self._sources) for job in jobs]
                self._write(batch)
            self._put_off += batch.pages
            if batch.buried:
                self._forget()
            if batch.numbered:
                self._bases.forget(batch.numbered)
                self._lines_before.forget(batch.numbered)
            if batch.logs:
                self._heads.forget(batch.logs)
            if batch.cursors:
                self._cursors.forget((row[0], row[1]) for row in batch.cursors)
            if memberships := batch.index.of(MEMBERSHIPS):
                self._memberships.forget(row.agent for row in memberships)
            return outcomes
        except sqlite3.IntegrityError:
            # The database itself refused a row, and a statement that several jobs share cannot tell whose. The jobs are
            # done once more, each with a savepoint of its own.
            with self._meanings(), self._transaction():
                buried: set[RoomId] = set()
                outcomes = [self._alone(job, buried) for job in jobs]
            self._forget()
            return outcomes
        except ERRORS as error:
            raise self._database.meaning(error) from error
        finally:
            self._writing.release()

    @property
    def checkpoint_due(self) -> bool:
        return self._put_off >= _CHECKPOINT_PAGES or self._to_empty

    def checkpoint(self) -> None:
        with self._writing:
            self._put_off = 0
            if self._to_empty:
                # Somebody who reads at this moment needs the log; then the next commit tries again.
                self._to_empty = not self._database.empty_log()
            else:
                self._database.checkpoint()

    def copy(self, path: Path) -> None:
        """Write a whole copy of what is committed to a new file, 0600, while others read and write. It takes as long as
        the file is large, so call it in a thread of its own. Raises `FileExistsError`, `OSError`, `StoreError`."""
        self._database.copy(path)

    def _forget(self) -> None:
        self._deleted.forget()
        self._bases.forget()
        self._heads.forget()
        self._lines_before.forget()
        self._cursors.forget()
        self._memberships.forget()

    def _alone(self, job: Sequence[Write], buried: set[RoomId]) -> JobOutcome:
        """Do one job. `buried` are the rooms that the jobs before it deleted; those that it deletes are added."""
        writer = self._database.writer
        batch = _Batch()
        writer.execute("SAVEPOINT job")
        known = self._sources._replace(is_deleted=lambda room: room in buried or self._deleted(room))
        outcome = batch.take(job, known)
        try:
            self._write(batch)
            buried.update(batch.buried)
        except sqlite3.IntegrityError as error:
            writer.execute("ROLLBACK TO job")
            self._rooms.clear()
            outcome = JobOutcome(error=StoreError("internal", "The database refused a fact.", constraint=str(error)))
        writer.execute("RELEASE job")
        return outcome

    def _write(self, batch: _Batch) -> None:
        """Write the rows of a batch, and take a step with each deleted room that is to be cleared."""
        writer = self._database.writer
        for part in batch.parts:
            known = self._room(part.room)
            if part.facts and not known.base:
                known.base = self._number(part.room) * LOG
                batch.numbered.append(part.room)
            batch.logs[part.room] = known.base // LOG
        for room, _ in batch.erased:
            batch.logs.setdefault(room, self._room(room).base // LOG)
        batch.write(writer)
        for room, at in batch.buried.items():
            bury(writer, room, at)
            self._rooms.pop(room, None)
        for room, limit in batch.cleared:
            left = clear_room(writer, room, limit, merging=room in self._merging)
            self._merging.discard(room)
            if left == "words":
                self._merging.add(room)
            elif left == "nothing":
                self._to_empty = True

    def _room(self, room: RoomId) -> _Room:
        known = self._rooms.get(room)
        if known is None:
            writer = self._database.writer
            numbered = writer.execute(_NUMBER, (room,)).fetchone()
            base = 0 if numbered is None else numbered[0] * LOG
            row = writer.execute(_HEAD, (base, base + LOG)).fetchone()
            last = writer.execute(_SHOWN, {"room": room, "position": _LAST}).fetchone()
            line = self._shown(b"", last).line or None
            counts = _StoredCounts(writer, room, base, last[0] or 0, line)
            deleted = writer.execute(DELETED, (room,)).fetchone() is not None
            known = self._rooms[room] = _Room(EMPTY if row is None else Head(*row), counts, deleted, base=base)
        return known

    def _end_of(self, thread: bytes) -> tuple[int, bytes] | None:
        """Where an own line ends that was not added to since its room was looked at."""
        row = self._database.writer.execute(_END_OF_LINE, (thread,)).fetchone()
        return None if row is None else (row[0], row[1])

    def _number(self, room: RoomId) -> int:
        """Give a number to the log of a room that has none yet."""
        (number,) = self._database.writer.execute(
            "INSERT INTO logs (room) VALUES (?) RETURNING number", (room,)
        ).fetchone()
        return int(number)

    @contextmanager
    def _transaction(self, *, patient: bool = True) -> Iterator[None]:
        database = self._database
        if database.damaged:
            raise database.damage()
        if len(self._rooms) > _MAX_CACHED_ROOMS:
            self._rooms.clear()
        writer = database.writer
        database.be_patient(patient)
        writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            writer.execute("COMMIT")
        except BaseException:
            # The heads and counts in memory include what was just rolled back.
            self._rooms.clear()
            self._merging.clear()
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise

    @contextmanager
    def _meanings(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            raise self._database.meaning(error) from error

    # -- the log -------------------------------------------------------------------------------------------

    def _read_base(self, room: RoomId) -> int:
        """The number after which the ids of a room's facts and bodies begin; 0 for a room without a log, because no log
        has the number 0. A room that was deleted has none for any reader."""
        row = self._database.row(_NUMBER_TO_READ, (room,))
        return 0 if row is None else int(row[0]) * LOG

    def head(self, room: RoomId) -> Head:
        return self._heads(room)

    def _read_head(self, room: RoomId) -> Head:
        base = self._bases(room)
        row = self._database.row(_HEAD, (base, base + LOG))
        return EMPTY if row is None else Head(*row)

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        row = self._database.row("SELECT chain FROM facts WHERE id = ?", (self._bases(room) + position,))
        chain: bytes = NO_CHAIN if row is None else row[0]
        return chain

    def shown_at(self, room: RoomId, position: Position) -> Shown:
        row = self._database.row(_SHOWN, {"room": room, "position": position})
        return self._shown(self._lines_before(room) if row[0] is None else b"", row)

    def is_deleted(self, room: RoomId) -> bool:
        return self._deleted(room)

    def _read_deleted(self, room: RoomId) -> bool:
        return self._database.row(DELETED, (room,)) is not None

    def uncleared(self) -> list[RoomId]:
        return [RoomId(room) for (room,) in self._database.rows(UNCLEARED)]

    def is_memory_indexed(self) -> bool:
        return self._database.row(IS_LEFT, ()) is None

    def newest_unindexed(self, room: RoomId) -> Position:
        base = self._bases(room)
        row = self._database.row(NEWEST_MISSING, (base, base + LOG))
        return Position(0 if row is None else row[0] - base)

    def _read_line_before(self, room: RoomId) -> bytes:
        """The line that a room begins with."""
        row = self._database.row("SELECT header FROM facts WHERE id = ?", (self._bases(room) + 1,))
        return line_before(room, None if row is None else self._header(row[0]).event)

    def rooms(self) -> list[RoomId]:
        return [room for (room,) in self._database.rows("SELECT room FROM rooms ORDER BY opened_at, room")]

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        base = self._bases(room)
        rows = self._database.rows(
            "SELECT header FROM facts WHERE id > ? AND id < ? ORDER BY id LIMIT ?", (base + after, base + LOG, limit)
        )
        return [self._header(header) for (header,) in rows]

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        base = self._bases(room)
        rows = self._database.rows(f"{_BODIED_FACTS} LIMIT ?", (base + after, base + LOG, limit))
        return [NewFact(self._header(header), body, signature) for header, body, signature in rows]

    def body(self, room: RoomId, position: Position) -> tuple[bytes, bytes | None] | None:
        row = self._database.row("SELECT body, signature FROM bodies WHERE id = ?", (self._bases(room) + position,))
        return None if row is None else (row[0], row[1])

    def receipted(self, room: RoomId, position: Position) -> Receipted | None:
        return self._receipted(self._database.row(_RECEIPTED, (self._bases(room) + position,)))

    def place_in_line(self, room: RoomId, thread: bytes, number: int) -> Position | None:
        base = self._bases(room)
        row = self._database.row("SELECT id FROM own_lines WHERE thread = ? AND number = ?", (thread, number))
        return Position(row[0] - base) if row is not None and base < row[0] < base + LOG else None

    def first_unlined(self, room: RoomId) -> Position | None:
        base = self._bases(room)
        stray = self._database.row(_STRAY_LINE, (base, base + LOG))
        connection = self._database.borrow()
        try:
            rows = connection.execute(_OWN_LINES, (base, base + LOG))
            return self._first_unlined(
                room, rows, None if stray is None or stray[0] is None else Position(stray[0] - base)
            )
        except ERRORS as error:
            raise self._database.meaning(error) from error
        finally:
            self._database.give_back(connection)

    def erased(self, room: RoomId, after: Position, upto: Position) -> set[Position]:
        base = self._bases(room)
        rows = self._database.rows(
            "SELECT position FROM erased_bodies WHERE id > ? AND id <= ?", (base + after, base + upto)
        )
        return {Position(position) for (position,) in rows}

    def held(self, room: RoomId, after: Position = START, upto: Position | None = None) -> Held:
        base = self._bases(room)
        row = self._database.row(_HELD, (base + after, base + (LOG if upto is None else upto + 1), MESSAGE))
        return Held(*row)

    def oldest_bodies(self, room: RoomId, after: Position, limit: int) -> list[tuple[Position, int]]:
        base = self._bases(room)
        return [
            (Position(position), size)
            for position, size in self._database.rows(_OLDEST_BODIES, (base + after, base + LOG, MESSAGE, limit))
        ]

    def written(self, room: RoomId, after: Position, upto: Position) -> dict[PrincipalId, int]:
        base = self._bases(room)
        return self._written(self._database.rows(_WRITTEN, (base + after, base + upto)))

    def snapshot(self, room: RoomId) -> Snapshot | None:
        query = "SELECT fold_version, position, data, digest FROM snapshots WHERE room = ?"
        return whole_snapshot(self._database.row(query, (room,)))

    # -- what rooms remember ---------------------------------------------------------------------------------

    def is_brought(self, blob: BlobId) -> bool:
        return self._database.row(_BROUGHT, (ANYBODY, brought(blob))) is not None

    def brought(self, room: RoomId) -> list[BlobId]:
        return [BlobId(name[1:]) for (name,) in self._database.rows(_BROUGHT_IN, (room, ANYBODY))]

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        base = self._bases(room)
        place = (base + after, base + before)
        try:
            if terms:
                rows = self._database.rows(BY_TERMS, (*place, matching(terms, *place), limit))
            else:
                rows = self._database.rows(NEWEST, (*place, limit))
        except StoreError as error:
            if error.code == "store_corrupt":
                # This index as well as the facts behind it may be what is damaged.
                self._note_index_damage()
            raise
        return self._remembered(rows)

    def state_versions(self, room: RoomId, scope: str, key: str, before: Position, limit: int) -> list[Position]:
        asked = (self._bases(room) // LOG, scope, key, before, limit)
        return [Position(position) for (position,) in self._database.rows(_STATE_VERSIONS, asked)]

    def state_at(self, room: RoomId, upto: Position) -> list[Position]:
        rows = self._database.rows(_STATE_AT, (self._bases(room) // LOG, upto))
        return [Position(position) for (position,) in rows]

    # -- messages as a reader sees them ----------------------------------------------------------------------

    def _numbering(self, room: RoomId, view: View, places: Sequence[Position]) -> Numbering:
        row = self._database.row

        def ask(position: int) -> Tally:
            counts = row(_TALLY, {"room": room, "reader": view.reader, "position": position})
            if not all(isinstance(count, int) for count in counts):
                raise self._index_damage()
            return Tally(*counts)

        return Numbering(view, self.head(room).position, ask)

    @contextmanager
    def _scan(self, wanted: Wanted) -> Iterator[Iterable[Found]]:
        scans = self._scans(wanted) if wanted.filter is None else self._filtered(wanted, *wanted.filter)
        connection = self._database.borrow()
        try:
            # Each scan has the same order. Rows are fetched one by one, so that no row beyond the bounds is read.
            rows = [chain.from_iterable(connection.execute(*query) for query in scan) for scan in scans]
            yield heapq.merge(*rows, key=itemgetter(0), reverse=wanted.newest_first)
        except ERRORS as error:
            raise self._database.meaning(error) from error
        finally:
            self._database.give_back(connection)

    def _scans(self, wanted: Wanted) -> list[_Scan]:
        """The queries that find messages: one scan for public messages, with a query for each span, and one for private
        messages."""
        room, reader = wanted.room, wanted.reader
        order = f"{_NOT_OWN if wanted.skip_own else ''} ORDER BY m.position {'DESC' if wanted.newest_first else 'ASC'}"
        order += " LIMIT ?"
        extra = (reader, wanted.limit + 1) if wanted.skip_own else (wanted.limit + 1,)
        base = self._bases(room)
        return [
            [(_PUBLIC_PAGE + order, (reader, base, base, room, low, high, *extra)) for low, high in wanted.spans],
            [(_PRIVATE_PAGE + order, (base, base, room, reader, wanted.after, wanted.head, *extra))],
        ]

    def _filtered(self, wanted: Wanted, names: Sequence[str], kind: str) -> list[_Scan]:
        """What `_scans` gives, for a read with a filter: through the index of filters, with two scans for each name."""
        room, reader = wanted.room, wanted.reader
        order = f"{_NOT_OWN if wanted.skip_own else ''} ORDER BY s.position LIMIT ?"
        extra = (reader, wanted.limit + 1) if wanted.skip_own else (wanted.limit + 1,)
        base = self._bases(room)
        log = base // LOG
        scans: list[_Scan] = []
        for name in names or ("",):
            asked = (log, name, kind)
            public = (reader, room, base, base, *asked)
            private = (room, reader, base, base, *asked, reader, wanted.after, wanted.head, *extra)
            scans += [
                [(_PUBLIC_FILTERED + order, (*public, low, high, *extra)) for low, high in wanted.spans],
                [(_PRIVATE_FILTERED + order, private)],
            ]
        return scans

    # -- looking things up -----------------------------------------------------------------------------------

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None:
        row = self._database.row(f"SELECT room, position FROM messages WHERE id = ? AND {_NOT_DELETED}", (message,))  # noqa: S608
        return None if row is None else (row[0], row[1])

    def message(self, room: RoomId, position: Position) -> Header | None:
        row = self._database.row("SELECT header FROM facts WHERE id = ?", (self._bases(room) + position,))
        return self._message_at(None if row is None else row[0])

    def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
        row = self._database.row(
            "SELECT f.header FROM idempotency i CROSS JOIN facts f ON f.id = ? + i.position"
            " WHERE i.room = ? AND i.actor = ? AND i.operation = ? AND i.key = ?",
            (self._bases(room), room, actor, operation, key),
        )
        if row is not None:
            return self._prior(row[0])
        return prior_by_id(self, room, actor, operation, key)

    def past(
        self, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId], lines: Sequence[int] = ()
    ) -> Past:
        return past_one_by_one(self, room, keys, messages, lines)

    def room_of_key(self, key: KeyId) -> RoomId | None:
        row = self._database.row(f"SELECT room FROM room_keys WHERE key = ? AND {_NOT_DELETED}", (key,))  # noqa: S608
        return None if row is None else RoomId(row[0])

    def memberships(self, agent: AgentId) -> list[Membership]:
        return list(self._memberships(agent))

    def _read_memberships(self, agent: AgentId) -> list[Membership]:
        rows = self._database.rows(
            "SELECT m.room, m.agent, m.state FROM memberships m JOIN rooms r ON r.room = m.room"
            " WHERE m.agent = ? AND r.principal <> '' ORDER BY r.opened_at, m.room",
            (agent,),
        )
        return [Membership(*row) for row in rows]

    def owned(self, principal: str) -> list[RoomId]:
        rows = self._database.rows(
            "SELECT room FROM rooms WHERE principal = ? AND principal <> '' ORDER BY opened_at, room", (principal,)
        )
        return [room for (room,) in rows]

    def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
        rows = self._database.rows(
            "SELECT room, min(at) FROM deadlines"
            " WHERE at > ? OR (at > 0 AND (subject LIKE 'task:%' OR subject LIKE 'gated:%')) GROUP BY room",
            (after,),
        )
        return {RoomId(room): Millis(at) for room, at in rows}

    def cursor(self, room: RoomId, reader: AgentId) -> Cursor:
        return self._cursors((room, reader))

    def _read_cursor(self, whose: tuple[RoomId, AgentId]) -> Cursor:
        row = self._database.row(_CURSOR, whose)
        return Cursor() if row is None else Cursor(*row)

    def deliveries(self, room: RoomId, position: Position) -> list[Delivery]:
        return [Delivery(*row) for row in self._database.rows(_DELIVERIES, {"room": room, "position": position})]

    def has_marks(self, room: RoomId, first: Position, last: Position) -> bool:
        which = {"room": room, "first": first, "last": last, "limit": 1}
        return any(self._database.row(query, which) is not None for query in (_MARKS_OF_NO_WORDS, _SIGHTS_OF_NO_WORDS))

    def sights(self, room: RoomId, position: Position) -> list[PutSight]:
        return [PutSight(*row) for row in self._database.rows(_SIGHTS, (room, position))]

    def sights_to_show_again(self, room: RoomId, reader: AgentId, most: int) -> list[PutSight]:
        return [PutSight(*row) for row in self._database.rows(_SIGHTS_TO_SHOW_AGAIN, (reader, room, most))]

    def sights_of_nobody(self, after: Millis, upto: Millis, limit: int) -> list[PutSight]:
        return [PutSight(*row) for row in self._database.rows(_SIGHTS_OF_NOBODY, (after, upto, limit))]

    def leases(self) -> list[Lease]:
        rows = self._database.rows(
            "SELECT window, agent, host, workspace, slot, taken_at FROM leases ORDER BY taken_at, window"
        )
        return [Lease(*row) for row in rows]

    def outbox(self, home: HomeId) -> list[OutboxRow]:
        rows = self._database.rows(
            "SELECT message, home, room, agent, key, at, request, refused FROM outbox"
            " WHERE home = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY number",
            (home,),
        )
        return [OutboxRow(*row) for row in rows]

    def renewals(self, room: RoomId) -> list[PutRenewal]:
        rows = self._database.rows(
            "SELECT room, task, fence, until FROM renewals WHERE room = ? ORDER BY task", (room,)
        )
        return [PutRenewal(*row) for row in rows]

    def sealing_keys(self, home: HomeId) -> list[SealingKeyRow]:
        rows = self._database.rows(
            "SELECT home, agent, counter, made_at, private FROM sealing_keys WHERE home = ? ORDER BY agent, counter",
            (home,),
        )
        return [SealingKeyRow(*row) for row in rows]

    def epoch_secrets(self, room: RoomId) -> list[EpochSecretRow]:
        rows = self._database.rows(
            "SELECT room, number, record, secret, requester FROM epoch_secrets"
            " WHERE room = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY number, requester",
            (room,),
        )
        return [EpochSecretRow(*row) for row in rows]

    def made_records(self, room: RoomId) -> list[MadeRecordRow]:
        rows = self._database.rows(
            "SELECT room, number, record FROM made_records"
            " WHERE room = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY number, record",
            (room,),
        )
        return [MadeRecordRow(*row) for row in rows]

    def file_seals(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        rows = self._database.rows(
            "SELECT room, agent, digest, size, blob, key, prefix, used_at FROM file_seals"
            " WHERE room = ? AND agent = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY digest",
            (room, agent),
        )
        return [FileSealRow(*row) for row in rows]

    def key_exchanges(self, room: RoomId) -> list[KeyExchangeRow]:
        rows = self._database.rows(
            "SELECT room, share, role, agent, request, stage, state, said, at, idle_ms FROM key_exchanges"
            " WHERE room = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY share, role",
            (room,),
        )
        return [KeyExchangeRow(*row) for row in rows]

    def unanswered_exchanges(self, before: Millis) -> list[KeyExchangeRow]:
        rows = self._database.rows(
            "SELECT room, share, role, agent, request, stage, state, said, at, idle_ms FROM key_exchanges"
            " WHERE role = 'joiner' AND stage = 'begun' AND at < ? AND room NOT IN (SELECT room FROM tombstones)"
            " ORDER BY room, share",
            (before,),
        )
        return [KeyExchangeRow(*row) for row in rows]

    def key_tries(self, room: RoomId) -> list[KeyTriesRow]:
        rows = self._database.rows(
            "SELECT room, ref, principal, tries FROM key_tries"
            " WHERE room = ? AND room NOT IN (SELECT room FROM tombstones) ORDER BY ref, principal",
            (room,),
        )
        return [KeyTriesRow(*row) for row in rows]

    # -- care ------------------------------------------------------------------------------------------------

    def verify_chain(self, room: RoomId) -> Position | None:
        base = self._bases(room)
        connection = self._database.borrow()
        try:
            return first_unchained(connection.execute(_WHOLE_FACTS, (base, base + LOG)))
        except ERRORS as error:
            raise self._database.meaning(error) from error
        finally:
            self._database.give_back(connection)

    def check(self) -> list[str]:
        found = [f"SQLite reports: {text}" for (text,) in self._database.rows("PRAGMA quick_check") if text != "ok"]
        if found:
            self._database.found_damage()
        for sentence, query in _CHECKS:
            found += [sentence.format(*row) for row in self._database.rows(query)]
        wrong = [sentence.format(*row) for sentence, query in _INDEX_CHECKS for row in self._database.rows(query)]
        wrong += self._wrong_lines()
        if wrong:
            self._note_index_damage()
            found += [*wrong, "The index is remade from the facts, if they are whole, by `parler daemon restart`."]
        return found + wrong_snapshots(self._database.rows("SELECT room, data, digest FROM snapshots"))

    def _wrong_lines(self) -> list[str]:
        connection = self._database.borrow()
        try:
            return wrong_lines(connection.execute(_LINES), self._lines_before)
        except msgspec.DecodeError as error:
            raise self._found_damage() from error
        except ERRORS as error:
            raise self._database.meaning(error) from error
        finally:
            self._database.give_back(connection)

    def rebuild_index(self) -> None:
        with self._writing, self._meanings(), self._transaction():
            writer = self._database.writer
            clear(writer)
            for projection in PROJECTIONS:
                writer.execute(f"DELETE FROM {projection.table}")  # noqa: S608 - our own names
            # A room that was deleted holds the ids of its messages and keys until it is cleared.
            for room, number in writer.execute("SELECT room, number FROM logs").fetchall():
                counts = Counts()
                base = number * LOG
                headers = iter(
                    writer.execute("SELECT header FROM facts WHERE id > ? AND id < ? ORDER BY id", (base, base + LOG))
                )
                while chunk := list(islice(headers, _REBUILD_CHUNK)):
                    batch = _Batch(logs={room: number})
                    for (stored_header,) in chunk:
                        header = self._header(stored_header)
                        derive(batch.index, room, header, counts)
                        if is_remembered(header.event):
                            batch.noted += self._noted_again(room, base, header)
                    batch.write(writer)
            hide(writer)
            # The counts in memory came from the old index, which may have been damaged.
            self._rooms.clear()
        self._forget()

    def _noted_again(self, room: RoomId, base: int, header: Header) -> list[Noted]:
        """What a fact did in its room's memory, with the words that are still there."""
        row = self._database.writer.execute(
            "SELECT body FROM bodies WHERE id = ?", (base + header.position,)
        ).fetchone()
        return noted(room, [header], {} if row is None else {header.position: row[0]})

    def _found_damage(self) -> StoreError:
        return self._database.found_damage()

    def _index_damage(self) -> StoreError:
        self._note_index_damage()
        return self._database.found_damage()

    def _note_index_damage(self) -> None:
        # The note is a file and no row, because nothing more is written to a damaged database. Where the file cannot be
        # made, the index stays damaged, and is found to be so again.
        with suppress(OSError):
            self._to_remake.touch(mode=0o600)

    def _remake_index_if_asked(self) -> None:
        """Make the index anew where the last run found it damaged."""
        if not self._to_remake.exists():
            return
        try:
            rooms = [room for (room,) in self._database.rows("SELECT room FROM logs")]
            if remade(self, rooms, lacks_facts=bool(self._database.rows(_WITHOUT_FACT))):
                self._to_remake.unlink()
        except (StoreError, Refused, OSError) as error:
            # The damaged index stays in use, and whoever reads a damaged part of it gets the error.
            log.error("the index could not be remade: %s", getattr(error, "code", type(error).__name__))

    def close(self) -> None:
        with self._writing:
            self._database.close()


@dataclass(slots=True)
class _Room(Room):
    base: int = 0
    """The number after which the ids of the room's facts begin; 0 for a room that has no log yet."""


class _StoredCounts(Counts):
    """Counts that go on from the rows of the index in the file."""

    __slots__ = ("_base", "_room", "_writer")

    def __init__(self, writer: sqlite3.Connection, room: RoomId, base: int, public: int, line: bytes | None) -> None:
        super().__init__(public, line)
        self._writer = writer
        self._room = room
        self._base = base

    def load_line(self, room: RoomId) -> bytes:
        row = self._writer.execute("SELECT header FROM facts WHERE id = ?", (self._base + 1,)).fetchone()
        return line_before(room, None if row is None else decode_header(row[0]).event)

    def load_authored(self, author: AgentId) -> int:
        row = self._writer.execute(_PUBLIC_OWN, self._last(author)).fetchone()
        return 0 if row is None else int(row[0])

    def load_private(self, reader: AgentId) -> tuple[int, int]:
        row = self._writer.execute(_PRIVATE, self._last(reader)).fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def _last(self, reader: AgentId) -> dict[str, Any]:
        return {"room": self._room, "reader": reader, "position": _LAST}


@dataclass(slots=True)
class _Batch(Batch):
    """A batch whose rows have the numbers of their logs."""

    logs: dict[RoomId, int] = field(default_factory=dict)
    """The numbers of the logs that the transaction changes; 0 for a room that has none."""
    numbered: list[RoomId] = field(default_factory=list)
    """The rooms whose log got its number in this transaction."""

    @property
    def pages(self) -> int:
        """About how many pages a commit of this batch adds to SQLite's log: eight for the tables that a message
        touches, three for each four facts (measured), and what long bodies take."""
        facts = (
            sum(len(part.facts) for part in self.parts)
            + len(self.erased)
            + self.to_index
            + sum(limit for _, limit in self.cleared)
        )
        bodies = sum(len(row.body) for part in self.parts for row in part.bodies)
        return 8 + facts * 3 // 4 + bodies // 4096

    def write(self, writer: sqlite3.Connection) -> None:
        """Write the rows."""
        bases = {room: number * LOG for room, number in self.logs.items()}
        facts: list[tuple[Any, ...]] = []
        bodies: list[tuple[Any, ...]] = []
        for part in self.parts:
            base = bases[part.room]
            facts += [(base + fact.position, *fact[1:]) for fact in part.facts]
            bodies += [(base + body.position, body.body, body.signature) for body in part.bodies]
        _insert(writer, "facts", facts)
        _insert(writer, "bodies", bodies)
        _insert(writer, "own_lines", [(bases[room] + row.position, *row[1:]) for room, row in self.lines])
        for projection, rows in zip(PROJECTIONS, self.index.tables, strict=True):
            if rows:
                _insert(writer, projection.table, stored(projection, rows, self.logs), on_conflict(projection))
        _insert(writer, "cursors", self.cursors)
        _insert(writer, "deliveries", self.deliveries)
        for change in self.kept:
            match change:
                case ForgetMarks(room=room, first=first, last=last, limit=limit):
                    which = {"room": room, "first": first, "last": last, "limit": limit}
                    writer.executemany(_FORGET_MARK, writer.execute(_MARKS_OF_NO_WORDS, which).fetchall())
                    writer.executemany(_FORGET_SIGHT, writer.execute(_SIGHTS_OF_NO_WORDS, which).fetchall())
                case DropLease(window=window):
                    writer.execute("DELETE FROM leases WHERE window = ?", (window,))
                case PutLease(lease=lease):
                    writer.execute(
                        "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)",
                        (lease.window, lease.agent, lease.host, lease.workspace, lease.slot, lease.taken_at),
                    )
                case DropOutbox(message=message):
                    writer.execute("DELETE FROM outbox WHERE message = ?", (message,))
                case PutOutbox(row=row):
                    writer.execute(
                        _PUT_OUTBOX,
                        (row.message, row.home, row.room, row.agent, row.key, row.at, row.request, row.refused),
                    )
                case DropRenewal(room=room, task=task):
                    writer.execute("DELETE FROM renewals WHERE room = ? AND task = ?", (room, task))
                case PutSealingKey(row=key):
                    writer.execute(
                        "INSERT INTO sealing_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (key.home, key.agent, key.counter, key.made_at, key.private),
                    )
                case DropSealingKeys(home=home, agent=agent, below=below):
                    writer.execute(
                        "DELETE FROM sealing_keys WHERE home = ? AND agent = ? AND counter < ?", (home, agent, below)
                    )
                case PutEpochSecret(row=epoch):
                    writer.execute(
                        "INSERT INTO epoch_secrets VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (epoch.room, epoch.number, epoch.requester, epoch.record, epoch.secret),
                    )
                case DropEpochSecrets(room=room, below=below):
                    writer.execute("DELETE FROM epoch_secrets WHERE room = ? AND number < ?", (room, below))
                case PutMadeRecord(row=made):
                    writer.execute(
                        "INSERT INTO made_records VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        (made.room, made.number, made.record),
                    )
                case PutFileSeal(row=seal):
                    writer.execute(
                        "INSERT INTO file_seals VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET used_at = excluded.used_at",
                        (
                            seal.room,
                            seal.agent,
                            seal.digest,
                            seal.size,
                            seal.blob,
                            seal.key,
                            seal.prefix,
                            seal.used_at,
                        ),
                    )
                case DropFileSeals(before=before):
                    writer.execute("DELETE FROM file_seals WHERE used_at < ?", (before,))
                case PutKeyExchange(row=kept):
                    writer.execute(
                        "INSERT OR REPLACE INTO key_exchanges VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            kept.room,
                            kept.share,
                            kept.role,
                            kept.agent,
                            kept.request,
                            kept.stage,
                            kept.state,
                            kept.said,
                            kept.at,
                            kept.idle_ms,
                        ),
                    )
                case DropKeyExchange(room=room, share=share, role=role):
                    writer.execute(
                        "DELETE FROM key_exchanges WHERE room = ? AND share = ? AND role = ?", (room, share, role)
                    )
                case PutKeyTries(row=tried):
                    writer.execute(
                        "INSERT INTO key_tries VALUES (?, ?, ?, ?)"
                        " ON CONFLICT DO UPDATE SET tries = excluded.tries WHERE excluded.tries > tries",
                        (tried.room, tried.ref, tried.principal, tried.tries),
                    )
                case PutRenewal():
                    writer.execute(
                        "INSERT OR REPLACE INTO renewals VALUES (?, ?, ?, ?)",
                        (change.room, change.task, change.fence, change.until),
                    )
        writer.executemany(_PUT_SIGHT, map(msgspec.structs.astuple, self.sights.values()))
        for snapshot in self.snapshots:
            digest = hashlib.sha256(snapshot[3]).digest()
            writer.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?)", (*snapshot, digest))
        note(writer, self.noted, bases)
        if self.to_index:
            tend(writer, self.to_index)
        # One message may be erased by several jobs.
        erased = list(dict.fromkeys(base + position for room, position in self.erased if (base := bases[room])))
        if erased:
            forget(writer, erased)
            writer.executemany(_MARK_ERASED, [(id, MESSAGE) for id in erased])
            writer.executemany(_ERASE, [(id,) for id in erased])


def _insert(writer: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]], conflict: str = "") -> None:
    width = len(rows[0]) if rows else 0
    for start in range(0, len(rows), _MAX_INSERT):
        part = rows[start : start + _MAX_INSERT]
        writer.execute(insertion(table, width, len(part), conflict), list(chain.from_iterable(part)))


_Scan = Sequence[tuple[str, tuple[Any, ...]]]
"""Queries with their parameters. The rows of the first, followed by those of the second and so on, are in order."""
_NOT_OWN: Final = " AND m.author <> ?"
_LAST: Final = 2**63 - 1
"""A position beyond every fact."""
_NUMBER: Final = "SELECT number FROM logs WHERE room = ?"
_NOT_DELETED: Final = "room NOT IN (SELECT room FROM tombstones)"
_NUMBER_TO_READ: Final = f"{_NUMBER} AND {_NOT_DELETED}"
# The newest public message up to a position and the newest place of a mirror, as far as there are any.
_SHOWN: Final = """
    SELECT m.number, m.line, p.public, p.counted, p.line
      FROM (SELECT 1)
      LEFT JOIN (SELECT number, line FROM public_messages
                  WHERE room = :room AND position <= :position ORDER BY position DESC LIMIT 1) m
      LEFT JOIN (SELECT public, counted, line FROM mirror_places
                  WHERE room = :room AND position <= :position ORDER BY position DESC LIMIT 1) p"""
_END_OF_LINE: Final = "SELECT number, line FROM own_lines WHERE thread = ? ORDER BY number DESC LIMIT 1"
_RECEIPTED: Final = """
    SELECT f.header, f.salt, f.digest, b.body, b.signature, o.thread, o.number,
           (SELECT line FROM own_lines p WHERE p.thread = o.thread AND p.number = o.number - 1)
      FROM facts f LEFT JOIN bodies b ON b.id = f.id LEFT JOIN own_lines o ON o.id = f.id
     WHERE f.id = ?"""
_OWN_LINES: Final = """
    SELECT f.position, f.header, f.digest, o.thread, o.number, o.line, o.token, o.agent, o.wall
      FROM facts f LEFT JOIN own_lines o ON o.id = f.id WHERE f.id > ? AND f.id < ? ORDER BY f.id"""
_STRAY_LINE: Final = """
    SELECT min(o.id) FROM own_lines o
     WHERE o.id > ? AND o.id < ? AND NOT EXISTS (SELECT 1 FROM facts f WHERE f.id = o.id)"""
_HEAD: Final = "SELECT position, at, chain FROM facts WHERE id > ? AND id < ? ORDER BY id DESC LIMIT 1"
_PUBLIC_OWN: Final = """
    SELECT own FROM public_messages INDEXED BY public_messages_by_author
     WHERE room = :room AND author = :reader AND position <= :position ORDER BY position DESC LIMIT 1"""
_STATE_VERSIONS: Final = """
    SELECT position FROM state_writes WHERE log = ? AND scope = ? AND key = ? AND position < ?
     ORDER BY position DESC LIMIT ?"""
_STATE_AT: Final = """
    SELECT max(position) FROM state_writes WHERE log = ? AND position <= ? GROUP BY scope, key ORDER BY scope, key"""
_PRIVATE: Final = """
    SELECT number, own FROM private_messages
     WHERE room = :room AND reader = :reader AND position <= :position ORDER BY position DESC LIMIT 1"""
# The query is put together from the two above and holds nothing that came from outside.
_TALLY: Final = f"""
    SELECT coalesce((SELECT number FROM public_messages
                      WHERE room = :room AND position <= :position ORDER BY position DESC LIMIT 1), 0),
           coalesce(({_PUBLIC_OWN}), 0),
           coalesce(p.number, 0), coalesce(p.own, 0)
      FROM (SELECT 1) LEFT JOIN ({_PRIVATE}) p"""  # noqa: S608
_PUT_OUTBOX: Final = (
    "INSERT INTO outbox (message, home, room, agent, key, at, request, refused) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (message) DO UPDATE SET home = excluded.home, room = excluded.room, agent = excluded.agent,"
    " key = excluded.key, at = excluded.at, request = excluded.request, refused = excluded.refused"
)
# Only a message whose body is there is marked, and a body goes only where the mark is.
_MARK_ERASED: Final = (
    "INSERT INTO erased_bodies (id) SELECT f.id FROM bodies b JOIN facts f ON f.id = b.id WHERE b.id = ? AND f.type = ?"
)
_ERASE: Final = "DELETE FROM bodies WHERE id = ? AND id IN (SELECT id FROM erased_bodies)"
# The length of a body that takes many pages is read from the first of them.
_HELD: Final = """
    SELECT count(*), coalesce(sum(length(b.body)), 0)
      FROM bodies b CROSS JOIN facts f ON f.id = b.id
     WHERE b.id > ? AND b.id < ? AND f.type = ?"""
_WRITTEN: Final = """
    SELECT f.header, length(b.body) FROM bodies b CROSS JOIN facts f ON f.id = b.id WHERE b.id > ? AND b.id <= ?"""
_CURSOR: Final = """
    SELECT delivered, acknowledged FROM cursors
     WHERE room = ? AND reader = ? AND room NOT IN (SELECT room FROM tombstones)"""
_OLDEST_BODIES: Final = """
    SELECT b.position, length(b.body)
      FROM bodies b CROSS JOIN facts f ON f.id = b.id
     WHERE b.id > ? AND b.id < ? AND f.type = ? ORDER BY b.id LIMIT ?"""
# With LEFT JOIN SQLite can only start at the few index rows of the page, and an index row without its fact shows.
_PUBLIC_PAGE: Final = """
    SELECT m.position, m.number,
           coalesce((SELECT p.number FROM private_messages p
                      WHERE p.room = m.room AND p.reader = ? AND p.position < m.position
                      ORDER BY p.position DESC LIMIT 1), 0),
           f.header, b.body, b.signature, f.salt, f.digest
      FROM public_messages m LEFT JOIN facts f ON f.id = ? + m.position
      LEFT JOIN bodies b ON b.id = ? + m.position
     WHERE m.room = ? AND m.position > ? AND m.position <= ?"""
_PRIVATE_PAGE: Final = """
    SELECT m.position, m.public, m.number, f.header, b.body, b.signature, f.salt, f.digest
      FROM private_messages m LEFT JOIN facts f ON f.id = ? + m.position
      LEFT JOIN bodies b ON b.id = ? + m.position
     WHERE m.room = ? AND m.reader = ? AND m.position > ? AND m.position <= ?"""
# With CROSS JOIN SQLite goes from the few rows of the filter to the counts of each message, and never the other way.
_PUBLIC_FILTERED: Final = """
    SELECT s.position, m.number,
           coalesce((SELECT p.number FROM private_messages p
                      WHERE p.room = m.room AND p.reader = ? AND p.position < m.position
                      ORDER BY p.position DESC LIMIT 1), 0),
           f.header, b.body, b.signature, f.salt, f.digest
      FROM filtered_messages s CROSS JOIN public_messages m ON m.room = ? AND m.position = s.position
      LEFT JOIN facts f ON f.id = ? + s.position
      LEFT JOIN bodies b ON b.id = ? + s.position
     WHERE s.log = ? AND s.addressee = ? AND s.kind = ? AND s.audience = '' AND s.position > ? AND s.position <= ?"""
_PRIVATE_FILTERED: Final = """
    SELECT s.position, m.public, m.number, f.header, b.body, b.signature, f.salt, f.digest
      FROM filtered_messages s
      CROSS JOIN private_messages m ON m.room = ? AND m.reader = ? AND m.position = s.position
      LEFT JOIN facts f ON f.id = ? + s.position
      LEFT JOIN bodies b ON b.id = ? + s.position
     WHERE s.log = ? AND s.addressee = ? AND s.kind = ? AND s.audience = ? AND s.position > ? AND s.position <= ?"""
# With CROSS JOIN it is one look into the index for each room.
_BROUGHT: Final = """
    SELECT 1 FROM logs l CROSS JOIN filtered_messages s
     WHERE s.log = l.number AND s.audience = ? AND s.addressee = ? AND s.kind = ''
       AND l.room NOT IN (SELECT room FROM tombstones)
       AND NOT EXISTS (SELECT 1 FROM erased_bodies e WHERE e.id = (s.log << 32) + s.position) LIMIT 1"""
# The names of blobs are all that the index has from '=' to '>' for anybody.
_BROUGHT_IN: Final = """
    SELECT DISTINCT s.addressee FROM logs l CROSS JOIN filtered_messages s
     WHERE l.room = ? AND s.log = l.number AND s.audience = ? AND s.kind = ''
       AND s.addressee > '=' AND s.addressee < '>' AND l.room NOT IN (SELECT room FROM tombstones)
       AND NOT EXISTS (SELECT 1 FROM erased_bodies e WHERE e.id = (s.log << 32) + s.position) ORDER BY s.addressee"""
_DELIVERIES: Final = """
    WITH stages (stage, rung) AS
         (VALUES ('stored', 1), ('pushed', 2), ('read', 3), ('acknowledged', 4), ('acted', 5))
    SELECT m.reader, d.stage, d.upto, d.at
      FROM marked m CROSS JOIN stages s CROSS JOIN marks d
     WHERE m.room = :room AND m.room NOT IN (SELECT room FROM tombstones)
       AND d.of = m.number AND d.stage = s.stage
       AND (d.upto, d.after) = (SELECT upto, after FROM marks
                                 WHERE of = m.number AND stage = s.stage
                                   AND upto >= :position AND after < :position
                                 ORDER BY at, upto, after LIMIT 1)
     ORDER BY m.reader, s.rung"""
# By the readers and the stages, because the key begins with them.
_MARKS_OF_NO_WORDS: Final = """
    SELECT d.of, d.stage, d.upto, d.after
      FROM marked m
     CROSS JOIN (SELECT column1 AS stage FROM (VALUES ('stored'), ('pushed'), ('read'), ('acknowledged'), ('acted'))) s
     CROSS JOIN marks d
     WHERE m.room = :room AND d.of = m.number AND d.stage = s.stage
       AND d.upto >= :first AND d.upto <= :last AND d.after >= :first - 1
       AND NOT EXISTS (SELECT 1 FROM logs l CROSS JOIN bodies b CROSS JOIN facts f
                        WHERE l.room = m.room
                          AND b.id > (l.number << 32) + d.after AND b.id <= (l.number << 32) + d.upto
                          AND f.id = b.id AND f.type = 'message_posted')
     LIMIT :limit"""
# One at a time: of a list of keys SQLite uses the first column alone.
_FORGET_MARK: Final = "DELETE FROM marks WHERE of = ? AND stage = ? AND upto = ? AND after = ?"
_SIGHTS_OF_NO_WORDS: Final = """
    SELECT s.room, s.position, s.reader FROM sights s
     WHERE s.room = :room AND s.position BETWEEN :first AND :last
       AND NOT EXISTS (SELECT 1 FROM logs l CROSS JOIN bodies b CROSS JOIN facts f
                        WHERE l.room = s.room AND b.id = (l.number << 32) + s.position
                          AND f.id = b.id AND f.type = 'message_posted')
     LIMIT :limit"""
_FORGET_SIGHT: Final = "DELETE FROM sights WHERE room = ? AND position = ? AND reader = ?"
_PUT_SIGHT: Final = (
    "INSERT INTO sights (room, reader, position, verdict, reason, host, at, again, evidence)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason, host = excluded.host,"
    " at = excluded.at, again = excluded.again, evidence = excluded.evidence WHERE verdict NOT IN ('shown', 'quoted')"
)
_SIGHTS: Final = f"""
    SELECT room, reader, position, verdict, reason, host, at, again, evidence FROM sights
     WHERE room = ? AND position = ? AND {_NOT_DELETED} ORDER BY reader"""  # noqa: S608 - our own names
# A room may hold a row for each message and reader; of these few are in the index.
_SIGHTS_TO_SHOW_AGAIN: Final = f"""
    SELECT room, reader, position, verdict, reason, host, at, again, evidence
      FROM sights INDEXED BY sights_to_show_again
     WHERE verdict IN ('cut', 'not_shown') AND reader = ? AND room = ? AND again < ? AND {_NOT_DELETED}
     ORDER BY position"""  # noqa: S608 - our own names
# Of the rows of one message the newest counts, and of several of one moment the last by its reader.
_SIGHTS_OF_NOBODY: Final = f"""
    SELECT room, reader, position, verdict, reason, host, at, again, evidence FROM sights s
     WHERE verdict NOT IN ('shown', 'quoted') AND verdict <> 'unknown' AND at > ? AND at <= ? AND {_NOT_DELETED}
       AND NOT EXISTS (SELECT 1 FROM sights o WHERE o.room = s.room AND o.position = s.position
                          AND (o.verdict IN ('shown', 'quoted')
                               OR o.verdict <> 'unknown' AND (o.at, o.reader) > (s.at, s.reader)))
     ORDER BY at, room, position LIMIT ?"""  # noqa: S608 - our own names
_WHOLE_FACTS: Final = """
    SELECT f.position, f.header, f.salt, f.digest, f.chain, b.body
      FROM facts f LEFT JOIN bodies b ON b.id = f.id
     WHERE f.id > ? AND f.id < ? ORDER BY f.id"""
_BODIED_FACTS: Final = """
    SELECT f.header, b.body, b.signature
      FROM facts f LEFT JOIN bodies b ON b.id = f.id
     WHERE f.id > ? AND f.id < ? ORDER BY f.id"""
_LINES: Final = """
    SELECT m.room, m.position, m.line, f.header
      FROM public_messages m JOIN logs l ON l.room = m.room JOIN facts f ON f.id = (l.number << 32 | m.position)
     WHERE m.room NOT IN (SELECT room FROM tombstones)
     UNION ALL
    SELECT room, position, line, NULL FROM mirror_places WHERE room NOT IN (SELECT room FROM tombstones)
     ORDER BY 1, 2"""
_WITHOUT_FACT: Final = """
    SELECT 1 FROM messages m LEFT JOIN logs l ON l.room = m.room
      LEFT JOIN facts f ON f.id = (l.number << 32 | m.position)
     WHERE f.id IS NULL LIMIT 1"""
_CHECKS: Final = (
    (
        "Log {0} belongs to no room.",
        "SELECT DISTINCT f.log FROM facts f LEFT JOIN logs l ON l.number = f.log WHERE l.number IS NULL",
    ),
    (
        MISSING_FACTS,
        "SELECT l.room, count(*), max(f.position) FROM facts f JOIN logs l ON l.number = f.log"
        " GROUP BY f.log HAVING count(*) <> max(f.position)",
    ),
    (
        UNKNOWN_TYPE,
        "SELECT DISTINCT l.room, f.type, f.v FROM facts f JOIN logs l ON l.number = f.log"
        " LEFT JOIN fact_types t ON t.type = f.type AND t.v >= f.v WHERE t.type IS NULL",
    ),
    (
        STRAY_BODY,
        "SELECT coalesce(l.room, b.log), b.position FROM bodies b LEFT JOIN facts f ON f.id = b.id"
        " LEFT JOIN logs l ON l.number = b.log WHERE f.id IS NULL",
    ),
    (
        ERASED_BODY,
        "SELECT l.room, x.position FROM erased_bodies x JOIN bodies b ON b.id = x.id JOIN logs l ON l.number = x.log",
    ),
)
_INDEX_CHECKS: Final = (
    (
        NO_WORDS,
        "SELECT l.room, r.position FROM remembered r JOIN logs l ON l.number = r.log"
        " LEFT JOIN bodies b ON b.id = r.id WHERE b.id IS NULL",
    ),
    *COUNTS,
    (
        MISCOUNTED_KINDS,
        "SELECT l.room, coalesce(p.n, 0), coalesce(k.n, 0) FROM logs l"
        " LEFT JOIN (SELECT room, count(*) AS n FROM public_messages GROUP BY room) p ON p.room = l.room"
        " LEFT JOIN (SELECT log, count(*) AS n FROM filtered_messages WHERE audience = '' AND addressee = ''"
        " GROUP BY log) k ON k.log = l.number"
        " WHERE coalesce(p.n, 0) <> coalesce(k.n, 0)",
    ),
    (
        MISCOUNTED_MESSAGES,
        "SELECT l.room, f.n, coalesce(m.n, 0)"
        " FROM (SELECT log, count(*) AS n FROM facts WHERE type = 'message_posted' GROUP BY log) f"
        " JOIN logs l ON l.number = f.log"
        " LEFT JOIN (SELECT room, count(*) AS n FROM messages GROUP BY room) m ON m.room = l.room"
        " WHERE f.n <> coalesce(m.n, 0) AND l.room NOT IN (SELECT room FROM tombstones)",
    ),
)
