"""What one home asks of another over a link: the home that owns the rooms answers, a daemon elsewhere asks.

    link.attach, link.detach               which of a person's agents speak over this link
    link.follow, link.watch, link.unwatch  how rooms stand and what is said in them, in the order of their logs
    link.pull, link.why                    what was said before, and where it got to
    link.posted                            whether an agent that was put out said something before
    link.find, link.knock                  coming in with a key
    link.exchange                          the key exchange by which somebody comes into a sealed room
    link.open, link.post, link.close       what an agent does
    link.claim, link.renew, link.release   tasks
    link.blob_begin, _write, _finish, _read     the files that a room's messages bring
    link.decide, link.check_code, link.mint, link.revoke, link.kick, link.role, link.transfer   what an owner's person
                                           does
    link.grant, link.ungrant               the same, about agents that have a token and no key
    link.epoch, link.epochs, link.sealing_key   who can read a sealed room from now on and could before, and the keys
                                           to which its secrets are wrapped
    link.direct_keys, link.direct_key_of   the keys to which the secrets of direct rooms are wrapped, before the agent
                                           that a room is for comes in
    link.owner_line                        that the home of a sealed room's owner is there
    link.head, link.rewind                 how an owner's person lets a room go on after this home lost a part of it
    link.delete                            how an owner's person has a room deleted
    link.cursors                           how far each agent has read
    link.sighted                           what agent hosts' records say of messages that agents were given
    link.ask                               what the home of a room answers whole: its state, its actions, modules

No tool, command or page offers these operations: a program speaks them, and each answer holds codes, ids, numbers,
labels and bytes that others signed, never a sentence. What somebody signed crosses as the very bytes that were signed.
A room that none of the attached agents may know is `no_such_room`.

Above: the engine (`linking`, `following` and their neighbours answer them), and `parlerd.uplink`, which asks. Below:
`entry`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.exchange import MAX_ANSWER as MAX_GRANTED
from parlerd.core.exchange import MAX_SHOWN, PROOF, SHARE, Step
from parlerd.core.model import Sighted
from parlerd.core.words import MAX_BYTES
from parlerd.operations import samples
from parlerd.operations.entry import (
    IDEMPOTENT,
    MAX_PAGE,
    MAX_PARAMS,
    Family,
    IdempotencyKey,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Short,
)
from parlerd.operations.shared import (
    GATING,
    STATE_WRITES,
    BlobAt,
    BlobPiece,
    Lease,
    Noted,
    SightSaid,
    StageReached,
    StatedStatus,
    TaskStatus,
    TransferEntry,
)

MAX_ATTACHED: Final = 500
"""Agents that one call attaches or detaches. More are attached by further calls."""
MAX_FOLLOWED: Final = 1000
"""Rooms that one link follows at most."""
MAX_NEWEST: Final = 500
"""How many of a room's newest messages a link begins with at most, where it has none yet."""

Door = Literal["form", "cli", "terminal"]
"""Where a person typed a code."""
_Signature = Annotated[bytes, Meta(min_length=64, max_length=64)]
_MaybeSignature = Annotated[bytes, Meta(max_length=64)]
"""A signature, or nothing beside bytes that are not there."""
_Statement = Annotated[bytes, Meta(max_length=16 * 1024)]
"""The bytes of a statement that somebody signed (`core.statements`)."""
_Envelope = Annotated[bytes, Meta(max_length=MAX_BYTES)]
"""The bytes of a message's envelope. The engine, which counts them before it checks the signature, has the last word
on how many there may be."""
_Hash = Annotated[bytes, Meta(max_length=32)]
"""32 bytes, or none."""
_Record = Annotated[bytes, Meta(max_length=512 * 1024)]
"""The bytes of an epoch record that a person signed (`core.epoch_record`)."""
_Wraps = Annotated[bytes, Meta(max_length=160 * 1024)]
"""The bytes of the wraps that a record names by their hash."""
_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,64}\Z")]
"""An id that a home tells, and that is shown as it is."""
_Blob = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
_Count = Annotated[int, Meta(ge=0, lt=2**53)]
"""A number or a moment, also in what a home tells: whoever hears it stores it and shows it."""


MAX_EPOCHS: Final = 100
"""Records of epochs that one answer holds at most."""
MAX_PIECE: Final = 256 * 1024
"""Bytes of one piece of a file: other calls go between two of them."""


# -- who speaks over this link -----------------------------------------------------------------------------


class Attachment(Params, frozen=True, kw_only=True):
    """An agent that is to speak over this link. `delegation` is the text by which the link's person lets it act, and
    `signature` is the agent's own, under `parler/link`, over msgpack of `(1, "attach", channel, agent, principal)`:
    `channel` is this link's, so what is signed for one link attaches nobody to another."""

    agent: Short
    delegation: _Statement
    delegation_signature: _Signature
    signature: _Signature


class Attach(Params, frozen=True, kw_only=True):
    """Attach these agents beside those that are, or renew the delegations of some that are."""

    agents: Annotated[tuple[Attachment, ...], Meta(max_length=MAX_ATTACHED)]


class Standing(Result, frozen=True, kw_only=True):
    """How an attached agent stands to a room here: `member`, `left`, `pending` or `denied`."""

    room: str
    agent: str
    state: str


class Attached(Result, frozen=True, kw_only=True):
    """How every agent of this call stands to rooms here. `now` is this home's clock, in epoch milliseconds."""

    rooms: list[Standing]
    now: _Count


class Detach(Params, frozen=True, kw_only=True):
    agents: Annotated[tuple[Short, ...], Meta(max_length=MAX_ATTACHED)]


# -- what happens in rooms ---------------------------------------------------------------------------------


class Resume(Params, frozen=True, kw_only=True):
    """Where to go on in a room. All of it empty: from nothing, with the `newest` messages.

    `public` is the number of the newest public message that the asker has, and `line` the public line there; `before`
    is the own number of each attached member's newest message there; `moves` and `asks` are the counts of the newest
    card. `epoch` is the number of the newest epoch of a sealed room that the asker has; it is told none before that.
    `heard` is when the owner's home signed the newest that the asker has of it.
    """

    room: Short
    public: _Count = 0
    line: _Hash = b""
    moves: _Count = 0
    asks: _Count = 0
    before: dict[Short, _Count] = {}
    epoch: _Count = 0
    heard: _Count = 0
    newest: Annotated[int, Meta(ge=0, le=MAX_NEWEST)] = 0


class FollowRooms(Params, frozen=True, kw_only=True):
    """Follow these rooms, and those that `link.watch` adds. A link has one such stream at a time."""

    rooms: Annotated[tuple[Resume, ...], Meta(max_length=MAX_FOLLOWED)] = ()


class FollowRoom(Params, frozen=True, kw_only=True):
    """Let this link's stream follow one room more, or begin one anew."""

    resume: Resume


class UnfollowRoom(Params, frozen=True, kw_only=True):
    room: Short


