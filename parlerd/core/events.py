"""What was accepted: the facts of a log, in the past tense, with their codec.

A fact has a header, and some facts have a body as well. This module holds headers; bodies are opaque bytes for the
core. Every event has a type (its tag) and an integer `v`, and both are always written. Events record outcomes, so
`apply` evaluates nothing.

Not here: what a fact changes (the facets), and where it is kept (`parlerd.store`). Invariant: stored bytes are never
rewritten. `decode_header` lifts an old `v` to today's by the pure upcasters below, and raises `Refused(newer_log)` for
an unknown type or a newer `v`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, get_args

import msgspec

from parlerd.core.errors import Refused, StoreError
from parlerd.core.exchange import Step
from parlerd.core.expressions import Expression
from parlerd.core.grants import Given
from parlerd.core.model import (
    NO_BLOB,
    AgentId,
    Approver,
    Attention,
    BlobId,
    By,
    CardVisibility,
    Cause,
    History,
    HomeId,
    KeyId,
    MemoryNote,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Proof,
    RequestId,
    RoomAttention,
    RoomId,
    RoomKind,
    RoomLimit,
    RosterEntry,
    TaskOutcome,
    TokenKind,
    Turn,
    Verified,
)
from parlerd.core.templates import Action
from parlerd.core.timers import Effect, Timer


def _version(v: int) -> int:
    """The field `v` of an event class. msgspec leaves out a field that has its default, but not one that has a default
    factory. `v` must never be left out: a later Parler, whose default is another, would take the fact for its own."""
    field: int = msgspec.field(default_factory=lambda: v)
    return field


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    v: int = _version(1)


# -- rooms -------------------------------------------------------------------------------------------------


class RoomOpened(_Event, tag="room_opened", frozen=True, kw_only=True):
    """The first fact of a room. Its body is the signed opening and the room's title (`statements.encode_opened`). At
    the home of a sealed room there is no title. Up to v 2 no room was sealed."""

    v: int = _version(3)
    room: RoomId
    home: HomeId
    """Where the room lives. A log of a room that lives elsewhere is a mirror: what another home told this one."""
    kind: RoomKind
    owner: AgentId
    owner_principal: PrincipalId
    history: History
    approval: bool
    approver: Approver
    name: str = ""
    topic: str = ""
    """Name and topic stand in the body, so that they can be erased. Only facts of version 1, which had no body, have
    them here."""
    sealed: int = 0
    """What the room's messages are encrypted with for its members (`statements.SUITE`); 0 where they are not."""


class MemberJoined(_Event, tag="member_joined", frozen=True, kw_only=True):
    """An agent came in. `handle` is its name in this room; this fact fixes the handle, and no other id ever gets it.
    `role` is what the agent says that it is here; what it then is, `membership.role_on_coming` says. `request` and
    `key` say how it came in, where it came by a request or a key, and `given` where it came by a grant. Where the key
    alone let it in, the body is its signed knock; where a grant did, the signed grant."""

    v: int = _version(3)
    agent: AgentId
    principal: PrincipalId
    handle: str
    host: str
    role: str = ""
    request: RequestId | None = None
    key: KeyId | None = None
    given: Given | None = None
    waits: bool = False
    """Whether the record in force holds another key of the agent than it has, so that it waits for the next record."""


class MemberLeft(_Event, tag="member_left", frozen=True, kw_only=True):
    """An agent is in the room no longer: it left or, where it was `kicked`, was put out. A mirror is told no difference
    between the two."""

    v: int = _version(2)
    agent: AgentId
    kicked: bool = False


class RoleGiven(_Event, tag="role_given", frozen=True, kw_only=True):
    """The room's owner gave a member another role, or took its role away, where `role` is empty. A `locked` role stays
    whatever the member says when it comes in again."""

    agent: AgentId
    role: str = ""
    locked: bool = False


class RoomClosed(_Event, tag="room_closed", frozen=True, kw_only=True):
    """The owner ended the room for all: its keys are revoked, its pending requests closed, and nothing more is
    posted."""


class KeyMinted(_Event, tag="key_minted", frozen=True, kw_only=True):
    """A session key came to be. Its signed terms are the body."""

    v: int = _version(3)
    key: KeyId
    """This home's own name for the key; another home that knows the key has another one."""
    ref: str
    """The key's name in everything that is signed, the same at every home."""
    gated: bool
    expires_at: Millis
    max_uses: int
    preapproved: tuple[AgentId, ...] = ()
    requester: bool = False
    """Whether whoever comes in with the key only asks this queue for work. Up to v 2 no key said so."""


