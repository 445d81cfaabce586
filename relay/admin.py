"""The relay's own socket: how the person who runs it looks at it, kicks somebody, backs it up and stops it.

It is a Unix socket in the relay's home, which speaks the client's side of the socket protocol, so that the same client
library reaches a daemon and a relay. It carries the operations of the plane `relay`, the one by which a newer release
ends an older, and nothing else: no message, no room. Not here: what the operations do (`Control`), and how the socket
comes to be (`parlerd.listener`). Above: the relay's program. Below: `wire.peer`. Invariants: another user is turned
away before a byte of theirs is read; what changes something is refused to a program that an agent host started; an
error of one connection ends no other.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import trio

from parlerd import __version__, process
from parlerd.connections.calls import coded
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.wire import codec
from parlerd.wire.calls import Ended, Overflow
from parlerd.wire.messages import Call, Hello
from parlerd.wire.peer import UPGRADE_OPERATION, DaemonPeer

log = logging.getLogger("relay.admin")

CONNECTIONS: Final = 16
"""How many commands may look at once; one more is turned away."""
HELLO_S: Final = 5.0
IDLE_S: Final = 60.0
"""How long a connection may stand without a call."""
SEND_S: Final = 5.0
_CHUNK: Final = 16 * 1024
_RETRY_S: Final = 0.1
"""How long to pause when the process has no descriptors left for one more connection."""


class Control(Protocol):
    """The relay, as the person who runs it may ask it. Each raises `ParlerError`."""

    async def status(self) -> t.RelayInfo: ...

    async def members(self) -> t.RelayMemberList: ...

    async def kick(self, person: str) -> t.KickedFromRelay: ...

    async def backup(self, file: str) -> t.RelayBackedUp: ...

    async def stop(self) -> t.RelayStopping:
        """Begin to stop, and give the answer at once: what asked still gets it."""
        ...


class Admin:
    """Serves the socket. `hosts` are the agent hosts that a caller may have been started by."""

    def __init__(self, control: Control, hosts: process.Hosts) -> None:
        self._hosts = hosts
        self._open = 0
        # What answers each operation.
        self._answers: Mapping[str, Callable[[Any], Awaitable[t.Result]]] = {
            "relay.status": lambda params: control.status(),
            "relay.members": lambda params: control.members(),
            "relay.kick": lambda params: control.kick(params.person),
            "relay.backup": lambda params: control.backup(params.file),
            "relay.stop": lambda params: control.stop(),
            # All that a command of a newer protocol may ask.
            UPGRADE_OPERATION: lambda params: control.stop(),
        }

    @property
    def answers(self) -> frozenset[str]:
        """The operations that are answered here."""
        return frozenset(self._answers)

    async def serve(self, listener: socket.socket) -> None:
        """Accept on a listening, non-blocking Unix socket until cancelled. Leaves the socket open."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.lowlevel.wait_readable(listener)
                try:
                    sock, _ = listener.accept()
                except BlockingIOError:
                    continue
                except OSError as error:
                    log.warning("accepting failed: %s", error.strerror)
                    await trio.sleep(_RETRY_S)
                    continue
                sock.setblocking(False)
                nursery.start_soon(self._run, sock)

    async def _run(self, sock: socket.socket) -> None:
        self._open += 1
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        peer = DaemonPeer()
        try:
            async with stream:
                try:
                    await self._converse(stream, peer, _pid_of(sock))
                except ParlerError as error:
                    await _send(stream, peer.goodbye(error))
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the other side is gone, or does not read
        except Exception as error:
            coded(error, "a connection of the relay's own socket")
        finally:
            self._open -= 1

    async def _converse(self, stream: trio.SocketStream, peer: DaemonPeer, pid: int) -> None:
        if self._open > CONNECTIONS:
            raise ParlerError("busy", limit=CONNECTIONS)
        wait_s = HELLO_S
        while True:
            with trio.move_on_after(wait_s) as scope:
                data = await stream.receive_some(_CHUNK)
            if scope.cancelled_caught or not data:
                return
            for event in peer.receive(data):
                match event:
                    case Hello(role="client"):
                        wait_s = IDLE_S
                        await _send(stream, peer.welcome(__version__, os.getpid()))
                    case Call():
                        await _send(stream, await self._answer(peer, event, pid))
                    case Overflow():
                        await _send(stream, peer.refuse(event))
                    case Ended():
                        raise event.error
                    case Hello() | bytes():
                        raise ParlerError("bad_frame", "A relay takes no windows here.")
                    case _:
                        pass  # no call takes credit or time, so there is nothing to give or to withdraw

    async def _answer(self, peer: DaemonPeer, call: Call, pid: int) -> bytes:
        try:
            answer = self._answers.get(call.op)
            if answer is None:
                raise ParlerError("unknown_operation", operation=call.op[:64])
            operation = OPERATIONS[call.op]
            params = codec.Shape[t.Params](operation.params, "invalid_param").decode(call.params)
            if operation.effect != "read":
                self._require_person(pid)
            return peer.reply(call.id, codec.encode(await answer(params)))
        except Exception as error:
            return peer.fail(call.id, coded(error, call.op[:64]).body())

    def _require_person(self, pid: int) -> None:
        """Raises `ParlerError(needs_person)` for a program that an agent host started: a speed bump, as for the
        daemon's own decisions."""
        host = process.surroundings_of(pid, self._hosts).agent_host
        if host:
            raise ParlerError("needs_person", f"This was started by an agent host ({host}).")


def _pid_of(sock: socket.socket) -> int:
    """The process on the other end. Raises `ParlerError(not_permitted)` for another user's."""
    try:
        peer = process.peer_of(sock)
    except OSError:
        raise ParlerError("not_permitted", "The other side could not be identified.") from None
    if peer.uid != os.geteuid():
        raise ParlerError("not_permitted", uid=peer.uid)
    return peer.pid


async def _send(stream: trio.SocketStream, data: bytes) -> None:
    with trio.fail_after(SEND_S):
        await stream.send_all(data)
