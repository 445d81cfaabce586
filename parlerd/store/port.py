"""The store's face: what every store does, which one contract suite checks.

A store keeps facts, which are only ever appended and from which everything about a room can be folded. Beside the facts
it keeps reading positions, delivery marks, leases, snapshots and index rows, written in the same transaction.

A store is synchronous. One thread at a time writes, and other threads may read at the same time; the engine owns the
threads. Not here: which facts are right (the core). Above: `parlerd.engine`. Below: `parlerd.core` for the shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from parlerd.core.events import Header
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
    Sighted,
    Stage,
    View,
    message_of_key,
)
from parlerd.core.recall import Term
from parlerd.core.receipts import FactRef, Numbered
from parlerd.store.relays import Tenure

START: Final = Position(0)
"""The position before the first fact of a room."""


class NewFact(msgspec.Struct, frozen=True):
    """A fact to append. `header.position` must be the next of its room."""

    header: Header
    body: bytes | None = None
    signature: bytes | None = None


class Append(msgspec.Struct, frozen=True):
    """Append `facts` to `room`. The job is refused with `stale_position` unless the room's log ends at `expected`,
    which is 0 for a new room. With `own_lines` each of the facts that can have a number gets the next one of its
    actor's own line (`core.receipts`): in a room that lives in this home, which alone gives receipts of it. `wall` is
    the wall clock's time at which the facts were decided: one that came by a token which does not hold then is refused.
    With a `tenure` the job is refused with `room_moved` unless that holds.
    """

    room: RoomId
    expected: Position
    facts: Sequence[NewFact]
    own_lines: bool = False
    wall: Millis = Millis(0)
    tenure: Tenure | None = None


class MoveCursor(msgspec.Struct, frozen=True):
    """Set how far `reader` has acknowledged. A cursor never moves back, so repeating this is harmless.

    Where `delivered` is behind, it moves along with `acknowledged`. The store does not check whether the reader was
    shown that much; the engine does.
    """

    room: RoomId
    reader: AgentId
    acknowledged: Position


class MarkDelivery(msgspec.Struct, frozen=True):
    """`reader` reached `stage` at `at` for every message in (`after`, `upto`].

    A mark is a range, because a join shows the recap and the newest messages, and must not mark those between as read.
    A mark is ignored whose range is empty, or covered whole by a stored mark of the same reader and stage.
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
    """Keep a lease, in place of an earlier one of the same window."""

    lease: Lease


class DropLease(msgspec.Struct, frozen=True):
    """Forget the lease of a window, if there is one."""

    window: str


class PutSnapshot(msgspec.Struct, frozen=True):
    """Keep the state of a folded room, in place of the snapshot before. A snapshot is a cache."""

    room: RoomId
    fold_version: int
    position: Position
    data: bytes


class OutboxRow(msgspec.Struct, frozen=True):
    """A request that waits to leave for another home. `request` is what the uplink has to know to carry it out, as the
    uplink encoded it; the store never looks into it."""

    message: MessageId
    """The message that the request will post. No other row has its id."""
    home: HomeId
    """The home that the request is for."""
    room: RoomId
    agent: AgentId
    """Who asked."""
    key: str
    """The idempotency key of the request."""
    at: Millis
    """When the agent asked."""
    request: bytes
    refused: str = ""
    """The code of the error with which the other home refused the request for good; empty while the request waits."""


class PutOutbox(msgspec.Struct, frozen=True):
    """Keep a request behind those that are there. A row of the same message is replaced and keeps its place."""

    row: OutboxRow


class DropOutbox(msgspec.Struct, frozen=True):
    """Forget a request, if there is one."""

    message: MessageId


class PutRenewal(msgspec.Struct, frozen=True):
    """Keep until when the claim of a task was renewed, in place of what is kept of the task."""

    room: RoomId
    task: MessageId
    fence: Position
    """The number of the claim."""
    until: Millis


class DropRenewal(msgspec.Struct, frozen=True):
    """Forget until when the claim of a task was renewed, if anything is kept of it."""

    room: RoomId
    task: MessageId