class KeyRevoked(_Event, tag="key_revoked", frozen=True, kw_only=True):
    key: KeyId


class JoinRequested(_Event, tag="join_requested", frozen=True, kw_only=True):
    """An agent knocked. `name`, `host` and `role` are what the agent says of itself. Its signed knock is the body, and
    does not hold the role. An agent that has no key asks by a grant, for which the person decides about each: then the
    signed grant is the body, `given` what it gives, and `key` is empty. In a sealed room the body is a `JoinCard`, and
    a key exchange begins."""

    v: int = _version(3)
    request: RequestId
    key: KeyId
    agent: AgentId
    principal: PrincipalId
    name: str
    host: str
    role: str = ""
    given: Given | None = None


class KeyExchanged(_Event, tag="key_exchanged", frozen=True, kw_only=True):
    """A step of the key exchange by which somebody comes into a sealed room (`core.exchange`), and what was said."""

    request: RequestId
    agent: AgentId
    """Who asks to come in."""
    step: Step
    text: bytes = b""


class KnockEnded(_Event, tag="knock_ended", frozen=True, kw_only=True):
    """A request is over that nobody decided about, and its agent may knock again."""

    request: RequestId
    agent: AgentId
    """Who asked to come in."""
    how: Literal["lapsed", "withdrawn"]
    """`lapsed` where its key exchange waited in vain for seven days or made place for another's, and `withdrawn` where
    the agent took it back."""


class JoinApproved(_Event, tag="join_approved", frozen=True, kw_only=True):
    """A request was granted. The signed decision is the body. In a sealed room the fact that the agent came in bears
    its knock."""

    request: RequestId
    agent: AgentId
    proof: Proof


class JoinDenied(_Event, tag="join_denied", frozen=True, kw_only=True):
    """A request was refused. The signed decision is the body."""

    request: RequestId
    agent: AgentId
    proof: Proof


class SealingKeyTold(_Event, tag="sealing_key_told", frozen=True, kw_only=True):
    """An agent that is in a sealed room, or knocks there, said to which key the room's secrets are wrapped for it. What
    the agent signed is the body (`statements.SealingKey`)."""

    agent: AgentId
    key: bytes
    """An X25519 public key."""
    counter: int


class EpochTurned(_Event, tag="epoch_turned", frozen=True, kw_only=True):
    """An epoch of a sealed room began: who follows in the log is read by those of the roster alone. The record that the
    owner's person signed is in the body, with its wraps (`epoch_record.encode_turned`)."""

    v: int = _version(3)
    number: int
    record: bytes
    """The SHA-256 of the record."""
    added: tuple[tuple[AgentId, RosterEntry], ...] = ()
    """Who is in the roster from now on that was not, or has another key, or does more or less than ask for work. Up to
    v 2 nobody only asked."""
    removed: tuple[AgentId, ...] = ()
    anew: bool = False
    """In a mirror: `added` is the whole roster, because this log does not hold the record before."""
    successor: PrincipalId = PrincipalId("")
    """Who may go on with the records once the owner's person is gone; empty where the record names nobody."""
    made_at: Millis = Millis(0)
    """When the record was made, as it says itself; 0 in facts of before."""


class OwnerLineTold(_Event, tag="owner_line_told", frozen=True, kw_only=True):
    """The owner's home said that it is there, and how it has this sealed room. The signed statement is the body."""

    record: int
    """The number of the record that is in force there."""
    public: int
    """The number of its newest public message."""
    made_at: Millis
    """When it was signed, by the clock of the owner's machine."""


