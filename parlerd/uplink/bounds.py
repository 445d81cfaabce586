"""How much of rooms elsewhere is kept here: the words of the newest messages, of each room and of all together.

    a mirror takes messages in -> `note` counts -> after every 256 of them, or at the start: the oldest words go

Words alone are erased. The headers stay, at 0.85 kB a message (measured), because the numbers of readers, the public
line, what was asked under which idempotency key, and the chain of the log all rest on them. A reader that comes to
words that are gone is told them by the room's home (`engine.absent`), so what nobody here has read yet goes like
everything else.

Where all mirrors together are too large, the largest of them gives first: a home that floods its own rooms takes
nothing from the rooms of another.

Not here: what is shown in the place of words that are gone. Above: `uplinks` runs it, `mirrors` tells it what came.
Below: the library. Invariant: nothing waits for this, and one write erases a bounded number of messages.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Position, RoomId
from parlerd.engine.library import Library
from parlerd.settings import Settings
from parlerd.store.port import EraseBodies, Held

log = logging.getLogger(__name__)

EVERY: Final = 256
"""Messages that come in before the bounds are looked at again."""
CHUNK: Final = 256
"""Messages that are erased in one write: some 5 ms of the writer's thread."""


class Bounds:
    """One for all mirrors of a home."""

    def __init__(self, library: Library, settings: Settings, own: HomeId) -> None:
        self._library = library
        self._own = own
        self._messages = settings.mirror_room_messages
        self._bytes = settings.mirror_room_bytes
        self._total = settings.mirror_total_bytes
        self._held: dict[RoomId, Held] = {}
        """What each mirror holds, of those that were counted."""
        self._noted = 0
        """Messages that came in since the bounds were last looked at."""
        self._due = trio.Event()
        """Set when the bounds are to be looked at. Made anew each time."""

    def note(self, room: RoomId, size: int) -> None:
        """A mirror took in a message whose body has so many bytes."""
        held = self._held.get(room, Held())
        self._held[room] = Held(held.messages + 1, held.bytes + size)
        self._noted += 1
        if self._noted >= EVERY:
            self._due.set()

    async def run(self) -> None:
        """Keep the bounds until this is cancelled."""
        for room in await self._library.rooms_elsewhere(self._own):
            # What came in while this was asked is counted twice, or not at all: a few messages, until the next start.
            self._held[room] = await self._library.held(room)
        while True:
            self._due, self._noted = trio.Event(), 0
            try:
                await self._keep()
            except ParlerError as error:
                # On a full disk nothing can be erased either. It is tried again when more came in.
                log.warning("nothing of rooms elsewhere could be erased: %s", error.code)
            await self._due.wait()

    async def _keep(self) -> None:
        for room in list(self._held):
            while self._exceeds(self._held[room]) and await self._erase(room):
                pass
        while self._total and sum(held.bytes for held in self._held.values()) > self._total:
            largest = max(sorted(self._held), key=lambda room: self._held[room].bytes)
            if not await self._erase(largest, total=True):
                # Nothing is left there, so this was counted wrongly.
                del self._held[largest]

    def _exceeds(self, held: Held) -> bool:
        return bool(self._messages and held.messages > self._messages) or bool(self._bytes and held.bytes > self._bytes)

    async def _erase(self, room: RoomId, *, total: bool = False) -> bool:
        """Erase the oldest words of a room, until it keeps its own bound or (`total`) that of all is kept, and not more
        than one write may; whether there were any."""
        oldest = await self._library.oldest_bodies(room, CHUNK)
        # Taken now: more may have come in while the store was asked.
        held = self._held[room]
        others = sum(each.bytes for each in self._held.values()) - held.bytes
        positions: list[Position] = []
        for position, size in oldest:
            if others + held.bytes <= self._total if total else not self._exceeds(held):
                break
            positions.append(position)
            held = Held(held.messages - 1, held.bytes - size)
        if positions:
            await self._library.record([EraseBodies(room, positions)])
            now = self._held[room]
            freed = sum(size for _, size in oldest[: len(positions)])
            self._held[room] = Held(now.messages - len(positions), now.bytes - freed)
            log.info("erased the words of %d older messages of room %s, which its home has", len(positions), room)
        return bool(positions)
