"""What is signed about a room besides its messages (who opened it, what its keys are for, who knocked, who decided, and
where it goes on after its home lost a part of it), and about an agent for those who look for one.

    Opening             signed by the person who opens the room (parler/opening). The room's id is its hash.
    KeyTerms            signed by the same person (parler/key): what one session key lets its holder do.
    KnockStatement      signed by the agent that knocks (parler/knock).
    JoinCard            signed by the agent that begins to join a sealed room (parler/join), before it knocks there.
    DecisionStatement   signed by the person, or in a room whose approver is `agent` by its owner (parler/decision).
    Rewind              signed by the owner's person (parler/rewind): where the room goes on.
    Transfer            signed by the person who owned the room, or who takes it over (parler/transfer).
    Grant               signed by the person who owns the room (parler/grant): for which agents without a key its home
                        may speak.
    OwnerLine           signed by the owner's person (parler/owner-line): how the owner's home has a sealed room.
    SealingKey          signed by an agent (parler/sealing-key): the key to which the secrets of sealed rooms are
                        wrapped. It is about all sealed rooms of one home.
    AgentCard           signed by an agent about itself (parler/card), for the directory of a home. It is about no room.

Each statement is the body of the fact that it leads to. Somebody who holds these bytes and signatures can find out who
is a member of a room without trusting the home that keeps it (`identity.proofs`). Each names the home, and
the room if it is about one, so that none can be used at another home or for another room.

Not here: the signatures (`identity`), and whether a statement fits into its room, which the facets find out. Above: the
facets, the engine. Below: the shapes. Invariant: a statement is encoded once; the bytes that were signed are the bytes
that are stored and sent. The check of a statement (`check`, `check_title`) is one pure function, which runs where it is
admitted and where it arrives: no home trusts another home's check.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeVar, get_args

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import (
    MAX_LABEL,
    MAX_PREAPPROVED,
    MAX_TOPIC,
    AgentId,
    Approver,
    CardVisibility,
    History,
    HomeId,
    Millis,
    PrincipalId,
    Proof,
    RequestId,
    RoomId,
    RoomKind,
    is_granted_id,
    is_home_id,
    is_keyed_id,
    is_label,
    is_principal_id,
    is_role,
)
from parlerd.core.public_line import MAX_EPOCH

MAX_STATEMENT: Final = 16 * 1024
"""How many bytes an encoded statement or title may have: room for `MAX_PREAPPROVED` agents, and three times as much."""
SUITE: Final = 1
"""What sealed rooms are sealed with: XChaCha20-Poly1305, X25519, Ed25519 and BLAKE2b, as `docs/sealed.md` says."""
MAX_TAGS: Final = 16
MAX_SKILLS: Final = 32
MAX_DESCRIPTION: Final = 500
"""Characters."""
MAX_GRANTED: Final = 64
"""Rooms, names, scopes and agents of one grant, each."""
OPEN: Final = "open"
"""The scope of a grant, and of a token, that is for opening rooms."""
MAX_TRANSFERS: Final = 64
"""How often a room may change hands: whoever comes in later is shown each time."""
NONCE: Final = 16
"""Random bytes in a statement, so that two statements about the same are different bytes."""
MAX_MOMENT: Final = 2**53 - 1
"""The last moment that a statement can name, in epoch milliseconds: for what never ends."""
_DIGEST: Final = 32
_ID_CHARACTERS: Final = 32
"""Characters of a room's id that are its opening's hash: 160 bits, so that nobody finds another opening for an id."""
_HASHED: Final = re.compile(rf"r_[a-z2-7]{{{_ID_CHARACTERS}}}\Z")
_ID: Final = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_ROUTE: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{6}\Z")
_SUFFIX: Final = re.compile(r"(?s)(.*)(-(?:[2-9]|[1-9][0-9]+))\Z")


class _Statement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: int = 1
    """The version of the shape."""


class SealingKey(_Statement, frozen=True, kw_only=True):
    """An agent says by which key it is given the secrets of the sealed rooms of one home."""

    TAG: ClassVar[Literal["parler/sealing-key"]] = "parler/sealing-key"
    home: HomeId
    agent: AgentId
    key: bytes
    """An X25519 public key, 32 bytes."""
    counter: int
    """A later key of the agent at this home has a higher number, so that no old one comes back."""
    at: Millis
    """When the agent made the key, by its own clock."""
    nonce: bytes


class ByGrant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a room's opening bears in the place of the person's signature: a grant that is for opening rooms."""

    grant: bytes
    signature: bytes


