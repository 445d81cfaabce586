"""A connected socket, with TLS or without, whose bytes are written at once where the network takes them.

Writing needs no task and no turn of the event loop: `write` hands over what the kernel takes now, and keeps the rest.
TLS works on the socket itself and not on buffers in between, which would be copied once more and stay as large as they
ever were. Not here: what the bytes mean (`websocket`, and the relay's door). Below: `ssl`, trio's waits. Invariants:
bytes leave whole and in the order in which they were given; `write` never waits; nothing is kept while the connection
is idle.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from typing import Final

import trio

CHUNK: Final = 16 * 1024
"""Bytes that are read at once: as many as one record of TLS holds."""
_NOT_NOW: Final = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError, InterruptedError)


class Transport:
    """One connection. One task at a time reads; any task writes, and any task waits until what was written is gone."""

    def __init__(self, stream: trio.SocketStream) -> None:
        """Take over the socket of a stream, which is of no use after that."""
        self._sock: socket.socket = socket.socket(fileno=stream.socket.detach())
        self._sock.setblocking(False)
        # What the kernel did not take yet. A TLS record that was begun is tried again with the same bytes, so each
        # piece stays as it was given; of a piece without TLS, the rest alone stays.
        self._waiting: deque[bytes | memoryview] = deque()
        # Whether some task waits until the kernel takes more; the others wait for `_progress`.
        self._is_flushing = False
        self._progress: trio.Event | None = None
        # Whether the writing half ends once nothing waits.
        self._is_ending = False
        self.is_closed = False
        """Whether the socket is closed, or of no use any more."""

    async def secure(self, context: ssl.SSLContext, *, is_server: bool) -> bytes:
        """Speak TLS from here on. Gives the certificate that the other side showed, in DER. Raises `OSError`, of which
        `ssl.SSLError` is one."""
        secured = context.wrap_socket(
            self._sock, server_side=is_server, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._sock = secured
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await trio.lowlevel.wait_readable(secured)
            except ssl.SSLWantWriteError:
                await trio.lowlevel.wait_writable(secured)
            else:
                await trio.lowlevel.checkpoint()
                return secured.getpeercert(binary_form=True) or b""

    # -- reading -------------------------------------------------------------------------------------------

    def read(self) -> bytes | None:
        """What came, up to `CHUNK`; empty at the end; None where nothing came yet. Raises `OSError`."""
        if self.is_closed:
            return b""
        try:
            return self._sock.recv(CHUNK)
        except _NOT_NOW:
            return None

    async def readable(self) -> None:
        """Wait until something may have come. Raises `trio.ClosedResourceError` where this end is closed meanwhile."""
        if self.is_closed:
            raise trio.ClosedResourceError
        await trio.lowlevel.wait_readable(self._sock)

    async def receive(self) -> bytes:
        """The next bytes; empty at the end. Raises `OSError` and `trio.ClosedResourceError`."""
        await trio.lowlevel.checkpoint()
        while (data := self.read()) is None:
            await self.readable()
        return data

    # -- writing -------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> bool:
        """Send `data` after what waits. True where nothing waits any more. Raises `OSError` where the other side is
        gone."""
        self._waiting.append(data)
        return len(self._waiting) == 1 and self._push()

    async def flushed(self) -> None:
        """Wait until nothing waits to be sent. Raises `OSError` where the other side is gone, and
        `trio.ClosedResourceError` where this end is closed."""
        await trio.lowlevel.checkpoint()
        while not self.is_closed and not self._push():
            if self._is_flushing:
                # One task alone may wait for a socket.
                if self._progress is None or self._progress.is_set():
                    self._progress = trio.Event()
                await self._progress.wait()
                continue
            self._is_flushing = True
            try:
                await trio.lowlevel.wait_writable(self._sock)
            finally:
                self._is_flushing = False
                self._tell()
        if self.is_closed:
            raise trio.ClosedResourceError

    def end(self) -> None:
        """Send nothing after what waits: the other side reads to the end. Reading goes on."""
        self._is_ending = True
        self._push()

    def _push(self) -> bool:
        """Hand over what the kernel takes now. Whether nothing waits any more."""
        waiting = self._waiting
        while waiting:
            data = waiting[0]
            try:
                sent = self._sock.send(data)
            except _NOT_NOW:
                return False
            if sent < len(data):
                waiting[0] = memoryview(data)[sent:]
            else:
                waiting.popleft()
        if self._is_ending and not self.is_closed:
            self._is_ending = False
            # The method of the socket below TLS: that of TLS forgets the keys, and with them what still comes.
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        return True

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress.set()

    def close(self) -> None:
        """Let go of the socket. Whoever waits for it is woken."""
        if not self.is_closed:
            self.is_closed = True
            self._waiting.clear()
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
            self._tell()
