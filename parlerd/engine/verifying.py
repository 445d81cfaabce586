"""What the members of a sealed room compare, to know that their relay shows all of them the same: the handler of
`room.verify`.

    room id, newest record, roster  -->  twenty characters  -->  read aloud by people who know each other's voices

A relay that keeps a member in the past, or shows it another record than the others, leaves no trace on that member's
machine alone. The characters are therefore made of what this machine took in, and of nothing that is asked of the relay
at that moment.

Not here: the derivation (`identity.epochs`), and which records a machine takes in (`uplink.arriving`, `core.turning`).
Above: the engine. Below: the rooms that the caller may look at (`observers`). Invariant: nothing here changes a room or
waits for another home.
"""

from __future__ import annotations

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_room
from parlerd.engine.reading import as_of, key_change_of, silence_of, successor_of, taken_over_from
from parlerd.identity import codes, epochs
from parlerd.operations import types as t


class Verifying:
    """The handler of `room.verify`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("room.verify")
    async def verify(self, caller: Caller, params: t.CompareRoom) -> t.RoomCompared:
        desk = self._desk
        me = await desk.me(caller)
        handle, room, _ = await observed_room(desk, caller, me, params.room)
        compared = compared_of(room, handle.home_name)
        if room.state.closed or room.state.alarm is not None:
            return compared
        handle.begin_to_catch_up()
        silence = silence_of(handle, desk.clock.now(), "the keys may have changed meanwhile.")
        notice = " ".join(filter(None, (taken_over_from(room), key_change_of(room), silence)))
        return msgspec.structs.replace(compared, silent_since=as_of(handle), notice=notice)


def compared_of(room: Room, home: str) -> t.RoomCompared:
    """What is compared of a room, whoever holds it: a member's machine, or the room's home. Raises `Refused`:
    `not_sealed` for a room in clear, `not_sealed_in` where this copy of the room has no record yet."""
    state, sealed = room.state, room.state.epochs
    if not state.is_sealed:
        raise Refused("not_sealed")
    if not sealed.number:
        raise Refused("not_sealed_in")
    return t.RoomCompared(
        room=state.room,
        name=state.name,
        home=home,
        characters=epochs.verify_words(state.room, sealed.record, sealed.roster),
        epoch=sealed.number,
        since=sealed.at,
        readers=[
            t.Reader(
                id=agent,
                name=entry.handle,
                fingerprint=codes.fingerprint(agent),
                principal=entry.principal,
                owner=agent == state.owner,
                requester=entry.requester,
            )
            for agent, entry in sorted(sealed.roster.items(), key=lambda each: (each[1].handle, each[0]))
        ],
        key_change_since=room.epochs.pending_since() or msgspec.UNSET,
        alarm=state.alarm or "",
        owner_heard=sealed.heard or msgspec.UNSET,
        successor=successor_of(room) or msgspec.UNSET,
        taken_over=(state.lifecycle.owners[-1].at or msgspec.UNSET)
        if state.lifecycle.owners[-1].taken
        else msgspec.UNSET,
    )