class SealingKeyRow(msgspec.Struct, frozen=True):
    """The private part of the key to which the secrets of sealed rooms are wrapped for an agent of this home."""

    home: HomeId
    """The home whose sealed rooms the key is for."""
    agent: AgentId
    counter: int
    """Grows with each key of the agent for that home."""
    made_at: Millis
    """When the key was drawn, by the wall clock."""
    private: bytes
    """X25519, 32 bytes."""

    def __repr__(self) -> str:
        return f"SealingKeyRow({self.home!r}, {self.agent!r}, {self.counter})"


class PutSealingKey(msgspec.Struct, frozen=True):
    """Keep a key. One that is kept already, by home, agent and counter, stays as it is."""

    row: SealingKeyRow


class DropSealingKeys(msgspec.Struct, frozen=True):
    """Forget the keys of an agent for a home whose counters are below `below`."""

    home: HomeId
    agent: AgentId
    below: int


class EpochSecretRow(msgspec.Struct, frozen=True):
    """What opens the messages of one epoch of a sealed room, or in a queue what an agent that only asks for work says
    there."""

    room: RoomId
    number: int
    """The epoch's, from 1."""
    record: bytes
    """The SHA-256 of the epoch's record, by which messages name it."""
    secret: bytes
    """32 bytes; of a requester 64, the second half being the key of the room's card."""
    requester: str = ""
    """Whose it is that only asks for work; empty for the secret of the epoch itself."""

    def __repr__(self) -> str:
        return f"EpochSecretRow({self.room!r}, {self.number})"


class PutEpochSecret(msgspec.Struct, frozen=True):
    """Keep the secret of an epoch, or what a requester has of it. One that is kept already stays as it is."""

    row: EpochSecretRow


class DropEpochSecrets(msgspec.Struct, frozen=True):
    """Forget the secrets of the epochs of a room whose numbers are below `below`."""

    room: RoomId
    below: int


class MadeRecordRow(msgspec.Struct, frozen=True):
    """A record of an epoch that this home signed."""

    room: RoomId
    number: int
    """The epoch's, from 1."""
    record: bytes
    """The record's SHA-256."""


class PutMadeRecord(msgspec.Struct, frozen=True):
    """Keep that this home signed a record. Doing it again changes nothing."""

    row: MadeRecordRow


class FileSealRow(msgspec.Struct, frozen=True):
    """How a file is sealed that an agent of this home shares in a sealed room elsewhere."""

    room: RoomId
    agent: AgentId
    digest: bytes
    """The SHA-256 of the file itself, 32 bytes."""
    size: int
    """Bytes of the file itself."""
    blob: BlobId
    """What the file is called at the home of the room: the SHA-256 of its ciphertext."""
    key: bytes
    """The key of this file alone, 32 bytes."""
    prefix: bytes
    """What the nonces of its pieces begin with, 19 bytes."""
    used_at: Millis
    """When the file was last begun to be shared, by the wall clock."""

    def __repr__(self) -> str:
        return f"FileSealRow({self.room!r}, {self.agent!r}, {self.blob!r})"


class PutFileSeal(msgspec.Struct, frozen=True):
    """Keep how a file is sealed. Of one that is kept already, by room, agent and digest, only `used_at` changes."""

    row: FileSealRow


class DropFileSeals(msgspec.Struct, frozen=True):
    """Forget how those files are sealed, of all rooms, that were last used before `before`."""

    before: Millis


class KeyExchangeRow(msgspec.Struct, frozen=True):
    """One end of a key exchange by which an agent comes into a sealed room of another home."""

    room: RoomId
    share: bytes
    """The joiner's, 33 bytes: it names the exchange in the room's log."""
    role: Literal["joiner", "owner"]
    """Which end is here; for an agent of the owner's own home both are."""
    agent: AgentId
    """Who asks to come in."""
    request: str
    """What the room's home calls the request; empty at the joiner's end until that end went on."""
    stage: Literal["begun", "agreed", "confirmed"]
    state: bytes
    """What the exchange goes on from (`identity.pake`): as secret as the key itself."""
    said: bytes
    """What this end was told or said and needs again."""
    at: Millis
    """When the exchange began here, by the wall clock."""
    idle_ms: int = 0
    """How long both ends were there while the joiner showed nothing."""

    def __repr__(self) -> str:
        return f"KeyExchangeRow({self.room!r}, {self.role!r}, {self.agent!r}, {self.stage!r})"