class MessagePosted(_Event, tag="message_posted", frozen=True, kw_only=True):
    """A message. Its words are in the body; everything that a rule needs is in these fields, most of which repeat a
    field of the envelope (`envelope.Envelope` explains those). At v 1 every message had an envelope of version 1; up to
    v 2 no room had a memory, and a hand-off was a message that nobody accepted."""

    v: int = _version(3)
    id: MessageId
    kind: str
    to: tuple[AgentId, ...] = ()
    role: str = ""
    visibility: tuple[AgentId, ...] | None = None
    reply_to: MessageId | None = None
    chain: str
    hops: int = 0
    counter: int
    envelope: bytes = b""
    """The SHA-256 of the signed envelope, which the engine fills in once the message is signed. The envelope holds a
    random nonce, so the hash gives nothing away once the body is erased."""
    verified: Verified = "unsigned"
    """Whose signature was found, which the engine fills in too."""
    opening: bool = False
    """Whether the message is the room's recap."""
    envelope_v: int = 2
    """The version of the envelope. `envelope.UNSIGNED` is the one that nobody signs: such a message bears no signature,
    and stays `unsigned`."""
    memory: MemoryNote | None = None
    """What the message does in the room's memory; None for one that does nothing there."""
    turn: Turn = ""
    """What the words do with a turn (`envelope.turn_of`)."""
    ttl_ms: Millis = Millis(0)
    """For an offer: how long it stands. For a task: how long it may be claimed that nobody claimed; 0 for ever."""
    blob: BlobId = NO_BLOB
    """The file or the code that the message brings; empty for one that brings none."""


class MessageGated(_Event, tag="message_gated", frozen=True, kw_only=True):
    """A message that nobody is shown yet, because it waits for `enabled` or for its timer, or one whose words go with
    its timer. `visibility` names those who may be shown the message; None stands for everyone. The body is what the
    author signed, with the signature (`gated.encode_signed`)."""

    id: MessageId
    kind: str
    visibility: tuple[AgentId, ...] | None = None
    enabled: Expression | None = None
    timer: Timer | None = None
    size: int
    """Bytes of the body."""


class MessageReleased(_Event, tag="message_released", frozen=True, kw_only=True):
    """The gated message `gate` is shown to `readers`, as the message `id` that follows this fact; None for everyone who
    may be shown it, now and later."""

    gate: MessageId
    id: MessageId
    readers: tuple[AgentId, ...] | None = None


class MessageWithdrawn(_Event, tag="message_withdrawn", frozen=True, kw_only=True):
    """The gated message `id` is shown to nobody else any more."""

    id: MessageId


class TaskOffered(_Event, tag="task_offered", frozen=True, kw_only=True):
    """From now on these workers alone may claim the task; None for all for whom it is. Whoever has the task keeps
    it."""

    task: MessageId
    among: tuple[AgentId, ...] | None = None


class TaskClaimed(_Event, tag="task_claimed", frozen=True, kw_only=True):
    """A worker has this task, the message `task`, until `until`. `lease_ms` is for how long a renewal holds."""

    task: MessageId
    worker: AgentId
    until: Millis
    lease_ms: Millis
    fence: Position = Position(0)
    """In a mirror: the number of the claim, which is the position of this fact in the log of the room's home. That log
    itself says 0."""


class TaskReleased(_Event, tag="task_released", frozen=True, kw_only=True):
    """The worker gave the task back, which it had by the claim with this fence."""

    task: MessageId
    fence: Position


class TaskCompleted(_Event, tag="task_completed", frozen=True, kw_only=True):
    """The task is over. `fence` is that of the claim by which `worker` had it; 0 where its author took it back, by a
    word or by the time that the author had given the task."""

    task: MessageId
    worker: AgentId
    outcome: TaskOutcome
    fence: Position


class TaskLapsed(_Event, tag="task_lapsed", frozen=True, kw_only=True):
    """The lease ended by which `worker` had the task."""

    task: MessageId
    worker: AgentId
    fence: Position


class StateWritten(_Event, tag="state_written", frozen=True, kw_only=True):
    """A key of the room's state has this value from now on. A short value stands here as its JSON text; the text of a
    longer one is in the body (`state.encode_text`), and then `text` is empty. `size` is how many bytes the text has. A
    view has an expression in place of a value."""

    scope: str
    key: str
    version: int
    text: bytes = b""
    size: int = 0
    expr: Expression | None = None
    enabled: Expression | None = None
    """What has to be true for the entry to be there."""
    timer: Timer | None = None
    keeps: bool = False
    """Whether `enabled` and `timer` stay as they were; both are empty here then."""


class StateDeleted(_Event, tag="state_deleted", frozen=True, kw_only=True):
    """A key of the room's state has no value any more. `version` is the one that it had last."""

    scope: str
    key: str
    version: int


