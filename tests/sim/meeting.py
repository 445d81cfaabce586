"""How a story begins: everybody has met in one room on the relay, in calm weather.

Thousands of seeds begin alike, so a meeting is played once for each crowd, and each seed gets copies of what it left:
stores, keys, and how far everyone has drawn. A fault that is planted in the product would be in a meeting that was
played before or after; `forget()` then lets the next seed play anew. Above: `world`. Invariant: a copy shares nothing
with the meeting that a story could change.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import trio

from parlerd.operations import types as t
from tests.sim.loop import play
from tests.sim.weather import Weather
from tests.support.engine import Party, SteppedClock, World
from tests.support.relayed import Book, Home, NamedKeys, Relay, copied

TOPIC, CONTEXT = "auth redesign", "Chose PKCE."


def agents_of(crowd: tuple[int, ...]) -> list[tuple[str, str]]:
    """(home, agent) for each agent of a crowd; the first opens the room."""
    return [(f"home{home}", f"home{home}-{n}") for home, many in enumerate(crowd) for n in range(many)]


@dataclass(frozen=True)
class _Kept:
    """What one home left."""

    world: World
    keys: NamedKeys
    relays: bytes
    """Its file of relays."""


@dataclass(frozen=True)
class Meeting:
    """What a meeting left. `again` gives copies."""

    room: str
    session_key: str
    at: float
    """When it ended, in virtual seconds."""
    relay: Relay
    homes: dict[str, _Kept]

    def again(self, weather: Weather, folder: Path, apart: Sequence[float]) -> tuple[Relay, list[Home]]:
        """Copies, and clocks that are wrong by so many seconds: the relay's, and each home's."""
        relay = Relay(
            weather,
            store=copied(self.relay.store),
            keys=self.relay.keys,
            random=copy.copy(self.relay.random),
            clock=self._clock(apart[0]),
            book=Book(set(self.relay.book.enrolled)),
        )
        return relay, [
            self._home(name, kept, relay, folder, wrong)
            for (name, kept), wrong in zip(self.homes.items(), apart[1:], strict=True)
        ]

    def _home(self, name: str, kept: _Kept, relay: Relay, folder: Path, wrong: float) -> Home:
        home = Home(name, relay, folder, kept.keys.copied())
        home.file.write_bytes(kept.relays)
        home.world.store = copied(kept.world.store)
        home.world.random = copy.copy(kept.world.random)
        home.world.clock = self._clock(wrong)
        home.world.connections = kept.world.connections
        return home

    def _clock(self, wrong: float) -> SteppedClock:
        clock = SteppedClock()
        clock.step(seconds=self.at + wrong)
        return clock


def meeting(crowd: tuple[int, ...], *, sealed: bool = False) -> Meeting:
    """The meeting of so many agents at each home, in a sealed room or in one in clear. It is played once: whoever is
    within a story asks for one that was played before it."""
    return _met(crowd, sealed)


@cache
def _met(crowd: tuple[int, ...], sealed: bool) -> Meeting:
    # The cache takes a default that is left out and one that is named for two.
    with tempfile.TemporaryDirectory() as folder:
        return play(0, partial(_meet, crowd, Path(folder), sealed))


def forget() -> None:
    """Play each meeting anew when it is next asked for."""
    _met.cache_clear()


async def _meet(crowd: tuple[int, ...], folder: Path, sealed: bool) -> Meeting:
    weather = Weather(0)
    relay = Relay(weather)
    homes = {name: Home(name, relay, folder) for name, _ in agents_of(crowd)}
    async with AsyncExitStack() as running:
        await running.enter_async_context(relay.serving())
        served = {name: await running.enter_async_context(home.serving()) for name, home in homes.items()}
        opened = await come_together([await served[home].agent(agent) for home, agent in agents_of(crowd)], sealed)
        at = trio.current_time()
    assert opened.session_key is not None
    kept = {
        name: _Kept(home.world, home.keys.copied(), (folder / f"{name}.json").read_bytes())
        for name, home in homes.items()
    }
    return Meeting(opened.room, opened.session_key, at, relay, kept)


async def come_together(agents: Sequence[Party], sealed: bool = False) -> t.OpenedSession:
    """The first opens a session on the relay, and the others come in."""
    owner, *others = agents
    opened = await owner.open(TOPIC, CONTEXT, clear=not sealed)
    for agent in others:
        joined = await agent.join(opened.session_key)
        if joined.status == "pending":
            await owner.approve((await agent.whoami()).id, room=opened.room)
            joined = await agent.join(opened.session_key, wait=30)
        assert joined.status == "joined", joined
        await agent.commit(joined)
    return opened
