"""A store over a network, as several relays of one story share it: it commits late, answers late, and forgets answers.

    a relay's jobs --its line--> one transaction after another --> a store in memory --later--> what became of each

Now and then an answer is lost: the relay then hears `store_unknown`, whether the transaction happened, never will, or
happens a moment later. A line may be cut, and whoever stands still hears what was answered when it goes on. Above:
`relays`. Below: `MemoryStore`, `MemoryRelays`. Invariant: nothing is promised here that a server does not promise.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Final, TypeVar

import trio

from parlerd.core.errors import StoreError
from parlerd.core.model import AgentId, Position, RoomId
from parlerd.engine.driver import Job, Settle, commit_batch
from parlerd.engine.worker import Awaited, Errand, Told
from parlerd.store.memory import MemoryStore
from parlerd.store.memory_relays import MemoryRelays
from parlerd.store.port import Append, Head, JobOutcome, Store
from parlerd.store.relays import DEAD_AFTER_S, Tenure
from tests.support.engine import PlugDriver

T = TypeVar("T")

TRIPS_S: Final = (0.001, 0.001, 0.01, 0.05, 0.3)
LONG_TRIP_S: Final = 3.0
"""What the way to the store takes, one way, in a storm; and now and then."""
CALM_TRIP_S: Final = 0.001
PATIENCE_S: Final = 3.0
"""After so long without the server a relay gives up."""
GRACE_S: Final = 30.0
"""So long after its room came to another relay no claim ends. Source: scale spec, Who owns what."""
FORGOTTEN: Final = 0.05
"""How many of the transactions lose their answer in a storm."""


class SharedStore(MemoryStore):
    """The tables, which begin as those of another store. What should not happen to them is in `wrong`."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        vars(self).update(vars(store))
        self.wrong: list[str] = []
        self.late: dict[RoomId, Head] = {}
        """Where logs were left last by what happened after its answer had been lost."""
        self.under_way: Counter[tuple[str, RoomId]] = Counter()
        """The transactions of each relay's process in a room that it handed over and has no answer to."""

    def _advance(self, room: RoomId, reader: AgentId, delivered: Position, acknowledged: Position) -> None:
        before = self.cursor(room, reader)
        super()._advance(room, reader, delivered, acknowledged)
        after = self.cursor(room, reader)
        if after.delivered < before.delivered or after.acknowledged < before.acknowledged:
            self.wrong.append(f"the cursor of {reader} went back from {before} to {after}")


class Shares(MemoryRelays):
    """Who has which shard, and when each came to another relay."""

    def __init__(self) -> None:
        super().__init__(trio.current_time)
        self.moved: list[tuple[float, int]] = []
        """When, on the loop's clock, and which."""

    def _set(self, shards: list[int], relay: str, incarnation: str) -> list[Tenure]:
        self.moved += [(trio.current_time(), shard) for shard in shards if relay]
        return super()._set(shards, relay, incarnation)


