"""One call after another about the same two agents, so that two calls never open two rooms for them.

Not here: which room two agents have (`core.pairs`). Above: `directs`. Invariant: nothing is kept of a pair that nobody
asks about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from parlerd.core.model import AgentId

_Pair = frozenset[AgentId]


class PairLines:
    """The calls under way, by the pair that they are about."""

    def __init__(self) -> None:
        self._locks: dict[_Pair, trio.Lock] = {}
        """What each pair's calls pass one by one."""
        self._calls: dict[_Pair, int] = {}
        """How many calls of a pair are in its lock, or wait for it."""

    def __len__(self) -> int:
        """Of how many pairs something is kept."""
        return len(self._locks)

    @asynccontextmanager
    async def alone(self, one: AgentId, other: AgentId) -> AsyncIterator[None]:
        """Hold the line of these two agents, whichever is named first."""
        pair = frozenset((one, other))
        lock = self._locks.setdefault(pair, trio.Lock())
        self._calls[pair] = self._calls.get(pair, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._calls[pair] -= 1
            if not self._calls[pair]:
                del self._calls[pair], self._locks[pair]
