"""The seats that windows hold: which window acts as which agent, in the store and across a restart.

A lease is durable. After a daemon restart a seat is kept for its window for `KEPT_MS`; a connection that ends, orderly
or not, frees its seat at once. Leases are no facts: only the next daemon would miss one that could not be written.

Not here: which seat a window gets (`seats`). Above: `seats` alone. Below: the driver. Invariant: a window has at most
one lease, and a promise of a name only as long as it has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import trio

from parlerd.core.errors import StoreError
from parlerd.core.model import AgentId, Millis
from parlerd.engine.callers import Caller
from parlerd.engine.driver import Driver
from parlerd.engine.places import place_of
from parlerd.store.port import DropLease, Lease, PutLease

KEPT_MS: Final = 30_000
"""How long a seat waits for its window after a restart. Source: decision 9."""


class Leases:
    """Every lease of one home, by window. Iterate to get them all."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._held: dict[str, Lease] = {}
        # The windows of the last run that have not come back yet, and until when their seats are kept: seconds of the
        # loop's clock, because the wall clock may be set back by years.
        self._kept_until: dict[str, float] = {}
        # Windows that were given a name and have made no call that needs an agent: as leases without an agent, so that
        # whoever comes meanwhile counts the slot as taken.
        self._promised: dict[str, Lease] = {}

    async def start(self) -> None:
        """Read the leases of the last run; each is kept for its window for a while."""
        held = await self._driver.look(lambda store: store.leases())
        until = trio.current_time() + KEPT_MS / 1000
        for lease in held:
            self._held[lease.window] = lease
            self._kept_until[lease.window] = until

    def __iter__(self) -> Iterator[Lease]:
        return iter(self._held.values())

    def get(self, window: str) -> Lease | None:
        """The lease of a window, be the window here or expected back."""
        return self._held.get(window)

    def taken(self, *, but: str) -> list[Lease]:
        """What counts as taken by windows other than `but`: their leases as far as they are kept, and their
        promises."""
        now = trio.current_time()
        held = [
            lease for window, lease in self._held.items() if window != but and self._kept_until.get(window, now) >= now
        ]
        return held + [promise for window, promise in self._promised.items() if window != but]

    def came_back(self, window: str) -> None:
        """The window is connected: its seat is its own until it goes."""
        self._kept_until.pop(window, None)

    def promise(self, caller: Caller, slot: int) -> None:
        """Keep a number behind the name that a window was given, until the window's first call that needs an agent."""
        host, workspace = place_of(caller)
        self._promised[caller.facts.window] = Lease(
            caller.facts.window, agent=AgentId(""), host=host, workspace=workspace, slot=slot, taken_at=Millis(0)
        )

    def promised(self, window: str) -> int | None:
        """The slot that was promised to a window; None when nothing was."""
        promise = self._promised.get(window)
        return None if promise is None else promise.slot

    async def take(self, lease: Lease) -> None:
        """A window sits down."""
        # Only what the next daemon knows of the seat is lost when nothing can be written: looking goes on.
        with suppress(StoreError):
            await self._driver.commit([PutLease(lease)])
        self._held[lease.window] = lease
        self._promised.pop(lease.window, None)

    async def release(self, window: str) -> None:
        """The window is gone: its seat is free. Raises `StoreError` when the store still has the lease, which then
        lapses `KEPT_MS` after the next start."""
        self._promised.pop(window, None)
        self._kept_until.pop(window, None)
        if self._held.pop(window, None) is not None:
            await self._driver.commit([DropLease(window)])

    async def release_lapsed(self) -> None:
        """Free the seats of windows that did not come back in time."""
        for window in [window for window, until in self._kept_until.items() if until < trio.current_time()]:
            # A window that came back while the one before it was being released is no longer among these.
            if window in self._kept_until:
                await self.release(window)
