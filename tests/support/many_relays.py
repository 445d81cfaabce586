"""Several relays of one home in one trio run, over one store in memory, and daemons at any of them.

`cluster.relay()` makes a relay, `start` runs it, `stop` drains it, and `kill` ends it as a crash does: nothing is said
to anybody, and nothing more is stored. What lies between relays is in memory and can be cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.shards import shares
from parlerd.engine.driver import InlineDriver, Job, Settle
from parlerd.engine.engine import Engine, open_engine
from parlerd.engine.ports import NoSigners
from parlerd.engine.shelf import InlineBlobs
from parlerd.settings import Settings
from parlerd.store.memory import MemoryStore
from parlerd.store.memory_counts import MemoryCounts
from parlerd.store.memory_relays import MemoryRelays
from parlerd.store.port import JobOutcome
from parlerd.store.relays import DEAD_AFTER_S, Row, SharedOut
from relay.beats import BEAT_S, DECIDES_S
from relay.counting import Aside, Counting
from relay.holding import Holding
from relay.link import OFFERED, Links
from relay.newest import Newest
from relay.peers import Self
from relay.together import Together
from relay.turnstile import Anybody
from tests.support.engine import SteppedClock
from tests.support.memory_blobs import MemoryBlobs
from tests.support.message_streams import MemoryStream, pair
from tests.support.relayed import CERTIFICATE, Book, Home, NamedRandomness, Relay, RelayKeys, Wires

DEAD_S = DEAD_AFTER_S + 5.0
"""After so long every shard of a relay that died is another's, and links lead there."""


class NodeDriver(InlineDriver):
    """Takes nothing more once the relay is dead."""

    def __init__(self, store: MemoryStore, may_write: Callable[[], bool], refused: list[str]) -> None:
        super().__init__(store)
        self._may_write = may_write
        self._refused = refused

    def hand_over(self, job: Job, settled: Settle) -> None:
        if not self._may_write():
            raise StoreError("store_unreachable")

        def noted(outcome: JobOutcome | None, error: BaseException | None) -> None:
            if isinstance(error, ParlerError):
                self._refused.append(error.code)
            settled(outcome, error)

        super().hand_over(job, noted)


async def _at_once(work: Callable[[], object]) -> object:
    await trio.lowlevel.checkpoint()
    return work()


@dataclass(eq=False)
class Node:
    """One relay: where it is, and its parts while it runs."""

    name: str
    row: Row
    shared: SharedOut
    """How it asks who has which shard."""
    wires: Wires = field(default_factory=Wires)
    """What leads daemons to it."""
    together: Together = field(init=False)
    engine: Engine = field(init=False)
    is_running: bool = False
    is_dead: bool = False
    """Whether it was killed."""
    is_mute: bool = False
    """Whether it cannot beat."""
    is_sure: bool = False
    """Whether it decides all the same."""
    refused: list[str] = field(default_factory=list)
    """The codes with which the store refused what it decided."""
    epochs: list[str] = field(default_factory=list)
    """The epochs that it was told."""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    stopping: trio.Event = field(default_factory=trio.Event)
    stopped: trio.Event = field(default_factory=trio.Event)
    streams: list[MemoryStream] = field(default_factory=list)
    """Its ends of links to and from other relays."""
    aside: Aside = _at_once
    """How it asks what is counted for all relays."""
    cut_from: set[str] = field(default_factory=set)
    """The relays that it does not reach."""

    def __post_init__(self) -> None:
        self.first = self.row
        """Its row as it began."""

    @property
    def holding(self) -> Holding:
        return self.together.holding


