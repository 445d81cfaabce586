"""The store's face: what every implementation does, and what one contract suite checks.

A store is synchronous and not thread-safe beyond this: one thread at a time writes, other threads may call the reads at
the same time. The engine owns the threads. Above: `parlerd.engine`. Below: `parlerd.core` for the shapes.

Two kinds of data. Facts are append-only and everything about a room can be folded from them. Beside them only reading
positions, leases, snapshots and index rows are kept, written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from parlerd.core.events import Header
from parlerd.core.model import (
    AgentId,
    KeyId,
    MessageId,
    Millis,
    Position,
    Prior,
    RoomId,
    Seq,
    Stage,
    View,
    message_of_key,
)

START: Final = Position(0)
"""Before the first fact of a room."""


class NewFact(msgspec.Struct, frozen=True):
    """A fact to append. `header.position` must be the next of its room."""

    header: Header
    body: bytes | None = None
    signature: bytes | None = None


class Append(msgspec.Struct, frozen=True):
    """Append `facts` to `room`, whose head must be at `expected` (0 for a new room), else `stale_position`."""

    room: RoomId
    expected: Position
    facts: Sequence[NewFact]


class MoveCursor(msgspec.Struct, frozen=True):
    """Set how far `reader` has acknowledged. Never moves back; repeating it is harmless.

    It takes `delivered` along where that is behind: whether a reader may acknowledge so far is the engine's to refuse.
    """

    room: RoomId
    reader: AgentId
    acknowledged: Position


class MarkDelivery(msgspec.Struct, frozen=True):
    """`reader` reached `stage` at `at` for every message in (`after`, `upto`].

    A range and not a point: a join shows the recap and the newest tail, and must not mark the middle as read. A mark
    that is empty, or that a stored one of the same reader and stage covers whole, is ignored; the earliest stays.
    """

    room: RoomId
    reader: AgentId
    stage: Stage
    upto: Position
    at: Millis
    after: Position = START


class Lease(msgspec.Struct, frozen=True):
    """A window holds an agent's identity until the lease is dropped. Slots count from 0."""

    window: str
    agent: AgentId
    host: str
    workspace: str
    slot: int
    taken_at: Millis


class PutLease(msgspec.Struct, frozen=True):
    lease: Lease


class DropLease(msgspec.Struct, frozen=True):
    window: str


class PutSnapshot(msgspec.Struct, frozen=True):
    """A cache of a folded room; replaces the one before it."""

    room: RoomId
    fold_version: int
    position: Position
    data: bytes


Write = Append | MoveCursor | MarkDelivery | PutLease | DropLease | PutSnapshot


class Snapshot(msgspec.Struct, frozen=True):
    fold_version: int
    position: Position
    data: bytes


class Head(msgspec.Struct, frozen=True):
    """Where a room's log ends: position 0, at 0 and 32 zero bytes for a room that is not there."""

    position: Position
    at: Millis
    chain: bytes


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as one reader sees it. `body` is None when it was erased.

    `unaltered` says whether header and body still have the digests they were stored with: False for what was changed
    behind Parler's back, which must never be shown as its author's words.
    """

    room: RoomId
    seq: Seq
    header: Header
    body: bytes | None
    signature: bytes | None
    unaltered: bool = True


class Page(msgspec.Struct, frozen=True):
    """Messages in order. `end` and `end_seq` are where this page leaves the reader (the last message shown, or where
    the read began); `chain` is the room's chain digest at `end`; `more` says whether another page follows."""

    messages: list[StoredMessage]
    end: Position
    end_seq: Seq
    chain: bytes
    more: bool


class Cursor(msgspec.Struct, frozen=True):
    """`delivered` is the farthest page end marked read; `acknowledged` never passes it."""

    delivered: Position = START
    acknowledged: Position = START


class Delivery(msgspec.Struct, frozen=True):
    """One step of the ladder: the message asked about had reached `stage` by `at`; `upto` is the end of that mark."""

    reader: AgentId
    stage: Stage
    upto: Position
    at: Millis


class Membership(msgspec.Struct, frozen=True):
    """An index row: `agent` is in `room` (`member`), was (`left`), knocks there (`pending`) or was refused (`denied`).

    It says where to look. The room has the last word: closing one refuses who still knocks without a row for each.
    """

    room: RoomId
    agent: AgentId
    state: str


UsedKey = tuple[AgentId, str, str]
"""Whose idempotency key in a room: the agent, the operation, the key."""


class Past(msgspec.Struct, frozen=True):
    """What `Store.past` found. A message of another room is in `messages` without its header: it is there, and no more
    than that concerns who asks."""

    priors: Mapping[UsedKey, Prior] = msgspec.field(default_factory=dict)
    messages: Mapping[MessageId, Header | None] = msgspec.field(default_factory=dict)


class Outcome(msgspec.Struct, frozen=True):
    """What became of one job of a transaction.

    It happened: `error` is None, and `heads` says where it left the logs of its rooms. It did not happen: `error` says
    why, and the job was rolled back alone. Or that is not known, because the connection broke while the store was
    committing: `error` is `store_unknown`, `heads` says where the job would leave its rooms, and `has_happened` tells
    once the store can be read again.
    """

    error: Exception | None = None
    heads: dict[RoomId, Head] = msgspec.field(default_factory=dict)


