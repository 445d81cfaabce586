"""Homes that scenarios run in: the same story in memory under virtual time, and over a real file with real threads.

A `Home` is played in acts; between two acts its daemon ends and another starts over what it left. A `Place` is a home
that is served: whoever takes part connects to it and then only calls operations, so a home elsewhere (a relay) needs no
more than another `Place`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

from parlerd.core.model import PrincipalId, Via
from parlerd.engine.driver import Driver, ThreadDriver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.ports import SystemRandomness, WallClock
from parlerd.identity.keyring import KeyRing
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.port import Store
from parlerd.store.sqlite import SqliteStore
from tests.support.callers import caller_of
from tests.support.engine import USER, Party, PlugDriver, World, run

LONGEST_ACT = 30.0
"""Seconds of an act over a real clock, where a wait that nobody ends would hang."""


class Place(Protocol):
    """A home that is served."""

    async def person(self) -> Party:
        """The person at a shell."""
        ...

    async def agent(self, name: str) -> Party:
        """An agent by its name, from a shell."""
        ...

    async def window(self, name: str, workspace: str = "") -> Party:
        """An agent host's window. Its next call acknowledges what the last one showed."""
        ...


Act = Callable[[Place], Awaitable[None]]


class Home(Protocol):
    """A home under test."""

    def play(self, *acts: Act) -> None:
        """Run the acts, each with a daemon of its own."""
        ...


class EnginePlace:
    """Connections straight to an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connections = 0

    async def person(self) -> Party:
        return await self._connect("cli")

    async def agent(self, name: str) -> Party:
        return await self._connect("cli", as_name=name)

    async def window(self, name: str, workspace: str = "") -> Party:
        return await self._connect("mcp", window=name, host="claude-code", workspace=workspace)

    async def _connect(
        self, via: Via, *, as_name: str = "", window: str = "", host: str = "", workspace: str = ""
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
        )
        await engine.connect(caller)

        async def call(op: str, params: t.Params) -> t.Result:
            if via == "mcp":
                await engine.call("window.acknowledge", t.AcknowledgeShown(), caller)
            return await engine.call(op, params, caller)

        return Party(call)


class MemoryHome:
    """Everything in memory, under virtual time; with `FarDriver` each question to the store takes a round trip."""

    def __init__(self, driver: Callable[[Store], Driver] = PlugDriver) -> None:
        self._world = World(driver=driver)

    def play(self, *acts: Act) -> None:
        async def main() -> None:
            for act in acts:
                async with self._world.serving() as served:
                    await act(EnginePlace(served.engine))

        run(main)


class FileHome:
    """A real database and real key files, with the threads and the clock of the daemon."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._keys = KeyRing(root / "keys")

    def play(self, *acts: Act) -> None:
        async def main() -> None:
            for act in acts:
                with trio.fail_after(LONGEST_ACT):
                    async with self._serving() as engine:
                        await act(EnginePlace(engine))

        trio.run(main)

    def _serving(self) -> AbstractAsyncContextManager[Engine]:
        store = SqliteStore(self._root / "parler.db", backups=self._root / "backups")

        @asynccontextmanager
        async def serving() -> AsyncIterator[Engine]:
            async with open_engine(
                driver=ThreadDriver(store),
                clock=WallClock(),
                random=SystemRandomness(),
                keys=self._keys,
                signers=self._keys,
                settings=Settings(),
                user=USER,
            ) as engine:
                yield engine

        return serving()
