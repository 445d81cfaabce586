"""Homes that scenarios run in: the same story in memory, over a real file or a database with real threads, and through
a relay.

A `Home` is played in acts; between two acts its daemon ends and another starts over what it left. A `Place` is a home
that is served: whoever takes part connects to it and then only calls operations. So the agents of a story need not be
of one home: behind a `RelayedPlace` each has a daemon of its own, and their room is on a relay between them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Protocol, TypeVar

import trio

from parlerd.core.model import PrincipalId, Via
from parlerd.engine.callers import PeerProcess
from parlerd.engine.driver import Driver, ThreadDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.network_driver import NetworkDriver
from parlerd.engine.ports import SystemRandomness, WallClock
from parlerd.engine.shelf import ThreadBlobs
from parlerd.engine.worker import Told
from parlerd.identity.keyring import KeyRing
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.blobs import DiskBlobs
from parlerd.store.port import Store
from parlerd.store.sqlite import SqliteStore
from parlerd.uplink.link import LOOK_S
from tests.support import relayed
from tests.support.callers import caller_of
from tests.support.engine import USER, FarDriver, Party, PlugDriver, World, lineage, run, settle

LONGEST_ACT = 120.0
"""Seconds of an act over a real clock, where a wait that nobody ends would hang."""


T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]], *, pause: float = 0.1) -> T:
    """The first answer of `look` that is true. It is asked again and again, because what one home says reaches another
    after a while; a test fails when 600 answers were not true."""
    for _ in range(600):
        if found := await look():
            return found
        await trio.sleep(pause)
    raise AssertionError(f"nothing of this came to be: {look.__qualname__}")


class Place(Protocol):
    """A home that is served."""

    async def person(self, pid: int = 0) -> Party:
        """The person at a shell; of a command whose process matters, its number."""
        ...

    async def agent(self, name: str) -> Party:
        """An agent by its name, from a shell."""
        ...

    async def window(self, name: str, workspace: str = "") -> Party:
        """An agent host's window. Its next call acknowledges what the last one showed."""
        ...

    async def hook(self, name: str) -> Party:
        """The hook of a host that the agent of this name runs in."""
        ...

    async def person_of(self, name: str) -> Party:
        """The person at a shell of the home in which the agent of this name is."""
        ...

    async def started(self, name: str, below: int) -> Party:
        """A window of the person's own home that descends from the process `below`."""
        ...


Act = Callable[[Place], Awaitable[None]]


class Home(Protocol):
    """A home under test. Its settings may be changed before it is played: the next act has them, and so has a relay
    behind it."""

    settings: Settings

    def play(self, *acts: Act) -> None:
        """Run the acts, each with a daemon of its own."""
        ...


class EnginePlace:
    """Connections straight to an engine. `before` is awaited before each call, with the name of what is called."""

    def __init__(self, engine: Engine, before: Callable[[str], Awaitable[None]] | None = None) -> None:
        self._engine = engine
        self._before = before
        self._connections = 0

    async def person(self, pid: int = 0) -> Party:
        return await self._connect("cli", pid=pid)

    async def agent(self, name: str) -> Party:
        return await self._connect("cli", as_name=name)

    async def window(self, name: str, workspace: str = "") -> Party:
        return await self._connect("mcp", window=name, host="claude-code", workspace=workspace)

    async def hook(self, name: str) -> Party:
        return await self._connect("hook", as_name=name)

    async def person_of(self, name: str) -> Party:
        return await self.person()

    async def started(self, name: str, below: int) -> Party:
        return await self._connect("mcp", window=name, host="claude-code", pid=below * 1000 + 1)

    async def _connect(
        self, via: Via, *, as_name: str = "", window: str = "", host: str = "", workspace: str = "", pid: int = 0
    ) -> Party:
        engine = self._engine
        self._connections += 1
        caller = caller_of(
            via,
            session=f"session{self._connections}",
            principal=PrincipalId(engine._desk.keys.id),
            host=host,
            window=window,
            workspace=workspace,
            as_name=as_name,
            peer=PeerProcess(pid=pid),
        )
        await engine.connect(caller)

        async def call(op: str, params: t.Params) -> t.Result:
            if self._before is not None:
                await self._before(op)
            if via == "mcp":
                await engine.call("window.acknowledge", t.AcknowledgeShown(), caller)
            return await engine.call(op, params, caller)

        return Party(call, caller)


class MemoryHome:
    """Everything in memory, under virtual time; with `FarDriver` each question to the store takes a round trip."""

    def __init__(self, driver: Callable[[Store], Driver] = PlugDriver) -> None:
        self.settings = Settings()
        self._world = World(driver=driver)

    def play(self, *acts: Act) -> None:
        async def main() -> None:
            for act in acts:
                self._world.settings = self.settings
                async with self._world.serving() as served:
                    await act(EnginePlace(served.engine))

        run(main)