class Store(Protocol):
    """One home's data. Every method may raise `StoreError` with one of the `store_*` codes.

    Once a read found the data damaged (`store_corrupt`), nothing more is written: every later `transact` is refused
    with that code until the store is opened again.
    """

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[Outcome]:
        """Commit all jobs durably in one transaction, a savepoint each, and say what became of each.

        A refused job (say, `stale_position`) fails alone. When the commit itself fails this raises, and no job
        happened; when it is not known whether the commit happened, each job that was not refused answers
        `store_unknown`. A job sees what the jobs before it did. Where someone else is writing this waits, for some
        seconds.
        """
        ...

    def head(self, room: RoomId) -> Head: ...

    def rooms(self) -> list[RoomId]:
        """Every room with a log, the home room included, in the order they were opened (ties by id)."""
        ...

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        """Headers after a position, in order, decoded to today's shapes. Raises `Refused(newer_log)`."""
        ...

    def body(self, room: RoomId, position: Position) -> tuple[bytes, bytes | None] | None:
        """A fact's body and signature, or None if it has none or it was erased."""
        ...

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        """Facts after a position with their bodies and signatures, as they were appended; for checks, away from the
        loop. Raises as `facts` does."""
        ...

    def snapshot(self, room: RoomId) -> Snapshot | None:
        """The newest snapshot of a room, or None when there is none or it is not what was put there."""
        ...

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
        """The reader's messages after a position: at most `limit`, at most `max_bytes` of bodies (but always one).

        With `skip_own` the reader's own messages are left out; `end` still moves past those that lie before the last
        one shown, and to the room's head when nothing more follows. With `kind` only messages of that kind are given,
        with `names` only those with one of them among their addressees (see `core.events.addressees`), and `end` never
        passes the last one shown. Cost follows what is returned, not the room; each message left out by `skip_own`
        between two that are shown costs an index row. A page never silently leaves out what
        the index counts: where a row cannot be found any more it raises `store_corrupt`.
        """
        ...

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        """The newest messages the reader may see, oldest first, within both bounds, but always one.

        `more` says whether older ones exist; `end` is the room's head when there is none at all.
        """
        ...

    def seq_at(self, room: RoomId, view: View, position: Position) -> Seq:
        """How many messages up to and at `position` the reader may ever see: O(log n)."""
        ...

    def position_of(self, room: RoomId, view: View, seq: Seq) -> Position:
        """Where the reader's message number `seq` stands; 0 for 0, and the head for a number beyond the last."""
        ...

    def unread(self, room: RoomId, view: View, after: Position) -> int:
        """How many visible messages by others follow `after`: O(log n)."""
        ...

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None: ...

    def message(self, room: RoomId, position: Position) -> Header | None:
        """The header of the message at a position; None if there is none, or another fact."""
        ...

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        """The room's chain digest at a position; 32 zero bytes where there is no fact."""
        ...

    def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
        """An earlier use of an idempotency key."""
        ...

    def past(self, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId]) -> Past:
        """Which of these idempotency keys were used in a room, and which of these messages there are: everything that
        the decisions of a batch need of what is stored, in one question."""
        ...

    def room_of_key(self, key: KeyId) -> RoomId | None: ...

    def memberships(self, agent: AgentId) -> list[Membership]: ...

    def owned(self, principal: str) -> list[RoomId]:
        """Rooms whose owner acts for this person."""
        ...

    def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
        """For each room in which time alone will change something, the first moment after `after` at which it does. It
        says when to look: the room may have changed its mind."""
        ...

    def cursor(self, room: RoomId, reader: AgentId) -> Cursor: ...

    def deliveries(self, room: RoomId, position: Position) -> list[Delivery]:
        """For each reader and stage, the earliest mark with after < `position` <= upto."""
        ...

    def leases(self) -> list[Lease]: ...

    def verify_chain(self, room: RoomId) -> Position | None:
        """Recompute digests and chain; the first position that does not match, or None when all do."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the store's own structures, in plain sentences; empty when nothing is."""
        ...

    def rebuild_index(self) -> None:
        """Remake every index row from the facts, atomically."""
        ...

    def close(self) -> None: ...


class FileStore(Store, Protocol):
    """A store in a file of this machine: so near that a driver may let the event loop commit."""

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[Outcome]:
        """`transact` for whoever cannot wait: raises `StoreError(store_locked)` at once where another thread or program
        is writing, and then no job happened."""
        ...

    @property
    def checkpoint_due(self) -> bool:
        """Whether `checkpoint` has work to do."""
        ...

    def checkpoint(self) -> None:
        """Do the housekeeping that commits put off, so that nobody waits for it with a commit. Nothing depends on it
        but how large files grow. Called by the thread that writes. Raises nothing."""
        ...


def has_happened(store: Store, outcome: Outcome) -> bool:
    """Whether a job that appends, and whose outcome was not known, happened after all.

    Each fact's digest is over a random salt of its own, so no other writer's facts can lead to the same chain digest.
    """
    return all(store.chain_at(room, head.position) == head.chain for room, head in outcome.heads.items())


def past_one_by_one(store: Store, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId]) -> Past:
    """`Store.past` of a store that is at hand, where one question costs as much as several."""
    priors = {key: prior for key in keys if (prior := store.prior(room, *key)) is not None}
    found: dict[MessageId, Header | None] = {}
    for message in messages:
        place = store.find_message(message)
        if place is not None:
            found[message] = store.message(*place) if place[0] == room else None
    return Past(priors, found)


def prior_by_id(store: Store, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
    """An earlier use of a key that was drawn for a message: no index row holds such a key, the message's id does."""
    message = message_of_key(key)
    found = None if message is None else store.find_message(message)
    header = None if found is None or found[0] != room else store.message(*found)
    if header is None or (header.by.actor, header.operation, header.key) != (actor, operation, key):
        return None
    return Prior(header.position, header.input or b"")
