"""What the jobs of one transaction write, by table and in order, and which of them are refused before any row is.

The stores over SQL use this module: each writes the rows in its own way. Not here: SQL, locks, savepoints (each store).
Above: `sqlite`, `postgres`. Below: `staging`, `indexing`, `lines`. Invariant: a job that is refused adds nothing to the
batch, so those around it can share statements with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import AgentId, MemoryNote, Millis, Position, RoomId, Stage
from parlerd.core.receipts import FactRef
from parlerd.store.indexing import Counts, Rows, derive
from parlerd.store.lines import Ends, LineRow, lined
from parlerd.store.port import (
    PROVEN,
    Append,
    BuryRoom,
    ClearRoom,
    DropLease,
    DropOutbox,
    DropRenewal,
    EraseBodies,
    ForgetMarks,
    Head,
    IndexMemory,
    JobOutcome,
    MarkDelivery,
    MoveCursor,
    PutEpochSecret,
    PutFileSeal,
    PutKeyExchange,
    PutKeyTries,
    PutLease,
    PutMadeRecord,
    PutOutbox,
    PutRenewal,
    PutSight,
    PutSnapshot,
    Secret,
    Write,
)
from parlerd.store.relays import Tenure
from parlerd.store.staging import SALT_LENGTH, Staged, stage


@dataclass(slots=True)
class Room:
    """What the writer knows of a room between transactions. It is forgotten whenever a transaction fails."""

    head: Head
    counts: Counts
    deleted: bool = False
    ends: Ends = field(default_factory=dict)
    """Where the own lines of the room end, of those that were added to."""


class Noted(NamedTuple):
    """A message that does something in its room's memory."""

    room: RoomId
    position: Position
    note: MemoryNote
    body: bytes | None


class Sources(NamedTuple):
    """Where a job is looked up in its transaction."""

    room: Callable[[RoomId], Room]
    is_deleted: Callable[[RoomId], bool]
    """Whether a room was deleted before the transaction."""
    end_of: Callable[[bytes], tuple[int, bytes] | None]
    """Where an own line ends that was not added to since its room was looked at."""
    random_bytes: Callable[[int], bytes]
    holds: Callable[[Tenure], bool] = lambda tenure: True
    """Whether a relay has the shard by this now, where several share the store."""


