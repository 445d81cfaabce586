"""The relay of a story as three relays over one store: killed, standing still, drained, and cut off from each other and
from the store, under virtual time and from one seed.

    daemons --Weather--> Node: links, routing, engine --Line--> SharedStore
                         Node --Weather--> the others

Above: `world`. Below: `server`, the parts of `relay`. Invariant: each relay is a program of its own, which shares
nothing with the others but the store, the home's key, and what lies between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, cast

import pytest
import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.events import TaskCompleted, TaskLapsed
from parlerd.core.model import Millis
from parlerd.core.shards import SHARDS, shard_of
from parlerd.engine.actor import RoomActor
from parlerd.engine.driver import Driver
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.face import EngineFace
from parlerd.engine.ports import NoSigners
from parlerd.engine.shelf import InlineBlobs
from parlerd.paths import Home
from parlerd.store.memory_counts import MemoryCounts
from parlerd.store.port import JobOutcome, Store, has_happened
from parlerd.store.relays import Row
from relay.beats import BEAT_S, Beats
from relay.counting import Counting
from relay.holding import Holding
from relay.link import OFFERED, Links
from relay.newest import Newest
from relay.peers import Self
from relay.seen import Seen
from relay.together import Together
from relay.turnstile import Anybody
from tests.sim import promises
from tests.sim.broken import Broken
from tests.sim.programs import Program
from tests.sim.server import GRACE_S, Line, ServerDriver, SharedStore, Shares
from tests.sim.stored import facts_of
from tests.sim.weather import NEAR, TimedStream, Weather
from tests.support.relayed import ADDRESS, NamedRandomness, Relay, Wires

COUNT: Final = 3
RESTS: Final = 0.15
"""A relay that ended starts again after so long on average, in parts of a second: some before they are dead to the
others, and some after."""

_NOWHERE: Final = Home(Path())
"""Where nothing is kept: of a database in memory there is one state."""


class Node:
    """One relay of several: what stays when its program goes, and its parts while it runs."""

    def __init__(self, number: int) -> None:
        self.name = f"relay{number}"
        self.number = number
        self.lives = 0
        """How often it began."""
        self.wires = Wires()
        """Its end of the links that lead to it."""
        self.line: Line | None = None
        self.row = Row(self.name, "", "", "")
        self.together: Together | None = None
        self.program: Program

    @property
    def inner(self) -> str:
        """Where it listens for the other relays."""
        return f"10.0.0.{self.number}:7778"

    @property
    def address(self) -> str:
        """Where it listens for daemons."""
        return f"198.51.100.{self.number}:7777"


class Relays:
    """Three relays in the place of `relay`, of which they have the store, the key and the clock."""

    def __init__(self, seed: int, relay: Relay, weather: Weather) -> None:
        self.random = Random(f"{seed} relays")
        self.relay = relay
        self.weather = weather
        self.counts = weather.counts
        self.store = relay.store = SharedStore(relay.store)
        self.shares = Shares()
        self.store.holds = self.shares.holds
        self.tallies = MemoryCounts(trio.current_time)
        """What they count together."""
        self.nodes = [Node(number) for number in range(1, COUNT + 1)]
        for node in self.nodes:
            node.program = Program(partial(self._serving, node), self.counts, kind=ServerDriver, rests=RESTS)
        self.cut: set[frozenset[str]] = set()
        """The pairs of relays that do not reach each other."""
        self.ended_at = 0.0
        self.clock_at_end = Millis(0)
        """When the story was over, on the loop's clock and on that of the relays."""
        self._first: dict[str, Node] = {}
        """To which relay the address leads that a home was given."""
        weather.lead = self._lead

    # -- ways ----------------------------------------------------------------------------------------------

    def _lead(self, address: str, home: str) -> Wires:
        """The relay at this address."""
        if address == ADDRESS:
            if home not in self._first:
                self._first[home] = self.random.choice(self.nodes)
            return self._first[home].wires
        return next(node.wires for node in self.nodes if address.removeprefix("wss://") == node.address)

    def peers_of(self, node: Node) -> _Dialer:
        """How a relay comes to the others."""
        return _Dialer(self, node)

    # -- one life of a relay -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _serving(self, node: Node, plug: Callable[[Store], Driver]) -> AsyncIterator[Engine]:
        relay, random = self.relay, Random(self.random.random())
        node.lives += 1
        life = f"{node.name}life{node.lives}"
        driver = plug(self.store)
        assert isinstance(driver, ServerDriver)
        line = node.line = driver.line = Line(random, lambda: self.weather.calm, self.counts)
        driver.name = life
        node.row = Row(node.name, life, node.address, "1.0", node.inner)
        began = trio.current_time()
        await line.ask(lambda: self.shares.join(node.row))

        beats = Beats(
            cast(Any, self.shares), node.row, _NOWHERE, Seen(relay=node.name), began=began, now=trio.current_time
        )

        def may_decide() -> bool:
            return not line.is_over and not driver.dead and beats.may_decide()

        driver.may_write, driver.beaten = may_decide, lambda: beats._last

        async def beat() -> None:
            while True:
                await trio.sleep(BEAT_S)
                sent_at = trio.current_time()
                with suppress(StoreError):
                    beats._heard(sent_at, *await line.ask(lambda: self.shares.beat(node.row)))

        holding = Holding(self.shares, node.row, may_decide=may_decide, aside=line.ask)
        names = NamedRandomness(life)
        async with (
            open_engine(
                driver=driver,
                blobs=InlineBlobs(relay.blobs),
                clock=relay.clock,
                random=names,
                keys=relay.keys,
                signers=NoSigners(),
                settings=relay.settings,
                user="relay",
                voice=relay.keys,
                owns=holding,
                counts=(counting := Counting(self.tallies, line.ask)),
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            own = Self(relay.keys, node.name, life, random_bytes=NamedRandomness(f"{life} own").bytes)
            together = node.together = Together(
                engine,
                holding,
                own,
                self.peers_of(node),
                OFFERED,
                Newest(counting),
                superseded=lambda caller: links.supersede(caller),
                gone=lambda principal: links.end(principal),
                cut_off=lambda is_cut_off: links.cut_off(is_cut_off),
            )
            links = Links(
                self.face(together.routing),
                relay.book,
                relay.keys,
                name="team",
                log_id=relay.log_id,
                addresses=lambda: [node.row.address, *together.addresses()],
                now=relay.clock.now,
                keep_up=together.take_in,
                random_bytes=NamedRandomness(f"{life} links").bytes,
            )
            together.routing._draw = random.random
            line.is_patient = False
            node.wires.links, node.wires.nursery = links, nursery
            async with trio.open_nursery() as parts:
                parts.start_soon(beat)
                parts.start_soon(engine.share_kept)
                await parts.start(together.run)
                try:
                    yield engine
                finally:
                    with trio.CancelScope(shield=True):
                        if not driver.dead:
                            self.counts["relays drained"] += 1
                            await self._drain(node, holding, links, together)
                        line.is_over = True
                        self._gone(node)
                    parts.cancel_scope.cancel()
            nursery.cancel_scope.cancel()

    def face(self, face: EngineFace) -> EngineFace:
        """Who stands before a relay's routing."""
        return self.relay.face(cast(Engine, face))

    async def _drain(self, node: Node, holding: Holding, links: Links, together: Together) -> None:
        with trio.move_on_after(20.0):
            await holding.drain()
            await links.send_away(5.0)
            await links.drain(1.0)
            await together.served.drain()
            await self._leave(node)

    async def _leave(self, node: Node) -> None:
        assert node.line is not None
        with suppress(StoreError):
            await node.line.ask(lambda: self.shares.leave(node.row))

    def _gone(self, node: Node) -> None:
        """Its process is gone, and so are its connections."""
        node.wires.links = node.wires.nursery = node.together = None
        self.weather.cut_end(node.wires)

    # -- trouble -------------------------------------------------------------------------------------------

    async def blow(self) -> None:
        """One spell of trouble that only several relays have."""
        random, node = self.random, self.random.choice(self.nodes)
        kind = random.choice(("still", "drained", "without the store", "apart", "silent"))
        seconds = random.choice((1.0, 4.0, 9.0, 15.0, 30.0))
        if kind == "still":
            self.counts["relays that stood still"] += 1
            until = trio.current_time() + seconds
            self.weather.still[node.wires] = until
            if node.line is not None:
                node.line.still_until = until
            await trio.sleep(seconds)
            self.weather.still.pop(node.wires, None)
        elif kind == "drained":
            node.program.end()
        elif kind == "without the store":
            self.counts["relays without the store"] += 1
            line = node.line
            if line is not None:
                line.cut()
                await trio.sleep(seconds)
                line.mend()
        else:
            other = random.choice([each for each in self.nodes if each is not node])
            between = frozenset({node.name, other.name})
            self.counts["relays apart"] += 1
            self.cut.add(between)
            for way in self.weather.between(node.wires, other.wires):
                if kind == "silent":
                    way.fall_silent()
                else:
                    way.ours.cut()
            await trio.sleep(seconds)
            self.cut.discard(between)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Compare what a relay finds out about a commit whose answer was lost with what became of it."""
        find_out = RoomActor._has_happened

        async def compared(actor: RoomActor[Any], outcome: JobOutcome) -> bool | None:
            found = await find_out(actor, outcome)
            if found is False and actor.room in self.store.rooms() and self._was_there(actor, outcome):
                self.store.wrong.append("a relay says of a commit that it did not happen, and it did")
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RoomActor, "_has_happened", compared)
            yield

    def _was_there(self, actor: RoomActor[Any], outcome: JobOutcome) -> bool:
        is_here = isinstance(actor._context.driver, ServerDriver)
        late = any(self.store.late.get(room) == head for room, head in outcome.heads.items())
        return is_here and not late and has_happened(self.store, outcome)

    # -- what has to hold ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Whether everything happened to the store as it has to. Raises `Broken`."""
        promises.nothing_went_wrong_on_the_way(self.store.wrong)
        ahead = self.clock_at_end / 1000 - self.ended_at
        for room in self.store.rooms():
            over: Counter[tuple[str, object, int]] = Counter()
            taken = [at for at, shard in self.shares.moved if shard == shard_of(room)]
            for header in facts_of(self.store, room):
                match header.event:
                    case TaskLapsed(task=task, fence=fence):
                        at = header.at / 1000 - ahead
                        if any(0 <= at - moved < GRACE_S for moved in taken):
                            raise Broken(f"a claim ended {at - max(taken):.1f} s after its room came to a relay")
                        over["lapsed", task, fence] += 1
                    case TaskCompleted(task=task, fence=fence):
                        over["over", task, fence] += 1
            if twice := [what for what, many in over.items() if many > 1]:
                raise Broken(f"{twice} happened twice in one room")

    # -- what is left --------------------------------------------------------------------------------------

    @property
    def links(self) -> list[Links]:
        """The links of the relays that run."""
        return [node.wires.links for node in self.nodes if node.wires.links is not None]

    @property
    def together(self) -> list[Together]:
        """The parts of the relays that run."""
        return [node.together for node in self.nodes if node.together is not None]

    @property
    def lanes(self) -> int:
        """How many daemons are at a relay by way of another."""
        return sum(each.served.lanes for each in self.together)

    @property
    def pending(self) -> int:
        """Bytes that wait to be sent from one relay to another."""
        return sum(each.peers.pending for each in self.together)

    @property
    def is_whole(self) -> bool:
        """Whether every relay runs, sees the others, and has what falls to it."""
        return len(self.together) == COUNT and all(
            each.is_whole
            and len(each.holding.living) == COUNT
            and sum(other.holding.shards for other in self.together) == SHARDS
            for each in self.together
        )


class _Dialer:
    """How one relay comes to the others."""

    def __init__(self, relays: Relays, node: Node) -> None:
        self._relays = relays
        self._node = node

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[TimedStream]:
        relays, here = self._relays, self._node
        there = next(node for node in relays.nodes if node.inner == address)
        label = f"{here.name} to {there.name}"
        async with relays.weather.way(label, here.wires, there.wires, kind=NEAR) as way:
            if (
                frozenset({here.name, there.name}) in relays.cut
                or there.together is None
                or there.wires.nursery is None
            ):
                raise ParlerError("home_unreachable")
            there.wires.nursery.start_soon(there.together.served.serve, way.theirs, Anybody())
            yield way.ours
