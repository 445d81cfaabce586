"""Who may come to a relay's door next, of those who have proved nothing yet, and how often the join secret is guessed.

    each address        so many places, so many connections a second, so many guesses of the secret
    strangers together  so many places, connections a second and guesses of all their addresses
    known addresses     are no strangers: from them somebody proved lately who is enrolled. They have places of their
                        own

The relay shows whoever asks to be enrolled that it knows the secret, and a daemon that was given a wrong one leaves
then without a proof. So it is a guess to ask, and the guess is given back to whoever proves to know the secret.

Whoever comes from many addresses at once holds back those who come from somewhere new, and neither the links that
are there nor the people who come back. A person who was enrolled logs in with a key and never guesses; their guesses of
session keys are counted by person (`engine.throttle`).

Where several relays share the rooms, the guesses of the join secret are rows that all of them draw from
(`ports.SharedCounts`): one secret enrols at all of them. Connections are counted by each relay, because they take its
own processor.

Kept in memory: after a restart every address is a stranger's until somebody proves there. Not here: sockets, TLS,
requests (`door`), the proof (`link`). Above: both. Below: `engine.throttle`, for what comes back at a steady rate.
Invariant: what one address spends is taken from no known address, and of what strangers share no address takes more
than its own bound allows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.engine.ports import SharedCounts
from parlerd.engine.throttle import (
    CALLER_BURST,
    CALLER_PER_SECOND,
    HOME_BURST,
    HOME_PER_SECOND,
    Bucket,
    Guess,
    draw,
)
from parlerd.store.counts import Ask

GUESSES: Final = "Too many wrong join secrets."
MAX_ADDRESSES: Final = 4096
"""How many addresses are remembered; what strangers share holds beyond that."""
KNOWN_SECONDS: Final = 24 * 3600.0
"""How long an address is known after somebody proved there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of those who are not proven. Seconds are on the event loop's clock."""

    unproven: int = 64
    """How many strangers there may be, and as many from known addresses."""
    unproven_of_one: int = 8
    """How many of them one address may have: an IPv4 address, or the /64 of an IPv6 address."""
    rate: float = 50.0
    """How many strangers may come in a second, after `burst` at once: a TLS greeting takes 2 to 3 ms of the one
    processor that all links share."""
    burst: int = 128
    rate_of_one: float = 10.0
    """How many of one address, after `burst_of_one` at once."""
    burst_of_one: int = 32
    head_seconds: float = 5.0
    """How long TLS and the head of the request may take together."""
    head_bytes: int = 16 * 1024
    """How many bytes the head may have."""
    answer_seconds: float = 2.0
    """How long it may take to send an answer that is no link."""


class Visitor(Protocol):
    """Somebody at the door, as a link tells of them."""

    def proven(self) -> None:
        """They proved a key that is enrolled, and have a link now."""
        ...

    async def before_secret(self) -> None:
        """They say that they know the join secret, which is a guess until they prove it. Raises `Refused(throttled)`,
        whatever they know, and `StoreError`."""
        ...

    async def right_secret(self) -> None:
        """They proved that they know it. Raises `StoreError`."""
        ...


class Anybody:
    """A visitor whom no door counts."""

    def proven(self) -> None:
        return

    async def before_secret(self) -> None:
        await trio.lowlevel.checkpoint()

    async def right_secret(self) -> None:
        await trio.lowlevel.checkpoint()


