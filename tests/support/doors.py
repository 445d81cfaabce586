"""A relay's door on the loopback, with a certificate of its own, and what a program from outside sends to it."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from parlerd.connections.stream import MessageStream
from parlerd.core.model import Millis
from relay.certificate import Certificate, keep
from relay.door import Door, Secured, Serves
from relay.turnstile import Visitor

NOW = Millis(1_790_000_000_000)


def run_over_the_network(main: Callable[[], Awaitable[None]]) -> None:
    """Run with a clock that jumps once the loopback has been silent for a while."""

    async def bounded() -> None:
        with trio.fail_after(100_000):
            await main()

    trio.run(bounded, clock=MockClock(autojump_threshold=0.02))


@contextmanager
def certificate(*names: str) -> Iterator[Certificate]:
    with tempfile.TemporaryDirectory(prefix="parler-") as directory:
        yield keep(Path(directory) / "tls", names or ("127.0.0.1",), NOW)


class Handed:
    """In the place of links: hands each stream to the test, and keeps it open until the door is drained."""

    def __init__(self) -> None:
        self._send, self.streams = trio.open_memory_channel[MessageStream](64)
        self._drained = trio.Event()
        self.proves = False
        """Whether each stream counts as proven at once."""

    async def serve(self, stream: MessageStream, visitor: Visitor) -> None:
        if self.proves:
            visitor.proven()
        await self._send.send(stream)
        await self._drained.wait()

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()
        self._drained.set()


class Open:
    """A door that serves."""

    def __init__(self, door: Door, port: int, secured: Secured | None) -> None:
        self.door = door
        self.port = port
        self.secured = secured
        # Every connection from outside, so that none outlives the test.
        self._opened: list[trio.abc.Stream] = []

    @property
    def address(self) -> str:
        scheme = "wss" if self.secured else "ws"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def connect(self, *, tls: bool | None = None, source: str = "127.0.0.1") -> trio.abc.Stream:
        """A connection from outside, with TLS where the door has it."""
        stream: trio.abc.Stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=source)
        self._opened.append(stream)
        if tls if tls is not None else self.secured is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            stream = trio.SSLStream(stream, context, https_compatible=True)
        return stream

    async def close(self) -> None:
        """Let go of every connection from outside."""
        for stream in self._opened:
            await trio.aclose_forcefully(stream)

    async def ask(self, request: bytes) -> bytes:
        """What the door answers to these bytes, up to the end of the connection."""
        stream = await self.connect()
        async with stream:
            try:
                await stream.send_all(request)
                return await everything(stream)
            except trio.BrokenResourceError:
                return b""

    async def upgraded(self, **headers: str) -> trio.abc.Stream:
        """A connection on which a WebSocket was just accepted, for tests that write its bytes themselves."""
        stream = await self.connect()
        await stream.send_all(upgrade(self.port, **headers))
        answer = await until(stream, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        assert b"\r\nserver:" not in answer.lower()
        assert b"extensions" not in answer.lower()
        return stream


def upgrade(port: int, path: str = "/link", **headers: str) -> bytes:
    """A request for a WebSocket. A header that is empty is left out."""
    fields = {
        "Host": f"127.0.0.1:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = [f"{name}: {value}" for name, value in fields.items() if value]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


async def everything(stream: trio.abc.Stream) -> bytes:
    """What comes until the other side hangs up."""
    data = b""
    try:
        while more := await stream.receive_some(65_536):
            data += more
    except trio.BrokenResourceError:
        pass
    return data


async def until(stream: trio.abc.Stream, mark: bytes) -> bytes:
    """What comes up to the first `mark` or the end."""
    data = b""
    while mark not in data and (more := await stream.receive_some(1)):
        data += more
    return data


@asynccontextmanager
async def open_door(
    links: Serves | None, *, tls: bool = True, served: Secured | None = None, **more: Any
) -> AsyncIterator[Open]:
    """A door on a free port of the loopback, until the block ends."""
    with certificate() as made:
        secured = (served or Secured(made.context(), made.digest)) if tls else None
        door = Door(links, secured=lambda: secured, **more)
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(door.serve, listeners)
            opened = Open(door, port, secured)
            try:
                yield opened
            finally:
                await opened.close()
            nursery.cancel_scope.cancel()


def digest_of(stream: trio.SSLStream[Any]) -> bytes:
    """The digest of the certificate that a connection was shown."""
    shown = stream.getpeercert(binary_form=True)
    assert shown is not None
    return hashlib.sha256(shown).digest()
