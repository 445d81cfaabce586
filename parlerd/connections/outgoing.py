"""The frames that wait to be sent over a message stream, with a bound: a reader that stalls is cut off, slows nobody.

What waits leaves as one message, up to `RUN_LIMIT`: a frame in a message of its own takes several times as long. Not
here: what the frames are (`wire`). Above: `relay.link`, `parlerd.uplink.connection`. Below: `stream`. Invariants:
frames leave whole and in the order in which they were given; `send` never waits; once `broken` is set, nothing is kept.
"""

from __future__ import annotations

from collections import deque
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


class Outgoing:
    """The sending half of a link. One task calls `run`; any task calls `send`."""

    def __init__(self, stream: MessageStream, *, cap: int = CAP, stall_seconds: float = STALL_SECONDS) -> None:
        self._stream = stream
        self._cap = cap
        self._stall_seconds = stall_seconds
        # The frames that are not being sent yet, in order.
        self._waiting: deque[bytes] = deque()
        # The bytes of these and of the message that is being sent.
        self._pending = 0
        # Wakes `run`: there are frames to send, or nothing more will come.
        self._work = trio.Event()
        # Wakes `drained`: a message was sent, or nothing can be sent any more.
        self._room = trio.Event()
        # Whether `run` returns once everything is sent.
        self._closing = False
        self.broken = trio.Event()
        """Set once nothing can be sent any more: the other side is gone or was too slow."""

    @property
    def pending(self) -> int:
        """How many bytes were given to `send` and not taken by the transport yet."""
        return self._pending

    def send(self, data: bytes, *, soon: bool = False) -> None:
        """Send whole frames after what waits. They leave in the next turn of the loop, with or without `soon`."""
        if self.broken.is_set():
            return
        if self._pending > self._cap:
            self._break()
            return
        self._waiting.append(data)
        self._pending += len(data)
        self._work.set()

    async def drained(self, below: int = LOW) -> None:
        """Wait until fewer than `below` bytes wait, or nothing can be sent any more."""
        while self._pending >= below and not self.broken.is_set():
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    def finish(self) -> None:
        """Let `run` return once everything is sent."""
        self._closing = True
        self._work.set()

    async def run(self) -> None:
        """Send what waits until `finish` and all is sent, or until nothing can be sent any more."""
        while not self.broken.is_set():
            if not self._waiting:
                if self._closing:
                    return
                self._work = trio.Event()
                await self._work.wait()
                # Whatever else this turn of the loop brings leaves in the same message: an answer, say, and the items
                # that tell of the same commit. A message costs more than a turn.
                await trio.lowlevel.checkpoint()
                continue
            message = self._run_of_frames()
            sent = False
            with trio.move_on_after(self._stall_seconds + len(message) / SLOWEST):
                try:
                    await self._stream.send(message)
                    sent = True
                except StreamEnded:
                    pass
            if not sent:
                self._break()
                return
            self._pending -= len(message)
            self._room.set()

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
        self._waiting.clear()
        self._pending = 0
        self.broken.set()
        self._work.set()
        self._room.set()
