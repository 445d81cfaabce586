"""What ends in the rooms of a relay when a person is put out: memberships, and the session keys of their rooms.

A person's agent leaves each room that it does not own, as if it had left by itself. A room that one of them owns stays
as it is, because it is the others' room too: nobody comes in any more with its keys, and its owner comes back only with
the person. Not here: links and enrolment. Above: the relay's program. Below: the engine's rooms. Invariant: each room
is changed by its own rules, so that every reader's mirror follows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, PrincipalId, RoomId
from parlerd.engine.rooms import RoomDoor

OPERATION: Final = "relay.kick"


class Ended(NamedTuple):
    """How much ended."""

    memberships: int
    keys: int


async def end_in_rooms(rooms: RoomDoor, every: list[RoomId], principal: PrincipalId) -> Ended:
    """End a person's memberships and session keys in `every` room. Raises `ParlerError` where a room cannot be written;
    what was ended before that stays ended, and calling this again ends the rest."""
    memberships = keys = 0
    for room in every:
        handle = await rooms.get(room)
        state = (await handle.quiet()).state
        if state.closed:
            continue
        if state.owner_principal == principal:
            for key in [key for key in state.keys.values() if not key.revoked]:
                command = c.RevokeKey(operation=OPERATION, revoke=key.id, principal=principal)
                await handle.submit(command, _by(state.owner, principal))
                keys += 1
        for member in [member for member in state.members.values() if member.principal == principal and member.present]:
            if member.agent == state.owner:
                continue
            try:
                await handle.submit(c.CloseRoom(operation=OPERATION), _by(member.agent, principal))
            except Refused as error:
                if error.code not in ("no_such_room", "room_closed"):
                    raise  # it left, or the room was closed, while this waited for the room's line
            else:
                memberships += 1
    return Ended(memberships, keys)


def _by(agent: AgentId, principal: PrincipalId) -> By:
    return By(actor=agent, principal=principal, session="relay", host="", via="cli")
