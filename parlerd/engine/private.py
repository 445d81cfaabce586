"""An agent's private memory: a room of this home of which the agent is the only member.

It is a room like any other, so what is remembered there is signed, ordered, searched and forgotten in the one way that
there is. It has no session key, so nobody can knock; it is on no list of rooms, and never an active session. Its id
follows from the agent's opening of it, so it is found again without being named anywhere.

Not here: what is written and found (`memory`). Above: `memory`. Below: the room's own rules. Invariant: an agent has
one private memory, made at the first fact that goes there.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import KeyId
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.plans import Plan, planned

_WHOSE = "private memory"
"""What the secret of its opening is drawn for. No idempotency key holds a blank, so no session has this opening."""


async def private_memory(desk: Desk, me: AgentRecord) -> RoomHandle | None:
    """The agent's private memory; None while nothing was ever remembered there, and for a caller that there are only
    certain rooms for."""
    try:
        return await desk.rooms.get(_planned(desk, me).room)
    except Refused:
        return None


async def made_private_memory(desk: Desk, caller: Caller, me: AgentRecord) -> RoomHandle:
    """The same, made where it is not there yet. Raises `Refused(no_active_session)` for a caller that there are only
    certain rooms for."""
    if caller.facts.authority.rooms is not None:
        raise Refused("no_active_session")
    found = await private_memory(desk, me)
    if found is not None:
        return found
    room, opening, title = _planned(desk, me)
    command = c.OpenRoom(
        operation="memory.remember", room=room, opening=opening, title=title, mint=KeyId(""), terms=None
    )
    made = await desk.rooms.create(room)
    await made.submit(command, desk.by(caller, me))
    return made


def _planned(desk: Desk, me: AgentRecord) -> Plan:
    return planned(desk, me, _WHOSE, kind="private", home=desk.keys.id, name="private", host="", approval=True)
