"""One conversation on the local socket: its hello, its calls and streams, or the lines of its window.

    state     what happens                                                 what ends it
    hello     `_converse` waits for the hello, within `hello_seconds`      a hello, or the goodbye that refuses one
    client    `Calls` begins calls and streams as they come                the client leaves, breaks the protocol, or
                                                                           `close`
    stdio     `_host_window` passes lines to the session and back          the host closes its input, the session ends,
                                                                           or `close`
    ended     a goodbye and what waits are sent, within                    the socket is closed
              `farewell_seconds`

`drain` changes no state: calls that only wait are answered with `draining`, and no new call begins. The states are
those of `wire.peer`. Not here: who may connect, and how many (`server`), and how calls are answered
(`connections.calls`). Above: `server`. Below: `wire.peer` for what may be said, `outbound` for sending, the engine
behind its face. Invariants: `engine.disconnect` follows every `engine.connect`; no exception of this conversation
leaves `run`.
"""

from __future__ import annotations

import os
import secrets
import socket
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio

from parlerd.connections.calls import Calls, coded
from parlerd.core.errors import ParlerError
from parlerd.core.model import PrincipalId, label, slug
from parlerd.engine import authority
from parlerd.engine.authority import Authority
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.face import EngineFace
from parlerd.engine.handed import MAX_OPEN, Handed
from parlerd.ipc import credentials
from parlerd.ipc.host import StdioHost
from parlerd.ipc.outbound import CAP, STALL_SECONDS, Outbound
from parlerd.ipc.recorder import Tap
from parlerd.ipc.workspace import workspace_of
from parlerd.operations import types as t
from parlerd.process import Hosts
from parlerd.wire.calls import Ended
from parlerd.wire.messages import Hello, Note
from parlerd.wire.peer import ClientEvent, DaemonPeer

KEPT_BACK_FOR: Final = frozenset({"local", "person"})
"""The planes whose operations a reserve connection may call: the daemon's state, stopping it, a person's decisions."""
FRAMES_OPERATION: Final = "daemon.frames"
"""A connection that calls this stream is left out of what the stream tells."""
_FILES: Final = socket.CMSG_SPACE((MAX_OPEN + 1) * array("i").itemsize)
"""The room for descriptors beside the bytes of one turn: one more than a connection may have, so that it shows."""
_CLOSED_IN_CHILDREN: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
_CHUNK: Final = 32 * 1024
"""How many bytes are read in one turn. This bounds how long the frames of one connection keep others waiting: a few
milliseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of connections: how many, how long, how much. Seconds are on the event loop's clock."""

    connections: int = 256
    """How many connections there may be, beside those that are kept back."""
    connections_of_one: int = 128
    """How many of them one process may have: half, so that a program that goes wrong cannot keep everybody else out."""
    kept_back: int = 16
    """How many further connections are kept back, so that a person can act when all others are taken. They serve only
    the planes in `KEPT_BACK_FOR`."""
    kept_back_of_one: int = 4
    """How many of those one process may have."""
    hello_seconds: float = 5.0
    """How long the hello may take."""
    kept_back_seconds: float = 5.0
    """How long a connection that was kept back may stand without a call."""
    farewell_seconds: float = 2.0
    """How long a connection that ends may take to send what waits, and the engine to let go of the caller."""
    session_seconds: float = 5.0
    """How long a window's session may take to end after its host closed stdin."""
    outbound_cap: int = CAP
    stall_seconds: float = STALL_SECONDS


