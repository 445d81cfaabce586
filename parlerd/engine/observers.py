"""As whom a caller looks: an agent as itself, the person at their own shell as every agent of theirs.

A person is in no room, so what is shown to them is what their agents may see there. Not here: what a person may decide
(`person`). Above: the handlers that look. Below: the lookups. Invariant: nothing is found here that none of the
caller's agents is in.
"""

from __future__ import annotations

from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.lookup import is_active, only, require_not_deleted, room_of, rooms_named
from parlerd.engine.person import is_person


def observers(desk: Desk, caller: Caller, me: AgentRecord) -> list[AgentRecord]:
    """The agents whose eyes this caller has: its own first, and for the person all the others of theirs."""
    known = desk.rooms.home.aggregate.state.agents.values() if is_person(caller) else ()
    return [me, *(record for record in known if record.principal == me.principal and record.id != me.id)]


async def observed_rooms(desk: Desk, caller: Caller, me: AgentRecord) -> dict[RoomId, list[AgentRecord]]:
    """The rooms this caller may look at, each with those of its agents that are in it, its own first."""
    rooms: dict[RoomId, list[AgentRecord]] = {}
    agents = observers(desk, caller, me)
    rooms_of = await desk.library.rooms_of(record.id for record in agents)
    for record in agents:
        for room in rooms_of[record.id]:
            rooms.setdefault(room, []).append(record)
    return rooms


async def observed_room(
    desk: Desk, caller: Caller, me: AgentRecord, wanted: str | None
) -> tuple[RoomHandle, Room, list[AgentRecord]]:
    """The room meant by an id, a name or nothing, and those of the caller's agents that are in it.

    Of several of one name the caller's own room is meant. A person without a session of their own means the only room
    their agents have. Raises `Refused` as `room_of` does.
    """
    rooms = await observed_rooms(desk, caller, me)
    if wanted is None and is_person(caller) and len(rooms) == 1:
        wanted = None if await is_active(desk, me) else next(iter(rooms))
    if wanted is None:
        actor, room = await room_of(desk, me, None)
        return actor, room, rooms.get(actor.room, [me])
    if RoomId(wanted) in rooms:
        name = RoomId(wanted)
    else:
        named = await rooms_named(desk, wanted, rooms)
        if not named:
            await require_not_deleted(desk, wanted)
        name = await only(desk, [room for room in named if rooms[room][0].id == me.id] or named, wanted)
    actor = await desk.rooms.get(name)
    room = await actor.quiet()
    inside = [record for record in rooms[name] if room.state.members[record.id].present]
    if not inside:
        raise Refused("no_such_room")  # all of them left meanwhile
    return actor, room, inside
