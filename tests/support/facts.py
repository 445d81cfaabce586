"""Facts for store tests, made with little to say: who, where, visible to whom."""

from __future__ import annotations

import hashlib

import msgspec

from parlerd.core import events as e
from parlerd.core.envelope import Envelope, MemoryPart, TextPart, encode_envelope
from parlerd.core.model import (
    NO_BLOB,
    AgentId,
    BlobId,
    By,
    History,
    HomeId,
    KeyId,
    MemoryNote,
    MessageId,
    Millis,
    Position,
    PrincipalId,
    RequestId,
    RoomId,
    View,
)
from parlerd.core.statements import NONCE, Title, encode, encode_opened
from parlerd.store.port import Append, NewFact

ROOM = RoomId("r_one")
OTHER = RoomId("r_two")
ANN, BEN, CAT = AgentId("UANN"), AgentId("UBEN"), AgentId("UCAT")
OWNER = PrincipalId("AOWNER")
SIGNATURE = b"s" * 64


def by(agent: AgentId) -> By:
    return By(agent, OWNER, "session", "host", "cli")


def fact(
    position: int,
    event: e.Event,
    *,
    actor: AgentId = ANN,
    at: int = 0,
    body: bytes | None = None,
    operation: str = "",
    key: str | None = None,
    input: bytes | None = None,
) -> NewFact:
    """A fact at a position; without a time it stands at 1,000 ms a position."""
    header = e.Header(
        position=Position(position),
        at=Millis(at or position * 1_000),
        by=by(actor),
        authority="member",
        event=event,
        operation=operation,
        key=key,
        input=input,
        body=None if body is None else hashlib.sha256(body).digest(),
    )
    return NewFact(header, body, None if body is None else SIGNATURE)


def fact_body(text: str, key: str = "", *, room: RoomId = ROOM) -> bytes:
    """The envelope of a message that remembers this text."""
    parts = (TextPart(text), MemoryPart(key=key))
    return encode_envelope(
        Envelope(
            v=2,
            room=room,
            key="k",
            kind="memory",
            chain="c",
            hops=0,
            authored_at=Millis(0),
            counter=1,
            previous=b"",
            nonce=bytes(16),
            parts=parts,
        )
    )


def remembering(
    position: int, text: str, key: str = "", *, version: int = 1, drops: tuple[int, ...] = (), room: RoomId = ROOM
) -> NewFact:
    """A message that remembers this text; what stands at `drops` is found no more."""
    made = message(position, room=room, kind="memory", body=fact_body(text, key, room=room))
    note = MemoryNote(key=key, version=version, drops=tuple(map(Position, drops)))
    return _with_note(made, note)


def forgetting(position: int, drops: tuple[int, ...], key: str = "", *, room: RoomId = ROOM) -> NewFact:
    """A message that forgets what stands at `drops`."""
    note = MemoryNote(key=key, forgets=True, drops=tuple(map(Position, drops)))
    return _with_note(message(position, room=room, kind="memory"), note)


def _with_note(made: NewFact, note: MemoryNote) -> NewFact:
    event = msgspec.structs.replace(made.header.event, memory=note)
    return msgspec.structs.replace(made, header=msgspec.structs.replace(made.header, event=event))


def message(
    position: int,
    author: AgentId = ANN,
    *,
    room: RoomId = ROOM,
    visible_to: tuple[AgentId, ...] | None = None,
    body: bytes | None = None,
    kind: str = "note",
    to: tuple[AgentId, ...] = (),
    role: str = "",
    id: str = "",
    at: int = 0,
    operation: str = "",
    key: str | None = None,
    input: bytes | None = None,
    blob: BlobId = NO_BLOB,
) -> NewFact:
    """A message; its body names its place unless one is given."""
    named = MessageId(id or f"m_{room}_{position}")
    event = e.MessagePosted(
        id=named,
        kind=kind,
        to=to,
        role=role,
        visibility=visible_to,
        chain="c",
        counter=1,
        envelope=hashlib.sha256(named.encode()).digest(),
        verified="valid",
        blob=blob,
    )
    words = f"{room}:{position}".encode() if body is None else body
    return fact(position, event, actor=author, body=words, at=at, operation=operation, key=key, input=input)


def opened(
    room: RoomId = ROOM,
    *,
    owner: AgentId = ANN,
    principal: PrincipalId = OWNER,
    history: History = "full",
    at: int = 0,
) -> NewFact:
    event = e.RoomOpened(
        room=room,
        home=HomeId(principal),
        kind="session",
        owner=owner,
        owner_principal=principal,
        history=history,
        approval=True,
        approver="person",
    )
    title = encode(Title(salt=bytes(NONCE), name="name", topic="topic"))
    return fact(1, event, actor=owner, at=at, body=encode_opened(b"opening", title))


def joined(position: int, agent: AgentId) -> NewFact:
    return fact(position, e.MemberJoined(agent=agent, principal=OWNER, handle=agent.lower(), host="host"), actor=agent)


def left(position: int, agent: AgentId) -> NewFact:
    return fact(position, e.MemberLeft(agent=agent), actor=agent)


def knocked(position: int, agent: AgentId) -> NewFact:
    event = e.JoinRequested(
        request=RequestId(f"q_{position}"),
        key=KeyId("key"),
        agent=agent,
        principal=OWNER,
        name=agent.lower(),
        host="host",
    )
    return fact(position, event, actor=agent)


def denied(position: int, agent: AgentId) -> NewFact:
    return fact(position, e.JoinDenied(request=RequestId("q"), agent=agent, proof="cli"))


def minted(position: int, key: str, *, at: int = 1) -> NewFact:
    """A key that expires `at` a moment."""
    return fact(position, e.KeyMinted(key=KeyId(key), ref=f"k_{key}", gated=True, expires_at=Millis(at), max_uses=1))


def revoked(position: int, key: str) -> NewFact:
    return fact(position, e.KeyRevoked(key=KeyId(key)))


def append(*facts: NewFact, room: RoomId = ROOM, expected: int | None = None, own_lines: bool = False) -> Append:
    """An append that expects the position before its first fact, unless another is given."""
    before = facts[0].header.position - 1 if expected is None else expected
    return Append(room, Position(before), facts, own_lines)


def everything(reader: AgentId) -> View:
    return View(reader=reader, spans=((0, None),))
