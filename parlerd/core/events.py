"""What was accepted: the facts of a log, past tense, with their codec.

A fact is a header and, for some, a body. This module holds headers; bodies are opaque and live elsewhere. Every event
has a type (its tag) and an integer `v`, both always written. Stored bytes are never rewritten: `decode_header` lifts an
old `v` by the pure upcasters below, and an unknown type or a newer `v` raises `Refused(newer_log)`. Events record
outcomes, so `apply` evaluates nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import (
    AgentId,
    Approver,
    By,
    History,
    KeyId,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    Proof,
    RequestId,
    RoomId,
    RoomKind,
    Verified,
)


def _version(v: int) -> int:
    """The `v` an event class is written in. A factory, and so never omitted: a later version has another default, and
    a `v` that the bytes left out would be taken for that one."""
    field: int = msgspec.field(default_factory=lambda: v)
    return field


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    v: int = _version(1)


# -- rooms -------------------------------------------------------------------------------------------------


class RoomOpened(_Event, tag="room_opened", frozen=True, kw_only=True):
    """The first fact of a room."""

    room: RoomId
    kind: RoomKind
    name: str
    topic: str
    owner: AgentId
    owner_principal: PrincipalId
    history: History
    approval: bool
    approver: Approver


class MemberJoined(_Event, tag="member_joined", frozen=True, kw_only=True):
    """An agent is in. `handle` is its name in this room, fixed here and never given to another id."""

    agent: AgentId
    principal: PrincipalId
    handle: str
    host: str
    role: str = ""
    request: RequestId | None = None
    key: KeyId | None = None


class MemberLeft(_Event, tag="member_left", frozen=True, kw_only=True):
    agent: AgentId


class RoomClosed(_Event, tag="room_closed", frozen=True, kw_only=True):
    """The owner ended it for all: keys are revoked, requests refused, and nothing more is posted."""


class KeyMinted(_Event, tag="key_minted", frozen=True, kw_only=True):
    key: KeyId
    gated: bool
    expires_at: Millis
    max_uses: int
    preapproved: tuple[AgentId, ...] = ()


class KeyRevoked(_Event, tag="key_revoked", frozen=True, kw_only=True):
    key: KeyId


class JoinRequested(_Event, tag="join_requested", frozen=True, kw_only=True):
    """An agent knocked. Its name and host are what it says it is."""

    request: RequestId
    key: KeyId
    agent: AgentId
    principal: PrincipalId
    name: str
    host: str


class JoinApproved(_Event, tag="join_approved", frozen=True, kw_only=True):
    request: RequestId
    agent: AgentId
    proof: Proof


class JoinDenied(_Event, tag="join_denied", frozen=True, kw_only=True):
    request: RequestId
    agent: AgentId
    proof: Proof


class MessagePosted(_Event, tag="message_posted", frozen=True, kw_only=True):
    """A message. Its words are in the body; everything a rule needs is here.

    `counter` is the author's own count of messages in this room, from 1. The core leaves `envelope` and `verified` for
    the engine to fill when it seals the message: `envelope` is the SHA-256 of the signed envelope, which holds a random
    nonce, so the hash gives nothing away once the body is erased.
    """

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
    verified: Verified = "unsigned"
    opening: bool = False


def addressees(event: MessagePosted) -> tuple[str, ...]:
    """Whose attention a message asks for, each name once: an id, `@` and a role or handle, or `*` for a handoff that
    names nobody and is for whoever takes it. A reader goes by several: see `names_of`."""
    if event.role:
        return (*sorted(set(event.to)), f"@{event.role}")
    return tuple(sorted(set(event.to))) or (("*",) if event.kind == "handoff" else ())


def names_of(reader: AgentId, *called: str) -> tuple[str, ...]:
    """What a reader that is called so in a room (its handle, its role) answers to among `addressees`."""
    return (reader, "*", *sorted({f"@{name}" for name in called if name}))


# -- the home room -----------------------------------------------------------------------------------------


class AgentCreated(_Event, tag="agent_created", frozen=True, kw_only=True):
    """This home has a key for a new agent. (host, workspace, slot) is what a window leases it by."""

    agent: AgentId
    principal: PrincipalId
    name: str
    host: str = ""
    workspace: str = ""
    slot: int = 0


class ConversationBound(_Event, tag="conversation_bound", frozen=True, kw_only=True):
    """Whoever resumes this conversation of a host is this agent. `place` counts from 0: a conversation that is open
    twice is two agents."""

    agent: AgentId
    host: str
    conversation: str
    place: int = 0


class DelegationIssued(_Event, tag="delegation_issued", frozen=True, kw_only=True):
    """The person's key let this agent act for the person until `expires_at`; the signed text is the body."""

    agent: AgentId
    principal: PrincipalId
    expires_at: Millis


class RoomNamed(_Event, tag="room_named", frozen=True, kw_only=True):
    """A name is taken among its owner's rooms."""

    owner: AgentId
    room: RoomId
    name: str


class SessionActivated(_Event, tag="session_activated", frozen=True, kw_only=True):
    """The room an agent's calls mean when they name none; `None` when it left."""

    agent: AgentId
    room: RoomId | None


RoomEvent = (
    RoomOpened
    | MemberJoined
    | MemberLeft
    | RoomClosed
    | KeyMinted
    | KeyRevoked
    | JoinRequested
    | JoinApproved
    | JoinDenied
    | MessagePosted
)
HomeEvent = AgentCreated | ConversationBound | DelegationIssued | RoomNamed | SessionActivated
Event = RoomEvent | HomeEvent


def _current(cls: type[_Event]) -> int:
    factory = next(field.default_factory for field in msgspec.structs.fields(cls) if field.name == "v")
    v: int = factory()
    return v


CURRENT_V: Final[dict[str, int]] = {
    str(cls.__struct_config__.tag): _current(cls) for cls in (*get_args(RoomEvent), *get_args(HomeEvent))
}
"""The version each event is written in today. To raise one, give its class `v: int = _version(n)`, and an upcaster."""


class Header(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One accepted fact without its body.

    `key` and `input` are the idempotency key and the digest of the decoded parameters of the request behind it;
    `operation` is that request's name. `body` is the SHA-256 of the body bytes when there is a body.
    """

    position: Position
    at: Millis
    by: By
    authority: str
    event: Event
    operation: str = ""
    key: str | None = None
    input: bytes | None = None
    body: bytes | None = None


Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""(type, old v) to a pure function from the fields of v to those of v + 1, `v` itself aside. Empty while every event is
at its first v."""


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
    # msgspec lets text that is not UTF-8 and nesting without end through as they are.
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