class TimerRenewed(_Event, tag="timer_renewed", frozen=True, kw_only=True):
    """The timer of an entry runs out at `due` instead."""

    scope: str
    key: str
    due: Millis


class TimersTicked(_Event, tag="timers_ticked", frozen=True, kw_only=True):
    """Keys were written that timers count the writes of. `left` says how many ticks each of these timers has left, by
    the scope and the key of the entry that has it."""

    left: tuple[tuple[str, str, int], ...]


class TimerFired(_Event, tag="timer_fired", frozen=True, kw_only=True):
    """The timer of an entry ran out: with the effect `delete` the entry is gone, and with `enable` it is there from now
    on. `version` is the entry's. `late_ms` is how long after its moment that happened."""

    scope: str
    key: str
    effect: Effect
    version: int
    late_ms: Millis = Millis(0)


class ActionRegistered(_Event, tag="action_registered", frozen=True, kw_only=True):
    """The action `id` is this one from now on. With `resets` it may be invoked at once, whenever that was done last."""

    id: str
    version: int
    action: Action
    enabled: Expression | None = None
    """What has to be true for the action to be there."""
    timer: Timer | None = None
    resets: bool = False


class ActionDeleted(_Event, tag="action_deleted", frozen=True, kw_only=True):
    """There is no action `id` any more. `version` is the one that it had last."""

    id: str
    version: int


class ActionInvoked(_Event, tag="action_invoked", frozen=True, kw_only=True):
    """An action was invoked. The `writes` facts that follow are its writes. What it was given and what it gave stands
    in `text` as JSON (`actions.Invocation`), or in the body where that is long (`state.encode_text`), with nothing of a
    secret parameter."""

    id: str
    version: int
    owner: str
    """In which scope it was registered."""
    writes: int
    text: bytes = b""
    cooldown: Timer | None = None
    """When it may be invoked again; None for at once."""
    life: Timer | None = None
    """The timer that the action has from now on; None where it keeps the one that it has."""


class AgentEnabled(_Event, tag="agent_enabled", frozen=True, kw_only=True):
    """An agent said what has to be true for it to be there. Without `enabled` it always is, and `version` is that of
    what it said last, or the next one."""

    handle: str
    version: int
    enabled: Expression | None = None


class ModuleRegistered(_Event, tag="module_registered", frozen=True, kw_only=True):
    """The module `name` has this role from now on, and is there while `enabled` is true. `owner` is the handle of its
    registrar."""

    name: str
    version: int
    owner: str
    role: str
    enabled: Expression | None = None


class ModuleDeleted(_Event, tag="module_deleted", frozen=True, kw_only=True):
    """There is no module `name` any more. `version` is the one that it had last."""

    name: str
    version: int


class ScopeHidden(_Event, tag="scope_hidden", frozen=True, kw_only=True):
    """From now on only its own agent reads a scope of the state, or everybody again, where `hidden` is false. An empty
    `scope` stands for every agent's scope of which no such fact says something else."""

    scope: str
    hidden: bool


class BodiesErased(_Event, tag="bodies_erased", frozen=True, kw_only=True):
    """The words of old messages were erased because there were too many. `spans` are the first and the last position of
    each piece of the log in which the words of all messages are gone from now on, however they went; `messages` and
    `bytes` are how many went with this fact."""

    spans: tuple[tuple[Position, Position], ...]
    messages: int
    bytes: int


class MirrorPlaced(_Event, tag="mirror_placed", frozen=True, kw_only=True):
    """Only in a mirror: what follows in this log comes after the room's public message number `public`, and what came
    there before and is not in this log stays out of it. A mirror begins with such a fact."""

    public: int
    line: bytes
    """The room's public line at that message."""
    before: tuple[tuple[AgentId, int], ...] = ()
    """Readers that this log is kept for, each with the number of the newest message that it may see there. Each
    reader's own numbers go on after its number."""