class Opening(_Statement, frozen=True, kw_only=True):
    """A person opens a room at a home. Or an agent of theirs without a key does, within a grant: then the home signs,
    and the opening bears the grant (`core.grants`)."""

    TAG: ClassVar[Literal["parler/opening"]] = "parler/opening"
    home: HomeId
    """Where the room lives."""
    kind: RoomKind
    history: History
    owner: AgentId
    principal: PrincipalId
    """The person for whom the owner acts, and who signs."""
    handle: str
    """The owner's handle in the room."""
    host: str
    """The owner's agent host, as the owner says; empty at a command line."""
    approval: bool
    """Whether the room's keys only let an agent ask, and a person decides."""
    approver: Approver
    title: bytes
    """The SHA-256 of the encoded `Title`, which only members are shown."""
    granted: ByGrant | msgspec.UnsetType = msgspec.UNSET
    """The field is left out of the bytes of a room that the person opened; a home of an earlier version refuses an
    opening that has it."""
    sealed: int | msgspec.UnsetType = msgspec.UNSET
    """The suite of a sealed room, 1: what its messages are encrypted with for its members. The field is left out of the
    bytes of every other room; a home of an earlier version refuses an opening that has it."""
    nonce: bytes


class KeyTerms(_Statement, frozen=True, kw_only=True):
    """What a session key lets its holder do, and how long."""

    TAG: ClassVar[Literal["parler/key"]] = "parler/key"
    home: HomeId
    room: RoomId
    ref: str
    """The key's name in statements. The key itself stands in none, and each home keeps it under an id of its own."""
    gated: bool
    """Whether the key only lets an agent ask; an open key lets the agent in."""
    expires_at: Millis
    max_uses: int
    preapproved: tuple[AgentId, ...]
    """Agents that the key lets in although it is gated."""
    requester: bool | msgspec.UnsetType = msgspec.UNSET
    """Whether whoever comes in with the key only asks a queue for work. The field is left out of the bytes of every key
    that lets in as anything else."""
    nonce: bytes


class KnockStatement(_Statement, frozen=True, kw_only=True):
    """An agent asks to come in with a key."""

    TAG: ClassVar[Literal["parler/knock"]] = "parler/knock"
    home: HomeId
    room: RoomId
    ref: str
    agent: AgentId
    principal: PrincipalId
    """The person for whom the agent says that it acts."""
    name: str
    host: str
    at: Millis
    """When the agent knocked, by its own clock."""
    nonce: bytes


class JoinCard(_Statement, frozen=True, kw_only=True):
    """An agent begins to come into a sealed room by a key of which the room's home knows the route alone. Its knock
    follows, sealed, once both ends know that the other has the key."""

    TAG: ClassVar[Literal["parler/join"]] = "parler/join"
    home: HomeId
    route: str
    """The part of the key by which the home finds the room."""
    agent: AgentId
    principal: PrincipalId
    """The person for whom the agent says that it acts."""
    name: str
    key: bytes
    """The agent's X25519 public key (`SealingKey`), 32 bytes."""
    at: Millis
    """When the agent began, by its own clock."""
    nonce: bytes


class DecisionStatement(_Statement, frozen=True, kw_only=True):
    """The owner's side decides about a request."""

    TAG: ClassVar[Literal["parler/decision"]] = "parler/decision"
    home: HomeId
    room: RoomId
    request: RequestId
    agent: AgentId
    """Who knocked, and for whom: the request is only the home's name for the knock."""
    principal: PrincipalId
    handle: str
    """The handle that the agent gets; empty in a denial."""
    admit: bool
    proof: Proof
    """How sure it is that the person decided. `none`: the room's owner decided for the person, and signs; but for a
    decision `by_key`."""
    by_key: str | msgspec.UnsetType = msgspec.UNSET
    """In a sealed room: the `ref` of the key whose terms let the agent in without asking. The person's home found that
    the agent has this key, and signs for the person. The field is left out of the bytes of every other decision."""
    at: Millis
    """When it was decided, by the clock of whoever decided."""
    nonce: bytes


