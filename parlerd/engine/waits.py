"""Waiting for something that changes: the one loop behind every operation that waits and every stream.

    look -> enough? -> answer
      ^        | no
      |        v
      +-- a topic fired, a moment came, or the time is over -- and while it waits the caller counts as waiting

A look says what it depends on with `Wait.on`, each topic before it reads what the topic tells of: then no change can
fall between the read and the wait, however long the read takes. What an earlier look depended on and this one did not
name wakes nobody any more.

Not here: what is looked at (the handlers), who publishes a change (`engine`). Above: the handlers that wait. Below:
`notifier`. Invariants: nobody waits on while the daemon drains; a caller counts as waiting only while it waits, however
the wait ends; a look whose time is over is the last one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import inf
from typing import TypeVar

import trio

from parlerd.core.errors import Refused
from parlerd.core.topics import Topic
from parlerd.engine.callers import Caller
from parlerd.engine.ports import Notifier, Waiter

T = TypeVar("T")


class Wait:
    """One wait, as its looks see it. Seconds are on the loop's clock."""

    __slots__ = ("_again_at", "_armed", "_deadline", "_finished", "_is_last", "_topics", "_waiter")

    def __init__(self, waiter: Waiter, deadline: float) -> None:
        self._waiter = waiter
        self._deadline = deadline
        self._topics: set[Topic] = set()
        """What this look named so far."""
        self._again_at = inf
        """When to look again although no topic fired."""
        self._armed: AbstractContextManager[object] | None = None
        """What holds while it waits, and only then."""
        self._finished = False
        """Whether the stream ends with what this look found."""
        self._is_last = False
        """Whether the time was over when this look began: no wait follows it, and none of its topics matters."""

    @property
    def over(self) -> bool:
        """Whether the time is over: what is found now is the answer."""
        return self._deadline <= trio.current_time()

    @property
    def woken(self) -> bool:
        """Whether something changed since this look began: it will look again at once."""
        return self._waiter.woken

    def on(self, *topics: Topic) -> None:
        """Look again when one of these is published. Name a topic before reading what it tells of."""
        if not self._is_last:
            self._topics.update(topics)
            self._waiter.add(topics)

    def again(self) -> None:
        """Look again at once: there is more than one look takes."""
        self._waiter.wake()

    def again_in(self, seconds: float) -> None:
        """Look again at the latest then, for what changes by time alone: no topic fires when a pause ends."""
        self._again_at = min(self._again_at, trio.current_time() + seconds)

    def meanwhile(self, armed: AbstractContextManager[object]) -> None:
        """Enter this for as long as it waits after this look. It is not entered when the next look follows at once."""
        self._armed = armed

    def finish(self) -> None:
        """End the stream after what this look found. For streams alone."""
        self._finished = True

    # -- for `Waits` ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A look begins: what the one before it said is forgotten, but its topics still wake."""
        self._waiter.clear()
        self._topics.clear()
        self._again_at = inf
        self._armed = None
        self._is_last = self.over

    async def _pause(self, grace_s: float = 0.0) -> None:
        """Wait for whatever the look named, and after a change `grace_s` longer."""
        self._waiter.keep(self._topics)
        until = min(self._deadline, self._again_at)
        armed = self._armed if self._armed is not None and not self._waiter.woken else nullcontext()
        with armed, trio.move_on_at(until) if until < inf else nullcontext():
            await self._waiter.wait()
            if grace_s:
                await trio.sleep(grace_s)


class Waits:
    """Everyone who waits for a change in this home."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self.draining = False
        """Whether the daemon stops: nobody begins to wait any more."""

    async def until(
        self, caller: Caller, look: Callable[[Wait], Awaitable[T | None]], deadline: float, *, grace_s: float = 0.0
    ) -> T:
        """What `look` gives, as soon as it gives something; None from it means to wait on.

        At the deadline it looks once more, and that look must give something (see `Wait.over`). With `grace_s` a look
        that follows a change comes this much later, though not after the deadline: for what others do about the same
        change. Raises what the look raises, and `Refused(draining)` when the daemon stops.
        """
        with self._notifier.listen() as waiter:
            wait = Wait(waiter, deadline)
            while True:
                wait._begin()
                found = await look(wait)
                if found is not None:
                    return found
                assert not wait._is_last, "the last look gives an answer"
                if self.draining:
                    raise Refused("draining")
                caller.waiting += 1
                try:
                    await wait._pause(grace_s)
                finally:
                    caller.waiting -= 1

    async def follow(self, look: Callable[[Wait], Awaitable[Sequence[T]]]) -> AsyncGenerator[T, None]:
        """Everything that look after look gives, until one says `Wait.finish` or the daemon stops.

        Whoever follows does not count as waiting: a stream is open for as long as somebody watches.
        """
        with self._notifier.listen() as waiter:
            wait = Wait(waiter, inf)
            while not self.draining:
                wait._begin()
                for found in await look(wait):
                    yield found
                # The look may have named its topics after the drain woke everyone.
                if wait._finished or self.draining:
                    return
                await wait._pause()

    def drain(self) -> None:
        """Nobody waits on: each looks once more, and is then answered `draining`; streams end."""
        self.draining = True
        self._notifier.wake_all()