class PutKeyExchange(msgspec.Struct, frozen=True):
    """Keep how far a key exchange is at this end, in the place of what is kept of it."""

    row: KeyExchangeRow


class DropKeyExchange(msgspec.Struct, frozen=True):
    """Forget one end of a key exchange."""

    room: RoomId
    share: bytes
    role: Literal["joiner", "owner"]


class KeyTriesRow(msgspec.Struct, frozen=True):
    """How often somebody tried a wrong secret with a key of a sealed room."""

    room: RoomId
    ref: str
    """The key's name in what is signed."""
    principal: PrincipalId
    """The person for whom those acted who tried."""
    tries: int


class PutKeyTries(msgspec.Struct, frozen=True):
    """Keep how often somebody tried, in the place of what is kept of it. It is never less than that."""

    row: KeyTriesRow


class PutSight(msgspec.Struct, frozen=True):
    """What is known now of whether the model of `reader` was shown the message at `position`, in the place of what was
    known before. What was `shown` or `quoted` stays so, and a later word on it is ignored.

    `reason` is one of the words of the judge (`core.sight`). `host` is the agent host whose record says so, by its id.
    `at` is of the wall clock. `again` is how often the message was shown once more, because it had been cut or not
    shown. `evidence` is the host with its version, and our own names of the entries that decided.
    """

    room: RoomId
    reader: AgentId
    position: Position
    verdict: Sighted
    reason: str
    host: str
    at: Millis
    again: int = 0
    evidence: str = ""


PROVEN: Final[tuple[Sighted, ...]] = ("shown", "quoted")
"""The verdicts that stay: a model had the text."""


class EraseBodies(msgspec.Struct, frozen=True):
    """Take away the bodies of the messages at these positions for good, with a mark that this was meant. What else is
    known of the messages stays, and so does the chain of the log. Other facts keep their bodies, and a body that is
    gone already stays as it is. Of what a room remembered, words may be left in a large index, where nothing leads to
    them, until `IndexMemory` took them away."""

    room: RoomId
    positions: Sequence[Position]


class ForgetMarks(msgspec.Struct, frozen=True):
    """Take away at most `limit` delivery marks of a room that cover messages from `first` to `last` and no others, and
    as many rows of sight of such messages. A mark stays while any message that it covers has words, and a row of sight
    while its message has. Repeat this until there is none (`Store.has_marks`)."""

    room: RoomId
    first: Position
    last: Position
    limit: int


class BuryRoom(msgspec.Struct, frozen=True):
    """Delete a room, at the time `at`: from this commit on there is no such room for any reader, and nothing is ever
    stored in it again. Its rows stay in the file until `ClearRoom` took them away. Burying a room again changes
    nothing.

    With `unopened` it is a room that nobody opened, and nobody can any more: a job that finds its log is refused with
    `stale_position`, also where the log is stored at the same moment."""

    room: RoomId
    at: Millis
    unopened: bool = False


class ClearRoom(msgspec.Struct, frozen=True):
    """Take away for good at most `limit` facts, or marks, of a room that was deleted, with all that was made of them.
    The newest facts go first. Repeat it until `Store.uncleared` names the room no more; of another room nothing is
    taken."""

    room: RoomId
    limit: int


class IndexMemory(msgspec.Struct, frozen=True):
    """Do a little of what is left to do in the index of what rooms remember: put in at most `limit` messages that a
    file of an older schema left out of it; where there are none, take away some of what is left of words that were
    erased. Repeat it until `Store.is_memory_indexed`."""

    limit: int


BLOCKS: Final = (12, 16)
"""The blocks of positions in which the store finds several terms at a cost that what lies outside does not change: of
2^12 and 2^16 positions, each block beginning at a multiple of its width. Looking through a narrow one takes less than
a millisecond, and through a wide one 8 ms where many texts have each of the terms and none has all (measured)."""


