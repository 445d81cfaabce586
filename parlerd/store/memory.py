"""The store without a disk, on which most tests run: the plainest reading of the contract in `port`.

Checks, digests, index rows and numbers are those of the SQLite store, because both use `staging`, `indexing` and
`numbering`; the two differ only in where rows are kept. Several threads may use the store, because one lock is around
everything. Invariant: a refused job leaves no trace.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, Generic

import msgspec

from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.events import Header, MessagePosted, decode_header
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
    Seq,
    Shown,
    Stage,
    View,
)
from parlerd.core.recall import Term, has_terms, terms_of, words_of
from parlerd.core.receipts import FactRef
from parlerd.store.batching import room_of
from parlerd.store.indexing import (
    DEADLINES,
    FILTERS,
    KEYS,
    MEMBERSHIPS,
    MESSAGES,
    PLACES,
    PRIORS,
    PRIVATE,
    PROJECTIONS,
    PUBLIC,
    ROOMS,
    STATE_WRITES,
    Counts,
    PrivateRow,
    Projection,
    PublicRow,
    R,
    RoomRow,
    Rows,
    derive,
    line_before,
)
from parlerd.store.lines import Ends, LineRow, Stored, first_broken, lined, receipted
from parlerd.store.numbering import NOTHING, Numbering, Tally, line_of, public_place, shown_of
from parlerd.store.port import (
    PROVEN,
    START,
    Append,
    BuryRoom,
    ClearRoom,
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
    EraseBodies,
    FileSealRow,
    ForgetMarks,
    Head,
    Held,
    IndexMemory,
    JobOutcome,
    KeyExchangeRow,
    KeyTriesRow,
    Lease,
    MadeRecordRow,
    MarkDelivery,
    Membership,
    MoveCursor,
    NewFact,
    OutboxRow,
    Page,
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
    StoredMessage,
    UsedKey,
    Write,
    past_one_by_one,
    prior_by_id,
)
from parlerd.store.relays import Tenure
from parlerd.store.several import OneByOne
from parlerd.store.staging import EMPTY, MESSAGE, NO_CHAIN, SALT_LENGTH, FactRow, Staged, is_intact, is_unaltered, stage

_LADDER: Final[tuple[Stage, ...]] = ("stored", "pushed", "read", "acknowledged", "acted")
_POSITION: Final = attrgetter("position")


class MemoryStore(OneByOne):
    """`Store` in dictionaries. What it keeps ends with the process."""

    def __init__(self, *, random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        self._random = random_bytes
        # Reentrant, because reads call each other.
        self._lock = threading.RLock()
        self._logs: dict[RoomId, _Log] = {}
        self.index = Index()
        """The rows of every index. Tests look at them and damage them."""
        self._cursors: dict[tuple[RoomId, AgentId], Cursor] = {}
        # The marks of each reader and stage, in the order in which they were made.
        self._marks: dict[tuple[RoomId, AgentId, Stage], list[MarkDelivery]] = {}
        # Leases by window.
        self._leases: dict[str, Lease] = {}
        # What waits for other homes, by message, in the order in which it came.
        self._outbox: dict[MessageId, OutboxRow] = {}
        self._renewals: dict[tuple[RoomId, MessageId], PutRenewal] = {}
        self._sights: dict[tuple[RoomId, Position, AgentId], PutSight] = {}
        self._sealing_keys: dict[tuple[HomeId, AgentId, int], SealingKeyRow] = {}
        self._epoch_secrets: dict[tuple[RoomId, int, str], EpochSecretRow] = {}
        self._made_records: dict[tuple[RoomId, int, bytes], MadeRecordRow] = {}
        self._file_seals: dict[tuple[RoomId, AgentId, bytes], FileSealRow] = {}
        self._key_exchanges: dict[tuple[RoomId, bytes, str], KeyExchangeRow] = {}
        self._key_tries: dict[tuple[RoomId, str, PrincipalId], KeyTriesRow] = {}
        self._snapshots: dict[RoomId, Snapshot] = {}
        # Where own lines end.
        self._ends: Ends = {}
        self.holds: Callable[[Tenure], bool] = lambda tenure: True
        """Whether a tenure holds, where several relays have this store."""
        self._graves: dict[RoomId, _Log] = {}
        """What is left of the rooms that were deleted."""

    # -- writing -------------------------------------------------------------------------------------------

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        with self._lock:
            outcomes, pending = self._stage(jobs)
            self._commit()
            for part in pending.staged:
                self._append(part)
            for room, row in pending.lines:
                self._logs[room].lines[row.position] = row
            self._ends |= pending.ends
            for job, outcome in zip(jobs, outcomes, strict=True):
                if outcome.error is None:
                    for write in job:
                        self._keep(write)
            return outcomes

    def _rehearse(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        """What `transact` would answer, with nothing changed. A store that a test lets fail uses this."""
        with self._lock:
            return self._stage(jobs)[0]

    def _stage(self, jobs: Sequence[Sequence[Write]]) -> tuple[list[JobOutcome], _Pending]:
        pending = _Pending()
        return [self._check(job, pending) for job in jobs], pending

    def _commit(self) -> None:
        """Nothing to do without a disk. A store that a test lets fail raises here, while nothing is changed yet."""

    def _check(self, job: Sequence[Write], pending: _Pending) -> JobOutcome:
        heads: dict[RoomId, Head] = {}
        staged: list[Staged] = []
        try:
            for append in (write for write in job if isinstance(write, Append)):
                if append.room in self._graves or append.room in pending.buried:
                    raise Refused("room_deleted")
                if append.tenure is not None and not self.holds(append.tenure):
                    raise StoreError("room_moved")
                head = heads.get(append.room) or pending.heads.get(append.room) or self.head(append.room)
                part = stage(append, head, self._random(SALT_LENGTH * len(append.facts)))
                heads[append.room] = part.head
                staged.append(part)
            for room in (write.room for write in job if isinstance(write, BuryRoom) and write.unopened):
                head = heads.get(room) or pending.heads.get(room) or self.head(room)
                if head.position and room not in pending.buried:
                    raise StoreError("stale_position", room=room, expected=0, head=head.position)
        except ParlerError as error:
            return JobOutcome(error=error)
        names = [name for part in staged for header in part.headers for name in _guarded(header)]
        taken = (name in pending.names or self.index.get(name[0], *name[1]) is not None for name in names)
        if len(set(names)) < len(names) or any(taken) or not self._left_behind().isdisjoint(names):
            return JobOutcome(error=StoreError("internal", "The database refused a fact.", constraint="unique"))
        pending.names.update(names)
        pending.heads |= heads
        pending.staged += staged
        pending.buried.update(write.room for write in job if isinstance(write, BuryRoom))
        numbers: dict[tuple[RoomId, Position], FactRef] = {}
        for part in staged:
            rows, named = lined(part, pending.ends, self._ends.get)
            pending.lines += [(part.room, row) for row in rows]
            numbers |= named
        return JobOutcome(heads=heads, numbers=numbers)

    def _append(self, part: Staged) -> None:
        if not part.facts:
            return
        log = self._logs.setdefault(part.room, _Log())
        log.facts += part.facts
        log.bodies |= {row.position: (row.body, row.signature) for row in part.bodies}
        rows = Rows()
        for header in part.headers:
            derive(rows, part.room, header, log.counts)
        self.index.add(rows)

    def is_brought(self, blob: BlobId) -> bool:
        with self._lock:
            return any(blob in self._brought(room) for room in self._logs)

    def brought(self, room: RoomId) -> list[BlobId]:
        with self._lock:
            return sorted(self._brought(room))

    def _brought(self, room: RoomId) -> set[BlobId]:
        log = self._logs.get(room, _Log())
        found = (decode_header(fact.header) for fact in log.facts if fact.type == MESSAGE)
        return {
            header.event.blob
            for header in found
            if isinstance(header.event, MessagePosted) and header.event.blob and header.position not in log.erased
        }

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        with self._lock:
            log = self._logs.get(room, _Log())
            current: set[Position] = set()
            for fact in log.facts:
                header = decode_header(fact.header)
                if isinstance(header.event, MessagePosted) and (note := header.event.memory) is not None:
                    current.difference_update(note.drops)
                    current.update(() if note.forgets else (header.position,))
            found: list[Remembered] = []
            for position in sorted(current, reverse=True):
                body = log.bodies.get(position, (b"", None))[0]
                said = words_of(body)
                if (
                    after < position < before
                    and said is not None
                    and has_terms(terms_of(said), terms)
                    and len(found) < limit
                ):
                    fact = log.facts[position - 1]
                    header = decode_header(fact.header)
                    unaltered = is_unaltered(fact.salt, fact.header, fact.digest, header, body)
                    found.append(Remembered(header, body, unaltered))
            return found

    def state_versions(self, room: RoomId, scope: str, key: str, before: Position, limit: int) -> list[Position]:
        with self._lock:
            rows = self.index.of(STATE_WRITES).found(room=room, scope=scope, key=key)
            return [row.position for row in reversed(rows) if row.position < before][:limit]

    def state_at(self, room: RoomId, upto: Position) -> list[Position]:
        with self._lock:
            rows = self.index.of(STATE_WRITES).found(room=room)
            newest = {(row.scope, row.key): row.position for row in rows if row.position <= upto}
            return [newest[name] for name in sorted(newest)]

    def _keep(self, write: Write) -> None:
        room = room_of(write)
        if isinstance(write, ClearRoom):
            self._clear(write)
        elif room in self._graves:
            return
        elif isinstance(write, BuryRoom):
            self._bury(write.room)
        elif isinstance(write, MoveCursor):
            self._advance(write.room, write.reader, write.acknowledged, write.acknowledged)
        elif isinstance(write, MarkDelivery):
            marks = self._marks.setdefault((write.room, write.reader, write.stage), [])
            covered = any(mark.upto >= write.upto and mark.after <= write.after for mark in marks)
            if write.after < write.upto and not covered:
                marks.append(write)
            self._advance(write.room, write.reader, write.upto if write.stage == "read" else Position(0), Position(0))
        elif isinstance(write, PutLease):
            self._leases[write.lease.window] = write.lease
        elif isinstance(write, DropLease):
            self._leases.pop(write.window, None)
        elif isinstance(write, PutOutbox):
            self._outbox[write.row.message] = write.row
        elif isinstance(write, DropOutbox):
            self._outbox.pop(write.message, None)
        elif isinstance(write, PutRenewal):
            self._renewals[write.room, write.task] = write
        elif isinstance(write, PutSight):
            known = self._sights.get((write.room, write.position, write.reader))
            if known is None or known.verdict not in PROVEN:
                self._sights[write.room, write.position, write.reader] = write
        elif isinstance(write, DropRenewal):
            self._renewals.pop((write.room, write.task), None)
        elif isinstance(write, PutSealingKey):
            self._sealing_keys.setdefault((write.row.home, write.row.agent, write.row.counter), write.row)
        elif isinstance(write, DropSealingKeys):
            self._sealing_keys = {
                key: row
                for key, row in self._sealing_keys.items()
                if key[:2] != (write.home, write.agent) or row.counter >= write.below
            }
        elif isinstance(write, PutEpochSecret):
            self._epoch_secrets.setdefault((write.row.room, write.row.number, write.row.requester), write.row)
        elif isinstance(write, DropEpochSecrets):
            self._epoch_secrets = {
                key: row
                for key, row in self._epoch_secrets.items()
                if row.room != write.room or row.number >= write.below
            }
        elif isinstance(write, PutMadeRecord):
            self._made_records[write.row.room, write.row.number, write.row.record] = write.row
        elif isinstance(write, PutFileSeal):
            kept = self._file_seals.setdefault((write.row.room, write.row.agent, write.row.digest), write.row)
            used = msgspec.structs.replace(kept, used_at=write.row.used_at)
            self._file_seals[kept.room, kept.agent, kept.digest] = used
        elif isinstance(write, DropFileSeals):
            self._file_seals = {key: row for key, row in self._file_seals.items() if row.used_at >= write.before}
        elif isinstance(write, ForgetMarks):
            self._forget_marks(write)
        elif isinstance(write, PutKeyExchange):
            self._key_exchanges[write.row.room, write.row.share, write.row.role] = write.row
        elif isinstance(write, DropKeyExchange):
            self._key_exchanges.pop((write.room, write.share, write.role), None)
        elif isinstance(write, PutKeyTries):
            tried = write.row
            before = self._key_tries.setdefault((tried.room, tried.ref, tried.principal), tried)
            if tried.tries > before.tries:
                self._key_tries[tried.room, tried.ref, tried.principal] = tried
        elif isinstance(write, EraseBodies):
            self._erase(write)
        elif not isinstance(write, Append | IndexMemory):
            self._snapshots[write.room] = Snapshot(write.fold_version, write.position, write.data)

    def _bury(self, room: RoomId) -> None:
        self._graves[room] = self._logs.pop(room, _Log())
        self._snapshots.pop(room, None)
        self._cursors = {key: cursor for key, cursor in self._cursors.items() if key[0] != room}
        self._marks = {key: marks for key, marks in self._marks.items() if key[0] != room}
        self._outbox = {message: row for message, row in self._outbox.items() if row.room != room}
        self._renewals = {key: row for key, row in self._renewals.items() if key[0] != room}
        self._sights = {key: row for key, row in self._sights.items() if key[0] != room}
        self._epoch_secrets = {key: row for key, row in self._epoch_secrets.items() if key[0] != room}
        self._made_records = {key: row for key, row in self._made_records.items() if key[0] != room}
        self._file_seals = {key: row for key, row in self._file_seals.items() if key[0] != room}
        self._key_exchanges = {key: row for key, row in self._key_exchanges.items() if key[0] != room}
        self._key_tries = {key: row for key, row in self._key_tries.items() if key[0] != room}
        self.rebuild_index()

    def _clear(self, write: ClearRoom) -> None:
        if facts := self._graves.get(write.room, _Log()).facts:
            # The first fact goes last and by itself.
            del facts[max(1, len(facts) - write.limit) if len(facts) > 1 else 0 :]

    def _left_behind(self) -> set[tuple[Projection[Any], tuple[Any, ...]]]:
        """The keys that rooms still hold which were deleted and are not cleared yet."""
        facts = (fact for log in self._graves.values() for fact in log.facts)
        return {name for fact in facts for name in _guarded(decode_header(fact.header))}

    def is_deleted(self, room: RoomId) -> bool:
        with self._lock:
            return room in self._graves

    def uncleared(self) -> list[RoomId]:
        with self._lock:
            return [room for room, log in self._graves.items() if log.facts]

    def is_memory_indexed(self) -> bool:
        return True

    def newest_unindexed(self, room: RoomId) -> Position:
        return Position(0)

    def _erase(self, write: EraseBodies) -> None:
        held = {position for position, _ in self._bodies_of_messages(write.room)}
        for position in held.intersection(write.positions):
            del self._logs[write.room].bodies[position]
            self._logs[write.room].erased.add(position)

    def _goes(self, room: RoomId, mark: MarkDelivery, first: Position, last: Position) -> bool:
        """Whether a mark covers messages from `first` to `last` alone, and none that has words."""
        if not first - 1 <= mark.after < mark.upto <= last:
            return False
        return not any(mark.after < position <= mark.upto for position, _ in self._bodies_of_messages(room))

    def has_marks(self, room: RoomId, first: Position, last: Position) -> bool:
        with self._lock:
            marks = [mark for (where, _, _), found in self._marks.items() if where == room for mark in found]
            return any(self._goes(room, mark, first, last) for mark in marks) or bool(self._unsaid(room, first, last))

    def _unsaid(self, room: RoomId, first: Position, last: Position) -> list[tuple[RoomId, Position, AgentId]]:
        """The rows of sight of messages from `first` to `last` that have no words."""
        said = {position for position, _ in self._bodies_of_messages(room)}
        return [
            key for key in sorted(self._sights) if key[0] == room and first <= key[1] <= last and key[1] not in said
        ]

    def _forget_marks(self, write: ForgetMarks) -> None:
        left = write.limit
        for (room, _, _), marks in sorted(self._marks.items()):
            for mark in list(marks) if room == write.room else ():
                if left and self._goes(room, mark, write.first, write.last):
                    marks.remove(mark)
                    left -= 1
        for key in self._unsaid(write.room, write.first, write.last)[: write.limit]:
            del self._sights[key]

    def _advance(self, room: RoomId, reader: AgentId, delivered: Position, acknowledged: Position) -> None:
        known = self._cursors.get((room, reader), Cursor())
        self._cursors[room, reader] = Cursor(max(known.delivered, delivered), max(known.acknowledged, acknowledged))

    # -- the log -------------------------------------------------------------------------------------------

    def head(self, room: RoomId) -> Head:
        with self._lock:
            log = self._logs.get(room)
            if log is None:
                return EMPTY
            last = log.facts[-1]
            return Head(last.position, last.at, last.chain)

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        with self._lock:
            facts = self._facts(room)
            return facts[position - 1].chain if 0 < position <= len(facts) else EMPTY.chain

    def shown_at(self, room: RoomId, position: Position) -> Shown:
        with self._lock:
            public = self.index.of(PUBLIC).found(room=room)
            places = self.index.of(PLACES).found(room=room)
            last = public[before - 1] if (before := bisect_right(public, position, key=_POSITION)) else None
            place = places[before - 1] if (before := bisect_right(places, position, key=_POSITION)) else None
            return shown_of(
                self._line_before(room),
                None if last is None else (last.number, last.line),
                None if place is None else (place.public, place.counted, place.line),
            )

    def line_at(self, room: RoomId, number: int) -> bytes | None:
        with self._lock:
            head = self.head(room).position
            return line_of(number, head, lambda position: self.shown_at(room, position)) if head else None

    def public_position(self, room: RoomId, number: int) -> Position | None:
        with self._lock:
            place = public_place(number, self.head(room).position, lambda position: self.shown_at(room, position))
            return None if place is None or self.message(room, place) is None else place

    def _line_before(self, room: RoomId) -> bytes:
        first = self._facts(room)[:1]
        return line_before(room, decode_header(first[0].header).event if first else None)

    def rooms(self) -> list[RoomId]:
        with self._lock:
            return [row.room for row in self.index.opened()]

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        with self._lock:
            rows = self._facts(room)[max(0, after) :][:limit]
        return [decode_header(row.header) for row in rows]

    def body(self, room: RoomId, position: Position) -> tuple[bytes, bytes | None] | None:
        with self._lock:
            log = self._logs.get(room)
            return None if log is None else log.bodies.get(position)

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        with self._lock:
            rows = self._facts(room)[max(0, after) :][:limit]
            return [
                NewFact(decode_header(row.header), *(self.body(room, row.position) or (None, None))) for row in rows
            ]

    def receipted(self, room: RoomId, position: Position) -> Receipted | None:
        with self._lock:
            facts = self._facts(room)
            if not 0 < position <= len(facts):
                return None
            fact, row = facts[position - 1], self._logs[room].lines.get(position)
            return receipted(
                fact.header,
                fact.salt,
                fact.digest,
                self.body(room, position),
                None if row is None else (row.thread, row.number),
                None if row is None or row.number == 1 else self._line(room, row.thread, row.number - 1),
            )

    def _line(self, room: RoomId, thread: bytes, number: int) -> bytes | None:
        rows = self._logs.get(room, _Log()).lines.values()
        return next((row.line for row in rows if (row.thread, row.number) == (thread, number)), None)

    def place_in_line(self, room: RoomId, thread: bytes, number: int) -> Position | None:
        with self._lock:
            rows = self._logs.get(room, _Log()).lines.values()
            return next((row.position for row in rows if (row.thread, row.number) == (thread, number)), None)

    def first_unlined(self, room: RoomId) -> Position | None:
        with self._lock:
            lines = self._logs.get(room, _Log()).lines
            facts = enumerate(self._facts(room), 1)
            return first_broken(
                room, (Stored(Position(at), fact.header, fact.digest, lines.get(Position(at))) for at, fact in facts)
            )

    def erased(self, room: RoomId, after: Position, upto: Position) -> set[Position]:
        with self._lock:
            log = self._logs.get(room, _Log())
            return {position for position in log.erased if after < position <= upto}

    def held(self, room: RoomId, after: Position = START, upto: Position | None = None) -> Held:
        with self._lock:
            sizes = [
                size
                for position, size in self._bodies_of_messages(room)
                if position > after and (upto is None or position <= upto)
            ]
            return Held(len(sizes), sum(sizes))

    def oldest_bodies(self, room: RoomId, after: Position, limit: int) -> list[tuple[Position, int]]:
        with self._lock:
            return [found for found in self._bodies_of_messages(room) if found[0] > after][:limit]

    def written(self, room: RoomId, after: Position, upto: Position) -> dict[PrincipalId, int]:
        with self._lock:
            found: Counter[PrincipalId] = Counter()
            for position, (body, _) in self._logs.get(room, _Log()).bodies.items():
                if after < position <= upto:
                    header = decode_header(self._logs[room].facts[position - 1].header)
                    found[header.by.principal] += len(body)
            return dict(found)

    def _bodies_of_messages(self, room: RoomId) -> list[tuple[Position, int]]:
        log = self._logs.get(room, _Log())
        return [
            (position, len(body))
            for position, (body, _) in sorted(log.bodies.items())
            if log.facts[position - 1].type == MESSAGE
        ]

    def snapshot(self, room: RoomId) -> Snapshot | None:
        with self._lock:
            return self._snapshots.get(room)

    def _facts(self, room: RoomId) -> list[FactRow]:
        log = self._logs.get(room)
        return [] if log is None else log.facts

    # -- messages as a reader sees them ----------------------------------------------------------------------

    def page(
        self,
        room: RoomId,
        view: View,
        after: Position,
        *,
        limit: int,
        max_bytes: int,
        skip_own: bool,
        kind: str | None = None,
        names: Sequence[str] = (),
    ) -> Page:
        is_filtered = kind is not None or bool(names)
        with self._lock:
            head = self.head(room)
            start = max(Position(0), min(after, head.position))
            wanted = [
                row
                for row in self._visible(room, view)
                if row.position > start and not (skip_own and row.author == view.reader)
            ]
            if is_filtered:
                found = self.index.matching(room, view.reader, names or ("",), kind or "")
                wanted = [row for row in wanted if row.position in found]
            messages, more = self._take(room, view, wanted, limit, max_bytes)
            if more or not skip_own or is_filtered:
                end = messages[-1].header.position if messages else start
            else:
                end = head.position
            return Page(messages, end, self.seq_at(room, view, end), self.shown_at(room, end), more)

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        with self._lock:
            newest_first = list(reversed(self._visible(room, view)))
            messages, more = self._take(room, view, newest_first, limit, max_bytes)
            messages.reverse()
            end = messages[-1].header.position if messages else self.head(room).position
            return Page(messages, end, self.seq_at(room, view, end), self.shown_at(room, end), more)

    def seq_at(self, room: RoomId, view: View, position: Position) -> Seq:
        with self._lock:
            return self._numbering(room, view).seq_at(position)

    def position_of(self, room: RoomId, view: View, seq: Seq) -> Position:
        with self._lock:
            return self._numbering(room, view).position_of(seq)

    def unread(self, room: RoomId, view: View, after: Position) -> int:
        with self._lock:
            return self._numbering(room, view).unread(after)

    def _numbering(self, room: RoomId, view: View) -> Numbering:
        public = self.index.of(PUBLIC).found(room=room)
        own = self.index.of(PUBLIC).found(room=room, author=view.reader)
        private = self.index.of(PRIVATE).found(room=room, reader=view.reader)

        def ask(position: int) -> Tally:
            last = private[before - 1] if (before := bisect_right(private, position, key=_POSITION)) else None
            return Tally(
                bisect_right(public, position, key=_POSITION),
                bisect_right(own, position, key=_POSITION),
                NOTHING.private if last is None else last.number,
                NOTHING.own_private if last is None else last.own,
            )

        return Numbering(view, self.head(room).position, ask)

    def _visible(self, room: RoomId, view: View) -> list[PublicRow | PrivateRow]:
        public = self.index.of(PUBLIC).found(room=room)
        rows: list[PublicRow | PrivateRow] = []
        for after, upto in view.spans:
            low = bisect_right(public, after, key=_POSITION)
            high = len(public) if upto is None else bisect_right(public, upto, key=_POSITION)
            rows += public[low:high]
        rows += self.index.of(PRIVATE).found(room=room, reader=view.reader)
        return sorted(rows, key=_POSITION)

    def _take(
        self, room: RoomId, view: View, rows: Iterable[PublicRow | PrivateRow], limit: int, max_bytes: int
    ) -> tuple[list[StoredMessage], bool]:
        numbering = self._numbering(room, view)
        messages: list[StoredMessage] = []
        size = 0
        for row in rows:
            body, signature = self._logs[room].bodies.get(row.position, (None, None))
            size += len(body or b"")
            if len(messages) == limit or (messages and size > max_bytes):
                return messages, True
            fact = self._logs[room].facts[row.position - 1]
            header = decode_header(fact.header)
            unaltered = is_unaltered(fact.salt, fact.header, fact.digest, header, body)
            messages.append(
                StoredMessage(
                    room,
                    numbering.seq_at(row.position),
                    header,
                    body,
                    signature,
                    unaltered=unaltered,
                    is_erased=row.position in self._logs[room].erased,
                )
            )
        return messages, False

    # -- looking things up -----------------------------------------------------------------------------------

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None:
        with self._lock:
            row = self.index.get(MESSAGES, message)
            return None if row is None else (row.room, row.position)

    def message(self, room: RoomId, position: Position) -> Header | None:
        with self._lock:
            facts = self._facts(room)
            if not 1 <= position <= len(facts):
                return None
            header = decode_header(facts[position - 1].header)
        return header if isinstance(header.event, MessagePosted) else None

    def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
        with self._lock:
            row = self.index.get(PRIORS, room, actor, operation, key)
            if row is not None:
                header = decode_header(self._logs[room].facts[row.position - 1].header)
                return Prior(row.position, header.input or b"")
        return prior_by_id(self, room, actor, operation, key)

    def past(
        self, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId], lines: Sequence[int] = ()
    ) -> Past:
        return past_one_by_one(self, room, keys, messages, lines)

    def room_of_key(self, key: KeyId) -> RoomId | None:
        with self._lock:
            row = self.index.get(KEYS, key)
            return None if row is None else row.room

    def memberships(self, agent: AgentId) -> list[Membership]:
        with self._lock:
            return [
                Membership(row.room, agent, found.state)
                for row in self.index.opened()
                if row.principal and (found := self.index.get(MEMBERSHIPS, agent, row.room)) is not None
            ]

    def owned(self, principal: str) -> list[RoomId]:
        with self._lock:
            return [row.room for row in self.index.opened() if principal and row.principal == principal]

    def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
        with self._lock:
            first: dict[RoomId, Millis] = {}
            for row in self.index.of(DEADLINES).rows.values():
                if row.at > after or (row.at > 0 and row.subject.startswith(("task:", "gated:"))):
                    first[row.room] = min(row.at, first.get(row.room, row.at))
            return first

    def cursor(self, room: RoomId, reader: AgentId) -> Cursor:
        with self._lock:
            return self._cursors.get((room, reader), Cursor())

    def deliveries(self, room: RoomId, position: Position) -> list[Delivery]:
        with self._lock:
            found: list[Delivery] = []
            for (where, reader, step), marks in self._marks.items():
                covering = [mark for mark in marks if mark.after < position <= mark.upto]
                if where == room and covering:
                    first = min(covering, key=lambda mark: (mark.at, mark.upto, mark.after))
                    found.append(Delivery(reader, step, first.upto, first.at))
            return sorted(found, key=lambda delivery: (delivery.reader, _LADDER.index(delivery.stage)))

    def sights(self, room: RoomId, position: Position) -> list[PutSight]:
        with self._lock:
            return [self._sights[key] for key in sorted(self._sights) if key[:2] == (room, position)]

    def sights_to_show_again(self, room: RoomId, reader: AgentId, most: int) -> list[PutSight]:
        with self._lock:
            return [
                row
                for (where, _, who), row in sorted(self._sights.items())
                if (where, who) == (room, reader) and row.verdict in ("cut", "not_shown") and row.again < most
            ]

    def sights_of_nobody(self, after: Millis, upto: Millis, limit: int) -> list[PutSight]:
        with self._lock:
            newest: dict[tuple[RoomId, Position], PutSight] = {}
            rows = sorted(self._sights.values(), key=lambda row: (row.at, row.reader))
            newest |= {(row.room, row.position): row for row in rows if row.verdict != "unknown"}
            proven = {(row.room, row.position) for row in rows if row.verdict in PROVEN}
            found = [row for name, row in newest.items() if name not in proven and after < row.at <= upto]
            return sorted(found, key=lambda row: (row.at, row.room, row.position))[:limit]

    def leases(self) -> list[Lease]:
        with self._lock:
            return sorted(self._leases.values(), key=lambda lease: (lease.taken_at, lease.window))

    def outbox(self, home: HomeId) -> list[OutboxRow]:
        with self._lock:
            return [row for row in self._outbox.values() if row.home == home]

    def sealing_keys(self, home: HomeId) -> list[SealingKeyRow]:
        with self._lock:
            return [row for key, row in sorted(self._sealing_keys.items()) if key[0] == home]

    def epoch_secrets(self, room: RoomId) -> list[EpochSecretRow]:
        with self._lock:
            return [row for key, row in sorted(self._epoch_secrets.items()) if key[0] == room]

    def made_records(self, room: RoomId) -> list[MadeRecordRow]:
        with self._lock:
            return [row for key, row in sorted(self._made_records.items()) if key[0] == room]

    def file_seals(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        with self._lock:
            return [row for key, row in sorted(self._file_seals.items()) if key[:2] == (room, agent)]

    def key_exchanges(self, room: RoomId) -> list[KeyExchangeRow]:
        with self._lock:
            return [row for key, row in sorted(self._key_exchanges.items()) if key[0] == room]

    def unanswered_exchanges(self, before: Millis) -> list[KeyExchangeRow]:
        with self._lock:
            rows = [row for _, row in sorted(self._key_exchanges.items()) if row.at < before]
            return [row for row in rows if (row.role, row.stage) == ("joiner", "begun")]

    def key_tries(self, room: RoomId) -> list[KeyTriesRow]:
        with self._lock:
            return [row for key, row in sorted(self._key_tries.items()) if key[0] == room]

    def renewals(self, room: RoomId) -> list[PutRenewal]:
        with self._lock:
            return [row for key, row in sorted(self._renewals.items()) if key[0] == room]

    # -- care ------------------------------------------------------------------------------------------------

    def verify_chain(self, room: RoomId) -> Position | None:
        with self._lock:
            previous = NO_CHAIN
            for index, row in enumerate(self._facts(room)):
                body, _ = self._logs[room].bodies.get(row.position, (None, None))
                if row.position != index + 1 or not is_intact(
                    previous, row.salt, row.header, row.digest, row.chain, body
                ):
                    return Position(index + 1)
                previous = row.chain
            return None

    def check(self) -> list[str]:
        return []

    def rebuild_index(self) -> None:
        with self._lock:
            index = Index()
            counted: dict[RoomId, Counts] = {}
            for room, log in self._logs.items():
                rows, counts = Rows(), Counts()
                for fact in log.facts:
                    derive(rows, room, decode_header(fact.header), counts)
                index.add(rows)
                counted[room] = counts
            self.index = index
            for room, counts in counted.items():
                self._logs[room].counts = counts

    def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class _Log:
    facts: list[FactRow] = field(default_factory=list)
    bodies: dict[Position, tuple[bytes, bytes | None]] = field(default_factory=dict)
    erased: set[Position] = field(default_factory=set)
    """The messages whose bodies were erased on purpose."""
    counts: Counts = field(default_factory=Counts)
    lines: dict[Position, LineRow] = field(default_factory=dict)


@dataclass(slots=True)
class _Pending:
    """What the jobs of a transaction that were not refused will change."""

    heads: dict[RoomId, Head] = field(default_factory=dict)
    """Where they will leave the logs of their rooms."""
    staged: list[Staged] = field(default_factory=list)
    buried: set[RoomId] = field(default_factory=set)
    """The rooms that they will delete."""
    lines: list[tuple[RoomId, LineRow]] = field(default_factory=list)
    """The places that they will give in own lines."""
    ends: Ends = field(default_factory=dict)
    """Where they will leave these lines."""
    names: set[tuple[Projection[Any], tuple[Any, ...]]] = field(default_factory=set)
    """The keys of index rows that they take."""


def _guarded(header: Header) -> Iterator[tuple[Projection[Any], tuple[Any, ...]]]:
    """The keys of index rows that a fact takes and that no other fact of the store may take. A key that holds the
    position needs no look, because no two facts of a room have one position."""
    for projection in PROJECTIONS:
        if projection.on_conflict == "refuse" and type(header.event) in projection.of and not projection.is_placed:
            rows: list[Any] = []
            projection.derive(rows, RoomId(""), header, Counts())
            yield from ((projection, projection.key_of(row)) for row in rows)


class _Table(Generic[R]):
    """The rows of one index, by their key and by each set of columns in `found_by`."""

    def __init__(self, projection: Projection[R]) -> None:
        self._projection = projection
        self._pickers = {columns: projection.picker(columns) for columns in projection.found_by}
        # For each set of columns: from their values to the rows that have them.
        self._together: dict[tuple[str, ...], dict[tuple[Any, ...], list[R]]] = {
            columns: {} for columns in projection.found_by
        }
        self.rows: dict[tuple[Any, ...], R] = {}

    def add(self, row: R) -> None:
        key = self._projection.key_of(row)
        if self._projection.on_conflict == "keep" and key in self.rows:
            return
        self.rows[key] = row
        for columns, pick in self._pickers.items():
            self._together[columns].setdefault(pick(row), []).append(row)

    def found(self, **values: Any) -> list[R]:
        """The rows with these values, in the order of the facts."""
        return self._together[tuple(values)].get(tuple(values.values()), [])


class Index:
    """Every index, in memory."""

    def __init__(self) -> None:
        self._tables: dict[Projection[Any], _Table[Any]] = {each: _Table(each) for each in PROJECTIONS}

    def of(self, projection: Projection[R]) -> _Table[R]:
        return self._tables[projection]

    def get(self, projection: Projection[R], *key: Any) -> R | None:
        """The row with this key."""
        return self.of(projection).rows.get(key)

    def matching(self, room: RoomId, reader: AgentId, names: Iterable[str], kind: str) -> set[Position]:
        """The positions at which a filter finds something for this reader."""
        table = self.of(FILTERS)
        return {
            row.position
            for name in names
            for audience in ("", reader)
            for row in table.found(room=room, audience=audience, addressee=name, kind=kind)
        }

    def opened(self) -> list[RoomRow]:
        return sorted(self.of(ROOMS).rows.values(), key=lambda row: (row.opened_at, row.room))

    def add(self, rows: Rows) -> None:
        for projection, table in self._tables.items():
            for row in rows.of(projection):
                table.add(row)
