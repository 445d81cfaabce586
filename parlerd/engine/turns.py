"""Where a commit runs: what one turn of the event loop brings is one transaction, on the loop where that is quick.

There and back through a thread costs a quarter of what an agent waits for, so a few facts are committed on the loop, at
the end of the turn that brought them. More facts, many bytes, and anything while the disk is slow go to the writer's
thread, and the loop goes on meanwhile. Above: `driver`, which commits. Below: nothing of the store but the shapes of
what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from parlerd.engine.worker import Errand
from parlerd.store.port import Append, BuryRoom, ClearRoom, EraseBodies, ForgetMarks, IndexMemory, PutSnapshot, Write

LIGHT_FACTS: Final = 8
"""Facts that are committed on the loop. Deciding and signing more costs the loop as much as the thread's hop saves."""
LIGHT_BYTES: Final = 64 * 1024
"""Bytes of bodies that are committed on the loop."""
QUICK_S: Final = 0.002
"""Seconds that a light commit may take and still be done on the loop, because everybody else waits meanwhile."""
_FADES: Final = 0.9
"""What is left, at each light commit, of the memory of the slowest one before it."""


class LightCommits:
    """The rule: which transactions the loop may make itself. It learns from how long the light ones took."""

    def __init__(self) -> None:
        self._slowest = 0.0
        """Seconds of the slowest light commit, fading with each that follows."""

    def takes(self, jobs: Sequence[Sequence[Write]]) -> bool:
        """Whether these jobs are to be committed on the loop now."""
        return self._slowest <= QUICK_S and is_light(jobs)

    def took(self, seconds: float) -> None:
        """A light commit, on the loop or in the thread, took so long."""
        self._slowest = max(seconds, self._slowest * _FADES)


def is_light(jobs: Sequence[Sequence[Write]]) -> bool:
    """Whether these jobs write so little that the loop could wait for it."""
    facts, size = 0, 0
    for job in jobs:
        for write in job:
            if isinstance(write, PutSnapshot | EraseBodies | ForgetMarks | BuryRoom | ClearRoom | IndexMemory):
                return False
            if isinstance(write, Append):
                facts += len(write.facts)
                size += sum(len(fact.body or b"") for fact in write.facts)
    return facts <= LIGHT_FACTS and size <= LIGHT_BYTES


class Turns:
    """Collects errands, and passes those of one turn of the loop to `serve` together, at the turn's end."""

    def __init__(self, serve: Callable[[list[Errand]], None]) -> None:
        self._serve = serve
        self._turn: list[Errand] = []
        """What this turn of the loop brought so far."""
        self._parked: trio.lowlevel.Task | None = None
        """The task, while it waits for the first errand of a turn."""
        self._closing = False
        self._ended = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, name="parler-commits")

    def add(self, errand: Errand) -> None:
        """Serve this errand at the end of this turn of the loop."""
        self._turn.append(errand)
        self._unpark()

    async def close(self) -> None:
        """Serve what was added, then end."""
        self._closing = True
        self._unpark()
        await self._ended.wait()

    async def _run(self) -> None:
        while self._turn or not self._closing:
            if self._turn:
                turn, self._turn = self._turn, []
                self._serve(turn)
            else:
                await self._park()
        self._ended.set()

    async def _park(self) -> None:
        """Wait for `_unpark`. No event is made for it, because every message passes here."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, None
        if parked is not None:
            trio.lowlevel.reschedule(parked)
