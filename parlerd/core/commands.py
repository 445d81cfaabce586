"""What can be asked of a room or of the home room. The engine makes a command from the parameters of an operation, and
has looked up by then whatever of the past the decision needs.

Not here: who asks, which comes as a `By`, and what follows, which the facets decide. Below: the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from parlerd.core.envelope import Envelope, GuardPart, MemoryPart
from parlerd.core.epoch_record import EpochRecord
from parlerd.core.events import RoomEvent
from parlerd.core.exchange import Step
from parlerd.core.expressions import Expression
from parlerd.core.grants import Given
from parlerd.core.model import (
    NO_BLOB,
    AgentId,
    Attention,
    BlobId,
    Cause,
    ErasedWords,
    HomeId,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Prior,
    Proof,
    ReplyTarget,
    RequestId,
    RoomAttention,
    RoomId,
    RoomLimit,
    StateAct,
    TokenKind,
    Turn,
    WordsOf,
)
from parlerd.core.seen import NOBODY_SEEN, Presences
from parlerd.core.statements import (
    AgentCard,
    DecisionStatement,
    Grant,
    JoinCard,
    KeyTerms,
    KnockStatement,
    Opening,
    OwnerLine,
    Rewind,
    SealingKey,
    Title,
    Transfer,
)
from parlerd.core.templates import Action
from parlerd.core.timers import TimerSpec


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What every command says of the request behind it."""

    operation: str = ""
    """The name of the operation that was asked for."""
    idempotency_key: str | None = None
    input: bytes | None = None
    """A digest of the request's parameters, by which a repeat is told from another request with the same key."""
    prior: Prior | None = None
    """An earlier use of the idempotency key. The engine looks it up when the command's batch begins, and so finds what
    the batch before stored as well."""


class NewEpoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch that is to begin, as the owner's person signed its record. Whoever makes one has checked that
    signature, and those of the agents in the record."""

    record: EpochRecord
    digest: bytes
    """The SHA-256 of the record's bytes."""
    wraps: bytes
    """The encoded wraps that belong to it."""


class Coordination(Command, frozen=True, kw_only=True):
    """What an agent does in a room that may depend on expressions: whether the agent is there does."""

    presence: Presences = NOBODY_SEEN
    """How present the agents are, for the expressions."""


class PostMessage(Coordination, frozen=True, kw_only=True):
    """A message, in the words of whoever asks for it, or finished by an author elsewhere."""

    kind: str
    id: MessageId | None = None
    """The message's id, where it is chosen before the decision: for an author who named no idempotency key, whose key
    then follows from the id (`drawn_key`), and for an envelope that was finished elsewhere."""
    fresh: bool = False
    """Whether the idempotency key was drawn just now, so that nobody can have used it before."""
    to: tuple[str, ...] = ()
    """Ids or handles of those whose attention the message asks for."""
    taker: str = ""
    """For whom a hand-off is: an id, a handle or a role."""
    turn: Turn = ""
    """What the words do with a turn, and how long an offer stands or a task is open (`envelope.turn_of`)."""
    ttl_ms: Millis = Millis(0)
    due: Millis = Millis(0)
    """Until which moment a task is open (`envelope.due_of`)."""
    is_past: bool = False
    """Whether that moment was past when the author asked: then the message can only be one that was posted before."""
    visibility: tuple[str, ...] | None = None
    """Ids or handles of the only readers; None when the author names no readers."""
    said: bool = False
    """Whether the message was asked for as something that is said of a task, so that it is refused, or kept without
    effect, where nothing follows from it."""
    fence: Position = Position(0)
    """For `said`: the claim by which the author holds the task; 0 where the author does not say."""
    reply_to: MessageId | None = None
    reply: ReplyTarget | None = None
    """What the engine found of the message that is replied to; None when there is no such message."""
    blob: BlobId = NO_BLOB
    """What the message brings (`envelope.blob_of`)."""
    memory: MemoryPart | None = None
    """What the message does in the room's memory. A message that forgets what has no key replies to it."""
    guard: GuardPart | None = None
    """Under which condition the home of a sealed room takes the message in (`envelope.guard_of`)."""
    erased: tuple[ErasedWords, ...] = ()
    """What the engine found of the messages that the guard names, as far as they are of this room."""
    envelope: Envelope | None = None
    """What an author elsewhere signed. The other fields then repeat the envelope, and the room refuses it if it says
    anything but what the room itself would have decided."""
    is_id_taken: bool = False
    """Whether another message has this `id`. Only an author elsewhere can name an id that is in use."""
    line: bytes | None = None
    """For `envelope`: the room's public line at the number of messages that its author says it was shown, as the engine
    found it; None when the room has no such number."""