class RoomRewound(_Event, tag="room_rewound", frozen=True, kw_only=True):
    """The room's home lost what came after the public message number `public`, and the room goes on from there, in a
    new epoch. The rewind that the owner's person signed is the body."""

    epoch: int
    public: int
    line: bytes
    """The public line at that message."""
    holds: tuple[int, ...] = ()
    """The epochs of the earlier rewinds that hold on. One does not whose home went back to before it."""
    upto: Position = Position(0)
    """In a mirror: the newest fact of this log that the home still has. What stands between that fact and this one is
    lost there. A home's own log holds nothing that was lost, and says 0."""
    numbers: tuple[tuple[AgentId, int], ...] = ()
    """In a mirror: readers of this home, each with the number of the newest message that the room's home still has for
    it; and an empty id with how many public messages that home still has."""
    threads: tuple[tuple[AgentId, str, int, bytes], ...] = ()
    """In a mirror: the threads that end elsewhere now than before: their author, their audience (`messages`), and the
    counter and the hash of the newest envelope; 0 and empty where nobody can tell."""


class OwnerChanged(_Event, tag="owner_changed", frozen=True, kw_only=True):
    """The room has another owner. The signed transfer is the body."""

    v: int = _version(2)
    owner: AgentId
    principal: PrincipalId
    taken: bool = False
    """Whether the new owner's person took the room over, because the person before was away for long."""
    record: int = 0
    """In a sealed room the number of the record after which those of the new owner's person begin."""


class RoomTitled(_Event, tag="room_titled", frozen=True, kw_only=True):
    """Only in a mirror: the room's home told the title, which it told nobody who only knocked. The body is that of
    `RoomOpened` with the title in it."""


class HomeContradicted(_Event, tag="home_contradicted", frozen=True, kw_only=True):
    """Only in a mirror: the room's home said something that contradicts what it or a member said before. Nothing more
    is posted from here."""

    v: int = _version(2)
    what: str
    """What does not agree: a word that the one who compared chose, such as `line` or `thread`; `log` where the
    home keeps another log than before, and has this room no more; `behind` where it holds less than it told."""
    number: int = 0
    """The public message that it was found at; 0 where it belongs to none."""
    agent: AgentId | None = None
    """Whose thread, handle or membership does not agree, where it is somebody's."""
    before: tuple[tuple[AgentId, int], ...] = ()
    """With `behind`: readers of this home, each with the number of the newest message that the room's home has for
    it."""


def is_remembered(event: Event) -> bool:
    """Whether the words of this fact are something that its room remembers, and so may be forgotten."""
    return isinstance(event, MessagePosted) and event.memory is not None and not event.memory.forgets


def addressees(event: MessagePosted) -> tuple[str, ...]:
    """Whose attention a message asks for, each name once: an id, `@` and the name in `role`, or `*` for a hand-off that
    names nobody, so that anyone may take it. `names_of` gives the names under which one reader is found."""
    if event.role:
        return (*sorted(set(event.to)), f"@{event.role}")
    return tuple(sorted(set(event.to))) or (("*",) if event.kind == "handoff" else ())


def brought(blob: BlobId) -> str:
    """The name under which the messages are found that bring a blob. No agent, role or handle has such a name."""
    return f"={blob}"


def found_under(event: MessagePosted) -> tuple[str, ...]:
    """Every name under which a filter finds a message: its addressees, and what it brings."""
    return (*addressees(event), brought(event.blob)) if event.blob else addressees(event)


def names_of(reader: AgentId, *called: str) -> tuple[str, ...]:
    """The names among `addressees` that mean this reader; `called` are its handle and its role in the room."""
    return (reader, "*", *sorted({f"@{name}" for name in called if name}))


# -- the home room -----------------------------------------------------------------------------------------


class AgentCreated(_Event, tag="agent_created", frozen=True, kw_only=True):
    """This home has a key for a new agent. (host, workspace, slot) is the place by which a window finds the agent."""

    agent: AgentId
    principal: PrincipalId
    name: str
    host: str = ""
    workspace: str = ""
    slot: int = 0


class ConversationBound(_Event, tag="conversation_bound", frozen=True, kw_only=True):
    """Whoever resumes this conversation of a host is this agent. A conversation that is open in two windows leads to
    two agents, which `place` tells apart, from 0."""

    agent: AgentId
    host: str
    conversation: str
    place: int = 0


class DelegationIssued(_Event, tag="delegation_issued", frozen=True, kw_only=True):
    """The person's key let this agent act for the person until `expires_at`; the signed text is the body."""

    agent: AgentId
    principal: PrincipalId
    expires_at: Millis


class CardPublished(_Event, tag="card_published", frozen=True, kw_only=True):
    """An agent has this card from now on; the signed card is the body."""

    agent: AgentId
    principal: PrincipalId
    visibility: CardVisibility
    revision: int


