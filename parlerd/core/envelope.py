"""What an author signs: the words of a message and where they belong.

The signature covers exactly these bytes under the domain tag `parler/message`; id, position and time of storing are the
home's and are not in it. From the first version the envelope carries the author's counter, the hash of the author's
previous envelope in the room and the highest chain head the author had seen, so that forks, drops and reordering by a
relay can show later without a new format. The core never looks inside: a room decides on headers alone.
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
    """The turn, given. `target` is an id, a handle or a role as the giver wrote it; empty means anyone."""

    next: str
    summary: str = ""
    target: str = ""


Part = TextPart | DataPart | HandoffPart


class Envelope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The signed body of a message. `nonce` is 16 random bytes: it keeps the envelope's hash from being guessed."""

    v: int
    room: RoomId
    key: str
    kind: str
    chain: str
    hops: int
    authored_at: Millis
    counter: int
    previous: bytes
    seen: bytes
    nonce: bytes
    parts: tuple[Part, ...]
    to: tuple[AgentId, ...] = ()
    role: str = ""
    visibility: tuple[AgentId, ...] | None = None
    reply_to: MessageId | None = None


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Envelope)


def encode_envelope(envelope: Envelope) -> bytes:
    """The bytes that are signed, stored and sent; never encoded a second time."""
    return _ENCODER.encode(envelope)


def decode_envelope(data: bytes) -> Envelope:
    """The envelope again. Raises `msgspec.DecodeError` for bytes that are not one."""
    return _DECODER.decode(data)
