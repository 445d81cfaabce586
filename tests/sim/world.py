"""A simulation: homes of several people, a relay, and a story in bad weather, all of which follow from one seed.

    Simulation(seed).run() -> a Report, or raises `promises.Broken`

The engines are the real ones, over stores in memory and links in memory, under virtual time. A daemon and the relay may
be killed at any commit, before or after it counts, and start again a little later over what they stored. Somebody who
was not at the meeting may knock, and a person decides; every machine has a clock of its own, which may be wrong. Then
the weather clears, everybody reads what there is, and the promises are checked.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

import trio

from parlerd.core.lifecycle import DELETED
from parlerd.core.model import AgentId, MessageId, RoomId
from parlerd.core.room import Room, RoomState
from parlerd.engine.engine import Engine
from parlerd.engine.face import EngineFace
from parlerd.engine.rooms import fold
from parlerd.operations import types as t
from tests.sim import promises, sealed
from tests.sim.acts import Act, Stage
from tests.sim.broken import Broken, first_broken
from tests.sim.inviting import Inviting
from tests.sim.loop import play
from tests.sim.meeting import agents_of, come_together, meeting
from tests.sim.newcomers import Newcomer, decide
from tests.sim.people import Agent, Record, Refused
from tests.sim.programs import Place, Program, relayed, served
from tests.sim.relays import Relays
from tests.sim.remembering import Remembering
from tests.sim.stored import state_of
from tests.sim.vault import Vault
from tests.sim.watching import Watched, Watching
from tests.sim.weather import Weather
from tests.sim.whispering import Whispering
from tests.sim.working import Working
from tests.sim.writing import Writing
from tests.support.engine import Served, open_rooms
from tests.support.relayed import Home, Relay

LOOK_S: Final = 5.0
FAIR_S: Final = 120.0
"""Virtual seconds of calm weather after which everything has to have arrived."""
SPELLS_OF_RELAYS: Final = 3
SOON_S: Final = 30.0
"""Virtual seconds of calm weather in which whoever waits has to hear what was said."""
CLOCKS_H: Final = (0.0, 0.0, 0.0, 0.1, -3.0, 20.0, 72.0, -1_000.0)
"""By how many hours a home's clock may be wrong: also by more than a relay would bear that went by that clock, which is
a day ahead of its own, and thirty days behind it."""
RELAYS_CLOCK_H: Final = (0.0, 0.0, 0.0, -2.0, 2.0)
"""By how many hours the relay's may be wrong."""
AUDITED: Final = frozenset({"store", "chain", "signatures"})
"""What of `daemon.check` is about what a home holds; the rest is about the machine."""
TASKS: Final = 11
TASKS_OF_HOME: Final = 18
TASKS_PASSING: Final = 4
"""How many tasks there may be when nobody waits for anything: in all; for each home, its link at both ends and its
mirror; and of those that are about to end. Each open room has one more. Source: counted."""
PASSING: Final = 5
PASSING_S: Final = 0.7
"""How often it is counted again what is held, where there are several relays, and after how many virtual seconds."""
TASKS_OF_RELAYS: Final = 60
TASKS_OF_LANES: Final = 10
"""How many more there may be where the relay is three: in all, and for each home its lanes. Source: counted. Each of
three has the 8 of a relay that is alone and 14 more, and one room of each is not among those that are open beside."""

TROUBLE: Final = (
    "messages",
    "private messages",
    "messages that waited here",
    "messages refused",
    "messages shown",
    "questions asked again",
    "kills before a commit",
    "kills after a commit",
    "delays",
    "cuts before a message",
    "cuts after a message",
    "links gone silent",
    "dials refused",
    "homes cut off",
    "silences of the relay",
    "full disks of the relay",
    "slow disks",
    "reunions",
    "partings",
    "agents that left",
    "calls of this machine",
    "knocks",
    "newcomers let in",
    "newcomers turned away",
    "wrong clocks",
    "audits",
    "channels",
    "guests of channels",
    "queues",
    "sealed queues",
    "chores",
    "claims",
    "workers that died",
    "late results",
    "pairs",
    "versions remembered",
    "versions that were taken",
    "facts forgotten",
    "whispers",
    "whispers taken back",
    "whispered tasks",
    "steps",
    "stories of three relays",
    "relays drained",
    "relays that stood still",
    "relays without the store",
    "relays apart",
    "answers of the store lost",
    "sealed rooms",
    "vaults",
)
"""What happens in these stories, as the reports count it; not what happens in few of a hundred."""

