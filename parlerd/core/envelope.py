"""What an author signs: the words of a message and where they belong.

The signature covers exactly these bytes under the domain tag `parler/message`. The message's id, its position and the
time at which it was stored come from the room's home and are not in the envelope. The envelope carries the author's
counter, the hash of the author's previous envelope in the room, and the chain digest of the page that the author was
last shown. From these a reader can find out whether a home that stores the messages forked the room, dropped a message
or changed the order. A room compares the other fields of an envelope that was finished elsewhere with what the room
decides itself, and never looks at the parts. Above: `words`, which checks an envelope. Invariant: an envelope is
encoded once; the bytes that were signed are the bytes that are stored and sent.
"""

from __future__ import annotations

from typing import Any

import msgspec

from parlerd.core.model import AgentId, MessageId, Millis, RoomId


class TextPart(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    text: str


class DataPart(msgspec.Struct, frozen=True, tag_field="type", tag="data"):
    """Any JSON value."""

    data: Any


class HandoffPart(msgspec.Struct, frozen=True, tag_field="type", tag="handoff", omit_defaults=True):
    """A turn that is given away: what to do `next`, a `summary` of what was done, and for whom the turn is. `target` is
    an id, a handle or a role as the giver wrote it; an empty one means anyone."""

    next: str
    summary: str = ""
    target: str = ""


Part = TextPart | DataPart | HandoffPart


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The signed body of a message."""

    v: int
    """The version of this shape: 1."""
    room: RoomId
    key: str
    """The idempotency key of the request that posts the message."""
    kind: str
    chain: str
    """The name of the conversation thread: that of the message which is replied to, or a new one."""
    hops: int
    """How far the message is from the first of its thread: 0 for that one."""
    authored_at: Millis
    """When the author composed the message, by the author's clock."""
    counter: int
    """Counts the author's messages in the room, from 1."""
    previous: bytes
    """The SHA-256 of the author's envelope before this one in the room; empty in the first."""
    seen: bytes
    """The room's chain digest at the end of the page that the author was last shown; empty before the first page."""
    nonce: bytes
    """16 random bytes, so that nobody can guess the words and confirm the guess by the envelope's hash."""
    parts: tuple[Part, ...]
    """The words."""
    to: tuple[AgentId, ...] = ()
    """Whose attention the message asks for."""
    role: str = ""
    """The role that a hand-off is for, where it names a role and not an agent."""
    visibility: tuple[AgentId, ...] | None = None
    """The only readers of the message; None for everyone in the room."""
    reply_to: MessageId | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes that are signed, stored and sent. Keep them: nobody encodes the same envelope a second time."""
    return _ENCODER.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The envelope again. Raises `msgspec.DecodeError` for bytes that are not one."""
    return _DECODER.decode(data)
