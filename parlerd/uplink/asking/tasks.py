"""Who does which task of a room that lives elsewhere.

Above: `errands`. Below: `room_home`. Invariant: the room's home alone says who holds a task, and for how long.
"""

from __future__ import annotations

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.claims import Renewal
from parlerd.core.decision import Decision
from parlerd.core.model import AgentId, By, MessageId, Millis, Position
from parlerd.core.room import Room
from parlerd.engine.submissions import Settled
from parlerd.operations import types as t
from parlerd.uplink.asking.room_home import RoomHome


async def claim(home: RoomHome, command: c.ClaimTask, by: By) -> Settled:
    """Claim at the room's home, which has the last word on who gets which task."""
    params = t.ClaimAtRoom(
        room=home.room,
        agent=by.actor,
        task=command.task,
        lease_ms=command.lease_ms,
        idempotency_key=None if command.idempotency_key is None else home.hidden(command.idempotency_key),
    )
    answer = await home.link.call("link.claim", params, by=by.actor)
    assert isinstance(answer, t.ClaimedAtRoom)
    if not answer.task:
        return Settled(Decision(answer="none"))
    id, fence = MessageId(answer.task), Position(answer.fence)

    def holds(room: Room) -> bool:
        task = room.claims.get(id)
        return task is not None and task.fence >= fence

    await home.shown(holds)
    event = e.TaskClaimed(
        task=id,
        worker=by.actor,
        until=Millis(answer.until),
        lease_ms=Millis(answer.lease_ms),
        fence=fence,
    )
    header = e.Header(position=Position(0), at=Millis(0), by=by, authority="member", event=event)
    return Settled(Decision(answer="claimed"), (header,))


async def renew(home: RoomHome, command: c.RenewTask, agent: AgentId) -> None:
    """Hold a task for longer."""
    params = t.RenewAtRoom(room=home.room, agent=agent, task=command.task, lease_ms=command.lease_ms)
    answer = await home.link.call("link.renew", params, by=agent)
    assert isinstance(answer, t.RenewedAtRoom)
    claims = home.mirror.claims
    if (task := claims.get(command.task)) is not None:
        claims.renew(task.id, Renewal(task.fence, Millis(answer.until)))


async def release(home: RoomHome, command: c.ReleaseTask, agent: AgentId) -> None:
    """Give a task back."""
    key = None if command.idempotency_key is None else home.hidden(command.idempotency_key)
    params = t.ReleaseAtRoom(room=home.room, agent=agent, task=command.task, idempotency_key=key)
    await home.link.call("link.release", params, by=agent)
