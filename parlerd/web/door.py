"""HTTP/1.1 on a port of this machine or of a relay, for an application that speaks ASGI.

    head      16 KiB at most, within 5 seconds, read in small pieces: h11 lets a larger head pass that comes at once
    checks    of every request, and not of the connection: the Host is ours, an Origin is ours, nothing is upgraded, a
              body has one length, the path is plain
    body      1 MiB at most, within 10 seconds, read before the application is asked; 16 KiB of who showed nothing
    file      256 MiB at most, within 10 minutes, read by the application piece by piece, each within 10 seconds
    answer    then the next request, within 15 seconds; who showed nothing comes again on another connection

h11 reads and writes the protocol; the sockets, the clock and the bounds are ours. Why no server from a library: those
that were tried check the first request of a connection, take HTTP/2 and WebSockets that nobody asked for, and let a
slow body live for ever (docs/architecture.md).

What a door asks of each request beside this, its guard says (`Guard`): on a port of this machine the Host alone; before
a relay also whether a token was shown. Not here: routes and tokens (`app`). Above: the daemon and the relay. Below:
`h11`, trio. Invariants: what fails in one connection ends that connection alone; a request that is refused here reaches
no application; nothing of a request is logged.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import unquote_to_bytes

import h11
import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.operations.contracts import CONTRACT

log = logging.getLogger("parlerd.web")

MAX_HEAD: Final = 16 * 1024
HEAD_S: Final = 5.0
MAX_BODY: Final = 1024 * 1024
BODY_S: Final = 10.0
MAX_STRANGE_BODY: Final = 16 * 1024
"""Bytes of a body of somebody whom the guard does not know."""
MAX_FILE: Final = 256 * 1024 * 1024
"""Bytes of a file: as many as the setting `blob_max_bytes` allows by itself."""
FILE_S: Final = 600.0
IDLE_S: Final = 15.0
DRAIN_S: Final = 1.0
MAX_DRAIN: Final = 16 * 1024 * 1024
MAX_CONNECTIONS: Final = 64
"""Connections at a time. Further ones are closed at once."""
_PIECE: Final = 4096
_FILE_PIECE: Final = 64 * 1024
_REFUSED: Final[dict[str, Any]] = {"retryable": False, **msgspec.to_builtins(Refused("request_refused").body())}
"""What every answer says that the door gives by itself, but for the id of the request."""

Message = MutableMapping[str, Any]
_Said = h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage
Application = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
"""An application of ASGI 3, for requests alone."""


class Guard(Protocol):
    """What is asked of each request of a connection before anything is done for it."""

    def is_host(self, host: bytes) -> bool:
        """Whether a `Host` is one of this door's."""
        ...

    def is_origin(self, origin: bytes) -> bool:
        """Whether a page of this `Origin` may ask."""
        ...

    def knows(self, scope: Message) -> bool:
        """Whether whoever asks showed what lets the connection go on, with a body of full size. Raises `Turned` for
        somebody who is answered nothing else."""
        ...


class Turned(Exception):
    """A request that is answered here with this status, and ends its connection."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Names:
    """The guard of a door of this machine: `names` are what a `Host` may say, with the port, and what an `Origin` may
    say after `http://`. Everybody may go on."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.encode() for name in names)

    def is_host(self, host: bytes) -> bool:
        return host in self._names

    def is_origin(self, origin: bytes) -> bool:
        return origin.removeprefix(b"http://") in self._names

    def knows(self, scope: Message) -> bool:
        return True


class Door:
    """The connections of one application. `guard` is that of connections that bring none of their own, `is_upload` says
    whether the body of a request is a file, and `most` is how many connections there may be; further ones are closed at
    once."""

    def __init__(
        self,
        app: Application,
        guard: Guard,
        *,
        is_upload: Callable[[Message], bool] = lambda scope: False,
        most: int = MAX_CONNECTIONS,
    ) -> None:
        self._app = app
        self._guard = guard
        self._is_upload = is_upload
        self._most = most
        self._connections = 0

    @property
    def connections(self) -> int:
        """How many there are."""
        return self._connections

    async def serve(self, listener: trio.SocketListener) -> None:
        """Take connections in until cancelled; then the listener is closed."""
        async with trio.open_nursery() as nursery, listener:
            await trio.serve_listeners(self._visit, [listener], handler_nursery=nursery)

    def _visit(self, stream: trio.SocketStream) -> Awaitable[None]:
        try:
            host, port = stream.socket.getpeername()[:2]
        except OSError:
            host, port = "", 0  # it is gone already
        return self.visit(stream, (host, port))

    async def visit(
        self,
        stream: trio.abc.Stream,
        peer: tuple[str, int] = ("", 0),
        *,
        guard: Guard | None = None,
        begun: bytes = b"",
    ) -> None:
        """Serve one connection until it ends, and close it. `peer` is the address of its other end, `begun` what came
        of it already, and `guard` its own."""
        if self._connections >= self._most:
            await stream.aclose()
            return
        self._connections += 1
        try:
            async with stream:
                await _Visit(stream, self._app, guard or self._guard, peer, self._is_upload, begun).run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, OSError):
            pass  # whoever was there is gone, or reads nothing
        except* Exception as group:
            # The types alone: the text of an exception may hold what somebody sent.
            log.error("a connection over HTTP failed: %s", ", ".join(type(each).__name__ for each in _single(group)))
        finally:
            self._connections -= 1


