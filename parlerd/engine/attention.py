"""What may begin a turn of an agent: the handler of `agent.attention`.

Not here: the rules (`core.attention`), and beginning turns (`waking`). Above: the engine. Below: the desk. Invariant:
an agent sets its own attention alone, and a caller that there are only certain rooms for sets it in these rooms alone.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.operations import types as t


class AttentionHandlers:
    """The handler about attention."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("agent.attention")
    async def attention(self, caller: Caller, params: t.SetAttention) -> t.AttentionIs:
        desk = self._desk
        me = await desk.me(caller)
        match params.mode:
            case None:
                pass
            case "open" | "dnd" | "focus" as mode:
                if params.room is not None:
                    raise Refused("invalid_param", "In one room attention is quiet, muted or inherit.", param="mode")
                if caller.facts.authority.rooms is not None:
                    raise Refused("not_permitted", "This is about an agent in all its rooms.")
                await self._set(caller, me, c.SetAttention(operation="agent.attention", agent=me.id, mode=mode))
            case "quiet" | "muted" | "inherit" as here:
                if params.room is None:
                    raise Refused("invalid_param", "Name the room in which this is to hold.", param="room")
                handle, _ = await room_of(desk, me, params.room)
                said = c.SetAttention(operation="agent.attention", agent=me.id, room=handle.room, here=here)
                await self._set(caller, me, said)
        return await self._told(me)

    async def _set(self, caller: Caller, me: AgentRecord, command: c.SetAttention) -> None:
        await self._desk.rooms.home.submit(command, self._desk.by(caller, me))

    async def _told(self, me: AgentRecord) -> t.AttentionIs:
        desk = self._desk
        attention = desk.rooms.home.aggregate.attention
        mine = set(await desk.library.my_rooms(me.id))
        rooms = []
        for room, mode in attention.rooms_of(me.id).items():
            if room in mine:
                state = (await desk.rooms.seen(RoomId(room))).state
                rooms.append(t.AttentionIn(room=room, name=state.name, mode=mode))
        return t.AttentionIs(name=me.name, mode=attention.of(me.id), rooms=rooms)
