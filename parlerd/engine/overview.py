"""Where a caller is: its rooms, who is in one, and who it is itself. The handlers of `rooms.list`, `rooms.roster` and
`agent.whoami`.

Not here: messages (`sending`, `receiving`), the daemon's state (`status`). Above: the engine. Below: the rooms that the
caller may look at (`observers`). Invariant: nothing here changes a room, waits
for another home, or tells of what the reader may not see.
"""

from __future__ import annotations

import msgspec

from parlerd.core.identities import AgentRecord
from parlerd.core.limits import NO_LIMIT
from parlerd.core.membership import Member
from parlerd.core.model import AgentId, PeerText
from parlerd.core.room import Room, RoomState
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, Present, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.keeping import kept_limits
from parlerd.engine.knocks import knocks_of, shows_code
from parlerd.engine.lookup import active_room
from parlerd.engine.observers import observed_room, observed_rooms
from parlerd.engine.person import is_person
from parlerd.engine.reading import (
    as_of,
    handle_of,
    key_change_of,
    role_of,
    silence_of,
    successor_of,
    taken_over_from,
)
from parlerd.engine.rooms import pause_among
from parlerd.identity.codes import fingerprint
from parlerd.operations import types as t


class Overview:
    """The handlers of `rooms.list`, `rooms.roster` and `agent.whoami`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("rooms.list")
    async def rooms(self, caller: Caller, params: t.ListRooms) -> t.RoomList:
        desk = self._desk
        me = await desk.me(caller)
        active = await active_room(desk, me.id)
        rooms = []
        silent: dict[str, None] = {}
        for number, (name, agents) in enumerate((await observed_rooms(desk, caller, me)).items(), 1):
            await pause_among(number)
            actor = await desk.rooms.get(name)
            room = await actor.quiet()
            reader = _first_inside(room, agents)
            if reader is None:
                continue  # the last of the caller's agents left meanwhile
            glance = await desk.library.glance(name, room.view(reader))
            # Looked at after the store was asked, so that nothing is shown that is not stored yet.
            room = await actor.quiet()
            state = room.state
            inside = [record for record in agents if state.members[record.id].present]
            if reader != _first_inside(room, agents):
                continue
            is_live = not state.closed and state.alarm is None
            if is_live:
                actor.begin_to_catch_up()
                silent[silence_of(actor, desk.clock.now(), "its sessions may look different by now.")] = None
            owns = state.owner == me.id or (is_person(caller) and state.owner_principal == me.principal)
            rooms.append(
                t.RoomInfo(
                    room=state.room,
                    name=state.name,
                    topic=PeerText(state.topic),
                    kind=state.kind,
                    home=actor.home_name,
                    owner=state.owner,
                    owner_name=handle_of(state, state.owner),
                    agents=[record.name for record in inside],
                    members=sum(1 for member in state.members.values() if member.present),
                    unread=glance.unread,
                    last_at=glance.last_at or state.opened_at,
                    active=state.room == active,
                    state="closed" if state.closed else "open",
                    pending=len(room.pending()) if owns and not state.closed else 0,
                    alarm=state.alarm or "",
                    sealed=bool(state.lifecycle.sealed),
                    silent_since=as_of(actor) if is_live else msgspec.UNSET,
                    kept=await self._kept(state) if params.size else msgspec.UNSET,
                )
            )
        waits = await knocks_of(desk, me)
        if not shows_code(desk, caller):
            waits = [msgspec.structs.replace(each, join_code=None) for each in waits]
        listed = t.RoomList(rooms=rooms, you=me.name, waits=waits, notice=" ".join(filter(None, silent)))
        if params.size and is_person(caller):
            return msgspec.structs.replace(listed, kept=await self._kept_of_all())
        return listed

    async def _kept(self, state: RoomState) -> t.KeptSize:
        """What is kept of a room on this machine, and how much may be."""
        desk, settings = self._desk, self._desk.settings
        own = desk.rooms.home.aggregate.limits.of(state.room)
        held = await desk.library.held(state.room)
        brought = await desk.library.brought(state.room)
        limits = kept_limits(desk.retaining.limit_of(state.room))
        if state.mirror.is_mirror:
            limits = t.KeptLimits(messages=settings.mirror_room_messages, bytes=settings.mirror_room_bytes)
        return t.KeptSize(
            messages=held.messages,
            bytes=held.bytes,
            limits=limits,
            files=len(brought),
            file_bytes=await desk.shelf.sizes(brought),
            erased=state.retention.messages,
            has_own=own != NO_LIMIT and not state.mirror.is_mirror,
        )

    async def _kept_of_all(self) -> t.KeptSize:
        """What is kept of every room in this home, whoever is in it."""
        desk = self._desk
        each = [await desk.library.held(room) for room in await desk.library.all_rooms()]
        return t.KeptSize(
            messages=sum(held.messages for held in each),
            bytes=sum(held.bytes for held in each),
            limits=t.KeptLimits(bytes=desk.settings.retention_total_bytes),
            file_bytes=await desk.shelf.used(),
        )

    @handles("rooms.roster")
    async def roster(self, caller: Caller, params: t.Roster) -> t.RosterResult:
        desk = self._desk
        me = await desk.me(caller)
        handle, room, _ = await observed_room(desk, caller, me, params.room)
        state = room.state
        members = []
        for member in state.members.values():
            if not member.present:
                continue
            members.append(member_shown(state, member, presence_of(desk, handle, member.agent)))
        loops = desk.rooms.home.aggregate.loops
        found = t.RosterResult(
            room=state.room,
            name=state.name,
            members=members,
            you=handle_of(state, me.id),
            turns=loops.most(state.room) if loops.is_set(state.room) else msgspec.UNSET,
            home=handle.home_name,
            sealed=bool(state.lifecycle.sealed),
            key_change_since=room.epochs.pending_since() or msgspec.UNSET,
            owner_heard=state.epochs.heard or msgspec.UNSET,
            successor=successor_of(room) or msgspec.UNSET,
        )
        if state.closed or state.alarm is not None:
            return found
        handle.begin_to_catch_up()
        silence = silence_of(handle, desk.clock.now(), "others may have come or gone meanwhile.")
        notice = " ".join(filter(None, (taken_over_from(room), key_change_of(room), silence)))
        return msgspec.structs.replace(found, silent_since=as_of(handle), notice=notice)

    @handles("agent.whoami")
    async def whoami(self, caller: Caller, params: t.WhoAmI) -> t.Me:
        desk = self._desk
        me = await desk.me(caller)
        return t.Me(
            id=me.id,
            name=me.name,
            host=caller.facts.host or me.host,
            home=LOCAL,
            principal=me.principal,
            workspace=me.workspace,
            active=await active_room(desk, me.id),
            fingerprint=fingerprint(me.id),
        )


def presence_of(desk: Desk, handle: RoomHandle, agent: AgentId) -> Present:
    """How present a member of a room is, and what it states: as the room's home says, and else as it is found here."""
    return handle.presence(agent) or Present(*desk.presence.of(agent), desk.presence.stated(agent))


def member_shown(state: RoomState, member: Member, present: Present) -> t.RosterMember:
    """A member as a roster shows it."""
    return t.RosterMember(
        id=member.agent,
        name=member.handle,
        role=role_of(state, member),
        host=member.host,
        owner=member.agent == state.owner,
        state="member",
        presence=present.presence,
        since=present.since or member.joined_at,
        stated=present.stated or msgspec.UNSET,
        locked=member.locked,
    )


def _first_inside(room: Room, agents: list[AgentRecord]) -> AgentId | None:
    """The first of these agents that is in the room."""
    return next((record.id for record in agents if room.state.members[record.id].present), None)
