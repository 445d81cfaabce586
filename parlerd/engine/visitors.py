"""Programs that come over HTTP without a token, where the person let every program of this machine in.

    room.begin {name: my-room}                --> a room of this home, of which an agent `http` is the owner
    room.enter {room: my-room, name: agent-a} --> a new agent of the person, in that room, and its token

Such a room is the person's: its owner is an agent that nobody acts as, and that is not there for others. A newcomer
comes in as everybody does, by the room's first key, which is told to nobody. Only rooms that were begun so can be
entered so. Who came first has the name: the token that it was given is the only way to act as that agent.

Not here: what a token is good for (`bearers`), HTTP (`parlerd.web`). Above: the engine. Below: `opening`, the rooms'
own lines. Invariant: nobody comes in as an agent that is there already, or into another room.
"""

from __future__ import annotations

import hashlib
from typing import Final

import trio

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, Millis, RoomId, agent_name, label, role_name
from parlerd.engine.bearers import Tokens
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.key_text import typed_key
from parlerd.engine.opening import Wanted, open_room
from parlerd.engine.queues import KEY_MS, KEY_USES
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable
from parlerd.operations import types as t

HOST: Final = "http"
"""The host of the agents that come so, and of the owner of their rooms, which has the first seat there."""
OWNER: Final = "http"
"""What that owner is called, or something like it."""
TOPIC: Final = "open to every program of this machine"


class Visitors:
    """The handlers of `room.begin` and `room.enter`."""

    def __init__(self, desk: Desk, tokens: Tokens, sight: Sight) -> None:
        self._desk = desk
        self._tokens = tokens
        self._sight = sight
        self._one = trio.Lock()
        """One visitor is served at a time: that a name is free, and to take it, lie a commit apart."""

    @handles("room.begin")
    async def begin(self, caller: Caller, params: t.BeginRoom) -> t.RoomBegun:
        desk, name = self._desk, label(params.name)
        async with self._one:
            owner = await self._owner()
            if name in desk.rooms.home.aggregate.state.room_names.get(owner.id, {}):
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
        desk = self._desk
        name, role = agent_name(params.name), role_name(params.role) if params.role else ""
        async with self._one:
            handle = await self._begun(params.room)
            state = (await handle.quiet()).state
            if any(member.handle == name for member in state.members.values()):
                raise Refused("agent_exists", agent=name)
            if state.closed:
                raise Refused("room_closed")
            enabled = None if params.enabled is None else self._sight.parse(params.enabled, "enabled")
            me = await self._newcomer(name, handle.room)
            by = By(actor=me.id, principal=me.principal, session=caller.facts.session, host=HOST, via="http")
            knock = c.Knock(
                operation="room.enter",
                key_id=desk.keys.key_id(typed_key(desk, handle.room, "", gated=False)),
                name=name,
                host=HOST,
                wall=desk.clock.now(),
                role=role,
            )
            await handle.submit(knock, by)
            if enabled is not None:
                await self._enable(handle, by, enabled)
            text, token = await self._tokens.mint(
                by, me, handle.room, access=t.DEFAULT_ACCESS, days=params.days, label=params.label, authority="door"
            )
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

    async def _enable(self, handle: RoomHandle, by: By, enabled: Expression) -> None:
        """Let a newcomer be there while something is true. Where that is refused, it leaves again."""
        try:
            require_readable(await handle.quiet(), by.actor, enabled)
            await handle.submit(c.EnableAgent(operation="room.enter", enabled=enabled), by)
        except Refused:
            await handle.submit(c.Leave(operation="room.enter"), by)
            raise

    async def _owner(self) -> AgentRecord:
        """The agent that owns these rooms."""
        home = self._desk.rooms.home
        found = home.aggregate.by_seat(HOST, "", 0)
        if found is not None:
            return found
        return await self._desk.agents.create(home.aggregate.free_name(OWNER), host=HOST, workspace="", slot=0)

    async def _begun(self, wanted: str) -> RoomHandle:
        """The room that was begun under this name, or with this id. Raises `Refused(no_such_room)`."""
        home = self._desk.rooms.home.aggregate
        owner = home.by_seat(HOST, "", 0)
        named = {} if owner is None else home.state.room_names.get(owner.id, {})
        room = named.get(wanted, RoomId(wanted))
        if room not in named.values():
            raise Refused("no_such_room", hint="POST /rooms opens one.")
        return await self._desk.rooms.get(room)

    async def _newcomer(self, name: str, room: RoomId) -> AgentRecord:
        """A new agent. In the room it has the name that it said; in this home another agent may have that already."""
        home, slot = self._desk.rooms.home, 0
        while home.aggregate.by_seat(HOST, room, slot) is not None:
            slot += 1
        return await self._desk.agents.create(home.aggregate.free_name(name), host=HOST, workspace=room, slot=slot)
