"""The accept loop: lets this user's processes in, up to a number, and sees them out when the daemon drains.

No process may have more than half of all connections. When all are taken, a few further ones are kept back, over which
a person can look at the daemon, stop it, and decide on requests.

Not here: what a connection says (`connection`), where the socket comes from (`parlerd.listener`). Above:
`parlerd.daemon`. Invariant: an error of one connection, or of accepting one, never ends the loop.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from typing import Final

import trio

import parlerd
from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId
from parlerd.engine.callers import PeerProcess
from parlerd.engine.face import EngineFace
from parlerd.ipc import credentials
from parlerd.ipc.connection import Connection, Limits, full
from parlerd.ipc.host import StdioHost
from parlerd.ipc.recorder import Recorder
from parlerd.process import Hosts
from parlerd.wire.peer import DaemonPeer

log = logging.getLogger("parlerd.ipc")

DRAIN_SECONDS: Final = 2.0
"""How long calls that do not wait may take to finish when the daemon stops."""
_RETRY_SECONDS: Final = 0.1
"""How long to pause when the process has no descriptors or memory left for one more connection."""
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_ACCEPTS_PER_TURN: Final = 16
"""How many connections are accepted before others get a turn of the loop."""


class Server:
    """Every local connection of one daemon, whose person `principal` is."""

    def __init__(
        self,
        engine: EngineFace,
        stdio_host: StdioHost,
        *,
        principal: PrincipalId,
        version: str = parlerd.__version__,
        limits: Limits | None = None,
        hosts: Hosts | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._engine = engine
        self._stdio_host = stdio_host
        self._principal = principal
        self._version = version
        self._limits = limits or Limits()
        self._hosts = hosts or Hosts()
        # What each connection passes its frames by.
        self._recorder = recorder or Recorder()
        # The connections whose `run` has not returned.
        self._connections: set[Connection] = set()
        # Cancelled by `drain`: no further connection is accepted, and those that are open go on.
        self._accepting = trio.CancelScope()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def windows(self) -> int:
        """How many of them are windows of agent hosts."""
        return sum(connection.is_window for connection in self._connections)

    async def serve(self, listener: socket.socket) -> None:
        """Accept on a listening, non-blocking Unix socket until cancelled or drained. Leaves the socket open."""
        async with trio.open_nursery() as nursery:
            with self._accepting:
                while True:
                    await trio.lowlevel.wait_readable(listener)
                    if not self._accept_some(listener, nursery):
                        log.warning("no room for another connection; trying again")
                        await trio.sleep(_RETRY_SECONDS)

    def _accept_some(self, listener: socket.socket, nursery: trio.Nursery) -> bool:
        """Accept what waits, a few at a time; False when the system has nothing left to accept with."""
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    return False
                continue  # the other side left while it waited to be accepted
            sock.setblocking(False)
            connection = self._admit(sock)
            if connection is not None:
                nursery.start_soon(self._run, connection)
        return True

    def _admit(self, sock: socket.socket) -> Connection | None:
        try:
            process = credentials.check(sock)
            is_kept_back = self._place(process)
        except ParlerError as error:
            log.warning("turned a connection away: %s", error.code)
            # The goodbye is tried once, without waiting: a program that does not read it is gone or means no good.
            with sock, contextlib.suppress(OSError):
                sock.send(DaemonPeer().goodbye(error))
            return None
        connection = Connection(
            sock,
            process,
            engine=self._engine,
            stdio_host=self._stdio_host,
            version=self._version,
            pid=os.getpid(),
            limits=self._limits,
            hosts=self._hosts,
            principal=self._principal,
            tap=self._recorder.tap(),
            is_kept_back=is_kept_back,
        )
        self._connections.add(connection)
        return connection

    def _place(self, process: PeerProcess) -> bool:
        """Whether one more connection of this process takes a place that is kept back. Raises `busy` when there is no
        place for it."""
        limits = self._limits
        own = [connection for connection in self._connections if connection.process.pid == process.pid]
        if len(own) >= limits.connections_of_one:
            raise ParlerError("busy", "This program has as many connections as one may have.")
        kept_back = sum(connection.is_kept_back for connection in self._connections)
        if len(self._connections) - kept_back < limits.connections:
            return False
        if kept_back >= limits.kept_back or sum(one.is_kept_back for one in own) >= limits.kept_back_of_one:
            raise full()
        return True

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Stop accepting, answer with `draining` the calls that only wait, let the others finish, and say goodbye to
        everyone. `serve` returns after that.

        This takes at most `seconds`, and the time for the goodbyes. Do not call it from the task of a connection.
        """
        self._accepting.cancel()
        for connection in self._connections:
            connection.drain()
        with trio.move_on_after(seconds):
            for connection in list(self._connections):
                await connection.idle()
        for connection in self._connections:
            connection.close(ParlerError("draining"))
