"""A simulation: homes of several people, a relay, and a story in bad weather, all of which follow from one seed.

    Simulation(seed).run() -> a Report, or raises `promises.Broken`

The engines are the real ones, over stores in memory and links in memory, under virtual time. A daemon and the relay may
be killed at any commit, before or after it counts, and start again a little later over what they stored. Then the
weather clears, everybody reads what there is, and the promises are checked.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

import trio

from parlerd.core.model import AgentId, MessageId, RoomId
from parlerd.core.room import Room
from parlerd.engine.driver import Driver
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace
from parlerd.engine.rooms import fold
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.sim import promises
from tests.sim.broken import Broken, first_broken
from tests.sim.people import Agent, Gone, Record, Refused
from tests.sim.watching import Watched, Watching
from tests.sim.weather import Weather
from tests.support.engine import Party, PlugDriver, Served, run
from tests.support.relayed import Home, Relay

R = TypeVar("R")

FAIR_S: Final = 120.0
"""Virtual seconds of calm weather after which everything has to have arrived."""
SOON_S: Final = 30.0
"""Virtual seconds of calm weather in which whoever waits has to hear what was said."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed may do. A plan without kills and with calm weather is a plain story."""

    homes: int = 3
    things: int = 8
    """What each agent says or reads in the storm."""
    kills: int = 3
    """How often a program is killed in all."""
    storm: bool = True


@dataclass
class Report:
    """What happened, for whoever reads a seed."""

    seed: int
    said: int = 0
    queued: int = 0
    shown: int = 0
    kills: int = 0
    breaks: int = 0
    codes: set[str] = field(default_factory=set)


class Program:
    """A program that is killed and started again. `serving` runs it once over what it left."""

    def __init__(self, serving: Callable[[Callable[[Store], Driver]], AbstractAsyncContextManager[Any]]) -> None:
        self._serving = serving
        self.up = trio.Event()
        self.now: Any = None
        """What is served, while it is up."""
        self.kills = 0
        self.driver: PlugDriver | None = None
        self._died = trio.Event()
        self._calls: set[trio.CancelScope] = set()
        """The calls that are under way, each of which ends when the program dies."""

    def _plug(self, store: Store) -> PlugDriver:
        self.driver = PlugDriver(store, died=self._died.set)
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

    async def keep(self, random: Random) -> None:
        """Run until this is cancelled, and again after each death."""
        while True:
            self._died = trio.Event()
            async with self._serving(self._plug) as served:
                self.now = served
                self.up.set()
                await self._died.wait()
                self.up = trio.Event()
                self.kills += 1
                for call in self._calls:
                    call.cancel()
            await trio.sleep(random.expovariate(0.5))


