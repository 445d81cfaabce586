"""The nouns of a room: typed ids and units, labels, who acts, and what a reader is.

Not here: anything that happens (`events`), is asked for (`commands`) or is decided (`room`, `home`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from typing import Final, Literal, NamedTuple, NewType, Protocol, TypeGuard

import msgspec

from parlerd.core.errors import Refused

AgentId = NewType("AgentId", str)
"""An agent's Ed25519 public key as an nkey: `U` and 55 more characters. Of an agent that has only a token at a relay:
`T` and 52 more, which name its grant and are no key (`grants`)."""
PrincipalId = NewType("PrincipalId", str)
"""A person's Ed25519 public key as an nkey, prefix `A`."""
HomeId = NewType("HomeId", str)
"""Where rooms live: the principal of a local home, or a relay's Ed25519 public key as an nkey, prefix `N`."""
RoomId = NewType("RoomId", str)
"""`r_` and 32 characters of its opening's hash (`statements`), or 24 mostly random ones in older homes; `home` is the
home room."""
MessageId = NewType("MessageId", str)
RequestId = NewType("RequestId", str)
KeyId = NewType("KeyId", str)
"""The HMAC of a session key, in hex. The session key itself is never stored."""
BlobId = NewType("BlobId", str)
"""The SHA-256 of a file's bytes, in hex. `blob_id()` alone makes one of text that another party chose."""
Position = NewType("Position", int)
"""A place in a room's log, from 1. No reader is shown one: it would count the messages that the reader may not see."""
Seq = NewType("Seq", int)
"""A reader's own number for a message: 1, 2, 3 and so on, without gaps, through all that this reader may ever see."""
Millis = NewType("Millis", int)
"""Milliseconds: a wall-clock instant since the epoch, or a span when the name ends in `_ms`."""
Label = NewType("Label", str)
"""A name that may stand outside a fence. `label()` alone makes one."""
PeerText = NewType("PeerText", str)
"""Text that another party chose. Only the fence shows it to a model, and only `printable` shows it in a terminal."""

HOME_ROOM: Final = RoomId("home")
LOCAL_HOME: Final = "local"
"""What people call this machine among the homes where rooms live. No relay has this name."""
MAX_TEXT: Final = 256 * 1024
"""Bytes of UTF-8 in one message's text. Source: rooms spec, Messages."""
NO_BLOB: Final = BlobId("")
"""What a message brings that brings no file."""
MAX_TOPIC: Final = 200
MAX_STATUS_TEXT: Final = 200
"""Characters beside a stated status: it stands in a list of all who are in a room."""
MAX_LABEL: Final = 64
LABEL: Final = rf"[A-Za-z0-9._@#/-]{{1,{MAX_LABEL}}}\Z"
"""A label as a regular expression, from its first character on."""
LAST_MOMENT: Final = 253_402_300_799_000
"""The end of the year 9999 in epoch milliseconds: no system is asked to write a later date."""
MAX_WAKES_OF_PAIR: Final = 1_000
"""Turns that a person may let two agents begin in one conversation: 17 hours of turns at the most that an hour has, so
that a larger number would bound nothing."""
SHARED: Final = "_shared"
"""The scope of a room's state that any member writes."""
VIEWS: Final = "_view"
"""The scope of expressions whose values are read like those of keys."""
OWN_SCOPES: Final = frozenset({SHARED, VIEWS})
"""The room's own scopes; every other is named by the handle of an agent."""
ACTIONS: Final = "_action"
"""In place of a scope: the actions of a room, which live as entries of its state do."""
COOLDOWNS: Final = "_cooldown"
"""In place of a scope: the actions that were invoked and cannot be invoked again yet."""
AGENTS: Final = "_agent"
"""In place of a scope: the modules of a room, and what has to be true for an agent to be there."""
MESSAGES: Final = "_message"
"""In place of a scope: the messages that wait for something before anybody is shown them, or whose time is bounded."""
BESIDE: Final = frozenset({ACTIONS, COOLDOWNS, AGENTS, MESSAGES})
"""What stands beside the state's scopes and is none of them."""
INVOCATION: Final = "action_invocation"
"""The kind of the messages by which a room's home says that an action was invoked (`invocations`). Nobody posts one."""
MAX_WRITES: Final = 100
"""Writes of one command to the state. Source: coordination spec, State."""
RESERVED: Final = frozenset({"owner", "person", "system", "all", "anyone", "me"}) | OWN_SCOPES | BESIDE
"""Words that stand for somebody, in capitals or not. An agent with such a name would be taken for whom the word stands
for, or for a scope of a room's own state. Source: security spec A1."""
MAX_PENDING_PER_KEY: Final = 5
"""How many requests may wait for one key. Source: security spec A3."""
MAX_PREAPPROVED: Final = 256
"""How many agents a session key may let in without a decision: each one is named in what the person signs."""
DEFAULT_KEY_TTL_MS: Final = Millis(24 * 3600 * 1000)
DEFAULT_KEY_USES: Final = 50
DEFAULT_LEASE_MS: Final = Millis(300_000)
"""How long a claim holds that names no lease, and below how short and how long a lease may be. Source: rooms spec, Work
queues."""
MIN_LEASE_MS: Final = Millis(15_000)
MAX_LEASE_MS: Final = Millis(3_600_000)

