"""A message stream over a WebSocket: the same class at the end that dials and at the end that is dialled.

`websockets` says what the bytes mean, as a state machine; this module moves the bytes, and has no task of its own.
Whoever receives also answers pings and hears the close. An end that heard nothing for `PING_SECONDS` asks for a word,
and gives the other up when none comes, so a peer that is gone without a word is found within 45 seconds. Not here: how
the WebSocket came to be (`dial`, `relay.door`), TLS, HTTP. Below: `transport`, and of `websockets` only what both ends
share. Invariants: nothing of `websockets` but cancellation passes what is offered here: an end of any
sort is None, or `StreamEnded`; what somebody sends without reading the answers costs a bounded amount of memory.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct
from typing import Final

import trio
from websockets.frames import DATA_OPCODES, CloseCode, Frame, Opcode
from websockets.protocol import Event, Protocol, Side, State

from parlerd.connections.stream import StreamEnded
from parlerd.connections.transport import CHUNK, Transport

PING_SECONDS: Final = 15.0
"""How long each end hears nothing before it asks whether the other is there, and how long the other may then take to
send anything."""
CLOSE_SECONDS: Final = 2.0
"""How long the other side may take to agree that the stream is closed."""
MAX_PARTS: Final = 1_024
"""In how many fragments a message may come. This program sends every message in one."""
MAX_REST: Final = 1024 * 1024
"""Bytes that are read after a mistake, so that the other side hears what was wrong. Whoever sends on is cut off."""
_BROKEN_OFF: Final = 1006
"""The close code where none came. Source: RFC 6455, 7.4.1."""
_NOT_BINARY: Final = 1003
"""The close code for a text message. Source: RFC 6455, 7.4.1."""


_BINARY: Final = 0x82
"""The first byte of a binary message that is one frame. Source: RFC 6455, 5.2."""
_SHORT: Final = Struct(">BB")
_MEDIUM: Final = Struct(">BBH")
_LONG: Final = Struct(">BBQ")


QUIET: Final = logging.getLogger("parlerd.websocket")
"""What the library logs to. It never shows frames, whatever is asked of the other loggers: words are in them."""
QUIET.setLevel(logging.WARNING)


class WebSocketStream:
    """A WebSocket that is open, as a `MessageStream`."""

    def __init__(
        self, transport: Transport, protocol: Protocol, certificate: bytes, first: Iterable[Event] = ()
    ) -> None:
        """`first` is what came together with the end of the handshake."""
        self._transport = transport
        self._protocol = protocol
        self.certificate = certificate
        """See `MessageStream`."""
        # The messages that came and were not received yet: of one read at most.
        self._inbox: deque[bytes] = deque()
        # The fragments of a message whose end did not come yet.
        self._parts: list[bytes] = []
        # Whether a word was asked for because none came.
        self._is_asked = False
        # Whether some task reads, so that no other may.
        self._is_reading = False
        # Whether nothing can be received or sent any more, and what tells whoever closes.
        self._is_over = False
        self._over: trio.Event | None = None
        self._take(first)

    @property
    def limit(self) -> int:
        """See `MessageStream`."""
        limit = self._protocol.max_message_size
        assert limit is not None
        return limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._protocol.max_message_size = value

    @property
    def close_code(self) -> int | None:
        """See `MessageStream`."""
        if not self._is_over:
            return None
        told = self._protocol.close_rcvd
        return _BROKEN_OFF if told is None else int(told.code)

    # -- sending -------------------------------------------------------------------------------------------

    def put(self, message: bytes) -> bool:
        """See `MessageStream`."""
        if self._is_over or self._protocol.state is not State.OPEN:
            raise StreamEnded
        if self._protocol.side is Side.CLIENT:
            self._protocol.send_binary(message)
            return self._write()
        # What a relay sends to many is made here: a server's frame has no mask, and the library takes three times as
        # long for the same bytes.
        try:
            return self._transport.write(_frame(message))
        except OSError:
            self._end()
            raise StreamEnded from None

    async def flushed(self) -> None:
        """See `MessageStream`."""
        try:
            await self._transport.flushed()
        except (OSError, trio.ClosedResourceError):
            self._end()
            raise StreamEnded from None

    def _write(self) -> bool:
        """Send what the protocol has to say. Whether the network took all of it. Raises `StreamEnded`."""
        is_through = True
        try:
            for data in self._protocol.data_to_send():
                if data:
                    is_through = self._transport.write(data)
                else:
                    self._transport.end()
        except OSError:
            self._end()
            raise StreamEnded from None
        return is_through

    # -- receiving -----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | None:
        """See `MessageStream`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        # Whether others ran since this was called, and since the last bytes were taken.
        waited = rested = False
        while not self._inbox and not self._is_over:
            if self._is_reading:
                # Whoever closes the stream hears it out.
                await self._until_over()
                waited = True
            elif await self._hear():
                waited = rested = True
            elif rested:
                rested = False
            else:
                # Who sends much that is no message holds nobody up.
                await trio.lowlevel.checkpoint()
                waited = True
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self._inbox.popleft() if self._inbox else None

    async def _hear(self) -> bool:
        """Take in what comes next. Whether that let others run. Raises nothing but cancellation."""
        self._is_reading = True
        try:
            data = self._transport.read()
            if data is None:
                with trio.move_on_after(PING_SECONDS) as patience:
                    await self._transport.readable()
                if patience.cancelled_caught:
                    self._ask()
                return True
            self._is_asked = False
            if not data:
                self._end()
                return False
            self._protocol.receive_data(data)
            self._take(self._protocol.events_received())
            if self._write():
                return False
            # Whoever asks and takes no answers is heard no further.
            with trio.move_on_after(PING_SECONDS) as patience:
                await self.flushed()
            if patience.cancelled_caught:
                self._end()
        except (OSError, trio.ClosedResourceError, StreamEnded):
            self._end()
            return False
        else:
            return True
        finally:
            self._is_reading = False

    def _take(self, events: Iterable[Event]) -> None:
        for event in events:
            if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES or self._is_over:
                continue
            if event.opcode is Opcode.TEXT:
                self._fail(_NOT_BINARY)
            elif not event.fin or self._parts:
                self._parts.append(bytes(event.data))
                if event.fin:
                    self._inbox.append(b"".join(self._parts))
                    self._parts = []
                elif len(self._parts) > MAX_PARTS:
                    self._fail(CloseCode.MESSAGE_TOO_BIG)
            else:
                self._inbox.append(bytes(event.data))
        if self._protocol.close_rcvd is not None or self._protocol.parser_exc is not None:
            self._be_over()

    def _fail(self, code: int) -> None:
        self._protocol.fail(code)
        self._be_over()

    def _ask(self) -> None:
        """Nothing came for a while."""
        if self._is_asked:
            self._end()
            return
        self._is_asked = True
        self._protocol.send_ping(b"")
        self._write()

    # -- the end -------------------------------------------------------------------------------------------

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """See `MessageStream`."""
        with (
            trio.move_on_after(2 * CLOSE_SECONDS, shield=True),
            suppress(StreamEnded, OSError, trio.ClosedResourceError),
        ):
            if self._protocol.state is State.OPEN and not self._transport.is_closed:
                self._protocol.send_close(code, reason)
                self._write()
            await self._transport.flushed()
            with trio.move_on_after(CLOSE_SECONDS):
                await self._heard_out()
        self._end()
        await trio.lowlevel.checkpoint()

    async def _heard_out(self) -> None:
        """Wait until the other side closes too, or is gone."""
        while not self._is_over:
            if self._is_reading:
                await self._until_over()
            else:
                await self._hear()
                self._inbox.clear()
        if self._protocol.close_rcvd is None:
            # This end found a mistake, and said so. What still comes is thrown away: a socket that is closed while
            # something waits in it breaks off, and what was said last may be lost.
            for _ in range(MAX_REST // CHUNK):
                if not await self._transport.receive():
                    break

    async def _until_over(self) -> None:
        self._over = self._over or trio.Event()
        await self._over.wait()

    def _be_over(self) -> None:
        self._is_over = True
        if self._over is not None:
            self._over.set()

    def _end(self) -> None:
        """Nothing can be received or sent any more."""
        self._be_over()
        self._transport.close()


def _frame(message: bytes) -> bytes:
    """A binary message as one frame without a mask. Source: RFC 6455, 5.2."""
    size = len(message)
    if size < 126:
        return _SHORT.pack(_BINARY, size) + message
    if size < 1 << 16:
        return _MEDIUM.pack(_BINARY, 126, size) + message
    return _LONG.pack(_BINARY, 127, size) + message
