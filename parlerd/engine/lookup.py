"""Which room an agent means by an id, a name or nothing, and which rooms' requests it may see.

Not here: as whom a caller looks (`observers`). Above: the handlers and `observers`. Below: `knocks`, for what to tell
an agent that is in no session, and the desk. Invariant: a room that the asker is not in answers as one that does not
exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import MAX_COMPARED, is_present
from parlerd.core.model import MAX_LABEL, AgentId, RoomId
from parlerd.core.room import Room
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.knocks import no_longer_in, nowhere


async def room_of(desk: Desk, agent: AgentRecord, wanted: str | None) -> tuple[RoomHandle, Room]:
    """The room a member means by an id, a name, or nothing (its active session).

    Raises `Refused` with `no_such_room` (also for an outsider), `room_deleted`, `ambiguous_name`, and for an agent
    without an active session `join_pending`, `join_denied` or `no_active_session`.
    """
    if wanted is None:
        active = desk.rooms.home.aggregate.state.active.get(agent.id)
        if active is None or not desk.rooms.reaches(active):
            raise await nowhere(desk, agent)
        try:
            handle = await desk.rooms.get(active)
            room = await handle.quiet()
        except Refused:
            raise await nowhere(desk, agent) from None
        if not is_present(room.state.members, agent.id):
            raise await nowhere(desk, agent, room.state)
        return handle, room
    inside = await desk.library.my_rooms(agent.id)
    if RoomId(wanted) in inside:
        return await member_room(desk, agent, RoomId(wanted))
    matching = await rooms_named(desk, wanted, inside)
    if not matching:
        await require_not_deleted(desk, wanted)
        known = (await _names(desk, inside)).values()
        names = sorted(set(known), key=lambda name: (wanted not in name, name))
        near = get_close_matches(wanted[:MAX_LABEL], names[:MAX_COMPARED], n=1)
        raise Refused("no_such_room", f"You are in no room of that name. Did you mean {near[0]}?" if near else None)
    return await member_room(desk, agent, await only(desk, matching, wanted))


async def active_room(desk: Desk, agent: AgentId) -> RoomId | None:
    """The room of an agent's active session, as far as whoever asks knows of that room. A room that the agent was put
    out of is its active one no more, and neither is one that was never opened."""
    active = desk.rooms.home.aggregate.state.active.get(agent)
    if active is None or not desk.rooms.reaches(active):
        return None
    return active if active in await desk.library.my_rooms(agent) else None


async def is_active(desk: Desk, agent: AgentRecord) -> bool:
    """Whether the agent has an active session that whoever asks knows of."""
    return await active_room(desk, agent.id) is not None


async def owned_rooms(desk: Desk, agent: AgentRecord, wanted: str | None, *, person: bool) -> list[RoomId]:
    """Rooms whose requests this caller may see: one that is named, or all. As a person, those of all their
    agents."""
    rooms = await desk.library.owned(agent.principal)
    if wanted is not None:
        rooms = [RoomId(wanted)] if RoomId(wanted) in rooms else await rooms_named(desk, wanted, rooms)
    if not person:
        rooms = [room for room in rooms if (await desk.rooms.seen(room)).state.owner == agent.id]
    if wanted is not None and not rooms:
        await require_not_deleted(desk, wanted)
        inside = await desk.library.my_rooms(agent.id)
        if RoomId(wanted) in inside or await rooms_named(desk, wanted, inside):
            raise Refused("not_owner")
    return rooms if wanted is None else [await only(desk, rooms, wanted)]


async def member_room(desk: Desk, agent: AgentRecord, room: RoomId) -> tuple[RoomHandle, Room]:
    """A room that the agent is in, as it is between two batches. Raises `Refused(no_such_room)` for everybody else, and
    tells who was in before that this is over."""
    actor = await desk.rooms.get(room)
    state = await actor.quiet()
    if not is_present(state.state.members, agent.id):
        raise Refused("no_such_room", no_longer_in(state.state, agent.id))
    return actor, state


async def require_not_deleted(desk: Desk, wanted: str) -> None:
    """Raise `Refused(room_deleted)` for the id of a room that was deleted: whoever knows such an id was told it."""
    if await desk.library.is_deleted(RoomId(wanted)):
        raise Refused("room_deleted")


async def only(desk: Desk, rooms: Sequence[RoomId], wanted: str) -> RoomId:
    """The one room of a list. Raises `Refused` with `no_such_room`, or `ambiguous_name` and the candidates: `name@home`
    where that tells them apart, else their ids."""
    if not rooms:
        raise Refused("no_such_room")
    if len(rooms) > 1:
        seen = [(await desk.rooms.seen(room)).state.name for room in rooms]
        apart = [f"{name}@{await _home_of(desk, room)}" for room, name in zip(rooms, seen, strict=True)]
        candidates = apart if len(set(apart)) == len(apart) else list(rooms)
        raise Refused("ambiguous_name", f"More than one of your rooms is called {wanted!r}.", candidates=candidates)
    return rooms[0]


async def rooms_named(desk: Desk, wanted: str, among: Iterable[RoomId]) -> list[RoomId]:
    """Those of `among` that have this name, or, for `name@home`, this name in that home."""
    names = await _names(desk, among)
    found = [room for room, name in names.items() if name == wanted]
    name, at, home = wanted.rpartition("@")
    if not found and at:
        found = [room for room, other in names.items() if other == name]
        found = [room for room in found if await _home_of(desk, room) == home]
    return found


async def _home_of(desk: Desk, room: RoomId) -> str:
    """What the home of a room is called. A room that another process of this home has lives in this home."""
    return (await desk.rooms.get(room)).home_name if desk.rooms.has(room) else LOCAL


async def _names(desk: Desk, rooms: Iterable[RoomId]) -> dict[RoomId, str]:
    """What these rooms are called. The owners' names for rooms of this home are at hand; a room of another home is
    looked at."""
    owned = desk.rooms.home.aggregate.state.room_names.values()
    known = {room: name for named in owned for name, room in named.items()}
    names: dict[RoomId, str] = {}
    for room in rooms:
        names[room] = known[room] if room in known else (await desk.rooms.seen(room)).state.name
    return names
