"""Leaving a room, putting a member out or saying what it is there, giving a room away, ending a room: the handlers of
`room.leave`, `room.kick`, `room.role`, `room.transfer`, `room.takeover`, `room.archive` and `session.close`.

Not here: sending a whole person away from a relay (`people`). Above: the engine. Below: the rooms' own lines.
Invariant: whoever is in a room no longer has no active session there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, HomeId, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.engine.observers import observed_room
from parlerd.engine.person import is_person, require_person
from parlerd.engine.reading import handle_of
from parlerd.operations import types as t


class Departing:
    """The handlers about who is in a room no longer, about what its owner does, and about a room that is over."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("room.leave")
    async def leave(self, caller: Caller, params: t.LeaveAsMember) -> t.MemberGone:
        desk = self._desk
        me = await desk.me(caller)
        actor, room = await room_of(desk, me, params.room)
        await actor.submit(c.Leave(operation="room.leave"), desk.by(caller, me))
        await self._forget(caller, me, actor.room)
        return t.MemberGone(
            room=actor.room,
            room_name=room.state.name,
            agent=me.id,
            name=handle_of(room.state, me.id),
            status="left",
        )

    @handles("room.kick")
    async def kick(self, caller: Caller, params: t.KickMember) -> t.MemberGone:
        desk = self._desk
        me = await desk.me(caller)
        actor, room, principal = await self._owned(caller, me, params.room)
        settled = await actor.submit(
            c.Kick(operation="room.kick", agent=params.agent, principal=principal), desk.by(caller, me)
        )
        # The room stays the agent's active one, of which it is told that it was put out.
        gone = AgentId(settled.decision.answer)
        return t.MemberGone(
            room=actor.room,
            room_name=room.state.name,
            agent=gone,
            name=handle_of(room.state, gone),
            status="kicked",
        )

    @handles("room.role")
    async def give_role(self, caller: Caller, params: t.GiveRole) -> t.RoleOfMember:
        desk = self._desk
        me = await desk.me(caller)
        actor, room, principal = await self._owned(caller, me, params.room)
        command = c.GiveRole(
            operation="room.role", agent=params.agent, role=params.role, locks=params.lock, principal=principal
        )
        settled = await actor.submit(command, desk.by(caller, me))
        agent = AgentId(settled.decision.answer)
        return t.RoleOfMember(
            room=actor.room,
            room_name=room.state.name,
            agent=agent,
            name=handle_of(room.state, agent),
            role=params.role,
            locked=params.lock,
        )

    @handles("room.transfer")
    async def transfer(self, caller: Caller, params: t.TransferRoom) -> t.OwnedRoom:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        actor, room, _ = await observed_room(desk, caller, me, params.room)
        if room.state.owner_principal != me.principal:
            raise Refused("not_owner")
        command = c.ChangeOwner(operation="room.transfer", owner=params.agent, principal=me.principal)
        return await self._give(caller, me, actor, command, "transferred")

    @handles("room.takeover")
    async def take_over(self, caller: Caller, params: t.TakeOver) -> t.OwnedRoom:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        actor, room, agents = await observed_room(desk, caller, me, params.room)
        wanted = [each for each in agents if params.agent in ("", each.id, handle_of(room.state, each.id))]
        if not wanted:
            raise Refused("no_such_agent", agent=params.agent)
        if len(wanted) > 1:
            candidates = [handle_of(room.state, each.id) for each in wanted]
            raise Refused("ambiguous_name", "More than one of your agents is in this room.", candidates=candidates)
        # How long its owner's person was away is counted where the room lives.
        command = c.ChangeOwner(operation="room.takeover", owner=wanted[0].id, principal=me.principal, takes=True)
        return await self._give(caller, wanted[0], actor, command, "taken_over")

    async def _give(
        self,
        caller: Caller,
        by: AgentRecord,
        actor: RoomHandle,
        command: c.ChangeOwner,
        status: Literal["transferred", "taken_over"],
    ) -> t.OwnedRoom:
        desk = self._desk
        settled = await actor.submit(command, desk.by(caller, by))
        owner = AgentId(settled.decision.answer)
        state = (await actor.quiet()).state
        if owner in desk.rooms.home.aggregate.state.agents:
            # Among the rooms of an owner a name means one room; a name that is taken stays with the room that has it.
            here = HomeId("") if desk.rooms.is_here(actor.aggregate) else state.home
            naming = c.NameRoom(owner=owner, room=actor.room, name=state.name, home=here, activates=False)
            await desk.rooms.home.submit(naming, desk.by(caller, by))
        return t.OwnedRoom(
            room=actor.room, room_name=state.name, owner=owner, name=handle_of(state, owner), status=status
        )

    @handles("room.archive")
    async def archive(self, caller: Caller, params: t.ArchiveRoom) -> t.ArchivedRoom:
        desk = self._desk
        me = await desk.me(caller)
        actor, room, principal = await self._owned(caller, me, params.room)
        if principal is None and room.state.owner != me.id:
            raise Refused("not_owner")
        await actor.submit(c.CloseRoom(operation="room.archive", principal=principal), desk.by(caller, me))
        await self._forget(caller, me, actor.room)
        return t.ArchivedRoom(room=actor.room, name=room.state.name, status="archived")

    @handles("session.close")
    async def close_session(self, caller: Caller, params: t.CloseSession) -> t.ClosedSession:
        """End it as its owner or the owner's person; leave it as a member."""
        desk = self._desk
        me = await desk.me(caller)
        if params.room is None:
            # A look may guess that the person means the only room of their agents. Ending a session may not: without a
            # name it is the caller's own active session that ends.
            actor, room = await room_of(desk, me, None)
            principal = self._as_person(caller, me, room, [me])
        else:
            actor, room, principal = await self._owned(caller, me, params.room)
        command = c.CloseRoom(operation="session.close", principal=principal)
        settled = await actor.submit(command, desk.by(caller, me))
        await self._forget(caller, me, actor.room)
        return t.ClosedSession(room=actor.room, name=room.state.name, status=settled.decision.answer)

    async def _owned(
        self, caller: Caller, me: AgentRecord, wanted: str | None
    ) -> tuple[RoomHandle, Room, PrincipalId | None]:
        """A room that is meant, and the person as whom the caller acts there."""
        actor, room, agents = await observed_room(self._desk, caller, me, wanted)
        return actor, room, self._as_person(caller, me, room, agents)

    def _as_person(
        self, caller: Caller, me: AgentRecord, room: Room, agents: Sequence[AgentRecord]
    ) -> PrincipalId | None:
        """The person as whom the caller acts in a room; None for an agent that acts for itself. `agents` are those of
        the caller's that are in. A command that an agent host started is an agent's. Raises `Refused(needs_person)`
        where that agent is not in the room."""
        if not is_person(caller) or room.state.owner_principal != me.principal or room.state.owner == me.id:
            return None
        if not self._desk.inspect(caller.facts.peer).agent_host:
            return me.principal
        if not any(record.id == me.id for record in agents):
            require_person(self._desk, caller, in_editor=True)
        return None

    async def _forget(self, caller: Caller, agent: AgentRecord, room: RoomId) -> None:
        desk = self._desk
        if desk.rooms.home.aggregate.state.active.get(agent.id) == room:
            await desk.rooms.home.submit(c.Activate(agent=agent.id, room=None), desk.by(caller, agent))
