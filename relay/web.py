"""HTTP on the relay's port: what is asked there besides links, for agents that have a token and nothing else.

    a connection --> `door`: TLS, the head of its first request --> /link: never here
                                                                --> anything else: here, to its end

Which of the two a connection is, its first head decides, for good: no request of a connection that came here becomes a
link, and a link is asked nothing over HTTP. Here too each request is checked, and not each connection
(`parlerd.web.door`).

    has shown no token    one request, whose body is small, within 10 seconds; it holds one of the places of those who
                          proved nothing (`turnstile`), and so 8 of one address at most
    shows one that holds  goes on; 32 connections of one token at most, and 512 of all. Of these 2 and 16 may bring a
                          file, which takes room on the relay's disk before anything can be said of it

Not here: routes, and what a token is for (`parlerd.web.app`, the engine). Above: the relay's program, and the door,
which leads connections here. Below: the turnstile, the application. Invariants: a browser's page is answered nothing,
because no `Origin` is this relay's; whoever shows no token costs as little as whoever proves nothing on a link.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, Protocol

import trio

from parlerd.connections.transport import Transport
from parlerd.core.model import HomeId, PrincipalId
from parlerd.core.tokens import Token
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.web.app import Peer, Web, is_upload
from parlerd.web.door import Application, Door, Message, Turned
from parlerd.web.ports import Serving, TokenBook
from relay.door import is_ours

MAX_CONNECTIONS: Final = 512
"""Connections over HTTP at a time: with as many files open as a process may have by default, links keep theirs."""
MAX_OF_TOKEN: Final = 32
"""Connections with one token at a time. Source: contract spec, The door."""
MAX_FILES: Final = 16
MAX_FILES_OF_TOKEN: Final = 2
"""Connections that bring a file at a time."""
STRANGE_S: Final = 10.0
"""How long a connection may take that showed no token, with all that it asks and is answered."""
GRACE_S: Final = 1.0
"""How long calls under way may still take where the relay ends."""


class Guest(Protocol):
    """Somebody at the door who proved nothing yet: `turnstile.Visit`."""

    @property
    def address(self) -> str:
        """As what it is counted."""
        ...

    def proven(self) -> None:
        """They showed a token that holds."""
        ...


class Book(Protocol):
    """Which tokens hold: `engine.bearers.Bearers`."""

    def shown(self, text: str) -> Token | None:
        """The token that holds now and has this text."""
        ...


def application(engine: Serving, tokens: TokenBook, relay: HomeId, folder: Path) -> Application:
    """What answers at this relay. `folder` is for files of no name."""

    def stranger(peer: Peer | None) -> Caller:
        """Whoever shows no token is nobody's agent: of the relay's own key there are none. Guesses are counted by the
        address that they come from."""
        session = "http" if peer is None else f"http {peer[0]}"
        return Caller(Facts(session, "http", of_visitor(PrincipalId(relay), is_let_in=False, is_own=False)))

    return Web(engine, tokens, stranger, folder, guesser=stranger).app


class Face:
    """The connections over HTTP. `names` are this relay's beside every IP address."""

    def __init__(self, app: Application, tokens: Book, *, names: Callable[[], Collection[str]] = tuple) -> None:
        self._tokens = tokens
        self.names = names
        self._door = Door(app, _Nobody(), is_upload=is_upload, most=MAX_CONNECTIONS)
        self._of_token: dict[str, int] = {}
        """How many connections each token has, by its id."""
        self._files: dict[str, int] = {}
        """How many of them bring a file."""
        self._open: set[trio.CancelScope] = set()
        """The connections there are."""
        self._none_left = trio.Event()
        self._is_ending = False

    @property
    def connections(self) -> int:
        """How many there are, proven or not."""
        return self._door.connections

    async def visit(self, transport: Transport, begun: bytes, guest: Guest) -> None:
        """Serve a connection of which `begun` came already, until it ends."""
        if self._is_ending:
            return
        with trio.CancelScope(deadline=trio.current_time() + STRANGE_S) as scope:
            self._open.add(scope)
            guard = _Guard(self, guest, scope)
            try:
                await self._door.visit(_Bytes(transport), (guest.address, 0), guard=guard, begun=begun)
            finally:
                guard.leave()
                self._open.discard(scope)
                if not self._open:
                    self._none_left.set()

    async def drain(self) -> None:
        """Let nobody in any more, and see everybody out."""
        self._is_ending = True
        if self._open:
            self._none_left = trio.Event()
            with trio.move_on_after(GRACE_S):
                await self._none_left.wait()
            for scope in self._open:
                scope.cancel()
        await trio.lowlevel.checkpoint()

    def token_of(self, scope: Message) -> Token | None:
        """The token that a request shows, if that holds."""
        shown = [value for name, value in scope["headers"] if name == b"authorization"]
        kind, _, text = shown[0].partition(b" ") if len(shown) == 1 else (b"", b"", b"")
        if kind.lower() != b"bearer" or not text.isascii():
            return None
        return self._tokens.shown(text.strip().decode("ascii"))

    def take(self, token: str) -> bool:
        """Count one more connection of a token; False where there is no place."""
        if self._of_token.get(token, 0) >= MAX_OF_TOKEN:
            return False
        self._of_token[token] = self._of_token.get(token, 0) + 1
        return True

    def give_back(self, token: str) -> None:
        """Count one connection of a token less."""
        _less(self._of_token, token)

    def begin_file(self, token: str) -> bool:
        """Count one more file that comes with a token; False where there is no place."""
        if sum(self._files.values()) >= MAX_FILES or self._files.get(token, 0) >= MAX_FILES_OF_TOKEN:
            return False
        self._files[token] = self._files.get(token, 0) + 1
        return True

    def end_file(self, token: str) -> None:
        """Count one file less."""
        _less(self._files, token)