class GateMessage(Coordination, frozen=True, kw_only=True):
    """A message that its readers are shown under a condition or after a timer, or whose words go with one. Its author
    signed `envelope`, and the room refuses it if it says anything but what the room itself would have decided."""

    envelope: Envelope
    enabled: Expression | None
    """What has to be true for a reader, as the envelope's text says."""
    timer: TimerSpec | None
    """The timer that the envelope names."""
    signed: bytes
    """The bytes of the envelope with its author's signature (`gated.encode_signed`)."""
    reply: ReplyTarget | None = None
    """What the engine found of the message that is replied to."""
    is_id_taken: bool = False
    """Whether another message has this id."""


class WithdrawMessage(Command, frozen=True, kw_only=True):
    """Its author, or the room's owner, takes a gated message back: nobody else is shown it."""

    id: MessageId


class OpenRoom(Command, frozen=True, kw_only=True):
    """The first command of a room. What is settled with it is what its author signs, or has signed elsewhere."""

    room: RoomId
    opening: Opening
    title: Title | None
    """None for a sealed room, whose home is told no title."""
    epoch: NewEpoch | None = None
    """The first epoch of a sealed room, which holds its owner alone or, in a direct room, also the agent that the terms
    name."""
    peer: str = ""
    """What the owner of a direct room calls the agent that the terms name."""
    mint: KeyId
    """The id of the room's first session key."""
    terms: KeyTerms | None
    """What this key is good for; None for a private room, which has no key, and for one that an agent without a key
    opens."""
    grant: Grant | None = None
    gives: Given | None = None
    """The grant within which an agent without a key opens the room, and what it gives to that agent."""
    recap: bool = False
    """Whether the opening posts a message, the recap, in the same batch."""
    envelope: Envelope | None = None
    """The recap as an owner elsewhere signed it, and below whether another message has its id."""
    is_id_taken: bool = False


class Knock(Command, frozen=True, kw_only=True):
    """An agent asks to come in with a session key. A repeat by the same agent asks for the answer and leaves no fact.

    `wall` is the wall clock's time, by which keys expire. The room's own time may be ahead of it, when the clock was
    wrong before. With 0, keys expire by the room's time.
    """

    key_id: KeyId
    name: str
    host: str
    wall: Millis = Millis(0)
    role: str = ""
    """The role that the agent comes in with, at once or once somebody lets it in."""
    statement: KnockStatement | None = None
    """What an agent elsewhere signed. The room refuses a statement that says anything but what the room itself would
    have the agent sign."""
    sealing_key: SealingKey | None = None
    """By which key the agent is given the secrets of a sealed room, as it signed."""
    card: JoinCard | None = None
    """In a sealed room, in the place of `statement`: what an agent elsewhere signed. Its knock comes later, sealed."""
    share: bytes = b""
    """For `card`: the agent's share of the key exchange."""
    away: frozenset[AgentId] = frozenset()
    """In a sealed room: those who knock and are not at the room's home now. They make place first."""
    epoch: NewEpoch | None = None
    """With the `statement` of an agent of a sealed queue's person: the record by which it reads."""


class WithdrawKnock(Command, frozen=True, kw_only=True):
    """The agent that made the request `request` takes it back. Where nobody decides about it any more, it leaves no
    fact."""

    request: RequestId