class DirectKeyTold(_Event, tag="direct_key_told", frozen=True, kw_only=True):
    """By this key an agent is given the secrets of direct rooms that others open for it here. The body holds what the
    agent signed, and what shows for whom it acts (`direct_keys.encode_published`)."""

    agent: AgentId
    principal: PrincipalId
    counter: int


class AttentionSet(_Event, tag="attention_set", frozen=True, kw_only=True):
    """So much begins a turn of this agent: `here` in the room, or without one `mode` in general."""

    agent: AgentId
    room: RoomId | None = None
    mode: Attention = "open"
    here: RoomAttention = "inherit"


class RoomNamed(_Event, tag="room_named", frozen=True, kw_only=True):
    """The owner has a room of this name. `home` is where the room lives; empty for this very home. Where it was opened
    with a `token`, the room is one of that token's from now on, and of those that the token was made of."""

    v: int = _version(3)
    owner: AgentId
    room: RoomId
    name: str
    home: HomeId = HomeId("")
    token: str = ""


class SessionActivated(_Event, tag="session_activated", frozen=True, kw_only=True):
    """The room that an agent's calls mean when they name none; `None` when the agent left that room."""

    agent: AgentId
    room: RoomId | None


class AgentsPaired(_Event, tag="agents_paired", frozen=True, kw_only=True):
    """Two agents have this room for the two of them; the lesser id stands first."""

    agents: tuple[AgentId, AgentId]
    room: RoomId


class DirectAsked(_Event, tag="direct_asked", frozen=True, kw_only=True):
    """`asker` wrote to an agent of this home that wants to be asked first. `name` and `host` are what the asking agent
    says of itself."""

    request: RequestId
    agent: AgentId
    asker: AgentId
    principal: PrincipalId
    name: str
    host: str = ""


class DirectDecided(_Event, tag="direct_decided", frozen=True, kw_only=True):
    """The person of `agent` lets `asker` write to it, or does not."""

    agent: AgentId
    asker: AgentId
    admit: bool
    proof: Proof


class AgentWoken(_Event, tag="agent_woken", frozen=True, kw_only=True):
    """A turn of this agent began without a person. `begun` is by the wall clock, which the time of a fact never follows
    back."""

    agent: AgentId
    begun: Millis
    causes: tuple[Cause, ...] = ()
    """The messages behind it, one for each author and conversation; empty where somebody knocked."""


class WakesContinued(_Event, tag="wakes_continued", frozen=True, kw_only=True):
    """The person lets their agents go on in a room: in one conversation, or without `chain` in all of them, and then
    the hour begins anew as well."""

    room: RoomId
    chain: str = ""


class WakesBounded(_Event, tag="wakes_bounded", frozen=True, kw_only=True):
    """The person said how many turns two agents may begin by their messages in each conversation of a room. Without
    `most` that is the default again."""

    room: RoomId
    most: int | None = None


class RoomLimited(_Event, tag="room_limited", frozen=True, kw_only=True):
    """The person said how much is kept of the words of a room; a limit without a number leaves that to the home."""

    room: RoomId
    limit: RoomLimit


class RoomDeleted(_Event, tag="room_deleted", frozen=True, kw_only=True):
    """A room is gone from this home, with everything in it: its name is free, and no agent is in it."""

    room: RoomId


class PersonEnrolled(_Event, tag="person_enrolled", frozen=True, kw_only=True):
    """A person may open links to this home. `name` is what their machine calls itself."""

    principal: PrincipalId
    name: str


class PersonKicked(_Event, tag="person_kicked", frozen=True, kw_only=True):
    """Whoever runs this home sent the person away: their daemon opens no links any more."""

    principal: PrincipalId


class TokenMinted(_Event, tag="token_minted", frozen=True, kw_only=True):
    """From now on whoever shows the text with this digest (SHA-256) acts as this agent in this room, for what `access`
    names, until `expires_at` by the wall clock. With a `parent` it was made of that token, and ends with it. What the
    other kinds have beside that says `tokens.Token`. `join` is the join that the token came of."""

    v: int = _version(3)
    token: str
    digest: bytes
    agent: AgentId
    room: RoomId
    access: tuple[str, ...]
    expires_at: Millis
    label: str = ""
    parent: str = ""
    kind: TokenKind = "as"
    uses: int = 0
    admits: bool = False
    rooms: tuple[RoomId, ...] = ()
    join: str = ""
    contract: str = ""
    """The version of what is promised over HTTP on the day of minting; empty in facts up to v 2."""
    opens: int = 0
    key: KeyId = KeyId("")
    grant: bytes = b""
    grant_signature: bytes = b""


