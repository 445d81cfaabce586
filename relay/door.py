"""The relay's one port: takes connections in, a few at a time, and leads each to where its request belongs.

    accepted   counted at once, before TLS: at most 64 that are not proven, 8 of one address, and so many a second
    TLS        within 5 seconds from here
    head       one request of at most 16 KiB, within the same 5 seconds
    /link      becomes a WebSocket, and `links` serves it: 5 seconds more to its proof
    /healthz, /readyz, and what pages this door has
               are answered, and the connection is closed
    the rest   404

A request must name this relay as its `Host`: an IP address, or a name that the relay is configured with, so that no
page that a browser was led to by another name reaches it. On /link any `Origin` is refused, because no browser has
business there. Not here: what is said over a link (`link`), certificates (`certificate`). Above: the relay's program.
Below: `connections.websocket`, and the server of `websockets`, which reads the head again as we read it. Invariants:
who is not proven costs a bounded amount of memory and time; what fails in one connection ends that connection alone.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, Protocol

import trio
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.trio.server import Server, ServerConnection

from parlerd.bounded import Bounded
from parlerd.connections.stream import MessageStream
from parlerd.connections.websocket import KEEPING, QUIET, WebSocketStream
from parlerd.core.errors import ParlerError
from parlerd.wire.frames import FIRST_FRAME_LIMIT, PREFIX

log = logging.getLogger("relay.door")

LINK_PATH: Final = "/link"
_CHUNK: Final = 16 * 1024
_BRAKES: Final = 4096
"""How many addresses are remembered; the brake for all of them together holds beyond that."""
_END_OF_HEAD: Final = b"\r\n\r\n"


class Serves(Protocol):
    """What a link is led to. `relay.link.Links` is the real one."""

    async def serve(self, stream: MessageStream, proven: Callable[[], None]) -> None:
        """Serve a link until it ends, and close its stream. `proven` is called once its proof is accepted."""
        ...

    async def drain(self) -> None:
        """See every link out."""
        ...


@dataclass(frozen=True, slots=True)
class Secured:
    """A certificate that is served."""

    context: ssl.SSLContext
    digest: bytes
    """SHA-256 of the certificate in DER."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of those who are not proven. Seconds are on the event loop's clock."""

    unproven: int = 64
    """How many there may be."""
    unproven_of_one: int = 8
    """How many of them one address may have: an IPv4 address, or the /64 of an IPv6 address."""
    rate: float = 50.0
    """How many may come in a second, after `burst` at once: a TLS greeting takes 2 to 3 ms of the one processor that
    all links share."""
    burst: int = 128
    rate_of_one: float = 10.0
    """How many of one address, after `burst_of_one` at once."""
    burst_of_one: int = 32
    head_seconds: float = 5.0
    """How long TLS and the head of the request may take together."""
    head_bytes: int = 16 * 1024
    """How many bytes the head may have."""
    answer_seconds: float = 2.0
    """How long it may take to send an answer that is no link."""


