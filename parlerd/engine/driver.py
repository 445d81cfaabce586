"""How the engine drives a store: commits that are grouped, point reads at once, long reads away from the event loop.

All that waits for the writer becomes one transaction (one flush of the disk), so durability costs a batch and not a
message. Above: the rooms' actors, which hand jobs over, and `library`, through which handlers ask. Below: a store
(`store.port`), and where its work runs: `worker` (a thread) and `turns` (the loop itself). Invariant: jobs are
committed in the order in which they were handed over.

`ThreadDriver` drives a store in a file of this machine; `network_driver` has the one for a store over a network.
`InlineDriver` is the same face without threads, for tests under virtual time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.engine.turns import LightCommits, Turns, is_light
from parlerd.engine.worker import Awaited, Errand, Told, Worker, tell
from parlerd.store.port import FileStore, JobOutcome, Store, Write

T = TypeVar("T")
Job = Sequence[Write]
Settle = Callable[[JobOutcome | None, BaseException | None], None]
"""Hears what became of a job: its outcome, or why it did not happen; both, where that is not known."""


class Driver(Protocol):
    """The store, from the loop's side."""

    @property
    def kind(self) -> str:
        """Which store it is, for a person."""
        ...

    @property
    def is_at_hand(self) -> bool:
        """Whether `ask` and `look` answer in the call, because the store is on this machine."""
        ...

    async def commit(self, job: Job) -> JobOutcome:
        """Commit a job durably, together with whatever else waits. Raises `StoreError`; then nothing of it happened,
        unless the code is `store_unknown`."""
        ...

    def hand_over(self, job: Job, settled: Settle) -> None:
        """`commit` without a task that waits: `settled` is called on the loop once it is known what became of the job,
        never before this returns, and must not raise. Raises `StoreError(draining)` once the driver is closing."""
        ...

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        """`look` without a task that waits. `told` is called once, with the answer or the error, and must not raise: at
        once, before this returns, where the store is at hand; else on the loop, after a round trip."""
        ...

    async def look(self, query: Callable[[Store], T]) -> T:
        """Run a query that reads a few rows by their keys. Other tasks get the loop only where the store is not at
        hand, and then everything may have changed when the answer is here."""
        ...

    async def read(self, query: Callable[[Store], T]) -> T:
        """Run a query that may be long, away from the loop."""
        ...

    async def close(self) -> None: ...


class _AtHand:
    """What is alike for every store on this machine: point reads run where they are asked for (10 to 20 us, against
    100 us through a thread), and `commit` is `hand_over` with a task that waits."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def kind(self) -> str:
        return type(self._store).__name__

    @property
    def is_at_hand(self) -> bool:
        return True

    def hand_over(self, job: Job, settled: Settle) -> None:
        raise NotImplementedError

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        try:
            answer = query(self._store)
        except Exception as error:
            told(None, error)
        else:
            told(answer, None)

    async def look(self, query: Callable[[Store], T]) -> T:
        return query(self._store)

    async def commit(self, job: Job) -> JobOutcome:
        awaited = Awaited()
        self.hand_over(job, awaited.hear)
        outcome: JobOutcome = await awaited.get()
        return outcome


class ThreadDriver(_AtHand):
    """Drives a store in a file. Make it inside the trio run that uses it. `clock` gives seconds.

    What one turn of the loop brings is committed at the turn's end: on the loop where that is quick, and else in the
    writer's thread. What is handed over while the thread is at work follows it there, so that jobs stay in order.
    Pages and folds, which may touch a cold disk, run in the reader's thread.
    """

    def __init__(self, store: FileStore, *, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(store)
        self._file = store
        self._clock = clock
        self._light = LightCommits()
        self._closing = False
        """Whether nothing more is taken."""
        self._at_thread = 0
        """Jobs that the writer's thread was given and has not answered."""
        self._turns = Turns(self._serve_turn)
        self._writer = Worker("parler-writer", self._commit_there, done=self._landed, afterwards=self._checkpoint)
        self._reader = Worker("parler-reader", self._run_queries)

    def hand_over(self, job: Job, settled: Settle) -> None:
        if self._closing:
            raise StoreError("draining")
        errand = Errand(job, settled)
        if self._at_thread:
            self._to_thread([errand])
        else:
            self._turns.add(errand)

    async def read(self, query: Callable[[Store], T]) -> T:
        awaited = Awaited()
        self._reader.submit(Errand(query, awaited.hear))
        value: T = await awaited.get()
        return value

    async def close(self) -> None:
        """Finish what waits, end both threads, close the store."""
        self._closing = True
        await self._turns.close()
        await self._reader.close()
        await self._writer.close()
        self._store.close()

    # -- on the loop ---------------------------------------------------------------------------------------

    def _serve_turn(self, turn: list[Errand]) -> None:
        if not self._light.takes(_jobs(turn)):
            self._to_thread(turn)
            return
        begun = self._clock()
        commit_batch(self._file.transact_at_once, turn)
        self._light.took(self._clock() - begun)
        if _is_locked(turn):
            # Another program is writing. The thread can wait for it; the loop cannot.
            self._to_thread(turn)
            return
        tell(turn)
        if self._file.checkpoint_due:
            self._writer.nudge()

    def _to_thread(self, batch: list[Errand]) -> None:
        self._at_thread += len(batch)
        for errand in batch:
            self._writer.submit(errand)

    def _landed(self, batch: list[Errand]) -> None:
        self._at_thread -= len(batch)
        tell(batch)

    # -- in the threads ------------------------------------------------------------------------------------

    def _commit_there(self, batch: list[Errand]) -> None:
        begun = self._clock()
        commit_batch(self._store.transact, batch)
        took = self._clock() - begun
        if is_light(_jobs(batch)):
            self._light.took(took)

    def _checkpoint(self) -> None:
        if self._file.checkpoint_due:
            self._file.checkpoint()

    def _run_queries(self, batch: list[Errand]) -> None:
        for errand in batch:
            try:
                errand.answer = errand.asked(self._store)
            except Exception as error:
                errand.error = error


class InlineDriver(_AtHand):
    """The same answers on the loop, one checkpoint each: virtual time does not see threads."""

    def hand_over(self, job: Job, settled: Settle) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._commit, Errand(job, settled))

    def _commit(self, errand: Errand) -> None:
        commit_batch(self._store.transact, [errand])
        errand.tell()

    async def read(self, query: Callable[[Store], T]) -> T:
        await trio.lowlevel.checkpoint()
        return query(self._store)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self._store.close()


def commit_batch(transact: Callable[[Sequence[Job]], list[JobOutcome]], batch: list[Errand]) -> None:
    """One transaction for the whole batch; a failure of the commit is everyone's, a refused job only its own."""
    try:
        settled = list(zip(batch, transact(_jobs(batch)), strict=True))
    except Exception as error:
        for errand in batch:
            errand.error = _coded(error)
        return
    for errand, outcome in settled:
        errand.answer, errand.error = outcome, outcome.error


def _jobs(batch: list[Errand]) -> list[Job]:
    return [errand.asked for errand in batch]


def _is_locked(batch: list[Errand]) -> bool:
    """Whether the whole batch failed because someone else was writing."""
    return all(isinstance(errand.error, StoreError) and errand.error.code == "store_locked" for errand in batch)


def _coded(error: Exception) -> ParlerError:
    if isinstance(error, ParlerError):
        return error
    wrapped = StoreError("store_failed")
    wrapped.__cause__ = error
    return wrapped
