"""A message stream over a WebSocket: the same class at the end that dials and at the end that is dialled.

Pings find a peer that is gone without a word within 45 seconds. Not here: how the WebSocket came to be
(`parlerd.uplink.dial`, `relay.door`), TLS, HTTP. Below: `websockets`, of which only what both ends share is used here.
Invariant: nothing of `websockets` but cancellation passes what is offered here: an end of any sort is None, or
`StreamEnded`.
"""

from __future__ import annotations

import logging
from typing import Final, TypedDict

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.connection import Connection

from parlerd.connections.stream import StreamEnded

PING_SECONDS: Final = 15.0
"""How often each end asks whether the other is there, and how long the other may take to say so."""
CLOSE_SECONDS: Final = 2.0
"""How long the other side may take to agree that the stream is closed."""
_NOT_BINARY: Final = 1003
"""The close code for a text message. Source: RFC 6455, 7.4.1."""
QUEUE: Final = 4
"""How many messages are kept that came and were not received yet; more are left to the network."""


QUIET: Final = logging.getLogger("parlerd.websocket")
"""What the library logs to. It never shows frames, whatever is asked of the other loggers: words are in them."""
QUIET.setLevel(logging.WARNING)


class Keeping(TypedDict):
    """What the library is told of every connection."""

    ping_interval: float
    ping_timeout: float
    close_timeout: float
    max_queue: int


KEEPING: Final[Keeping] = {
    "ping_interval": PING_SECONDS,
    "ping_timeout": PING_SECONDS,
    "close_timeout": CLOSE_SECONDS,
    "max_queue": QUEUE,
}


class WebSocketStream:
    """A WebSocket that is open, as a `MessageStream`. Whoever made the connection owns its tasks."""

    def __init__(self, connection: Connection, certificate: bytes) -> None:
        self._connection = connection
        self.certificate = certificate
        """See `MessageStream`."""

    @property
    def limit(self) -> int:
        """See `MessageStream`."""
        limit = self._connection.protocol.max_message_size
        assert limit is not None
        return limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._connection.protocol.max_message_size = value

    @property
    def close_code(self) -> int | None:
        """See `MessageStream`."""
        return self._connection.close_code

    async def send(self, message: bytes) -> None:
        """See `MessageStream`."""
        try:
            await self._connection.send(message)
        except ConnectionClosed:
            raise StreamEnded from None

    async def receive(self) -> bytes | None:
        """See `MessageStream`."""
        try:
            message = await self._connection.recv()
        except ConnectionClosed:
            return None
        if isinstance(message, str):
            await self.close(_NOT_BINARY)
            return None
        return message

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `MessageStream`."""
        # The library's own limit begins once the close is sent, and a peer that takes nothing lets nothing be sent.
        with trio.move_on_after(2 * CLOSE_SECONDS, shield=True):
            await self._connection.aclose(code, reason)
            return
        await trio.aclose_forcefully(self._connection.stream)
