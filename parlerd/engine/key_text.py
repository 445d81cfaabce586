"""A session key as it is typed: spelled from the home's own secret, again and again the same, and stored nowhere.

    of a room of this machine    KEY
    of a room of a relay         KEY-BINDING@RELAY   the relay is told the key
    of a sealed room             ROUTEUSECRET@RELAY  the relay is told the route alone

Not here: which room a typed key leads to (`session_keys`). Above: whoever shows a key, or how one begins. Below: the
desk's keys. Invariant: a whole key is spelled only here; whether a caller may see it is decided by who asks.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parlerd.core.approvals import KeyState
from parlerd.core.model import RoomId
from parlerd.core.room import RoomState
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


class Spelled(NamedTuple):
    """A session key of this home, as it was made. Its `repr` shows nothing of it."""

    key: str
    """What the room's home is told, and finds the room by."""
    secret: str
    """Of a key of a sealed room, what its home is not told; empty for every other key."""

    def __repr__(self) -> str:
        return "Spelled()"

    @property
    def text(self) -> str:
        """All of it before the home's name, and without a binding."""
        return f"{self.key}{codes.SEALS}{self.secret}" if self.secret else self.key


def spelled(desk: Desk, room: RoomId, ref: str, *, gated: bool, is_sealed: bool) -> Spelled:
    """The key of a room that has this `ref`."""
    length = codes.GATED_LENGTH if gated else codes.OPEN_LENGTH
    route = codes.ROUTE_LENGTH if is_sealed else 0
    drawn = desk.keys.session_key(room, route + length, ref if ref.startswith((INVITE, JOINS)) else "")
    return Spelled(drawn[:route], drawn[route:]) if is_sealed else Spelled(drawn, "")


def spelled_of(desk: Desk, room: RoomState, key: KeyState) -> Spelled | None:
    """A key of a room again; None for one that this home did not make, or an earlier version drew at random."""
    found = spelled(desk, room.room, key.ref, gated=key.gated, is_sealed=room.is_sealed)
    return found if desk.keys.key_id(found.key) == key.id else None


def typed_key_of(desk: Desk, room: RoomState, key: KeyState) -> str | None:
    """A key as it is typed, before the home's name; None as `spelled_of` says."""
    found = spelled_of(desk, room, key)
    return None if found is None else found.text


async def handed_on(desk: Desk, handle: RoomHandle, session_key: str) -> str:
    """A key of a room as it is handed on: where the room does not live on this machine, with the name of the room's
    home, and unless the room is sealed with what binds the key to the room."""
    if handle.home_name == LOCAL:
        return session_key
    if codes.SEALS in session_key:
        return f"{session_key}@{handle.home_name}"
    return codes.write_key(session_key, await desk.bindings.of(handle.room, session_key), handle.home_name)
