"""One blocking connection to the daemon: it checks who is on the other end, sends calls, and sorts the answers by call.

Not here: when to connect, start or replace the daemon (`launch`), what a call means (`connection`). Above: both of
these. Below: `wire.peer`. Invariant: after an error of the socket or the protocol, `lost` says why, and nothing is sent
any more.
"""

from __future__ import annotations

import _socket as socket
import os
import sys
import time
from collections import deque
from typing import Final

from parlerd import process
from parlerd.core.errors import ParlerError
from parlerd.paths import Home
from parlerd.wire.calls import Ended
from parlerd.wire.messages import Failure, Goodbye, Hello, Item, Reply, Welcome
from parlerd.wire.peer import ClientPeer

HELLO_SECONDS: Final = 5.0
"""How long the daemon may take to answer the hello, where the caller names no other span."""
_CHUNK: Final = 256 * 1024
_INT: Final = 4
"""Bytes of a descriptor beside a message: an int of C."""
FORBIDDEN: Final = "This program may not connect to the daemon's socket; a sandbox around it forbids that."
"""`mcp_server.stdio.link` says the same; a test compares them."""

Response = Reply | Failure | Item


class Absent(Exception):
    """Nobody serves this home now: there is no socket, or nobody listens on it, or its daemon is about to end."""


class Link:
    """A connection whose hello was accepted. Made by `open_link`."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        # What may be said when, as a state machine.
        self._peer = ClientPeer()
        # For each call that somebody waits for: the answers that came and were not taken yet.
        self._inbox: dict[int, deque[Response]] = {}
        self.welcome: Welcome | None = None
        """The daemon's answer to the hello; None until it came."""
        self.handed = 0
        """How many files were handed over; the next has this number."""
        self.lost: ParlerError | None = None
        """Why nothing can be sent or come any more; None while the connection works."""

    def fileno(self) -> int:
        """For `select`."""
        return self._sock.fileno()

    def greet(self, hello: Hello, seconds: float) -> Welcome:
        """Say hello and wait for the answer. Raises `Absent`, or the `ParlerError` of a goodbye."""
        self._send(self._peer.hello(hello), seconds)
        deadline = time.monotonic() + seconds
        while self.welcome is None and self.lost is None:
            if not self._receive(deadline - time.monotonic()):
                raise ParlerError("unreachable", f"The daemon did not answer within {seconds:g} s.")
        if self.welcome is not None:
            return self.welcome
        assert self.lost is not None
        if self.lost.code in ("connection_lost", "draining"):
            raise Absent
        raise self.lost

    def begin(self, op: str, params: bytes, seconds: float, file: int | None = None) -> int:
        """Send a call, and hand over the file of the descriptor `file` with it. Gives its id. Raises `busy`,
        `frame_too_large`; a lost connection shows in `lost`."""
        id, data = self._peer.call(op, params)
        self._inbox[id] = deque()
        self._send(data, seconds, file)
        return id

    def next(self, id: int, seconds: float | None) -> Response | None:
        """The next answer to call `id`, waiting up to `seconds` (None: for ever); None when none came.

        Raises the `ParlerError` in `lost` when nothing can come any more.
        """
        inbox = self._inbox[id]
        deadline = None if seconds is None else time.monotonic() + seconds
        while not inbox:
            if self.lost is not None:
                raise self.lost
            if not self._receive(None if deadline is None else deadline - time.monotonic()):
                return None
        return inbox.popleft()

    def took(self, id: int) -> None:
        """Note that one item of stream `id` was used, so that the daemon may send more."""
        if data := self._peer.took(id):
            self._send(data, HELLO_SECONDS)

    def forget(self, id: int) -> None:
        """Note that nobody waits for call `id` any more, and withdraw the call if it is not answered."""
        self._inbox.pop(id, None)
        if self.lost is None and (data := self._peer.cancel(id)):
            self._send(data, HELLO_SECONDS)

    def is_open(self) -> bool:
        """Whether the daemon is still there, as far as this can be told without sending."""
        while self.lost is None and self._receive(0.0):
            pass
        return self.lost is None

    def close(self) -> None:
        """End the connection, which withdraws every call and stream that is under way."""
        self._lose(ParlerError("connection_lost"))
        self._sock.close()

    def _lose(self, error: ParlerError) -> None:
        self.lost = self.lost or error

    def _send(self, data: bytes, seconds: float, file: int | None = None) -> None:
        if self.lost is not None:
            return
        self._sock.settimeout(seconds)
        try:
            if file is not None:
                beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, file.to_bytes(_INT, sys.byteorder))]
                data = data[self._sock.sendmsg([data], beside) :]
                self.handed += 1
            self._sock.sendall(data)
        except TimeoutError:
            self._lose(ParlerError("unreachable", "The daemon does not take what is sent to it."))
        except OSError:
            if self.is_open():  # reading may show a goodbye, in which the daemon said why it ended
                self._lose(ParlerError("connection_lost"))

    def _receive(self, seconds: float | None) -> bool:
        """Take in what arrives within `seconds`; False when nothing does."""
        self._sock.settimeout(None if seconds is None else max(0.0, seconds))
        try:
            data = self._sock.recv(_CHUNK)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError:
            data = b""
        if not data:
            self._lose(ParlerError("connection_lost"))
            return True
        for event in self._peer.receive(data):
            if isinstance(event, Welcome):
                self.welcome = event
            elif isinstance(event, Goodbye):
                self._lose(ParlerError.from_body(event.error))
            elif isinstance(event, Ended):
                self._lose(event.error)
            elif not isinstance(event, bytes) and event.id in self._inbox:
                self._inbox[event.id].append(event)
        return True


def open_link(home: Home, hello: Hello, seconds: float = HELLO_SECONDS) -> Link:
    """Connect to the daemon of this home and say hello. The daemon may take `seconds` to accept the connection, and as
    long again to answer the hello.

    Raises `Absent`; `ParlerError` with `not_permitted` when another user's process holds the socket, with `unreachable`
    when it does not answer or this program may not connect, or with the error of the daemon's goodbye.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except PermissionError:
        raise forbidden() from None
    link = Link(sock)
    try:
        sock.settimeout(seconds)
        try:
            sock.connect(home.address())
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise Absent from None
        except TimeoutError:
            raise ParlerError("unreachable", "The daemon does not accept connections.") from None
        except PermissionError:
            raise forbidden() from None
        except OSError as error:
            raise ParlerError("unreachable", f"Connecting failed: {error.strerror or error}.") from None
        if process.peer_of(sock).uid != os.geteuid():
            raise ParlerError("not_permitted")
        link.greet(hello, seconds)
    except BaseException:
        sock.close()
        raise
    return link


def forbidden() -> ParlerError:
    """The error where this program may not connect. It does not tell whether a daemon runs."""
    return ParlerError(
        "unreachable", FORBIDDEN, hint="An agent uses Parler's MCP tools instead; a person, another shell."
    )
