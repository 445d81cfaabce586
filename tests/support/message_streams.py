"""Pairs of message streams in memory, for tests under virtual time.

`tests/contract/test_message_stream.py` holds them to what WebSockets do.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

from parlerd.connections.stream import MessageStream, StreamEnded

NO_CODE: Final = 1006
TOO_BIG: Final = 1009
WINDOW: Final = 4
"""How many messages are on their way before the network takes no more."""


class MemoryStream:
    """One end. `cut` breaks both ends off, as a cable does; `hold` keeps what is sent on its way until `release`."""

    def __init__(self, certificate: bytes, limit: int) -> None:
        self.certificate = certificate
        self.limit = limit
        self.other: MemoryStream
        """The other end."""
        self.sent: list[bytes] = []
        """Every message that this end sent, for tests that look at the bytes."""
        self._code: int | None = None
        # What the other end sent and this end did not receive.
        self._inbox: deque[bytes] = deque()
        # What this end sent and is not on its way yet.
        self._late: deque[bytes] = deque()
        # Whether what this end sends stays on its way.
        self._held = False
        # Set when anything changes that a send or a receive of this end may wait for.
        self._change = trio.Event()

    @property
    def close_code(self) -> int | None:
        return self._code

    def put(self, message: bytes) -> bool:
        if self._code is not None:
            raise StreamEnded
        self._late.append(message)
        return self._deliver()

    async def flushed(self) -> None:
        await trio.lowlevel.checkpoint()
        while self._code is None and self._late:
            await self._changed()
        if self._code is not None:
            raise StreamEnded

    async def send(self, message: bytes) -> None:
        """Put a message and wait until it is on its way."""
        await trio.lowlevel.checkpoint()
        if not self.put(message):
            await self.flushed()

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        while not self._inbox or self.other._held:
            if self._code is not None and not self.other._held:
                return None
            await self._changed()
        message = self._inbox.popleft()
        self.other._deliver()
        return await self._within_limit(message)

    def _deliver(self) -> bool:
        """Send on its way what may leave now. Whether that is everything."""
        while self._late and len(self.other._inbox) < WINDOW and self._code is None:
            self._put(self._late.popleft())
            self._change.set()
        return not self._late

    def _put(self, message: bytes) -> None:
        self.sent.append(message)
        self.other._inbox.append(message)
        self.other._change.set()

    async def _within_limit(self, message: bytes) -> bytes | None:
        if len(message) > self.limit:
            await self.close(TOO_BIG)
            return None
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await trio.lowlevel.checkpoint()
        if self._code is None:
            self._end(code)
            self.other._end(code)
        self._forget()

    def cut(self) -> None:
        """Both ends break off without a word, and what was on its way is lost."""
        for end in (self, self.other):
            end._held = False
            end._forget()
            end._end(NO_CODE)

    def vanish(self) -> None:
        """This end is gone without a word: the other end does not notice."""
        self._forget()
        self._end(NO_CODE)

    def hold(self) -> None:
        """Keep what this end sends on its way, its end too."""
        self._held = True

    def release(self) -> None:
        """Let it arrive."""
        self._held = False
        self.other._change.set()

    def _forget(self) -> None:
        """What the other end sent is lost."""
        self._inbox.clear()
        self.other._late.clear()

    def _end(self, code: int) -> None:
        if self._code is None:
            self._code = code
        self._change.set()

    async def _changed(self) -> None:
        if self._change.is_set():
            self._change = trio.Event()
        await self._change.wait()


def pair(certificate: bytes = b"", limit: int = 1 << 16) -> tuple[MemoryStream, MemoryStream]:
    """Both ends of one stream."""
    one, two = MemoryStream(certificate, limit), MemoryStream(certificate, limit)
    one.other, two.other = two, one
    return one, two


async def send(stream: MessageStream, message: bytes) -> None:
    """Send one message over any stream, and wait until the network took it. Raises `StreamEnded`."""
    if not stream.put(message):
        await stream.flushed()