RELAYS: Final = 1 / 5
"""In how many of the seeds with the usual plan the relay is three relays."""
SEALED: Final = 1 / 6
"""In how many of the seeds with the usual plan the room in which everybody met is sealed."""

ACTS: Final[tuple[type[Act], ...]] = (Inviting, Remembering, Writing, Working, Whispering, Vault)
"""What else may happen in a story."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed may do. A plan without kills and with calm weather is a plain story."""

    homes: tuple[int, ...] = (2, 2, 3)
    """How many homes there are: one of these."""
    things: int = 5
    """What each agent says or reads in the storm."""
    kills: int = 2
    """How often a program is killed in all."""
    storm: bool = True
    spells: int = 1
    """How often a home is cut off for a while, or the relay silent."""
    newcomers: float = 0.25
    """In how many of the seeds somebody knocks in the storm."""
    clocks: bool = True
    """Whether clocks are wrong."""
    reunions: float = 0.25
    """In how many of the seeds everybody waits while the cable is cut at the end."""
    audits: float = 0.2
    """In how many of the seeds each home checks what it holds."""
    partings: float = 0.15
    """In how many of the seeds somebody leaves at the end while messages to it wait elsewhere."""
    acts: tuple[type[Act], ...] = ACTS
    """What else may happen."""
    act: float = 0.2
    """In how many of the seeds each of these happens."""
    relays: float = 0.0
    """In how many of the seeds the relay is three relays over one store."""
    sealed: float = 0.0
    """In how many of the seeds the room in which everybody met is sealed."""
    meets: bool = False
    """Whether everybody meets in this story. Otherwise they have met (`meeting`)."""


@dataclass
class Report:
    """What happened, for whoever reads a seed."""

    seed: int
    counts: Counter[str]
    """How often what happened."""
    codes: set[str]
    """Every code that anybody heard."""


