"""What an agent may do in a room now, and what is best done next.

The rows come from the rules that authorise (`core.rights`, `core.actions`), and the next steps from what waits for the
agent: never from what another wrote. Not here: those rules. Above: the engine's face. Below: a room's line, the
library, `crossing` for the actions, which the room's home alone knows. Invariant: what is listed says nothing of what
the asker may not know.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.membership import present
from parlerd.core.model import AgentId, Millis
from parlerd.core.rights import NEEDED, why_not
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.crossing import Crossing
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

_UNHEARD: Final = "The home of this room cannot be asked now, so its actions are not listed."
_LAST_THIRD: Final = 3


class Affording:
    """The handler of `room.affordances`."""

    def __init__(self, desk: Desk, crossing: Crossing) -> None:
        self._desk = desk
        self._crossing = crossing

    @handles("room.affordances")
    async def affordances(self, caller: Caller, params: t.ListAffordances) -> t.Affordances:
        desk = self._desk
        me, may = await desk.me(caller), caller.facts.authority
        handle, _ = await room_of(desk, me, params.room)
        room = await handle.quiet()
        member = present(room.state.members, me.id)
        now = Millis(max(desk.clock.now(), room.last_at))
        resolver = room.look(me.id, now, desk.watching.of(handle.room))
        reasons = {
            operation: why_not(room, member, right, resolver) if may.is_for(OPERATIONS[operation]) else "not_permitted"
            for operation, right in NEEDED.items()
        }
        actions: list[t.ActionAffordance] | msgspec.UnsetType = msgspec.UNSET
        notice = ""
        if not reasons["action.list"]:
            try:
                actions = await self._actions(caller, handle.room)
            except Refused as refused:
                if refused.code not in t.AWAY:
                    raise
                notice = _UNHEARD
        return t.Affordances(
            affordances=[
                t.Affordance(operation=operation, allowed=not reason, reason=reason or msgspec.UNSET)
                for operation, reason in reasons.items()
            ],
            actions=actions,
            next=[
                step
                for step in await self._next(room, me.id)
                if not step.operation or may.is_for(OPERATIONS[step.operation])
            ],
            you=member.handle,
            room=handle.room,
            name=room.state.name,
            notice=notice,
            epoch=_epoch(member.handle, reasons),
        )

    async def _actions(self, caller: Caller, room: str) -> list[t.ActionAffordance]:
        found: list[t.ActionAffordance] = []
        after: str | None = None
        while True:
            page = await self._crossing.ask(caller, t.ListActions(room=room, after=after))
            assert isinstance(page, t.ActionsListed)
            found += [
                t.ActionAffordance(id=each.id, available=each.available, reason=each.reason) for each in page.actions
            ]
            if not page.more or not page.actions or (after is not None and page.actions[-1].id <= after):
                return found
            after = page.actions[-1].id

    async def _next(self, room: Room, agent: AgentId) -> list[t.NextStep]:
        now = max(self._desk.clock.now(), room.last_at)
        steps = [*_urgent(room, agent, now)]
        glance = await self._desk.library.glance(room.state.room, room.view(agent))
        if glance.unread:
            steps.append(t.NextStep(operation="message.recv", params={}, why="unread"))
        if room.state.owner == agent and not room.state.closed and room.pending():
            steps.append(t.NextStep(operation="", params={}, why="knock"))
        if not room.state.closed and room.claims.open_to(agent, now):
            steps.append(t.NextStep(operation="task.claim", params={}, why="open_work"))
        if not steps and not room.state.closed:
            steps.append(t.NextStep(operation="message.recv", params={"wait_ms": 600_000}, why="wait"))
        return steps[: t.MAX_NEXT]


def _epoch(handle: str, reasons: Mapping[str, str]) -> str:
    """A short text that stands for what is allowed to whom."""
    said = "\n".join([handle, *(f"{operation} {reason}" for operation, reason in reasons.items())])
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _urgent(room: Room, agent: AgentId, now: Millis) -> Iterator[t.NextStep]:
    """What does not wait: offers to this agent, and claims of its that end soon."""
    if room.state.closed:
        return
    for offer in room.state.offers:
        is_seen = offer.visibility is None or agent in offer.visibility
        if is_seen and room.state.offers.is_open(offer, now) and room.state.offers.is_for(offer, agent):
            yield t.NextStep(operation="handoff.accept", params={"id": offer.id}, why="offer")
    for task in room.claims.held_by(agent, now):
        if room.claims.until(task) - now < task.lease_ms / _LAST_THIRD:
            yield t.NextStep(operation="task.renew", params={"id": task.id}, why="claim_ends")
