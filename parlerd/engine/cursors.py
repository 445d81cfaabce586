"""Places in the log of a room, as they are told to somebody who asks to go on from there.

    cursor = nonce, place, tag     each of 8 bytes; the place is hidden by the nonce, and the tag is over both

A bare position would say how much happens in the room that its reader may not see. So a place is told under the home's
own key, for one reader of one room, and never twice in the same words: two cursors say nothing of each other. The tag
keeps a reader from counting with a cursor that was changed a little.

Pure. Not here: what is told from a place on (`changes`). Above: `changes`, `receipts`, `telling`, `streams`. Below: the
core's errors. Invariant: whatever text a caller sends is a place that was told to it, or none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Position, RoomId

PART: Final = 8
"""Bytes of each part. A tag of this length is guessed once in 2**64 calls."""


def cursor_of(key: bytes, room: RoomId, reader: AgentId, position: Position, nonce: bytes) -> str:
    """A place as it is told to one reader. `nonce` is `PART` random bytes; `key` is the home's."""
    hidden = _xor(position.to_bytes(PART, "big"), _digest(key, b"place", room, reader, nonce))
    return base64.urlsafe_b64encode(nonce + hidden + _digest(key, b"tag", room, reader, nonce + hidden)).decode()


def place_of(key: bytes, room: RoomId, reader: AgentId, cursor: str) -> Position | None:
    """The place that was told to this reader of this room in these words; None for any other text."""
    try:
        data = base64.b64decode(cursor.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    nonce, hidden, tag = data[:PART], data[PART : 2 * PART], data[2 * PART :]
    if not hmac.compare_digest(tag, _digest(key, b"tag", room, reader, nonce + hidden)):
        return None
    return Position(int.from_bytes(_xor(hidden, _digest(key, b"place", room, reader, nonce)), "big"))


def _digest(key: bytes, purpose: bytes, room: RoomId, reader: AgentId, data: bytes) -> bytes:
    about = b"\0".join((purpose, room.encode(), reader.encode(), data))
    return hashlib.blake2b(about, digest_size=PART, key=key).digest()


def told_place(key: bytes, room: RoomId, reader: AgentId, cursor: str, end: Position, *, param: str) -> Position:
    """The place in these words that was told to this reader, up to the `end` of the room's log. Raises
    `Refused(invalid_param)` about `param`, as `no_such_place` says."""
    place = place_of(key, room, reader, cursor)
    if place is None or place > end:
        raise no_such_place(param)
    return place


def no_such_place(param: str) -> Refused:
    """For a text that is no place in this log, and for a place in a log that its home lost a part of."""
    return Refused("invalid_param", "This room told you no such place. Begin again without one.", param=param)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))