class ThreadedHome:
    """A real store and real key files, with the threads and the clock of the daemon. `drive` opens the store and gives
    what drives it."""

    def __init__(self, root: Path, drive: Callable[[], Driver]) -> None:
        self.settings = Settings()
        self._root = root
        self._drive = drive
        self._keys = KeyRing(root / "keys")

    def play(self, *acts: Act) -> None:
        async def main() -> None:
            for act in acts:
                with trio.fail_after(LONGEST_ACT):
                    async with self._serving() as engine:
                        await act(EnginePlace(engine))

        trio.run(main)

    def _serving(self) -> AbstractAsyncContextManager[Engine]:
        return open_engine(
            driver=self._drive(),
            blobs=ThreadBlobs(DiskBlobs(self._root / "blobs")),
            clock=WallClock(),
            random=SystemRandomness(),
            keys=self._keys,
            signers=self._keys,
            settings=self.settings,
            user=USER,
            lineage=lineage,
        )


class TravellingDriver(NetworkDriver):
    """The real driver of a store over a network. `settle` waits for its questions as for those of a `FarDriver`."""

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        FarDriver.travelling += 1

        def hear(answer: T | None, error: BaseException | None) -> None:
            FarDriver.travelling -= 1
            told(answer, error)

        super().ask(query, hear)

    async def read(self, query: Callable[[Store], T]) -> T:
        FarDriver.travelling += 1
        try:
            return await super().read(query)
        finally:
            FarDriver.travelling -= 1


def file_home(root: Path) -> ThreadedHome:
    """A home whose store is a file."""
    return ThreadedHome(root, lambda: ThreadDriver(SqliteStore(root / "parler.db", backups=root / "backups")))


def database_home(root: Path, url: str) -> ThreadedHome:
    """A home whose store is the PostgreSQL database at `url`."""
    from parlerd.store.postgres import PostgresStore

    return ThreadedHome(root, lambda: TravellingDriver(PostgresStore(url)))


class RelayedHome:
    """The agents of a story have homes of their own, or share so many homes in turns, and their rooms are on a relay.
    The person is the one of the home of the agent who is named first: who opens the session. Between two acts the relay
    restarts too.
    """

    def __init__(self, folder: Path, *, homes: int | None = None) -> None:
        self.settings = Settings()
        _, self._relay, self._home = relayed.homes_of(folder)
        self._limit = homes
        self._homes: dict[str, relayed.Home] = {}
        """The home of each agent, in the order in which they were named."""

    def play(self, *acts: Act) -> None:
        async def main() -> None:
            for act in acts:
                self._relay.settings = self.settings
                async with self._relay.serving(), AsyncExitStack() as daemons:
                    await act(RelayedPlace(self._of, daemons))

        run(main)

    def _of(self, name: str) -> relayed.Home:
        """The home of the agent `name`; of whom was named first, where it is empty."""
        name = name or next(iter(self._homes))
        if name not in self._homes:
            there = list(self._homes.values())
            is_shared = self._limit is not None and len(there) >= self._limit
            self._homes[name] = there[len(there) % (self._limit or 1)] if is_shared else self._home(name)
        self._homes[name].world.settings = self.settings
        return self._homes[name]


class RelayedPlace:
    """Connections to the daemons of several homes; a daemon is started when it is first needed. Before each call the
    links come to rest: what was said in one home has reached the others.
    """

    def __init__(self, home: Callable[[str], relayed.Home], daemons: AsyncExitStack) -> None:
        self._home = home
        self._daemons = daemons
        self._places: dict[str, EnginePlace] = {}

    async def person(self, pid: int = 0) -> Party:
        return await (await self._at("")).person(pid)

    async def agent(self, name: str) -> Party:
        return await (await self._at(name)).agent(name)

    async def window(self, name: str, workspace: str = "") -> Party:
        return await (await self._at(name)).window(name, workspace)

    async def hook(self, name: str) -> Party:
        return await (await self._at(name)).hook(name)

    async def person_of(self, name: str) -> Party:
        return await (await self._at(name)).person()

    async def started(self, name: str, below: int) -> Party:
        return await (await self._at("")).started(name, below)

    async def _at(self, name: str) -> EnginePlace:
        home = self._home(name)
        if home.name not in self._places:
            served = await self._daemons.enter_async_context(home.serving())
            self._places[home.name] = EnginePlace(served.engine, _rest)
        return self._places[home.name]


async def _rest(op: str) -> None:
    """Let the links come to rest. How far agents have read is told now and then and not at once, so who asks that asks
    a little later."""
    if op == "message.why":
        await trio.sleep(LOOK_S)
    await settle()
