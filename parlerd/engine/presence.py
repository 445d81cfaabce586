"""How present an agent is: active, waiting, idle or offline, derived from connections and calls. Beside that, and never
in its place, what the agent states that it is doing.

Not here: who acts as whom (`seats`), who may state what (`stating`). Above: whoever shows a roster or where a message
got to. Invariants: nothing is stored; after a restart every agent is offline until it calls or its window is back, and
states nothing; no call and no connection changes what is stated, and it ends when its agent was offline for `ENDS_MS`.
"""

from __future__ import annotations

from typing import Final

from parlerd.core.model import AgentId, Millis
from parlerd.engine.connected import Connected
from parlerd.engine.deadlines import ACTIVE_MS
from parlerd.engine.links import Links
from parlerd.engine.ports import Clock
from parlerd.engine.seats import Seats
from parlerd.operations import types as t

DERIVED: Final = frozenset({"active", "waiting", "idle", "offline"})
"""The words that are found out, so that nobody states one of them."""
ENDS_MS: Final = Millis(600_000)
"""How long an agent is offline until what it stated is over. Source: coordination spec, Expressions."""


class Presence:
    """The presence of every agent of one home."""

    def __init__(self, seats: Seats, connected: Connected, links: Links, clock: Clock) -> None:
        self._seats = seats
        self._connected = connected
        self._links = links
        self._clock = clock
        self._stated: dict[AgentId, t.StatedStatus] = {}
        """What agents of this home state."""

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

    def state(self, agent: AgentId, stated: t.StatedStatus | None) -> None:
        """An agent of this home states this from now on, or nothing."""
        self._stated.pop(agent, None)
        if stated is not None:
            self._stated[agent] = stated

    def stated(self, agent: AgentId) -> t.StatedStatus | None:
        """What an agent states. Of one of another home, what its daemon says for as long as its link is up."""
        stated = self._stated.get(agent)
        if stated is None:
            return self._links.stated_of(agent, self._clock.now())
        presence, since = self.of(agent)
        # The distance in either direction, as above.
        if presence == "offline" and abs(self._clock.now() - since) >= ENDS_MS:
            del self._stated[agent]
            return None
        return stated

    def is_held_by_window(self, agent: AgentId) -> bool:
        """Whether a live window acts as this agent now, or will at its next call."""
        return any(self._seats.acts_as(caller) == agent for caller in self._connected.windows())
