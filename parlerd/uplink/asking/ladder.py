"""How far a message got, as the home of its room knows it.

Not here: what is known in this home (`engine.ladder`). Above: `remote_room`. Below: `room_home`. Invariant: a home that
does not answer, one that has no such message, and one that is too old to say so are three answers.
"""

from __future__ import annotations

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, MessageId
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome
from parlerd.uplink.mirrors import present_of


async def ladders_of(home: RoomHome, agent: AgentId, message: MessageId) -> t.LaddersAtRoom:
    """What each reader has of a message, by the home's own count of time. Raises `Refused` (`RoomHandle.ladders`)."""
    params = t.WhyAtRoom(room=home.room, agent=agent, id=message)
    try:
        answer = await home.link.call("link.why", params, by=agent)
    except Refused as error:
        if error.code == "no_such_message":
            await _require_not_posted(home, agent, message)
        raise
    assert isinstance(answer, t.LaddersAtRoom)
    readers = [
        msgspec.structs.replace(each, presence=present_of(each.presence, each.since).presence)
        for each in answer.readers
    ]
    return msgspec.structs.replace(answer, readers=readers)


async def _require_not_posted(home: RoomHome, agent: AgentId, message: MessageId) -> None:
    """Raise `Refused(relay_older)` where the room's home has a message of this agent that the home tells it nothing of:
    an older Parler answers so to somebody who only asks a queue for work."""
    params = t.PostedAtRoom(room=home.room, agent=agent, id=message)
    try:
        await home.link.call("link.posted", params, by=agent)
    except Refused:
        return
    raise Refused(
        "relay_older",
        "The relay runs an older Parler, which does not tell who asked for something how far that got.",
        op="link.why",
    )