class ExchangeKey(Command, frozen=True, kw_only=True):
    """A step of a key exchange in a sealed room (`core.exchange`): by the agent that asks to come in, or by the owner's
    person, who then is `principal`. A step that was taken before leaves no fact."""

    request: RequestId
    step: Step
    text: bytes = b""
    principal: PrincipalId | None = None


class DecideRequest(Command, frozen=True, kw_only=True):
    """The person admits or refuses whoever made the request `request`. The request that a name means was found before
    (`approvals.find_request`).

    `principal` is the person who decides; `proof` says how sure it is that this person decided.
    """

    request: RequestId
    admit: bool
    proof: Proof
    principal: PrincipalId
    statement: DecisionStatement | None = None
    """What was signed elsewhere; the room refuses it as it refuses a knock's. It names the handle that the newcomer
    gets, so one that was signed while another agent took that handle is refused, and signed again."""
    epoch: NewEpoch | None = None
    """The epoch of a sealed room that begins with the decision."""
    digest: bytes = b""
    """For `epoch`: the SHA-256 of the signed decision, which the record names."""
    by_key: bool = False
    """In a sealed room: whether the key alone lets the agent in, which the person's home found to have it."""
    knock: KnockStatement | None = None
    """In a sealed room: the knock of whoever is admitted, which the agent sealed for the owner's home."""
    granted: bytes = b""
    """In a sealed room: what the owner's home says to the agent alone, sealed."""


class MintKey(Command, frozen=True, kw_only=True):
    """The owner, or the owner's person (`principal`), makes one key more that leads to the room. The answer is
    `minted`, also where the room has this very key already."""

    mint: KeyId
    terms: KeyTerms
    """What the key is good for, as the owner's person signs it."""
    principal: PrincipalId | None = None


class AdmitGranted(Command, frozen=True, kw_only=True):
    """The owner's person (`principal`) lets an agent in that has no key, by a grant. The answer is `joined`, or
    `member` where this agent is in already; of a grant that needs their decision too it is `pending`, or `denied`."""

    agent: AgentId
    name: str
    grant: Grant
    gives: Given
    """What the grant gives to this agent."""
    principal: PrincipalId
    role: str = ""
    """What the agent says that it is in the room."""


class RevokeKey(Command, frozen=True, kw_only=True):
    """The owner ends a session key, or the owner's person does, who then is `principal`."""

    revoke: KeyId
    principal: PrincipalId | None = None


class CloseRoom(Command, frozen=True, kw_only=True):
    """The owner, or the owner's person (`principal`), ends the room for all; any other member leaves the room."""

    principal: PrincipalId | None = None


class Leave(Command, frozen=True, kw_only=True):
    """A member leaves the room. Its owner does not: nobody would be left to decide who comes in."""


class Kick(Command, frozen=True, kw_only=True):
    """The owner, or the owner's person (`principal`), puts a member out. From then on a person decides before that
    agent comes in again, with whatever key it knocks, and before another agent of its person does that is not in."""

    agent: str
    """By id or handle."""
    principal: PrincipalId | None = None
    epoch: NewEpoch | None = None
    """The epoch of a sealed room from which on that member cannot read."""


class TurnEpoch(Command, frozen=True, kw_only=True):
    """The owner's person (`principal`) lets an epoch of a sealed room begin that belongs to no decision of this moment.
    The answer is `turned`, also for the newest record once more."""

    epoch: NewEpoch
    principal: PrincipalId


class TellSealingKey(Command, frozen=True, kw_only=True):
    """An agent that is in a sealed room, or knocks there, has a fresh key. The answer is `told`, also for the newest
    key once more."""

    sealing_key: SealingKey


class NameSuccessor(Command, frozen=True, kw_only=True):
    """The owner's person (`principal`) says who may go on with the records of a sealed room: another person with an
    agent in its roster, or nobody, where `person` is empty. The next record says so, which whoever asks makes. The
    answer is `names`, or `nothing` where the record in force says so already."""

    principal: PrincipalId
    person: PrincipalId


class TellOwnerLine(Command, frozen=True, kw_only=True):
    """The home of the owner's person (`principal`) is there. The answer is `told`, also where it said so a moment ago
    and nothing is noted."""

    statement: OwnerLine
    principal: PrincipalId


