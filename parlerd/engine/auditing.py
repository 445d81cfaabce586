"""Whether a log is what was stored and signed, all of it: the handlers of `log.list` and `log.audit`.

    log.list --> each log --> log.audit, again and again, from where the part before ended

`checks` looks at the newest facts for as long as a person waits for `doctor`; here the caller goes through a log part
by part, so a log of any size can be checked and the caller can say how far it is. Above: the engine. Below: `audit`,
the library. Invariant: a check changes nothing.
"""

from __future__ import annotations

from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import HOME_ROOM, Position, RoomId
from parlerd.engine.audit import Audited, named_at
from parlerd.engine.callers import Caller
from parlerd.engine.cards import OPENED_AT
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.operations import types as t

PART: Final = 5_000
"""Facts of one part: about half a second."""
SLICE: Final = 250
"""Facts that are verified in one go, about 30 ms: the reading thread serves others in between."""


class Auditing:
    """The handlers of `log.list` and `log.audit`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("log.list")
    async def list_logs(self, caller: Caller, params: t.ListLogs) -> t.LogList:
        return t.LogList(rooms=sorted(await self._desk.library.logs()))

    @handles("log.audit")
    async def audit(self, caller: Caller, params: t.AuditRoom) -> t.AuditedRoom:
        """The next part of a log. Its chain and its own lines are checked with the first."""
        library, room = self._desk.library, RoomId(params.room)
        end = (await library.logs()).get(room)
        if end is None:
            raise Refused("no_such_room")
        after = Position(min(params.after, end))
        if after == 0:
            broken = await library.first_broken(room)
            if broken is not None:
                return _wrong(room, end, broken, "chain")
            unlined = await library.first_unlined(room)
            if unlined is not None:
                return _wrong(room, end, unlined, "own_line")
        about = await audited(self._desk, room)
        upto = Position(min(after + PART, end))
        while after < upto:
            part = Position(min(after + SLICE, upto))
            unsigned = await library.unsigned(room, after, part, about)
            if unsigned:
                return _wrong(room, end, min(unsigned), "signature")
            after = part
        return t.AuditedRoom(room=room, upto=upto, end=end)


async def audited(desk: Desk, room: RoomId) -> Audited | None:
    """What the facts of a log are held against; None for the home room's."""
    if room == HOME_ROOM:
        return None
    state = (await (await desk.rooms.get(room)).quiet()).state
    named = named_at(state)
    bodies = await desk.library.bodies(room, sorted({OPENED_AT, *named.values()}))
    opened = bodies.get(OPENED_AT)
    records = {number: bodies[position] for number, position in named.items() if position in bodies}
    return Audited.of(state, None if opened is None else opened.body, records)


def _wrong(room: RoomId, end: Position, found: Position, wrong: t.Wrong) -> t.AuditedRoom:
    return t.AuditedRoom(room=room, upto=found, end=end, fact=found, wrong=wrong)
