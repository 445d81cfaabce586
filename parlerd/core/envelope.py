"""What an author signs: the words of a message and where they belong.

The signature covers exactly these bytes under the domain tag `parler/message`. The message's id, position and time of
storing are its home's, and are not in the envelope. The envelope carries the author's counter, the hash of the author's
previous envelope in the room, and the chain digest of the page that the author was last shown, so that a fork, a drop
or another order can show where another home stores the messages. A room compares the header fields of an envelope that
was finished elsewhere with what it decides itself, and never looks at the parts. Above: `words`, the check of all this.
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
    """The signed body of a message.

    `counter` counts the author's messages in the room from 1, and `previous` is the SHA-256 of the author's envelope
    before this one (empty in the first). `seen` is the room's chain digest at the end of the page that the author was
    last shown (empty before the first page). `nonce` is 16 random bytes, which keep the envelope's hash from being
    guessed. `v` is 1.
    """

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