Via = Literal["mcp", "cli", "hook", "http", "link"]
RoomKind = Literal["home", "session", "channel", "dm", "service", "private"]
"""`private` is an agent's own memory: a room of which it is the only member."""
TokenKind = Literal["as", "aj", "ah"]
"""What a token lets somebody do, by the mark that its text begins with: `as` acts as one agent in one room, `aj` only
comes in as a new agent, `ah` acts as one agent in several rooms. Source: contract spec, Tokens."""
SecretKind = Literal[
    "private key",
    "AWS key",
    "GitHub token",
    "GitLab token",
    "Slack token",
    "Anthropic key",
    "OpenAI key",
    "Stripe key",
    "Google key",
    "npm token",
    "seed",
    "JSON web token",
    "bearer token",
    "password",
]
"""What a credential is called that is recognised by its shape."""
History = Literal["full", "from-join", "none"]
Approver = Literal["person", "agent"]
Proof = Literal["none", "cli", "form", "terminal", "sealed"]
Attention = Literal["open", "dnd", "focus"]
RoomAttention = Literal["inherit", "quiet", "muted"]
CardVisibility = Literal["private", "public", "withdrawn"]
DirectRule = Literal["open", "ask"]
"""Whether an agent takes direct messages from everybody who can see it, or wants its person to be asked."""
Verified = Literal["valid", "home", "unsigned", "invalid"]
"""What bears a message: its author's signature; or the word of the room's home alone, within a grant of the author's
person (`grants`); or nobody's signature; or one that is not good."""
Stage = Literal["stored", "pushed", "read", "acknowledged", "acted"]
Rung = Literal["stored", "pushed", "read", "shown", "acknowledged", "acted"]
"""The ladder of a message for a reader: the stages, which marks record, and `shown`, which only a verdict gives."""
RUNGS: Final[tuple[Rung, ...]] = ("stored", "pushed", "read", "shown", "acknowledged", "acted")
"""In their order."""
Sighted = Literal["pending", "shown", "quoted", "summarised", "cut", "not_shown", "unknown"]
"""What is known of whether a reader's model was shown a message: a verdict (`core.sight`), or `pending` while the
host's record is watched."""
Turn = Literal["", "offered", "accepted", "declined", "withdrawn"]
"""What a message does with a turn; empty for one that does nothing with any."""
TaskOutcome = Literal["done", "failed", "cancelled"]
"""How a task ended."""
StateAct = Literal["set", "increment", "merge", "append", "delete"]
"""What is done to a key of the state."""

PROOF_ORDER: Final[tuple[Proof, ...]] = ("none", "cli", "form", "terminal", "sealed")
"""Every proof, the weakest first."""

_LABEL = re.compile(LABEL)
_KEYED_ID = re.compile(r"U[A-Z2-7]{55}\Z")
_GRANTED_ID = re.compile(r"T[A-Z2-7]{52}\Z")
_PRINCIPAL_ID = re.compile(r"A[A-Z2-7]{55}\Z")
_HOME_ID = re.compile(r"[AN][A-Z2-7]{55}\Z")
_BLOB = re.compile(r"[0-9a-f]{64}\Z")
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")


def label(text: str, what: str = "name") -> Label:
    """`text` as a name, or as `what` else it is. Raises `Refused(invalid_name)`.

    ASCII alone passes, so mixed scripts and look-alikes cannot. Source: security spec C8.
    """
    if _LABEL.match(text) is None:
        raise Refused("invalid_name", f"That is not a usable {what}.", length=len(text))
    return Label(text)


def is_label(text: str) -> bool:
    """Whether `text` may stand outside a fence."""
    return _LABEL.match(text) is not None


def agent_name(text: str) -> Label:
    """`text` as an agent's name: a label that neither is a reserved word nor has the form of an agent's id. Raises
    `Refused(invalid_name)`.

    Where an id, a role or a name may be given, a name of either sort would mean somebody else. Older logs may hold
    agents with such names; folding a fact checks no name.
    """
    if is_agent_id(text):
        raise Refused("invalid_name", "A name cannot have the form of an agent's id.")
    if text.casefold() in RESERVED:
        raise Refused("invalid_name", f"{text!r} stands for someone else and is no agent's name.", hint="Use another.")
    return label(text)