@dataclass(slots=True)
class Batch:
    """The rows that a transaction writes, by table, in order."""

    parts: list[Staged] = field(default_factory=list)
    lines: list[tuple[RoomId, LineRow]] = field(default_factory=list)
    index: Rows = field(default_factory=Rows)
    cursors: list[tuple[RoomId, AgentId, Position, Position]] = field(default_factory=list)
    """Room, reader, delivered, acknowledged."""
    deliveries: list[tuple[RoomId, AgentId, Stage, Position, Position, Millis]] = field(default_factory=list)
    """Room, reader, stage, upto, after, at."""
    buried: dict[RoomId, Millis] = field(default_factory=dict)
    """The rooms that are deleted with this transaction, each with when that was."""
    unopened: set[RoomId] = field(default_factory=set)
    """Those of them that nobody opened."""
    cleared: list[tuple[RoomId, int]] = field(default_factory=list)
    """Steps of taking deleted rooms out of the store: how much goes at once."""
    to_index: int = 0
    """A step in the index of what rooms remember: how many messages are put in that are in none yet."""
    kept: list[PutLease | DropLease | PutOutbox | DropOutbox | PutRenewal | DropRenewal | ForgetMarks | Secret] = field(
        default_factory=list
    )
    """Changes of rows that come and go, each a statement of its own: there are few."""
    sights: dict[tuple[RoomId, Position, AgentId], PutSight] = field(default_factory=dict)
    """What is known now of messages and readers; of several words on one, the last, or the first that stays."""
    snapshots: list[tuple[RoomId, int, Position, bytes]] = field(default_factory=list)
    noted: list[Noted] = field(default_factory=list)
    """What changes in the index of what rooms remember."""
    erased: list[tuple[RoomId, Position]] = field(default_factory=list)
    """The messages whose bodies are erased, if they are messages and have one."""

    def take(self, job: Sequence[Write], known: Sources) -> JobOutcome:
        """Check a job and add its rows; a job that is refused adds none."""
        appends = [write for write in job if isinstance(write, Append)]
        salts = known.random_bytes(SALT_LENGTH * sum(len(append.facts) for append in appends)) if appends else b""
        heads: dict[RoomId, Head] = {}
        staged: list[Staged] = []
        drawn = 0
        try:
            for append in appends:
                if known.room(append.room).deleted or append.room in self.buried:
                    raise Refused("room_deleted")
                if append.tenure is not None and not known.holds(append.tenure):
                    raise StoreError("room_moved")
                head = heads.get(append.room) or known.room(append.room).head
                part = stage(append, head, salts[drawn:])
                drawn += SALT_LENGTH * len(append.facts)
                heads[append.room] = part.head
                staged.append(part)
            for write in job:
                if isinstance(write, BuryRoom) and write.unopened:
                    self._require_unopened(write.room, heads, known)
        except ParlerError as error:
            return JobOutcome(error=error)
        numbers: dict[tuple[RoomId, Position], FactRef] = {}
        for part in staged:
            room = known.room(part.room)
            for header in part.headers:
                derive(self.index, part.room, header, room.counts)
            room.head = part.head
            rows, names = lined(part, room.ends, known.end_of)
            numbers |= names
            self.parts.append(part)
            self.lines += [(part.room, row) for row in rows]
            self.noted += noted(part.room, part.headers, {body.position: body.body for body in part.bodies})
        for write in job:
            if isinstance(write, EraseBodies):
                self.erased += [(write.room, position) for position in write.positions]
            elif not isinstance(write, Append) and not self._is_late(write, known):
                self._add(write)
        return JobOutcome(heads=heads, numbers=numbers)

    @staticmethod
    def _require_unopened(room: RoomId, heads: Mapping[RoomId, Head], known: Sources) -> None:
        found = known.room(room)
        head = heads.get(room) or found.head
        if head.position and not found.deleted:
            raise StoreError("stale_position", room=room, expected=0, head=head.position)

    def _is_late(self, write: Write, known: Sources) -> bool:
        """Whether a write keeps something of a room that is deleted, beside its facts: a mark of a page that was under
        way, say. Such a write leaves nothing and is no error."""
        if isinstance(write, BuryRoom | ClearRoom):
            return False
        room = room_of(write)
        return room is not None and (room in self.buried or known.is_deleted(room))

    def _add(self, write: Write) -> None:
        if isinstance(write, MoveCursor):
            self.cursors.append((write.room, write.reader, write.acknowledged, write.acknowledged))
        elif isinstance(write, MarkDelivery):
            if write.after < write.upto:
                self.deliveries.append((write.room, write.reader, write.stage, write.upto, write.after, write.at))
            # Every reader with a mark gets a row in `cursors` too, because that table tells which readers have marks.
            delivered = write.upto if write.stage == "read" else Position(0)
            self.cursors.append((write.room, write.reader, delivered, Position(0)))
        elif isinstance(write, BuryRoom):
            self.buried.setdefault(write.room, write.at)
            if write.unopened:
                self.unopened.add(write.room)
        elif isinstance(write, ClearRoom):
            self.cleared.append((write.room, write.limit))
        elif isinstance(write, IndexMemory):
            self.to_index += write.limit
        elif isinstance(write, PutSight):
            key = (write.room, write.position, write.reader)
            if key not in self.sights or self.sights[key].verdict not in PROVEN:
                self.sights[key] = write
        elif isinstance(write, PutSnapshot):
            self.snapshots.append((write.room, write.fold_version, write.position, write.data))
        elif not isinstance(write, Append | EraseBodies):
            self.kept.append(write)


def room_of(write: Write) -> RoomId | None:
    """The room that a write is about; None for one about no room, as a lease is."""
    rows = PutOutbox | PutEpochSecret | PutMadeRecord | PutFileSeal | PutKeyExchange | PutKeyTries
    about = write.row if isinstance(write, rows) else write
    room: RoomId | None = getattr(about, "room", None)
    return room


def noted(room: RoomId, headers: Sequence[Header], bodies: Mapping[Position, bytes]) -> list[Noted]:
    """What facts of one room do in its memory."""
    return [
        Noted(room, header.position, header.event.memory, bodies.get(header.position))
        for header in headers
        if isinstance(header.event, MessagePosted) and header.event.memory is not None
    ]
