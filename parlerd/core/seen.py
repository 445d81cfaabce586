"""How present agents are, as expressions see it: what no fact says, and the engine tells.

Not here: how presence is found out (the engine). Above: `commands`, `resolver`. Below: `model`. Invariant: while a
command is decided, or one expression evaluated, the same agent is always seen alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from parlerd.core.model import AgentId, Millis


class SeenAgent(NamedTuple):
    """How an agent is seen. `status` is `waiting`, what it stated itself, or `active`, `idle` or `offline`;
    `waiting_on` is the text of the condition that it waits for, which names these `scopes` of agents, and `last_seen`
    when it last acted, 0 for never."""

    status: str = "offline"
    waiting_on: str | None = None
    last_seen: Millis = Millis(0)
    scopes: frozenset[str] = frozenset()


class Presences(Protocol):
    """How present the agents of one room are at one moment."""

    def of(self, agent: AgentId) -> SeenAgent:
        """How this agent is seen; offline for one that nobody knows."""
        ...


class _Nobody:
    def of(self, agent: AgentId) -> SeenAgent:
        return SeenAgent()


NOBODY_SEEN: Final[Presences] = _Nobody()
"""Where no agent is present."""
