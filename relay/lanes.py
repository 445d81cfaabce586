"""Many message streams over one: a lane for each daemon, between the relay that it is at and one that has rooms.

    Outgoing of a lane --pieces--> Carrier: one Outgoing --frames--> the stream to the other relay

A lane whose other side reads slowly keeps its own frames, up to the bound of its own `Outgoing`, and ends beyond it.
The carrier itself takes from a lane only while few bytes wait, so what waits for one relay is bounded, however many
lanes there are; a relay that takes nothing at all is cut off like a daemon. Not here: who may open a lane, and what is
said over it (`peers`). Above: `peers`. Below: `connections.outgoing`, `wire.lanes`. Invariants: pieces of a lane arrive
in order and without loss, or the lane ends; a lane that ends lets go of what it kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec
import trio

from parlerd.connections.outgoing import LOW, Outgoing
from parlerd.connections.stream import MessageStream, StreamEnded
from parlerd.wire.calls import pack
from parlerd.wire.lanes import CloseLane, LaneData, pieces

MOST_KEPT: Final = 16 * 1024 * 1024
"""Bytes that came for one lane and that nobody took yet: twice what a daemon may have under way. Beyond it the lane
ends."""
_BROKEN_OFF: Final = 1006


class Carrier:
    """One link to another relay, from the welcome on, and the lanes on it. Use it within `carrying`."""

    def __init__(self, stream: MessageStream, out: Outgoing) -> None:
        self._stream = stream
        self._out = out
        self._lanes: dict[int, LaneStream] = {}
        self.is_over = False
        """Whether no lane can be opened any more."""

    @property
    def lanes(self) -> int:
        """How many lanes are open."""
        return len(self._lanes)

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent."""
        return self._out.pending

    def open(self, lane: int) -> LaneStream:
        """A lane under an id that was never used on this link."""
        found = self._lanes[lane] = LaneStream(self, lane)
        return found

    def say(self, message: msgspec.Struct) -> None:
        """Send one message after all that waits."""
        self._out.send(pack(message))

    async def drained(self, below: int = LOW) -> None:
        """Wait until fewer bytes wait, or nothing can be sent any more."""
        await self._out.drained(below)

    @property
    def is_broken(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._out.is_broken or self.is_over

    def take(self, message: LaneData | CloseLane) -> None:
        """Something came for a lane. Of one that is closed here it may have been on its way."""
        lane = self._lanes.get(message.lane)
        if lane is None:
            return
        if isinstance(message, CloseLane):
            self.forget(lane)
            lane.end()
        elif not lane.hear(message.data):
            self.close(lane)

    def close(self, lane: LaneStream) -> None:
        """End a lane from here."""
        if self.forget(lane) and not self.is_broken:
            self.say(CloseLane(lane=lane.id))
        lane.end()

    def forget(self, lane: LaneStream) -> bool:
        """A lane is over; whether it was open."""
        return self._lanes.pop(lane.id, None) is not None

    def end(self) -> None:
        """The link is over, and every lane with it."""
        self.is_over = True
        for lane in list(self._lanes.values()):
            self.forget(lane)
            lane.end()


@asynccontextmanager
async def carrying(stream: MessageStream, broken: Callable[[], None]) -> AsyncIterator[Carrier]:
    """A carrier over `stream` until the block ends; `broken` is told when nothing can be sent any more."""
    out = Outgoing(stream, broken=broken)
    async with out.sending():
        carrier = Carrier(stream, out)
        try:
            yield carrier
        finally:
            carrier.end()


class LaneStream:
    """One lane, as a `MessageStream`."""

    limit = 0
    """Nothing: what a lane carries is cut into pieces, and its frames are bounded by whoever reads them."""
    certificate = b""
    """Nothing: what was proved was proved on the daemon's own link."""

    def __init__(self, carrier: Carrier, id: int) -> None:
        self._carrier = carrier
        self.id = id
        # The pieces that came and were not taken yet, and their bytes.
        self._inbox: deque[bytes] = deque()
        self._kept = 0
        # Wakes who waits for a piece.
        self._news = trio.Event()
        # What the carrier did not take yet.
        self._late = b""
        self._is_over = False

    @property
    def close_code(self) -> int | None:
        """See `MessageStream`."""
        return _BROKEN_OFF if self._is_over else None

    # -- sending -------------------------------------------------------------------------------------------

    def put(self, message: bytes) -> bool:
        """See `MessageStream`."""
        if self._is_over or self._carrier.is_broken:
            raise StreamEnded
        self._late += message
        if self._carrier.pending >= LOW:
            return False
        self._send()
        return True

    async def flushed(self) -> None:
        """See `MessageStream`."""
        while self._carrier.pending >= LOW and not (self._is_over or self._carrier.is_broken):
            await self._carrier.drained()
        if self._is_over or self._carrier.is_broken:
            raise StreamEnded
        self._send()

    def _send(self) -> None:
        for piece in pieces(self.id, self._late):
            self._carrier.say(piece)
        self._late = b""

    # -- receiving -----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """See `MessageStream`."""
        while not self._inbox:
            if self._is_over:
                return None
            self._news = trio.Event()
            await self._news.wait()
        data = self._inbox.popleft()
        self._kept -= len(data)
        return data

    def hear(self, data: bytes) -> bool:
        """A piece came. False where more is kept than may be."""
        self._inbox.append(data)
        self._kept += len(data)
        self._news.set()
        return self._kept <= MOST_KEPT

    def end(self) -> None:
        """Nothing follows. What came is still there to be taken."""
        self._is_over = True
        self._news.set()

    def shut(self) -> None:
        """`close`, at once."""
        self._inbox.clear()
        self._carrier.close(self)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `MessageStream`."""
        self.shut()
        await trio.lowlevel.checkpoint()


class LaneBytes:
    """A lane as a connection whose bytes have no frames, in place of a `connections.transport.Transport`."""

    def __init__(self, lane: LaneStream) -> None:
        self._lane = lane

    async def receive(self) -> bytes:
        """The next bytes; none where the other side ended."""
        return await self._lane.receive() or b""

    def write(self, data: bytes) -> None:
        """Send bytes. What cannot be sent any more is not."""
        with suppress(StreamEnded):
            self._lane.put(data)

    async def flushed(self) -> None:
        """Wait until few bytes wait. Raises `OSError` where nothing can be sent any more."""
        try:
            await self._lane.flushed()
        except StreamEnded:
            raise BrokenPipeError from None

    def close(self) -> None:
        """Nothing more is sent or taken."""
        self._lane.shut()