class Connection:
    """One accepted socket, from its hello to its end. `server` makes it and calls `run`, which closes the socket."""

    def __init__(
        self,
        sock: socket.socket,
        process: PeerProcess,
        *,
        engine: EngineFace,
        stdio_host: StdioHost,
        version: str,
        pid: int,
        limits: Limits,
        hosts: Hosts,
        principal: PrincipalId,
        tap: Tap,
        is_kept_back: bool = False,
    ) -> None:
        self._sock = sock  # non-blocking
        self.process = process
        """The process on the other end, as the kernel says."""
        self.is_kept_back = is_kept_back
        """Whether this connection is one of those that are kept back: see `Limits.kept_back`."""
        self._engine = engine
        # Serves the lines of a window; not used by a client's connection.
        self._stdio_host = stdio_host
        # What the welcome says of the daemon.
        self._version = version
        self._pid = pid
        self._limits = limits
        # How agent hosts are recognised among the processes above a window or a hook.
        self._hosts = hosts
        # The person whose home this is: everyone at this door acts for this person.
        self._principal = principal
        # Passes the frames by whoever follows them.
        self._tap = tap
        # What may be said when, as a state machine; and the bytes that wait to be sent.
        self._peer = DaemonPeer(tap.heard)
        self._out = Outbound(sock, cap=limits.outbound_cap, stall_seconds=limits.stall_seconds, told=tap.told)
        self._calls = Calls(self._peer, self._out, engine, self._admit)
        # The files that the other side opened and handed over.
        self._handed = Handed()
        # Cancelled to end the conversation. Whoever cancels it sets `_farewell` first, if there is something to say.
        self._scope = trio.CancelScope()
        # The goodbye to send at the end; None when the other side left by itself.
        self._farewell: ParlerError | None = None

    @property
    def is_window(self) -> bool:
        """Whether an agent host's window is on the other end."""
        return self._peer.state == "stdio"

    async def idle(self) -> None:
        """Wait until no call is under way."""
        await self._calls.idle()

    def drain(self) -> None:
        """Begin no more calls, and answer with `draining` those that only wait."""
        self._calls.drain()

    def close(self, error: ParlerError) -> None:
        """End the conversation with a goodbye that says why."""
        if self._farewell is None:
            self._farewell = error
        self._scope.cancel()

    async def run(self) -> None:
        """Serve until either side ends it. Raises nothing but cancellation."""
        try:
            async with trio.open_nursery() as sending:
                sending.start_soon(self._out.run)
                sending.start_soon(self._end_when_broken)
                try:
                    with self._scope:
                        await self._converse()
                # This is the boundary of a connection: whatever went wrong inside must not reach the listener or
                # another client. `except*` lets a cancellation pass that comes in the same group.
                except* Exception as errors:
                    self._farewell = coded(errors, "connection")
                if self._farewell is not None:
                    self._out.send(self._peer.goodbye(self._farewell), soon=True)
                self._out.finish()
                with trio.move_on_after(self._limits.farewell_seconds):
                    await self._out.drained(below=1)
                sending.cancel_scope.cancel()
        finally:
            self._handed.close()
            self._sock.close()

    async def _end_when_broken(self) -> None:
        await self._out.broken.wait()
        self._scope.cancel()

    # -- the hello -----------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        with trio.move_on_after(self._limits.hello_seconds) as limit:
            events = await self._read()
        if limit.cancelled_caught:
            raise ParlerError("bad_frame", "No hello came.")
        if not events:
            return
        first, *rest = events
        if isinstance(first, Ended):
            raise first.error
        if not isinstance(first, Hello):
            raise ParlerError("bad_frame", "The first frame is not a hello.")
        if self.is_kept_back and first.role == "stdio":
            raise full()
        caller = await self._caller(first)
        try:
            await self._engine.connect(caller)
            self._out.send(self._peer.welcome(self._version, self._pid))
            if first.role == "stdio":
                await self._host_window(first, caller, rest)
            else:
                broken = await self._calls.answer(caller, rest, self._next)
                self._farewell = broken or self._farewell
        finally:
            with trio.move_on_after(self._limits.farewell_seconds, shield=True):
                await self._engine.disconnect(caller)

    async def _caller(self, hello: Hello) -> Caller:
        """Who this is to the engine. What the hello says is a claim of the other side; the kernel says which process
        the other side is."""
        asked = hello.hook or hello.role == "stdio"
        ancestry = credentials.ancestry_of(self.process, self._hosts) if asked else None
        claimed = frozenset(pid for pid in (hello.ppid, *hello.ancestors) if pid > 1)  # 0 and 1 are everybody's
        if ancestry is None:
            parents = claimed
        elif hello.hook or ancestry.host:
            parents = frozenset(ancestry.above)
        else:
            # Where no host is known above a window, whatever is above both is the person's own desktop too.
            parents = frozenset(ancestry.above[:1])
        facts = Facts(
            session=secrets.token_hex(10),
            via="mcp" if hello.role == "stdio" else "hook" if hello.hook else "cli",
            authority=self._authority(hello),
            host=slug(hello.host, fallback="unknown") if hello.host else "",
            window=label(hello.window) if hello.window else "",
            workspace=await workspace_of(hello),
            as_name=label(hello.as_name) if hello.as_name else "",
            conversation=hello.conversation,
            parents=parents,
            below=ancestry.host if ancestry is not None else "",
            peer=self.process,
        )
        return Caller(facts, handed=self._handed)

    def _authority(self, hello: Hello) -> Authority:
        """What this conversation may do: everyone at this door is of the home's own person."""
        if hello.role == "stdio":
            return authority.of_window(self._principal)
        if hello.hook:
            return authority.of_hook(self._principal)
        return authority.of_command(self._principal, names_agent=bool(hello.as_name))

    async def _read(self) -> list[ClientEvent]:
        """The next events; none when the other side is gone."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data, beside, flags, _ = self._sock.recvmsg(_CHUNK, _FILES, _CLOSED_IN_CHILDREN)
            except BlockingIOError:
                continue
            except OSError:
                # The other side reset the connection, which is an end like any other.
                return []
            if beside:
                self._take_files(beside)
            if flags & socket.MSG_CTRUNC:
                raise ParlerError("bad_frame", "More files came at once than a connection may have.")
            if not data:
                return []
            events = self._peer.receive(data)
            if events:
                return events

    def _take_files(self, beside: list[tuple[int, int, bytes]]) -> None:
        """Take the descriptors that came with some bytes. Raises `ParlerError` for one too many."""
        found = array("i")
        for level, kind, data in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
        too_many: ParlerError | None = None
        for descriptor in found:
            os.set_inheritable(descriptor, False)
            try:
                self._handed.add(descriptor)
            except ParlerError as error:
                too_many = error
        if too_many is not None:
            raise too_many

    # -- role client ---------------------------------------------------------------------------------------

    def _admit(self, operation: t.Operation) -> None:
        if self.is_kept_back and operation.plane not in KEPT_BACK_FOR:
            raise full()
        if operation.name == FRAMES_OPERATION:
            self._tap.is_left_out = True

    async def _next(self) -> list[ClientEvent]:
        """The next events; none when the other side is gone, or when a connection that was kept back stands unused."""
        if not self.is_kept_back:
            return await self._read()
        while True:
            with trio.move_on_after(self._limits.kept_back_seconds):
                return await self._read()
            if not self._calls.under_way:
                self._farewell = full()
                return []

    # -- role stdio ----------------------------------------------------------------------------------------

    async def _host_window(self, hello: Hello, caller: Caller, events: list[ClientEvent]) -> None:
        session = trio.CancelScope()
        async with aclosing(self._lines(caller, events, session)) as lines:
            with session:
                await self._stdio_host(hello, caller, lines, self._say)

    async def _lines(
        self, caller: Caller, events: list[ClientEvent], session: trio.CancelScope
    ) -> AsyncGenerator[bytes, None]:
        """The lines of a window's host up to the end of its input, read as the session asks for them. A session that
        goes on after the end is cancelled at a deadline."""
        more = True
        while more:
            for event in events:
                if isinstance(event, bytes):
                    yield event
                    continue
                # The shim's last word: its host has every answer, and will make no next call that could say so.
                if isinstance(event, Note) and event.written:
                    for each in (caller, *caller.siblings):
                        await self._engine.call("window.acknowledge", t.AcknowledgeShown(), each)
                elif isinstance(event, Ended):
                    self._farewell = event.error
                more = False
                break
            else:
                events = await self._read()
                more = bool(events)
        session.deadline = trio.current_time() + self._limits.session_seconds

    async def _say(self, line: bytes) -> None:
        await self._out.drained()
        self._out.send(self._peer.line(line))


def full() -> ParlerError:
    """The error for a connection that comes when every place is taken."""
    return ParlerError(
        "busy",
        "This daemon has as many connections as it takes.",
        hint="Close some agent windows, or run `parler daemon restart`.",
    )