class TokenRevoked(_Event, tag="token_revoked", frozen=True, kw_only=True):
    """The token holds no more, and no token that was made of it."""

    token: str


class WatchCodeMinted(_Event, tag="watch_code_minted", frozen=True, kw_only=True):
    """Whoever shows the text with this digest (SHA-256) by `use_by` opens pages that show a room, or with no room the
    home of the person, until `expires_at`, by the wall clock: as `agent` sees it, or with `as_person` as any agent of
    that one's person does."""

    code: str
    digest: bytes
    agent: AgentId
    as_person: bool
    room: RoomId
    use_by: Millis
    expires_at: Millis


class WatchCodeUsed(_Event, tag="watch_code_used", frozen=True, kw_only=True):
    """Pages were opened with the code. It opens no others."""

    code: str


class WatchCodeRevoked(_Event, tag="watch_code_revoked", frozen=True, kw_only=True):
    """The code opens nothing any more, and what was opened with it is closed."""

    code: str


class JoinBegun(_Event, tag="join_begun", frozen=True, kw_only=True):
    """A new agent asks to come into a room with a token, and takes one of its uses. `request` is the key by which
    the request is known when it is repeated, and `asked` the digest of what was asked. `key` is the key of the room
    with which the agent knocks, where that is not the one behind the token."""

    join: str
    token: str
    agent: AgentId
    room: RoomId
    name: str
    role: str = ""
    request: str
    asked: bytes
    key: KeyId = KeyId("")


class JoinEnded(_Event, tag="join_ended", frozen=True, kw_only=True):
    """A join came to nothing, so that the token has its use back: the person denied it or, where it is not `denied`,
    the room refused it."""

    join: str
    denied: bool = False


RoomEvent = (
    RoomOpened
    | MemberJoined
    | MemberLeft
    | RoleGiven
    | RoomClosed
    | KeyMinted
    | KeyRevoked
    | JoinRequested
    | KeyExchanged
    | KnockEnded
    | JoinApproved
    | JoinDenied
    | SealingKeyTold
    | EpochTurned
    | OwnerLineTold
    | MessagePosted
    | MessageGated
    | MessageReleased
    | MessageWithdrawn
    | TaskOffered
    | TaskClaimed
    | TaskReleased
    | TaskCompleted
    | TaskLapsed
    | StateWritten
    | StateDeleted
    | TimerRenewed
    | TimersTicked
    | TimerFired
    | ActionRegistered
    | ActionDeleted
    | ActionInvoked
    | AgentEnabled
    | ModuleRegistered
    | ModuleDeleted
    | ScopeHidden
    | BodiesErased
    | MirrorPlaced
    | RoomRewound
    | OwnerChanged
    | RoomTitled
    | HomeContradicted
)
HomeEvent = (
    AgentCreated
    | ConversationBound
    | DelegationIssued
    | CardPublished
    | DirectKeyTold
    | AttentionSet
    | RoomNamed
    | SessionActivated
    | AgentsPaired
    | DirectAsked
    | DirectDecided
    | AgentWoken
    | WakesContinued
    | WakesBounded
    | RoomLimited
    | RoomDeleted
    | PersonEnrolled
    | PersonKicked
    | TokenMinted
    | TokenRevoked
    | WatchCodeMinted
    | WatchCodeUsed
    | WatchCodeRevoked
    | JoinBegun
    | JoinEnded
)
Event = RoomEvent | HomeEvent


def _current(cls: type[_Event]) -> int:
    factory = next(field.default_factory for field in msgspec.structs.fields(cls) if field.name == "v")
    v: int = factory()
    return v


