"""Slows down whoever guesses keys: a few wrong ones per process and door, and a budget for the whole home.

Whoever guessed wrong too often is refused for a while, under whatever names and on however many connections, so one
process cannot spend what all others have. When the home's budget is spent every lookup is
delayed, right keys as well: an answer that came faster for a right key would be the oracle. Source: security spec
E18. A person of another home who was enrolled here and proved their key has a budget of their own, and nothing of the
home's: whoever enrolled many people would be seen to.

Where several relays share the rooms, these budgets are rows that all of them draw from (`ports.SharedCounts`): whoever
spreads guesses over relays has no more of them, and a relay that takes rooms over gives none anew. A guess is drawn
there before anything is looked up, and given back where it was right, so that guesses that are made at the same time at
several relays are counted one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.engine.callers import Caller
from parlerd.engine.ports import SharedCounts
from parlerd.store.counts import Ask

HOME_PER_SECOND: Final = 10.0
HOME_BURST: Final = 20.0
CALLER_BURST: Final = 10.0
CALLER_PER_SECOND: Final = 0.2
MAX_DELAY: Final = 5.0
"""Seconds a lookup waits at most: many who guess at the same time may owe more, and nobody hangs for that long."""
MAX_CALLERS: Final = 4096
GUESSES: Final = "Too many wrong guesses."


class Bucket:
    """Tokens that come back at a steady rate. Time is trio's clock, in seconds."""

    __slots__ = ("_burst", "_rate", "_seen", "tokens")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self.tokens = burst
        self._seen = trio.current_time()

    def refill(self) -> float:
        now = trio.current_time()
        self.tokens = min(self._burst, self.tokens + (now - self._seen) * self._rate)
        self._seen = now
        return self.tokens

    def seconds_until(self, tokens: float) -> float:
        """How long until that many tokens are there."""
        return max(0.0, (tokens - self.refill()) / self._rate)


class Guess:
    """A lookup that may be one."""

    def __init__(self, counts: SharedCounts | None = None, drawn: Sequence[Ask] = ()) -> None:
        self._counts = counts
        self._drawn = drawn

    async def right(self) -> None:
        """It was none: whoever asked had a key. To be said once. Raises `StoreError`."""
        if self._counts is not None:
            await self._counts.give(self._drawn)


NO_GUESS: Final = Guess()
"""A lookup by somebody who is known to have the key."""


class GuessThrottle:
    """One per home. `counts` are there where other processes share the store."""

    def __init__(self, counts: SharedCounts | None = None) -> None:
        self._counts = counts
        self._home = Bucket(HOME_PER_SECOND, HOME_BURST)
        self._callers: Bounded[str, Bucket] = Bounded(MAX_CALLERS)

    async def before(self, caller: Caller) -> Guess:
        """Call before looking a key up, and tell what this gives where the key was right. Waits while the home's budget
        is spent; raises `Refused(throttled)`."""
        if self._counts is not None:
            return await self._draw(self._counts, caller)
        own = self._callers.get(self._who(caller))
        if own is not None and own.refill() < 1.0:
            raise Refused("throttled", GUESSES, retry_after_ms=int(own.seconds_until(1.0) * 1000) + 1)
        if _has_proved(caller):
            return NO_GUESS
        delay = self._home.seconds_until(1.0)
        if delay > MAX_DELAY:
            raise Refused("throttled", GUESSES, retry_after_ms=int(delay * 1000))
        if delay:
            await trio.sleep(delay)
        return NO_GUESS

    async def _draw(self, counts: SharedCounts, caller: Caller) -> Guess:
        """`before`, where others draw from the same budgets."""
        own = Ask(f"guesses {self._who(caller)}", CALLER_PER_SECOND, CALLER_BURST)
        await draw(counts, [own], GUESSES)
        if _has_proved(caller):
            return Guess(counts, [own])
        home = Ask("guesses of strangers", HOME_PER_SECOND, HOME_BURST)
        until = trio.current_time() + MAX_DELAY
        while wait_s := (await counts.draw([home])).wait_s:
            if trio.current_time() + wait_s > until:
                raise Refused("throttled", GUESSES, retry_after_ms=int(wait_s * 1000) + 1)
            await trio.sleep(wait_s)
        return Guess(counts, [own, home])

    def wrong(self, caller: Caller) -> None:
        """Call after a wrong guess. What is drawn from budgets of several processes was drawn before."""
        if self._counts is not None:
            return
        who = self._who(caller)
        own = self._callers.get(who) or Bucket(CALLER_PER_SECOND, CALLER_BURST)
        own.refill()
        own.tokens -= 1.0
        self._callers[who] = own
        if not _has_proved(caller):
            self._home.refill()
            self._home.tokens -= 1.0

    @staticmethod
    def _who(caller: Caller) -> str:
        if _has_proved(caller):
            return f"link {caller.facts.authority.principal}"
        peer = caller.facts.peer
        if not peer.pid:
            # Who cannot be seen is told by what it says: an agent across its connections.
            return caller.agent or caller.facts.session
        # A window is one process. A one-shot command is a new one each time, but a loop of them is of one shell.
        process = peer.pid if caller.facts.window else peer.group or peer.pid
        return f"{caller.facts.via} {process}"


async def draw(counts: SharedCounts, asks: Sequence[Ask], why: str) -> None:
    """Draw from budgets that several processes share. Raises `Refused(throttled)` with this sentence where one of them
    has too little, and `StoreError`."""
    drawn = await counts.draw(asks)
    if drawn.wait_s:
        raise Refused("throttled", why, retry_after_ms=int(drawn.wait_s * 1000) + 1)


def _has_proved(caller: Caller) -> bool:
    """Whether a person of another home proved with a key to be behind it, who cannot be somebody new at each guess:
    what they guess slows down nobody else. Source: relay spec, Limits and care."""
    return "link" in caller.facts.authority.planes
