"""Who waits in which room for which condition, and how present the agents of a room are for its expressions.

An agent counts as `waiting` in a room while it waits there for a condition, else as what it stated itself, else as
`active` (a window of it is open, or it acted within `ACTIVE_MS`), `idle` or `offline`. Where a condition is evaluated
for those who wait for it, every agent that waits for the very same condition counts as it did before: so a barrier, at
which each waits until all others are ready, opens.

Not here: what a condition is and when it is evaluated (`coordination`). Above: `coordination`. Below: presence.
Invariants: nothing of this is stored; an agent counts as waiting only while one of its waits goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from parlerd.core import topics
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.seen import SeenAgent
from parlerd.engine.ports import Clock, Notifier
from parlerd.engine.presence import ENDS_MS, Presence

ACTIVE_MS: Final = 600_000
"""An agent that acted this recently counts as active without a window too. Source: coordination spec, Expressions."""
IDLE_MS: Final = 3_600_000
"""An agent that acted this recently counts as idle, and after that as offline."""
MAX_WAITS: Final = 100
"""Waits of one agent in one room at the same time. Source: coordination spec, Quotas."""


class Awaited(NamedTuple):
    """A condition that somebody waits for: its text, and the scopes of agents that it names."""

    text: str
    scopes: frozenset[str] = frozenset()


class Waited:
    """One wait, as it goes on. `caught` is who waits for what, from when it was found out that everybody waits."""

    __slots__ = ("caught",)

    def __init__(self) -> None:
        self.caught: Mapping[AgentId, Sequence[Awaited]] | None = None


class Watching:
    """The waits for conditions in the rooms of this home."""

    def __init__(self, presence: Presence, notifier: Notifier, clock: Clock) -> None:
        self._presence = presence
        self._notifier = notifier
        self._clock = clock
        self._waits: dict[RoomId, dict[AgentId, Counter[Awaited]]] = {}
        """How many waits each agent has for each condition."""
        self._going_on: dict[RoomId, set[Waited]] = {}
        """All waits of each room."""

    @contextmanager
    def wait(self, room: RoomId, agent: AgentId, condition: Awaited, waited: Waited) -> Iterator[None]:
        """The agent waits for this condition for as long as the context lasts. Raises `Refused(state_full)`."""
        mine = self._waits.setdefault(room, {}).setdefault(agent, Counter())
        if mine.total() >= MAX_WAITS:
            raise Refused("state_full", limit=MAX_WAITS, what="waits")
        mine[condition] += 1
        self._going_on.setdefault(room, set()).add(waited)
        self._tell(room, agent)
        try:
            yield
        finally:
            self._going_on[room].discard(waited)
            if not self._going_on[room]:
                del self._going_on[room]
            mine[condition] -= 1
            if not mine[condition]:
                del mine[condition]
            agents = self._waits[room]
            if not mine and agents.get(agent) is mine:
                del agents[agent]
            if not agents:
                del self._waits[room]
            self._tell(room, agent)

    def waits_of(self, room: RoomId, agent: AgentId) -> list[Awaited]:
        """The conditions that an agent waits for in a room, the one that it began to wait for first before the
        others."""
        return list(self._waits.get(room, {}).get(agent, ()))

    def is_waiting(self, room: RoomId, agent: AgentId) -> bool:
        """Whether an agent waits for any condition in a room."""
        return bool(self._waits.get(room, {}).get(agent))

    def suspect(self, room: RoomId) -> None:
        """Everybody in the room waits: let every wait know who waits for what, and look at that."""
        caught = {agent: self.waits_of(room, agent) for agent in self._waits.get(room, {})}
        for waited in self._going_on.get(room, ()):
            waited.caught = caught
        self._notifier.publish([topics.waiting(room)])

    def of(self, room: RoomId, barrier: str | None = None) -> RoomPresences:
        """How present the agents of a room are now, for the evaluation of the condition `barrier`, if it is one that
        agents wait for."""
        return RoomPresences(self, self._presence, self._clock.now(), room, barrier)

    def _tell(self, room: RoomId, agent: AgentId) -> None:
        self._notifier.publish([topics.waiting(room, agent)])


class RoomPresences:
    """How present the agents of one room are at one moment (`core.seen.Presences`)."""

    def __init__(self, watching: Watching, presence: Presence, now: Millis, room: RoomId, barrier: str | None) -> None:
        self._watching = watching
        self._presence = presence
        self._now = now
        self._room = room
        self._barrier = barrier
        self._seen: dict[AgentId, SeenAgent] = {}
        """What was found out, so that it stays the same for one evaluation."""
        self.changes: Millis | None = None
        """When time alone next changes the status of an agent that was looked at."""

    def of(self, agent: AgentId) -> SeenAgent:
        found = self._seen.get(agent)
        if found is None:
            found = self._seen[agent] = self._look(agent)
        return found

    def _look(self, agent: AgentId) -> SeenAgent:
        waits = self._watching.waits_of(self._room, agent)
        presence, last = self._presence.of(agent)
        others = [each for each in waits if each.text != self._barrier]
        status = "waiting" if others else self._status(agent, presence, last)
        shown = next(iter(others or waits), None)
        return SeenAgent(status, None, last) if shown is None else SeenAgent(status, shown.text, last, shown.scopes)

    def _status(self, agent: AgentId, presence: str, last: Millis) -> str:
        stated = self._presence.stated(agent)
        if presence != "offline":
            return "active" if stated is None else stated.status
        ago = self._now - last
        if stated is not None:
            self._changes_at(last + ENDS_MS)
            return stated.status
        if not last or ago >= IDLE_MS:
            return "offline"
        self._changes_at(last + (ACTIVE_MS if ago < ACTIVE_MS else IDLE_MS))
        return "active" if ago < ACTIVE_MS else "idle"

    def _changes_at(self, moment: int) -> None:
        # What is over and still there is another home's word, which ends when that home says so.
        if moment > self._now:
            self.changes = Millis(moment if self.changes is None else min(moment, self.changes))
