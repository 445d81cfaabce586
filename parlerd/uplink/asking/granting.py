"""Agents without a key in a room that lives elsewhere: its home speaks for them, within what the room's person signed.

Above: `remote_room`. Below: `room_home`. Invariant: nothing is granted that the mirror's rules refuse.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core.approvals import require_grantable
from parlerd.core.model import AgentId, By
from parlerd.core.statements import Grant
from parlerd.engine.authors import Attested
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome, is_in


async def grant(
    home: RoomHome, by: By, command: c.AdmitGranted, signed: Attested, token: c.MintToken
) -> t.GrantedAtRoom:
    """Let the room's home speak for an agent, which comes in under the name that the command says."""
    home.decide(command, by)
    params = t.GrantAtRoom(
        room=home.room,
        grant=signed.body,
        grant_signature=signed.signature,
        name=command.name,
        token=token.digest,
        label=token.label,
    )
    granted = await home.link.call("link.grant", params, by=by.actor)
    assert isinstance(granted, t.GrantedAtRoom)
    await home.shown(lambda room: is_in(room, command.agent))
    return granted


async def grant_many(home: RoomHome, by: By, grant: Grant, signed: Attested, token: c.MintToken) -> t.GrantedAtRoom:
    """Let the room's home speak for as many agents as the grant counts."""
    require_grantable(home.mirror.state.lifecycle, grant, home.now())
    params = t.GrantManyAtRoom(
        room=home.room,
        grant=signed.body,
        grant_signature=signed.signature,
        token=token.digest,
        label=token.label,
    )
    granted = await home.link.call("link.grant_many", params, by=by.actor)
    assert isinstance(granted, t.GrantedAtRoom)
    return granted


async def ungrant(home: RoomHome, by: By, agent: AgentId) -> None:
    """Have the room's home speak no more for an agent."""
    await home.link.call("link.ungrant", t.UngrantAtRoom(room=home.room, agent=agent), by=by.actor)
    await home.shown(lambda room: not is_in(room, agent) or room.state.closed)