Secret = (
    PutSealingKey
    | DropSealingKeys
    | PutEpochSecret
    | DropEpochSecrets
    | PutMadeRecord
    | PutFileSeal
    | DropFileSeals
    | PutKeyExchange
    | DropKeyExchange
    | PutKeyTries
)
"""What a daemon keeps to open sealed rooms with. A store that relays share takes none of these: a relay has no such
secret."""
Write = (
    Append
    | MoveCursor
    | MarkDelivery
    | PutLease
    | DropLease
    | PutSnapshot
    | PutOutbox
    | DropOutbox
    | PutRenewal
    | DropRenewal
    | PutSight
    | EraseBodies
    | ForgetMarks
    | BuryRoom
    | ClearRoom
    | IndexMemory
    | Secret
)


class Snapshot(msgspec.Struct, frozen=True):
    """The state of a room folded up to and with `position`, by the rules of `fold_version`."""

    fold_version: int
    position: Position
    data: bytes


class Head(msgspec.Struct, frozen=True):
    """Where a room's log ends: the position, the time and the chain digest of its last fact. For a room that is not
    there they are 0, 0 and 32 zero bytes."""

    position: Position
    at: Millis
    chain: bytes


class StoredMessage(msgspec.Struct, frozen=True):
    """A message as one reader sees it. `body` is None when the body is gone; `is_erased` says that it was erased by
    `EraseBodies`, and was not taken out of the file by somebody.

    `unaltered` says whether header and body still have the digests that they were stored with. Where it is False,
    somebody changed the file, and the message must never be shown as its author's words.
    """

    room: RoomId
    seq: Seq
    header: Header
    body: bytes | None
    signature: bytes | None
    unaltered: bool = True
    is_erased: bool = False


class Remembered(msgspec.Struct, frozen=True):
    """A message that remembers something, with its body. `unaltered` is that of a `StoredMessage`."""

    header: Header
    body: bytes
    unaltered: bool = True


class Page(msgspec.Struct, frozen=True):
    """The answer to one read."""

    messages: list[StoredMessage]
    """The messages, in order."""
    end: Position
    """Where the page leaves the reader: see `Store.page` and `Store.tail`."""
    end_seq: Seq
    """How many messages up to and at `end` the reader may see."""
    shown: Shown
    """The room's public messages up to and at `end`, and the public line there."""
    more: bool
    """Whether there are further messages in the direction of the read."""


class Cursor(msgspec.Struct, frozen=True):
    """How far a reader is: `delivered` is the farthest end of a page that was marked as read, and `acknowledged` how
    far the reader confirmed. `acknowledged` never passes `delivered`."""

    delivered: Position = START
    acknowledged: Position = START


class Delivery(msgspec.Struct, frozen=True):
    """One stage that a message reached for a reader. It had reached `stage` by `at`; `upto` is the end of the mark that
    says so."""

    reader: AgentId
    stage: Stage
    upto: Position
    at: Millis


class Held(msgspec.Struct, frozen=True):
    """The messages of a room whose bodies are there, and the bytes of these bodies."""

    messages: int = 0
    bytes: int = 0


class Membership(msgspec.Struct, frozen=True):
    """How an agent stands to a room: it is in the room (`member`), was in it (`left`), knocks (`pending`) or was
    refused (`denied`).

    This index says which rooms to look at; the room itself has the last word. When a room closes, for example, the rows
    of those who still knock stay `pending`.
    """

    room: RoomId
    agent: AgentId
    state: str


UsedKey = tuple[AgentId, str, str]
"""An idempotency key as one agent used it in a room: the agent, the operation, the key."""


class Past(msgspec.Struct, frozen=True):
    """What `Store.past` found. A message of another room is in `messages` without its header: whoever asks may learn
    that the id is taken, and nothing more."""

    priors: Mapping[UsedKey, Prior] = msgspec.field(default_factory=dict)
    messages: Mapping[MessageId, Header | None] = msgspec.field(default_factory=dict)
    lines: Mapping[int, bytes] = msgspec.field(default_factory=dict)
    """The public line at each of the numbers that were asked for and that the room has."""

    @property
    def reaches(self) -> Position:
        """The last position of the room's log of which there is something here; 0 where there is nothing."""
        places = [prior.position for prior in self.priors.values()]
        places += [header.position for header in self.messages.values() if header is not None]
        return max(places, default=Position(0))


