"""A message of a room that lives elsewhere which waits there until somebody is shown it.

Above: `errands`. Below: `room_home`. Invariant: the message is kept by the room's home alone.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import Refused
from parlerd.core.gated import decode_signed
from parlerd.core.membership import told_seq
from parlerd.core.model import By, Millis, Position
from parlerd.engine.submissions import Settled
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome


async def gate(home: RoomHome, command: c.GateMessage, by: By) -> Settled:
    """Post a gated message at the room's home, which alone keeps it until somebody is shown it. Where an epoch
    began meanwhile, the mirror has the record when `stale_epoch` says so."""
    signed = decode_signed(command.signed)
    params = t.GateAtRoom(room=home.room, agent=by.actor, body=signed.body, signature=signed.signature)
    try:
        answer = await home.link.call("link.gate", params, by=by.actor)
    except Refused as error:
        number = error.details.get("number")
        if error.code == "stale_epoch" and type(number) is int:
            await home.shown(lambda room: room.state.epochs.number >= number or room.state.alarm is not None)
        raise
    assert isinstance(answer, t.GatedAtRoom)
    if answer.seq:
        await home.shown(lambda room: told_seq(room.state.membership, by.actor) >= answer.seq)
    said = command.envelope
    event = e.MessageGated(id=said.id, kind=said.kind, size=len(command.signed))
    header = e.Header(position=Position(0), at=Millis(answer.at), by=by, authority="member", event=event)
    return Settled(Decision(replay=Position(0) if answer.replayed else None), (header,))
