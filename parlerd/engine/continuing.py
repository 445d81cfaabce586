"""Where two agents woke each other so often that their messages wake neither of them, and how they go on: the handler
of `room.continue`.

Not here: what is counted (`core.loops`) and beginning turns (`waking`). Above: the engine; `notices`, `ladder` and
`checks` say where it is so. Below: the home room's line. Invariant: only the person lets agents go on, with the proof
that any decision of theirs takes.
"""

from __future__ import annotations

from typing import Final

from parlerd.core import commands as c
from parlerd.core.loops import WAKES_OF_PAIR, Spent
from parlerd.core.model import AgentId
from parlerd.core.room import RoomState
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handling import handles
from parlerd.engine.observers import observed_room
from parlerd.engine.person import require_person
from parlerd.engine.reading import handle_of
from parlerd.engine.waking import Waking
from parlerd.operations import types as t

MAX_PAIRS: Final = 20
"""Pairs that one answer names."""


class Continuing:
    """The handler by which a person lets their agents go on."""

    def __init__(self, desk: Desk, waking: Waking) -> None:
        self._desk = desk
        self._waking = waking

    @handles("room.continue")
    async def continue_(self, caller: Caller, params: t.ContinueRoom) -> t.ContinuedRoom:
        desk = self._desk
        require_person(desk, caller)
        me = await desk.me(caller)
        actor, room, _ = await observed_room(desk, caller, me, params.room)
        loops = desk.rooms.home.aggregate.loops
        pairs = [_pair(room.state, spent) for spent in loops.of_room(actor.room)]
        was_paused = loops.free_in(desk.clock.now()) > 0
        # What was held back is news once more, before anybody who waits looks again.
        self._waking.forget(actor.room)
        command = c.ContinueWakes(operation="room.continue", room=actor.room)
        settled = await desk.rooms.home.submit(command, desk.by(caller, me))
        pairs.sort(key=lambda pair: -pair.turns)
        return t.ContinuedRoom(
            room=actor.room,
            name=room.state.name,
            status="continued" if settled.decision.answer == "continued" else "nothing",
            pairs=pairs[:MAX_PAIRS],
            was_paused=was_paused,
        )


def spent_in(desk: Desk, state: RoomState, agent: AgentId | None = None) -> list[t.WokenPair]:
    """The pairs of agents whose messages wake neither of the two any more; with `agent` those that it is one of."""
    found = desk.rooms.home.aggregate.loops.of_room(state.room)
    return [
        _pair(state, spent)
        for spent in found
        if spent.turns >= WAKES_OF_PAIR and (agent is None or agent in spent.agents)
    ]


def said_of(pair: t.WokenPair) -> str:
    """What became of a pair whose turns are used up, in one clause."""
    who = f"{pair.one} and {pair.other}"
    return f"{who} began {pair.turns} turns by each other's messages in one conversation, and wake no more"


def _pair(state: RoomState, spent: Spent) -> t.WokenPair:
    one, other = [handle_of(state, agent) for agent in spent.agents]
    return t.WokenPair(one=one, other=other, turns=spent.turns)