# Where files cost least: each home keeps which relays it knows, and a disk would be asked to flush it in every seed.
_QUICK: Final = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Simulation:
    """One seed."""

    def __init__(self, seed: int, plan: Plan | None = None) -> None:
        self.seed = seed
        self.plan = plan or Plan(relays=RELAYS, sealed=SEALED)
        self.random = Random(seed)
        self.crowd = tuple(self.random.choice((1, 1, 2)) for _ in range(self.random.choice(self.plan.homes)))
        """How many agents each home has."""
        self.is_shared = Random(f"{seed} how many").random() < self.plan.relays
        """Whether several relays have the rooms."""
        self.is_sealed = Random(f"{seed} sealed").random() < self.plan.sealed
        """Whether the room in which everybody met is sealed."""
        self.record = Record()
        self.weather = Weather(seed)
        self.counts = self.weather.counts
        self.signed: dict[str, set[bytes]] = defaultdict(set)
        self.watched = Watched()
        self.homes: list[Home] = []
        self.newcomers: list[Newcomer] = []
        self.acts: list[Act] = []
        self.guests: set[str] = set()
        """Whom else a story lets in, by name."""
        self.relay: Relay
        self.relays: Relays | None = None
        """The relays of the story, where they are several."""
        self.programs: Mapping[str, Program] = {}
        """What runs, by the name of the home, or "relay"."""
        self._until_the_end = ExitStack()
        self.step = "the beginning"
        """What happens now, in a few words."""

    def meet(self) -> None:
        """Play the meeting that this story begins with, if nobody did before."""
        if not self.plan.meets:
            meeting(self.crowd, sealed=self.is_sealed)

    def run(self) -> Report:
        """Play it. Raises `Broken`."""
        self.meet()
        with tempfile.TemporaryDirectory(dir=_QUICK) as folder, self._until_the_end:
            try:
                return play(self.seed, partial(self._play, self.crowd, Path(folder)))
            except BaseException as error:
                broken = first_broken(error)
                if broken is None:
                    raise
                broken.step = self._where()
                raise broken from None

    def _where(self) -> str:
        shown = sum(map(len, self.record.shown.values()))
        return f"{self.step}, after {len(self.record.said)} messages were said and {shown} shown"

    async def _play(self, crowd: tuple[int, ...], folder: Path) -> Report:
        relay, homes = self._begin(crowd, folder)
        self.relay, self.homes = relay, homes
        for home in homes:
            self._listen(home)
        relay.face = lambda engine: self._before(Watching(engine, self.watched, relay.clock.now))
        self.watched.mirrors = {home.world.keys.principal: home.world.store for home in homes}
        programs = {home.name: Program(partial(served, home), self.counts) for home in homes}
        if self.is_shared:
            self.relays = Relays(self.seed, relay, self.weather)
            self._until_the_end.enter_context(self.relays.watching())
            self.counts["stories of three relays"] += 1
        programs |= (
            {"relay": Program(partial(relayed, relay), self.counts)}
            if self.relays is None
            else {node.name: node.program for node in self.relays.nodes}
        )
        self.programs = programs
        places = {home.name: Place(programs[home.name]) for home in homes}
        agents = [
            Agent(name, places[home], self.record, Random(self.random.random())) for home, name in agents_of(crowd)
        ]
        async with trio.open_nursery() as nursery:
            self.weather.clocks = nursery
            for program in programs.values():
                nursery.start_soon(program.keep, Random(self.random.random()))
                await program.up.wait()
            self.step = "the meeting"
            await self._meet(agents, [programs[home].now for home, _ in agents_of(crowd)], crowd)
            self._met(homes)
            self.step = "the storm"
            async with trio.open_nursery() as coming:
                async with trio.open_nursery() as storm:
                    if self.random.random() < 0.7:
                        # Otherwise the links are made in the storm.
                        async with trio.open_nursery() as reading:
                            for agent in agents:
                                reading.start_soon(agent.read)
                    self.weather.calm = not self.plan.storm
                    self._come(coming, agents, places)
                    self._act(coming, agents, places)
                    for agent in agents:
                        storm.start_soon(agent.live, self.plan.things)
                    storm.start_soon(self._kill, list(programs.values()))
                    storm.start_soon(self._blow, homes, programs)
                    if self.relays is not None:
                        storm.start_soon(self._blow_relays, self.relays)
                self.step = "the calm"
                self.weather.clear()
                # Whoever knocked and was not answered goes on.
            if self.relays is not None:
                await self._become_whole(self.relays)
            for program in programs.values():
                await program.survives()
            agents += [each.agent for each in self.newcomers if each.is_in]
            await self._settle(agents)
            await self._conclude()
            await self._part([agent for agent in agents if agent.name not in self.record.left])
            await self._reunite([agent for agent in agents if agent.name not in self.record.left])
            await self._audit(agents, places)
            await self._afterwards(agents)
            contradicted = self._contradicted(homes)
            for record in (self.record, *(act.record for act in self.acts)):
                self._hear_refusals(homes, record)
            left = self._left(programs.values())
            for _ in range(PASSING if self.relays is not None else 0):
                if not any(left.values()):
                    break
                # What a relay asks another, or the store, takes its time.
                await trio.sleep(PASSING_S)
                left = self._left(programs.values())
            if self.relays is not None:
                self.relays.ended_at, self.relays.clock_at_end = trio.current_time(), self.relay.clock.now()
            nursery.cancel_scope.cancel()
        self.step = "the end"
        self._check(agents, contradicted)
        promises.nothing_is_left(left)
        said = self.record.said
        self.counts["messages"] = len(said)
        self.counts["private messages"] = sum(each.readers is not None for each in said)
        self.counts["messages that waited here"] = sum(each.queued for each in said)
        self.counts["messages shown"] = sum(map(len, self.record.shown.values()))
        self.counts["questions asked again"] = self.record.repeats
        self.counts["messages refused"] = len(self.record.refused)
        self.counts["knocks"] = len(self.newcomers)
        self.counts["newcomers let in"] = sum(each.is_in for each in self.newcomers)
        self.counts["newcomers turned away"] = sum(not each.is_in for each in self.newcomers)
        self.counts["agents that left"] = len(self.record.left)
        self.counts["calls of this machine"] = self.record.local_calls
        return Report(self.seed, self.counts, self.record.codes)

    def _begin(self, crowd: tuple[int, ...], folder: Path) -> tuple[Relay, list[Home]]:
        if self.plan.meets:
            relay = Relay(self.weather)
            homes = [Home(name, relay, folder) for name in dict(agents_of(crowd))]
        else:
            apart = [self._wrong(RELAYS_CLOCK_H)] + [self._wrong(CLOCKS_H) for _ in crowd]
            self.counts["wrong clocks"] += sum(map(bool, apart))
            relay, homes = meeting(crowd, sealed=self.is_sealed).again(self.weather, folder, apart)
        return relay, homes

    def _wrong(self, hours: Sequence[float]) -> float:
        """By how many seconds a clock is wrong."""
        return self.random.choice(hours) * 3_600 if self.plan.clocks else 0.0

    async def _meet(self, agents: list[Agent], served: list[Served], crowd: tuple[int, ...]) -> None:
        if self.plan.meets:
            parties = [await at.agent(agent.name) for agent, at in zip(agents, served, strict=True)]
            room = (await come_together(parties, self.is_sealed)).room
        else:
            room = meeting(crowd, sealed=self.is_sealed).room
        for agent in agents:
            agent.room = room
            agent.others = [other.name for other in agents if other is not agent]
        if len(agents) > 2 and self.plan.storm and self.random.random() < 0.5:
            agents[-1].leaves_after = self.random.randrange(self.plan.things)

    def _before(self, face: EngineFace) -> EngineFace:
        """Who stands before the relay's engine, between that and its links."""
        return face

    def _met(self, homes: list[Home]) -> None:
        """Everybody is in the room, and the storm begins."""

    def _listen(self, home: Home) -> None:
        """Note every envelope that the home's keys sign."""
        keys = home.world.keys
        sign = keys.sign

        def noting(id: str, domain: Any, data: bytes) -> bytes:
            if domain == "parler/message":
                self.signed[id].add(data)
            return sign(id, domain, data)

        keys.sign = noting  # type: ignore[method-assign]

    async def _kill(self, programs: list[Program]) -> None:
        for _ in range(self.plan.kills):
            await trio.sleep(self.random.expovariate(0.3))
            self.random.choice(programs).kill(self.random)

    def _come(self, coming: trio.Nursery, agents: list[Agent], places: Mapping[str, Place]) -> None:
        """Somebody knocks, and the person of the first agent decides."""
        if self.plan.meets or not self.plan.newcomers or self.random.random() >= self.plan.newcomers:
            return
        home = self.random.choice(self.homes).name
        agent = Agent(f"{home}-newcomer", places[home], self.record, Random(self.random.random()))
        newcomer = Newcomer(agent, admit=self.random.random() < 0.75)
        self.newcomers.append(newcomer)
        names = [agent.name for agent in agents if agent.leaves_after is None]
        coming.start_soon(newcomer.live, meeting(self.crowd, sealed=self.is_sealed).session_key, names, 2)
        coming.start_soon(decide, agents[0], self.newcomers)

    def _act(self, coming: trio.Nursery, agents: list[Agent], places: dict[str, Place]) -> None:
        """Let happen what else happens, each with draws of its own."""
        stage = Stage(
            relay=self.relay,
            homes=self.homes,
            places=places,
            agents=[agent for agent in agents if agent.leaves_after is None],
            room=agents[0].room,
            record=self.record,
            counts=self.counts,
        )
        for kind in self.plan.acts:
            random = Random(f"{self.seed} {kind.names}")
            if random.random() < self.plan.act and not (self.is_sealed and kind.in_clear):
                act = kind(stage, random)
                self.acts.append(act)
                coming.start_soon(act.play)

    async def _conclude(self) -> None:
        """Whoever has a part in an act reads what there is, and looks at what came of it."""
        async with trio.open_nursery() as reading:
            for act in self.acts:
                for reader in act.readers():
                    reading.start_soon(reader.read_everything)
        for act in self.acts:
            self.step = f"the end of the act: {act.names}"
            await act.look()

    async def _blow(self, homes: list[Home], programs: dict[str, Program]) -> None:
        """Spells of worse weather than that of single links."""
        for _ in range(self.plan.spells):
            await trio.sleep(self.random.expovariate(0.3))
            kind = self.random.random()
            if kind < 0.3:
                self.counts["full disks of the relay"] += 1
                disks = [each.driver for name, each in programs.items() if name.startswith("relay")]
                for disk in disks:
                    assert disk is not None
                    disk.is_full = True
                await trio.sleep(self.random.expovariate(0.1))
                for disk in disks:
                    assert disk is not None
                    disk.is_full = False
            elif kind < 0.5:
                self.counts["slow disks"] += 1
                disk = programs[self.random.choice(sorted(programs))].driver
                assert disk is not None
                disk.lag = self.random.uniform(0.02, 0.3)
                await trio.sleep(self.random.expovariate(0.1))
                disk.lag = 0.0
            elif kind < 0.75:
                home = self.random.choice(homes).name
                self.counts["homes cut off"] += 1
                self.weather.cut_off(home)
                await trio.sleep(self.random.expovariate(0.2))
                self.weather.bring_back(home)
            else:
                self.counts["silences of the relay"] += 1
                self.weather.silence()
                await trio.sleep(self.random.expovariate(0.2))
                self.weather.is_silent = False

    async def _blow_relays(self, relays: Relays) -> None:
        """Trouble that only several relays have."""
        for _ in range(SPELLS_OF_RELAYS if self.plan.storm else 0):
            await trio.sleep(relays.random.expovariate(0.3))
            await relays.blow()

    async def _become_whole(self, relays: Relays) -> None:
        """Wait until every relay runs and has its rooms, at most for a fair time."""
        for _ in range(int(FAIR_S / LOOK_S)):
            if relays.is_whole:
                return
            await trio.sleep(LOOK_S)
        raise Broken(f"the relays did not share the rooms out in {FAIR_S:.0f} s of calm weather")

    async def _settle(self, agents: list[Agent]) -> None:
        """After a fair time of calm weather everybody reads what there is."""
        await self._quiet()
        async with trio.open_nursery() as reading:
            for agent in agents:
                if agent.name not in self.record.left:
                    reading.start_soon(agent.read_everything)

    async def _quiet(self) -> None:
        """Wait until nothing is under way any more, at most for a fair time."""
        for _ in range(int(FAIR_S / LOOK_S)):
            if not self.weather.is_disturbed and not any(_waits(home) for home in self.homes):
                break
            await trio.sleep(LOOK_S)

    async def _part(self, agents: list[Agent]) -> None:
        """One home is cut off, and its agent goes on writing: to everybody, and to somebody who leaves meanwhile. What
        was for them is refused when the cable is mended, and the rest arrives in order."""
        author, leaver = agents[0], agents[-1]
        home = author.name.partition("-")[0]
        if leaver.name.startswith(home) or self.random.random() >= self.plan.partings:
            return
        self.counts["partings"] += 1
        self.step = "the parting"
        self.weather.cut_off(home)
        for to in ("", leaver.name, "", leaver.name, ""):
            await author.say(in_public=not to, to=to)
        await leaver.leave()
        self.weather.bring_back(home)
        await author.say(in_public=True)
        await self._settle(agents)

    async def _reunite(self, agents: list[Agent]) -> None:
        """Everybody waits, the cable is cut and mended, and one says something: every wait goes on and ends soon."""
        if self.random.random() >= self.plan.reunions:
            return
        self.counts["reunions"] += 1
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
            await self._quiet()
            await speaker.say(in_public=True)
            with trio.move_on_after(SOON_S if waiting else 0.0):
                await heard.wait()
            if waiting:
                raise Broken(f"{sorted(waiting)} still wait, {SOON_S:.0f} s after somebody said something")

    async def _audit(self, agents: list[Agent], places: Mapping[str, Place]) -> None:
        """What every home holds is what was signed, and whoever is a member there came in by a proof."""
        if self.random.random() >= self.plan.audits:
            return
        self.counts["audits"] += 1
        for home, place in places.items():
            found = await place.ask(f"{home}-0", lambda party: party.ask("daemon.check", t.CheckStore(), t.CheckList))
            if wrong := [each for each in found.checks if not each.ok and each.name in AUDITED]:
                raise Broken(f"{home} holds what is not right: {wrong}")

    def _left(self, programs: Collection[Program]) -> dict[str, int]:
        """What is still held somewhere, when everything was said and read."""
        # Rooms that are open beside that in which everybody met.
        more_rooms = sum(open_rooms(_engine_of(program)) - 1 for program in programs)
        relay, relays = self.relay, self.relays
        links = relays.links if relays is not None else [self.weather.links]
        clocks = self.weather.clocks
        assert clocks is not None
        homes = len(self.homes)
        proven = sum(each.proven for each in links if each is not None)
        calls = sum(each.calls_under_way for each in links if each is not None)
        weather = len(clocks.child_tasks) - homes - len(links)
        tasks = trio.lowlevel.current_statistics().tasks_living - weather
        self.counts["tasks at the end"] = tasks
        may_be = TASKS + TASKS_OF_HOME * homes + more_rooms + TASKS_PASSING
        if relays is not None:
            may_be += TASKS_OF_RELAYS + TASKS_OF_LANES * homes
        return {
            "messages in outboxes": sum(
                not row.refused for home in self.homes for row in home.world.store.outbox(relay.keys.id)
            ),
            "links too many": max(0, proven - homes),
            # Each link has one stream that follows its rooms.
            "calls under way at the relay": max(0, calls - proven),
            "tasks": max(0, tasks - may_be),
            "lanes too many": 0 if relays is None else max(0, relays.lanes - (len(links) - 1) * homes),
            "bytes to other relays": 0 if relays is None else relays.pending,
        }

    async def _afterwards(self, agents: list[Agent]) -> None:
        """What else happens, in other stories."""

    def _hear_refusals(self, homes: list[Home], record: Record) -> None:
        """What daemons keep for their agents: that messages which were queued will never be in their room."""
        agents = [(home, AgentId(id)) for home in homes for id in home.world.keys.ids]
        codes = {each.id: each.code for home, agent in agents for each in home.uplinks.undelivered(agent)}
        for said in [said for said in record.said if said.id in codes]:
            record.refused.append(Refused(said.author, said.text, said.readers, codes[MessageId(said.id)]))
            record.said.remove(said)

    def _contradicted(self, homes: list[Home]) -> list[RoomId]:
        found = []
        for home in homes:
            for room in home.world.store.rooms():
                if room != "home" and self._is_accused(fold(home.world.store, room, Room, Room.restore)[0].state):
                    found.append(room)
        return found

    def _is_accused(self, mirror: RoomState) -> bool:
        """Whether a mirror says that the relay contradicted itself in a room that nobody deleted there."""
        was_deleted = mirror.contradicted == DELETED and self.relay.store.is_deleted(mirror.room)
        return bool(mirror.contradicted) and not was_deleted

    def _check_sealed(self, room: str) -> None:
        """What has to hold of a sealed room at the end, by what the relay holds of it."""
        store, stores = self.relay.store, [home.world.store for home in self.homes]
        sealed.nobody_else_can_read(store, RoomId(room), self.relay.keys.id, stores)
        sealed.everybody_has_the_words(store, RoomId(room), stores)
        sealed.nothing_can_be_guessed(store, RoomId(room), self.record)
        sealed.nothing_stands_in_clear(store, RoomId(room), alone=not self.acts)
        self.counts["sealed rooms"] += 1
        self.counts["epochs"] += state_of(store, room).epochs.number

    def _members(self, room: str) -> set[str]:
        """Who is or was in the room, by what the relay holds."""
        return {member.handle for member in state_of(self.relay.store, room).members.values()}

    def _check(self, agents: list[Agent], contradicted: list[RoomId]) -> None:
        names = [agent.name for agent in agents]
        promises.nothing_went_wrong_on_the_way(self.watched.wrong)
        if self.relays is not None:
            self.relays.check()
        promises.nobody_is_accused(self.record, contradicted)
        promises.what_was_acknowledged_is_stored(self.record, self.relay.store)
        promises.nothing_is_lost_or_doubled(self.record, names)
        promises.nothing_is_refused_without_a_reason(self.record)
        promises.order_is_kept(self.record, names)
        promises.no_counter_is_used_twice(self.signed, set(self.relay.store.rooms()))
        for act in self.acts:
            act.check()
        if self.is_sealed:
            self._check_sealed(agents[0].room)
        known = self.guests.union(name for _, name in agents_of(self.crowd))
        promises.nobody_is_in_who_was_not_let_in(self.newcomers, self.record, known, self._members(agents[0].room))


def _engine_of(program: Program) -> Engine:
    engine: Engine = program.now if isinstance(program.now, Engine) else program.now.engine
    return engine


def _waits(home: Home) -> bool:
    """Whether the home has no link, or something that waits for one."""
    return any(entry.state != "connected" or entry.waiting for entry in home.uplinks.listed())
