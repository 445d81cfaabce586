"""How present an agent is: active, waiting, idle or offline. Derived from connections and calls, never stated.

Not here: who acts as whom (`seats`). Above: whoever shows a roster or where a message got to. Invariant: nothing is
stored; after a restart every agent is offline until it calls or its window is back.
"""

from __future__ import annotations

from parlerd.core.model import AgentId, Millis
from parlerd.engine.connected import Connected
from parlerd.engine.deadlines import ACTIVE_MS
from parlerd.engine.links import Links
from parlerd.engine.ports import Clock
from parlerd.engine.seats import Seats


class Presence:
    """The presence of every agent of one home."""

    def __init__(self, seats: Seats, connected: Connected, links: Links, clock: Clock) -> None:
        self._seats = seats
        self._connected = connected
        self._links = links
        self._clock = clock

    def of(self, agent: AgentId) -> tuple[str, Millis]:
        """One of the four words, and since when: the time of the agent's last call."""
        mine = [caller for caller in self._connected.actors() if self._seats.acts_as(caller) == agent]
        last = self._connected.last_seen(agent)
        if not mine:
            # An agent of another home is as present as its own daemon says.
            return self._links.presence_of(agent, self._clock.now()) or ("offline", last)
        last = Millis(max(last, *(caller.last_act for caller in mine)))
        if any(caller.waiting for caller in mine):
            return "waiting", last
        # The distance in either direction: an agent that acted while the clock stood ahead is not active for years.
        return ("active" if abs(self._clock.now() - last) < ACTIVE_MS else "idle"), last

    def is_held_by_window(self, agent: AgentId) -> bool:
        """Whether a live window acts as this agent now, or will at its next call."""
        return any(self._seats.acts_as(caller) == agent for caller in self._connected.windows())
