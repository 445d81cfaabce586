"""The board of a room: everything that goes on in it, as one picture for a person who looks on."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import PeerText
from parlerd.operations import samples
from parlerd.operations.entry import Family, Operation, Result, Route, Short, WaitingParams
from parlerd.operations.shared import STATE_READING, StateEntry, TimerShown

MAX_BOARD_ENTRIES: Final = 200
MAX_BOARD_TASKS: Final = 50
MAX_BOARD_ACTIONS: Final = 100
MAX_BOARD_AGENTS: Final = 200
"""How many of each a board has at most. It says how many there are besides."""
MAX_BOARD_TEXT: Final = 200
"""Characters of a task's text on a board."""

BoardPart = Literal["agents", "entries", "tasks", "actions"]


class LookAtBoard(WaitingParams, frozen=True, kw_only=True):
    """`after` is the `mark` of a board that was shown: the answer comes when the board looks otherwise, or at the end
    of `wait_ms`. Without it the answer comes at once."""

    after: Short = ""
    room: Short | None = None


class BoardAgent(Result, frozen=True, kw_only=True):
    """Who is in the room. `status`, `role` and `waiting_on` are what an expression sees of `agents.NAME`; `last_seen`
    is in epoch milliseconds, 0 where the agent was never seen."""

    name: str
    status: str
    role: str
    waiting_on: PeerText | None
    last_seen: int


class BoardTask(Result, frozen=True, kw_only=True):
    """A task that is not over, and that the reader may see: its number, who posted it, the beginning of its text, and
    who holds it until when. `holder` is empty, and `lease_until` 0, for one that is open."""

    id: str
    seq: int
    author: str
    text: PeerText
    status: str
    holder: str
    lease_until: int


class BoardAction(Result, frozen=True, kw_only=True):
    """An action that is there, whether the reader could invoke it now, and if not why: `reason`, `available_at` and
    `ticks_left` are as `action.list` says."""

    id: str
    scope: str
    available: bool
    reason: str | msgspec.UnsetType = msgspec.UNSET
    available_at: int | msgspec.UnsetType = msgspec.UNSET
    ticks_left: int | msgspec.UnsetType = msgspec.UNSET
    description: PeerText | msgspec.UnsetType = msgspec.UNSET
    timer: TimerShown | msgspec.UnsetType = msgspec.UNSET


class Board(Result, frozen=True, kw_only=True):
    """A room at one moment, as the reader may see it.

    `entries` are those of the state in the order of scopes and keys, also those that are not there now (`dormant`):
    their timers have to run out first, or what has to be true is not. Where there are too many, those with a timer come
    before the others, and what was written last before what was not. `left_out` says how many more there are of
    which part. `messages` and `unclaimed` count what the reader may see and could claim. `now` is the room's time, in
    epoch milliseconds. `mark` stands for the board as it is, apart from `now` and from when agents were last seen."""

    agents: list[BoardAgent]
    entries: list[StateEntry]
    tasks: list[BoardTask]
    actions: list[BoardAction]
    left_out: dict[BoardPart, int]
    messages: int
    unclaimed: int
    closed: bool
    now: Annotated[int, Meta(ge=0)]
    mark: Short
    room: str
    name: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="room.board",
            summary="Show what goes on in a room: agents, waits, state, tasks, actions, timers.",
            params=LookAtBoard,
            result=Board,
            plane="agent",
            http=Route("GET /rooms/{room}/board", "read"),
            effect="read",
            waits=True,
            errors=STATE_READING,
            facts=("timer_fired",),
            example={"wait_ms": 0},
            answers=(
                {
                    "agents": [
                        {
                            "name": samples.BOB,
                            "status": "waiting",
                            "role": "",
                            "waiting_on": "state._shared.turn == 2",
                            "last_seen": samples.AT,
                        }
                    ],
                    "entries": [samples.ENTRY],
                    "tasks": [],
                    "actions": [],
                    "left_out": {},
                    "messages": 12,
                    "unclaimed": 0,
                    "closed": False,
                    "now": samples.AT,
                    "mark": "b1c2",
                    **samples.PLACED,
                },
            ),
            command="parler board",
        ),
    )
)
