"""Who writes the words of a message: the author's part, which builds an envelope and signs it.

A room decides what a message is (to whom, in which thread, its number); what it says is its author's. The author's part
is done when the message's turn comes in its batch, because only then are the author's counter and the hash of its
previous envelope known, and because the writer's thread gets the interpreter while a signature is made. Above:
`deciding`, which puts the sealed words into a fact. Below: the port of the keys, `identity.signatures`, and the
envelope's format in the core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from parlerd.core import events as e
from parlerd.core.envelope import Envelope, Part, encode_envelope
from parlerd.core.model import AgentId, Millis, RoomId, Verified
from parlerd.engine.ports import Keys, Randomness
from parlerd.identity.signatures import verify


@dataclass(frozen=True, slots=True)
class Draft:
    """What a local author wants to say: the parts, and `seen`, the chain digest of the last page that it was shown."""

    parts: tuple[Part, ...] = ()
    seen: bytes = b""


@dataclass(frozen=True, slots=True)
class Attested:
    """Bytes that were signed before the command came in line: a delegation of the person's key."""

    body: bytes
    signature: bytes


Words = Draft | Attested


class Place(NamedTuple):
    """Where a message comes to stand: the room, the idempotency key, the hash of its author's previous envelope there
    (empty before the first), and the room's time."""

    room: RoomId
    key: str
    author: AgentId
    previous: bytes
    at: Millis


class Sealed(NamedTuple):
    """An envelope as it is stored, its author's signature, and what a check of the signature says."""

    body: bytes
    signature: bytes
    verified: Verified


class LocalAuthor:
    """Writes and signs for the agents whose keys this home holds."""

    def __init__(self, keys: Keys, random: Randomness) -> None:
        self._keys = keys
        self._random = random
        self._proven: set[AgentId] = set()
        """Authors of whom one signature was checked. See `_verdict`."""

    def seal(self, draft: Draft, posted: e.MessagePosted, place: Place) -> Sealed:
        """The envelope of a message that the room decided. Raises `Refused(no_such_agent)` for a lost key."""
        body = encode_envelope(
            Envelope(
                v=1,
                room=place.room,
                key=place.key,
                kind=posted.kind,
                chain=posted.chain,
                hops=posted.hops,
                authored_at=place.at,
                counter=posted.counter,
                previous=place.previous,
                seen=draft.seen,
                nonce=self._random.bytes(16),
                parts=draft.parts,
                to=posted.to,
                role=posted.role,
                visibility=posted.visibility,
                reply_to=posted.reply_to,
            )
        )
        signature = self._keys.sign(place.author, "parler/message", body)
        return Sealed(body, signature, self._verdict(place.author, body, signature))

    def _verdict(self, author: AgentId, body: bytes, signature: bytes) -> Verified:
        """What a check of the signature says. This home made it with a key that it holds in memory, so the first of
        each author is checked, and the others come out alike: a check costs as much as half a message."""
        if author not in self._proven:
            if not verify(author, "parler/message", body, signature):
                return "invalid"
            self._proven.add(author)
        return "valid"