class MemberEntry(Result, frozen=True, kw_only=True):
    """An agent that is or was in the room. How it came in is shown by what was signed: the owner by the room's opening;
    another by `knock` and `proof`, a decision of the owner's side; by `knock` and `terms`, those of the key that let it
    in; or, where it has no key, by `grant`, which was used under the name `granted_as`."""

    agent: str
    principal: str
    handle: str
    host: str
    role: str
    present: bool
    joined_at: _Count
    locked: bool = False
    """Whether the role is the owner's word."""
    knock: bytes = b""
    knock_signature: bytes = b""
    proof: bytes = b""
    proof_signature: bytes = b""
    terms: bytes = b""
    terms_signature: bytes = b""
    grant: bytes = b""
    grant_signature: bytes = b""
    granted_as: str = ""


class KeyEntry(Result, frozen=True, kw_only=True):
    """A session key of the room: its signed terms, which name it, and what became of it since."""

    ref: str
    terms: bytes
    terms_signature: bytes
    revoked: bool
    users: list[str]
    """The agents that it let in; whoever may know the key by its terms alone is told none of them."""


class ExchangeEntry(Result, frozen=True, kw_only=True):
    """How far the key exchange is by which somebody asks to come into a sealed room (`core.exchange`): what each end
    said, which is empty where it said nothing yet."""

    share: Annotated[bytes, Meta(min_length=SHARE, max_length=SHARE)]
    answered: Annotated[bytes, Meta(max_length=SHARE)] = b""
    shown: Annotated[bytes, Meta(max_length=MAX_SHOWN)] = b""
    confirmed: Annotated[bytes, Meta(max_length=PROOF)] = b""
    granted: Annotated[bytes, Meta(max_length=MAX_GRANTED)] = b""


class RequestEntry(Result, frozen=True, kw_only=True):
    """Somebody knocks, or knocked: the signed knock, and the signed decision once there is one. An agent that has no
    key signs no knock and asks by a `grant`, without a `ref`. `state` is `pending`, `approved`, `denied`,
    `failed`, `lapsed`, `withdrawn` or `closed`. In a sealed room the `knock` is a signed `JoinCard`, no `host` is told,
    and there is an `exchange`."""

    request: str
    ref: str
    agent: str
    principal: str
    name: str
    host: str
    at: _Count
    state: str
    knock: bytes
    knock_signature: bytes
    decision: bytes = b""
    decision_signature: bytes = b""
    grant: bytes = b""
    grant_signature: bytes = b""
    role: str = ""
    exchange: ExchangeEntry | None = None


class SealingKeyEntry(Result, frozen=True, kw_only=True):
    """An agent told by which key it is given the secrets of sealed rooms: what it signed (`core.statements`)."""

    statement: bytes
    signature: bytes


class RosterEntry(Result, frozen=True, kw_only=True):
    """An agent in the roster of a sealed room, with its X25519 key, and the number that the key has among its keys."""

    agent: str
    principal: str
    handle: str
    key: bytes
    counter: _Count
    requester: bool = False
    """Whether it only asks a queue for work."""


class EpochEntry(Result, frozen=True, kw_only=True):
    """An epoch of a sealed room began: the record that the owner's person signed, and the wraps that it names. `roster`
    is given where a card is whole, and where it was asked for: all who could read the room from there on. The record
    names it by its digest."""

    record: _Record
    signature: _MaybeSignature
    wraps: _Wraps
    roster: list[RosterEntry] = []


class OwnerLineEntry(Result, frozen=True, kw_only=True):
    """The home of a sealed room's owner was there: what its person signed (`core.statements`)."""

    statement: bytes
    signature: bytes


class Card(Result, frozen=True, kw_only=True):
    """How a room stands before what follows in its log. With `whole` it takes the place of every card before; otherwise
    it holds only what changed since the card before it, and nothing in it is taken back.

    `moves` counts how often somebody came, went or was given a role, `asks` what became of keys and requests; `asks` is
    0 for all but the owner's person. Keys and requests are told to the owner's person; another is told its own agents'
    requests, and the terms of the keys that these knocked with. Whoever only knocks is told neither `title` nor
    members. `transfers` are all that the room had, in order, on a whole card and whenever one is added.

    Of a sealed room the home knows no title, so `title` is empty. A whole card of one tells its members the `epoch`
    that is in force where the following page starts; each one that begins later is an item of its own. `sealing_keys`
    are told to the owner's person alone: those of agents that are in or knock which no record holds, and which no card
    told before. `asks` counts them too. `owner_line` is the newest that the home of the owner said of itself, which the
    asker does not have.
    """

    whole: bool
    home: str
    opening: bytes = b""
    opening_signature: bytes = b""
    title: bytes = b""
    opened_at: _Count = 0
    closed: bool = False
    moves: _Count = 0
    asks: _Count = 0
    transfers: list[TransferEntry] = []
    members: list[MemberEntry] = []
    keys: list[KeyEntry] = []
    requests: list[RequestEntry] = []
    epoch: EpochEntry | None = None
    sealing_keys: list[SealingKeyEntry] = []
    owner_line: OwnerLineEntry | None = None


class LinkMessage(Result, frozen=True, kw_only=True):
    """A message that at least one attached agent may see. Where its words were erased, `body` is empty and `digest` is
    the SHA-256 that the envelope had. `signature` is empty then, too, and for what the home itself says of an
    invocation."""

    at: _Count
    agent: str
    principal: str
    body: bytes
    signature: bytes
    digest: bytes = b""
    opening: bool = False
    version: _Count = 0
    """For what the room remembers or forgets under a key: the version of that key, which the home counts."""


class LinkPage(Result, frozen=True, kw_only=True):
    """Messages of a room, one after the other: no public message between two of them is left out.

    `public` and `line` are the number of public messages before the first of them, and the public line there; `before`
    is the own number there of each attached agent that is a member now. One that comes in later, by a card that
    follows, sees none of these messages: a page follows that card, with the number that it goes on from. With `jumped`
    the page does not go on where the one before it ended: what lies between is asked for with `link.pull`. A private
    message whose words were erased is in no page, because nothing else shows who may see it; `before` counts it.
    """

    public: _Count
    line: bytes
    before: dict[str, _Count]
    jumped: bool
    messages: list[LinkMessage]


class Present(Result, frozen=True, kw_only=True):
    """How present a member is, in one word, and since when; and what it states."""

    agent: str
    presence: str
    since: _Count
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET


class RewindEntry(Result, frozen=True, kw_only=True):
    """The room was rewound: the statement that the owner's person signed (`core.statements`). `before` is the own
    number there of each attached agent that is a member now. A whole card and a page follow."""

    statement: bytes
    signature: bytes
    before: dict[str, _Count]


class TaskAtRoom(Result, frozen=True, kw_only=True):
    """How a task stands that at least one attached agent may see. `worker` has it or, where it is over, ended it.
    `until` is when the lease ends; of a task that nobody took in its time, when that time was over. `among` are those
    of the attached agents who alone may claim it now; null for all for whom it is."""

    task: _Id
    state: TaskStatus
    worker: str = ""
    until: _Count = 0
    lease_ms: _Count = 0
    fence: _Count = 0
    among: list[_Id] | None = None


