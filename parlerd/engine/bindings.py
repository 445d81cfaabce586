"""The bindings of keys to rooms, computed away from the loop and kept in memory for a while.

A binding takes 64 MiB and a fifth of a second on purpose (`identity.key_binding`). So one is computed at a time, and
those of rooms that somebody looks at again are remembered: they follow from a room and a key, and open nothing without
the key. Not here: what a mismatch means (whoever finds a room by a key). Above: `key_text`, and the link that asks a
relay for a key. Below: the keys' port, and the library's way to do something aside. Invariant: no key is kept here as
it is typed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.model import KeyId, RoomId
from parlerd.engine.ports import HomeKeys

MAX_KEPT: Final = 1_000

Aside = Callable[[Callable[[], str]], Awaitable[str]]


class Bindings:
    """One per home."""

    def __init__(self, keys: HomeKeys, aside: Aside) -> None:
        self._keys = keys
        self._aside = aside
        self._kept: Bounded[tuple[RoomId, KeyId], str] = Bounded(MAX_KEPT)
        self._computing = trio.Lock()
        """Held while one is computed: several at a time would take several times the memory."""

    async def of(self, room: RoomId, session_key: str) -> str:
        """What binds this key to this room."""
        known = (room, self._keys.key_id(session_key))
        async with self._computing:
            binding = self._kept.get(known)
            if binding is None:
                binding = await self._aside(lambda: self._keys.binding(room, session_key))
                self._kept[known] = binding
        return binding
