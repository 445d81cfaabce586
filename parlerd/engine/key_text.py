"""A session key as it is typed: spelled from the home's own secret, again and again the same, and stored nowhere.

Not here: which room a typed key leads to (`session_keys`). Above: whoever shows a key, or how one begins. Below: the
desk's keys. Invariant: a whole key is spelled only here; whether a caller may see it is decided by who asks.
"""

from __future__ import annotations

from typing import Final

from parlerd.core.approvals import KeyState
from parlerd.core.model import RoomId
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.identity import codes

BEGINS: Final = 4
"""Characters of a key that tell it from the others of one person: with 100 keys of 32 letters it is unlikely (one in
200) that two begin alike, and the other half of a key that admits unasked stays secret."""
SHORT_ID: Final = 8
"""Characters of a key's id that stand for it where the code may not be shown."""


INVITE: Final = "i_"
"""What the `ref` of a key begins with that follows from it. The first key of a session follows from the room alone."""
JOINS: Final = "j_"
"""What the `ref` of a key begins with that belongs to a token which joins: such a key follows from its ref too, and
nobody is told it."""


def typed_key(desk: Desk, room: RoomId, ref: str, *, gated: bool) -> str:
    """The key of a room that has this `ref`, as it is typed."""
    length = codes.GATED_LENGTH if gated else codes.OPEN_LENGTH
    return desk.keys.session_key(room, length, ref if ref.startswith((INVITE, JOINS)) else "")


def typed_key_of(desk: Desk, room: RoomId, key: KeyState) -> str | None:
    """A key as it is typed; None for one that an earlier version drew at random, of which nothing is kept."""
    session_key = typed_key(desk, room, key.ref, gated=key.gated)
    return session_key if desk.keys.key_id(session_key) == key.id else None


async def handed_on(desk: Desk, handle: RoomHandle, session_key: str) -> str:
    """A key of a room as it is handed on: where the room does not live on this machine, with what binds the key to the
    room, and the name of the room's home."""
    if handle.home_name == LOCAL:
        return session_key
    return codes.write_key(session_key, await desk.bindings.of(handle.room, session_key), handle.home_name)
