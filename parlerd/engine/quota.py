"""How much an agent, and a home, may store in an hour: far more than anybody means to, and less than fills a disk.

One agent that went wrong and posts in a loop writes 10,000 messages a second and 14 MB of disk with them. A budget that
comes back steadily lets it have its burst and then slows it down; what it asks for beyond that is refused with
`throttled` and the time after which it is worth trying again. Reading is never counted.

The home's budget is for all of its agents together, and only holds back those that used up a tenth of their own: many
that go wrong do not silence the one that has something to say. A person of another home, who may bring as many agents
as they like, has a budget for all of them that nobody else draws on. Kept in memory: a restart begins anew. Time is
trio's clock. Above: the handlers that post, and the one that takes knocks from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, PrincipalId
from parlerd.settings import Settings

HOUR_S: Final = 3600.0
LIGHT: Final = 0.9
"""Of its own budget: an agent with more than that left is not held back for what others did."""
OPENING: Final = 20
"""Messages that opening a session counts as: it is five facts, and a room that stays."""
MAX_AGENTS: Final = 4096
"""Agents whose budgets are remembered; the one that posted longest ago is forgotten first."""


class _Budget:
    """Messages and bytes, each a burst of an hour's worth that comes back in an hour. 0 is no limit.

    It is looked at for each message, so it is a few sums on the loop and no more: bucket objects for each of the four
    numbers took five times as long.
    """

    __slots__ = ("_at", "_bytes", "_limits", "_messages")

    def __init__(self, messages: int, bytes: int, now: float) -> None:
        self._limits = (messages or math.inf, bytes or math.inf)
        self._messages, self._bytes = self._limits
        self._at = now

    def refill(self, now: float) -> None:
        passed = (now - self._at) / HOUR_S
        if passed > 0:
            messages, bytes = self._limits
            # An unlimited one stays so: there is nothing to come back to.
            self._messages = min(messages, self._messages + messages * passed)
            self._bytes = min(bytes, self._bytes + bytes * passed)
            self._at = now

    def seconds_until(self, messages: int, bytes: int) -> float:
        """How long until both are there; 0 when they are. What is more than a whole budget needs a full one."""
        if self._messages >= messages and self._bytes >= bytes:
            return 0.0
        left = [
            (min(wanted, limit) - had) / limit * HOUR_S
            for wanted, had, limit in zip((messages, bytes), (self._messages, self._bytes), self._limits, strict=True)
            if had < wanted
        ]
        return max(0.0, *left)

    def take(self, messages: int, bytes: int) -> None:
        """Count them. The debt that this may leave is at most one budget."""
        self._messages = max(self._messages - messages, -self._limits[0])
        self._bytes = max(self._bytes - bytes, -self._limits[1])

    @property
    def is_light(self) -> bool:
        return self._messages >= LIGHT * self._limits[0] and self._bytes >= LIGHT * self._limits[1]


class Quotas:
    """One per home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = _Budget(settings.quota_home_messages, settings.quota_home_bytes, trio.current_time())
        self._agents: Bounded[AgentId, _Budget] = Bounded(MAX_AGENTS)
        self._people: Bounded[PrincipalId, _Budget] = Bounded(MAX_AGENTS)
        self.person_of: Callable[[AgentId], PrincipalId | None] = lambda agent: None
        """Who it is of, of an agent of another person that acts here with a token."""
        # What agents and people share in files.
        self._sharing: Bounded[str, _Budget] = Bounded(2 * MAX_AGENTS)

    def take(self, agent: AgentId, *, bytes: int, messages: int = 1, person: PrincipalId | None = None) -> None:
        """Count what `agent` is about to store; `person` is who it is of, for an agent of another home. Raises
        `Refused(throttled)`, and then nothing was counted."""
        now, settings = trio.current_time(), self._settings
        person = person or self.person_of(agent)
        own = self._agents.get(agent)
        if own is None:
            own = _Budget(settings.quota_agent_messages, settings.quota_agent_bytes, now)
        self._agents[agent] = own
        own.refill(now)
        self._home.refill(now)
        _require(own, "agent", messages, bytes)
        if not own.is_light:
            _require(self._home, "home", messages, bytes)
        if person is not None:
            self._take_of(person, now, messages, bytes)
        own.take(messages, bytes)
        self._home.take(messages, bytes)

    def take_blob(self, agent: AgentId, size: int, person: PrincipalId | None = None) -> None:
        """Count what `agent` is about to share in files. These have budgets of their own: whoever shared a large file
        can still say something. Raises `Refused(throttled)`, and then nothing was counted."""
        now, settings = trio.current_time(), self._settings
        person = person or self.person_of(agent)
        budgets = [_budget_of(self._sharing, agent, settings.quota_agent_blob_bytes, now)]
        if person is not None:
            budgets.append(_budget_of(self._sharing, person, settings.quota_person_blob_bytes, now))
        for budget, whose in zip(budgets, ("agent", "person"), strict=False):
            _require(budget, whose, 0, size, what=f"`[quota] {whose}_blob_bytes`")
        for budget in budgets:
            budget.take(0, size)

    def _take_of(self, person: PrincipalId, now: float, messages: int, bytes: int) -> None:
        settings = self._settings
        budget = self._people.get(person)
        if budget is None:
            budget = _Budget(settings.quota_person_messages, settings.quota_person_bytes, now)
        self._people[person] = budget
        budget.refill(now)
        _require(budget, "person", messages, bytes)
        budget.take(messages, bytes)


def _budget_of(budgets: Bounded[str, _Budget], whose: str, limit: int, now: float) -> _Budget:
    """The budget of bytes of files of an agent or a person."""
    budget = budgets.get(whose) or _Budget(0, limit, now)
    budgets[whose] = budget
    budget.refill(now)
    return budget


def _require(budget: _Budget, whose: str, messages: int, bytes: int, what: str = "") -> None:
    left = budget.seconds_until(messages, bytes)
    if left > 0:
        raise Refused(
            "throttled",
            f"This {whose} stored as much within an hour as it may.",
            hint="Wait, or post less often. A person may raise "
            f"{what or f'`[quota] {whose}_messages` and `{whose}_bytes`'}.",
            retry_after_ms=int(left * 1000) + 1,
        )