class GiveRole(Command, frozen=True, kw_only=True):
    """The owner, or the owner's person (`principal`), says what a member is in the room. The answer is the member's id,
    also where it has this very role."""

    agent: str
    """By id or handle."""
    role: str
    """Empty for none."""
    locks: bool = False
    """Whether the member keeps this role whatever it says when it comes in again."""
    principal: PrincipalId | None = None


class ChangeOwner(Command, frozen=True, kw_only=True):
    """The owner's person (`principal`) hands the room to another member; or `principal` takes it over, for an agent of
    theirs that is in, because the owner's person is away for long. The answer is the new owner's id."""

    owner: str
    """Who owns the room from now on, by id or handle."""
    principal: PrincipalId
    takes: bool = False
    is_owner_here: bool = False
    """Whether the owner's person can be reached now."""
    away_ms: Millis = Millis(0)
    """How long that person must have said and decided nothing in the room before it can be taken over."""
    statement: Transfer | None = None
    """What was signed elsewhere; the room refuses it as it refuses a knock's."""


class Expel(Command, frozen=True, kw_only=True):
    """This home sends a person away: their agents are in the room no longer, but for the room's owner, and the keys of
    a room of theirs let nobody in any more. Not for a caller to ask: whoever runs the home does."""

    principal: PrincipalId


class ClaimTask(Coordination, frozen=True, kw_only=True):
    """A worker asks for a task: the one whose message is `task`, or the oldest that it can have. The answer is
    `claimed`, `already_yours`, or `none` where there is no task for it."""

    task: MessageId | None = None
    lease_ms: Millis


class ReleaseTask(Command, frozen=True, kw_only=True):
    """A worker gives a task back that it holds."""

    task: MessageId


class RenewTask(Command, frozen=True, kw_only=True):
    """A worker asks to hold a task longer that it holds. No fact follows: whoever keeps the renewals keeps this one."""

    task: MessageId
    lease_ms: Millis


class LapseTasks(Command, frozen=True, kw_only=True):
    """The home of the room says which leases have ended, and which tasks nobody took in their time, up to the moment
    `upto` at which it looked. What ends later it looks at later: a worker that is alive may go on. Not for a caller to
    ask."""

    upto: Millis


class StateWrite(msgspec.Struct, frozen=True, kw_only=True):
    """One write to the state. `scope` is a handle, an id, or one of the room's own scopes. What `act` does with `value`
    stands in `json_values`. `gate` has to be true, and `if_version` is the version that the key must have, 0 for none
    at all. A view has `expr` in place of a value. With `set` the entry has this timer and this `enabled` or none; with
    any other act it keeps those that it has unless some are given."""

    scope: str
    key: str
    act: StateAct = "set"
    value: Any = None
    expr: Expression | None = None
    gate: Expression | None = None
    if_version: int | None = None
    enabled: Expression | None = None
    timer: TimerSpec | None = None


class WriteState(Coordination, frozen=True, kw_only=True):
    """These writes, all of them or none, each over what those before it left. All expressions are evaluated over what
    there was before the first. `gate` is that of the whole batch."""

    writes: tuple[StateWrite, ...]
    gate: Expression | None = None


class RenewTimer(Coordination, frozen=True, kw_only=True):
    """Let the timer of an entry begin again."""

    scope: str
    key: str


class RegisterAction(Coordination, frozen=True, kw_only=True):
    """This action has this name from now on. `if_version` is the version that it must have, 0 for none at all. With
    `reset_cooldown` it may be invoked at once."""

    id: str
    action: Action
    enabled: Expression | None = None
    timer: TimerSpec | None = None
    if_version: int | None = None
    reset_cooldown: bool = False


class DeleteAction(Coordination, frozen=True, kw_only=True):
    """No action has this name any more. `if_version` is the version that it must have."""

    id: str
    if_version: int | None = None


class RenewAction(Coordination, frozen=True, kw_only=True):
    """Let the timer of an action begin again."""

    id: str