CURRENT_V: Final[dict[str, int]] = {
    str(cls.__struct_config__.tag): _current(cls) for cls in (*get_args(RoomEvent), *get_args(HomeEvent))
}
"""The version that each event is written in today. To raise a version, give the class `v: int = _version(n)`, and put
an upcaster into `UPCASTERS`."""
KINDS: Final = 1
"""Which kinds of facts this program knows, as one number. Of several relays over one database an older one may not know
an event that is new, or newer than its own. So whoever adds such an event raises this, and writes the first of its
facts only where `relay.holding.Holding.begin` says that every relay knows them."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One accepted fact without its body."""

    position: Position
    at: Millis
    """When the fact was accepted, by the room's time: the wall clock, but never earlier than the fact before."""
    by: By
    authority: str
    """By what right the actor did it."""
    event: Event
    operation: str = ""
    """The name of the operation that was asked for."""
    key: str | None = None
    """The idempotency key of the request, in the first fact that it led to."""
    input: bytes | None = None
    """The digest of the request's decoded parameters, beside `key`."""
    body: bytes | None = None
    """The SHA-256 of the body's bytes; None for a fact without a body."""


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


def _opened_at_home(fields: dict[str, Any]) -> dict[str, Any]:
    """Every room of the first version lives where its owner's person does."""
    return {**fields, "home": fields["owner_principal"]}


def _with_ref(fields: dict[str, Any]) -> dict[str, Any]:
    """A key of the first version has no other name than its id. The first characters of it tell it from the few other
    keys of its room."""
    return {**fields, "ref": f"k_{fields['key'][:REF_CHARACTERS]}"}


def _in_version_1(fields: dict[str, Any]) -> dict[str, Any]:
    """Every envelope of that time was of version 1."""
    return {**fields, "envelope_v": 1}


def _same(fields: dict[str, Any]) -> dict[str, Any]:
    """The new fields have defaults that say what the old version meant."""
    return fields


REF_CHARACTERS: Final = 24
"""Characters of an old key's id that became its `ref`."""
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {
    ("room_opened", 1): _opened_at_home,
    ("room_opened", 2): _same,
    ("key_minted", 1): _with_ref,
    ("key_minted", 2): _same,
    ("join_requested", 1): _same,
    ("join_requested", 2): _same,
    ("member_joined", 1): _same,
    ("member_joined", 2): _same,
    ("member_left", 1): _same,
    ("epoch_turned", 1): _same,
    ("epoch_turned", 2): _same,
    ("owner_changed", 1): _same,
    ("room_named", 1): _same,
    ("room_named", 2): _same,
    ("message_posted", 1): _in_version_1,
    ("message_posted", 2): _same,
    ("home_contradicted", 1): _same,
    ("token_minted", 1): _same,
    ("token_minted", 2): _same,
}
"""From (type, old v) to a pure function that makes the fields of v + 1 out of those of v, except `v` itself."""


class _Tagged(msgspec.Struct):
    type: str
    v: int = 1


class _Outline(msgspec.Struct):
    """What every header of any version has."""

    event: _Tagged


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Header)
_OUTLINE = msgspec.msgpack.Decoder(_Outline)
_LOOSE = msgspec.msgpack.Decoder(dict[str, Any])


def encode_header(header: Header) -> bytes:
    """The bytes that are stored, digested and chained."""
    return _ENCODER.encode(header)


def decode_header(data: bytes) -> Header:
    """The header in today's shape.

    Raises `Refused(newer_log)` for a type or `v` this version does not know, and `StoreError(store_corrupt)` for bytes
    that are no header of any version.
    """
    try:
        try:
            header = _DECODER.decode(data)
        except msgspec.ValidationError:
            return _decode_old(data)
        if header.event.v == CURRENT_V[str(header.event.__struct_config__.tag)]:
            return header
        return _decode_old(data)
    # msgspec does not wrap the errors for text that is not UTF-8 and for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError("store_corrupt", "A stored fact is not a fact.") from error


def _decode_old(data: bytes) -> Header:
    outline = _OUTLINE.decode(data).event
    current = CURRENT_V.get(outline.type)
    if current is None or not 1 <= outline.v <= current:
        raise Refused("newer_log", type=outline.type, v=outline.v)
    loose = _LOOSE.decode(data)
    event: dict[str, Any] = loose["event"]
    for v in range(outline.v, current):
        event = {**UPCASTERS[outline.type, v](event), "v": v + 1}
    try:
        return msgspec.convert({**loose, "event": event}, Header)
    except msgspec.ValidationError as error:
        raise Refused("newer_log", f"A stored fact of type {outline.type} cannot be read: {error}") from error
