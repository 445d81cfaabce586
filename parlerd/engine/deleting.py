"""Deleting a room with everything in it, as the person whose agent owns it: the handlers of `room.delete` and
`link.delete`.

    room.delete -> the room's home deletes it (this one, or by `link.delete` another) -> it is gone from this home too

Not here: what the file still holds afterwards (`clearing`), ending a room that stays to be read (`departing`). Above:
the engine. Below: the rooms, which let one be gone. Invariants: nothing is deleted that the person did not confirm
after an answer that says how much it is; what lives elsewhere is deleted there before it is deleted here.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.model import Position, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.kept import CHUNK
from parlerd.engine.lookup import owned_rooms
from parlerd.engine.observers import observed_room
from parlerd.engine.person import require_person
from parlerd.engine.reachable import NOBODY, owned_within, stamp
from parlerd.operations import types as t

PATIENCE_S: Final = 5.0
"""How long the answer waits for the room to be taken out of the file."""


class Deleting:
    """The handlers about rooms that are to be gone."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("room.delete")
    async def delete(self, caller: Caller, params: t.DeleteRoom) -> t.DeletedRoom:
        desk = self._desk
        require_person(desk, caller)
        me = await desk.me(caller)
        try:
            [name] = await owned_rooms(desk, me, params.room, person=True)
        except Refused as error:
            if error.code not in ("no_such_room", "not_owner"):
                raise
            # To whoever is in the room it is no secret that there is one.
            await observed_room(desk, caller, me, params.room)
            hint = "Only the person whose agent owns the room can delete it. To leave it: parler room leave --room ROOM"
            raise Refused("not_owner", hint=hint) from error
        handle = await desk.rooms.get(name)
        room = await handle.quiet()
        held = await desk.library.held(name)
        answer = t.DeletedRoom(
            room=name,
            name=room.state.name,
            home=handle.home_name,
            status="asked",
            members=sum(1 for member in room.state.members.values() if member.present),
            messages=held.messages,
            bytes=held.bytes,
        )
        if not params.confirmed:
            return answer
        by = desk.by(caller, me)
        await handle.delete(by)
        await desk.rooms.delete(name, by)
        self._tell(name, room)
        is_clear = await desk.clearing.is_clear(name, within_s=PATIENCE_S)
        copies = desk.copies()
        return t.DeletedRoom(
            room=answer.room,
            name=answer.name,
            home=answer.home,
            status="deleted" if is_clear else "clearing",
            members=answer.members,
            messages=answer.messages,
            bytes=answer.bytes,
            copies=copies,
        )

    @handles("link.delete")
    async def delete_here(self, caller: Caller, params: t.DeleteAtRoom) -> t.Noted:
        desk = self._desk
        actor, room = await owned_within(desk, caller, params.room)
        freed = await self._written(actor.room, room.position)
        await desk.rooms.delete(actor.room, stamp(caller, NOBODY))
        for person, size in freed.items():
            desk.kept.add(person, -size)
        self._tell(actor.room, room)
        return t.Noted()

    async def _written(self, room: RoomId, upto: Position) -> Counter[PrincipalId]:
        """How many bytes each person keeps in a room."""
        found: Counter[PrincipalId] = Counter()
        for after in range(0, upto, CHUNK):
            end = Position(min(upto, after + CHUNK))
            found.update(await self._desk.library.written(room, Position(after), end))
        return found

    def _tell(self, name: RoomId, room: Room) -> None:
        """Wake whoever waits for something in a room that is gone, or shows it, and begin to take it out of the
        file."""
        state = room.state
        told = [topics.log(name), topics.life(name), topics.messages(name), topics.keys(name)]
        told += [topics.memberships(agent) for agent in state.members]
        told += [topics.requests(state.owner_principal)]
        for request in state.requests.values():
            told += [topics.decision(name, request.agent), topics.concerns(request.agent)]
        self._desk.notifier.publish(told)
        self._desk.clearing.begin()
