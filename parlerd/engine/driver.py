"""How the engine drives a synchronous store: group commit on the loop or in a thread, one reader thread for pages.

What rooms hand over in one turn of the loop becomes one transaction (one fsync), so durability costs a batch and not a
message. A few facts are committed on the loop itself, at the turn's end: there and back through a thread costs a
quarter of what an agent waits for. More, and anything while the disk is slow or someone else is writing, goes to one
writer thread, which takes all that waits when it is free, and the loop goes on meanwhile; what is handed over while the
thread is at work follows it there, so that jobs stay in order. Hopping through `trio.to_thread` would cost 122 us a
call and not batch (measured). Point reads (an idempotency key, an id) run on the loop: 10 to 20 us against a 100 us
hop. Pages and folds, which may touch a cold disk, never do.

`InlineDriver` is the same face without threads, for tests under virtual time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol, TypeVar

import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.store.port import Append, Outcome, PutSnapshot, Store, Write

LIGHT_FACTS: Final = 8
"""Facts that are committed on the loop. Deciding and signing more costs the loop as much as the thread's hop saves."""
LIGHT_BYTES: Final = 64 * 1024
"""Bytes of bodies that are."""
QUICK_S: Final = 0.002
"""Seconds that a light commit may take and still be done on the loop: what others then wait for it. A slower one is
remembered with a tenth less at each light commit after it."""
_FADES: Final = 0.9

T = TypeVar("T")
Job = Sequence[Write]
Settle = Callable[[Outcome | None, BaseException | None], None]
"""What became of a job: its outcome, or why it did not happen."""


class Driver(Protocol):
    """The store, from the loop's side."""

    @property
    def store(self) -> Store:
        """For point reads only."""
        ...

    async def commit(self, job: Job) -> Outcome:
        """Commit a job durably, together with whatever else waits. Raises `StoreError`; then nothing of it happened."""
        ...

    def hand_over(self, job: Job, settled: Settle) -> None:
        """`commit` without a task that waits: `settled` is called on the loop once it is known what became of the job,
        never before this returns, and must not raise. Raises `StoreError(draining)` once the driver is closing."""
        ...

    async def read(self, query: Callable[[Store], T]) -> T:
        """Run a query that may be long, away from the loop."""
        ...

    async def close(self) -> None: ...


class _Promise:
    """One answer that crosses from a thread to the loop. What was handed over happens, whether or not anybody still
    waits for it."""

    __slots__ = ("_settle", "error", "value")

    def __init__(self, settle: Callable[[Any, BaseException | None], None]) -> None:
        self._settle = settle
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        self._settle(self.value, self.error)


_Handed = tuple[Any, _Promise]
_Batch = list[_Handed]


def _settle(batch: _Batch) -> None:
    for _, promise in batch:
        promise.settle()


class _Waited:
    """A promise's answer, for a task."""

    __slots__ = ("_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = trio.Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()

    async def get(self) -> Any:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value


class _Worker:
    """A thread that takes everything that waits, runs it as one batch, wakes the loop once to `settle` all of it, and
    then does what can be done `afterwards`."""

    def __init__(
        self,
        name: str,
        run: Callable[[_Batch], None],
        *,
        settle: Callable[[_Batch], None] = _settle,
        afterwards: Callable[[], None] = lambda: None,
    ) -> None:
        self._run = run
        self._settle = settle
        self._afterwards = afterwards
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: SimpleQueue[_Handed | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, handed: _Handed) -> None:
        if self._closing:
            raise StoreError("draining")
        self._waiting.put(handed)

    def nudge(self) -> None:
        """There may be something to do afterwards."""
        self._waiting.put(None)

    def _loop(self) -> None:
        while not self._closing or not self._waiting.empty():
            if batch := self._take():
                self._run(batch)
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._settle, batch)
            self._afterwards()

    def _take(self) -> _Batch:
        """Everything that waits, once there is something."""
        taken = [self._waiting.get()]
        with suppress(Empty):
            while True:
                taken.append(self._waiting.get_nowait())
        return [handed for handed in taken if handed is not None]

    async def close(self) -> None:
        """Run what waits, then end the thread."""
        self._closing = True
        self.nudge()
        await trio.to_thread.run_sync(self._thread.join)


def _commit(store: Store, batch: _Batch, *, patient: bool = True) -> None:
    """One transaction for the whole batch; a failure of the commit is everyone's, a refused job only its own."""
    try:
        settled = list(zip(batch, store.transact([job for job, _ in batch], patient=patient), strict=True))
    except Exception as error:
        for _, promise in batch:
            promise.error = _coded(error)
        return
    for (_, promise), outcome in settled:
        promise.value, promise.error = outcome, outcome.error