class Receipted(msgspec.Struct, frozen=True):
    """A fact as its receipt tells of it. `event` is the fact's own part of the header as it is stored, `salt` the one
    of the content (`core.receipts.content_salt`), and `numbered` None for a fact that got no number. `unaltered` is
    that of a `StoredMessage`. Where there is no `body` and the header names one, it was erased."""

    header: Header
    digest: bytes
    salt: bytes
    event: bytes
    body: bytes | None
    signature: bytes | None
    numbered: Numbered | None
    unaltered: bool = True


class JobOutcome(msgspec.Struct, frozen=True):
    """What became of one job of a transaction.

        the job               `error`           `heads`
        happened              None              where it left the logs of its rooms
        did not happen        why not           empty; the job was rolled back alone
        perhaps happened      `store_unknown`   where it would leave the logs of its rooms

    The third comes when the connection breaks while the store commits. `has_happened` tells which of the first two it
    was, once the store can be read again.
    """

    error: Exception | None = None
    heads: dict[RoomId, Head] = msgspec.field(default_factory=dict)
    numbers: dict[tuple[RoomId, Position], FactRef] = msgspec.field(default_factory=dict)
    """What the facts are called that got a number in their actor's own line."""


class Store(Protocol):
    """One home's data. Every method may raise `StoreError` with one of the `store_*` codes.

    After a read that found the data damaged (`store_corrupt`) nothing more is written: every later `transact` is
    refused with that code until the store is opened again.
    """

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        """Commit all jobs durably in one transaction, a savepoint each, and say what became of each.

        A job that is refused (with `stale_position`, say) fails alone. When the commit itself fails, this raises, and
        no job happened. When nobody can know whether the commit happened, the outcome of each job that was not refused
        is `store_unknown`. A job sees what the jobs before it did. While another thread or program is writing, this
        waits, for some seconds.
        """
        ...

    def head(self, room: RoomId) -> Head:
        """Where a room's log ends."""
        ...

    def rooms(self) -> list[RoomId]:
        """Every room with a log, the home room included, in the order in which they were opened, then by id."""
        ...

    def is_deleted(self, room: RoomId) -> bool:
        """Whether a room was deleted. Nothing else can be asked of it: it has no log."""
        ...

    def uncleared(self) -> list[RoomId]:
        """The rooms that were deleted and of which something is left in the store."""
        ...

    def is_memory_indexed(self) -> bool:
        """Whether everything that rooms remember is in the index, and nothing of what was erased. In a file of an older
        schema the former is not so at first, and in a large one the latter is not so at once."""
        ...

    def newest_unindexed(self, room: RoomId) -> Position:
        """Where the newest message of a room stands that it remembers something by and that is in no index yet, so that
        only newer ones are found by terms; 0 where all are in the index."""
        ...

    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]:
        """At most `limit` headers after a position, in order and in today's shapes. Raises `Refused(newer_log)`."""
        ...

    def body(self, room: RoomId, position: Position) -> tuple[bytes, bytes | None] | None:
        """A fact's body and signature; None for a fact that has no body, or whose body was erased."""
        ...

    def whole_facts(self, room: RoomId, after: Position, limit: int) -> list[NewFact]:
        """At most `limit` facts after a position with their bodies and signatures, as they were appended. Checks use
        this, in a thread of their own. Raises what `facts` raises."""
        ...

    def receipted(self, room: RoomId, position: Position) -> Receipted | None:
        """The fact at a position, for its receipt; None where there is none. Raises `Refused(newer_log)`."""
        ...

    def place_in_line(self, room: RoomId, thread: bytes, number: int) -> Position | None:
        """Where the fact stands that has this number in the own line that began with `thread`."""
        ...

    def first_unlined(self, room: RoomId) -> Position | None:
        """The first fact whose own line is not the one before it and the digest of the fact; None where all are. Checks
        use this, in a thread of their own."""
        ...

    def erased(self, room: RoomId, after: Position, upto: Position) -> set[Position]:
        """The messages in (after, upto] whose bodies `EraseBodies` took away."""
        ...

    def held(self, room: RoomId, after: Position = START, upto: Position | None = None) -> Held:
        """How many messages of a room have a body, and how large these are: of those in (after, upto], and without
        `upto` of all that follow. This looks at each of them."""
        ...

    def heads(self, rooms: Iterable[RoomId]) -> dict[RoomId, Head]:
        """Where the logs of these rooms end, of those that have one."""
        ...

    def openings(self, rooms: Iterable[RoomId]) -> dict[RoomId, Header]:
        """The first facts of the logs of these rooms, of those that have one, and whose first fact no newer Parler
        wrote."""
        ...

    def grown(self, after: Mapping[RoomId, Position]) -> dict[RoomId, tuple[Held, Position]]:
        """For each of these rooms what is `held` after a position up to where its log ends, and where that is."""
        ...

    def oldest_bodies(self, room: RoomId, after: Position, limit: int) -> list[tuple[Position, int]]:
        """The oldest messages of a room after a position that have a body, at most `limit`, each with the size of its
        body. The cost depends on `limit` alone."""
        ...

    def written(self, room: RoomId, after: Position, upto: Position) -> dict[PrincipalId, int]:
        """The bytes of the bodies in (after, upto], by the person whose agent acted. The cost depends on the number of
        facts, and not on the size of their bodies."""
        ...

    def snapshot(self, room: RoomId) -> Snapshot | None:
        """The snapshot of a room; None when there is none, or when it is damaged."""
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
        """The reader's messages after a position, the oldest first: at most `limit`, and at most `max_bytes` of bodies,
        but always one.

        With `skip_own` the reader's own messages are left out. `end` moves past them: to the last message of the page,
        or to the room's head when nothing more follows. With `kind` only messages of that kind are given, and with
        `names` only messages that have one of the names among their addressees (see `core.events.addressees`); `end` is
        then the last message of the page.

        The cost depends on what is returned and not on the size of the room; each message that `skip_own` leaves out
        between two others costs an index row. Raises `store_corrupt` where a message is missing that the index counts,
        so that a page never leaves one out without a word.
        """
        ...

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        """The newest messages that the reader may see, the oldest first: at most `limit`, and at most `max_bytes` of
        bodies, but always one.

        `more` says whether there are older ones. `end` is the last message, or the room's head when the reader may see
        no message at all.
        """
        ...

    def seq_at(self, room: RoomId, view: View, position: Position) -> Seq:
        """How many messages up to and at `position` the reader may ever see: O(log n)."""
        ...

    def position_of(self, room: RoomId, view: View, seq: Seq) -> Position:
        """The position of the reader's message number `seq`: 0 for 0, and the head for a number beyond the last."""
        ...

    def unread(self, room: RoomId, view: View, after: Position) -> int:
        """How many visible messages by others follow `after`: O(log n)."""
        ...

    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None:
        """The room and the position of a message."""
        ...

    def message(self, room: RoomId, position: Position) -> Header | None:
        """The header of the message at a position; None where there is no fact, or one that is no message."""
        ...

    def is_brought(self, blob: BlobId) -> bool:
        """Whether any message that was not erased, of any room that was not deleted, brings this blob. The cost depends
        on the number of rooms."""
        ...

    def brought(self, room: RoomId) -> list[BlobId]:
        """The blobs that messages of a room bring that were not erased, in the order of their ids. This looks at each
        of those messages."""
        ...

    def remembered(
        self, room: RoomId, terms: Sequence[Term], after: Position, before: Position, limit: int
    ) -> list[Remembered]:
        """The newest messages between two positions that the room remembers something by, at most `limit`, the newest
        first: those that an index finds by every one of `terms`, and without terms all of them. A version that another
        followed is none of them, nor is what was forgotten or has no body.

        Whoever may see which of them is the caller's to say, and whether the words stand there literally: an index
        knows letters and digits alone. The index of a room is read from its newest end. With one term, or with none,
        the cost depends on what is returned. With several it depends as well on how many messages have some of them
        between the two positions, where these lie in one block (`BLOCKS`), and else in all rooms.
        """
        ...

    def state_versions(self, room: RoomId, scope: str, key: str, before: Position, limit: int) -> list[Position]:
        """Where a key of the room's state was written or deleted, before a position: the newest first, at most
        `limit`."""
        ...

    def state_at(self, room: RoomId, upto: Position) -> list[Position]:
        """Where each key of the room's state was written or deleted last, up to and at a position; in the order of
        scopes and keys."""
        ...

    def chain_at(self, room: RoomId, position: Position) -> bytes:
        """The room's chain digest at a position; 32 zero bytes where there is no fact."""
        ...

    def shown_at(self, room: RoomId, position: Position) -> Shown:
        """The room's public messages up to and at a position, and the public line there: O(log n)."""
        ...

    def line_at(self, room: RoomId, number: int) -> bytes | None:
        """The room's public line at its public message of this number, and at 0 before the first; None where the room
        has no such message, or no log."""
        ...

    def public_position(self, room: RoomId, number: int) -> Position | None:
        """Where the room's public message of this number stands; None where the log does not hold it."""
        ...

    def prior(self, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
        """The earlier use of an idempotency key."""
        ...

    def past(
        self, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId], lines: Sequence[int] = ()
    ) -> Past:
        """Which of these idempotency keys were used in a room, which of these messages exist, and what the public line
        is at these numbers. This is everything
        that the decisions of a batch need of the store, in one question, so that a store over a network needs one round
        trip for a batch."""
        ...

    def room_of_key(self, key: KeyId) -> RoomId | None:
        """The room that a session key belongs to, whether or not the key is still good."""
        ...

    def memberships(self, agent: AgentId) -> list[Membership]:
        """How an agent stands to every room that it came to or knocked at, in the order in which those were opened. An
        agent's private memory is none of them."""
        ...

    def owned(self, principal: str) -> list[RoomId]:
        """The rooms whose owner acts for this person, without private memories, in the order in which they were
        opened."""
        ...

    def deadlines(self, after: Millis) -> dict[RoomId, Millis]:
        """For each room in which time alone will change something, the first such moment after `after`. The end of a
        lease, of the time of a task, and of the timer of a gated message counts also where it was before: unlike other
        moments it leads to a fact. The answer says when to look at a room; only the room knows whether anything changes
        then."""
        ...

    def cursor(self, room: RoomId, reader: AgentId) -> Cursor:
        """How far a reader is in a room."""
        ...

    def deliveries(self, room: RoomId, position: Position) -> list[Delivery]:
        """For each reader and stage, the earliest mark whose range holds `position`."""
        ...

    def has_marks(self, room: RoomId, first: Position, last: Position) -> bool:
        """Whether `ForgetMarks` would take any mark, or any row of sight, away."""
        ...

    def sights(self, room: RoomId, position: Position) -> list[PutSight]:
        """What is known of each reader of whom something is, by the reader's id."""
        ...

    def sights_to_show_again(self, room: RoomId, reader: AgentId, most: int) -> list[PutSight]:
        """What a host cut or did not show of a room to this reader and what was shown again less than `most` times, by
        position."""
        ...

    def sights_of_nobody(self, after: Millis, upto: Millis, limit: int) -> list[PutSight]:
        """The newest words since `after`, and up to `upto`, on messages that no reader is known to have been shown, the
        oldest first: of each message one. What is unknown about a reader is no such word."""
        ...

    def leases(self) -> list[Lease]:
        """Every lease, in the order in which they were taken."""
        ...

    def outbox(self, home: HomeId) -> list[OutboxRow]:
        """Every request that waits to leave for a home, or was refused there, in the order in which they came."""
        ...

    def renewals(self, room: RoomId) -> list[PutRenewal]:
        """Until when claims of the tasks of a room were renewed, in the order of the tasks' ids."""
        ...

    def sealing_keys(self, home: HomeId) -> list[SealingKeyRow]:
        """The keys of this home's agents for the sealed rooms of a home, in the order of agents and counters. A store
        that relays share has none."""
        ...

    def epoch_secrets(self, room: RoomId) -> list[EpochSecretRow]:
        """The secrets of a room's epochs, in the order of their numbers. A store that relays share has none."""
        ...

    def made_records(self, room: RoomId) -> list[MadeRecordRow]:
        """The records of a room's epochs that this home signed, in the order of their numbers and hashes. A store that
        relays share has none."""
        ...

    def file_seals(self, room: RoomId, agent: AgentId) -> list[FileSealRow]:
        """How the files are sealed that an agent shares in a room elsewhere, in the order of their digests. A store
        that relays share has none."""
        ...

    def key_exchanges(self, room: RoomId) -> list[KeyExchangeRow]:
        """The key exchanges at a sealed room of which an end is here, in the order of shares and roles. A store that
        relays share has none."""
        ...

    def unanswered_exchanges(self, before: Millis) -> list[KeyExchangeRow]:
        """The joiners' ends of key exchanges at all sealed rooms elsewhere that began before a moment and that no
        owner's home answered, in the order of rooms and shares. A store that relays share has none."""
        ...

    def key_tries(self, room: RoomId) -> list[KeyTriesRow]:
        """How often wrong secrets were tried with the keys of a room, in the order of keys and persons. A store that
        relays share has none."""
        ...

    def verify_chain(self, room: RoomId) -> Position | None:
        """Compute digests and chain again. Gives the first position at which they differ from the stored ones, or None
        when all agree."""
        ...

    def check(self) -> list[str]:
        """What is wrong with the store's own structures, in plain sentences; empty when nothing is."""
        ...

    def rebuild_index(self) -> None:
        """Make every index row anew from the facts, atomically."""
        ...

    def close(self) -> None:
        """Let go of what the store holds open. Nothing else may be called afterwards."""
        ...