class ErasedAtRoom(Result, frozen=True, kw_only=True):
    """The words of the messages from an agent's own number `first` to `last` are gone, because the room's home held too
    many."""

    agent: _Id
    first: _Count
    last: _Count


class SightOnMessage(Result, frozen=True, kw_only=True):
    """What the record of a reader's agent host says of a message, as that reader's own daemon told."""

    id: _Id
    agent: _Id
    sight: SightSaid


class LinkItem(Result, frozen=True, kw_only=True):
    """One step of a room: a card, a page, a rewind or an epoch. With `gone` the room is followed no longer, because
    none of the attached agents may know it any more, and nothing else is in the item but `deleted`, which says that the
    room was deleted. Whoever follows it again says how far it was told of it. `level` says that all is told which was
    there when the step was made.

    With `awaits` the room need not be followed, and nothing else is in the item: it is a direct room that waits for
    these attached agents, which are not in it (`link.find`). With `opened` it is so as well: another agent of the
    person's opened the room, which these attached agents own."""

    room: str
    card: Card | None = None
    page: LinkPage | None = None
    rewound: RewindEntry | None = None
    epoch: EpochEntry | None = None
    """An epoch of a sealed room began: the messages that follow are sealed under its record. One that was told before
    may be told again."""
    presence: list[Present] = []
    tasks: list[TaskAtRoom] = []
    """How these tasks stand now, whatever was told of them before."""
    erased: list[ErasedAtRoom] = []
    """Which words are gone, whatever was told of these messages before."""
    sights: list[SightOnMessage] = []
    """What is known of whether readers' models were shown messages that attached agents wrote. A word that was told
    before may be told again."""
    awaits: list[str] = []
    opened: list[str] = []
    waits_from: _Count | None = None
    """In a sealed room whose history is not for everyone: the number of the oldest epoch under which a message is
    sealed that waits and that an attached agent may be shown yet, 0 where none is. None says nothing new."""
    level: bool = False
    gone: bool = False
    deleted: bool = False


class PullHistory(Params, frozen=True, kw_only=True):
    """What an agent may see after its own number `after`, at most `limit` messages, the oldest first; without `after`
    the newest of them."""

    room: Short
    agent: Short
    after: _Count | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 100


class WhyAtRoom(Params, frozen=True, kw_only=True):
    """Where a message got to, as an attached agent may know: for its author every other member that may see it, for a
    reader the reader alone."""

    room: Short
    agent: Short
    id: Short


class CompareHeads(Params, frozen=True, kw_only=True):
    """Where the logs of rooms end that this link's stream follows, as another relay of this home read it."""

    heads: Annotated[dict[Short, _Count], Meta(max_length=MAX_FOLLOWED)] = {}


class HeadsCompared(Result, frozen=True, kw_only=True):
    """`items` counts what the stream told since it began. `behind` are the rooms of which less was told than there is,
    each with the position up to which that is."""

    items: int
    behind: dict[str, int] = {}


class PostedAtRoom(Params, frozen=True, kw_only=True):
    """A message of an attached agent, which may be out of the room by now."""

    room: Short
    agent: Short
    id: Short


class LadderAtRoom(Result, frozen=True, kw_only=True):
    """The stages that the message reached for one reader, and how present that reader is. `sight` is what the
    record of its agent host says, as its own daemon told; that is no stage here."""

    agent: str
    stages: list[StageReached]
    presence: str
    since: _Count
    sight: SightSaid | msgspec.UnsetType = msgspec.UNSET


class StandingAtRoom(Result, frozen=True, kw_only=True):
    """How a task stands: `holder` has it until `lease_until`, or `ended_by` ended it. `open_until` is until when it may
    be claimed, where its author set a time."""

    state: TaskStatus
    holder: _Id | None = None
    lease_until: _Count = 0
    ended_by: _Id | None = None
    open_until: _Count = 0


class OwnAtRoom(Result, frozen=True, kw_only=True):
    """What the author of a message is told of it, whose own machine may have no copy: whoever only asks a queue for
    work is not shown what it asked for. `at` is when the message was stored; `erased` says that its words went because
    there were too many."""

    at: _Count
    erased: bool = False
    task: StandingAtRoom | None = None


class LaddersAtRoom(Result, frozen=True, kw_only=True):
    """`own` is there where the message is the asker's own."""

    readers: list[LadderAtRoom]
    own: OwnAtRoom | None = None


# -- coming in ---------------------------------------------------------------------------------------------


class FindKey(Params, frozen=True, kw_only=True):
    """By a session key; or the direct `room` that names this attached `agent`. Whoever does not say that it `unseals`
    direct rooms is an older Parler, and is told of none that is sealed."""

    session_key: Short = ""
    room: Short = ""
    agent: Short = ""
    unseals: bool = False


class FoundKey(Result, frozen=True, kw_only=True):
    """What somebody who has a key may know of its room: the signed opening, how the room changed hands since, and the
    key's signed terms."""

    room: str
    opening: bytes
    opening_signature: bytes
    ref: str
    terms: bytes
    terms_signature: bytes
    transfers: list[TransferEntry] = []
    counter: int = 0
    """Of the sealing key by which the record in force of a sealed direct room holds the agent that it is for; 0 where
    it holds none. An agent that has the key comes in with that one."""


class KnockAtRoom(Params, frozen=True, kw_only=True):
    """`statement` is the knock that an attached agent signed. No session key is named by the agent that a direct room
    is for: the knock says which room that is."""

    session_key: Short
    statement: _Statement
    signature: _Signature
    role: Annotated[str, Meta(max_length=64)] = ""
    """The role in which the agent wants to come in, where the key lets it in."""
    sealing_key: _Statement = b""
    sealing_key_signature: _MaybeSignature = b""
    """For a sealed room: by which key the agent is given its secrets, as the agent signed; empty for every other."""
    share: Annotated[bytes, Meta(max_length=SHARE)] = b""
    """For a sealed room: the agent's share of the key exchange. Then `session_key` is the route of the key, and
    `statement` the agent's `JoinCard`."""
    epoch: EpochTold | None = None
    """For a sealed queue of the agent's own person: the record by which the agent reads, in place of an exchange."""


class Knocked(Result, frozen=True, kw_only=True):
    """`join_code` is what the one who knocks tells the person who decides; empty when there is nothing to decide, and
    in a sealed room, whose home knows no code. There `heard_at` is when the owner's person was last heard of, by this
    home's clock; 0 where that is not known."""

    status: Literal["pending", "joined", "denied", "member"]
    request: str = ""
    join_code: str = ""
    handle: str = ""
    heard_at: _Count = 0


class ExchangeStep(Params, frozen=True, kw_only=True):
    """A step of a key exchange in a sealed room: `shown` by the attached `agent` that asks to come in, and every other
    by the link's person, who owns the room. The same again is harmless, and so is the agent's `begun`, which it told
    with its knock."""

    room: Short
    request: Short
    step: Step
    text: Annotated[bytes, Meta(max_length=MAX_SHOWN)] = b""
    agent: Short = ""


class ExchangeNoted(Result, frozen=True, kw_only=True):
    """Whether the agent that asks to come in is attached to a link now, and the newest step that was taken."""

    is_here: bool = False
    step: Step = "begun"


