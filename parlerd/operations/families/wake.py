"""What an agent host's hook is told: counts and ids of what waits for the agent beside it."""

from __future__ import annotations

from typing import Final

from parlerd.operations.entry import Family, Operation, Params, Result, Wait


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


FAMILY: Final = Family(
    operations=(
        Operation(
            name="wake.check",
            summary="Count what waits for the agent that a host's hook runs beside, with ids.",
            params=WakeCheck,
            result=Waiting,
            plane="hook",
            effect="read",
            waits=True,
            example={"turn": True},
        ),
    )
)