class Cluster:
    """The relays, their store, and the homes of people."""

    def __init__(self, folder: Path, nursery: trio.Nursery) -> None:
        self.folder = folder
        self._nursery = nursery
        self.store = MemoryStore()
        self.relays = MemoryRelays(trio.current_time)
        self.store.holds = self.relays.holds
        self.counts = MemoryCounts(trio.current_time)
        self.blobs = MemoryBlobs()
        self.keys = RelayKeys()
        self.clock = SteppedClock()
        self.book = Book()
        self.settings = Settings()
        self.nodes: list[Node] = []

    def relay(self) -> Node:
        """One more relay, which does not run yet."""
        number = len(self.nodes) + 1
        row = Row(f"relay{number}", f"i{number}", f"198.51.100.{number}:7777", "1.0", f"10.0.0.{number}:7778")
        node = Node(row.relay, row, self.relays)
        self.nodes.append(node)
        return node

    def again(self, node: Node) -> Node:
        """A new process of a relay that ended."""
        count = sum(each.row.relay == node.row.relay for each in self.nodes)
        row = msgspec.structs.replace(node.first, incarnation=f"{node.first.incarnation} {count}")
        found = Node(node.name, row, self.relays)
        self.nodes.append(found)
        return found

    def home(self, name: str, node: Node) -> Home:
        """A person's home, whose daemon dials this relay."""
        roads = _Roads(self, node)
        relay = Relay(roads, store=self.store, keys=self.keys, clock=self.clock, book=self.book)
        return Home(name, relay, self.folder)

    async def start(self, node: Node) -> None:
        """Run a relay, until it is stopped or killed."""
        await self._nursery.start(self._run, node)

    async def stop(self, node: Node) -> None:
        """Drain a relay and end it."""
        node.stopping.set()
        await node.stopped.wait()

    async def _run(self, node: Node, *, task_status: trio.TaskStatus[None]) -> None:
        async with self._running(node):
            task_status.started()
            await node.stopping.wait()
        node.stopped.set()

    @asynccontextmanager
    async def _running(self, node: Node) -> AsyncIterator[Node]:
        """Run a relay until the block ends. Then it is drained, unless it was killed."""

        def may_decide() -> bool:
            return not node.is_dead and (node.is_sure or trio.current_time() - beaten < DECIDES_S)

        beaten = trio.current_time()

        async def beat() -> None:
            nonlocal beaten
            while True:
                await trio.sleep(BEAT_S)
                if not node.is_mute:
                    self.relays.beat(node.row)
                    beaten = trio.current_time()

        self.relays.join(node.row)
        holding = Holding(node.shared, node.row, may_decide=may_decide, aside=_at_once)
        async with (
            open_engine(
                driver=NodeDriver(self.store, may_decide, node.refused),
                blobs=InlineBlobs(self.blobs),
                clock=self.clock,
                random=NamedRandomness(node.name),
                keys=self.keys,
                signers=NoSigners(),
                settings=self.settings,
                user="relay",
                voice=self.keys,
                owns=holding,
                counts=(counting := Counting(self.counts, node.aside)),
            ) as engine,
            trio.open_nursery() as nursery,
        ):
            node.engine = engine
            drawn = NamedRandomness(f"{node.name} own").bytes
            own = Self(self.keys, node.row.relay, node.row.incarnation, random_bytes=drawn)
            together = node.together = Together(
                engine,
                holding,
                own,
                _Dialer(self, node),
                OFFERED,
                Newest(counting),
                superseded=lambda caller: links.supersede(caller),
                gone=lambda principal: links.end(principal),
                epoch=node.epochs.append,
                cut_off=lambda is_so: links.cut_off(is_so),
            )
            links = node.wires.links = Links(
                together.routing,
                self.book,
                self.keys,
                name="team",
                log_id="log1",
                now=self.clock.now,
                addresses=lambda: [node.row.address, *together.addresses()],
                keep_up=together.take_in,
                random_bytes=NamedRandomness(f"{node.name} links").bytes,
            )
            node.wires.nursery, node.is_running = nursery, True
            with node.scope:
                async with trio.open_nursery() as parts:
                    parts.start_soon(beat)
                    parts.start_soon(engine.count_kept)
                    parts.start_soon(engine.share_kept)
                    await parts.start(together.run)
                    try:
                        yield node
                        if not node.is_dead:
                            with trio.CancelScope(shield=True):
                                node.row = msgspec.structs.replace(node.row, inner="")
                                await holding.drain()
                                await links.send_away(10.0)
                                await links.drain(1.0)
                                await together.served.drain()
                                self.relays.leave(node.row)
                    finally:
                        parts.cancel_scope.cancel()
            node.is_running, node.wires.links, node.wires.nursery = False, None, None
            nursery.cancel_scope.cancel()

    def kill(self, node: Node) -> None:
        """The relay's process is gone, and so are its connections."""
        node.is_dead = True
        node.is_running = False
        node.wires.links = None
        for ours, _ in list(node.wires.open):
            ours.cut()
        for stream in list(node.streams):
            stream.cut()
        node.scope.cancel()

    def newest(self, node: Node) -> Node:
        """The newest process of a relay."""
        return [each for each in self.nodes if each.name == node.name][-1]

    async def settled(self) -> None:
        """Wait until every running relay sees the same ones, and every shard has one of them."""
        for _ in range(200):
            running = [node for node in self.nodes if node.is_running]
            names = sorted(node.name for node in running)
            parts = Counter(shares(names).values())
            if all(
                node.together.is_whole
                and sorted(row.relay for row in node.holding.living) == names
                and sum(other.holding.shards for other in running) == 1024
                and node.holding.shards == node.holding.shards_of(node.name) == parts.get(node.name, 0)
                for node in running
            ):
                return
            await trio.sleep(0.1)
        raise AssertionError("the relays did not come to share the rooms out")


class _Roads(Wires):
    """How a daemon comes to relays: to its own one by the address that it was given, to the others by theirs."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        super().__init__()
        self._cluster = cluster
        self._node = node

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        self.addresses.append(address)
        if self.is_cut:
            raise ParlerError("home_unreachable")
        found = [each for each in self._cluster.nodes if address.removeprefix("wss://") == each.row.address]
        node = found[-1] if found else self._cluster.newest(self._node)
        async with node.wires.dial(address, home) as stream:
            yield stream


class _Dialer:
    """How one relay comes to the others."""

    def __init__(self, cluster: Cluster, node: Node) -> None:
        self._cluster = cluster
        self._node = node

    @asynccontextmanager
    async def dial(self, address: str) -> AsyncIterator[MemoryStream]:
        await trio.lowlevel.checkpoint()
        node = [each for each in self._cluster.nodes if each.first.inner == address][-1]
        if not node.is_running or node.name in self._node.cut_from or node.wires.nursery is None:
            raise ParlerError("home_unreachable")
        ours, theirs = pair(CERTIFICATE)
        node.streams.append(theirs)
        self._node.streams.append(ours)
        node.wires.nursery.start_soon(node.together.served.serve, theirs, Anybody())
        try:
            yield ours
        finally:
            node.streams.remove(theirs)
            self._node.streams.remove(ours)
            with trio.CancelScope(shield=True):
                await ours.close()


@asynccontextmanager
async def cluster_in(folder: Path) -> AsyncIterator[Cluster]:
    """A cluster without a relay yet. What still runs in the end is ended."""
    async with trio.open_nursery() as nursery:
        yield Cluster(folder, nursery)
        nursery.cancel_scope.cancel()
