"""The bytes that wait to be sent on one connection, with a bound: a reader that stalls is cut off and slows nobody.

Not here: what the bytes are (`wire.peer`). Above: `connection`. Invariants: bytes leave in the order in which they were
given; `send` never waits; once `broken` is set, nothing is kept.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import trio

CAP: Final = 4 * 1024 * 1024
"""How many bytes may wait; one more frame then cuts the reader off. With the largest frame on top, 12 MiB wait at
most."""
LOW: Final = 256 * 1024
"""A stream sends its next item when fewer bytes than this wait. So only the answers of calls can reach the cap."""
STALL_SECONDS: Final = 30.0
"""How long a reader may take no byte while bytes wait for it."""


class Outbound:
    """The sending half of a connection. One task calls `run`; any task calls `send`."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        cap: int = CAP,
        stall_seconds: float = STALL_SECONDS,
        told: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        self._sock = sock
        # Hears of everything that is to be sent.
        self._told = told
        self._cap = cap
        self._stall_seconds = stall_seconds
        # The bytes that the kernel has not taken yet, in order.
        self._waiting = bytearray()
        # Wakes `run`: there are bytes to send, or nothing more will come.
        self._work = trio.Event()
        # Wakes `drained`: the kernel took some bytes, or nothing can be sent any more.
        self._room = trio.Event()
        # Whether `run` returns once everything is sent.
        self._closing = False
        self.broken = trio.Event()
        """Set once nothing can be sent any more: the other side is gone or was too slow."""

    @property
    def pending(self) -> int:
        """How many bytes were given to `send` and not taken by the kernel yet."""
        return len(self._waiting)

    def send(self, data: bytes, *, soon: bool = False) -> None:
        """Send `data`, at once if the kernel takes it. With `soon` it waits for the end of this turn of the loop, so
        that it leaves together with what else becomes ready."""
        if self.broken.is_set():
            return
        self._told(data)
        if not self._waiting and not soon:
            sent = self._try(data)
            if sent == len(data):
                return
            data = data[sent:]
        if len(self._waiting) > self._cap:
            self._break()
            return
        self._waiting += data
        self._work.set()

    async def drained(self, below: int = LOW) -> None:
        """Wait until fewer than `below` bytes wait, or nothing can be sent any more."""
        while len(self._waiting) >= below and not self.broken.is_set():
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
                continue
            if self._flush():
                continue
            with trio.move_on_after(self._stall_seconds) as limit:
                await trio.lowlevel.wait_writable(self._sock)
            # Linux calls a Unix socket writable only when three quarters of its buffer are free. A slow reader may have
            # freed less than that, which only a try shows.
            if limit.cancelled_caught and not self._flush():
                self._break()

    def _flush(self) -> bool:
        """Send as much as the kernel takes now; False when it takes nothing."""
        with memoryview(self._waiting) as view:
            sent = self._try(view[: 1 << 18])
        if sent == 0:
            return False
        del self._waiting[:sent]
        self._room.set()
        return True

    def _try(self, data: bytes | memoryview) -> int:
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self._break()
            return len(data)

    def _break(self) -> None:
        # The old bytearray cannot be emptied, because `_flush` may hold a view of it while it calls this.
        self._waiting = bytearray()
        self.broken.set()
        self._work.set()
        self._room.set()
