"""One story after another under virtual time: the same seed is the same story, and thousands of them are cheap.

`play` is `tests.support.engine.run` with what a seed needs to replay, and without what costs time and shows nothing:
signatures are remembered, and the clock says the time without computing it.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import inf
from random import Random
from typing import Any, TypeVar

import trio
import trio.testing

from tests.support.engine import LONGEST
from tests.support.signatures import remembered

T = TypeVar("T")


def play(seed: int, main: Callable[[], Awaitable[T]], *, in_order: bool = False) -> T:
    """Run under virtual time, with the order of tasks drawn from the seed, or `in_order` of when they were made. One
    that never ends fails."""

    async def bounded() -> T:
        with trio.fail_after(LONGEST):
            return await main()

    # Which of several tasks goes first is drawn by the loop. A seed has to replay, so the loop draws from it too.
    scheduling: Any = trio._core._run
    scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True
    scheduling._r.seed(seed)
    with remembered(), _uncollected(), _unshuffled() if in_order else nullcontext():
        return trio.run(bounded, clock=_quick_clock())


@contextmanager
def _unshuffled() -> Iterator[None]:
    """The loop sorts tasks before it shuffles them."""
    scheduling: Any = trio._core._run
    drawn = scheduling._r
    scheduling._r = _Unshuffled()
    try:
        yield
    finally:
        scheduling._r = drawn


class _Unshuffled(Random):
    def shuffle(self, x: Any) -> None:
        """Leave everything where it is."""


@contextmanager
def _uncollected() -> Iterator[None]:
    """A story leaves what it made all at once: looking for it meanwhile is a tenth of the time of a seed."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _quick_clock() -> trio.testing.MockClock:
    """A clock that jumps, in less time: it says the time without reading the machine's, and whoever waited for the time
    to which it jumps goes on in the same turn of the loop."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    quick: Any = clock

    def jump() -> None:
        deadlines = trio._core._run.GLOBAL_RUN_CONTEXT.runner.deadlines
        deadline = deadlines.next_deadline()
        if quick._virtual_base < deadline < inf:
            quick._virtual_base = deadline
            deadlines.expire(deadline)

    quick.current_time = lambda: quick._virtual_base
    quick._autojump = jump
    return clock
