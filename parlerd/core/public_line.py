"""The public line of a room: one digest that stands for all public messages up to one of them, in their order.

    L0 = SHA-256(room id, home id)        Ln = SHA-256(Ln-1, SHA-256(envelope n))

Every reader of the room can compute the line from the envelopes that it was shown, where the chain of a log is over
salted facts, private ones too, which nobody but the home can compute again. An author signs the line up to which it
was shown the room. Two readers who hold different lines for one number were shown different rooms.

Where the home of a room lost the newest messages and the room goes on without them (`rewinds`), a new *epoch* begins:

    line = SHA-256(line at the newest message that is left, SHA-256(the signed rewind))

Its public messages have numbers of their own, epoch * 2**32 + k, so no number ever means two messages, and numbers grow
in every log although the room went back.

Not here: who keeps the line (`messages` for the end of a room, the store for each message). Invariant: private messages
leave no trace in the line.
"""

from __future__ import annotations

import hashlib
from typing import Final

from parlerd.core.model import HomeId, RoomId

MAX_EPOCH: Final = 2**20
"""How often a room may be rewound; so numbers stay below 2**53, which every reader of JSON can hold."""
_BITS: Final = 32
"""A room of one epoch has fewer public messages than 2**32."""


def epoch_of(number: int) -> int:
    """The epoch of the public message with this number."""
    return number >> _BITS


def first_number(epoch: int) -> int:
    """The number that public messages of an epoch count on from."""
    return epoch << _BITS


def first_line(room: RoomId, home: HomeId) -> bytes:
    """The line before a room's first public message. It says which room of which home it is, so that no home can pass
    off the messages of one room as those of another."""
    return hashlib.sha256(room.encode() + home.encode()).digest()


def next_line(line: bytes, envelope: bytes) -> bytes:
    """The line with one public message more; `envelope` is the SHA-256 of that message's envelope."""
    return hashlib.sha256(line + envelope).digest()


def line_after_rewind(line: bytes, rewind: bytes) -> bytes:
    """The line that an epoch begins with: `line` is the one at the newest message that was left, and `rewind` the
    SHA-256 of the signed statement."""
    return hashlib.sha256(line + rewind).digest()
