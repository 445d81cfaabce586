"""The frames that wait to be sent over a message stream, with a bound: a reader that stalls is cut off, slows nobody.

What a turn of the event loop brings leaves as one message, up to `RUN_LIMIT`: an answer, say, and the item that tells
of the same commit. It is written when the turn is over, without a task; a task waits only for a network that does not
take everything at once. Not here: what the frames are (`wire`). Above: `relay.link`, `parlerd.uplink.connection`.
Below: `stream`. Invariants: frames leave whole and in the order in which they were given; `send` never waits; once
`is_broken`, nothing is kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from parlerd.connections.stream import RUN_LIMIT, MessageStream, StreamEnded

CAP: Final = 4 * 1024 * 1024
"""How many bytes may wait; one more frame then cuts the reader off. With the largest frame on top, 12 MiB wait at
most."""
LOW: Final = 256 * 1024
"""A stream sends its next item when fewer bytes than this wait. So only the answers of calls can reach the cap."""
STALL_SECONDS: Final = 30.0
"""How long a reader may take for one message, beside the time that the message takes at `SLOWEST`."""
SLOWEST: Final = 16 * 1024
"""Bytes a second. A reader that takes fewer is cut off."""


_due: Final = trio.lowlevel.RunVar[list["Outgoing"]]("due")
"""Those that have something to send at the end of this turn, in one run of the event loop."""


def at_the_end_of_the_turn(out: Outgoing) -> None:
    """Flush `out` when this turn of the loop is over, together with all others: one more turn for all of them."""
    try:
        due = _due.get()
    except LookupError:
        due = []
        _due.set(due)
    if not due:
        trio.lowlevel.current_trio_token().run_sync_soon(_flush_all, due)
    due.append(out)


def _flush_all(due: list[Outgoing]) -> None:
    outs = due.copy()
    due.clear()
    for out in outs:
        out.flush()


class Outgoing:
    """The sending half of a link. Any task calls `send`, within the block of `sending`."""

    def __init__(
        self,
        stream: MessageStream,
        *,
        cap: int = CAP,
        stall_seconds: float = STALL_SECONDS,
        broken: Callable[[], None] = lambda: None,
    ) -> None:
        # Where a task waits for a network that is slow.
        self._nursery: trio.Nursery | None = None
        self._stream = stream
        self._cap = cap
        self._stall_seconds = stall_seconds
        # Hears that nothing can be sent any more.
        self._told = broken
        # The frames that no message was made of yet, in order.
        self._waiting: deque[bytes] = deque()
        # The bytes of these and of the message that the network did not take yet.
        self._pending = 0
        # Whether a message is with the stream that the network did not take yet.
        self._is_slow = False
        # Wakes `drained`: a message was sent, or nothing can be sent any more. There is one while somebody waits.
        self._room: trio.Event | None = None
        self.is_broken = False
        """Whether nothing can be sent any more: the other side is gone or was too slow, or the block is over."""

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send until the block ends. What waits then is thrown away."""
        async with trio.open_nursery() as self._nursery:
            try:
                yield
            finally:
                self._told = lambda: None
                if not self.is_broken:
                    self._break()
                self._nursery.cancel_scope.cancel()

    @property
    def pending(self) -> int:
        """How many bytes were given to `send` and not taken by the network yet."""
        return self._pending

    def send(self, data: bytes, *, soon: bool = False) -> None:
        """Send whole frames after what waits. They leave at the end of this turn of the loop, with or without
        `soon`."""
        if self.is_broken:
            return
        if self._pending > self._cap:
            self._break()
            return
        if not self._waiting and not self._is_slow:
            at_the_end_of_the_turn(self)
        self._waiting.append(data)
        self._pending += len(data)

    async def drained(self, below: int = LOW) -> None:
        """Wait until fewer than `below` bytes wait, or nothing can be sent any more."""
        while self._pending >= below and not self.is_broken:
            if self._room is None:
                self._room = trio.Event()
            await self._room.wait()

    def flush(self) -> None:
        """Send what waits, as much as the network takes now."""
        while self._waiting and not self._is_slow:
            message = self._run_of_frames()
            try:
                is_through = self._stream.put(message)
            except StreamEnded:
                self._break()
                return
            if is_through:
                self._sent(len(message))
            else:
                self._is_slow = True
                assert self._nursery is not None
                self._nursery.start_soon(self._wait, len(message))

    async def _wait(self, size: int) -> None:
        """Wait for the network to take a message, then send what came meanwhile."""
        sent = False
        with trio.move_on_after(self._stall_seconds + size / SLOWEST):
            try:
                await self._stream.flushed()
                sent = True
            except StreamEnded:
                pass
        if self.is_broken:
            return
        if not sent:
            self._break()
            return
        self._is_slow = False
        self._sent(size)
        self.flush()

    def _sent(self, size: int) -> None:
        self._pending -= size
        self._wake()

    def _wake(self) -> None:
        if self._room is not None:
            self._room.set()
            self._room = None

    def _run_of_frames(self) -> bytes:
        """The next message: as many of the waiting frames as one may hold."""
        waiting = self._waiting
        frames = [waiting.popleft()]
        size = len(frames[0])
        while waiting and size + len(waiting[0]) <= RUN_LIMIT:
            frames.append(waiting.popleft())
            size += len(frames[-1])
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _break(self) -> None:
        self.is_broken = True
        self._waiting.clear()
        self._pending = 0
        self._wake()
        self._told()
