"""What this relay counts together with the others of its home, asked away from the loop.

Above: the relay's program, which hands this to whoever counts: the engine, `enrolment`, `turnstile`, `newest`. Below:
`parlerd.store.counts`, over a connection of its own. Invariant: one question is asked at a time, and one whose asker is
gone meanwhile is asked to its end.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar, cast

import trio

from parlerd.core.errors import StoreError
from parlerd.core.model import PrincipalId
from parlerd.store.counts import Ask, Counts, Drawn, KeptBytes

log = logging.getLogger("relay")

FORGET_S: Final = 3600.0
"""How often it is looked which budgets are whole again."""

T = TypeVar("T")
Aside = Callable[[Callable[[], object]], Awaitable[object]]


class OneThread:
    """Does one thing after the other in a thread. Whoever is cancelled does not wait for what was begun, as a relay
    that is stopped does not; the next thing begins when it is done, because a connection is for one thread alone."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(1)

    async def __call__(self, work: Callable[[], object]) -> object:
        return await trio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)


class Counting:
    """`parlerd.store.counts.Counts` for tasks; it is `engine.ports.SharedCounts`. Every method raises `StoreError`."""

    def __init__(self, counts: Counts, aside: Aside | None = None) -> None:
        self._counts = counts
        self._aside = aside or OneThread()

    async def run(self) -> None:
        """Forget from time to time what is whole again, until cancelled."""
        while True:
            try:
                await self._do(self._counts.forget_old)
            except StoreError as error:
                log.warning("budgets that are whole again are not forgotten now: %s", error.code)
            await trio.sleep(FORGET_S)

    async def claim(self, principal: PrincipalId) -> int:
        return await self._do(lambda: self._counts.claim(principal))

    async def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]:
        return await self._do(lambda: self._counts.newest(principals))

    async def draw(self, asks: Sequence[Ask]) -> Drawn:
        return await self._do(lambda: self._counts.draw(asks))

    async def give(self, asks: Sequence[Ask]) -> None:
        await self._do(lambda: self._counts.give(asks))

    async def forget(self, names: Sequence[str]) -> None:
        await self._do(lambda: self._counts.forget(names))

    async def keep(self, changes: Mapping[PrincipalId, int], since: float) -> KeptBytes:
        return await self._do(lambda: self._counts.keep(changes, since))

    async def correct(self, changes: Mapping[PrincipalId, int], counting: int) -> bool:
        return await self._do(lambda: self._counts.correct(changes, counting))

    async def _do(self, work: Callable[[], T]) -> T:
        return cast(T, await self._aside(work))
