"""The public line of a room: one digest that stands for all public messages up to one of them, in their order.

    L0 = SHA-256(room id, home id)        Ln = SHA-256(Ln-1, SHA-256(envelope n))

Every reader of the room can compute the line from the envelopes that it was shown, where the chain of a log is over
salted facts, private ones too, which nobody but the home can compute again. An author signs the line up to which it
was shown the room. Two readers who hold different lines for one number were shown different rooms.

Not here: who keeps the line (`messages` for the end of a room, the store for each message). Invariant: private messages
leave no trace in the line.
"""

from __future__ import annotations

import hashlib

from parlerd.core.model import HomeId, RoomId


def first_line(room: RoomId, home: HomeId) -> bytes:
    """The line before a room's first public message. It says which room of which home it is, so that no home can pass
    off the messages of one room as those of another."""
    return hashlib.sha256(room.encode() + home.encode()).digest()


def next_line(line: bytes, envelope: bytes) -> bytes:
    """The line with one public message more; `envelope` is the SHA-256 of that message's envelope."""
    return hashlib.sha256(line + envelope).digest()