def _single(group: BaseExceptionGroup[Exception]) -> Iterator[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _single(each)
        else:
            yield each


class _Visit:
    """One connection."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        app: Application,
        guard: Guard,
        peer: tuple[str, int],
        is_upload: Callable[[Message], bool],
        begun: bytes,
    ) -> None:
        self._stream = stream
        self._is_upload = is_upload
        self._peer = peer
        self._app = app
        self._guard = guard
        self._begun = begun
        """What came before the connection was led here, and was not looked at yet."""
        self._knows = False
        """Whether the guard knows who asks by the request under way."""
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._has_begun = False
        """Whether the answer to the request under way has begun."""
        self._is_head = False
        """Whether the answer under way has no body, whatever the application says."""
        self._body: bytes | None = None
        """The body of the request under way, until the application has it; None for a file too."""
        self._comes = False
        """Whether the body under way is a file, of which more comes."""
        self._file_by = 0.0
        """Until when that file has to be there."""
        self._ahead = 0
        """How many bytes came of what is asked next, while this is answered."""
        self._unsent: list[_Said] = []
        """The head of the answer under way, until something of its body comes."""
        self._is_torn = False
        """Whether a write stopped in the middle, after which nothing more can be said."""

    async def run(self) -> None:
        while True:
            self._has_begun = self._is_head = False
            try:
                scope = await self._begun_with()
                if scope is None:
                    return
                answer = self._app(scope, self._receive, self._send)
                # Whoever waits long for its answer holds no more than the application does.
                del scope
                await answer
            except Turned as bad:
                await self._refuse(bad.status)
                return
            except h11.RemoteProtocolError as error:
                await self._refuse(error.error_status_hint)
                return
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                if self._h11.our_state is h11.MUST_CLOSE or self._h11.our_state is h11.DONE:
                    await self._drain()
                return
            self._h11.start_next_cycle()

    # -- a request -----------------------------------------------------------------------------------------

    async def _begun_with(self) -> Message | None:
        """The scope of the next request, once its body is here, unless that is a file; None where there is none. Raises
        `Turned`."""
        request = await self._head()
        if request is None:
            return None
        self._is_head = request.method == b"HEAD"
        scope = self._checked(request)
        self._comes, self._file_by = self._is_upload(scope), trio.current_time() + FILE_S
        self._body = None if self._comes else await self._whole_body()
        self._ahead = 0
        return scope

    async def _head(self) -> h11.Request | None:
        """The next request; None where there is none."""
        size, deadline = 0, trio.current_time() + IDLE_S
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            if size > MAX_HEAD:
                raise Turned(431)
            data = b""
            with trio.move_on_at(deadline) as waited:
                data = await self._some(_PIECE)
            if waited.cancelled_caught:
                if size:
                    raise Turned(408)
                return None
            if not size and data:
                deadline = trio.current_time() + HEAD_S
            size += len(data)
            self._h11.receive_data(data)

    async def _some(self, most: int) -> bytes:
        """The next bytes, at most so many."""
        if self._begun:
            data, self._begun = self._begun[:most], self._begun[most:]
            return data
        return bytes(await self._stream.receive_some(most))

    def _checked(self, request: h11.Request) -> Message:
        """The scope of a request. Raises `Turned`."""
        if request.http_version != b"1.1":
            raise Turned(505)
        headers = list(request.headers)  # the names are in small letters: so h11 has them
        found: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            found.setdefault(name, []).append(value)
        if sum(len(name) + len(value) for name, value in headers) + len(request.target) > MAX_HEAD:
            raise Turned(431)
        hosts = found.get(b"host", [])
        if len(hosts) != 1:
            raise Turned(400)
        if not self._guard.is_host(hosts[0]):
            raise Turned(421)
        if not all(map(self._guard.is_origin, found.get(b"origin", []))):
            raise Turned(403)
        if b"upgrade" in found or b"transfer-encoding" in found:
            # A body that comes in chunks has no length that could be refused before it was read.
            raise Turned(400 if b"upgrade" not in found else 426)
        length = found.get(b"content-length", [b"0"])[0]
        if any(expected.lower() != b"100-continue" for expected in found.get(b"expect", [])):
            raise Turned(417)
        path, _, query = request.target.partition(b"?")
        path = _plain(path)
        _decoded(query)
        scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._peer,
            "server": None,
        }
        self._knows = self._guard.knows(scope)
        most = MAX_FILE if self._is_upload(scope) else MAX_BODY
        if int(length) > (most if self._knows else MAX_STRANGE_BODY):
            raise Turned(413)
        return scope

    async def _whole_body(self) -> bytes:
        """The body of a request. Raises `Turned`."""
        body, deadline = bytearray(), trio.current_time() + BODY_S
        while not isinstance(event := self._h11.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                body += event.data
                continue
            if event is not h11.NEED_DATA:
                raise Turned(400)
            await self._let_come()
            data = b""
            with trio.move_on_at(deadline) as waited:
                data = await self._some(_PIECE)
            if waited.cancelled_caught:
                raise Turned(408)
            self._h11.receive_data(data)
        return bytes(body)

    async def _let_come(self) -> None:
        """Tell a client that waits with its body until it is asked for it that it is wanted."""
        if self._h11.they_are_waiting_for_100_continue:
            await self._say(h11.InformationalResponse(status_code=100, headers=[]))

    # -- for the application -------------------------------------------------------------------------------

    async def _receive(self) -> Message:
        """The body; then `http.disconnect`, once the other side is gone."""
        if self._body is not None:
            body, self._body = self._body, None
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": body, "more_body": False}
        if self._comes:
            return await self._piece_of_file()
        # What the other side sends before it ends is of its next request, and a bounded part of that is kept.
        while self._ahead <= MAX_HEAD:
            data = await self._some(_PIECE)
            self._h11.receive_data(data)
            if not data:
                break
            self._ahead += len(data)
        return {"type": "http.disconnect"}

    async def _piece_of_file(self) -> Message:
        """The next piece; `http.disconnect` where it does not come."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError:
                return {"type": "http.disconnect"}
            if isinstance(event, h11.Data):
                return {"type": "http.request", "body": bytes(event.data), "more_body": True}
            if isinstance(event, h11.EndOfMessage):
                self._comes = False
                return {"type": "http.request", "body": b"", "more_body": False}
            if event is not h11.NEED_DATA:
                return {"type": "http.disconnect"}
            await self._let_come()
            data = b""
            with trio.move_on_at(min(trio.current_time() + BODY_S, self._file_by)) as waited:
                data = await self._some(_FILE_PIECE)
            if waited.cancelled_caught:
                return {"type": "http.disconnect"}
            self._h11.receive_data(data)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._has_begun = True
            headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            if not self._knows:
                headers.append((b"connection", b"close"))
            self._unsent = [h11.Response(status_code=message["status"], headers=headers)]
            return
        # The head goes with what comes first: one write, and one time that the other side wakes up.
        events, self._unsent = self._unsent, []
        if (body := message.get("body", b"")) and not self._is_head:
            events.append(h11.Data(data=body))
        if not message.get("more_body", False):
            events.append(h11.EndOfMessage())
        await self._say(*events)

    async def _say(self, *events: _Said) -> None:
        if self._is_torn:
            raise trio.ClosedResourceError
        data = b"".join(self._h11.send(event) or b"" for event in events)
        if data:
            self._is_torn = True
            with trio.fail_after(IDLE_S):
                await self._stream.send_all(data)
            self._is_torn = False

    async def _refuse(self, status: int) -> None:
        """Answer what reached no application, and end the connection."""
        if self._has_begun or self._h11.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        body = msgspec.json.encode({"error": {**_REFUSED, "request": secrets.token_hex(8)}})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"parler-version", CONTRACT.encode()),
            *([(b"retry-after", b"1")] if status == 429 else []),
        ]
        said: list[_Said] = [h11.Response(status_code=status, headers=headers)]
        await self._say(*said, *([] if self._is_head else [h11.Data(data=body)]), h11.EndOfMessage())
        await self._drain()

    async def _drain(self) -> None:
        """Read a little of what nobody wants: an end over unread bytes takes the answer away from the client."""
        with trio.move_on_after(DRAIN_S):
            left = MAX_DRAIN
            while left > 0 and (data := await self._some(_FILE_PIECE)):
                left -= len(data)


def _plain(path: bytes) -> bytes:
    """A path as it is: its segments may be escaped, and are decoded after they were told apart. What could lead
    elsewhere is refused, and what is no text. Raises `Turned`."""
    if not path.startswith(b"/") or not path.isascii():
        raise Turned(400)
    for segment in path.split(b"/"):
        text = _decoded(segment)
        if text in (".", "..") or not text.isprintable():
            raise Turned(400)
    return path


def _decoded(text: bytes) -> str:
    """An escaped text. Raises `Turned` for one that is none."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", text):
        raise Turned(400)
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise Turned(400) from None
