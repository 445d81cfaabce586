"""Who is connected now, and when each agent was last seen to go.

Not here: which agent a caller acts as (`seats`), what follows for others' eyes (`presence`). Above: `seats`,
`presence`, `beside`, `status`. Invariant: every caller between `engine.connect` and `engine.disconnect` is here, and
nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator

from parlerd.core.model import AgentId, Millis
from parlerd.engine.callers import Caller
from parlerd.engine.ports import Clock


class Connected:
    """The callers of one engine. Iterate to get them all, in no order."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._callers: set[Caller] = set()
        # Those among them that may act as an agent of this home, which no link to another home does.
        self._actors: set[Caller] = set()
        # For the daemon's life only: after a restart an agent counts as never seen until it calls.
        self._last_seen: dict[AgentId, Millis] = {}

    def __iter__(self) -> Iterator[Caller]:
        return iter(self._callers)

    def __len__(self) -> int:
        return len(self._callers)

    def add(self, caller: Caller) -> None:
        self._callers.add(caller)
        if "link" not in caller.facts.authority.planes:
            self._actors.add(caller)

    def remove(self, caller: Caller) -> None:
        """The caller is gone; its agent was seen just now."""
        self._callers.discard(caller)
        self._actors.discard(caller)
        if caller.agent is not None:
            self._last_seen[caller.agent] = self._clock.now()

    def actors(self) -> Iterator[Caller]:
        """The callers that may act as an agent of this home. A relay has many links beside them."""
        return iter(self._actors)

    def windows(self) -> Iterator[Caller]:
        """The callers that are windows of agent hosts."""
        return (caller for caller in self._callers if caller.facts.window)

    def is_open(self, window: str) -> bool:
        """Whether any caller of this window is connected."""
        return any(caller.facts.window == window for caller in self._callers)

    def last_seen(self, agent: AgentId) -> Millis:
        """When a caller that acted as this agent went last; 0 when this daemon saw none go."""
        return self._last_seen.get(agent, Millis(0))
