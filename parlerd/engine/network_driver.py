"""How the engine drives a store that is reached over a network: nothing of it runs on the loop.

    commits      one thread; all that waits while a commit is under way becomes the next transaction
    questions    four threads, a connection each; a question is answered a round trip later

A commit that takes its time keeps no question waiting, and the other way round. Everything that waits has a bound;
beyond it a caller hears `store_busy` and may come again. Not here: connections, and how long a statement may take (the
store). Above: the rooms' actors and `library`, which know from `is_at_hand` that there is a round trip. Below: `worker`
and `pool`, a store (`store.port`). Invariants: jobs are committed in the order in which they were handed over; of one
room at most one transaction is under way, because there is one writer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import trio

from parlerd.core.errors import StoreError
from parlerd.engine.driver import Job, Settle, commit_batch
from parlerd.engine.pool import Pool
from parlerd.engine.worker import Awaited, Errand, Told, Worker, tell
from parlerd.store.port import Append, JobOutcome, PutSnapshot, Store

T = TypeVar("T")

READERS: Final = 4
"""Threads that ask questions. Source: spec, five connections a relay."""
MOST_QUESTIONS: Final = 4_096
"""Questions that wait; at 1 ms a round trip the last of them is answered after a second."""
MOST_WAITING: Final = 64 * 2**20
"""Bytes of jobs that were handed over and are not settled, by `_weight_of`."""
MOST_AT_ONCE: Final = 4 * 2**20
"""Bytes of jobs in one transaction, by `_weight_of`: some 1,000 short messages, which take a server about 50 ms."""
JOB_WEIGHT: Final = 4 * 2**10
"""Bytes that a job counts beside its texts: its headers, index rows and marks."""


def always() -> bool:
    """For a store that nobody else decides over."""
    return True


class NetworkDriver:
    """Drives a store over a network, as `driver.Driver` says. Make it inside the trio run that uses it. While
    `may_write` says no, what is handed over is refused with `store_unreachable`, and so is what waits: whoever cannot
    tell the others that it lives must not decide. `may_write` is asked in the writer's thread as well."""

    def __init__(self, store: Store, *, may_write: Callable[[], bool] = always) -> None:
        self._store = store
        self._may_write = may_write
        self._weight = 0
        """Of the jobs that were handed over and are not settled."""
        self._closing = False
        """Whether nothing more is taken."""
        self._writer = Worker("parler-writer", self._commit, done=self._landed, most=MOST_AT_ONCE, weigh=_weight_of)
        self._readers = Pool("parler-reader", self._answer, threads=READERS, most=MOST_QUESTIONS)

    @property
    def kind(self) -> str:
        return type(self._store).__name__

    @property
    def is_at_hand(self) -> bool:
        return False

    @property
    def waiting(self) -> int:
        """Bytes of jobs that were handed over and are not settled."""
        return self._weight

    async def commit(self, job: Job) -> JobOutcome:
        awaited = Awaited()
        self.hand_over(job, awaited.hear)
        outcome: JobOutcome = await awaited.get()
        return outcome

    def hand_over(self, job: Job, settled: Settle) -> None:
        if self._closing:
            raise StoreError("draining")
        if not self._may_write():
            raise StoreError("store_unreachable")
        errand = Errand(job, settled)
        weight = _weight_of(errand)
        # A job that is larger than the bound is taken when nothing else waits.
        if self._weight and self._weight + weight > MOST_WAITING:
            raise StoreError("store_busy")
        self._weight += weight
        self._writer.submit(errand)

    def ask(self, query: Callable[[Store], T], told: Told) -> None:
        self._submit(Errand(query, told), is_long=False)

    async def look(self, query: Callable[[Store], T]) -> T:
        awaited = Awaited()
        self.ask(query, awaited.hear)
        value: T = await awaited.get()
        return value

    async def read(self, query: Callable[[Store], T]) -> T:
        awaited = Awaited()
        self._submit(Errand(query, awaited.hear), is_long=True)
        value: T = await awaited.get()
        return value

    async def close(self) -> None:
        """Finish what waits, end the threads, close the store."""
        self._closing = True
        await self._readers.close()
        await self._writer.close()
        await trio.to_thread.run_sync(self._store.close)

    # -- on the loop ---------------------------------------------------------------------------------------

    def _submit(self, errand: Errand, *, is_long: bool) -> None:
        try:
            self._readers.submit(errand, is_long=is_long)
        except StoreError as error:
            # Whoever asks hears so as everything else: later, and on the loop.
            errand.error = error
            with suppress(trio.RunFinishedError):
                trio.lowlevel.current_trio_token().run_sync_soon(errand.tell)

    def _landed(self, batch: list[Errand]) -> None:
        for errand in batch:
            self._weight -= _weight_of(errand)
        tell(batch)

    # -- in the threads ------------------------------------------------------------------------------------

    def _commit(self, batch: list[Errand]) -> None:
        # What was handed over in time may have waited behind a commit for so long that others decide by now.
        if not self._may_write():
            for errand in batch:
                errand.error = StoreError("store_unreachable")
            return
        commit_batch(self._store.transact, batch)

    def _answer(self, errand: Errand) -> None:
        try:
            errand.answer = errand.asked(self._store)
        except Exception as error:
            errand.error = error


def _weight_of(errand: Errand) -> int:
    """About how many bytes a job brings."""
    job: Job = errand.asked
    weight = JOB_WEIGHT
    for write in job:
        if isinstance(write, Append):
            weight += sum(len(fact.body or b"") for fact in write.facts)
        elif isinstance(write, PutSnapshot):
            weight += len(write.data)
    return weight
