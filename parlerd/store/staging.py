"""From facts that the engine decided to rows that can be stored: checks, salts, digests and the chain.

Every store uses this module, so all of them keep the same record. Not here: writing, and the rows of the indexes
(`indexing`). Below: `port` for the shapes. Invariant: the facts that `stage` returns follow the given head without a
gap, and their chain digests continue that head's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

import msgspec

from parlerd.core.errors import StoreError
from parlerd.core.events import Header, HomeEvent, MessagePosted, RoomEvent, encode_header
from parlerd.core.model import Millis, Position, RoomId
from parlerd.store.port import Append, Head

SALT_LENGTH: Final = 16
SIGNATURE_LENGTH: Final = 64
"""Bytes of a signature. A body that nobody signed has none."""
NO_CHAIN: Final = bytes(32)
"""The chain digest before the first fact of a room."""
EMPTY: Final = Head(Position(0), Millis(0), NO_CHAIN)
"""The head of a room that has no log."""

_TYPES: Final[dict[type, str]] = {
    cls: str(cls.__struct_config__.tag) for cls in (*get_args(RoomEvent), *get_args(HomeEvent))
}
MESSAGE: Final = _TYPES[MessagePosted]
"""The type of the facts that are messages, as their rows have it."""


class FactRow(NamedTuple):
    """A fact as it is stored. `digest` is over `salt` and `header`, and `chain` over the chain digest before and
    `digest`. `type`, `v` and `at` repeat what the header says, for SQL that does not decode headers."""

    position: Position
    type: str
    v: int
    at: Millis
    header: bytes
    salt: bytes
    digest: bytes
    chain: bytes


class BodyRow(NamedTuple):
    position: Position
    body: bytes
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Staged:
    """An append that may be stored: its rows, its headers for the indexes, and where it leaves the room's log."""

    room: RoomId
    headers: list[Header]
    facts: list[FactRow]
    bodies: list[BodyRow]
    head: Head
    own_lines: bool
    wall: Millis


def stage(append: Append, head: Head, salts: bytes) -> Staged:
    """The rows of `append` after `head`; `salts` holds 16 fresh random bytes for each of its facts.

    Raises `StoreError`: `stale_position` when the log does not end where the append expects, and `internal` when a fact
    contradicts itself (its position, time, body digest or signature). The latter is a mistake in Parler, which must not
    be stored.
    """
    if append.expected != head.position:
        raise StoreError("stale_position", room=append.room, expected=append.expected, head=head.position)
    position, at, chain = head.position, head.at, head.chain
    headers: list[Header] = []
    facts: list[FactRow] = []
    bodies: list[BodyRow] = []
    for index, new in enumerate(append.facts):
        header, body = new.header, new.body
        if header.position != position + 1 or header.at < at:
            raise _contradicts(append.room, header, "position or time")
        if (body is None) is not (header.body is None):
            raise _contradicts(append.room, header, "body")
        if body is not None:
            if hashlib.sha256(body).digest() != header.body:
                raise _contradicts(append.room, header, "body")
            if new.signature is not None and len(new.signature) != SIGNATURE_LENGTH:
                raise _contradicts(append.room, header, "signature")
            bodies.append(BodyRow(header.position, body, new.signature))
        position, at = header.position, header.at
        encoded = encode_header(header)
        salt = salts[index * SALT_LENGTH : (index + 1) * SALT_LENGTH]
        digest = fact_digest(salt, encoded)
        chain = link(chain, digest)
        event = header.event
        facts.append(FactRow(position, _TYPES[type(event)], event.v, at, encoded, salt, digest, chain))
        headers.append(header)
    return Staged(append.room, headers, facts, bodies, Head(position, at, chain), append.own_lines, append.wall)


def fact_digest(salt: bytes, header: bytes) -> bytes:
    """The digest of a fact. It covers the body only through the digest of the body in the header, and so can be checked
    even after the body was erased."""
    return hashlib.sha256(salt + header).digest()


def link(previous: bytes, digest: bytes) -> bytes:
    """The chain digest of a fact, from its own digest and the chain digest of the fact before (`NO_CHAIN` for the
    first)."""
    return hashlib.sha256(previous + digest).digest()


class _BodyDigest(msgspec.Struct):
    body: bytes | None = None


_BODY_DIGEST = msgspec.msgpack.Decoder(_BodyDigest)


def is_intact(previous: bytes, salt: bytes, header: bytes, digest: bytes, chain: bytes, body: bytes | None) -> bool:
    """Whether a stored fact has the digests that it was stored with. A fact of a type that this version does not know
    can be checked too.

    `body` is None for a fact that has no body, or whose body was erased.
    """
    if fact_digest(salt, header) != digest or link(previous, digest) != chain:
        return False
    try:
        said = _BODY_DIGEST.decode(header).body
    # msgspec does not wrap the errors for text that is not UTF-8 and for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return body is None or hashlib.sha256(body).digest() == said


def is_unaltered(salt: bytes, stored: bytes, digest: bytes, header: Header, body: bytes | None) -> bool:
    """Whether a message that was read still has the digests in its own row: for its `header`, which was `stored` as
    these bytes, and for its body.

    This check needs one row, and so is cheap enough for every page. It does not find a change by somebody who also
    wrote new digests; the chain and the signature do, and `parler doctor` checks those. A body that is gone counts as
    unaltered, because it may have been erased.
    """
    return fact_digest(salt, stored) == digest and (body is None or hashlib.sha256(body).digest() == header.body)


def _contradicts(room: RoomId, header: Header, what: str) -> StoreError:
    return StoreError("internal", "A fact contradicts itself.", room=room, position=header.position, what=what)
