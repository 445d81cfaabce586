"""Transactions: which rooms are locked, what is read of them, what is written, and what became of it.

    lock    the heads of the rooms of a batch, in the order of their ids, so that two writers never wait for each other
    load    what the batch needs of these rooms beside what is remembered: counts, ends of lines, numbers of agents
    write   one statement for each table
    commit  apart from the rest, because only there an answer can be lost

Each of the four is one round trip to the server. What is remembered of a room holds as long as its head has the same
chain digest, which two logs never share. Not here: what jobs mean (`batching`). Above: `store`. Below: `connections`,
`tables`, `deleting`. Invariants: a room has one transaction in flight, for a transaction has the lock of its head until
it ends; a transaction happens as a whole or not at all, and one that may have happened is never told as one that did
not.
"""

from __future__ import annotations

import hashlib
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import psycopg

from parlerd.core.errors import StoreError
from parlerd.core.events import decode_header
from parlerd.core.model import AgentId, Position, RoomId
from parlerd.core.shards import shard_of
from parlerd.store.batching import Batch, Room, Sources, room_of
from parlerd.store.indexing import PROJECTIONS, Counts, counted_for, line_before
from parlerd.store.lines import thread_of
from parlerd.store.numbering import shown_of
from parlerd.store.port import (
    Append,
    BuryRoom,
    ClearRoom,
    DropLease,
    DropOutbox,
    DropRenewal,
    EraseBodies,
    ForgetMarks,
    Head,
    JobOutcome,
    PutLease,
    PutOutbox,
    PutRenewal,
    Write,
)
from parlerd.store.postgres import deleting, queries, searching
from parlerd.store.postgres.agents import Agents
from parlerd.store.postgres.connections import RETRIED, Connection, LostAnswer, Server, commit
from parlerd.store.postgres.tables import (
    BODIES,
    CURSORS,
    DELIVERIES,
    FACTS,
    HEADS,
    OWN_LINES,
    SIGHTS,
    SNAPSHOTS,
    Blobs,
    Table,
    Texts,
    arrays,
    insertion,
    of_index,
    unnested,
)
from parlerd.store.relays import Tenure
from parlerd.store.staging import EMPTY

_TRIES: Final = 5
"""How often a transaction is tried that met another, or whose connection had broken before it was to commit."""
_MAX_CACHED_ROOMS: Final = 4_096
"""How many rooms the writer remembers between transactions."""
_REFUSED: Final = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    UnicodeEncodeError,
    OverflowError,
    struct.error,
)
"""The database itself refuses a row, or cannot hold it: NUL, half a surrogate pair, an integer beyond 64 bits, a key
that is longer than an index takes."""

Rows = list[tuple[Table, Sequence[tuple[Any, ...]]]]