class InvokeAction(Coordination, frozen=True, kw_only=True):
    """Do what an action does, with these parameters: all of it or nothing. All expressions are evaluated over what
    there was before its first write."""

    id: str
    params: Mapping[str, Any]


class EnableAgent(Command, frozen=True, kw_only=True):
    """An agent says what has to be true for it to be there; None where it always is."""

    enabled: Expression | None = None


class RegisterModule(Coordination, frozen=True, kw_only=True):
    """There is a module of this name from now on, or it has this role and this `enabled` from now on."""

    name: str
    role: str
    enabled: Expression | None = None


class DeleteModule(Coordination, frozen=True, kw_only=True):
    """There is no module of this name any more."""

    name: str


class HideScope(Coordination, frozen=True, kw_only=True):
    """Let only its own agent read a scope, or everybody again. Without a `scope`, every agent's: the owner alone asks
    for that."""

    scope: str
    hidden: bool


class RunDue(Command, frozen=True, kw_only=True):
    """The home of the room looks what has run out. Whoever decides a command does that before it, so nothing is left to
    decide here. Not for a caller to ask."""


class PruneBodies(Command, frozen=True, kw_only=True):
    """The home of the room lets words go that are too much. Not for a caller to ask. The answer is `erased`, or
    `needed` where all of them stay."""

    old: tuple[WordsOf, ...]
    """The oldest messages that follow `after` and have words, in the order of the log and without one left out."""
    after: Position


class RewindRoom(Command, frozen=True, kw_only=True):
    """The owner's person (`principal`) lets the room go on from where it stands, after this home lost a part of it that
    it had told others."""

    principal: PrincipalId
    statement: Rewind
    """What the person signed elsewhere: it names where the room stands."""


class Arrive(Command, frozen=True, kw_only=True):
    """Facts of a room that lives in another home, as that home told them, for this home's mirror of the room. Whoever
    submits the command has checked signatures and proofs; the room checks that the facts can be folded.

    The first arrival in a room opens it (`RoomOpened`) and says where the mirror begins (`MirrorPlaced`). The command's
    `By` is who acted there. Facts of different actors or times are commands of their own."""

    events: tuple[RoomEvent, ...]
    at: Millis
    """When the facts were accepted, by the time of the room's home."""
    taken: frozenset[MessageId] = frozenset()
    """The ids among these messages that other messages have already; looked up like `PostMessage.is_id_taken`."""
    erases: tuple[Position, ...] = ()
    """The messages whose words go with a `BodiesErased` among these facts."""
    named: tuple[MessageId, ...] | None = None
    """In a sealed room: the messages that a message among these names as those whose words go with it."""
    forgotten: Mapping[MessageId, tuple[Position, AgentId]] = {}
    """Where the messages stand that these forget by their ids, and those that are `named`, and who wrote each, as far
    as the mirror has them; looked up too."""


RoomCommand = (
    PostMessage
    | GateMessage
    | WithdrawMessage
    | OpenRoom
    | MintKey
    | AdmitGranted
    | Knock
    | ExchangeKey
    | DecideRequest
    | RevokeKey
    | WithdrawKnock
    | Leave
    | Kick
    | GiveRole
    | ChangeOwner
    | CloseRoom
    | Expel
    | ClaimTask
    | ReleaseTask
    | RenewTask
    | LapseTasks
    | WriteState
    | RegisterAction
    | DeleteAction
    | RenewAction
    | InvokeAction
    | EnableAgent
    | RegisterModule
    | DeleteModule
    | RenewTimer
    | HideScope
    | RunDue
    | PruneBodies
    | TurnEpoch
    | TellSealingKey
    | TellOwnerLine
    | NameSuccessor
    | RewindRoom
    | Arrive
)


class CreateAgent(Command, frozen=True, kw_only=True):
    """This home made a key for a new agent. (host, workspace, slot) is the place by which a window will find it."""

    agent: AgentId
    principal: PrincipalId
    name: str
    host: str = ""
    workspace: str = ""
    slot: int = 0