class Simulation:
    """One seed."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or Plan()
        self.random = Random(seed)
        self.record = Record()
        self.weather = Weather(Random(self.random.random()))
        self.signed: dict[str, set[bytes]] = defaultdict(set)
        self.watched = Watched()
        self.step = "the beginning"
        """What happens now, in a few words."""

    def run(self) -> Report:
        """Play it. Raises `Broken`."""
        # Which of several tasks goes first is drawn by the loop. A seed has to replay, so the loop draws from it too.
        scheduling: Any = trio._core._run
        scheduling._ALLOW_DETERMINISTIC_SCHEDULING = True
        scheduling._r.seed(self.seed)
        with tempfile.TemporaryDirectory() as folder:
            try:
                return run(partial(self._play, Path(folder)))
            except BaseException as error:
                broken = first_broken(error)
                if broken is None:
                    raise
                broken.step = self._where()
                raise broken from None

    def _where(self) -> str:
        shown = sum(map(len, self.record.shown.values()))
        return f"{self.step}, after {len(self.record.said)} messages were said and {shown} shown"

    async def _play(self, folder: Path) -> Report:
        relay = self._relay()
        homes = [Home(f"home{number}", relay, folder) for number in range(self.plan.homes)]
        for home in homes:
            self._listen(home)
        programs = {home.name: Program(partial(_served, home)) for home in homes}
        relay.face = lambda engine: self._before(Watching(engine, self.watched, relay.clock.now))
        self.watched.mirrors = {home.world.keys.principal: home.world.store for home in homes}
        programs["relay"] = Program(partial(_relayed, relay))
        agents: list[Agent] = []
        for home in homes:
            place = _Place(programs[home.name])
            agents += [
                Agent(f"{home.name}-{n}", place, self.record, Random(self.random.random()))
                for n in range(self.random.choice((1, 1, 2)))
            ]
        async with trio.open_nursery() as nursery:
            for program in programs.values():
                nursery.start_soon(program.keep, Random(self.random.random()))
                await program.up.wait()
            self.step = "the meeting"
            await self._meet(agents)
            self._met(homes)
            self.step = "the storm"
            async with trio.open_nursery() as storm:
                self.weather.calm = not self.plan.storm
                for agent in agents:
                    storm.start_soon(agent.live, self.plan.things)
                storm.start_soon(self._kill, list(programs.values()))
            self.step = "the calm"
            self.weather.calm = True
            for program in programs.values():
                await program.up.wait()
                assert program.driver is not None
                program.driver.cut = None
            await self._settle(agents)
            await self._reunite([agent for agent in agents if agent.name not in self.record.left])
            contradicted = self._contradicted(homes)
            self._hear_refusals(homes)
            nursery.cancel_scope.cancel()
        self.step = "the end"
        self._check(agents, contradicted)
        return Report(
            self.seed,
            said=len(self.record.said),
            queued=sum(said.queued for said in self.record.said),
            shown=sum(map(len, self.record.shown.values())),
            kills=sum(program.kills for program in programs.values()),
            breaks=self.weather.breaks,
            codes=self.record.codes,
        )

    def _relay(self) -> Relay:
        return Relay(self.weather)

    def _before(self, face: EngineFace) -> EngineFace:
        """Who stands before the relay's engine, between that and its links."""
        return face

    def _met(self, homes: list[Home]) -> None:
        """Everybody is in the room, and the story begins."""

    def _listen(self, home: Home) -> None:
        """Note every envelope that the home's keys sign."""
        keys = home.world.keys
        sign = keys.sign

        def noting(id: str, domain: Any, data: bytes) -> bytes:
            if domain == "parler/message":
                self.signed[id].add(data)
            return sign(id, domain, data)

        keys.sign = noting  # type: ignore[method-assign]

    async def _meet(self, agents: list[Agent]) -> None:
        """One opens a session on the relay, and the others come in."""
        owner, *others = agents
        opened = await owner.ask(lambda party: party.open("auth redesign", "Chose PKCE."))
        for agent in others:
            joined = await agent.ask(lambda party: party.join(opened.session_key))
            if joined.status == "pending":
                me = await agent.ask(lambda party: party.whoami())
                await owner.ask(partial(_approve, me.id, opened.room))
                joined = await agent.ask(lambda party: party.join(opened.session_key, wait=30))
            assert joined.status == "joined", joined
            await agent.ask(partial(_commit, joined))
        for agent in agents:
            agent.room = opened.room
            agent.others = [other.name for other in agents if other is not agent]
        if len(agents) > 2 and self.plan.storm and self.random.random() < 0.5:
            agents[-1].leaves_after = self.random.randrange(self.plan.things)

    async def _kill(self, programs: list[Program]) -> None:
        for _ in range(self.plan.kills):
            await trio.sleep(self.random.expovariate(0.3))
            self.random.choice(programs).kill(self.random)

    async def _settle(self, agents: list[Agent]) -> None:
        """After a fair time of calm weather everybody reads what there is."""
        await trio.sleep(FAIR_S)
        for agent in agents:
            if agent.name not in self.record.left:
                await agent.read_everything()

    async def _reunite(self, agents: list[Agent]) -> None:
        """Everybody waits, the cable is cut and mended, and one says something: every wait goes on and ends soon."""
        if not self.plan.storm:
            return
        self.step = "the reunion"
        speaker, *others = agents
        waiting, heard = {agent.name for agent in others}, trio.Event()

        async def wait(agent: Agent) -> None:
            while not await agent.read(wait_s=1_000.0):
                pass
            waiting.discard(agent.name)
            if not waiting:
                heard.set()

        async with trio.open_nursery() as nursery:
            for agent in others:
                nursery.start_soon(wait, agent)
            await trio.sleep(1.0)
            self.weather.cut()
            await trio.sleep(5.0)
            self.weather.mend()
            await trio.sleep(FAIR_S)
            await speaker.say(in_public=True)
            with trio.move_on_after(SOON_S if waiting else 0.0):
                await heard.wait()
            if waiting:
                raise Broken(f"{sorted(waiting)} still wait, {SOON_S:.0f} s after somebody said something")

    def _hear_refusals(self, homes: list[Home]) -> None:
        """What daemons keep for their agents: that messages which were queued will never be in the room."""
        agents = [(home, AgentId(id)) for home in homes for id in home.world.keys.ids]
        codes = {each.id: each.code for home, agent in agents for each in home.uplinks.undelivered(agent)}
        for said in [said for said in self.record.said if said.id in codes]:
            self.record.refused.append(Refused(said.author, said.text, said.readers, codes[MessageId(said.id)]))
            self.record.said.remove(said)

    def _contradicted(self, homes: list[Home]) -> list[RoomId]:
        found = []
        for home in homes:
            for room in home.world.store.rooms():
                if room != "home" and fold(home.world.store, room, Room, Room.restore)[0].state.contradicted:
                    found.append(room)
        return found

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        names = [agent.name for agent in agents]
        promises.nothing_went_wrong_on_the_way(self.watched.wrong)
        promises.nobody_is_accused(self.record, contradicted)
        promises.nothing_is_lost_or_doubled(self.record, names)
        promises.nothing_is_refused_without_a_reason(self.record)
        promises.order_is_kept(self.record, names)
        promises.no_counter_is_used_twice(self.signed, agents[0].room)


async def _commit(page: t.JoinedSession, party: Party) -> None:
    await party.commit(page)


async def _approve(agent: str, room: str, party: Party) -> None:
    await party.approve(agent, room=room)


class _Place:
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


@asynccontextmanager
async def _served(home: Home, driver: Callable[[Store], Driver]) -> AsyncIterator[Served]:
    home.world.driver = driver
    async with home.serving() as served:
        yield served


@asynccontextmanager
async def _relayed(relay: Relay, driver: Callable[[Store], Driver]) -> AsyncIterator[Engine]:
    relay.driver = driver
    async with relay.serving() as engine:
        yield engine