class Writer:
    """The one writer of a store. Threads that want to write wait for each other."""

    def __init__(self, server: Server, agents: Agents, random_bytes: Callable[[int], bytes]) -> None:
        self._server = server
        self._agents = agents
        self._sources = Sources(self._room, self._is_deleted, self._end_of, random_bytes, self._holds)
        # Held by the thread that writes.
        self._lock = threading.Lock()
        # What is remembered of rooms between transactions; emptied whenever a transaction fails.
        self._rooms: dict[RoomId, Room] = {}
        # Which rooms of the transaction are deleted, and where own lines end that it adds to.
        self._deleted: set[RoomId] = set()
        self._ends: dict[bytes, tuple[int, bytes] | None] = {}
        # The numbers of agents that the transaction uses.
        self._numbers: dict[AgentId, int] = {}
        # How the shards stand that its appends name.
        self._tenures: set[Tenure] = set()

    # -- transactions ----------------------------------------------------------------------------------------

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        """`Store.transact`."""
        with self._lock:
            try:
                return self._try(lambda: self._together(jobs))
            except _REFUSED:
                # A statement that several jobs share cannot tell whose row was refused. The jobs are done once more,
                # each with a savepoint of its own.
                try:
                    return self._try(lambda: self._one_by_one(jobs))
                except psycopg.Error as error:
                    raise self._server.meaning(error) from None

    def alone(self, work: Callable[[Connection], object]) -> None:
        """Do something else in a transaction of its own, while no other thread writes."""

        def done() -> list[JobOutcome]:
            connection = self._server.writer
            connection.execute("BEGIN")
            work(connection)
            return self._commit(connection, [JobOutcome()])

        with self._lock:
            try:
                (outcome,) = self._try(done)
            except psycopg.Error as error:
                raise self._server.meaning(error) from None
            finally:
                self._rooms.clear()
        if outcome.error is not None:
            raise outcome.error

    def _try(self, attempt: Callable[[], list[JobOutcome]]) -> list[JobOutcome]:
        """Do a transaction, again where it met another or its connection had broken. Nothing of it happened then,
        because it had not begun to commit. Raises `StoreError`, and `psycopg.Error` where a row was refused."""
        if self._server.damaged:
            raise self._server.damage()
        if len(self._rooms) > _MAX_CACHED_ROOMS:
            self._rooms.clear()
        tried = 0
        while True:
            tried += 1
            try:
                outcomes = attempt()
                self._agents.remember(self._numbers)
                return outcomes
            except BaseException as error:
                broken = self._undo()
                if not isinstance(error, psycopg.Error) or isinstance(error, _REFUSED):
                    raise
                # One break may be that of a server that was restarted; after a second there is no server.
                may_work = error.sqlstate in RETRIED or (broken and tried == 1)
                if not may_work or tried == _TRIES:
                    raise self._server.meaning(error) from None
            finally:
                self._deleted, self._ends, self._numbers = set(), {}, {}

    def _undo(self) -> bool:
        """Leave nothing of a transaction that failed; whether its connection is broken."""
        # The heads and counts in memory include what was just rolled back.
        self._rooms.clear()
        connection = self._server.writer_if_open
        try:
            if connection is not None:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            connection = None
        # After an error the server passes over the rest of a pipeline, while the driver remembers statements of it as
        # prepared, which every later transaction would then miss.
        self._server.drop_writer()
        if connection is None:
            self._agents.forget()
        return connection is None

    def _together(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        connection = self._server.writer
        self._lock_rooms(connection, jobs, begin=True)
        self._load(connection, jobs)
        batch = Batch()
        # A job that our own checks refuse adds no rows, so the other jobs share statements and need no savepoint.
        outcomes = [batch.take(job, self._sources) for job in jobs]
        self._write(connection, batch, light=_is_light(jobs))
        return self._commit(connection, outcomes)

    def _one_by_one(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        connection = self._server.writer
        # As in `_undo`: the connection is one that has prepared nothing, and it goes on after an error.
        prepared_after, connection.prepare_threshold = connection.prepare_threshold, None
        try:
            return self._commit(connection, self._each(connection, jobs))
        finally:
            connection.prepare_threshold = prepared_after

    def _each(self, connection: Connection, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        # All locks are taken in one order before the first job writes.
        self._lock_rooms(connection, jobs, begin=True)
        outcomes = []
        for job in jobs:
            connection.execute("SAVEPOINT job")
            try:
                self._lock_rooms(connection, [job], begin=False)
                self._load(connection, [job])
                batch = Batch()
                outcome = batch.take(job, self._sources)
                self._write(connection, batch, light=False)
                # What is only looked at when a transaction commits is looked at now, while it is one job's.
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
                connection.execute("SET CONSTRAINTS ALL DEFERRED")
            except _REFUSED as error:
                connection.execute("ROLLBACK TO job")
                self._rooms.clear()
                self._ends.clear()
                self._numbers.clear()
                outcome = JobOutcome(
                    error=StoreError("internal", "The database refused a fact.", constraint=_reason(error))
                )
            connection.execute("RELEASE job")
            outcomes.append(outcome)
        return outcomes

    def _commit(self, connection: Connection, outcomes: list[JobOutcome]) -> list[JobOutcome]:
        try:
            commit(connection)
        except LostAnswer:
            self._server.lose_writer()
            self._agents.forget()
            self._rooms.clear()
            self._numbers.clear()
            return [
                outcome if outcome.error else JobOutcome(StoreError("store_unknown"), outcome.heads)
                for outcome in outcomes
            ]
        return outcomes

    # -- looking up ------------------------------------------------------------------------------------------

    def _lock_rooms(self, connection: Connection, jobs: Sequence[Sequence[Write]], *, begin: bool) -> None:
        """Lock the heads of the rooms of some jobs, and forget of these what no longer holds."""
        writes = [write for job in jobs for write in job]
        locked = sorted({write.room for write in writes if isinstance(write, _LOCKING)})
        named = sorted({room for write in writes if (room := room_of(write)) is not None})
        shards = sorted({each.tenure.shard for each in writes if isinstance(each, Append) and each.tenure is not None})
        with connection.pipeline():
            if begin:
                connection.execute("BEGIN")
            asked = connection.execute(_LOCK, (Texts(locked),), binary=True) if locked else None
            # After the locks: a room may have been deleted while this waited for its head.
            buried = connection.execute(_GRAVES, (Texts(named),), binary=True) if named else None
            stand = connection.execute(_TENURES, (shards,), binary=True) if shards else None
        heads, graves, tenures = map(_answered, (asked, buried, stand))
        self._deleted.update(room for (room,) in graves)
        self._tenures = {Tenure(*each) for each in tenures}
        found = {RoomId(room): Head(*head) for room, *head in heads}
        for room in locked:
            head = found.get(room, EMPTY)
            known = self._rooms.get(room)
            if known is None or known.head.chain != head.chain or room in self._deleted:
                self._rooms[room] = Room(head, _Loaded(), deleted=room in self._deleted)

    def _load(self, connection: Connection, jobs: Sequence[Sequence[Write]]) -> None:
        """Read what the appends of some jobs need of their rooms, as far as it is not remembered."""
        shown: set[RoomId] = set()
        authors: set[tuple[RoomId, AgentId]] = set()
        readers: set[tuple[RoomId, AgentId]] = set()
        threads: set[bytes] = set()
        for append in (write for job in jobs for write in job if isinstance(write, Append)):
            known = self._rooms[append.room]
            counts = _loaded(known)
            # A room without a log has counted nothing, and one that the append does not fit is refused.
            if known.deleted:
                continue
            is_new = not known.head.position
            if not counts.begun:
                counts.begun = is_new
                if not is_new:
                    shown.add(append.room)
            for header in (new.header for new in append.facts):
                author, private = counted_for(header)
                if author is not None and author not in counts.authors:
                    counts.authors[author] = 0
                    authors.add((append.room, author))
                for reader in private:
                    if reader not in counts.readers:
                        counts.readers[reader] = (0, 0)
                        readers.add((append.room, reader))
                thread = thread_of(append.room, header) if append.own_lines else None
                if thread is not None and thread not in known.ends and thread not in self._ends:
                    self._ends[thread] = None
                    threads.add(thread)
        old = {room for room, known in self._rooms.items() if known.head.position}
        self._read(
            connection,
            sorted(shown),
            sorted(each for each in authors if each[0] in old),
            sorted(each for each in readers if each[0] in old),
            sorted(threads) if old else [],
        )

    def _read(
        self,
        connection: Connection,
        shown: Sequence[RoomId],
        authors: Sequence[tuple[RoomId, AgentId]],
        readers: Sequence[tuple[RoomId, AgentId]],
        threads: Sequence[bytes],
    ) -> None:
        wanted = (
            (_SHOWN, (Texts(shown),)),
            (_AUTHORED, _columns(authors)),
            (_PRIVATE, _columns(readers)),
            (_ENDS, (Blobs(threads),)),
        )
        if not any(columns[0].values for _, columns in wanted):
            return
        with connection.pipeline():
            asked = [
                connection.execute(sql, columns, binary=True) if columns[0].values else None for sql, columns in wanted
            ]
        places, authored, private, ends = map(_answered, asked)
        for room, number, line, public, counted, place, header in places:
            counts = _loaded(self._rooms[RoomId(room)])
            before = line_before(RoomId(room), None if header is None else decode_header(header).event)
            last = None if number is None else (number, line)
            counts.public = number or 0
            counts.line = shown_of(before, last, None if public is None else (public, counted, place)).line
            counts.begun = True
        for room, author, own in authored:
            _loaded(self._rooms[RoomId(room)]).authors[AgentId(author)] = own
        for room, reader, number, own in private:
            _loaded(self._rooms[RoomId(room)]).readers[AgentId(reader)] = (number, own)
        self._ends |= {thread: (number, line) for thread, number, line in ends}

    def _room(self, room: RoomId) -> Room:
        return self._rooms[room]

    def _holds(self, tenure: Tenure) -> bool:
        return tenure in self._tenures

    def _is_deleted(self, room: RoomId) -> bool:
        return room in self._deleted

    def _end_of(self, thread: bytes) -> tuple[int, bytes] | None:
        return self._ends[thread]

    # -- writing ---------------------------------------------------------------------------------------------

    def _write(self, connection: Connection, batch: Batch, *, light: bool) -> None:
        """Write the rows of a batch, and take a step with each deleted room that is to be cleared."""
        rows = _rows_of(batch)
        are_known = self._number(connection, rows)
        moved = _moved(batch)
        new = [head for head, is_new in moved if is_new]
        old = [head for head, is_new in moved if not is_new]
        with connection.pipeline():
            if light and are_known:
                connection.execute("SET LOCAL synchronous_commit = off")
            if old:
                connection.execute(_MOVE_HEADS, arrays(HEADS, old, self._numbers))
            if new:
                connection.execute(insertion(HEADS), arrays(HEADS, new, self._numbers))
            for table, made in rows:
                connection.execute(insertion(table), arrays(table, made, self._numbers))
            searching.note(connection, batch.noted)
            _keep(connection, batch)
            deleting.erase(connection, batch.erased)
            for room, at in batch.buried.items():
                if room in batch.unopened:
                    deleting.shut(connection, room, at)
                else:
                    deleting.bury(connection, room, at)
                self._rooms.pop(room, None)
        for room, limit in batch.cleared:
            deleting.clear(connection, room, limit, self._agents)

    def _number(self, connection: Connection, rows: Rows) -> bool:
        """Look up the numbers of the agents in some rows; whether all of them were remembered, so that none is given
        by this transaction."""
        asked = {agent for table, made in rows for agent in table.ids(made)} - self._numbers.keys()
        are_known = self._agents.has(asked)
        self._numbers |= self._agents.numbers(connection, asked)
        return are_known

    def write_index(self, connection: Connection, batch: Batch) -> None:
        """Write the rows that facts lead to, which are stored already. For `alone`."""
        rows = _index_rows(batch)
        self._number(connection, rows)
        with connection.pipeline():
            for table, made in rows:
                connection.execute(insertion(table), arrays(table, made, self._numbers))
            searching.note(connection, batch.noted)


def _answered(asked: psycopg.Cursor[tuple[Any, ...]] | None) -> list[Any]:
    """The rows of what was asked in a pipeline that has ended; none where nothing was asked. To fetch them within the
    pipeline would be a way to the server and back, and the pipeline's end another."""
    return [] if asked is None else asked.fetchall()


def _reason(error: Exception) -> str:
    """Why a row was refused, without anything that stands in it."""
    said = (error.diag.constraint_name or error.diag.message_primary) if isinstance(error, psycopg.Error) else None
    return said or type(error).__name__


class _Loaded(Counts):
    """Counts that go on from what was read. What is not read before it is asked for is an error."""

    __slots__ = ("authors", "begun", "readers")

    def __init__(self) -> None:
        super().__init__()
        self.begun = False
        """Whether it was read how many public messages the room has, and its line."""
        self.authors: dict[AgentId, int] = {}
        self.readers: dict[AgentId, tuple[int, int]] = {}

    def load_authored(self, author: AgentId) -> int:
        return self.authors[author]

    def load_private(self, reader: AgentId) -> tuple[int, int]:
        return self.readers[reader]


def _loaded(room: Room) -> _Loaded:
    assert isinstance(room.counts, _Loaded)
    return room.counts


def _columns(pairs: Sequence[tuple[RoomId, AgentId]]) -> tuple[Texts, Texts]:
    return Texts([room for room, _ in pairs]), Texts([agent for _, agent in pairs])


def _is_light(jobs: Sequence[Sequence[Write]]) -> bool:
    """Whether all that a batch writes may be lost with the server's last moments: it is repeated, or made again."""
    return not any(isinstance(write, _HEAVY) for job in jobs for write in job)


def _rows_of(batch: Batch) -> Rows:
    """The rows of a batch by table, in the order in which they are written."""
    rows: Rows = [
        (FACTS, [(part.room, *fact) for part in batch.parts for fact in part.facts]),
        (BODIES, [(part.room, *body) for part in batch.parts for body in part.bodies]),
        (OWN_LINES, [(room, *row) for room, row in batch.lines]),
    ]
    rows += _index_rows(batch)
    rows += [
        (CURSORS, _farthest(batch.cursors)),
        (DELIVERIES, _new_marks(batch.deliveries)),
        (SIGHTS, [msgspec.structs.astuple(batch.sights[key]) for key in sorted(batch.sights)]),
        (SNAPSHOTS, list({row[0]: (*row, hashlib.sha256(row[3]).digest()) for row in batch.snapshots}.values())),
    ]
    return [(table, made) for table, made in rows if made]


def _index_rows(batch: Batch) -> Rows:
    rows: Rows = []
    for projection, made in zip(PROJECTIONS, batch.index.tables, strict=True):
        # One statement may put a row in the place of another once.
        kept = (
            list({projection.key_of(row): row for row in made}.values())
            if projection.on_conflict == "replace"
            else made
        )
        if kept:
            rows.append((of_index(projection), kept))
    return rows


def _moved(batch: Batch) -> list[tuple[tuple[Any, ...], bool]]:
    """Where the heads of the rooms of a batch come to stand, in the order of their ids; each with whether the room is
    new."""
    found = []
    for room, parts in groupby(sorted(batch.parts, key=lambda part: part.room), key=lambda part: part.room):
        facts = [fact for part in parts for fact in part.facts]
        if facts:
            last = facts[-1]
            found.append(((room, shard_of(room), last.position, last.at, last.chain), facts[0].position == 1))
    return found


def _farthest(cursors: Iterable[tuple[RoomId, AgentId, Position, Position]]) -> list[tuple[Any, ...]]:
    """One row for each reader, in the order of the keys, so that no two transactions wait for each other."""
    found: dict[tuple[RoomId, AgentId], tuple[int, int]] = {}
    for room, reader, delivered, acknowledged in cursors:
        before = found.get((room, reader), (0, 0))
        found[room, reader] = max(before[0], delivered), max(before[1], acknowledged)
    return [(*key, *found[key]) for key in sorted(found)]


def _new_marks(marks: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The marks without those that an earlier one of the batch covers whole."""
    kept: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for mark in marks:
        earlier = kept.setdefault(mark[:3], [])
        if not any(each[3] >= mark[3] and each[4] <= mark[4] for each in earlier):
            earlier.append(mark)
    return [mark for each in kept.values() for mark in each]


def _keep(connection: Connection, batch: Batch) -> None:
    """Change the rows that come and go, each by a statement of its own: there are few."""
    for change in batch.kept:
        match change:
            case ForgetMarks(room=room, first=first, last=last, limit=limit):
                connection.execute("SELECT forget_marks(%s, %s, %s, %s)", (room, first, last, limit))
                which = {"room": room, "first": first, "last": last, "limit": limit}
                connection.execute(queries.FORGET_SIGHTS, which)
            case DropLease(window=window):
                connection.execute('DELETE FROM leases WHERE "window" = %s', (window,))
            case PutLease(lease=lease):
                row: tuple[Any, ...] = (
                    lease.window,
                    lease.agent,
                    lease.host,
                    lease.workspace,
                    lease.slot,
                    lease.taken_at,
                )
                connection.execute(_PUT_LEASE, row)
            case DropOutbox(message=message):
                connection.execute("DELETE FROM outbox WHERE message = %s", (message,))
            case PutOutbox(row=kept):
                row = (kept.message, kept.home, kept.room, kept.agent, kept.key, kept.at, kept.request, kept.refused)
                connection.execute(_PUT_OUTBOX, row)
            case DropRenewal(room=room, task=task):
                connection.execute("DELETE FROM renewals WHERE room = %s AND task = %s", (room, task))
            case PutRenewal():
                row = (change.room, change.task, change.fence, change.until)
                connection.execute(_PUT_RENEWAL, row)
            case _:
                raise AssertionError("a relay keeps no secret of a sealed room")


_LOCKING: Final = (Append, EraseBodies, BuryRoom, ClearRoom)
"""The writes that change the log of a room, or end it."""
_HEAVY: Final = (*_LOCKING, PutLease, DropLease, PutOutbox, DropOutbox, PutRenewal, DropRenewal)
_TENURES: Final = "SELECT shard, relay, incarnation, term FROM shards WHERE shard = ANY (%s::int[])"
_LOCK: Final = """
    SELECT room, position, at, chain FROM heads WHERE room = ANY (%s::text[]) ORDER BY room FOR UPDATE"""
_GRAVES: Final = "SELECT room FROM tombstones WHERE room = ANY (%s::text[])"
_MOVE_HEADS: Final = f"""
    UPDATE heads SET position = new.position, at = new.at, chain = new.chain
      FROM {unnested(HEADS, "new")} WHERE heads.room = new.room"""  # noqa: S608 - our own names
_SHOWN: Final = """
    SELECT r.room, m.number, m.line, p.public, p.counted, p.line, f.header
      FROM unnest(%s::text[]) AS r (room)
      LEFT JOIN LATERAL (SELECT number, line FROM public_messages
                          WHERE room = r.room ORDER BY position DESC LIMIT 1) m ON true
      LEFT JOIN LATERAL (SELECT public, counted, line FROM mirror_places
                          WHERE room = r.room ORDER BY position DESC LIMIT 1) p ON true
      LEFT JOIN facts f ON m.number IS NULL AND f.room = r.room AND f.position = 1"""
_AUTHORED: Final = """
    SELECT asked.room, asked.agent, m.own
      FROM unnest(%s::text[], %s::text[]) AS asked (room, agent) JOIN agents a ON a.id = asked.agent
     CROSS JOIN LATERAL (SELECT own FROM public_messages WHERE room = asked.room AND author = a.number
                          ORDER BY position DESC LIMIT 1) m"""
_PRIVATE: Final = """
    SELECT asked.room, asked.agent, m.number, m.own
      FROM unnest(%s::text[], %s::text[]) AS asked (room, agent) JOIN agents a ON a.id = asked.agent
     CROSS JOIN LATERAL (SELECT number, own FROM private_messages WHERE room = asked.room AND reader = a.number
                          ORDER BY position DESC LIMIT 1) m"""
_ENDS: Final = """
    SELECT asked.thread, o.number, o.line
      FROM unnest(%s::bytea[]) AS asked (thread)
     CROSS JOIN LATERAL (SELECT number, line FROM own_lines WHERE thread = asked.thread
                          ORDER BY number DESC LIMIT 1) o"""
_PUT_LEASE: Final = """
    INSERT INTO leases ("window", agent, host, workspace, slot, taken_at) VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT ("window") DO UPDATE SET agent = excluded.agent, host = excluded.host, workspace = excluded.workspace,
           slot = excluded.slot, taken_at = excluded.taken_at"""
_PUT_OUTBOX: Final = """
    INSERT INTO outbox (message, home, room, agent, key, at, request, refused) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (message) DO UPDATE SET home = excluded.home, room = excluded.room, agent = excluded.agent,
           key = excluded.key, at = excluded.at, request = excluded.request, refused = excluded.refused"""
_PUT_RENEWAL: Final = """
    INSERT INTO renewals (room, task, fence, until) VALUES (%s, %s, %s, %s)
    ON CONFLICT (room, task) DO UPDATE SET fence = excluded.fence, until = excluded.until"""
