"""A test's end of the local socket, on trio: says what it is told, byte for byte if need be, and hears what comes."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import trio

from parlerd.core.errors import ParlerError
from parlerd.engine.face import EngineFace
from parlerd.ipc.connection import Limits
from parlerd.ipc.host import StdioHost
from parlerd.ipc.recorder import Recorder
from parlerd.ipc.server import Server
from parlerd.listener import listening
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.paths import Home, prepare
from parlerd.wire import codec
from parlerd.wire.messages import HOST_PROTOCOL, PROTOCOL, Failure, Goodbye, Hello, Item, Reply, Welcome
from parlerd.wire.peer import ClientPeer, DaemonEvent
from tests.support.callers import PERSON


@contextlib.contextmanager
def short_home() -> Iterator[Home]:
    """A prepared home whose path is short enough for a socket, wherever the tests run."""
    with tempfile.TemporaryDirectory(prefix="parler-") as directory:
        home = Home(root=Path(directory) / "home", explicit=True)
        prepare(home)
        yield home


async def no_windows(*_: object) -> None:
    """A stdio host that ends at once."""


@contextlib.asynccontextmanager
async def serving(
    engine: EngineFace,
    stdio_host: StdioHost = no_windows,
    *,
    limits: Limits | None = None,
    version: str = "1.0",
    recorder: Recorder | None = None,
) -> AsyncIterator[tuple[Server, Home]]:
    """A server on a real socket in a home of its own, until the block ends."""
    with short_home() as home, listening(home) as sock:
        server = Server(engine, stdio_host, version=version, limits=limits, principal=PERSON, recorder=recorder)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, sock)
            yield server, home
            nursery.cancel_scope.cancel()


class WireClient:
    """One connection. `events` is what came and was not asked for yet."""

    def __init__(self, home: Home, path: str = "") -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path or str(home.socket))
        self.sock.setblocking(False)
        self.peer = ClientPeer()
        self.events: list[DaemonEvent] = []
        self.ended = False

    def __enter__(self) -> WireClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        """Send all of it. Raises BrokenPipeError or ConnectionResetError when the daemon has hung up."""
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def hand(self, data: bytes, *descriptors: int) -> None:
        """Send all of it, and hand files over with its first byte."""
        sent = socket.send_fds(self.sock, [data], descriptors)
        await self.send(data[sent:])

    async def receive(self) -> DaemonEvent | None:
        """The next event; None when the daemon has hung up."""
        while not self.events:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                self.ended = True
                return None
            self.events += self.peer.receive(data)
        return self.events.pop(0)

    async def receive_raw(self) -> dict[str, Any]:
        """The next frame, read by the other msgpack library, for what this end's peer would not accept."""
        assert not self.events
        data = bytearray()
        while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
            await trio.lowlevel.wait_readable(self.sock)
            data += self.sock.recv(4 + int.from_bytes(data[:4], "big") - len(data) if len(data) >= 4 else 4 - len(data))
        unpacked: dict[str, Any] = msgpack.unpackb(bytes(data[4:]))
        return unpacked

    async def hello(self, **fields: object) -> Welcome | Goodbye | None:
        of_a_host = fields.get("role") == "stdio" or fields.get("hook")
        hello = {"protocol": HOST_PROTOCOL if of_a_host else PROTOCOL, "version": "1.0", "role": "client", **fields}
        await self.send(self.peer.hello(Hello(**hello)))  # type: ignore[arg-type]  # tests name the fields
        event = await self.receive()
        assert event is None or isinstance(event, (Welcome, Goodbye))
        return event

    async def begin(self, op: str, params: t.Params) -> int:
        id, data = self.peer.call(op, codec.encode(params))
        await self.send(data)
        return id

    async def call(self, op: str, params: t.Params) -> t.Result:
        """Call and wait; other events are kept. Raises the failure, or `connection_lost`."""
        id = await self.begin(op, params)
        return await self.answer(op, id)

    async def answer(self, op: str, id: int) -> t.Result:
        kept: list[DaemonEvent] = []
        try:
            while True:
                event = await self.receive()
                if event is None:
                    raise ParlerError("connection_lost")
                if isinstance(event, Goodbye):
                    raise ParlerError.from_body(event.error)
                if isinstance(event, (Reply, Failure)) and event.id == id:
                    break
                kept.append(event)
        finally:
            self.events = kept + self.events
        if isinstance(event, Failure):
            raise ParlerError.from_body(event.error)
        return result_of(op, event)


def result_of(op: str, event: Reply | Item) -> t.Result:
    raw = event.item if isinstance(event, Item) else event.result
    return codec.Shape[t.Result](OPERATIONS[op].result).decode(raw)


@contextlib.asynccontextmanager
async def connected(engine: EngineFace, **how: Any) -> AsyncIterator[WireClient]:
    """A client that said hello to a server of its own; `how` is for the server."""
    async with serving(engine, **how) as (_, home):
        with WireClient(home) as client:
            await client.hello()
            yield client


async def expect_goodbye(client: WireClient, code: str) -> None:
    """The daemon says goodbye with `code` and hangs up."""
    event = await client.receive()
    assert isinstance(event, Goodbye), event
    assert event.error.code == code
    assert await client.receive() is None