def _less(counted: dict[str, int], token: str) -> None:
    counted[token] -= 1
    if not counted[token]:
        del counted[token]


class _Nobody:
    """The guard of a connection that has none: nothing is answered."""

    def is_host(self, host: bytes) -> bool:
        return False

    def is_origin(self, origin: bytes) -> bool:
        return False

    def knows(self, scope: Message) -> bool:
        return False


class _Guard:
    """What is asked of the requests of one connection."""

    def __init__(self, face: Face, guest: Guest, scope: trio.CancelScope) -> None:
        self._face = face
        self._guest = guest
        self._scope = scope
        self._token = ""
        """The id of the token that the newest request showed; empty before the first."""
        self._file_of = ""
        """The id of the token with which that request brings a file; empty where it brings none."""

    def is_host(self, host: bytes) -> bool:
        return is_ours(host.decode("latin-1"), self._face.names())

    def is_origin(self, origin: bytes) -> bool:
        return False

    def knows(self, scope: Message) -> bool:
        self._end_file()
        token = self._face.token_of(scope)
        if token is None:
            return False
        if token.id != self._token:
            if not self._face.take(token.id):
                raise Turned(429)
            self.leave()
            self._token = token.id
            self._guest.proven()
            self._scope.deadline = float("inf")
        if is_upload(scope):
            if not self._face.begin_file(token.id):
                raise Turned(429)
            self._file_of = token.id
        return True

    def _end_file(self) -> None:
        if self._file_of:
            self._face.end_file(self._file_of)
            self._file_of = ""

    def leave(self) -> None:
        """The connection has no token any more."""
        self._end_file()
        if self._token:
            self._face.give_back(self._token)
            self._token = ""


class _Bytes(trio.abc.Stream):
    """A transport as a stream of trio."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._rest = b""
        """What came and was not asked for yet."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = self._rest or await self._transport.receive()
        self._rest = b"" if max_bytes is None else data[max_bytes:]
        return data if max_bytes is None else data[:max_bytes]

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(bytes(data))
        await self._transport.flushed()

    async def wait_send_all_might_not_block(self) -> None:
        await self._transport.flushed()

    async def aclose(self) -> None:
        self._transport.close()
        await trio.lowlevel.checkpoint()