def role_name(text: str) -> Label:
    """`text` as a role that an agent gives itself: a label that is no reserved word. Raises `Refused(invalid_name)`.

    A role stands beside names wherever members are shown, and a hand-off may be for whoever has it.
    """
    if text.casefold() in RESERVED:
        raise Refused("invalid_name", f"{text!r} stands for someone else and is nobody's role.", hint="Use another.")
    return label(text, "role")


def is_role(text: str) -> bool:
    """Whether `role_name` takes `text`."""
    return is_label(text) and text.casefold() not in RESERVED


def is_moment(value: object) -> TypeGuard[int]:
    """Whether `value`, which another party chose, is a wall-clock instant that every system can write as a date."""
    return isinstance(value, int) and 0 <= value <= LAST_MOMENT


def is_agent_id(text: str) -> bool:
    """Whether `text` has the form of an agent's id, with a key or without one."""
    return is_keyed_id(text) or is_granted_id(text)


def is_keyed_id(text: str) -> bool:
    """Whether `text` has the form of the id of an agent that has a key. The form does not tell whether anybody has that
    key."""
    return _KEYED_ID.match(text) is not None


def is_granted_id(text: str) -> bool:
    """Whether `text` has the form of the id of an agent that has only a token, at a relay. No key has such an id."""
    return _GRANTED_ID.match(text) is not None


def is_principal_id(text: str) -> bool:
    """Whether `text` has the form of a person's id."""
    return _PRINCIPAL_ID.match(text) is not None


def is_home_id(text: str) -> bool:
    """Whether `text` has the form of a home's id: a person's, or a relay's."""
    return _HOME_ID.match(text) is not None


def person_name(user: str) -> Label:
    """The name of a person's own agent, after their user name on this machine, which may be a reserved word."""
    name = slug(user, fallback="user")
    return Label(f"{name}-1") if name.casefold() in RESERVED else name


def first_free(wanted: str, taken: Container[str]) -> Label:
    """`wanted`, or `wanted-2` and so on when it is taken; cut where the suffix would make it longer than a label."""
    name, n = wanted, 2
    while name in taken:
        suffix = f"-{n}"
        name, n = wanted[: MAX_LABEL - len(suffix)] + suffix, n + 1
    return Label(name)


def slug(text: str, *, fallback: str) -> Label:
    """A label as near to `text` as can be made: other characters become `-`, at most 48 of them."""
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    cleaned = re.sub(r"[^A-Za-z0-9._@#/-]+", "-", folded).strip("-./")[:48].rstrip("-./")
    return Label(cleaned or fallback)


def key_label(text: str) -> Label:
    """`text` as a key of a room's memory or state: a label, because keys are shown outside any fence. Raises
    `Refused(invalid_param)`."""
    if _LABEL.match(text) is None:
        raise Refused(
            "invalid_param", f"A key is 1 to {MAX_LABEL} of ASCII letters, digits and . _ @ # / -", param="key"
        )
    return Label(text)


def blob_id(text: str) -> BlobId:
    """`text` as the id of a blob, before it becomes a part of a path. Raises `Refused(invalid_param)`."""
    if _BLOB.match(text) is None:
        raise Refused("invalid_param", "A blob is named by the 64 hexadecimal digits of its SHA-256.", param="blob")
    return BlobId(text)


def idempotency_key(text: str) -> str:
    """`text` as an idempotency key: 1 to 128 of `[A-Za-z0-9._:-]`. Raises `Refused(invalid_param)`."""
    if _KEY.match(text) is None:
        raise Refused("invalid_param", "A key is 1 to 128 of ASCII letters, digits and . _ : -", param="key")
    return text


class RosterEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An agent in the roster of a sealed room."""

    principal: PrincipalId
    handle: str
    key: bytes
    """The agent's X25519 public key."""
    counter: int
    """The number of that key, below which no other of the agent's is taken any more."""
    requester: bool = False
    """Whether the agent only asks a queue for work: then it has no secret of the room, but one for what it asks
    itself."""


class By(msgspec.Struct, frozen=True, array_like=True):
    """Who acts, as every fact records it. New fields go to the end, because stored facts carry a `By` as an array."""

    actor: AgentId
    """The agent that acts."""
    principal: PrincipalId
    """The person for whom the agent acts."""
    session: str
    """The connection that the request came over, as a random id; over HTTP the id of the token that was shown."""
    host: str
    """The agent host, as the connection names it; empty at a command line."""
    via: Via
    """The door that the request came through."""
    pid: int = 0
    """The process on the other end of the connection, as the kernel says; 0 when the kernel cannot say."""
    program: str = ""
    """The name of that process's program. A process can choose this name, so it proves nothing."""

    @property
    def token(self) -> str:
        """The id of the token that was shown; empty where somebody came without one."""
        return self.session if self.session.startswith("tk_") else ""