class Door:
    """Every connection of one relay. `serve` returns once `drain` has seen everybody out."""

    def __init__(
        self,
        links: Serves | None,
        *,
        secured: Callable[[], Secured | None],
        names: Callable[[], Collection[str]] = tuple,
        is_ready: Callable[[], bool] = lambda: True,
        pages: Mapping[str, Callable[[], Awaitable[str]]] = MappingProxyType({}),
        limits: Limits | None = None,
    ) -> None:
        # What links are led to; None for a door that has none.
        self._links = links
        # The certificate that a new connection is served now; None for a relay without TLS, which only this machine
        # reaches.
        self._secured = secured
        # The names under which this relay may be asked, beside every IP address.
        self._names = names
        self._is_ready = is_ready
        # Further pages that are answered, by path.
        self._pages = pages
        self._limits = limits or Limits()
        # The connections that are not proven, and how many of them each address has.
        self._unproven: set[_Visit] = set()
        self._of_one: Counter[str] = Counter()
        # How fast further ones may come: in all, and for each address that came lately.
        self._brake = _Brake(self._limits.rate, self._limits.burst)
        self._brakes: Bounded[str, _Brake] = Bounded(_BRAKES)
        # Cancelled by `drain`: no further connection is accepted.
        self._accepting = trio.CancelScope()
        # What the library asks whether it may still begin a connection.
        self._server = Server([], self._visit)

    @property
    def unproven(self) -> int:
        """How many connections are not proven yet."""
        return len(self._unproven)

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Take connections in until cancelled or drained, then close the listeners.

        Raises `ParlerError` `invalid_settings` when others could reach a relay that has no TLS.
        """
        if self._secured() is None and not all(_is_of_this_machine(listener) for listener in listeners):
            raise ParlerError("invalid_settings", "A relay that other machines can reach needs a certificate.")
        try:
            async with trio.open_nursery() as visits:
                with self._accepting:
                    await trio.serve_listeners(self._visit, list(listeners), handler_nursery=visits)
        finally:
            for listener in listeners:
                listener.socket.close()

    async def drain(self) -> None:
        """Take nobody in any more, send away who is not proven, and see every link out."""
        self._accepting.cancel()
        self._server.closing = True
        for visit in list(self._unproven):
            visit.scope.cancel()
        if self._links is not None:
            await self._links.drain()

    # -- one connection ------------------------------------------------------------------------------------

    async def _visit(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        visit = self._admit(stream)
        try:
            if visit is not None:
                with visit.scope:
                    await self._converse(visit, stream)
        # An error may come alone, in a group, or in a group with a cancellation, which `except*` lets pass.
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the other side is gone, which is an end like any other
        except* Exception as errors:
            # This is the boundary of a connection. What went wrong may hold what the other side sent, so its type is
            # all that is kept.
            for error in _single(errors):
                log.error("a connection failed with %s", type(error).__name__)
        finally:
            if visit is not None:
                self._forget(visit)
            await trio.aclose_forcefully(stream)

    def _admit(self, stream: trio.SocketStream) -> _Visit | None:
        """A place among those who are not proven; None when there is none."""
        try:
            address = _counted_as(stream.socket.getpeername()[0])
        except OSError:
            return None
        limits = self._limits
        if len(self._unproven) >= limits.unproven or self._of_one[address] >= limits.unproven_of_one:
            return None
        brake = self._brakes.get(address)
        if brake is None:
            brake = self._brakes[address] = _Brake(limits.rate_of_one, limits.burst_of_one)
        # Its own brake first, so that who comes too often takes nothing from the others.
        if not brake.admits() or not self._brake.admits():
            return None
        visit = _Visit(address)
        self._unproven.add(visit)
        self._of_one[address] += 1
        return visit

    def _forget(self, visit: _Visit) -> None:
        """The connection is proven, or over."""
        if visit in self._unproven:
            self._unproven.remove(visit)
            self._of_one[visit.address] -= 1
            if not self._of_one[visit.address]:
                del self._of_one[visit.address]

    async def _converse(self, visit: _Visit, stream: trio.SocketStream) -> None:
        transport: trio.abc.Stream = stream
        digest = b""
        with trio.move_on_after(self._limits.head_seconds) as limit:
            if (secured := self._secured()) is not None:
                transport = trio.SSLStream(stream, secured.context, server_side=True, https_compatible=True)
                await transport.do_handshake()
                digest = secured.digest
            data = await self._head(transport)
        if limit.cancelled_caught or data is None:
            return
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        request = None
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        if len(_END_OF_HEAD) <= end <= self._limits.head_bytes:
            request = _parsed(data[:end])
            status = self._judge(request)
        if request is not None and status is HTTPStatus.SWITCHING_PROTOCOLS:
            await self._link(visit, _Replayed(transport, data), digest)
            return
        with trio.move_on_after(self._limits.answer_seconds):
            text = f"{status.phrase}\n"
            if request is not None and status is HTTPStatus.OK and request.path in self._pages:
                text = await self._pages[request.path]()
            is_short = request is not None and request.method == "HEAD"
            await transport.send_all(_answer(status, text, is_short=is_short))
            await transport.aclose()

    async def _head(self, transport: trio.abc.Stream) -> bytes | None:
        """The head of a request and what came with it; more than a head may have where it has no end; None when the
        other side left."""
        data = b""
        while _END_OF_HEAD not in data:
            if len(data) > self._limits.head_bytes:
                return data
            more = await transport.receive_some(_CHUNK)
            if not more:
                return None
            data += more
        return data

    def _judge(self, request: Request | None) -> HTTPStatus:
        """How to answer; `SWITCHING_PROTOCOLS` leads to the links."""
        if request is None:
            return HTTPStatus.BAD_REQUEST
        hosts = request.headers.get_all("Host")
        if len(hosts) != 1:
            return HTTPStatus.BAD_REQUEST
        if not _is_ours(hosts[0], self._names()):
            return HTTPStatus.MISDIRECTED_REQUEST
        match request.path:
            case "/link" if self._links is not None:
                return HTTPStatus.FORBIDDEN if "Origin" in request.headers else HTTPStatus.SWITCHING_PROTOCOLS
            case path if path not in ("/healthz", "/readyz", *self._pages):
                return HTTPStatus.NOT_FOUND
            case _ if request.method not in ("GET", "HEAD"):
                return HTTPStatus.METHOD_NOT_ALLOWED
            case "/readyz":
                is_ready = self._is_ready() and not self._server.closing
                return HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
            case _:
                return HTTPStatus.OK

    async def _link(self, visit: _Visit, transport: trio.abc.Stream, digest: bytes) -> None:
        assert self._links is not None
        async with trio.open_nursery() as nursery:
            protocol = ServerProtocol(max_size=FIRST_FRAME_LIMIT + PREFIX, logger=QUIET)
            connection = ServerConnection(nursery, transport, protocol, self._server, **KEEPING)
            # Somebody who leaves at this moment shows in the state.
            with trio.move_on_after(self._limits.answer_seconds), suppress(ConnectionClosed):
                await connection.handshake(server_header=None)
            if connection.state is State.OPEN:
                connection.start_keepalive()
                await self._links.serve(WebSocketStream(connection, digest), lambda: self._forget(visit))
            nursery.cancel_scope.cancel()


def _single(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _single(error)
        else:
            yield error


class _Brake:
    """How often something may happen: `burst` times at once, then `rate` times a second."""

    __slots__ = ("_burst", "_left", "_rate", "_since")

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        # How often it may happen at once, as of `_since` on the event loop's clock.
        self._left = float(burst)
        self._since: float | None = None

    def admits(self) -> bool:
        """Whether it may happen now; if so, it does."""
        now = trio.current_time()
        if self._since is not None:
            self._left = min(self._burst, self._left + (now - self._since) * self._rate)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class _Visit:
    """One connection that is not proven."""

    __slots__ = ("address", "scope")

    def __init__(self, address: str) -> None:
        self.address = address
        """As what it is counted."""
        self.scope = trio.CancelScope()
        """Cancelled to end it."""


class _Replayed(trio.abc.Stream):
    """A stream whose first bytes were read already, and are read again."""

    def __init__(self, stream: trio.abc.Stream, first: bytes) -> None:
        self._stream = stream
        self._first = first

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if not self._first:
            return await self._stream.receive_some(max_bytes)
        await trio.lowlevel.checkpoint()
        data = self._first if max_bytes is None else self._first[:max_bytes]
        self._first = self._first[len(data) :]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


# -- requests --------------------------------------------------------------------------------------------------


def _parsed(head: bytes) -> Request | None:
    """The request that this head is, read as the library reads it; None for what is none."""
    reader = ServerProtocol(logger=QUIET)
    reader.receive_data(head)
    events = reader.events_received()
    return events[0] if events and isinstance(events[0], Request) else None


def _answer(status: HTTPStatus, text: str, *, is_short: bool) -> bytes:
    body = text.encode()
    allow = "Allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{allow}"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        "Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if is_short else body)


def _is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a `Host` is an IP address or one of `names`, with or without a port."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            return False
        return _is_port(port[1:]) and _is_address(name, 6)
    name, _, port = host.partition(":")
    return _is_port(port) and (_is_address(name, 4) or name.lower() in {each.lower() for each in names})


def _is_port(text: str) -> bool:
    return not text or (text.isascii() and text.isdigit() and len(text) <= 5)


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _counted_as(address: str) -> str:
    """As what an address is counted: whoever has one IPv6 address has the whole /64."""
    # A zone names an interface of this machine, and is no part of the address.
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _is_of_this_machine(listener: trio.SocketListener) -> bool:
    return ipaddress.ip_address(listener.socket.getsockname()[0].partition("%")[0]).is_loopback
