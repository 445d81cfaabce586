"""One message that a home told, by itself: its envelope, what is sealed in it, and the fact that it becomes.

Not here: whether the message may stand where the home says (`pages`, and `history` for what is not taken in). Above:
those, `rosters`, `walking`. Below: the core's envelopes, `identity` for what was signed to be shown later, `opener`.
Pure. Invariant: what can't be read is nothing here, and never an error.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from parlerd.core import events as e
from parlerd.core import invocations
from parlerd.core.envelope import (
    OPENED,
    RELEASED,
    SEALED,
    SIGNED,
    UNSIGNED,
    Envelope,
    blob_of,
    decode_envelope,
    due_of,
    gated_part,
    guard_of,
    is_unread,
    memory_of,
    opened,
    sealed_in,
    span_until,
    turn_of,
)
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MemoryNote, MessageId, Millis, RoomId, Verified, Via, is_granted_id
from parlerd.core.sealing import joined
from parlerd.identity.proofs import check_released
from parlerd.operations import types as t
from parlerd.uplink.arriving.opener import Opener

KNOWN: Final = frozenset({UNSIGNED, SIGNED, RELEASED, SEALED})
"""The versions of envelopes that are taken in."""
BY_AUTHORS: Final = frozenset({SIGNED, SEALED, OPENED})
"""The versions of those that bear their author's signature as messages, and the one of what was opened here."""


def decoded(body: bytes) -> Envelope | None:
    """The envelope in these bytes, of any version that can be read."""
    try:
        return decode_envelope(body) if body else None
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def sealed_of(body: bytes, envelope: Envelope | None = None) -> tuple[Envelope, bytes] | None:
    """What an author sealed in a message that came in these bytes (`envelope.sealed_in`), which were read as this
    envelope before; None where nothing is sealed that can be read as such."""
    if envelope is not None and envelope.v != RELEASED:
        return (envelope, body) if envelope.v == SEALED else None
    try:
        return sealed_in(body) if body else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_sealed(message: t.LinkMessage, envelope: Envelope, opener: Opener, *, asks: bool) -> tuple[Envelope, bytes]:
    """A message of a sealed room as a member reads it, and the bytes that are kept of it: both as they came where no
    agent of this home can read it, where its author told the room's home something else than its readers, and where
    nothing of it is sealed. `asks` says that its author only asked for work when it was sealed."""
    found = sealed_of(message.body, envelope)
    words = None if found is None else opener.words(*found, AgentId(message.agent), asks=asks)
    if found is None or words is None:
        return envelope, message.body
    try:
        read = joined(found[0], words)
        kept = opened(message.body, message.signature, words)
    except Refused:
        return envelope, message.body
    return (decode_envelope(kept) if envelope.v == RELEASED else read), kept


def named_in_guard(envelope: Envelope) -> tuple[MessageId, ...]:
    """The messages that a message of a sealed room names as those whose words go with it."""
    guard = guard_of(envelope.parts)
    return () if guard is None else guard.erases


def gate_of(message: t.LinkMessage) -> MessageId:
    """The id under which an author signed what its room's home released."""
    return decode_envelope(gated_part(message.body).body).id


def is_told(message: t.LinkMessage, envelope: Envelope, room: RoomId) -> bool:
    """Whether an envelope that no author signed as it stands is what a home may say in this room: that somebody invoked
    an action, or what an author signed to be shown later."""
    try:
        if envelope.v == RELEASED:
            check_released(message.agent, message.body)
        else:
            invocations.read(envelope, AgentId(message.agent))
    except Refused:
        return False
    return envelope.room == room and not message.signature


def door_of(envelope: Envelope) -> Via:
    """The door through which an author asked for a message, as the envelope says; of one that cannot be read here only
    the door is known through which it came."""
    return "link" if is_unread(envelope) else cast(Via, envelope.via)


def verified_as(envelope: Envelope, author: AgentId) -> Verified:
    """What is said of a message of this author that was judged and found sound."""
    if envelope.v == UNSIGNED:
        return "unsigned"
    return "home" if is_granted_id(author) else "valid"


def posted_of(
    envelope: Envelope, digest: bytes, told: t.LinkMessage, *, is_opening: bool, verified: Verified = "unsigned"
) -> e.MessagePosted:
    """The fact of a message that its room's home `told`: when it was posted, and which version of a key it writes or
    forgets. `digest` is that of the envelope's bytes; whoever did not check the signature leaves `verified` to whoever
    stores the fact."""
    does = memory_of(envelope.parts)
    turn, ttl_ms = turn_of(envelope.parts)
    if due := due_of(envelope.parts):
        ttl_ms = span_until(due, Millis(told.at))
    return e.MessagePosted(
        id=envelope.id,
        kind=envelope.kind,
        to=envelope.to,
        role=envelope.role,
        visibility=envelope.visibility,
        reply_to=envelope.reply_to,
        chain=envelope.chain,
        hops=envelope.hops,
        counter=envelope.counter,
        envelope=digest,
        opening=is_opening,
        verified=verified,
        envelope_v=envelope.v,
        memory=None if does is None else MemoryNote(key=does.key, version=told.version, forgets=does.forgets),
        turn=turn,
        ttl_ms=ttl_ms,
        blob=blob_of(envelope.parts),
    )
