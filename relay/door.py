"""The relay's one port: takes connections in, a few at a time, and leads each to where its request belongs.

    accepted   counted at once, before TLS (`turnstile`): so many that are not proven, and so many a second
    TLS        within 5 seconds from here
    head       one request of at most 16 KiB, within the same 5 seconds
    /link      becomes a WebSocket, and `links` serves it: 5 seconds more to its proof
    /healthz, /readyz, and what pages this door has
               are answered, and the connection is closed
    the rest   goes to the HTTP application to the end of the connection, or is 404 where this door has none

The first head alone decides, by the address in its first line as it was written, so no request after it comes to
another place: what follows on a link is its frames, and what follows over HTTP is checked there, each request anew.

A request must name this relay as its `Host`: an IP address, or a name that the relay is configured with, so that no
page that a browser was led to by another name reaches it. On /link any `Origin` is refused, because no browser has
business there. Not here: who may come next (`turnstile`), what is said over a link (`link`) and over HTTP (`web`),
certificates (`certificate`). Above: the relay's program.
Below: `connections.websocket`, and the server of `websockets`, which reads the head again as we read it. Invariants:
who is not proven costs a bounded amount of memory and time; what fails in one connection ends that connection alone.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, Protocol

import trio
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from parlerd.connections.stream import MessageStream
from parlerd.connections.transport import Transport
from parlerd.connections.websocket import QUIET, WebSocketStream
from parlerd.core.errors import ParlerError
from parlerd.engine.ports import SharedCounts
from parlerd.wire.frames import FIRST_FRAME_LIMIT, PREFIX
from relay.turnstile import Limits, Turnstile, Visit, Visitor

log = logging.getLogger("relay.door")

LINK_PATH: Final = "/link"
_END_OF_HEAD: Final = b"\r\n\r\n"


class Serves(Protocol):
    """What a link is led to. `relay.link.Links` is the real one."""

    async def serve(self, stream: MessageStream, visitor: Visitor) -> None:
        """Serve a link until it ends, and close its stream. `visitor` is told what the link learns of whoever came."""
        ...

    async def drain(self) -> None:
        """See every link out."""
        ...


class Answers(Protocol):
    """What every other request is led to. `relay.web.Face` is the real one."""

    async def visit(self, transport: Transport, begun: bytes, guest: Visit) -> None:
        """Serve a connection over HTTP until it ends. `begun` is what came of it: a head, and what was sent with it."""
        ...

    async def drain(self) -> None:
        """See everybody out."""
        ...


@dataclass(frozen=True, slots=True)
class Secured:
    """A certificate that is served."""

    context: ssl.SSLContext
    digest: bytes
    """SHA-256 of the certificate in DER."""


class Door:
    """Every connection of one relay. `serve` returns once `drain` has seen everybody out."""

    def __init__(
        self,
        links: Serves | None,
        web: Answers | None = None,
        *,
        secured: Callable[[], Secured | None],
        names: Callable[[], Collection[str]] = tuple,
        is_ready: Callable[[], bool] = lambda: True,
        pages: Mapping[str, Callable[[], Awaitable[str]]] = MappingProxyType({}),
        limits: Limits | None = None,
        counts: SharedCounts | None = None,
    ) -> None:
        # What links are led to; None for a door that has none.
        self._links = links
        # What every request is led to that is neither for a link nor for a page; None for a door that has no more.
        self._web = web
        # The certificate that a new connection is served now; None for a relay without TLS, which only this machine
        # reaches.
        self._secured = secured
        # The names under which this relay may be asked, beside every IP address.
        self._names = names
        self._is_ready = is_ready
        # Further pages that are answered, by path.
        self._pages = pages
        self._limits = limits or Limits()
        # Who may come, of those who are not proven.
        self._turnstile = Turnstile(self._limits, counts)
        # Cancelled by `drain`: no further connection is accepted.
        self._accepting = trio.CancelScope()
        # Whether no link is begun any more.
        self._is_draining = False

    @property
    def unproven(self) -> int:
        """How many connections are not proven yet."""
        return self._turnstile.unproven

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
        self._is_draining = True
        for visit in self._turnstile.visits():
            visit.scope.cancel()
        async with trio.open_nursery() as seeing_out:
            if self._web is not None:
                seeing_out.start_soon(self._web.drain)
            if self._links is not None:
                seeing_out.start_soon(self._links.drain)

    # -- one connection ------------------------------------------------------------------------------------

    async def _visit(self, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SocketStream)
        visit = self._admit(stream)
        transport = Transport(stream)
        try:
            if visit is not None:
                with visit.scope:
                    await self._converse(visit, transport)
        # An error may come alone, in a group, or in a group with a cancellation, which `except*` lets pass.
        except* (OSError, trio.ClosedResourceError):
            pass  # the other side is gone, which is an end like any other
        except* Exception as errors:
            # This is the boundary of a connection. What went wrong may hold what the other side sent, so its type is
            # all that is kept.
            for error in _single(errors):
                log.error("a connection failed with %s", type(error).__name__)
        finally:
            if visit is not None:
                self._turnstile.leave(visit)
            transport.close()

    def _admit(self, stream: trio.SocketStream) -> Visit | None:
        """A place among those who are not proven; None when there is none."""
        try:
            address = stream.socket.getpeername()[0]
        except OSError:
            return None
        return self._turnstile.admit(address)

    async def _converse(self, visit: Visit, transport: Transport) -> None:
        digest = b""
        with trio.move_on_after(self._limits.head_seconds) as limit:
            if (secured := self._secured()) is not None:
                await transport.secure(secured.context, is_server=True)
                digest = secured.digest
            data = await self._head(transport)
        if limit.cancelled_caught or data is None:
            return
        end = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        is_whole = len(_END_OF_HEAD) <= end <= self._limits.head_bytes
        if self._web is not None and is_whole and _target(data) not in (b"/link", b"/healthz", b"/readyz"):
            await self._web.visit(transport, data, visit)
            return
        request = None
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        protocol = ServerProtocol(max_size=FIRST_FRAME_LIMIT + PREFIX, logger=QUIET)
        if is_whole:
            request = _parsed(protocol, data[:end])
            status = self._judge(request)
        if request is not None and status is HTTPStatus.SWITCHING_PROTOCOLS:
            stream = await self._upgraded(transport, protocol, request, digest, data[end:])
            del data, request, secured
            if stream is not None:
                assert self._links is not None
                await self._links.serve(stream, visit)
            return
        with trio.move_on_after(self._limits.answer_seconds):
            text = f"{status.phrase}\n"
            if request is not None and status is HTTPStatus.OK and request.path in self._pages:
                text = await self._pages[request.path]()
            is_short = request is not None and request.method == "HEAD"
            transport.write(_answer(status, text, is_short=is_short))
            await transport.flushed()

    async def _head(self, transport: Transport) -> bytes | None:
        """The head of a request and what came with it; more than a head may have where it has no end; None when the
        other side left."""
        data = b""
        while _END_OF_HEAD not in data:
            if len(data) > self._limits.head_bytes:
                return data
            more = await transport.receive()
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
        if not is_ours(hosts[0], self._names()):
            return HTTPStatus.MISDIRECTED_REQUEST
        match request.path:
            case "/link" if self._links is not None:
                return HTTPStatus.FORBIDDEN if "Origin" in request.headers else HTTPStatus.SWITCHING_PROTOCOLS
            case path if path not in ("/healthz", "/readyz", *self._pages):
                return HTTPStatus.NOT_FOUND
            case _ if request.method not in ("GET", "HEAD"):
                return HTTPStatus.METHOD_NOT_ALLOWED
            case "/readyz":
                is_ready = self._is_ready() and not self._is_draining
                return HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
            case _:
                return HTTPStatus.OK

    async def _upgraded(
        self, transport: Transport, protocol: ServerProtocol, request: Request, digest: bytes, rest: bytes
    ) -> WebSocketStream | None:
        """The WebSocket that was asked for; None where the request was refused, and that was said."""
        response = protocol.accept(request)
        if self._is_draining:
            response = protocol.reject(HTTPStatus.SERVICE_UNAVAILABLE, "This relay is about to stop.\n")
        protocol.send_response(response)
        for data in protocol.data_to_send():
            if data:
                transport.write(data)
        with trio.move_on_after(self._limits.answer_seconds):
            await transport.flushed()
        if protocol.state is not State.OPEN:
            return None
        protocol.receive_data(rest)
        return WebSocketStream(transport, protocol, digest, protocol.events_received())


def _single(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    """The errors of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _single(error)
        else:
            yield error


# -- requests --------------------------------------------------------------------------------------------------


def _target(data: bytes) -> bytes:
    """The address in the first line, as it was written; nothing where the line is none of a request."""
    words = data[: data.find(b"\r\n")].split(b" ")
    return words[1] if len(words) == 3 else b""


def _parsed(protocol: ServerProtocol, head: bytes) -> Request | None:
    """The request that this head is; None for what is none."""
    protocol.receive_data(head)
    events = protocol.events_received()
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


def is_ours(host: str, names: Collection[str]) -> bool:
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


def _is_of_this_machine(listener: trio.SocketListener) -> bool:
    return ipaddress.ip_address(listener.socket.getsockname()[0].partition("%")[0]).is_loopback
