"""How a room goes on after its home lost the newest part of it: the handlers of `room.rewind`, which the owner's person
asks here, and of `link.head` and `link.rewind`, by which it reaches the room's home.

    parler room rewind -> the handle of a room elsewhere -> link.head: where does it stand? -> does it fit what is here?
                       -> the person signs -> link.rewind -> the home's room decides -> everybody who follows is told

Not here: what becomes of a mirror (`parlerd.uplink.rewinding`), the rule (`core.rewinds`). Above: the engine. Below:
`reachable`, `authors.Admission`, the handles. Invariant: without the word of the person whose agent opened the room no
home goes back.
"""

from __future__ import annotations

from parlerd.core.errors import Refused
from parlerd.engine.authors import Admission, Attested
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.lookup import owned_rooms
from parlerd.engine.observers import observed_room
from parlerd.engine.person import require_person
from parlerd.engine.reachable import NOBODY, eyes, owned_within, stamp
from parlerd.operations import types as t


class Rewinding:
    """The handlers about rewinds."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission()

    @handles("room.rewind")
    async def rewind(self, caller: Caller, params: t.RewindRoom) -> t.RewoundRoom:
        desk = self._desk
        require_person(desk, caller, in_editor=True)
        me = await desk.me(caller)
        try:
            [name] = await owned_rooms(desk, me, params.room, person=True)
        except Refused as error:
            if error.code != "no_such_room":
                raise
            # To whoever is in the room it is no secret that there is one.
            await observed_room(desk, caller, me, params.room)
            raise Refused("not_owner") from error
        handle = await desk.rooms.get(name)
        return await handle.rewind(desk.by(caller, me), confirmed=params.confirmed)

    @handles("link.head")
    async def head(self, caller: Caller, params: t.AskHead) -> t.RoomHead:
        _, room = await owned_within(self._desk, caller, params.room)
        looking = eyes(self._desk, caller, room)
        shown = room.state.shown
        return t.RoomHead(
            public=shown.number,
            line=shown.line,
            before={str(agent): room.newest_seq(agent) for agent in looking.members},
        )

    @handles("link.rewind")
    async def rewind_here(self, caller: Caller, params: t.RewindAtRoom) -> t.Noted:
        actor, _ = await owned_within(self._desk, caller, params.room)
        by = stamp(caller, NOBODY)
        command, words = self._admission.rewind(by, Attested(params.statement, params.signature))
        await actor.submit(command, by, words)
        return t.Noted()