class Rewind(_Statement, frozen=True, kw_only=True):
    """The room's home lost what was said last, and the person who opened the room lets it go on from what is left.

    Each rewind of a room has an epoch of its own, counted from 1, so that none can be used again. The public messages
    of each epoch have numbers of their own (`public_line`)."""

    TAG: ClassVar[Literal["parler/rewind"]] = "parler/rewind"
    home: HomeId
    room: RoomId
    epoch: int
    public: int
    """The number of the newest public message that is left, and below the public line there."""
    line: bytes
    at: Millis
    """When the person decided, by the clock of the person's machine."""
    nonce: bytes


class Transfer(_Statement, frozen=True, kw_only=True):
    """A room has another owner from now on. The person of the owner before says so and signs; or, for one that was
    `taken` over because that person was away for long, the person of the new owner does."""

    TAG: ClassVar[Literal["parler/transfer"]] = "parler/transfer"
    home: HomeId
    room: RoomId
    number: int
    """Transfers of a room are counted from 1, so that none can be used again."""
    owner: AgentId
    """Who owns the room from now on, and for whom that agent acts."""
    principal: PrincipalId
    taken: bool
    record: int | msgspec.UnsetType = msgspec.UNSET
    """In a sealed room the number of the record that is in force: the new owner's person signs every one after it, and
    the person of the owner before signs none of them. The field is left out of the bytes for every other room."""
    at: Millis
    """When it was decided, by the clock of whoever decided."""
    nonce: bytes


class OwnerLine(_Statement, frozen=True, kw_only=True):
    """The owner's home was there, and this is how it has a sealed room: which record is in force, and which message is
    the newest. Whoever has something else at these numbers is shown another room than the owner."""

    TAG: ClassVar[Literal["parler/owner-line"]] = "parler/owner-line"
    home: HomeId
    room: RoomId
    record: int
    """The number of the record in force."""
    digest: bytes
    """The SHA-256 of that record."""
    public: int
    """The number of the newest public message, and below the public line there."""
    line: bytes
    at: Millis
    """When it was signed, by the clock of the owner's machine."""
    nonce: bytes


class Owner(NamedTuple):
    """Who owned a room at some time: an agent, and the person for whom it acts. What either signed then still counts
    after the room changed hands; of the records of a sealed room, those alone that were for this owner to sign."""

    principal: PrincipalId
    agent: AgentId
    record: int = 0
    """The number of the record after which this owner's records begin; 0 for who opened the room."""


class AgentCard(_Statement, frozen=True, kw_only=True):
    """An agent says what it is good at, for the directory of a home. The newest card of an agent counts there."""

    TAG: ClassVar[Literal["parler/card"]] = "parler/card"
    home: HomeId
    """In whose directory the card stands."""
    agent: AgentId
    principal: PrincipalId
    """The person for whom the agent says that it acts."""
    name: str
    role: str = ""
    tags: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    """Tags and skills are labels, each once."""
    description: str = ""
    visibility: CardVisibility
    """Who finds the agent: everybody who may look into the directory, or only who shares a room with it. A `withdrawn`
    card says that the agent has none any more."""
    direct: Literal["ask"] | msgspec.UnsetType = msgspec.UNSET
    """With `ask`, its person is asked before somebody who is new to the agent reaches it with a direct message. The
    field is left out of the bytes of every other card, so that homes of earlier versions still read those."""
    revision: int
    """A later card of the agent has a higher number."""
    at: Millis
    """When the agent made the card, by its own clock."""
    nonce: bytes


