"""What was typed and told at the doors of rooms elsewhere: session keys, the codes of those who knock, and when owners
were last heard of.

In memory alone: a key is typed again by whoever comes back, and the room's home tells the code again to an agent that
knocks again. Above: `asking`, `remote_room`, `uplinks`. Invariant: no key and no code is in a log, an error or a
`repr`.
"""

from __future__ import annotations

from typing import Final

from parlerd.bounded import Bounded
from parlerd.core.model import AgentId, HomeId, KeyId, Millis, RequestId, RoomId
from parlerd.identity.codes import TypedKey

MAX_KEPT: Final = 1_000


class Doors:
    """Keys and codes, the newest of them."""

    def __init__(self) -> None:
        self._keys: Bounded[tuple[HomeId, KeyId], TypedKey] = Bounded(MAX_KEPT)
        self._heard: Bounded[tuple[RoomId, AgentId], Millis] = Bounded(MAX_KEPT)
        self._codes: Bounded[RequestId, str] = Bounded(MAX_KEPT)

    def __repr__(self) -> str:
        return f"Doors({len(self._keys)} keys, {len(self._codes)} codes)"

    def note_key(self, home: HomeId, key: KeyId, typed: TypedKey) -> None:
        """Somebody typed this key for a room of that home; whether it opens one its home says."""
        self._keys[home, key] = typed

    def typed(self, home: HomeId, key: KeyId) -> TypedKey | None:
        """The key as it was typed."""
        return self._keys.get((home, key))

    def note_heard(self, room: RoomId, agent: AgentId, at: Millis) -> None:
        """The room's home told an agent that knocks there when the owner's person was last heard of."""
        self._heard[room, agent] = at

    def heard(self, room: RoomId, agent: AgentId) -> Millis:
        """When that was; 0 where it is not known."""
        return self._heard.get((room, agent)) or Millis(0)

    def note_code(self, request: RequestId, code: str) -> None:
        """The room's home told the code of this knock."""
        self._codes[request] = code

    def code(self, request: RequestId) -> str | None:
        return self._codes.get(request)
