"""Which room an agent means by an id, a name or nothing, and which rooms' requests it may see.

Not here: as whom a caller looks (`observers`). Above: the handlers and `observers`. Below: `knocks`, for what to tell
an agent that is in no session, and the desk. Invariant: a room that the asker is not in answers as one that does not
exist.
"""

from __future__ import annotations

from difflib import get_close_matches

from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import MAX_COMPARED, present
from parlerd.core.model import MAX_LABEL, AgentId, RoomId
from parlerd.core.room import Room
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.knocks import nowhere


async def room_of(desk: Desk, agent: AgentRecord, wanted: str | None) -> tuple[RoomHandle, Room]:
    """The room a member means by an id, a name, or nothing (its active session).

    Raises `Refused` with `no_such_room` (also for an outsider), `ambiguous_name`, and for an agent without an
    active session `join_pending`, `join_denied` or `no_active_session`.
    """
    if wanted is None:
        active = active_room(desk, agent.id)
        if active is None:
            raise await nowhere(desk, agent)
        try:
            return await member_room(desk, agent, active)
        except Refused:
            raise await nowhere(desk, agent) from None
    inside = set(await desk.library.my_rooms(agent.id))
    if RoomId(wanted) in inside:
        return await member_room(desk, agent, RoomId(wanted))
    matching = [room for room in rooms_named(desk, wanted) if room in inside]
    if not matching:
        owned = desk.rooms.home.aggregate.state.room_names.values()
        names = sorted(
            {name for named in owned for name, room in named.items() if room in inside},
            key=lambda name: (wanted not in name, name),
        )
        near = get_close_matches(wanted[:MAX_LABEL], names[:MAX_COMPARED], n=1)
        raise Refused("no_such_room", f"You are in no room of that name. Did you mean {near[0]}?" if near else None)
    return await member_room(desk, agent, only(matching, wanted))


def active_room(desk: Desk, agent: AgentId) -> RoomId | None:
    """The room of an agent's active session, as far as whoever asks knows of that room."""
    active = desk.rooms.home.aggregate.state.active.get(agent)
    return active if active is not None and desk.rooms.reaches(active) else None


def is_active(desk: Desk, agent: AgentRecord) -> bool:
    """Whether the agent has an active session that whoever asks knows of."""
    return active_room(desk, agent.id) is not None


async def owned_rooms(desk: Desk, agent: AgentRecord, wanted: str | None, *, person: bool) -> list[RoomId]:
    """Rooms whose requests this caller may see: one that is named, or all. As a person, those of all their
    agents."""
    rooms = await desk.library.owned(agent.principal)
    if wanted is not None:
        named = [RoomId(wanted)] if RoomId(wanted) in rooms else rooms_named(desk, wanted)
        rooms = [room for room in named if room in rooms]
    if not person:
        others = rooms
        rooms = [room for room in others if (await desk.rooms.get(room)).aggregate.state.owner == agent.id]
        if wanted is not None and not rooms and not set(others).isdisjoint(await desk.library.my_rooms(agent.id)):
            raise Refused("not_owner")
    return rooms if wanted is None else [only(rooms, wanted)]


async def member_room(desk: Desk, agent: AgentRecord, room: RoomId) -> tuple[RoomHandle, Room]:
    """A room that the agent is in, as it is between two batches. Raises `Refused(no_such_room)` for everybody else."""
    actor = await desk.rooms.get(room)
    state = await actor.quiet()
    present(state.state.members, agent.id)
    return actor, state


def only(rooms: list[RoomId], wanted: str) -> RoomId:
    """The one room of a list. Raises `Refused` with `no_such_room`, or `ambiguous_name` and the candidates."""
    if not rooms:
        raise Refused("no_such_room")
    if len(rooms) > 1:
        raise Refused("ambiguous_name", f"More than one of your rooms is called {wanted!r}.", candidates=rooms)
    return rooms[0]


def rooms_named(desk: Desk, wanted: str) -> list[RoomId]:
    """Every room of this home that its owner has under this name."""
    names = desk.rooms.home.aggregate.state.room_names
    return [owned[wanted] for owned in names.values() if wanted in owned]