class BindConversation(Command, frozen=True, kw_only=True):
    """Let an agent be whoever resumes a host's conversation. `place` tells apart the windows that have the conversation
    open at the same time: 0 for the first."""

    agent: AgentId
    host: str
    conversation: str
    place: int = 0


class RenewDelegation(Command, frozen=True, kw_only=True):
    """The person's key signed a new delegation for the agent."""

    agent: AgentId
    principal: PrincipalId
    expires_at: Millis


class PublishCard(Command, frozen=True, kw_only=True):
    """An agent signed a card. The answer is `published`, or `stale` where the directory has this card or a later one of
    the agent, and then nothing happens."""

    card: AgentCard
    most: int = 0
    """How many agents of one person may have a card at the same time; 0 for a person who may have any number."""


class TellDirectKey(Command, frozen=True, kw_only=True):
    """An agent of another home says by which key it is given the secrets of direct rooms that others open for it here.
    The answer is `told`; or `stale` where this key or a later one is known, and `early` where it is followed too soon,
    and then nothing happens."""

    key: SealingKey


class SetAttention(Command, frozen=True, kw_only=True):
    """From now on so much begins a turn of an agent: `here` in one room, or without one `mode` in general."""

    agent: AgentId
    room: RoomId | None = None
    mode: Attention = "open"
    here: RoomAttention = "inherit"


class NameRoom(Command, frozen=True, kw_only=True):
    """Give a room a name among its owner's rooms; with `activates` the room becomes the owner's active session. `home`
    is where the room lives, empty for this very home. The answer is `taken`, and nothing happens, where the owner has
    another room of that name."""

    owner: AgentId
    room: RoomId
    name: str
    home: HomeId = HomeId("")
    activates: bool = True
    token: str = ""
    """The token with which the room is opened: one more of those that it opens, and one of its rooms from then on."""
    wall: Millis = Millis(0)
    """The wall clock's time, by which that token holds."""


class Activate(Command, frozen=True, kw_only=True):
    """Make `room` the agent's active session, or leave the agent without one."""

    agent: AgentId
    room: RoomId | None


class PairAgents(Command, frozen=True, kw_only=True):
    """Let `room` be the room of the agents `one` and `other`. The answer is `taken`, and nothing happens, where they
    have another one than `instead`: the room that whoever asks found to be over, or to have been named and never
    opened. With `unopened` it is the latter, and from then on nobody can open it."""

    one: AgentId
    other: AgentId
    room: RoomId
    instead: RoomId | None = None
    unopened: bool = False


class AskDirect(Command, frozen=True, kw_only=True):
    """An agent (`asker`, for the person `principal`) wrote to an agent of this home that wants to be asked. The answer
    is how that stands: `pending`, or `approved` or `denied` where it was asked before."""

    agent: AgentId
    asker: AgentId
    principal: PrincipalId
    name: str
    host: str = ""


class DecideDirect(Command, frozen=True, kw_only=True):
    """The person of an agent of this home lets somebody write to it, or does not."""

    request: RequestId
    admit: bool
    proof: Proof


class Wake(Command, frozen=True, kw_only=True):
    """Begin a turn of an agent that no person asked for. `causes` are whose messages are behind it; `asked` says
    that somebody who knocks would be enough. The answer is `woken`, or `paused` or `held`, and then nothing happens."""

    agent: AgentId
    begun: Millis
    causes: tuple[Cause, ...] = ()
    asked: bool = False


class ContinueWakes(Command, frozen=True, kw_only=True):
    """The person lets their agents go on in a room, or in one conversation of it. The answer is `continued`, or
    `nothing` where nothing was counted."""

    room: RoomId
    chain: str = ""


class BoundWakes(Command, frozen=True, kw_only=True):
    """The person says how many turns two of their agents may begin by their messages in each conversation of a room;
    None is the default again."""

    room: RoomId
    most: int | None


class LimitRoom(Command, frozen=True, kw_only=True):
    """The person says how much is kept of the words of a room of theirs that lives here."""

    room: RoomId
    limit: RoomLimit