# -- what an agent does ------------------------------------------------------------------------------------


class EpochTold(Params, frozen=True, kw_only=True):
    """The record of an epoch, as the owner's person signed it, and the wraps that it names."""

    record: _Record
    signature: _Signature
    wraps: _Wraps


class OpenRemoteRoom(Params, frozen=True, kw_only=True):
    """Open a room here. The room's id follows from `opening`, so the same call again is the same room. `recap` is the
    envelope of its first message, or empty. A sealed room comes with its first `epoch`, which holds the owner alone,
    and with an empty `title`: the epoch's card holds that."""

    opening: _Statement
    opening_signature: _Signature
    title: _Statement
    session_key: Short
    terms: _Statement
    terms_signature: _Signature
    idempotency_key: IdempotencyKey
    recap: _Envelope = b""
    recap_signature: _MaybeSignature = b""
    epoch: EpochTold | None = None


class OpenedRemoteRoom(Result, frozen=True, kw_only=True):
    room: str
    replayed: bool


PostedBy = Literal[
    "message.send",
    "handoff.give",
    "handoff.accept",
    "handoff.decline",
    "handoff.withdraw",
    "blob.share",
    "memory.remember",
    "memory.forget",
    "task.complete",
    "task.say",
]
"""The operations that lead to one message."""


class PostEnvelope(Params, frozen=True, kw_only=True):
    """An envelope that an attached agent signed. `operation` is the one that its author was asked for: it is part of
    what an idempotency key means."""

    room: Short
    agent: Short
    id: Short
    body: _Envelope
    signature: _Signature
    operation: PostedBy = "message.send"
    said: bool = False
    """Whether the message is to say something of the task that it replies to, which its author holds."""
    fence: _Count = 0
    """For `said`: the number of the claim by which its author holds the task; 0 where the author does not say."""


class BeginBlobAtRoom(Params, frozen=True, kw_only=True):
    """The digest is in hex, as everywhere."""

    room: _Id
    agent: _Id
    blob: _Blob
    size: _Count


class WriteBlobAtRoom(Params, frozen=True, kw_only=True):
    room: _Id
    agent: _Id
    blob: _Blob
    offset: _Count
    data: Annotated[bytes, Meta(max_length=MAX_PIECE)]


class FinishBlobAtRoom(Params, frozen=True, kw_only=True):
    room: _Id
    agent: _Id
    blob: _Blob
    size: _Count


class ReadBlobAtRoom(Params, frozen=True, kw_only=True):
    room: _Id
    agent: _Id
    blob: _Blob
    offset: _Count
    length: Annotated[int, Meta(ge=1, le=MAX_PIECE)]


class Posted(Result, frozen=True, kw_only=True):
    """`seq` is the author's own number of the message. `id` is that of the first time, where it was `replayed`."""

    id: _Id
    seq: _Count
    at: _Count
    replayed: bool
    late: bool = False
    """Whether what it says of a task came too late, and so has no effect."""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class GateAtRoom(Params, frozen=True, kw_only=True):
    """A message that waits for a condition or a timer, as an attached agent signed it; in a sealed room it sealed the
    words first."""

    room: Short
    agent: Short
    body: _Envelope
    signature: _Signature


class GatedAtRoom(Result, frozen=True, kw_only=True):
    """`seq` is the author's own number of the message where somebody was shown it at once, else 0."""

    at: _Count
    replayed: bool
    seq: _Count = 0


class ClaimAtRoom(Params, frozen=True, kw_only=True):
    """An attached agent asks for a task: this one or, without one, the oldest that it can have."""

    room: Short
    agent: Short
    task: Short | None = None
    lease_ms: Lease
    idempotency_key: IdempotencyKey | None = None


class ClaimedAtRoom(Result, frozen=True, kw_only=True):
    """`task` is empty where there is none for the agent; else the agent holds it until then, by the claim `fence`."""

    task: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{0,64}\Z")] = ""
    until: _Count = 0
    lease_ms: _Count = 0
    fence: _Count = 0


class RenewAtRoom(Params, frozen=True, kw_only=True):
    room: Short
    agent: Short
    task: Short
    lease_ms: Lease


class RenewedAtRoom(Result, frozen=True, kw_only=True):
    until: _Count


class ReleaseAtRoom(Params, frozen=True, kw_only=True):
    room: Short
    agent: Short
    task: Short
    idempotency_key: IdempotencyKey | None = None


class LeaveRoom(Params, frozen=True, kw_only=True):
    """The owner ends the room for all, and another member leaves it. With `as_person` the link's person ends a room
    whose owner acts for them, and no agent is named. With `only_leaves` nobody ends the room."""

    room: Short
    agent: Short = ""
    as_person: bool = False
    only_leaves: bool = False


class LeftRoom(Result, frozen=True, kw_only=True):
    status: Literal["closed", "left"]


# -- what an owner's person does ---------------------------------------------------------------------------


class DecideAtRoom(Params, frozen=True, kw_only=True):
    """`statement` is the decision that the owner's person signed, or the owner's agent where the room lets it decide.
    `join_code` is what was typed for it and `door` where, for a room that checks both."""

    room: Short
    statement: _Statement
    signature: _Signature
    join_code: Short | None = None
    door: Door = "cli"
    epoch: EpochTold | None = None
    """For a sealed room: the record that carries the decision out. Without it the newcomer is in and reads nothing
    until a record holds it."""
    knock: _Statement = b""
    knock_signature: _MaybeSignature = b""
    """For a sealed room: the knock of whoever is admitted, which the agent sealed for the owner's home."""
    granted: Annotated[bytes, Meta(max_length=MAX_GRANTED)] = b""
    """For a sealed room: what the owner's home says to the agent alone, sealed."""


class DecidedAtRoom(Result, frozen=True, kw_only=True):
    agent: str
    handle: str
    status: Literal["approved", "denied"]


class CheckCode(Params, frozen=True, kw_only=True):
    """Whether this is the code of the one who knocks; a wrong one counts as a guess at this `door`."""

    room: Short
    request: Short
    join_code: Short
    door: Door


class WithdrawAtRoom(Params, frozen=True, kw_only=True):
    """The attached `agent` takes its request to come in back. The same again is harmless."""

    room: Short
    agent: Short
    request: Short


class RevokeKeyOfRoom(Params, frozen=True, kw_only=True):
    room: Short
    ref: Short


class KickFromRoom(Params, frozen=True, kw_only=True):
    """The link's person puts the member `agent` out, by its id. In a sealed room the `epoch` comes along from which on
    that member cannot read; without it that waits for a record."""

    room: Short
    agent: Short
    epoch: EpochTold | None = None


class EpochAtRoom(Params, frozen=True, kw_only=True):
    """An epoch of a sealed room begins, which belongs to no decision of this moment: agents that came in by keys, that
    left, or that have fresh keys, or time alone. The same record again is harmless."""

    room: Short
    epoch: EpochTold


class SealingKeyAtRoom(Params, frozen=True, kw_only=True):
    """An attached agent that is in a sealed room, or knocks there, tells a fresh key, which it signed. The next record
    uses that key. At most one a day; the same again is harmless."""

    room: Short
    statement: _Statement
    signature: _Signature