class Turnstile:
    """The places and budgets of one door. `counts` are there where other relays have the same secret."""

    def __init__(self, limits: Limits, counts: SharedCounts | None = None) -> None:
        self._limits = limits
        self._counts = counts
        self._unproven: set[Visit] = set()
        """The connections that are not proven."""
        self._known: Bounded[str, float] = Bounded(MAX_ADDRESSES)
        """When somebody last proved at an address."""
        self._pace = Bucket(limits.rate, limits.burst)
        self._paces: Bounded[str, Bucket] = Bounded(MAX_ADDRESSES)
        """How many connections may come now: of strangers together, and of each address that came lately."""
        self._guesses = Bucket(HOME_PER_SECOND, HOME_BURST)
        self._guesses_of: Bounded[str, Bucket] = Bounded(MAX_ADDRESSES)
        """How many guesses of the secret there may be now: of strangers together, and of each address that guessed."""

    @property
    def unproven(self) -> int:
        """How many connections are not proven yet."""
        return len(self._unproven)

    def visits(self) -> Iterator[Visit]:
        """Those who are not proven now."""
        return iter(tuple(self._unproven))

    def admit(self, address: str) -> Visit | None:
        """A place for somebody from there; None when there is none."""
        counted, limits = counted_as(address), self._limits
        is_known = self._is_known(counted)
        beside = [visit for visit in self._unproven if visit.is_known == is_known]
        of_one = sum(visit.address == counted for visit in self._unproven)
        if len(beside) >= limits.unproven or of_one >= limits.unproven_of_one:
            return None
        pace = self._paces.get(counted)
        if pace is None:
            pace = self._paces[counted] = Bucket(limits.rate_of_one, limits.burst_of_one)
        # Its own budget first, so that who comes too often takes nothing from the others.
        if not _takes(pace) or not (is_known or _takes(self._pace)):
            return None
        visit = Visit(self, counted, is_known=is_known)
        self._unproven.add(visit)
        return visit

    def leave(self, visit: Visit) -> None:
        """The connection has no place among those who are not proven any more."""
        self._unproven.discard(visit)

    def meet(self, address: str) -> None:
        """Somebody proved at this address."""
        self._known[address] = trio.current_time()

    # -- the join secret -----------------------------------------------------------------------------------

    async def guess(self, address: str) -> Guess:
        """Count a guess from this address, and give out what is told where it was right. Raises `Refused(throttled)`
        where this address, or all strangers together, guessed too often; then nothing is counted. Raises
        `StoreError`."""
        if self._counts is None:
            await trio.lowlevel.checkpoint()
            return _OwnGuess(self._guess(address))
        asks = [Ask(f"secrets {address}", CALLER_PER_SECOND, CALLER_BURST)]
        if not self._is_known(address):
            asks.append(Ask("secrets of strangers", HOME_PER_SECOND, HOME_BURST))
        await draw(self._counts, asks, GUESSES)
        return Guess(self._counts, asks)

    def _guess(self, address: str) -> list[Bucket]:
        own = self._guesses_of.get(address)
        if own is None:
            own = Bucket(CALLER_PER_SECOND, CALLER_BURST)
        self._guesses_of[address] = own
        budgets = [own] if self._is_known(address) else [own, self._guesses]
        wait = max(budget.seconds_until(1.0) for budget in budgets)
        if wait > 0:
            raise Refused("throttled", GUESSES, retry_after_ms=int(wait * 1000) + 1)
        for budget in budgets:
            budget.tokens -= 1.0
        return budgets

    def _is_known(self, address: str) -> bool:
        met = self._known.get(address)
        return met is not None and trio.current_time() < met + KNOWN_SECONDS


class Visit:
    """One connection, from the moment in which it is accepted. Made by `Turnstile.admit`."""

    __slots__ = ("_guess", "_turnstile", "address", "is_known", "scope")

    def __init__(self, turnstile: Turnstile, address: str, *, is_known: bool) -> None:
        self._turnstile = turnstile
        self._guess: Guess | None = None
        """Its guess of the join secret."""
        self.address = address
        """As what it is counted."""
        self.is_known = is_known
        """Whether the address was known when it came."""
        self.scope = trio.CancelScope()
        """Cancelled to end it."""

    def proven(self) -> None:
        self._turnstile.meet(self.address)
        self._turnstile.leave(self)

    async def before_secret(self) -> None:
        self._guess = await self._turnstile.guess(self.address)

    async def right_secret(self) -> None:
        guess, self._guess = self._guess, None
        if guess is not None:
            await guess.right()


class _OwnGuess(Guess):
    """A guess that was taken from budgets of this relay alone."""

    def __init__(self, budgets: list[Bucket]) -> None:
        super().__init__()
        self._budgets = budgets

    async def right(self) -> None:
        await trio.lowlevel.checkpoint()
        for budget in self._budgets:
            budget.tokens += 1.0


def counted_as(address: str) -> str:
    """As what an address is counted: whoever has one IPv6 address has the whole /64."""
    # A zone names an interface of this machine, and is no part of the address.
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


def _takes(bucket: Bucket) -> bool:
    """Whether there is one more, which is then taken."""
    if bucket.refill() < 1.0:
        return False
    bucket.tokens -= 1.0
    return True