class DeleteRoom(Command, frozen=True, kw_only=True):
    """The person whose agent owns a room wants it gone, with everything in it. The answer is `deleted`; a room that was
    deleted before stays so."""

    room: RoomId


class EnrolPerson(Command, frozen=True, kw_only=True):
    """A person proved their key and knew the join secret: their daemon may open links from now on. `name` is what their
    machine calls itself."""

    principal: PrincipalId
    name: str


class KickPerson(Command, frozen=True, kw_only=True):
    """Whoever runs this home sends a person away."""

    principal: PrincipalId


class MintToken(Command, frozen=True, kw_only=True):
    """A token with a text of this digest comes to be. `wall` is the wall clock's time, by which tokens expire."""

    digest: bytes
    agent: AgentId
    room: RoomId
    access: tuple[str, ...]
    wall: Millis
    expires_at: Millis
    label: str = ""
    parent: str = ""
    """The token of which it is made, which it is no wider than."""
    authority: str = "person"
    """By whose right: the person's, that of a token, or that of whoever comes through a door which the person opened to
    all."""
    kind: TokenKind = "as"
    uses: int = 0
    admits: bool = False
    rooms: tuple[RoomId, ...] = ()
    """The rooms of a token of several, `room` the first of them."""
    join: str = ""
    """The join that it comes of: there is one token for each, so a repetition mints none."""
    contract: str = ""
    """The version of what is promised over HTTP by which whoever shows the token is answered, if it names none."""
    opens: int = 0
    """How many rooms may be opened with it."""
    key: KeyId = KeyId("")
    """The key of an invite, where those knock with it who come with the token."""
    grant: bytes = b""
    grant_signature: bytes = b""
    """The signed grant, where those come in by it who come with the token."""


class RotateToken(Command, frozen=True, kw_only=True):
    """Another token takes the place of this one, with a text of this digest."""

    token: str
    digest: bytes
    wall: Millis
    contract: str = ""
    """As with `MintToken`."""


class RevokeToken(Command, frozen=True, kw_only=True):
    """By whose `authority` it is, as for one that is minted."""

    token: str
    authority: str = "person"


class MintWatchCode(Command, frozen=True, kw_only=True):
    """A watch code with a text of this digest comes to be. `wall` is the wall clock's time, by which codes expire."""

    digest: bytes
    agent: AgentId
    """With whose eyes whoever has the code looks."""
    as_person: bool
    """Whether with those of all agents of that one's person."""
    room: RoomId
    """Empty for the whole home, which is the person's own."""
    wall: Millis
    use_by: Millis
    expires_at: Millis


class UseWatchCode(Command, frozen=True, kw_only=True):
    """Somebody showed the text of this code, which opens nothing after that."""

    code: str
    wall: Millis


class RevokeWatchCode(Command, frozen=True, kw_only=True):
    code: str


class BeginJoin(Command, frozen=True, kw_only=True):
    """A new agent is to come into a room with a token. `request` is the key of the request, by which a repetition is
    known, and `asked` the digest of what was asked. `key` is the key of the room that it knocks with, where that is not
    the one behind the token."""

    token: str
    agent: AgentId
    name: str
    role: str
    request: str
    asked: bytes
    wall: Millis
    key: KeyId = KeyId("")


class EndJoin(Command, frozen=True, kw_only=True):
    """A join came to nothing: the person `denied` it, or the room refused it. A join that ended before stays ended."""

    join: str
    denied: bool


HomeCommand = (
    CreateAgent
    | BindConversation
    | RenewDelegation
    | PublishCard
    | TellDirectKey
    | SetAttention
    | NameRoom
    | Activate
    | PairAgents
    | AskDirect
    | DecideDirect
    | Wake
    | ContinueWakes
    | BoundWakes
    | LimitRoom
    | DeleteRoom
    | EnrolPerson
    | KickPerson
    | MintToken
    | RotateToken
    | RevokeToken
    | MintWatchCode
    | UseWatchCode
    | RevokeWatchCode
    | BeginJoin
    | EndJoin
)