def _is_light(batch: _Batch) -> bool:
    facts, size = 0, 0
    for job, _ in batch:
        for write in job:
            if isinstance(write, PutSnapshot):
                return False
            if isinstance(write, Append):
                facts += len(write.facts)
                size += sum(len(fact.body or b"") for fact in write.facts)
    return facts <= LIGHT_FACTS and size <= LIGHT_BYTES


def _is_locked(batch: _Batch) -> bool:
    """Whether the whole batch failed because someone else was writing."""
    return all(isinstance(promise.error, StoreError) and promise.error.code == "store_locked" for _, promise in batch)


def _coded(error: Exception) -> ParlerError:
    if isinstance(error, ParlerError):
        return error
    wrapped = StoreError("store_failed")
    wrapped.__cause__ = error
    return wrapped


class _Committing:
    """`commit` by way of `hand_over`."""

    def hand_over(self, job: Job, settled: Settle) -> None:
        raise NotImplementedError

    async def commit(self, job: Job) -> Outcome:
        waited = _Waited()
        self.hand_over(job, waited.settle)
        outcome: Outcome = await waited.get()
        return outcome


class ThreadDriver(_Committing):
    """The real driver. Make it inside the trio run that uses it. `clock` gives seconds."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self.store = store
        self._clock = clock
        self._slowest = 0.0
        self._closing = False
        self._at_thread = 0
        self._turn: _Batch = []
        self._parked: trio.lowlevel.Task | None = None
        self._ended = trio.Event()
        self._writer = _Worker("parler-writer", self._commit_there, settle=self._landed, afterwards=self._checkpoint)
        self._reader = _Worker("parler-reader", self._run_queries)
        trio.lowlevel.spawn_system_task(self._commit_turns, name="parler-commits")

    def hand_over(self, job: Job, settled: Settle) -> None:
        if self._closing:
            raise StoreError("draining")
        handed = (job, _Promise(settled))
        if self._at_thread:
            self._to_thread([handed])
        else:
            self._turn.append(handed)
            self._unpark()

    # -- on the loop ---------------------------------------------------------------------------------------

    async def _commit_turns(self) -> None:
        """Commit what each turn of the loop brings: here if that is quick, or else in the thread."""
        while self._turn or not self._closing:
            if not self._turn:
                await self._park()
                continue
            batch, self._turn = self._turn, []
            if self._slowest > QUICK_S or not _is_light(batch):
                self._to_thread(batch)
                continue
            self._commit(batch, patient=False, light=True)
            if _is_locked(batch):
                self._to_thread(batch)
                continue
            _settle(batch)
            if self.store.checkpoint_due:
                self._writer.nudge()
        self._ended.set()

    async def _park(self) -> None:
        """Wait for `_unpark`. Without an event: this is on the way of every message."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self._parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self._parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _unpark(self) -> None:
        parked, self._parked = self._parked, None
        if parked is not None:
            trio.lowlevel.reschedule(parked)

    def _to_thread(self, batch: _Batch) -> None:
        self._at_thread += len(batch)
        for handed in batch:
            self._writer.submit(handed)

    def _landed(self, batch: _Batch) -> None:
        self._at_thread -= len(batch)
        _settle(batch)

    async def read(self, query: Callable[[Store], T]) -> T:
        waited = _Waited()
        self._reader.submit((query, _Promise(waited.settle)))
        value: T = await waited.get()
        return value

    async def close(self) -> None:
        """Finish what waits, end both threads, close the store."""
        self._closing = True
        self._unpark()
        await self._ended.wait()
        await self._reader.close()
        await self._writer.close()
        self.store.close()

    # -- here or there -------------------------------------------------------------------------------------

    def _commit(self, batch: _Batch, *, patient: bool, light: bool) -> None:
        begun = self._clock()
        _commit(self.store, batch, patient=patient)
        if light:
            self._slowest = max(self._clock() - begun, self._slowest * _FADES)

    # -- in the threads ------------------------------------------------------------------------------------

    def _commit_there(self, batch: _Batch) -> None:
        self._commit(batch, patient=True, light=_is_light(batch))

    def _checkpoint(self) -> None:
        if self.store.checkpoint_due:
            self.store.checkpoint()

    def _run_queries(self, batch: _Batch) -> None:
        for query, promise in batch:
            try:
                promise.value = query(self.store)
            except Exception as error:
                promise.error = error


class InlineDriver(_Committing):
    """The same answers on the loop, one checkpoint each: virtual time does not see threads."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def hand_over(self, job: Job, settled: Settle) -> None:
        trio.lowlevel.current_trio_token().run_sync_soon(self._commit, job, settled)

    def _commit(self, job: Job, settled: Settle) -> None:
        promise = _Promise(settled)
        _commit(self.store, [(job, promise)])
        promise.settle()

    async def read(self, query: Callable[[Store], T]) -> T:
        await trio.lowlevel.checkpoint()
        return query(self.store)

    async def close(self) -> None:
        await trio.lowlevel.checkpoint()
        self.store.close()
