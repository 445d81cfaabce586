"""How much is kept of the words of one room, as the person who owns it says: the handler of `room.retention`.

Not here: which words go then (`retaining`), what the home keeps of any room (the settings). Above: the engine. Below:
the home room's line. Invariants: only the person sets a limit, for a room of theirs that lives in this home; no number
is accepted that is more than the home keeps of any room.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.model import RoomLimit
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_room
from parlerd.engine.person import require_person
from parlerd.operations import types as t


class Keeping:
    """The handler of `room.retention`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("room.retention")
    async def retention(self, caller: Caller, params: t.KeepOfRoom) -> t.KeptOfRoom:
        desk = self._desk
        asked = {name: value for name in _NUMBERS if (value := getattr(params, name)) is not None}
        if asked:
            require_person(desk, caller)
        me = await desk.me(caller)
        actor, room, _ = await observed_room(desk, caller, me, params.room)
        if not desk.rooms.is_here(room):
            raise Refused("room_elsewhere")
        limits = desk.rooms.home.aggregate.limits
        if asked:
            if room.state.owner_principal != me.principal:
                raise Refused("not_owner")
            own = limits.of(actor.room)
            numbers = {name: self._number(name, asked.get(name), getattr(own, name)) for name in _NUMBERS}
            command = c.LimitRoom(operation="room.retention", room=actor.room, limit=RoomLimit(**numbers))
            await desk.rooms.home.submit(command, desk.by(caller, me))
            desk.retaining.limited(actor.room)
        return t.KeptOfRoom(
            room=actor.room,
            name=room.state.name,
            own=kept_limits(limits.of(actor.room)),
            limits=kept_limits(desk.retaining.limit_of(actor.room)),
        )

    def _number(self, name: str, asked: int | str | None, before: int) -> int:
        """One number of the room's own limit. Raises `Refused(invalid_param)` for more than the home keeps."""
        if asked is None:
            return before
        if isinstance(asked, str):
            return 0
        most: int = getattr(self._desk.retaining.of_any, name)
        if most and asked > most:
            raise Refused(
                "invalid_param",
                f"This home keeps {_NUMBERS[name].format(most)} of any room, and no room can keep more.",
                hint="Name a smaller number, or raise the limit of all rooms: `[retention]` in the settings.",
                param=name,
                limit=most,
            )
        return asked


_NUMBERS = {
    "messages": "the words of {} messages",
    "bytes": "{} bytes of words",
    "days": "words for {} days",
}


def kept_limits(limit: RoomLimit) -> t.KeptLimits:
    """A limit as answers show it."""
    return t.KeptLimits(messages=limit.messages, bytes=limit.bytes, days=limit.days)
