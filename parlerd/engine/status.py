"""How the daemon is, what passes its socket, and which agent hosts came to it.

Not here: whether what is stored is sound (`checks`), stopping (`engine`). Above: the engine. Below: the desk.
Invariant: asking makes nobody an agent, and waits for no room.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator

import trio

from parlerd.engine.bearers import WebPort
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_rooms
from parlerd.engine.person import is_person, require_person
from parlerd.engine.ports import Frames
from parlerd.operations import types as t


class Status:
    """The handlers of `daemon.status`, `daemon.frames` and `hosts.seen`. `socket` is the path of the socket, `frames`
    is what passes it, and `web` the door over HTTP."""

    def __init__(self, desk: Desk, socket: str, frames: Frames, web: WebPort) -> None:
        self._desk = desk
        self._web = web
        self._frames = frames
        self._socket = socket
        self._started = trio.current_time()

    @handles("hosts.seen")
    async def hosts(self, caller: Caller, params: t.SeenHosts) -> t.SeenHostList:
        desk = self._desk
        await trio.lowlevel.checkpoint()
        if params.look:
            desk.host_files.look()
        return t.SeenHostList(hosts=desk.seen_hosts.listed())

    @handles("daemon.status")
    async def status(self, caller: Caller, params: t.DaemonStatus) -> t.DaemonInfo:
        desk = self._desk
        await trio.lowlevel.checkpoint()
        return t.DaemonInfo(
            running=True,
            pid=os.getpid(),
            socket=self._socket,
            version=desk.version,
            uptime_ms=int((trio.current_time() - self._started) * 1000),
            rooms=await self._rooms_known(caller),
            connections=len(desk.connected),
            windows=sum(1 for _ in desk.connected.windows()),
            store=desk.library.kind,
            home=desk.home_path,
            http=self._web.url,
            http_open=self._web.lets_in,
            watched=sorted(desk.sightings.hosts),
        )

    @handles("daemon.frames")
    async def frames(self, caller: Caller, params: t.FollowFrames) -> AsyncGenerator[t.FrameInfo, None]:
        """What passes the socket, for the person: an agent has no business with what others send."""
        require_person(self._desk, caller, in_editor=True)
        with self._frames.follow() as frames:
            async for frame in frames:
                yield frame

    async def _rooms_known(self, caller: Caller) -> int:
        """How many rooms there are, for the person; for an agent, and for a command that an agent host started, those
        it may look at. Source: security spec C10."""
        desk = self._desk
        if is_person(caller) and not desk.inspect(caller.facts.peer).agent_host:
            return len(await desk.library.all_rooms())
        me = desk.seats.existing(caller)
        return 0 if me is None else len(await observed_rooms(desk, caller, me))
