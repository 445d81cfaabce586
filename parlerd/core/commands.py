"""What can be asked of a room or of the home: imperative, with everything already looked up and resolved to types."""

from __future__ import annotations

import msgspec

from parlerd.core.envelope import Envelope
from parlerd.core.model import (
    AgentId,
    Approver,
    History,
    KeyId,
    MessageId,
    Millis,
    PrincipalId,
    Prior,
    Proof,
    ReplyTarget,
    RequestId,
    RoomId,
    RoomKind,
)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """`operation`, `idempotency_key` and `input` (a digest of the parameters) are the request's. `prior` is an earlier
    use of the idempotency key: the engine looks it up when the command's batch begins, so that the answer includes what
    the batch before stored."""

    operation: str = ""
    idempotency_key: str | None = None
    input: bytes | None = None
    prior: Prior | None = None


class PostMessage(Command, frozen=True, kw_only=True):
    """A message, in the words of whoever asks for it, or finished by an author elsewhere.

    `to` and `visibility` hold ids or handles; `taker` is who a hand-off is for: an id, a handle or a role. `id` is
    given with the idempotency key that `drawn_key` makes of it, for an author who named none. `fresh` says that nobody
    has used that key before.

    `envelope` is what an author elsewhere signed. The other fields then repeat it, and the room refuses an envelope
    that says anything but what the room itself would have decided. `is_id_taken` says that another message has this
    `id`: an author elsewhere drew it.
    """

    kind: str
    id: MessageId | None = None
    fresh: bool = False
    to: tuple[str, ...] = ()
    taker: str = ""
    visibility: tuple[str, ...] | None = None
    reply_to: MessageId | None = None
    reply: ReplyTarget | None = None
    envelope: Envelope | None = None
    is_id_taken: bool = False


class OpenRoom(Command, frozen=True, kw_only=True):
    """The first command of a room. `recap` says that an opening message follows in the same batch."""

    room: RoomId
    kind: RoomKind
    name: str
    topic: str
    handle: str
    host: str
    history: History
    approval: bool
    approver: Approver
    mint: KeyId
    expires_at: Millis
    max_uses: int
    preapproved: tuple[AgentId, ...] = ()
    recap: bool = False


class Knock(Command, frozen=True, kw_only=True):
    """An agent asks to come in with a key. Repeats by the same agent are free polls.

    `wall` is what the clock shows, and keys expire by it: after the clock was wrong, room time may be ahead of it. With
    0 they expire by room time.
    """

    key_id: KeyId
    name: str
    host: str
    wall: Millis = Millis(0)


class DecideRequest(Command, frozen=True, kw_only=True):
    """The person admits or refuses whoever made the request `request`. Which one a name means is found before
    (`approvals.find_request`).

    `principal` is the person who decides; `proof` says how sure we are that this person decided.
    """

    request: RequestId
    admit: bool
    proof: Proof
    principal: PrincipalId


class RevokeKey(Command, frozen=True, kw_only=True):
    revoke: KeyId
    principal: PrincipalId | None = None


class CloseRoom(Command, frozen=True, kw_only=True):
    """The owner ends the room for all, and so does its person, who is `principal`; a member leaves it."""

    principal: PrincipalId | None = None


RoomCommand = PostMessage | OpenRoom | Knock | DecideRequest | RevokeKey | CloseRoom


class CreateAgent(Command, frozen=True, kw_only=True):
    agent: AgentId
    principal: PrincipalId
    name: str
    host: str = ""
    workspace: str = ""
    slot: int = 0


class BindConversation(Command, frozen=True, kw_only=True):
    """Let an agent be whoever resumes a host's conversation; `place` counts those that have it open at once, from 0."""

    agent: AgentId
    host: str
    conversation: str
    place: int = 0


class RenewDelegation(Command, frozen=True, kw_only=True):
    agent: AgentId
    principal: PrincipalId
    expires_at: Millis


class NameRoom(Command, frozen=True, kw_only=True):
    """Take the first free of `wanted`, `wanted-2`, ... among the owner's rooms; the room becomes its active session."""

    owner: AgentId
    wanted: str


class Activate(Command, frozen=True, kw_only=True):
    agent: AgentId
    room: RoomId | None


HomeCommand = CreateAgent | BindConversation | RenewDelegation | NameRoom | Activate
