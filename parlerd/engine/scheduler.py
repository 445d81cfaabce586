"""Does things at their moments: one heap of moments and one task, however many rooms and agents wait for time to pass.

A moment is stated by the wall clock, and so is what becomes due. The task sleeps by the loop's steady clock and looks
at the wall when it wakes, at the latest after `LOOK_S`: a wall that is set forward makes due what it passed, and one
that is set back delays what it has not reached again and stops nothing else. After a step back everything that was due
is asked for anew (`stepped_back`), because what happened by the wrong clock will happen once more by the right one.

Above: `deadlines`, which says what there is to do. Below: the clock. Invariant: what is put in is done once, in the
order of the moments, and never before its moment has come by the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import Millis
from parlerd.engine.ports import Clock

log = logging.getLogger(__name__)

LOOK_S: Final = 60.0
"""The longest sleep: a wall that was set forward is noticed after this time at the latest."""
RETRY_MS: Final = 10_000
"""After something due could not be done (the store was locked, say), it is tried again."""
EARLY_S: Final = 0.01
"""The first pause when the task woke and the wall is not there yet; each further one is twice as long."""

Due = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    await trio.lowlevel.checkpoint()


@dataclass(frozen=True, slots=True)
class _Entry:
    moment: Millis
    number: int
    due: Due


class Scheduler:
    """What is to be done, by name: a name has at most one moment."""

    def __init__(self, clock: Clock, *, stepped_back: Due = _nothing) -> None:
        self._clock = clock
        self._stepped_back = stepped_back
        self._entries: dict[Hashable, _Entry] = {}
        """What is to be done now, by name."""
        self._heap: list[tuple[Millis, int, Hashable]] = []
        """The moments in order. Of those that were replaced or dropped, each stays until it comes up."""
        self._numbers = count()
        """Tells an entry from the one that it replaced, and puts first what was put in first."""
        self._changed = trio.Event()
        """Set when there is a moment before the one that the task sleeps for, and when the task is to end."""
        self._closing = False

    def __len__(self) -> int:
        return len(self._entries)

    def moment(self, name: Hashable) -> Millis | None:
        """When something is to be done under this name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.moment

    def put(self, name: Hashable, moment: Millis, due: Due) -> None:
        """Do this at that moment, in place of what stands under the name."""
        entry = _Entry(moment, next(self._numbers), due)
        self._entries[name] = entry
        heappush(self._heap, (moment, entry.number, name))
        if self._heap[0][1] == entry.number:
            self._changed.set()

    def drop(self, name: Hashable) -> None:
        """Nothing is to be done under this name."""
        self._entries.pop(name, None)

    def close(self) -> None:
        """End the task. What is not done by then is not done."""
        self._closing = True
        self._changed.set()

    async def run(self) -> None:
        """Do what is due, until `close`."""
        seen = self._clock.now()
        early = 0
        while not self._closing:
            now = self._clock.now()
            if now < seen:
                await self._do(None, _Entry(now, next(self._numbers), self._stepped_back))
            seen = now
            self._changed = trio.Event()
            entry = self._first()
            if entry is not None and entry[1].moment <= now:
                early = 0
                name, taken = entry
                del self._entries[name]
                await self._do(name, taken)
                continue
            left = LOOK_S if entry is None else (entry[1].moment - now) / 1000
            pause = min(max(left, EARLY_S * 2**early if early else 0), LOOK_S)
            with trio.move_on_after(pause) as slept:
                await self._changed.wait()
            # The wall lags behind the loop's clock where the whole time was slept and the moment has not come.
            early = min(early + 1, 20) if slept.cancelled_caught and pause >= left else 0

    def _first(self) -> tuple[Hashable, _Entry] | None:
        """What comes next. Forgets the moments before it that no longer count."""
        while self._heap:
            _, number, name = self._heap[0]
            entry = self._entries.get(name)
            if entry is not None and entry.number == number:
                return name, entry
            heappop(self._heap)
        return None

    async def _do(self, name: Hashable, entry: _Entry) -> None:
        try:
            await entry.due()
            # Whatever else is due, others have the loop in between.
            await trio.lowlevel.checkpoint()
        except ParlerError as error:
            log.warning("something that was due could not be done: %s", error.code)
            if name is not None and name not in self._entries:
                self.put(name, Millis(self._clock.now() + RETRY_MS), entry.due)