class OwnDirectKey(Params, frozen=True, kw_only=True):
    """By which key an attached agent is given the secrets of direct rooms that others open for it here, as it signed;
    and the text by which the link's person lets it act, which names the person to whoever opens one."""

    statement: _Statement
    signature: _Signature
    delegation: _Statement
    delegation_signature: _Signature


class TellDirectKeys(Params, frozen=True, kw_only=True):
    """The keys of attached agents. A key that is known already changes nothing, nor does one that follows another
    within a day."""

    keys: Annotated[tuple[OwnDirectKey, ...], Meta(max_length=MAX_ATTACHED)]


class AskDirectKey(Params, frozen=True, kw_only=True):
    """The attached `agent` is about to open a direct room for the agent `of`."""

    agent: Short
    of: Short


class DirectKeyOf(Result, frozen=True, kw_only=True):
    """What the agent told, as `OwnDirectKey` has it; empty where it told nothing."""

    statement: bytes = b""
    signature: bytes = b""
    delegation: bytes = b""
    delegation_signature: bytes = b""


class OwnerLineAtRoom(Params, frozen=True, kw_only=True):
    """The home of the person who owns a sealed room is there, and has the room as `statement` says. Nothing is noted of
    what was said half a day ago."""

    room: Short
    statement: _Statement
    signature: _Signature


class PullEpochs(Params, frozen=True, kw_only=True):
    """The records of a sealed room up to the one with the number `upto`, at most `limit` of them, for a member. With
    `wraps` their wraps come along, and with `rosters` who could read the room from each on."""

    room: Short
    agent: Short
    upto: Annotated[int, Meta(ge=1, lt=2**53)]
    limit: Annotated[int, Meta(ge=1, le=MAX_EPOCHS)] = MAX_EPOCHS
    wraps: bool = False
    rosters: bool = False


class PulledEpochs(Result, frozen=True, kw_only=True):
    """Records in the order of their numbers, without a gap, the last of which is the one that was asked for. There are
    fewer than were asked for where the answer would be too large."""

    epochs: list[EpochEntry]


class RoleInRoom(Params, frozen=True, kw_only=True):
    """The link's person says what the member `agent` is, by its id; an empty `role` is none."""

    room: Short
    agent: Short
    role: Short
    lock: bool = False


class TransferRoomThere(Params, frozen=True, kw_only=True):
    """`statement` is the transfer that the owner's person signed or, to take the room over, the link's."""

    room: Short
    statement: _Statement
    signature: _Signature


class MintAtRoom(Params, frozen=True, kw_only=True):
    """One key more of a room of the link's person. The same call again is the same key."""

    room: Short
    session_key: Short
    terms: _Statement
    terms_signature: _Signature


class GrantAtRoom(Params, frozen=True, kw_only=True):
    """An agent without a key comes into a room of the link's person: the signed grant, and the `name` of the agent that
    it is used for. `token` is the SHA-256 of the token's text, which stays with the person. The same call again is the
    same agent."""

    room: Short
    grant: _Statement
    grant_signature: _Signature
    name: Short
    token: Annotated[bytes, Meta(min_length=32, max_length=32)]
    label: Annotated[str, Meta(max_length=64)] = ""


class GrantManyAtRoom(Params, frozen=True, kw_only=True):
    """As many agents without a key may come into a room of the link's person as the signed grant counts, each under the
    name that it says, with the token of which `token` is the SHA-256. The same call again changes nothing."""

    room: Short
    grant: _Statement
    grant_signature: _Signature
    token: Annotated[bytes, Meta(min_length=32, max_length=32)]
    label: Annotated[str, Meta(max_length=64)] = ""


class GrantedAtRoom(Result, frozen=True, kw_only=True):
    """The agent, under its handle; of a grant that counts its agents, what stands for those who may come, without one.
    The relay answers over HTTP at `address`, a host with its port, to clients that
    trust `authority`, a certificate as PEM; both are empty where it does not."""

    agent: str
    handle: str
    address: str = ""
    authority: str = ""


class UngrantAtRoom(Params, frozen=True, kw_only=True):
    """An agent of the link's person that came in by a grant is out, and its token opens nothing. Harmless for one that
    is out already, or never came."""

    room: Short
    agent: Short


class AskHead(Params, frozen=True, kw_only=True):
    """Where a room stands here, for the person whose agent owns it."""

    room: Short


class RoomHead(Result, frozen=True, kw_only=True):
    """The number of the newest public message and the public line there; `before` is the own number of the newest
    message of each attached agent that is a member."""

    public: _Count
    line: bytes
    before: dict[str, _Count]


class RewindAtRoom(Params, frozen=True, kw_only=True):
    """`statement` is the rewind that the owner's person signed."""

    room: Short
    statement: _Statement
    signature: _Signature


class DeleteAtRoom(Params, frozen=True, kw_only=True):
    room: Short


# -- how far agents have read ------------------------------------------------------------------------------


class LinkCursor(Params, frozen=True, kw_only=True):
    """An agent's own numbers: up to which it was shown a room, and up to which it acknowledged."""

    room: Short
    agent: Short
    read: _Count
    acknowledged: _Count


class TellPresence(Params, frozen=True, kw_only=True):
    """How present an attached agent is, as its own daemon says, and what the agent states."""

    agent: Short
    presence: Literal["active", "waiting", "idle", "offline"]
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET


class TellCursors(Params, frozen=True, kw_only=True):
    """The newest of each agent and room; a place never moves back, so telling one again is harmless."""

    cursors: Annotated[tuple[LinkCursor, ...], Meta(max_length=MAX_FOLLOWED)] = ()
    presence: Annotated[tuple[TellPresence, ...], Meta(max_length=MAX_ATTACHED)] = ()


class SightAtRoom(Params, frozen=True, kw_only=True):
    """What the record of an agent host says of a message that an attached agent was given. `again` is how often the
    message was shown once more."""

    room: Short
    agent: Short
    id: Short
    verdict: Sighted
    reason: Short
    host: Short
    again: _Count = 0
    evidence: Annotated[str, Meta(max_length=256)] = ""


class TellSightsAtRoom(Params, frozen=True, kw_only=True):
    """The newest word on each message and agent; telling one again is harmless."""

    sights: Annotated[tuple[SightAtRoom, ...], Meta(max_length=MAX_PAGE)]


# -- what the home of a room answers whole ---------------------------------------------------------------

MAX_ANSWER: Final = 1024 * 1024
"""Bytes of an answer to a question that crossed a link."""

Crossing = Literal[
    "state.get",
    "state.list",
    "state.set",
    "state.delete",
    "state.batch",
    "state.history",
    "state.changes",
    "state.hide",
    "state.evaluate",
    "state.wait",
    "timer.renew",
    "action.register",
    "action.delete",
    "action.list",
    "action.invoke",
    "agent.enable",
    "module.register",
    "module.list",
    "module.delete",
    "room.board",
    "message.gated",
    "message.withdraw",
    "receipt.get",
    "receipt.list",
]
"""The operations that the home of the room answers, whole, wherever they are asked."""