class Shown(NamedTuple):
    """Up to where somebody was shown a room's public messages: how many there are up to and with the last one, and the
    room's public line there (see `public_line`). At 0 messages the line is the one that the room begins with."""

    number: int
    line: bytes


class View(msgspec.Struct, frozen=True):
    """What one reader may ever see of a room's messages.

    `spans` are (after, upto] in positions, in order and without overlap; the last may be open. A public message is
    visible inside a span. A message with a `visibility` is visible to the ids it names, wherever it stands.

    `gaps` are (position, count), in order: so many of the reader's messages come at that position and are not in this
    log, because the log is a mirror that leaves them out. The numbers of later messages count them.
    """

    reader: AgentId
    spans: tuple[tuple[int, int | None], ...]
    gaps: tuple[tuple[int, int], ...] = ()


class MemoryNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the header of a message says that belongs to its room's memory: it remembers something, or it forgets."""

    key: str = ""
    """The name under which the room finds what is remembered; empty for what has no name."""
    version: int = 1
    """How often the key was written, with this message; for one that forgets, how often it had been written."""
    forgets: bool = False
    """Whether the message takes words away, and brings none."""
    drops: tuple[Position, ...] = ()
    """Where the messages stand, in this very log, that nobody finds by searching any more: the version before, or what
    was forgotten."""


class Cause(msgspec.Struct, frozen=True, array_like=True):
    """Whose message began a turn of an agent, and in which conversation (`chain`) of which room."""

    room: RoomId
    chain: str
    author: AgentId
    turns: int = 1
    """For how many turns it counts: 1, or 2 where the author is of another home, whose turns nobody here sees."""


class ReplyTarget(msgspec.Struct, frozen=True):
    """What `decide` needs of the message that is replied to; the engine looks it up.

    `chain` is the name of the conversation thread that the message is in, and `hops` its distance from the thread's
    first message. `memory` is what its header says of the room's memory.
    """

    id: MessageId
    position: Position
    author: AgentId
    visibility: tuple[AgentId, ...] | None
    chain: str
    hops: int
    memory: MemoryNote | None = None


class RoomLimit(msgspec.Struct, frozen=True):
    """Of how many messages of a room, the newest, the words are kept, how many bytes of words, and for how many days; 0
    is no limit."""

    messages: int = 0
    bytes: int = 0
    days: int = 0

    def within(self, most: RoomLimit) -> RoomLimit:
        """The smaller of two limits, number by number."""
        pairs = ((self.messages, most.messages), (self.bytes, most.bytes), (self.days, most.days))
        return RoomLimit(*(min(filter(None, pair), default=0) for pair in pairs))


class WordsOf(msgspec.Struct, frozen=True):
    """What `decide` needs of a message whose words may be too much: where it stands, when it was posted and by whose
    agent, how many bytes its body has, whether it is the room's recap, and what it does in the room's memory."""

    position: Position
    id: MessageId
    at: Millis
    principal: PrincipalId
    size: int
    opening: bool = False
    memory: MemoryNote | None = None


class ErasedWords(msgspec.Struct, frozen=True):
    """What `decide` needs of a message whose words its author, or the owner of the room, lets go: where it stands, who
    wrote it and for whom, how many bytes its body has now, and whether it may belong to a sealed room's memory, as far
    as that room's home can tell."""

    position: Position
    author: AgentId
    principal: PrincipalId
    size: int
    may_be_memory: bool


class Prior(msgspec.Struct, frozen=True):
    """An earlier use of an idempotency key by the same agent for the same operation: the `position` of the first fact
    that the request led to, and the digest of its parameters (`input`)."""

    position: Position
    input: bytes


def drawn_key(id: MessageId) -> str:
    """The idempotency key of a message whose author named none. The key follows from the message's id, which an index
    holds already, so no index has to hold the key."""
    return f"k{id[1:]}"


def message_of_key(key: str) -> MessageId | None:
    """The one message whose drawn key this can be; None for a key that `drawn_key` never makes."""
    return MessageId(f"m{key[1:]}") if key.startswith("k_") else None


class Ids(Protocol):
    """Where new ids come from: random in the daemon, counted in tests."""

    def new(self, prefix: str) -> str:
        """A fresh id that begins with `prefix` and an underscore, never given before."""
        ...
