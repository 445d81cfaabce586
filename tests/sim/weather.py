"""What happens on the way between daemons and a relay: a link that is slow, breaks off, or carries nothing for a while.

Messages arrive in the order in which they were sent, as over TCP, each after a time of its own. From time to time a
link breaks off, at once or after it has been silent for as long as it takes to find out. The relay then hears nothing
of a message that was sent, or the daemon nothing of an answer, and of nothing that followed. A home may be cut off for
a while, and so may a relay fall silent: who dials is let in, and nobody answers.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from tests.support.message_streams import MemoryStream
from tests.support.relayed import CERTIFICATE, Wires

SILENCE_S: Final = 30.0
"""How long it takes until both ends know that the other is gone: a ping and its time."""
LATENCIES_S: Final = (0.001, 0.02, 0.02, 0.2, 0.2, 1.0)
LATE_S: Final = 6.0
"""What a message takes now and then: whoever waits for an answer has given up by then."""
SLOW_S: Final = 0.2
"""From here on a message counts as delayed."""
CALM_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Kind:
    """What a storm does to a link."""

    lasts: tuple[int, int]
    """How many messages pass before it breaks off."""
    latencies_s: tuple[float, ...]
    late_s: float
    """What a message takes now and then."""


FAR: Final = Kind((2, 25), LATENCIES_S, LATE_S)
"""Between a home and a relay."""
NEAR: Final = Kind((40, 400), (0.001, 0.001, 0.005, 0.05), 2.0)
"""Between two relays."""


class TimedStream(MemoryStream):
    """One end of a stream on which each message takes its time. It holds to what its parent does otherwise."""

    def __init__(self, way: Way) -> None:
        super().__init__(CERTIFICATE, 1 << 16)
        self._way = way
        # When each message of the inbox is here, on the loop's clock.
        self._due: deque[float] = deque()
        # When the last message that was sent to this end arrives: none overtakes another.
        self._last = 0.0

    def _put(self, message: bytes) -> None:
        self.sent.append(message)
        delay = self._way.fate(message)
        if delay is not None:
            other = self.other
            assert isinstance(other, TimedStream)
            now = trio.current_time()
            # What waits for a relay that stands still arrives when that goes on, all of it.
            other._last = max(max(other._last, now) + delay, now + self._way.pause_s)
            other._inbox.append(message)
            other._due.append(other._last)
            other._change.set()

    async def receive(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        while True:
            if self._inbox:
                due = self._due[0]
                if due <= trio.current_time():
                    break
                with trio.move_on_at(due):
                    await self._changed()
            elif self._code is not None:
                return None
            else:
                await self._changed()
        message = self._inbox.popleft()
        self._due.popleft()
        self.other._deliver()
        return await self._within_limit(message)

    def _forget(self) -> None:
        super()._forget()
        self._due.clear()


class Way:
    """What one link goes through. It draws from a generator of its own, so that what happens on one link changes
    nothing on another."""

    def __init__(
        self,
        weather: Weather,
        random: Random,
        home: str,
        ends: Collection[Wires] = (),
        kind: Kind = FAR,
    ) -> None:
        self.home = home
        self.ends = ends
        """The relays at its ends."""
        self.ours, self.theirs = TimedStream(self), TimedStream(self)
        self.ours.other, self.theirs.other = self.theirs, self.ours
        self.is_silent = False
        """Whether what is sent arrives nowhere."""
        self._weather = weather
        self._random = random
        # How many messages pass before this link breaks off, if the weather is bad then.
        self._left = random.randrange(*kind.lasts)
        self._kind = kind

    def fate(self, message: bytes) -> float | None:
        """How long this message is under way; None if it never arrives."""
        weather = self._weather
        if self.is_silent:
            return None
        if weather.calm:
            return CALM_S
        self._left -= 1
        if self._left < 0:
            fate = self._random.random()
            if fate < 0.3:
                weather.counts["links gone silent"] += 1
                self.fall_silent()
                return None
            if fate < 0.6:
                weather.counts["cuts after a message"] += 1
                self._break_off(CALM_S)
                return 0.0
            weather.counts["cuts before a message"] += 1
            self._break_off(0.0)
            return None
        latency = self._kind.late_s if self._random.random() < 0.02 else self._random.choice(self._kind.latencies_s)
        weather.counts["delays"] += latency >= SLOW_S
        return latency

    @property
    def pause_s(self) -> float:
        """How long nothing arrives because one end stands still."""
        return self._weather.pause_of(self.ends)

    def fall_silent(self) -> None:
        """Nothing arrives any more, and after a while both ends find out."""
        if not self.is_silent:
            self._break_off(SILENCE_S)

    def _break_off(self, seconds: float) -> None:
        """Nothing that is sent from now on arrives, and both ends find out so much later. Over TCP nothing arrives
        after something that was lost, so a link that loses one message has to lose all that follow it."""
        self.is_silent = True
        self._weather.soon(self.ours.cut, seconds)


class Weather(Wires):
    """The wires of a simulation. While it is `calm`, everything arrives."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self._of_home: dict[str, Random] = {}
        """What the links of each home draw from."""
        self._ways: list[Way] = []
        """The links that there are."""
        self.calm = True
        self.counts: Counter[str] = Counter()
        """How often what happened."""
        self.clocks: trio.Nursery | None = None
        """Where what happens later waits."""
        self.still: dict[Wires, float] = {}
        """The relays that stand still, and until when on the loop's clock."""
        self.lead: Callable[[str, str], Wires] = lambda address, home: self
        """Which relay is at an address, to a home."""

    def soon(self, happens: Callable[[], None], seconds: float) -> None:
        async def later() -> None:
            await trio.sleep(seconds)
            happens()

        assert self.clocks is not None
        self.clocks.start_soon(later)

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        self.dialled += 1
        end = self.lead(address, home)
        async with self.way(home, end) as way:
            if end.links is None or end.nursery is None:
                raise ParlerError("home_unreachable")
            if self.is_silent:
                way.fall_silent()
            else:
                end.nursery.start_soon(end.links.serve, way.theirs)
            yield way.ours

    @asynccontextmanager
    async def way(self, home: str, *ends: Wires, kind: Kind = FAR) -> AsyncIterator[Way]:
        """A link from a home or a relay of this name, whose ends these relays are. Raises `ParlerError`."""
        random = self._of_home.get(home)
        if random is None:
            random = self._of_home[home] = Random(f"{self.seed} {home}")
        await trio.sleep((CALM_S if self.calm else random.choice(kind.latencies_s)) + self.pause_of(ends))
        if ends[-1].nursery is None or self.is_cut or home in self.away:
            raise ParlerError("home_unreachable")
        if not self.calm and random.random() < 0.2:
            self.counts["dials refused"] += 1
            raise ParlerError("home_unreachable")
        way = Way(self, random, home, ends, kind)
        self._ways.append(way)
        try:
            yield way
        finally:
            self._ways.remove(way)
            way.ours.cut()

    def pause_of(self, ends: Collection[Wires]) -> float:
        """How long nothing passes because one of these relays stands still."""
        now = trio.current_time()
        return max((until - now for end in ends if (until := self.still.get(end, now)) > now), default=0.0)

    def cut_end(self, end: Wires) -> None:
        """A relay is gone, and every link that led to it or from it."""
        for way in list(self._ways):
            if end in way.ends:
                way.ours.cut()

    def between(self, one: Wires, other: Wires) -> list[Way]:
        """The links between two relays."""
        return [way for way in self._ways if one in way.ends and other in way.ends]

    def cut(self) -> None:
        self.is_cut = True
        for way in list(self._ways):
            way.ours.cut()

    def cut_off(self, home: str) -> None:
        self.away.add(home)
        for way in list(self._ways):
            if way.home == home:
                way.ours.cut()

    def silence(self) -> None:
        """The relay's machine hangs: nobody answers on any link, and whoever dials is let in and told nothing."""
        self.is_silent = True
        for way in self._ways:
            way.fall_silent()

    @property
    def is_disturbed(self) -> bool:
        """Whether some link carries nothing, and its ends did not find out yet."""
        return any(way.is_silent for way in self._ways)

    def clear(self) -> None:
        """The sun comes out."""
        self.calm, self.is_silent = True, False
        self.away.clear()
