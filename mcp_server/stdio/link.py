"""The daemon's side of a window: one connection after the other, as a machine with three states.

    AWAY --connect: the hello is on its way--> GREETING --welcome--> READY
     ^                                            |                    |
     `------- lose: the connection ended, said something that is no protocol, or was silent for WELCOME_S

Not here: starting a daemon (`launch`), what the lines mean and what a lost connection means for requests (`pipe`).
Invariants: nothing blocks; a connection that broke the protocol is not read any further.
"""

from mcp_server.stdio.codec import frame, unpack
from mcp_server.stdio.system import CHUNK, NotOurs, dial

MYPY = False
if MYPY:
    import _socket
    from collections.abc import Iterator
    from typing import Any
else:
    Any = object

AWAY = "away"
GREETING = "greeting"
READY = "ready"

MAX_FRAME = 8 * 1024 * 1024
"""Bytes of one frame. Source: `parlerd.wire.frames`."""
WELCOME_S = 5.0
"""How long a daemon that accepted the connection may take to answer the hello."""
FAREWELL_SEND_S = 0.2
"""For the last bytes of a window that ends."""
FIRST_PAUSE_S = 0.02
"""Before the second attempt to connect; each further pause is half as long again, up to one of the three that
follow."""
STARTING_PAUSE_S = 0.1
FAST_PAUSE_S = 1.0
FAST_TRIES_S = 60.0
SLOW_PAUSE_S = 5.0
"""How often an idle shim looks for a daemon that was lost more than FAST_TRIES_S ago: that daemon's successor keeps the
window's slot for 30 s."""

FORBIDDEN = "This program may not connect to the daemon's socket; a sandbox around it forbids that."
"""Said where connecting is not allowed, which does not tell whether a daemon runs. Source: `parlerd.client.link`."""
NO_PROTOCOL = "The Parler daemon sent something that is not its protocol."


class Lost(Exception):
    """The connection cannot go on. Its text is a reason to tell the host, or empty when the daemon may be back soon."""


class Link:
    """The connection to the daemon of one home. Moments are seconds of the caller's clock."""

    def __init__(self, home: str, now: float) -> None:
        # Whose daemon is meant, an absolute path.
        self._home = home
        # AWAY, GREETING or READY, as in the picture above.
        self.state = AWAY
        # The socket; None while the state is AWAY.
        self.sock: _socket.socket | None = None
        # Whether any connection of this window was READY before: then the daemon that comes next hears of a reconnect.
        self.was_ready = False
        # Why there is no daemon, for an answer to the host; empty when nothing in particular is known.
        self.reason = ""
        # When this connection began.
        self._since = 0.0
        # What was received of a frame that is not whole yet, and what the daemon has not taken yet.
        self._received = bytearray()
        self.unsent = bytearray()
        # When to try to connect again, and how long the pause before that attempt is.
        self.next_try = 0.0
        self._pause = FIRST_PAUSE_S
        # When the last connection was lost, or else when the window began.
        self._lost_at = now

    @property
    def is_ready(self) -> bool:
        """Whether lines can be sent."""
        return self.state == READY

    def try_soon(self, now: float) -> None:
        """Begin anew with short pauses: a daemon is being started."""
        self._pause = FIRST_PAUSE_S
        self.next_try = now + self._pause

    def connect(self, hello: bytes, now: float, *, starting: bool) -> None:
        """Try the socket once. On success the hello is on its way, else `next_try` says when to try again; it is soon
        while a daemon is `starting`."""
        try:
            self.sock = dial(self._home, 0)
        except (OSError, ValueError) as error:
            if isinstance(error, NotOurs):
                self.reason = "The socket of this home belongs to another user."
            elif isinstance(error, PermissionError):
                self.reason = FORBIDDEN
            is_fresh = now - self._lost_at < FAST_TRIES_S
            cap = STARTING_PAUSE_S if starting else FAST_PAUSE_S if is_fresh else SLOW_PAUSE_S
            self._pause = min(self._pause * 1.5, cap)
            self.next_try = now + self._pause
            return
        self.state = GREETING
        self._since = now
        self.send(hello)
        self.flush()

    def welcomed(self) -> None:
        """The daemon accepted the hello."""
        self.state = READY
        self.was_ready = True
        self.reason = ""
        self._pause = FIRST_PAUSE_S

    def frames(self) -> "Iterator[Any]":
        """The values of the frames that came. Raises `Lost`, after the frames before the fault were given."""
        assert self.sock is not None
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Lost
        buffer = self._received
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            size = int.from_bytes(buffer[start : start + 4], "big")
            if size > MAX_FRAME:
                raise Lost("The Parler daemon sent a frame that is too large.")
            end = start + 4 + size
            if len(buffer) < end:
                break
            payload = bytes(buffer[start + 4 : end])
            start = end
            try:
                value, read = unpack(payload)
            except (IndexError, KeyError, ValueError):
                raise Lost(NO_PROTOCOL) from None
            if read != size:
                raise Lost(NO_PROTOCOL)
            yield value
        del buffer[:start]

    def send(self, payload: bytes) -> None:
        """Have `flush` send a frame."""
        self.unsent += frame(payload)

    def flush(self) -> None:
        """Send as much as the daemon takes now."""
        while self.sock is not None and self.unsent:
            try:
                sent = self.sock.send(self.unsent[:CHUNK])
            except BlockingIOError:
                return
            except OSError:
                # The daemon closed the connection. It may have said why before, so that is read before the end is.
                self.unsent.clear()
                return
            del self.unsent[:sent]

    def silent_at(self) -> float | None:
        """When a daemon that accepted and did not answer the hello is given up; None in every other state."""
        return self._since + WELCOME_S if self.state == GREETING else None

    def lose(self, reason: str, now: float) -> None:
        """The connection is gone. Nothing of it is kept, and the next attempt comes soon."""
        assert self.sock is not None
        self.sock.close()
        if self.is_ready:
            self._pause = FIRST_PAUSE_S
        self.sock, self.state = None, AWAY
        self.reason = reason
        self._received = bytearray()
        self.unsent.clear()
        self._lost_at = now
        self.next_try = now + self._pause

    def leave(self, note: bytes | None) -> None:
        """Say a last word, as far as there is one, and close the connection."""
        if self.sock is None:
            return
        if note is not None:
            self.send(note)
            self.sock.settimeout(FAREWELL_SEND_S)
            try:  # noqa: SIM105 - contextlib is not loaded
                self.sock.sendall(self.unsent)
            except OSError:
                pass  # the daemon is gone or does not read: the closing tells it of the end
        self.sock.close()