class Line:
    """The way of one process of a relay to the store."""

    def __init__(self, random: Random, is_calm: Callable[[], bool], counts: Counter[str]) -> None:
        self.random = random
        self._is_calm = is_calm
        self.counts = counts
        self.is_patient = True
        """Whether it waits for as long as the store is away. A relay that begins does."""
        self.is_cut = False
        """Whether nothing gets through."""
        self._back = trio.Event()
        self.still_until = 0.0
        """Until when the process stands still, on the loop's clock."""
        self.is_over = False
        """Whether the process is dead."""

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong with it."""
        return self._is_calm()

    async def travel(self) -> None:
        """One way. Raises `StoreError(store_unreachable)`."""
        calm = self._is_calm()
        await trio.sleep(
            CALM_TRIP_S if calm else LONG_TRIP_S if self.random.random() < 0.01 else self.random.choice(TRIPS_S)
        )
        if self.still_until > trio.current_time():
            await trio.sleep_until(self.still_until)
        if self.is_cut:
            with trio.move_on_after(math.inf if self.is_patient else PATIENCE_S):
                await self._back.wait()
        if self.is_cut:
            raise StoreError("store_unreachable")

    def cut(self) -> None:
        """Let nothing through."""
        self.is_cut = True

    def mend(self) -> None:
        """Let everything through that waits."""
        self.is_cut = False
        back, self._back = self._back, trio.Event()
        back.set()

    async def ask(self, work: Callable[[], T]) -> T:
        """Ask the store something, and hear the answer as it was there."""
        await self.travel()
        if self.is_over:
            raise StoreError("store_unreachable")
        answer = work()
        await self.travel()
        return answer


class ServerDriver(PlugDriver):
    """How one process of a relay drives the store: see `engine.network_driver`, which this does without threads."""

    line: Line
    name = ""
    """Which process this is."""

    def __init__(self, store: Store, died: Callable[[], None] = lambda: None) -> None:
        super().__init__(store, died)
        assert isinstance(store, SharedStore)
        self._tables = store
        self._waiting: deque[Errand] = deque()
        self._written = trio.Event()
        self._written.set()
        self._closing = False
        self.may_write: Callable[[], bool] = lambda: True
        """Whether this relay may decide."""
        self.beaten: Callable[[], float] = trio.current_time
        """When its last beat was sent that was answered."""

    @property
    def is_at_hand(self) -> bool:
        return False

    # -- questions -----------------------------------------------------------------------------------------

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        async def travel() -> None:
            try:
                answer = await self.line.ask(lambda: query(self._store))
            except Exception as error:
                told(None, error)
            else:
                told(answer, None)

        trio.lowlevel.spawn_system_task(travel)

    async def look(self, query: Callable[[Store], T]) -> T:
        awaited = Awaited()
        self.ask(query, awaited.hear)
        value: T = await awaited.get()
        return value

    async def read(self, query: Callable[[Store], T]) -> T:
        return await self.look(query)

    async def close(self) -> None:
        self._closing = True
        await self._written.wait()

    # -- commits -------------------------------------------------------------------------------------------

    def hand_over(self, job: Job, settled: Settle) -> None:
        if self._closing:
            raise StoreError("draining")
        if not self.may_write():
            raise StoreError("store_unreachable")
        if trio.current_time() - self.beaten() >= DEAD_AFTER_S:
            self._tables.wrong.append(f"{self.name} decides although it is dead to the others")
        for room in _rooms_of(job):
            self._tables.under_way[self.name, room] += 1
            if self._tables.under_way[self.name, room] > 1:
                self._tables.wrong.append(f"two transactions of {room} were under way at once")
        self._waiting.append(Errand(job, settled))
        if self._written.is_set():
            self._written = trio.Event()
            trio.lowlevel.spawn_system_task(self._write)

    async def _write(self) -> None:
        while self._waiting:
            await trio.lowlevel.checkpoint()
            batch = list(self._waiting)
            self._waiting.clear()
            await self._commit_late(batch)
            for errand in batch:
                for room in _rooms_of(errand.asked):
                    self._tables.under_way[self.name, room] -= 1
                errand.tell()
        self._written.set()

    async def _commit_late(self, batch: list[Errand]) -> None:
        """One transaction: on its way, at the server, and its answer on its way back."""
        await trio.sleep(self.lag)
        try:
            await self.line.travel()
        except StoreError as error:
            _fail(batch, error)
            return
        if self.dead or self.is_full:
            _fail(batch, StoreError("store_failed"))
            return
        if self.cut is not None and self.commits >= self.cut[0]:
            self.dead = True
            if self.cut[1]:
                self._transact(batch)
            self._died()
            _fail(batch, StoreError("store_failed"))
            return
        self.commits += 1
        if not self.line.is_calm and self.line.random.random() < FORGOTTEN:
            self._forget(batch)
        else:
            self._transact(batch)
        try:
            await self.line.travel()
        except StoreError:
            self.line.counts["answers of the store lost"] += 1
            _unknown(batch)

    def _transact(self, batch: list[Errand]) -> None:
        commit_batch(self._store.transact, batch)

    def _forget(self, batch: list[Errand]) -> None:
        """The connection breaks in the commit."""
        self.line.counts["answers of the store lost"] += 1
        fate = self.line.random.random()
        if fate < 0.4:
            self._transact(batch)
        else:
            for errand, outcome in zip(batch, self._tables._rehearse([each.asked for each in batch]), strict=True):
                errand.answer, errand.error = outcome, outcome.error
            if fate < 0.7:
                jobs = [errand.asked for errand in batch if errand.error is None]
                trio.lowlevel.spawn_system_task(self._happen_later, jobs)
        _unknown(batch)

    async def _happen_later(self, jobs: list[Job]) -> None:
        await trio.sleep(self.line.random.choice((0.0005, 0.01, 0.2)))
        for outcome in self._store.transact(jobs):
            self._tables.late |= outcome.heads


def _rooms_of(job: Job) -> set[RoomId]:
    return {write.room for write in job if isinstance(write, Append)}


def _fail(batch: list[Errand], error: StoreError) -> None:
    for errand in batch:
        errand.answer, errand.error = None, error


def _unknown(batch: list[Errand]) -> None:
    """Nobody says what became of these, except of those that were refused."""
    for errand in batch:
        if errand.error is None:
            heads = errand.answer.heads
            errand.answer = JobOutcome(StoreError("store_unknown"), heads)
            errand.error = errand.answer.error
