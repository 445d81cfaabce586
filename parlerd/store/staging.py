"""From facts that the engine decided to rows that can be stored: checks, salts, digests and the chain.

Used by every store, so that all of them keep the same record. Nothing is written here. Invariant: what `stage` returns
follows the head it was given without a gap, and its chain digests continue that head's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple, get_args

import msgspec

from parlerd.core.errors import StoreError
from parlerd.core.events import Header, HomeEvent, RoomEvent, encode_header
from parlerd.core.model import Millis, Position, RoomId
from parlerd.store.port import Append, Head

SALT_LENGTH: Final = 16
NO_CHAIN: Final = bytes(32)
EMPTY: Final = Head(Position(0), Millis(0), NO_CHAIN)
"""The head of a room that is not there."""

_TYPES: Final[dict[type, str]] = {
    cls: str(cls.__struct_config__.tag) for cls in (*get_args(RoomEvent), *get_args(HomeEvent))
}


class FactRow(NamedTuple):
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
    """An append that may be stored: its rows, its headers for the index, and the head it leaves."""

    room: RoomId
    headers: list[Header]
    facts: list[FactRow]
    bodies: list[BodyRow]
    head: Head


def stage(append: Append, head: Head, salts: bytes) -> Staged:
    """The rows of `append` after `head`; `salts` holds 16 fresh random bytes for each of its facts.

    Raises `StoreError`: `stale_position` when the log is not where the append expects it, `internal` when a fact
    contradicts itself (its position, time or body digest), which is a fault of ours and is refused before it is stored.
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
            bodies.append(BodyRow(header.position, body, new.signature))
        position, at = header.position, header.at
        encoded = encode_header(header)
        salt = salts[index * SALT_LENGTH : (index + 1) * SALT_LENGTH]
        digest = fact_digest(salt, encoded)
        chain = link(chain, digest)
        event = header.event
        facts.append(FactRow(position, _TYPES[type(event)], event.v, at, encoded, salt, digest, chain))
        headers.append(header)
    return Staged(append.room, headers, facts, bodies, Head(position, at, chain))


def fact_digest(salt: bytes, header: bytes) -> bytes:
    """The digest of a fact. It covers the body through the body digest in the header, so that it can still be checked
    after the body was erased."""
    return hashlib.sha256(salt + header).digest()


def link(previous: bytes, digest: bytes) -> bytes:
    """The chain digest of a fact from that of the one before it (32 zero bytes for the first)."""
    return hashlib.sha256(previous + digest).digest()


class _BodyDigest(msgspec.Struct):
    body: bytes | None = None


_BODY_DIGEST = msgspec.msgpack.Decoder(_BodyDigest)


def is_intact(previous: bytes, salt: bytes, header: bytes, digest: bytes, chain: bytes, body: bytes | None) -> bool:
    """Whether a stored fact is what its digests say, also for types this version does not know.

    `body` is None when the fact has none or it was erased.
    """
    if fact_digest(salt, header) != digest or link(previous, digest) != chain:
        return False
    try:
        said = _BODY_DIGEST.decode(header).body
    # msgspec lets text that is not UTF-8 and nesting without end through as they are.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return body is None or hashlib.sha256(body).digest() == said


def is_unaltered(salt: bytes, stored: bytes, digest: bytes, header: Header, body: bytes | None) -> bool:
    """Whether a message that was read is what its own row says it is: its `header`, which was `stored` as these bytes,
    and its body.

    What one row can tell, and so cheap enough for every page. Whoever also writes new digests is found by the chain and
    by the signature, which `doctor` checks. A body that is gone says nothing: it may have been erased.
    """
    return fact_digest(salt, stored) == digest and (body is None or hashlib.sha256(body).digest() == header.body)


def _contradicts(room: RoomId, header: Header, what: str) -> StoreError:
    return StoreError("internal", "A fact contradicts itself.", room=room, position=header.position, what=what)