class FileStore(Store, Protocol):
    """A store in a file of this machine, which is near enough that a driver may let the event loop commit."""

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        """`transact` for a caller that cannot wait. While another thread or program is writing, this raises
        `StoreError(store_locked)` at once, and no job happened."""
        ...

    @property
    def checkpoint_due(self) -> bool:
        """Whether `checkpoint` has work to do."""
        ...

    def checkpoint(self) -> None:
        """Do the housekeeping that commits put off, so that no commit waits for it. Only the size of the files depends
        on it. The thread that writes calls this. Raises nothing."""
        ...


def has_happened(store: Store, outcome: JobOutcome) -> bool:
    """Whether a job that appends, and whose outcome was `store_unknown`, happened after all.

    The chain digests tell: each fact's digest is over a random salt, so the facts of another writer cannot lead to the
    same chain digest.
    """
    return all(store.chain_at(room, head.position) == head.chain for room, head in outcome.heads.items())


def past_one_by_one(
    store: Store, room: RoomId, keys: Sequence[UsedKey], messages: Sequence[MessageId], lines: Sequence[int]
) -> Past:
    """`Store.past` for a store on this machine, where several questions cost no more than one."""
    priors = {key: prior for key in keys if (prior := store.prior(room, *key)) is not None}
    found: dict[MessageId, Header | None] = {}
    for message in messages:
        place = store.find_message(message)
        if place is not None:
            found[message] = store.message(*place) if place[0] == room else None
    named = {number: line for number in set(lines) if (line := store.line_at(room, number)) is not None}
    return Past(priors, found, named)


def prior_by_id(store: Store, room: RoomId, actor: AgentId, operation: str, key: str) -> Prior | None:
    """The earlier use of an idempotency key that was drawn for a message. No index row holds such a key; the message is
    found by its id, from which the key follows."""
    message = message_of_key(key)
    found = None if message is None else store.find_message(message)
    return prior_in(None if found is None or found[0] != room else store.message(*found), (actor, operation, key))


def prior_in(header: Header | None, used: UsedKey) -> Prior | None:
    """The earlier use of an idempotency key, if it is what led to this fact."""
    if header is None or (header.by.actor, header.operation, header.key) != used:
        return None
    return Prior(header.position, header.input or b"")