class AskAtRoom(Params, frozen=True, kw_only=True):
    """An operation on the state of a room here, for an attached agent. `params` are the operation's own, as msgpack."""

    room: Short
    agent: Short
    operation: Crossing
    params: Annotated[bytes, Meta(max_length=MAX_PARAMS)]


class AnsweredAtRoom(Result, frozen=True, kw_only=True):
    """The answer of the operation, as msgpack; or, with `code`, why it was refused, and the details of that refusal. No
    sentence crosses: whoever hears the refusal makes its own."""

    answer: Annotated[bytes, Meta(max_length=MAX_ANSWER)] = b""
    code: Annotated[str, Meta(max_length=64)] = ""
    details: dict[str, Any] = {}


_KEY: Final = b"\x00" * 64
"""A signature in an example."""
_POSTING: Final = (
    "no_such_room",
    "room_deleted",
    "room_closed",
    "envelope_refused",
    "text_too_long",
    "invalid_param",
    "no_such_message",
    "no_such_agent",
    "too_many_audiences",
    "too_many_bytes",
    "throttled",
    "stale_epoch",
    "not_sealed_in",
    "agent_disabled",
    "too_many_tasks",
    "no_such_task",
    "task_over",
    "claim_lost",
    "upload_unfinished",
    "version_conflict",
    "memory_full",
    *IDEMPOTENT,
)
_OF_TASK: Final = ("no_such_room", "room_closed", "no_such_task", "task_over", "claim_lost")
_BRINGING: Final = ("no_such_room", "room_closed", "blob_too_large", "too_many_blobs", "throttled")
_BLOB: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

