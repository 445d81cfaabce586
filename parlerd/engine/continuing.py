"""Where two agents woke each other so often that their messages wake neither of them, how they go on, and how often
they may wake each other in each room: the handlers of `room.continue` and `room.turns`.

Not here: what is counted (`core.loops`) and beginning turns (`waking`). Above: the engine; `notices`, `ladder` and
`checks` say where it is so. Below: the home room's line. Invariant: only the person lets agents go on or sets
how often they wake each other, with the proof that any decision of theirs takes.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.loops import WAKES_OF_PAIR, Spent
from parlerd.core.model import AgentId
from parlerd.core.room import Room, RoomState
from parlerd.core.visibility import can_see
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_room
from parlerd.engine.person import require_person
from parlerd.engine.reading import Reading, handle_of
from parlerd.engine.succeeding import Succeeding
from parlerd.engine.waking import Waking
from parlerd.operations import types as t

MAX_PAIRS: Final = 20
"""Pairs that one answer names."""


class Continuing:
    """The handlers by which a person says how long their agents go on."""

    def __init__(self, desk: Desk, reading: Reading, waking: Waking, succeeding: Succeeding) -> None:
        self._desk = desk
        self._succeeding = succeeding
        self._reading = reading
        self._waking = waking

    @handles("room.continue")
    async def continue_(self, caller: Caller, params: t.ContinueRoom) -> t.ContinuedRoom:
        if params.without_owner:
            if params.message:
                raise Refused("invalid_param", "It is the room that goes on, not a conversation.", param="message")
            return await self._succeeding.go_on(caller, params)
        desk = self._desk
        require_person(desk, caller)
        me = await desk.me(caller)
        actor, room, inside = await observed_room(desk, caller, me, params.room)
        chain = await self._chain(room, inside, params.message) if params.message else ""
        loops = desk.rooms.home.aggregate.loops
        pairs = [_pair(room.state, spent) for spent in loops.of_room(actor.room) if chain in ("", spent.chain)]
        was_paused = not chain and loops.free_in(desk.clock.now()) > 0
        # What was held back is news once more, before anybody who waits looks again.
        self._waking.forget(actor.room)
        command = c.ContinueWakes(operation="room.continue", room=actor.room, chain=chain)
        settled = await desk.rooms.home.submit(command, desk.by(caller, me))
        pairs.sort(key=lambda pair: -pair.turns)
        return t.ContinuedRoom(
            room=actor.room,
            name=room.state.name,
            status="continued" if settled.decision.answer == "continued" else "nothing",
            turns=loops.most(actor.room),
            pairs=pairs[:MAX_PAIRS],
            was_paused=was_paused,
        )

    @handles("room.turns")
    async def turns(self, caller: Caller, params: t.TurnsInRoom) -> t.RoomTurns:
        desk = self._desk
        if params.turns is not None:
            require_person(desk, caller)
        me = await desk.me(caller)
        actor, room, _ = await observed_room(desk, caller, me, params.room)
        loops = desk.rooms.home.aggregate.loops
        if params.turns is not None:
            most = None if params.turns == "default" else params.turns
            if (WAKES_OF_PAIR if most is None else most) > loops.most(actor.room):
                # What was held back may begin a turn now, and is news once more to whoever looks again.
                self._waking.forget(actor.room)
            command = c.BoundWakes(operation="room.turns", room=actor.room, most=most)
            await desk.rooms.home.submit(command, desk.by(caller, me))
        return t.RoomTurns(
            room=actor.room,
            name=room.state.name,
            turns=loops.most(actor.room),
            is_default=not loops.is_set(actor.room),
        )

    async def _chain(self, room: Room, inside: list[AgentRecord], meant: str) -> str:
        """The conversation of a message of this room that one of these agents may see. Raises
        `Refused(no_such_message)`."""
        id = await self._reading.message_id(room, inside[0].id, meant)
        found = await self._desk.library.trace(id)
        if found is None or found.room != room.state.room:
            raise Refused("no_such_message", id=meant)
        event = found.header.event
        assert isinstance(event, e.MessagePosted)
        views = [room.view(record.id) for record in inside]
        if not any(can_see(view, position=found.header.position, visibility=event.visibility) for view in views):
            raise Refused("no_such_message", id=meant)
        return event.chain


def spent_in(desk: Desk, state: RoomState, agent: AgentId | None = None) -> list[t.WokenPair]:
    """The pairs of agents whose messages wake neither of the two any more; with `agent` those that it is one of. Where
    the person lets no message begin a turn there are none, because no pair woke each other too often there."""
    loops = desk.rooms.home.aggregate.loops
    most = loops.most(state.room)
    return [
        _pair(state, spent)
        for spent in loops.of_room(state.room)
        if most and spent.turns >= most and (agent is None or agent in spent.agents)
    ]


def said_of(pair: t.WokenPair) -> str:
    """What became of a pair whose turns are used up, in one clause."""
    who = f"{pair.one} and {pair.other}"
    return f"{who} began {pair.turns} turns by each other's messages in one conversation, and wake no more"


def _pair(state: RoomState, spent: Spent) -> t.WokenPair:
    one, other = [handle_of(state, agent) for agent in spent.agents]
    return t.WokenPair(one=one, other=other, turns=spent.turns)
