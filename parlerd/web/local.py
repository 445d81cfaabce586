"""The door over HTTP of this machine's daemon: opened when a person asks, on loopback alone.

Not here: what it answers (`app` for programs, `pages` for browsers). Above: the daemon. Below: `door`. Invariants: no
other machine reaches it; without a token no other user of this machine is let in, where the system tells users apart.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from parlerd.core.errors import Refused
from parlerd.core.model import PrincipalId
from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.web.app import Peer, Web, is_upload
from parlerd.web.door import Application, Door, Message, Names
from parlerd.web.pages.app import Pages, owns
from parlerd.web.ports import Serving, TokenBook, ViewerBook

ADDRESS: Final = "127.0.0.1"
WAY_IN: Final = "Ask the person for a token, or to run: parler serve-http --open"
"""What somebody without a token may do."""


class LocalDoor:
    """One door, open or closed."""

    def __init__(
        self,
        engine: Serving,
        tokens: TokenBook,
        viewers: ViewerBook,
        principal: PrincipalId,
        nursery: trio.Nursery,
        folder: Path | None = None,
    ) -> None:
        """`folder` is where files of no name are put, which other users cannot look into."""
        # Who looks on in a browser stays let in while the door is closed for a moment.
        self._pages = Pages(engine, viewers, lambda: self._stranger(None), self._is_own, folder)
        self._engine = engine
        self._tokens = tokens
        self._principal = principal
        """Whose home it is."""
        self._nursery = nursery
        self._folder = folder
        self._port = 0
        """Where it listens, or did last."""
        self._opening = trio.Lock()
        """Held while the door is opened or closed."""
        self._open, self._is_shut = trio.CancelScope(), trio.Event()
        """While it is open; and whether nobody listens any more."""
        self.url: str | None = None
        """Where it answers; None while it is closed."""
        self.lets_in = False
        """Whether a program that has no token may open a room, and come into one."""

    async def open(self, port: int, *, lets_in: bool) -> str:
        """Answer at this port, or at any for 0: where. Raises `Refused(port_taken)`."""
        async with self._opening:
            if self.url is None:
                self.url = await self._opened(port)
            self.lets_in = lets_in
            return self.url

    async def _opened(self, port: int) -> str:
        try:
            [listener] = await trio.open_tcp_listeners(port, host=ADDRESS)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise Refused("port_taken", f"Port {port} cannot be used on this machine.", port=port) from None
        port = self._port = listener.socket.getsockname()[1]
        # A client names no port where that is the one of HTTP.
        names = [name if port == 80 else f"{name}:{port}" for name in (ADDRESS, "localhost")]
        web = Web(self._engine, self._tokens, self._stranger, self._folder, self._process, way_in=WAY_IN)
        door = Door(beside(self._pages.app, web.app), Names(names), is_upload=is_upload)
        self._open, self._is_shut = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._serve, door, listener, self._open, self._is_shut)
        return f"http://{ADDRESS}:{port}"

    async def _serve(
        self, door: Door, listener: trio.SocketListener, while_open: trio.CancelScope, shut: trio.Event
    ) -> None:
        try:
            with while_open:
                await door.serve(listener)
        finally:
            shut.set()

    async def close(self) -> None:
        """Answer no more; calls under way end."""
        async with self._opening:
            if self.url is None:
                return
            self.url, self.lets_in = None, False
            self._open.cancel()
            await self._is_shut.wait()

    def _is_own(self, peer: Peer | None) -> bool:
        """Whether a process of this user is at the other end of a connection, as far as the system tells."""
        return peer is not None and user_of(peer, (ADDRESS, self._port)) in (os.getuid(), None)

    def _stranger(self, peer: Peer | None) -> Caller:
        """Whoever shows no token: one for all, so that whoever guesses on many connections guesses once. Who is of this
        user, as far as the system tells, may knock and is let in: everybody on this machine reaches this address."""
        is_own = self._is_own(peer)
        authority = of_visitor(self._principal, is_let_in=self.lets_in and is_own, is_own=is_own)
        return Caller(Facts("http", "http", authority))

    def _process(self, peer: Peer) -> int:
        return process_of(peer, (ADDRESS, self._port))


def beside(pages: Application, programs: Application) -> Application:
    """Pages at their paths, and what programs ask for at all others."""

    def either(
        scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> Awaitable[None]:
        return (pages if owns(scope["path"]) else programs)(scope, receive, send)

    return either


def user_of(peer: Peer, door: Peer, tables: Path = Path("/proc/net")) -> int | None:
    """The user whose process has the other end of a connection to a door of this machine, by the addresses of both. -1
    where the system knows no such connection (any more), and None where it tells nobody, as macOS."""
    if not tables.is_dir():
        return None
    fields = _entry_of(peer, door, tables)
    return -1 if fields is None else int(fields[7])


def process_of(peer: Peer, door: Peer, proc: Path = Path("/proc")) -> int:
    """The process of this user that has the other end of a connection to a door of this machine, by the addresses of
    both; 0 where it cannot be told, as on macOS, and where more than one has it. Looks through the files of every
    process: some milliseconds."""
    fields = _entry_of(peer, door, proc / "net")
    if fields is None:
        return 0
    socket_name, found = f"socket:[{fields[9]}]", []
    for each in proc.iterdir():
        if not each.name.isdigit():
            continue
        # A process that is another user's, or that has ended meanwhile.
        with suppress(OSError):
            if any(_leads_to(file) == socket_name for file in (each / "fd").iterdir()):
                found.append(int(each.name))
    return found[0] if len(found) == 1 else 0


def _leads_to(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:
        return ""  # it was closed meanwhile


def _entry_of(peer: Peer, door: Peer, tables: Path) -> list[str] | None:
    """The line of the system's tables about a connection."""
    for name, before in (("tcp", ""), ("tcp6", "0000000000000000FFFF0000")):
        try:
            lines = (tables / name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # there is no IPv6
        ends = [before + _as_the_system_writes(each) for each in (peer, door)]
        for fields in map(str.split, lines):
            if fields[1:3] == ends:
                return fields
    return None


def _as_the_system_writes(address: Peer) -> str:
    host, port = address
    number = int.from_bytes(socket.inet_aton(host), sys.byteorder)
    return f"{number:08X}:{port:04X}"
