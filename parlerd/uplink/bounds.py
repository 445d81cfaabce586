"""How much of rooms elsewhere is kept here: the words of the newest messages, of each room and of all together.

    a mirror takes messages in -> `note` counts -> after every 256 of them, or at the start: the oldest words go

Words alone are erased. The headers stay, at 0.85 kB a message (measured), because the numbers of readers, the public
line, what was asked under which idempotency key, and the chain of the log all rest on them. A reader that comes to
words that are gone is told them by the room's home (`engine.absent`), so what nobody here has read yet goes like
everything else.

What is nowhere else stays, and counts for nothing: rooms whose home contradicted itself, began anew or was taken out,
and what a home lost before its room was rewound. Such a mirror takes nothing more in, so it does not grow.

Where all mirrors together are too large, the largest of them gives first: a home that floods its own rooms takes
nothing from the rooms of another.

Not here: what is shown in the place of words that are gone. Above: `uplinks` runs it, `mirrors` tells it what came.
Below: the library. Invariant: nothing waits for this, and one write erases a bounded number of messages.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import HomeId, Position, RoomId
from parlerd.engine.desk import Desk
from parlerd.engine.handles import ForsakenRoom
from parlerd.store.port import EraseBodies, Held

log = logging.getLogger(__name__)

EVERY: Final = 256
"""Messages that come in before the bounds are looked at again."""
CHUNK: Final = 256
"""Messages that are erased in one write: some 5 ms of the writer's thread."""


class Bounds:
    """One for all mirrors of a home."""

    def __init__(self, desk: Desk, own: HomeId) -> None:
        self._desk = desk
        self._own = own
        self._messages = desk.settings.mirror_room_messages
        self._bytes = desk.settings.mirror_room_bytes
        self._total = desk.settings.mirror_total_bytes
        self._held: dict[RoomId, Held] = {}
        """What each mirror holds that could be erased, of those that were counted."""
        self._after: dict[RoomId, Position] = {}
        """Up to where a mirror holds nothing more that could be erased."""
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

    def note_erased(self, room: RoomId, messages: int, size: int) -> None:
        """So many words went from a mirror because the room's home let them go."""
        if (held := self._held.get(room)) is not None:
            self._held[room] = Held(held.messages - messages, held.bytes - size)

    async def run(self) -> None:
        """Keep the bounds until this is cancelled."""
        await self._guarded(self._count)
        while True:
            self._due, self._noted = trio.Event(), 0
            await self._guarded(self._keep)
            await self._due.wait()

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of the work. Where it fails, no link ends: on a full disk nothing can be erased either, and a store
        that is damaged says so to whoever writes. It is tried again when more came in."""
        try:
            await work()
        except ParlerError as error:
            log.warning("the bounds of rooms elsewhere are not kept now: %s", error.code)

    async def _count(self) -> None:
        for room in await self._desk.library.rooms_elsewhere(self._own):
            # What came in while this was asked is counted twice, or not at all: a few messages, until the next start.
            self._held[room] = await self._desk.library.held(room)

    async def _keep(self) -> None:
        for room in list(self._held):
            while self._exceeds(self._held[room]) and await self._erase(room):
                pass
        givers = dict.fromkeys(sorted(self._held))
        while self._total and sum(self._held[room].bytes for room in givers) > self._total:
            largest = max(givers, key=lambda room: self._held[room].bytes)
            if not await self._erase(largest, beside=sum(self._held[room].bytes for room in givers if room != largest)):
                del givers[largest]

    def _exceeds(self, held: Held) -> bool:
        return bool(self._messages and held.messages > self._messages) or bool(self._bytes and held.bytes > self._bytes)

    async def _erase(self, room: RoomId, *, beside: int | None = None) -> bool:
        """Erase the oldest words of a room, until it keeps its own bound, or that of all with so many bytes `beside`,
        and not more than one write may; whether there were any."""
        handle = await self._desk.rooms.get(room)
        state = handle.aggregate.state
        if isinstance(handle, ForsakenRoom) or state.alarm is not None:
            return False
        oldest = await self._desk.library.oldest_bodies(room, self._after.get(room, Position(0)), CHUNK)
        positions: list[Position] = []
        passed = Position(0)
        held = self._held[room]
        for position, size in oldest:
            if beside + held.bytes <= self._total if beside is not None else not self._exceeds(held):
                break
            if not state.rewinds.is_lost(position):
                positions.append(position)
            held, passed = Held(held.messages - 1, held.bytes - size), position
        if not passed:
            return False
        if positions:
            await self._desk.library.record([EraseBodies(room, positions)])
            log.info("erased the words of %d older messages of room %s, which its home has", len(positions), room)
        # More may have come in meanwhile.
        freed = [size for position, size in oldest if position <= passed]
        self._held[room] = Held(self._held[room].messages - len(freed), self._held[room].bytes - sum(freed))
        self._after[room] = passed
        return True
