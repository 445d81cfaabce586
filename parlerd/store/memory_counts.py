"""What relays that share a store in memory count together: `postgres.counts` without a server.

Above: tests. Invariant: as at a server, everything happens as a whole, by one clock (`now`, in seconds) that no relay
sets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from parlerd.core.model import PrincipalId
from parlerd.store.counts import FORGOTTEN_AFTER_S, Ask, Drawn, KeptBytes, drawn_of


class MemoryCounts:
    """Numbers of links, budgets and bytes. Several threads may use it."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._links: dict[PrincipalId, int] = {}
        self._budgets: dict[str, tuple[float, float]] = {}
        """What is left of each, and since when."""
        self._kept: dict[PrincipalId, int] = {}
        self._counting = 0

    def claim(self, principal: PrincipalId) -> int:
        with self._lock:
            self._links[principal] = self._links.get(principal, 0) + 1
            return self._links[principal]

    def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]:
        with self._lock:
            return {each: self._links[each] for each in principals if each in self._links}

    def draw(self, asks: Sequence[Ask]) -> Drawn:
        with self._lock:
            left = [self._left(ask) for ask in asks]
            drawn = drawn_of(asks, left)
            if not drawn.wait_s:
                for ask, amount in zip(asks, drawn.left, strict=True):
                    self._budgets[ask.name] = amount, self._now()
            return drawn

    def give(self, asks: Sequence[Ask]) -> None:
        with self._lock:
            for ask in asks:
                self._budgets[ask.name] = min(ask.burst, self._left(ask) + ask.most), self._now()

    def forget(self, names: Sequence[str]) -> None:
        with self._lock:
            for name in names:
                self._budgets.pop(name, None)

    def forget_old(self) -> None:
        with self._lock:
            until = self._now() - FORGOTTEN_AFTER_S
            self._budgets = {name: each for name, each in self._budgets.items() if each[1] >= until}

    def keep(self, changes: Mapping[PrincipalId, int], since: float) -> KeptBytes:
        with self._lock:
            self._add(changes)
            return KeptBytes(dict(self._kept), self._now(), self._counting)

    def correct(self, changes: Mapping[PrincipalId, int], counting: int) -> bool:
        with self._lock:
            if counting != self._counting:
                return False
            self._counting += 1
            self._add(changes)
            return True

    def _add(self, changes: Mapping[PrincipalId, int]) -> None:
        for person, size in changes.items():
            self._kept[person] = self._kept.get(person, 0) + size

    def _left(self, ask: Ask) -> float:
        amount, since = self._budgets.get(ask.name, (ask.burst, self._now()))
        return min(ask.burst, amount + max(0.0, self._now() - since) * ask.rate)
