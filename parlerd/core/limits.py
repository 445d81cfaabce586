"""How much is kept of the words of single rooms, where the person who owns them set less than the home keeps of any.

A limit of a room is the person's own, for a room of theirs in this home. It is never more than what the home keeps of
any room, also where the home's own limit is lowered later: the smaller of the two holds.

Not here: which words are too much and which a room needs (`retention`), and the home's own limits (the settings).
Above: `home`. Invariant: a room without any number of its own is not in the state, so setting and taking away leave
nothing.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.model import By, Ids, Millis, RoomId, RoomLimit

NO_LIMIT = RoomLimit()


class LimitsState(msgspec.Struct):
    """The limits of single rooms."""

    rooms: dict[RoomId, RoomLimit] = {}


class Limits(Facet[LimitsState]):
    """Keeps the limits of single rooms."""

    __slots__ = ()

    def of(self, room: RoomId) -> RoomLimit:
        """What the person set for a room."""
        return self.state.rooms.get(room, NO_LIMIT)

    # -- deciding ------------------------------------------------------------------------------------------

    def _limit(self, command: c.LimitRoom, by: By, now: Millis, ids: Ids) -> Decision:
        if command.limit == self.of(command.room):
            return Decision()
        return Decision((e.RoomLimited(room=command.room, limit=command.limit),), authority="person")

    # -- becoming ------------------------------------------------------------------------------------------

    def _limited(self, event: e.RoomLimited, header: e.Header) -> None:
        if event.limit == NO_LIMIT:
            self.state.rooms.pop(event.room, None)
        else:
            self.state.rooms[event.room] = event.limit

    def _deleted(self, event: e.RoomDeleted, header: e.Header) -> None:
        self.state.rooms.pop(event.room, None)

    DECIDES = (decides(c.LimitRoom, _limit),)
    APPLIES = (applies(e.RoomLimited, _limited), applies(e.RoomDeleted, _deleted))
    # Nobody waits for words to go.
    TOUCHES = (touches(e.RoomLimited, nobody),)