FAMILY: Final = Family(
    operations=(
        Operation(
            name="link.attach",
            summary="Let agents of the link's person speak over it.",
            params=Attach,
            result=Attached,
            plane="link",
            effect="write",
            errors=("attach_refused", "busy"),
            example={"agents": []},
            answers=({"rooms": [{"room": samples.ROOM, "agent": "U", "state": "member"}], "now": samples.AT},),
        ),
        Operation(
            name="link.detach",
            summary="Let agents speak over this link no more.",
            params=Detach,
            result=Noted,
            plane="link",
            effect="write",
            example={"agents": ["U"]},
        ),
        Operation(
            name="link.follow",
            summary="Follow how rooms stand and what is said in them.",
            params=FollowRooms,
            result=LinkItem,
            plane="link",
            effect="read",
            stream=True,
            errors=("busy",),
            example={"rooms": [{"room": samples.ROOM, "newest": 100}]},
        ),
        Operation(
            name="link.watch",
            summary="Let the link's stream follow one room more, or begin one anew.",
            params=FollowRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=("busy", "invalid_param"),
            example={"resume": {"room": samples.ROOM}},
        ),
        Operation(
            name="link.unwatch",
            summary="Let the link's stream follow a room no more.",
            params=UnfollowRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=("invalid_param",),
            example={"room": samples.ROOM},
        ),
        Operation(
            name="link.compare",
            summary="Learn whether all of the link's stream arrived at another relay of this home.",
            params=CompareHeads,
            result=HeadsCompared,
            plane="link",
            effect="read",
            errors=("invalid_param",),
            example={"heads": {samples.ROOM: 41}},
        ),
        Operation(
            name="link.pull",
            summary="Read what an agent may see of a room's past.",
            params=PullHistory,
            result=LinkPage,
            plane="link",
            effect="read",
            errors=(
                "no_such_room",
                "room_deleted",
            ),
            example={"room": samples.ROOM, "agent": "U", "after": 40, "limit": 20},
        ),
        Operation(
            name="link.why",
            summary="Learn where a message got to, reader by reader.",
            params=WhyAtRoom,
            result=LaddersAtRoom,
            plane="link",
            effect="read",
            errors=("no_such_room", "room_deleted", "no_such_message"),
            example={"room": samples.ROOM, "agent": "U", "id": "m_1"},
        ),
        Operation(
            name="link.posted",
            summary="Learn whether a message of an agent that may be out of the room is in it.",
            params=PostedAtRoom,
            result=Noted,
            plane="link",
            effect="read",
            errors=("no_such_room", "room_deleted", "no_such_message"),
            example={"room": samples.ROOM, "agent": "U", "id": "m_1"},
        ),
        Operation(
            name="link.post",
            summary="Post a message that an attached agent signed.",
            params=PostEnvelope,
            result=Posted,
            plane="link",
            effect="write",
            errors=(*_POSTING, "no_such_fact", "not_your_fact"),
            facts=("message_posted", "task_completed", "task_lapsed", "bodies_erased"),
            example={"room": samples.ROOM, "agent": "U", "id": "m_1", "body": b"", "signature": _KEY},
            answers=({"id": "m_1", "seq": 7, "at": samples.AT, "replayed": False},),
        ),
        Operation(
            name="link.gate",
            summary="Post a message of an attached agent that waits for a condition or a timer.",
            params=GateAtRoom,
            result=GatedAtRoom,
            plane="link",
            effect="write",
            errors=(*_POSTING, *GATING, "not_a_worker"),
            facts=("message_gated",),
            example={"room": samples.ROOM, "agent": "U", "body": b"", "signature": _KEY},
            answers=({"at": samples.AT, "replayed": False},),
        ),
        Operation(
            name="link.blob_begin",
            summary="Begin to bring a file to a room of this home, or go on with it.",
            params=BeginBlobAtRoom,
            result=BlobAt,
            plane="link",
            effect="write",
            errors=_BRINGING,
            example={"room": samples.ROOM, "agent": "U", "blob": _BLOB, "size": 4},
            answers=({"room": samples.ROOM, "offset": 0},),
        ),
        Operation(
            name="link.blob_write",
            summary="Bring the next piece of a file.",
            params=WriteBlobAtRoom,
            result=BlobAt,
            plane="link",
            effect="write",
            errors=(*_BRINGING, "upload_unfinished"),
            example={"room": samples.ROOM, "agent": "U", "blob": _BLOB, "offset": 0, "data": b"test"},
            answers=({"room": samples.ROOM, "offset": 4},),
        ),
        Operation(
            name="link.blob_finish",
            summary="Say that a file is there whole.",
            params=FinishBlobAtRoom,
            result=BlobAt,
            plane="link",
            effect="write",
            errors=(*_BRINGING, "upload_unfinished", "blob_mismatch"),
            example={"room": samples.ROOM, "agent": "U", "blob": _BLOB, "size": 4},
            answers=({"room": samples.ROOM, "offset": 4},),
        ),
        Operation(
            name="link.blob_read",
            summary="Fetch a piece of a file that a message of the room brings.",
            params=ReadBlobAtRoom,
            result=BlobPiece,
            plane="link",
            effect="read",
            errors=("no_such_room", "no_such_blob"),
            example={"room": samples.ROOM, "agent": "U", "blob": _BLOB, "offset": 0, "length": 4},
            answers=({"data": "dGVzdA=="},),
        ),
        Operation(
            name="link.open",
            summary="Open a room at this home, as its owner's person signed.",
            params=OpenRemoteRoom,
            result=OpenedRemoteRoom,
            plane="link",
            effect="write",
            needs_idempotency_key=True,
            errors=(
                "not_permitted",
                "statement_refused",
                "sealing_key_refused",
                "envelope_refused",
                "text_too_long",
                "invalid_param",
                "invalid_name",
                "no_such_room",
                "room_deleted",
                "throttled",
                "too_many_bytes",
                "too_many_rooms",
                "no_such_agent",
                "pair_has_room",
                "sealed_room",
                "unsupported_version",
                "stale_epoch",
                *IDEMPOTENT,
            ),
            facts=("room_opened", "member_joined", "key_minted", "message_posted", "agents_paired", "epoch_turned"),
            example={
                "opening": b"",
                "opening_signature": _KEY,
                "title": b"",
                "session_key": samples.KEY,
                "terms": b"",
                "terms_signature": _KEY,
                "idempotency_key": "open-1",
            },
            answers=({"room": samples.ROOM, "replayed": False},),
        ),
        Operation(
            name="link.claim",
            summary="Take a task for an attached agent.",
            params=ClaimAtRoom,
            result=ClaimedAtRoom,
            plane="link",
            effect="write",
            needs_idempotency_key=True,
            errors=(
                *_OF_TASK,
                "already_claimed",
                "task_not_yours",
                "task_not_offered",
                "not_a_worker",
                "agent_disabled",
                *IDEMPOTENT,
            ),
            facts=("task_claimed", "task_completed", "task_lapsed"),
            example={"room": samples.ROOM, "agent": "U", "lease_ms": 300_000},
            answers=({"task": "m_1", "until": samples.AT, "lease_ms": 300_000, "fence": 12},),
        ),
        Operation(
            name="link.renew",
            summary="Keep a task longer for an attached agent.",
            params=RenewAtRoom,
            result=RenewedAtRoom,
            plane="link",
            effect="write",
            errors=_OF_TASK,
            facts=("task_completed", "task_lapsed"),
            example={"room": samples.ROOM, "agent": "U", "task": "m_1", "lease_ms": 300_000},
            answers=({"until": samples.AT},),
        ),
        Operation(
            name="link.release",
            summary="Give a task back for an attached agent.",
            params=ReleaseAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            needs_idempotency_key=True,
            errors=(*_OF_TASK, *IDEMPOTENT),
            facts=("task_completed", "task_released", "task_lapsed"),
            example={"room": samples.ROOM, "agent": "U", "task": "m_1"},
        ),
        Operation(
            name="link.close",
            summary="End a room, or leave it.",
            params=LeaveRoom,
            result=LeftRoom,
            plane="link",
            effect="destructive",
            errors=("no_such_room", "room_deleted", "room_closed", "owner_stays"),
            facts=("room_closed", "member_left"),
            example={"room": samples.ROOM, "agent": "U"},
            answers=({"status": "left"},),
        ),
        Operation(
            name="link.find",
            summary="Learn what a key opens: the signed opening of its room, and its terms.",
            params=FindKey,
            result=FoundKey,
            plane="link",
            effect="read",
            errors=("unknown_key", "throttled", "not_permitted", "unsupported_version"),
            example={"session_key": samples.KEY},
        ),
        Operation(
            name="link.knock",
            summary="Ask to come in with a key, as an attached agent signed.",
            params=KnockAtRoom,
            result=Knocked,
            plane="link",
            effect="write",
            errors=(
                "unknown_key",
                "throttled",
                "not_permitted",
                "statement_refused",
                "sealing_key_refused",
                "invalid_name",
                "too_many_pending",
                "too_many_members",
                "stale_epoch",
            ),
            facts=(
                "join_requested",
                "member_joined",
                "sealing_key_told",
                "key_exchanged",
                "knock_ended",
                "epoch_turned",
            ),
            example={"session_key": samples.KEY, "statement": b"", "signature": _KEY},
            answers=({"status": "pending", "request": "q_1", "join_code": "7F3K", "handle": ""},),
        ),
        Operation(
            name="link.withdraw",
            summary="Take an attached agent's request to come in back.",
            params=WithdrawAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=("no_such_room", "room_deleted", "no_such_request", "already_decided", "throttled", "not_permitted"),
            facts=("knock_ended",),
            example={"room": samples.ROOM, "agent": "U", "request": "q_1"},
        ),
        Operation(
            name="link.exchange",
            summary="Take a step of the key exchange by which somebody comes into a sealed room.",
            params=ExchangeStep,
            result=ExchangeNoted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "room_closed",
                "not_owner",
                "no_such_request",
                "already_decided",
                "too_many_pending",
                "statement_refused",
                "throttled",
                "not_permitted",
            ),
            facts=("key_exchanged",),
            example={"room": samples.ROOM, "request": "q_1", "step": "answered", "text": b"B" * 33},
            answers=({"is_here": True},),
        ),
        Operation(
            name="link.check_code",
            summary="Compare a typed code with the one that whoever knocks was shown.",
            params=CheckCode,
            result=Noted,
            plane="link",
            effect="read",
            errors=("no_such_room", "room_deleted", "not_owner", "no_such_request", "code_mismatch", "throttled"),
            example={"room": samples.ROOM, "request": "q_1", "join_code": "7F3K", "door": "cli"},
        ),
        Operation(
            name="link.decide",
            summary="Let in or turn away whoever knocks, as the owner's side signed.",
            params=DecideAtRoom,
            result=DecidedAtRoom,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "not_permitted",
                "statement_refused",
                "sealing_key_refused",
                "no_such_request",
                "knock_unfinished",
                "already_decided",
                "room_closed",
                "code_mismatch",
                "throttled",
                "stale_epoch",
                "too_many_members",
            ),
            facts=("join_approved", "join_denied", "member_joined", "epoch_turned", "key_exchanged"),
            example={"room": samples.ROOM, "statement": b"", "signature": _KEY},
            answers=({"agent": "U", "handle": samples.BOB, "status": "approved"},),
        ),
        Operation(
            name="link.mint",
            summary="Let one key more lead to a room, as its owner's person signed.",
            params=MintAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "not_permitted",
                "room_closed",
                "statement_refused",
                "invalid_param",
                "too_many_keys",
                "throttled",
            ),
            facts=("key_minted",),
            example={
                "room": samples.ROOM,
                "session_key": samples.KEY,
                "terms": b"",
                "terms_signature": _KEY,
            },
        ),
        Operation(
            name="link.grant",
            summary="Let an agent without a key into a room, as its owner's person signed.",
            params=GrantAtRoom,
            result=GrantedAtRoom,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "room_closed",
                "statement_refused",
                "not_permitted",
                "invalid_name",
                "too_many_tokens",
                "throttled",
                "sealed_room",
            ),
            facts=("member_joined", "agent_created", "token_minted"),
            example={
                "room": samples.ROOM,
                "grant": b"",
                "grant_signature": _KEY,
                "name": "ci",
                "token": bytes(32),
            },
        ),
        Operation(
            name="link.grant_many",
            summary="Let as many agents without a key into a room, with a token, as its owner's person signed.",
            params=GrantManyAtRoom,
            result=GrantedAtRoom,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "room_closed",
                "statement_refused",
                "too_many_tokens",
                "throttled",
                "sealed_room",
            ),
            facts=("agent_created", "token_minted"),
            example={"room": samples.ROOM, "grant": b"", "grant_signature": _KEY, "token": bytes(32)},
        ),
        Operation(
            name="link.ungrant",
            summary="End an agent without a key of the link's person, with its token.",
            params=UngrantAtRoom,
            result=Noted,
            plane="link",
            effect="destructive",
            errors=(),
            facts=("member_left", "token_revoked"),
            example={"room": samples.ROOM, "agent": "T"},
        ),
        Operation(
            name="link.kick",
            summary="Put a member out of a room.",
            params=KickFromRoom,
            result=Noted,
            plane="link",
            effect="destructive",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "no_such_agent",
                "owner_stays",
                "room_closed",
                "statement_refused",
                "sealing_key_refused",
                "stale_epoch",
            ),
            facts=("member_left", "epoch_turned"),
            example={"room": samples.ROOM, "agent": "U"},
        ),
        Operation(
            name="link.epoch",
            summary="Begin an epoch of a sealed room, as its owner's person signed.",
            params=EpochAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "room_closed",
                "statement_refused",
                "sealing_key_refused",
                "stale_epoch",
                "throttled",
            ),
            facts=("epoch_turned",),
            example={"room": samples.ROOM, "epoch": {"record": b"", "signature": _KEY, "wraps": b""}},
        ),
        Operation(
            name="link.owner_line",
            summary="Say that the home of a sealed room's owner is there, and how it has the room.",
            params=OwnerLineAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "not_owner",
                "not_sealed",
                "room_closed",
                "statement_refused",
                "stale_epoch",
            ),
            facts=("owner_line_told",),
            example={"room": samples.ROOM, "statement": b"", "signature": _KEY},
        ),
        Operation(
            name="link.epochs",
            summary="Read the records of a sealed room's epochs.",
            params=PullEpochs,
            result=PulledEpochs,
            plane="link",
            effect="read",
            errors=("no_such_room", "room_deleted", "stale_epoch"),
            example={"room": samples.ROOM, "agent": "U", "upto": 12, "limit": 10},
        ),
        Operation(
            name="link.sealing_key",
            summary="Tell by which key an attached agent is given the secrets of a sealed room.",
            params=SealingKeyAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "room_deleted",
                "room_closed",
                "statement_refused",
                "sealing_key_refused",
                "throttled",
            ),
            facts=("sealing_key_told",),
            example={"room": samples.ROOM, "statement": b"", "signature": _KEY},
        ),
        Operation(
            name="link.direct_keys",
            summary="Tell the keys by which attached agents are given the secrets of direct rooms opened for them.",
            params=TellDirectKeys,
            result=Noted,
            plane="link",
            effect="write",
            errors=("not_permitted", "statement_refused", "sealing_key_refused", "throttled"),
            facts=("direct_key_told",),
            example={"keys": []},
        ),
        Operation(
            name="link.direct_key_of",
            summary="Ask for the key of an agent for which a direct room is about to be opened.",
            params=AskDirectKey,
            result=DirectKeyOf,
            plane="link",
            effect="read",
            errors=("not_permitted", "no_such_agent"),
            example={"agent": "U", "of": "U"},
        ),
        Operation(
            name="link.role",
            summary="Say what a member is in a room.",
            params=RoleInRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=("no_such_room", "room_deleted", "not_owner", "no_such_agent", "invalid_name", "room_closed"),
            facts=("role_given",),
            example={"room": samples.ROOM, "agent": "U", "role": "reviewer"},
        ),
        Operation(
            name="link.transfer",
            summary="Let a room have another owner, as was signed.",
            params=TransferRoomThere,
            result=Noted,
            plane="link",
            effect="write",
            errors=(
                "no_such_room",
                "not_owner",
                "no_such_agent",
                "room_closed",
                "statement_refused",
                "invalid_param",
                "owner_is_there",
                "too_many_transfers",
                "stale_epoch",
                "not_sealed_in",
                "not_successor",
            ),
            facts=("owner_changed",),
            example={"room": samples.ROOM, "statement": b"", "signature": _KEY},
        ),
        Operation(
            name="link.revoke",
            summary="Let nobody in any more with a key.",
            params=RevokeKeyOfRoom,
            result=Noted,
            plane="link",
            effect="destructive",
            errors=("no_such_room", "room_deleted", "not_owner", "unknown_key"),
            facts=("key_revoked",),
            example={"room": samples.ROOM, "ref": "k_1"},
        ),
        Operation(
            name="link.head",
            summary="Learn where a room of the link's person stands.",
            params=AskHead,
            result=RoomHead,
            plane="link",
            effect="read",
            errors=("no_such_room", "room_deleted", "not_owner"),
            example={"room": samples.ROOM},
            answers=({"public": 40, "line": b"\x00" * 32, "before": {"U": 42}},),
        ),
        Operation(
            name="link.rewind",
            summary="Let a room go on from where it stands, after this home lost a part of it.",
            params=RewindAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            errors=("no_such_room", "room_deleted", "not_owner", "room_closed", "statement_refused"),
            facts=("room_rewound",),
            example={"room": samples.ROOM, "statement": b"", "signature": _KEY},
        ),
        Operation(
            name="link.delete",
            summary="Delete a room of the link's person, with everything in it.",
            params=DeleteAtRoom,
            result=Noted,
            plane="link",
            effect="destructive",
            errors=("no_such_room", "room_deleted", "not_owner"),
            facts=("room_deleted",),
            example={"room": samples.ROOM},
        ),
        Operation(
            name="link.cursors",
            summary="Tell how far agents have read, and how present they are.",
            params=TellCursors,
            result=Noted,
            plane="link",
            effect="write",
            example={"cursors": [{"room": samples.ROOM, "agent": "U", "read": 7, "acknowledged": 6}]},
        ),
        Operation(
            name="link.sighted",
            summary="Tell what agent hosts' own records say of messages that agents were given.",
            params=TellSightsAtRoom,
            result=Noted,
            plane="link",
            effect="write",
            example={
                "sights": [
                    {
                        "room": samples.ROOM,
                        "agent": "U",
                        "id": "m_4",
                        "verdict": "shown",
                        "reason": "reply",
                        "host": "shell",
                    }
                ]
            },
        ),
        Operation(
            name="link.ask",
            summary="Ask for something about the state of a room here.",
            params=AskAtRoom,
            result=AnsweredAtRoom,
            plane="link",
            effect="write",
            errors=("no_such_room", "room_deleted", "invalid_param"),
            facts=(
                *STATE_WRITES,
                "state_deleted",
                "timer_renewed",
                "scope_hidden",
                "action_registered",
                "action_deleted",
                "action_invoked",
                "agent_enabled",
                "module_registered",
                "module_deleted",
                "message_posted",
                "message_withdrawn",
            ),
            example={"room": samples.ROOM, "agent": "U", "operation": "state.get", "params": b""},
            answers=({"answer": b"\x80"},),
        ),
    )
)
