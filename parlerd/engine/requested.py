"""What an agent asked of a queue elsewhere, of which its own home has no copy: the queue's home is asked about it.

    message.why, receipt.get -> no such message is here -> each queue elsewhere that agents of the caller are in
                                                               `-> its home is asked, as each of these agents

Whoever only asks for work is not shown what it asked for, so the mirror of a queue holds the answers and not the
request. An id does not say in which queue a message is.

Not here: what a home tells an author (`pulling`, `receipts`). Above: `ladder`, `receipts`. Below: the observers, the
handles. Invariants: nobody is asked as an agent that is none of the caller's; a home that did not answer is asked once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, Literal, TypeVar

from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import HomeId, RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.observers import observed_room, observers
from parlerd.engine.rooms import pause_among

T = TypeVar("T")
Ask = Callable[[RoomHandle, AgentRecord], Awaitable[T]]
"""Asks the home of a queue about something, as one agent."""

AWAY: Final = frozenset({"offline", "home_unreachable", "draining"})
"""Why the home of a room did not answer."""
_UNKNOWN: Final = frozenset({"no_such_message", "no_such_receipt", "no_such_room", "room_deleted"})
"""What a home answers that knows nothing of it."""


async def ask_queues(
    desk: Desk,
    caller: Caller,
    me: AgentRecord,
    wanted: str | None,
    ask: Ask[T],
    known: Ask[T | None] | None = None,
    *,
    unknown: Literal["no_such_message", "no_such_receipt"] = "no_such_message",
) -> T:
    """What the first home says that knows of it, among those of the queue that is named, or of all queues elsewhere.
    Where a home does not answer, `known` says what is known here. Raises `Refused`: `unknown` where no home knows of
    it, and why a home could not be asked where the others do not."""
    failed: dict[str, Refused] = {}
    async with aclosing(_queues(desk, caller, me, wanted)) as queues:
        async for handle, agent in queues:
            home = handle.home_name
            if home not in failed:
                try:
                    return await ask(handle, agent)
                except Refused as error:
                    if error.code in _UNKNOWN:
                        continue
                    failed[home] = error
            found = None if known is None or failed[home].code not in AWAY else await known(handle, agent)
            if found is not None:
                return found
    for home, failure in failed.items():
        if failure.code not in AWAY:
            raise failure
        said = f"Nothing here has this id. What you asked for at {home}, {home} alone knows, and it does not answer."
        raise Refused("home_unreachable", said, home=home) from failure
    raise Refused(unknown)


async def _queues(
    desk: Desk, caller: Caller, me: AgentRecord, wanted: str | None
) -> AsyncGenerator[tuple[RoomHandle, AgentRecord], None]:
    """The queues elsewhere, each with the agents of this caller that are in it, one after the other."""
    agents = {record.id: record for record in observers(desk, caller, me)}
    rooms: dict[RoomId, list[AgentRecord]] = {}
    if wanted is not None:
        try:
            handle, _, inside = await observed_room(desk, caller, me, wanted)
        except Refused:
            return
        rooms[handle.room] = inside
    else:
        for home in desk.home_book.listed():
            for agent, room in await desk.library.standings_at(HomeId(home.id), agents):
                rooms.setdefault(room, []).append(agents[agent])
    for number, (room, inside) in enumerate(rooms.items(), 1):
        await pause_among(number)
        try:
            handle = await desk.rooms.get(room)
        except Refused:
            continue  # it was deleted meanwhile
        state = handle.aggregate.state
        if state.kind != "service" or state.home == desk.keys.id:
            continue
        for record in inside:
            member = state.members.get(record.id)
            if member is not None and member.present:
                yield handle, record
