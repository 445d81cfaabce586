"""Programs that come over HTTP without a token, where the person let every program of theirs in.

    room.begin {name: my-room}                --> a room of this home, of which an agent `http` is the owner
    room.enter {room: my-room, name: agent-a} --> a new agent of the person, in that room, and its token

Such a room is the person's: its owner is an agent that nobody acts as, and that is not there for others. A newcomer
comes in as everybody does, by the room's first key, which is told to nobody. Only rooms that were begun so can be
entered so. Who came first has the name: the token that it was given is the only way to act as that agent.

Not here: what a token is good for (`bearers`), how a new agent comes to be (`newcomers`), HTTP (`parlerd.web`). Above:
the engine. Below: `opening`, the rooms' own lines. Invariant: nobody comes in as an agent that is there already, or
into another room.
"""

from __future__ import annotations

import hashlib
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.expressions import Expression
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, Millis, RoomId, label, role_name
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.key_text import spelled
from parlerd.engine.minting import Tokens
from parlerd.engine.newcomers import HOST, Newcomers, in_a_path, name_of, require_free
from parlerd.engine.opening import Wanted, open_room
from parlerd.engine.queues import KEY_MS, KEY_USES
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable_as
from parlerd.operations import types as t

OWNER: Final = "http"
"""What the owner of these rooms is called, or something like it. It has the first seat of the host `http`."""
TOPIC: Final = "open to every program of this machine"
ROOM_IDS: Final = "r_"
"""With what the ids of rooms begin."""


class Visitors:
    """The handlers of `room.begin` and `room.enter`."""

    def __init__(self, desk: Desk, tokens: Tokens, newcomers: Newcomers, sight: Sight) -> None:
        self._desk = desk
        self._tokens = tokens
        self._newcomers = newcomers
        self._sight = sight
        self._one = trio.Lock()
        """One room is begun at a time: that a name is free, and to take it, lie a commit apart."""

    @handles("room.begin")
    async def begin(self, caller: Caller, params: t.BeginRoom) -> t.RoomBegun:
        desk, name = self._desk, in_a_path(label(params.name))
        if name.startswith(ROOM_IDS):
            raise Refused("invalid_name", f"A room's name does not begin with {ROOM_IDS}, as ids do.")
        async with self._one:
            owner = await self._owner()
            if await self._is_begun(owner, name):
                raise Refused("room_exists", name=name)
            opened = await open_room(
                desk,
                caller,
                owner,
                Wanted(
                    operation="room.begin",
                    # The same name is the same room, also after a crash.
                    idempotency_key=f"begin.{hashlib.sha256(name.encode()).hexdigest()[:32]}",
                    digest=hashlib.sha256(name.encode()).digest(),
                    kind="channel",
                    name=name,
                    topic=TOPIC,
                    home=desk.keys.id,
                    approval=False,
                    ref="",
                    ttl_ms=Millis(KEY_MS),
                    max_uses=KEY_USES,
                ),
            )
            nowhere = c.EnableAgent(operation="room.begin", enabled=self._sight.parse("false", "enabled"))
            await opened.handle.submit(nowhere, desk.by(caller, owner))
        return t.RoomBegun(room=opened.room.state.room, name=opened.room.state.name)

    @handles("room.enter")
    async def enter(self, caller: Caller, params: t.EnterRoom) -> t.RoomEntered:
        name, role = name_of(params.name), role_name(params.role) if params.role else ""
        handle = await self._begun(params.room)
        async with self._newcomers.one_at_a_time(handle.room):
            state = (await handle.quiet()).state
            require_free(state, name)
            if state.closed:
                raise Refused("room_closed")
            enabled = None if params.enabled is None else self._sight.parse(params.enabled, "enabled")
            if enabled is not None:
                require_readable_as(handle.aggregate, name, enabled)
            self._newcomers.require_space()
            me = await self._newcomers.create(name, handle.room)
            by = self._newcomers.by(caller, me)
            # What is begun is done, also where the door is closed meanwhile. The token comes first: whoever is in
            # without one could be nobody's ever after.
            with trio.CancelScope(shield=True):
                text, token = await self._tokens.mint(
                    by, me, handle.room, access=t.DEFAULT_ACCESS, days=params.days, label=params.label, authority="door"
                )
                try:
                    await self._come_in(handle, by, name, role, enabled)
                except ParlerError:
                    await self._tokens.revoke(by, token.id)
                    raise
        member = (await handle.quiet()).state.members[me.id]
        return t.RoomEntered(
            room=handle.room,
            name=state.name,
            agent=member.handle,
            role=member.role,
            token=text,
            id=token.id,
            expires_at=token.expires_at,
        )

    async def _come_in(self, handle: RoomHandle, by: By, name: str, role: str, enabled: Expression | None) -> None:
        """Let a newcomer in, to be there while something is true."""
        desk = self._desk
        knock = c.Knock(
            operation="room.enter",
            key_id=desk.keys.key_id(spelled(desk, handle.room, "", gated=False, is_sealed=False).key),
            name=name,
            host=HOST,
            wall=desk.clock.now(),
            role=role,
        )
        await handle.submit(knock, by)
        if enabled is not None:
            await handle.submit(c.EnableAgent(operation="room.enter", enabled=enabled), by)

    async def _owner(self) -> AgentRecord:
        """The agent that owns these rooms."""
        home = self._desk.rooms.home
        found = home.aggregate.by_seat(HOST, "", 0)
        if found is not None:
            return found
        return await self._desk.agents.create(home.aggregate.free_name(OWNER), host=HOST, workspace="", slot=0)

    async def _is_begun(self, owner: AgentRecord, name: str) -> bool:
        """Whether there is a room of this name, with all that belongs to it: a daemon that died meanwhile goes on."""
        home = self._desk.rooms.home.aggregate
        room = home.state.room_names.get(owner.id, {}).get(name)
        if room is None:
            return False
        try:
            modules = (await self._desk.rooms.get(room)).aggregate.modules
        except Refused:
            return False
        return modules.entry(owner.name) is not None

    async def _begun(self, wanted: str) -> RoomHandle:
        """The room that was begun under this name, or with this id. Raises `Refused(no_such_room)`."""
        home = self._desk.rooms.home.aggregate
        owner = home.by_seat(HOST, "", 0)
        named = {} if owner is None else home.state.room_names.get(owner.id, {})
        room = RoomId(wanted) if wanted in named.values() else named.get(wanted)
        if room is None:
            raise Refused("no_such_room", tool_hint="POST /rooms opens one.")
        return await self._desk.rooms.get(room)
