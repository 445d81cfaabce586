"""What several relays count together, in one trio run: each gets a way of its own to the same counts.

`SharedCounts().way()` is what an engine or a part of a relay takes as its `counts`; `draws` says how often budgets were
drawn from.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from parlerd.store.counts import Ask, Drawn
from parlerd.store.memory_counts import MemoryCounts
from relay.counting import Aside, Counting


class SharedCounts(MemoryCounts):
    """Counts by the clock of the loop. Make it inside the run."""

    def __init__(self) -> None:
        super().__init__(trio.current_time)
        self.draws = 0
        """How often budgets were drawn from, or had too little."""

    def draw(self, asks: Sequence[Ask]) -> Drawn:
        self.draws += 1
        return super().draw(asks)

    def way(self, aside: Aside | None = None) -> Counting:
        """The way of one relay to these counts."""
        return Counting(self, aside or at_once)


async def at_once(work: object) -> object:
    """Ask without a thread."""
    await trio.lowlevel.checkpoint()
    assert callable(work)
    return work()
