"""Programs that die and start again: a daemon, a relay, and where an agent finds the daemon that runs.

    keep -> serving -> it dies at a commit -> a little later serving again, over what it left

Above: `world`. Below: the homes and the relay of `tests.support.relayed`. Invariant: a call to a program that dies ends
with the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from random import Random
from typing import Any, TypeVar

import trio

from parlerd.engine.driver import Driver
from parlerd.engine.engine import Engine
from parlerd.store.port import Store
from tests.sim.people import Gone
from tests.support.engine import Party, PlugDriver, Served
from tests.support.relayed import Home, Relay

R = TypeVar("R")


class Program:
    """A program that is killed and started again. `serving` runs it once over what it left."""

    def __init__(
        self,
        serving: Callable[[Callable[[Store], Driver]], AbstractAsyncContextManager[Any]],
        counts: Counter[str],
        *,
        kind: type[PlugDriver] = PlugDriver,
        rests: float = 0.5,
    ) -> None:
        self._serving = serving
        self._counts = counts
        self._kind = kind
        self._rests = rests
        """In how many parts of a second it starts again, on average."""
        self.up = trio.Event()
        self.now: Any = None
        """What is served, while it is up."""
        self.driver: PlugDriver | None = None
        self._died = trio.Event()
        self._calls: set[trio.CancelScope] = set()
        """The calls that are under way, each of which ends when the program dies."""

    def _plug(self, store: Store) -> PlugDriver:
        self.driver = self._kind(store, died=self._died.set)
        return self.driver

    @contextmanager
    def life(self) -> Iterator[trio.CancelScope]:
        """A scope for a call: cancelled when the program dies."""
        with trio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                yield scope
            finally:
                self._calls.discard(scope)

    def kill(self, random: Random) -> None:
        """Kill it at one of its next commits, before or after that one counts."""
        if self.driver is not None and self.driver.cut is None:
            self.driver.cut = (self.driver.commits + random.randrange(3), random.random() < 0.5)

    def end(self) -> None:
        """End it in order, as a person does who stops a program. It starts again, too."""
        self._died.set()

    async def survives(self) -> None:
        """Wait until it runs, and let it live from then on. One that is dying at this moment starts again first."""
        await self.up.wait()
        while self.driver is None or self.driver.dead:
            await trio.lowlevel.checkpoint()
            await self.up.wait()
        self.driver.cut = None

    async def keep(self, random: Random) -> None:
        """Run until this is cancelled, and again after each death."""
        while True:
            self._died = trio.Event()
            async with self._serving(self._plug) as served:
                self.now = served
                self.up.set()
                await self._died.wait()
                self.up = trio.Event()
                assert self.driver is not None
                if self.driver.dead:
                    assert self.driver.cut is not None
                    self._counts[f"kills {'after' if self.driver.cut[1] else 'before'} a commit"] += 1
                for call in self._calls:
                    call.cancel()
            await trio.sleep(random.expovariate(self._rests))


class Place:
    """Where an agent finds its daemon."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._parties: dict[tuple[str, bool], tuple[Served, Party]] = {}

    async def ask(self, name: str, call: Callable[[Party], Awaitable[R]], *, in_window: bool = False) -> R:
        """Ask the daemon that runs, or the next one. Raises what it answers, and `Gone` when it dies meanwhile."""
        while not self._program.up.is_set():
            await self._program.up.wait()
        served: Served = self._program.now
        with self._program.life():
            who = name, in_window
            known = self._parties.get(who)
            if known is None or known[0] is not served:
                connect = served.window(f"window-{name}", as_name=name) if in_window else served.agent(name)
                known = self._parties[who] = (served, await connect)
            answer: R = await call(known[1])
            return answer
        raise Gone

    async def hang_up(self, name: str) -> None:
        """The last command of this agent ends, and nobody is connected as it until the next."""
        at, party = self._parties.pop((name, False), (None, None))
        if party is not None and at is not None and at is self._program.now and self._program.up.is_set():
            await at.leave(party)


@asynccontextmanager
async def served(home: Home, driver: Callable[[Store], Driver]) -> AsyncIterator[Served]:
    home.world.driver = driver
    async with home.serving() as now:
        yield now


@asynccontextmanager
async def relayed(relay: Relay, driver: Callable[[Store], Driver]) -> AsyncIterator[Engine]:
    relay.driver = driver
    async with relay.serving() as engine:
        yield engine