class MayOpen(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a grant says of the rooms that its agent may open."""

    rooms: int
    """How many there may be."""
    owner: AgentId
    """The agent that owns each of them, and what it is called there: one that acts for the person, and has a key."""
    handle: str


class Grant(_Statement, frozen=True, kw_only=True):
    """A person lets a relay speak for agents of theirs that have no key, in rooms that they own (`core.grants`)."""

    TAG: ClassVar[Literal["parler/grant"]] = "parler/grant"
    home: HomeId
    """The relay."""
    rooms: tuple[RoomId, ...]
    principal: PrincipalId
    """Who signs, and for whom these agents act."""
    names: tuple[str, ...] = ()
    """What these agents are called; none where `count` says how many there may be, under any name."""
    count: int = 0
    scopes: tuple[str, ...]
    """What they may do, in the words of tokens."""
    not_after: Millis
    """They do nothing from this moment on, by the time of the room."""
    approval: bool = False
    """Whether the room's owner decides about each of them beside this."""
    opens: MayOpen | msgspec.UnsetType = msgspec.UNSET
    """Whether the one agent that it names may open rooms of the person's. The field is left out of the bytes of every
    other grant; a home of an earlier version refuses a grant that has it."""
    nonce: bytes


class Title(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A room's name and topic, which its opening signs by a hash only, so that who is not in the room learns neither.
    Nobody can guess them and confirm the guess by the hash, because of the 16 random bytes `salt`."""

    salt: bytes
    name: str
    topic: str


Statement = (
    Opening
    | KeyTerms
    | KnockStatement
    | JoinCard
    | DecisionStatement
    | Rewind
    | Transfer
    | Grant
    | SealingKey
    | OwnerLine
    | AgentCard
)
S = TypeVar("S", bound=Statement)

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS: Final[Mapping[type[Any], msgspec.msgpack.Decoder[Any]]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (*get_args(Statement), Title)
}
_OPENED: Final = msgspec.msgpack.Decoder(tuple[bytes, bytes])


# -- bytes -------------------------------------------------------------------------------------------------


def encode(statement: Statement | Title) -> bytes:
    """The bytes that are signed, stored and sent. Keep them: nobody encodes the same statement a second time."""
    return _ENCODER.encode(statement)


def is_opening_hash(room: RoomId) -> bool:
    """Whether a room's id has the form of its opening's hash. The rooms of older homes have ids of another length, and
    nothing was signed when they were opened."""
    return _HASHED.match(room) is not None


def room_id_of(opening: bytes) -> RoomId:
    """The id of the room that these bytes open."""
    digest = hashlib.sha256(opening).digest()
    return RoomId("r_" + base64.b32encode(digest).decode().lower()[:_ID_CHARACTERS])


def title_digest(title: bytes) -> bytes:
    """What an opening says of an encoded title."""
    return hashlib.sha256(title).digest()


def encode_opened(opening: bytes, title: bytes) -> bytes:
    """The body of the fact that a room was opened. Only the opening is signed; it names the title by its hash."""
    return _ENCODER.encode((opening, title))


def decode_opened(body: bytes) -> tuple[bytes, bytes]:
    """The opening and the title again. Raises `Refused(statement_refused)`."""
    try:
        return _OPENED.decode(body)
    except msgspec.DecodeError:
        raise _refused("format") from None


def title_of(body: bytes) -> Title | None:
    """The title in the body of the fact that a room was opened; None for bytes that hold none."""
    try:
        title: Title = _decoded(decode_opened(body)[1], Title)
    except Refused:
        return None
    return title


# -- the check ---------------------------------------------------------------------------------------------


def check(body: bytes, kind: type[S]) -> S:
    """The statement in these bytes, checked as far as a statement can be checked without its room.

    Raises `Refused(statement_refused)` with the wrong field as `what`.
    """
    statement: S = _decoded(body, kind)
    check_fields(statement)
    return statement


def check_fields(statement: Statement) -> None:
    """Check sizes, numbers, and the forms of names and ids. Raises what `check` raises."""
    for name in statement.__struct_fields__:
        form = _FORMS.get(name)
        if form is not None and not form(getattr(statement, name)):
            raise _refused(name)
    match statement:
        case KnockStatement(agent=agent) | SealingKey(agent=agent) | AgentCard(agent=agent) if is_granted_id(agent):
            # It is no key, so such an agent signs nothing. The person decides about one.
            raise _refused("agent")
        case Opening(kind="home"):
            raise _refused("kind")
        case Opening(handle="") | KnockStatement(name="") | AgentCard(name=""):
            raise _refused("handle" if isinstance(statement, Opening) else "name")
        case Grant(names=names, count=count) if bool(names) is (count > 0):
            raise _refused("names")
        case Grant(opens=MayOpen(), names=names, approval=approval) if len(names) != 1 or approval:
            raise _refused("opens")
        case Grant(opens=opens, scopes=scopes) if isinstance(opens, MayOpen) is not (OPEN in scopes):
            raise _refused("scopes")
        case DecisionStatement(handle=handle, admit=admit) if admit is (handle == ""):
            raise _refused("handle")
        case _:
            pass


def check_title(body: bytes, digest: bytes) -> Title:
    """The title in these bytes, which an opening signed by this hash. Raises what `check` raises."""
    title: Title = _decoded(body, Title)
    if title_digest(body) != digest:
        raise _refused("title")
    if len(title.salt) != NONCE or not is_label(title.name) or len(title.topic) > MAX_TOPIC:
        raise _refused("title")
    return title


def contradiction(expected: S, finished: S) -> str | None:
    """The first field in which a finished statement says anything but what its room would have it say, or None. The
    author alone chooses the nonce, and the time of a knock or a decision."""
    fields = (name for name in expected.__struct_fields__ if name not in ("nonce", "at"))
    return next((name for name in fields if getattr(expected, name) != getattr(finished, name)), None)


# -- who was let in ----------------------------------------------------------------------------------------


class Claim(msgspec.Struct, frozen=True):
    """What somebody says of a room: this agent, which acts for this person, is a member under this handle."""

    agent: AgentId
    principal: PrincipalId
    handle: str


def opens(opening: Opening, claim: Claim) -> bool:
    """Whether the claim follows from the opening alone: it is of the room's owner."""
    return claim == Claim(opening.owner, opening.principal, opening.handle)


def decides(opening: Opening, room: RoomId, decision: DecisionStatement, claim: Claim) -> str | None:
    """What keeps the claim from following from a decision in this room, as the name of a field, or None when it
    follows. The caller has checked who signed the decision: one of the `deciders`."""
    wrong = {
        "home": decision.home != opening.home,
        "room": decision.room != room,
        "admit": not decision.admit,
        "agent": decision.agent != claim.agent,
        "principal": decision.principal != claim.principal,
        "handle": decision.handle != claim.handle,
        "proof": decision.proof == "none" and opening.approver != "agent" and decision.by_key is msgspec.UNSET,
        # Where the home can be told who has a key, the key itself lets an agent in.
        "by_key": decision.by_key is not msgspec.UNSET and not sealed_with(opening),
    }
    return next((what for what, is_wrong in wrong.items() if is_wrong), None)


def sealed_with(opening: Opening) -> int:
    """What an opening lets the room be sealed with; 0 for a room that is not."""
    return 0 if opening.sealed is msgspec.UNSET else opening.sealed


def first_owner(opening: Opening) -> Owner:
    """Who owned the room first."""
    return Owner(opening.principal, opening.owner)


def signer_at(owners: Sequence[Owner], number: int) -> Owner:
    """Of all that owned a sealed room, in order, the one whose person signs the record of this number."""
    return next((owner for owner in reversed(owners) if owner.record < number), owners[0])


def deciders(owners: Iterable[Owner], approver: Approver, decision: DecisionStatement) -> list[PrincipalId | AgentId]:
    """Who may have signed a decision, in a room that had these owners: a person who owned the room, or its owner itself
    where the owner may decide without the person. Nobody where nobody may decide so."""
    if decision.proof != "none" or decision.by_key is not msgspec.UNSET:
        return [owner.principal for owner in owners]
    return [owner.agent for owner in owners] if approver == "agent" else []


def lets_in(home: HomeId, room: RoomId, terms: KeyTerms, knock: KnockStatement, claim: Claim) -> str | None:
    """What keeps the claim from following from a knock with a key of these terms, as the name of a field, or None when
    it follows. The caller has checked that the person who opened the room signed the terms, and the agent the knock.

    How many came in with the key before, and whether it was revoked, is the home's word alone. So is the suffix of a
    handle whose name was taken.
    """
    wrong = {
        "home": not (terms.home == knock.home == home),
        "room": not (terms.room == knock.room == room),
        "ref": knock.ref != terms.ref,
        "agent": knock.agent != claim.agent,
        "principal": knock.principal != claim.principal,
        "handle": not is_handle_of(claim.handle, knock.name),
        "gated": terms.gated and claim.agent not in terms.preapproved,
        "expires_at": knock.at >= terms.expires_at,
    }
    return next((what for what, is_wrong in wrong.items() if is_wrong), None)


def is_handle_of(handle: str, name: str) -> bool:
    """Whether an agent of this name can have got this handle: the name itself or, where the name was taken, the name
    with a number (`model.first_free`)."""
    if handle == name:
        return True
    found = _SUFFIX.match(handle)
    return found is not None and found[1] == name[: MAX_LABEL - len(found[2])]


# -- forms -------------------------------------------------------------------------------------------------


def _is_label_or_empty(text: str) -> bool:
    return not text or is_label(text)


def _are_labels(values: tuple[str, ...], most: int) -> bool:
    return len(values) <= most and len(set(values)) == len(values) and all(map(is_label, values))


_FORMS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "v": lambda value: value == 1,
    "home": is_home_id,
    "room": lambda value: _ID.match(value) is not None,
    "owner": is_keyed_id,
    "agent": lambda value: is_keyed_id(value) or is_granted_id(value),
    "principal": is_principal_id,
    "handle": _is_label_or_empty,
    "name": _is_label_or_empty,
    "host": _is_label_or_empty,
    "title": lambda value: len(value) == _DIGEST,
    "nonce": lambda value: len(value) == NONCE,
    "ref": lambda value: _ID.match(value) is not None,
    "by_key": lambda value: value is msgspec.UNSET or _ID.match(value) is not None,
    "requester": lambda value: value is msgspec.UNSET or value is True,
    "route": lambda value: _ROUTE.match(value) is not None,
    "request": lambda value: _ID.match(value) is not None,
    "expires_at": lambda value: 0 <= value <= MAX_MOMENT,
    "at": lambda value: 0 <= value <= MAX_MOMENT,
    "max_uses": lambda value: 1 <= value < 2**53,
    "epoch": lambda value: 1 <= value <= MAX_EPOCH,
    "record": lambda value: value is msgspec.UNSET or 1 <= value < 2**53,
    "number": lambda value: 1 <= value <= MAX_TRANSFERS,
    "role": lambda value: not value or is_role(value),
    "tags": lambda value: _are_labels(value, MAX_TAGS),
    "skills": lambda value: _are_labels(value, MAX_SKILLS),
    "description": lambda value: len(value) <= MAX_DESCRIPTION,
    "sealed": lambda value: value is msgspec.UNSET or value == SUITE,
    "key": lambda value: len(value) == _DIGEST,
    "digest": lambda value: len(value) == _DIGEST,
    "counter": lambda value: 1 <= value < 2**53,
    "revision": lambda value: 1 <= value < 2**53,
    "public": lambda value: 0 <= value < 2**53,
    "line": lambda value: len(value) == _DIGEST,
    "rooms": lambda value: 0 < len(value) <= MAX_GRANTED and all(_ID.match(each) is not None for each in value),
    "names": lambda value: _are_labels(value, MAX_GRANTED),
    "count": lambda value: 0 <= value <= MAX_GRANTED,
    "scopes": lambda value: bool(value) and _are_labels(value, MAX_GRANTED),
    "not_after": lambda value: 0 <= value <= MAX_MOMENT,
    "opens": lambda value: (
        value is msgspec.UNSET
        or (0 < value.rooms <= MAX_GRANTED and is_keyed_id(value.owner) and is_label(value.handle))
    ),
    "preapproved": lambda value: (
        len(value) <= MAX_PREAPPROVED and len(set(value)) == len(value) and all(map(is_keyed_id, value))
    ),
}
"""The form of a field, by its name, which means the same in every statement."""


def _decoded(body: bytes, kind: type[Any]) -> Any:
    if len(body) > MAX_STATEMENT:
        raise _refused("size")
    try:
        return _DECODERS[kind].decode(body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _refused("format") from None


def _refused(what: str) -> Refused:
    return Refused("statement_refused", what=what)
