"""Turns that begin without a person: what an agent host's hook is told, which is counts and ids of what waits for the
agent beside it, and how a person lets agents go on that woke each other too often."""

from __future__ import annotations

from typing import Final, Literal

from parlerd.operations import samples
from parlerd.operations.entry import IN_ROOM, Family, Operation, Params, Result, Short, Wait


class WakeCheck(Params, frozen=True, kw_only=True):
    """`turn`: the answer would begin a turn of the agent that no person asked for. With `wait_ms` the answer comes when
    there is news, or at the end of the wait."""

    wait_ms: Wait = 0
    turn: bool = False


class Waiting(Result, frozen=True, kw_only=True):
    """Counts and ids, nothing that anybody wrote. `rooms` are the first few with something unread; `wake` says that a
    turn may begin now, for news that began none before; `paused` that this hour's automatic turns are used up."""

    agent: str
    unread: int
    rooms: list[str]
    handoffs: int
    requests: int
    wake: bool
    paused: bool


class ContinueRoom(Params, frozen=True, kw_only=True):
    """Let the person's agents wake each other in a room again."""

    room: Short | None = None


class WokenPair(Result, frozen=True, kw_only=True):
    """Two agents, by name, whose messages to each other in one conversation began so many turns of the two."""

    one: str
    other: str
    turns: int


class ContinuedRoom(Result, frozen=True, kw_only=True):
    """`pairs` are the counts that begin anew, the highest first; `was_paused` says that the turns of this hour were
    used up, which begin anew as well. `status` is `nothing` where nothing was counted."""

    room: str
    name: str
    status: Literal["continued", "nothing"]
    pairs: list[WokenPair] = []
    was_paused: bool = False


FAMILY: Final = Family(
    operations=(
        Operation(
            name="wake.check",
            summary="Count what waits for the agent that a host's hook runs beside, with ids.",
            params=WakeCheck,
            result=Waiting,
            plane="hook",
            effect="write",
            waits=True,
            facts=("agent_woken",),
            example={"turn": True},
        ),
        Operation(
            name="room.continue",
            summary="Let your agents go on waking each other in a room, after they did so too often.",
            params=ContinueRoom,
            result=ContinuedRoom,
            plane="person",
            effect="write",
            errors=IN_ROOM,
            facts=("wakes_continued",),
            example={"room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "status": "continued",
                    "pairs": [{"one": samples.ANN, "other": samples.BOB, "turns": 20}],
                },
            ),
            command="parler room continue",
        ),
    )
)
