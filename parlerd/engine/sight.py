"""A room of this home as whoever asks about its state sees it now, and the expressions that are asked.

Not here: who waits (`watching`), and what is seen (`core.resolver`). Above: what answers questions about a room's
state. Below: a room's line. Invariant: what has run out is a fact before anybody looks.
"""

from __future__ import annotations

from typing import Final

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression
from parlerd.core.membership import is_requester, present
from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.engine.deciding import ITSELF
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.watching import RoomPresences
from parlerd.expr import Place, parse

MAX_PARSED: Final = 1_024
"""Expressions whose trees are kept, so that a condition that is asked again and again is read once."""


class Sight:
    """How agents see the rooms of this home."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._parsed: Bounded[tuple[str, Place], Expression] = Bounded(MAX_PARSED)
        """Expressions by their texts and the places that they stand in."""

    async def room(self, handle: RoomHandle) -> Room:
        """The room as it is now, after what has run out was seen to."""
        room = await handle.quiet()
        if room.has_due(self.now(room)):
            await handle.submit(c.RunDue(), ITSELF)
            room = await handle.quiet()
        return room

    async def of(self, handle: RoomHandle, agent: AgentId) -> tuple[Room, Resolver]:
        """The room as a member sees it who sees more than what names it. Raises `Refused(not_a_worker)`."""
        room = await self.room(handle)
        if is_requester(present(room.state.members, agent)):
            raise Refused("not_a_worker")
        return room, self.resolver(room, agent)

    def resolver(self, room: Room, agent: AgentId) -> Resolver:
        """What a member sees of a room that was looked at just now."""
        return room.look(agent, self.now(room), self.presence(room.state.room))

    def presence(self, room: RoomId) -> RoomPresences:
        """How present the agents of a room are."""
        return self._desk.watching.of(room)

    def now(self, room: Room) -> Millis:
        """The room's time."""
        return max(self._desk.clock.now(), room.last_at)

    def parse(self, source: str, place: Place) -> Expression:
        """The expression of a text. Raises `Refused(expression_invalid)`."""
        known = self._parsed.get((source, place))
        if known is None:
            known = self._parsed[source, place] = parse(source, place)
        return known
