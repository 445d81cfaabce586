"""How much an agent, and a home, may store in an hour: far more than anybody means to, and less than fills a disk.

One agent that went wrong and posts in a loop writes 10,000 messages a second and 14 MB of disk with them. A budget that
comes back steadily lets it have its burst and then slows it down; what it asks for beyond that is refused with
`throttled` and the time after which it is worth trying again. Reading is never counted.

The home's budget is for all of its agents together, and only holds back those that used up a tenth of their own: many
that go wrong do not silence the one that has something to say. A person of another home, who may bring as many agents
as they like, has a budget for all of them that nobody else draws on. Kept in memory: a restart begins anew. Time is
trio's clock.

Where several relays share the rooms, the budgets are rows that all of them draw from (`ports.SharedCounts`), and each
relay keeps a purse of each: it draws `SLICE` of a budget at once, so a row is written about once in a thousand
messages. What lies in purses is gone with its relay, and after an hour, in which the budget came back. So together they
let nobody have more than one budget and, for each relay, that part of it again. Of a small budget no more is drawn than
is used.

Above: the handlers that post, and the one that takes knocks from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, PrincipalId
from parlerd.engine.ports import SharedCounts
from parlerd.settings import Settings
from parlerd.store.counts import ROUNDED, Ask

HOUR_S: Final = 3600.0
LIGHT: Final = 0.9
"""Of its own budget: an agent with more than that left is not held back for what others did."""
OPENING: Final = 20
"""Messages that opening a session counts as: it is five facts, and a room that stays."""
SLICE: Final = 1 / 64
"""Of a budget that several relays share: what one of them draws at once."""
EMPTY_S: Final = 1.0
"""How long a relay does not ask again for what is left to all agents together, where nothing was."""
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


class _Purse:
    """What one relay drew of a budget of messages and bytes, and did not use yet."""

    __slots__ = ("_left", "_limits", "_name", "_there", "_until", "empty_until", "whose")

    def __init__(self, name: str, whose: str, messages: int, bytes: int) -> None:
        self._name = name
        self.whose = whose
        self._limits = (messages or math.inf, bytes or math.inf)
        self._there = [0.0, 0.0]
        self._left = list(self._limits)
        """What was left of the budget itself when it was last drawn from."""
        self._until = 0.0
        """When what is in the purse is void: the budget came back since."""
        self.empty_until = 0.0
        """Until when nothing is asked of a budget that had nothing left."""

    def has(self, messages: int, bytes: int, now: float) -> bool:
        """Whether so much is in it. What is more than a whole budget needs a full one."""
        return all(lack <= ROUNDED for lack in self._lacks(messages, bytes, now))

    def _lacks(self, messages: int, bytes: int, now: float) -> list[float]:
        if now >= self._until:
            self._there = [min(0.0, each) for each in self._there]
        return [
            0.0 if limit == math.inf else min(wanted, limit) - there
            for wanted, limit, there in zip((messages, bytes), self._limits, self._there, strict=True)
        ]

    def take(self, messages: int, bytes: int) -> None:
        for place, wanted in enumerate((messages, bytes)):
            if self._limits[place] != math.inf:
                self._there[place] -= wanted

    def asks(self, messages: int, bytes: int, now: float, *, is_needed: bool) -> list[Ask]:
        """What to draw so that so much is there; as much as there is where it `is_needed` no more."""
        return [
            Ask(
                f"{self._name} {what}",
                limit / HOUR_S,
                limit,
                least=lack if is_needed else 0.0,
                most=min(limit, max(lack, limit * SLICE)),
            )
            for what, limit, lack in zip(_WHAT, self._limits, self._lacks(messages, bytes, now), strict=True)
            if lack > ROUNDED
        ]

    def put(self, drawn: Mapping[str, tuple[float, float]], now: float) -> None:
        """What was drawn, and is left, by the names of what was asked for."""
        for place, what in enumerate(_WHAT):
            if (found := drawn.get(f"{self._name} {what}")) is not None:
                amount, self._left[place] = found
                self._there[place] += amount
                self._until = now + HOUR_S

    @property
    def is_light(self) -> bool:
        """As of a budget: as far as this relay knows."""
        return all(
            limit == math.inf or left + there >= LIGHT * limit
            for limit, left, there in zip(self._limits, self._left, self._there, strict=True)
        )


_WHAT: Final = ("messages", "bytes")


class Quotas:
    """One per home. `counts` are there where other processes share the store."""

    def __init__(self, settings: Settings, counts: SharedCounts | None = None) -> None:
        self._counts = counts
        self._purses: Bounded[str, _Purse] = Bounded(4 * MAX_AGENTS)
        """What was drawn of budgets that are shared, by their names."""
        self._settings = settings
        self._home = _Budget(settings.quota_home_messages, settings.quota_home_bytes, trio.current_time())
        self._agents: Bounded[AgentId, _Budget] = Bounded(MAX_AGENTS)
        self._people: Bounded[PrincipalId, _Budget] = Bounded(MAX_AGENTS)
        self.person_of: Callable[[AgentId], PrincipalId | None] = lambda agent: None
        """Who it is of, of an agent of another person that acts here with a token."""
        # What agents and people share in files.
        self._sharing: Bounded[str, _Budget] = Bounded(2 * MAX_AGENTS)

    async def take(self, agent: AgentId, *, bytes: int, messages: int = 1, person: PrincipalId | None = None) -> None:
        """Count what `agent` is about to store; `person` is who it is of, for an agent of another home. Raises
        `Refused(throttled)`, and then nothing was counted, and `StoreError`."""
        while not self.take_now(agent, bytes=bytes, messages=messages, person=person):
            await self._draw(self._of(agent, person or self.person_of(agent)), messages, bytes)

    def take_now(self, agent: AgentId, *, bytes: int, messages: int = 1, person: PrincipalId | None = None) -> bool:
        """`take`, where nobody else has to be asked first: whether it was counted."""
        if self._counts is not None:
            return self._take_drawn(self._of(agent, person or self.person_of(agent)), messages, bytes)
        self._take_own(agent, bytes=bytes, messages=messages, person=person)
        return True

    def _take_own(self, agent: AgentId, *, bytes: int, messages: int, person: PrincipalId | None) -> None:
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

    async def take_blob(self, agent: AgentId, size: int, person: PrincipalId | None = None) -> None:
        """Count what `agent` is about to share in files. These have budgets of their own: whoever shared a large file
        can still say something. Raises `Refused(throttled)`, and then nothing was counted, and `StoreError`."""
        now, settings = trio.current_time(), self._settings
        person = person or self.person_of(agent)
        if self._counts is not None:
            purses = [self._purse(f"shares {agent}", "agent", 0, settings.quota_agent_blob_bytes)]
            if person is not None:
                purses.append(self._purse(f"shares {person}", "person", 0, settings.quota_person_blob_bytes))
            while not self._take_drawn(purses, 0, size):
                await self._draw(purses, 0, size, what="blob_bytes")
            return
        budgets = [_budget_of(self._sharing, agent, settings.quota_agent_blob_bytes, now)]
        if person is not None:
            budgets.append(_budget_of(self._sharing, person, settings.quota_person_blob_bytes, now))
        for budget, whose in zip(budgets, ("agent", "person"), strict=False):
            _require(budget, whose, 0, size, what=f"`[quota] {whose}_blob_bytes`")
        for budget in budgets:
            budget.take(0, size)

    # -- budgets that others draw from as well --------------------------------------------------------------

    def _of(self, agent: AgentId, person: PrincipalId | None) -> list[_Purse]:
        """The purses that a message of this agent is paid from, its own first and that of all agents last."""
        settings = self._settings
        purses = [
            self._purse(f"stores {agent}", "agent", settings.quota_agent_messages, settings.quota_agent_bytes),
            self._purse("stores", "home", settings.quota_home_messages, settings.quota_home_bytes),
        ]
        if person is not None:
            found = self._purse(
                f"stores {person}", "person", settings.quota_person_messages, settings.quota_person_bytes
            )
            purses.insert(1, found)
        return purses

    def _purse(self, name: str, whose: str, messages: int, bytes: int) -> _Purse:
        found = self._purses.get(name) or _Purse(name, whose, messages, bytes)
        self._purses[name] = found
        return found

    def _take_drawn(self, purses: list[_Purse], messages: int, bytes: int) -> bool:
        now = trio.current_time()
        own = purses[0]
        for purse in purses:
            spared = purse.whose == "home" and own.is_light and now < purse.empty_until
            if not spared and not purse.has(messages, bytes, now):
                return False
        for purse in purses:
            if purse.has(messages, bytes, now):
                purse.take(messages, bytes)
        return True

    async def _draw(self, purses: list[_Purse], messages: int, bytes: int, what: str = "") -> None:
        """Draw what is missing in these purses. Raises `Refused(throttled)` and `StoreError`."""
        assert self._counts is not None
        now, own = trio.current_time(), purses[0]
        asked: list[tuple[_Purse, Ask]] = []
        for purse in purses:
            # Whoever used little of their own is not held back for what others did.
            is_needed = purse.whose != "home" or not own.is_light
            asked += [(purse, ask) for ask in purse.asks(messages, bytes, now, is_needed=is_needed)]
        if not asked:
            # Somebody else's drawing filled them meanwhile.
            return
        drawn = await self._counts.draw([ask for _, ask in asked])
        if drawn.wait_s:
            short = [(purse, ask.least - left) for (purse, ask), left in zip(asked, drawn.left, strict=True)]
            whose = next(purse.whose for purse, lack in short if lack > ROUNDED)
            raise _throttled(whose, drawn.wait_s, what and f"`[quota] {whose}_{what}`")
        found = {
            ask.name: (amount, left) for (_, ask), amount, left in zip(asked, drawn.amounts, drawn.left, strict=True)
        }
        now = trio.current_time()
        for purse in purses:
            purse.put(found, now)
            if purse.whose == "home" and not purse.has(messages, bytes, now):
                purse.empty_until = now + EMPTY_S

    # -- budgets of this process ----------------------------------------------------------------------------

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
        raise _throttled(whose, left, what)


def _throttled(whose: str, seconds: float, what: str) -> Refused:
    return Refused(
        "throttled",
        f"This {whose} stored as much within an hour as it may.",
        hint="Wait, or post less often. A person may raise "
        f"{what or f'`[quota] {whose}_messages` and `{whose}_bytes`'}.",
        retry_after_ms=int(seconds * 1000) + 1,
    )
