"""Driving the store: group commit, errors that reach the right caller, an orderly end; the same for every driver,
those of tests too. And what the real one does on the loop, and what in its thread."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import Position, RoomId
from parlerd.engine.driver import Driver, InlineDriver, ThreadDriver
from parlerd.engine.network_driver import NetworkDriver
from parlerd.engine.turns import LIGHT_BYTES, LIGHT_FACTS
from parlerd.store.memory import MemoryStore
from parlerd.store.port import JobOutcome, MoveCursor, NewFact, PutSnapshot, Write, has_happened
from tests.support import facts as f
from tests.support.engine import FarDriver, HookDriver, PlugDriver, SlowDriver
from tests.support.faulty_store import FaultyStore

AT_HAND = [InlineDriver, ThreadDriver, PlugDriver, SlowDriver, HookDriver]
DRIVERS = [*AT_HAND, FarDriver, NetworkDriver]
Scenario = Callable[[Driver, FaultyStore], Awaitable[None]]


WRITER = "parler-writer"


class Gate(FaultyStore):
    """A store that someone else holds: its commits wait to be let through, and are counted by the jobs in each."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.threads: set[str] = set()

    def transact_at_once(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        raise StoreError("store_locked")

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.open.wait(60)
        self.batches.append(len(jobs))
        return super().transact(jobs)


class Watched(FaultyStore):
    """Remembers where each commit ran, and of how many jobs it was; and where it was asked for its checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[str, int]] = []
        self.checkpoints: list[str] = []
        self.due = False
        self.checked = threading.Event()

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        self.made.append((threading.current_thread().name, len(jobs)))
        return super().transact(jobs)

    @property
    def checkpoint_due(self) -> bool:
        return self.due

    def checkpoint(self) -> None:
        self.due = False
        self.checkpoints.append(threading.current_thread().name)
        self.checked.set()


HERE = threading.main_thread().name


@pytest.fixture(params=DRIVERS)
def drive(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario with a driver over a store that can be told to fail, and close it."""
    return partial(run_with, request.param)


@pytest.fixture(params=AT_HAND)
def drive_at_hand(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """The same with a driver of a store on this machine."""
    return partial(run_with, request.param)


def run_with(make: Callable[[FaultyStore], Driver], scenario: Scenario) -> None:
    async def main() -> None:
        store = FaultyStore()
        driver = make(store)
        with trio.fail_after(60):
            await scenario(driver, store)
            await driver.close()

    # What another thread does takes no virtual time; every other driver's waits are virtual.
    trio.run(main, clock=None if make in (ThreadDriver, NetworkDriver) else MockClock(autojump_threshold=0))


Drive = Callable[[Scenario], None]


def opening() -> list[Write]:
    return [f.append(f.opened(), f.joined(2, f.ANN))]


def test_a_job_is_committed_and_answered_with_its_outcome(drive: Drive) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        outcome = await driver.commit(opening())
        assert outcome.error is None
        assert outcome.heads[f.ROOM].position == 2
        assert store.head(f.ROOM).position == 2

    drive(scenario)


def test_a_refused_job_is_the_error_of_its_own_caller(drive: Drive) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        await driver.commit(opening())
        with pytest.raises(StoreError) as error:
            await driver.commit([f.append(f.message(9), expected=8)])
        assert error.value.code == "stale_position"
        await driver.commit([f.append(f.message(3))])
        assert store.head(f.ROOM).position == 3

    drive(scenario)


@pytest.mark.parametrize("happened", [True, False])
def test_a_job_whose_answer_was_lost_is_an_error_and_says_where_it_would_have_led(drive: Drive, happened: bool) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        heard: list[tuple[JobOutcome | None, BaseException | None]] = []
        settled = trio.Event()

        def hear(outcome: JobOutcome | None, error: BaseException | None) -> None:
            heard.append((outcome, error))
            settled.set()

        store.lose_next_answer(happened=happened)
        driver.hand_over(opening(), hear)
        assert heard == []
        await settled.wait()
        ((outcome, error),) = heard
        assert isinstance(error, StoreError)
        assert error.code == "store_unknown"
        assert outcome is not None
        assert outcome.heads[f.ROOM].position == 2
        assert has_happened(store, outcome) is happened
        store.lose_next_answer(happened=happened)
        with pytest.raises(StoreError, match="store_unknown"):
            await driver.commit([MoveCursor(f.ROOM, f.ANN, Position(1))])

    drive(scenario)


@pytest.mark.parametrize("code", ["store_full", "store_locked", "store_readonly", "store_corrupt", "store_failed"])
def test_a_failed_commit_keeps_its_code_and_changes_nothing(drive: Drive, code: str) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        # What the loop finds locked it leaves to the thread, which waits.
        asked = 2 if code == "store_locked" and isinstance(driver, ThreadDriver) else 1
        store.fail_next_commit(code, times=asked)
        with pytest.raises(StoreError) as error:
            await driver.commit(opening())
        assert error.value.code == code
        assert store.head(f.ROOM).position == 0
        await driver.commit(opening())

    drive(scenario)


def test_a_query_is_answered_and_its_error_is_its_callers(drive: Drive) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        await driver.commit(opening())
        assert await driver.read(lambda s: s.head(f.ROOM).position) == 2
        store.unreadable = "store_corrupt"
        with pytest.raises(StoreError):
            await driver.read(lambda s: s.facts(f.ROOM, Position(0), 1))
        store.unreadable = None
        assert await driver.read(lambda s: len(s.rooms())) == 1

    drive(scenario)


def test_a_look_at_a_store_that_is_at_hand_is_answered_without_giving_others_the_loop(drive_at_hand: Drive) -> None:
    async def scenario(driver: Driver, store: FaultyStore) -> None:
        await driver.commit(opening())
        heard: list[tuple[object, BaseException | None]] = []
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before = turns
            assert await driver.look(lambda s: s.head(f.ROOM).position) == 2
            driver.ask(lambda s: s.head(f.ROOM).position, lambda answer, error: heard.append((answer, error)))
            assert heard == [(2, None)]
            assert turns == before
            nursery.cancel_scope.cancel()

        store.unreadable = "store_failed"
        with pytest.raises(StoreError):
            await driver.look(lambda s: s.chain_at(f.ROOM, Position(1)))
        driver.ask(lambda s: s.chain_at(f.ROOM, Position(1)), lambda answer, error: heard.append((answer, error)))
        assert heard[1][0] is None
        assert isinstance(heard[1][1], StoreError)

    drive_at_hand(scenario)


def test_what_waits_for_the_thread_becomes_one_transaction_and_none_of_it_runs_on_the_loop() -> None:
    async def main() -> None:
        store = Gate()
        driver = ThreadDriver(store)
        outcomes: list[JobOutcome] = []

        async def job(n: int) -> None:
            outcomes.append(await driver.commit([MoveCursor(RoomId(f"r_{n}"), f.ANN, Position(0))]))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(job, 0)
                await trio.to_thread.run_sync(store.entered.wait)
                for n in range(1, 30):
                    nursery.start_soon(job, n)
                await trio.testing.wait_all_tasks_blocked()
                store.open.set()
            await driver.close()
        assert store.batches == [1, 29]
        assert store.threads == {WRITER}
        assert len(outcomes) == 30

    trio.run(main)


def test_one_refused_job_among_many_in_a_transaction_leaves_the_others() -> None:
    async def main() -> None:
        store = Gate()
        driver = ThreadDriver(store)
        answers: dict[str, str] = {}

        async def job(name: str, writes: Sequence[Write]) -> None:
            try:
                await driver.commit(writes)
                answers[name] = "ok"
            except ParlerError as error:
                answers[name] = error.code

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(job, "first", [MoveCursor(f.OTHER, f.ANN, Position(1))])
                await trio.to_thread.run_sync(store.entered.wait)
                nursery.start_soon(job, "good", opening())
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(job, "stale", [f.append(f.message(9), room=f.OTHER, expected=8)])
                await trio.testing.wait_all_tasks_blocked()
                store.open.set()
            await driver.close()
        assert answers == {"first": "ok", "good": "ok", "stale": "stale_position"}
        assert store.head(f.ROOM).position == 2

    trio.run(main)


def test_a_caller_that_leaves_does_not_stop_its_commit() -> None:
    async def main() -> None:
        store = Gate()
        driver = ThreadDriver(store)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(driver.commit, opening()))
                await trio.to_thread.run_sync(store.entered.wait)
                nursery.cancel_scope.cancel()
            store.open.set()
            assert (await driver.commit([f.append(f.message(3))])).error is None
            await driver.close()
        assert store.head(f.ROOM).position == 3

    trio.run(main)


def test_closing_finishes_what_waits_then_refuses_and_closes_the_store() -> None:
    class Closing(FaultyStore):
        closed = False

        def close(self) -> None:
            self.closed = True

    async def main() -> None:
        store = Closing()
        driver = ThreadDriver(store)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(driver.commit, opening()))
                await trio.testing.wait_all_tasks_blocked()
                await driver.close()
            assert store.head(f.ROOM).position == 2
            assert store.closed
            with pytest.raises(StoreError) as error:
                await driver.commit([f.append(f.message(3))])
            assert error.value.spec.retryable

    trio.run(main)


def test_a_store_that_breaks_its_promises_does_not_end_the_writer() -> None:
    class Broken(FaultyStore):
        broken = True

        def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
            return [] if self.broken else super().transact(jobs)

    async def main() -> None:
        store = Broken()
        driver = ThreadDriver(store)
        with trio.fail_after(60):
            with pytest.raises(ParlerError):
                await driver.commit(opening())
            store.broken = False
            assert (await driver.commit(opening())).error is None
            await driver.close()

    trio.run(main)


def with_watched(scenario: Callable[[ThreadDriver, Watched], Awaitable[None]], *took: float) -> Watched:
    """Run a scenario with the real driver; each of its commits takes as long as `took` says, in turn, or no time."""
    store = Watched()
    times = iter([edge for seconds in took for edge in (0.0, seconds)])

    async def main() -> None:
        driver = ThreadDriver(store, clock=lambda: next(times, 0.0))
        with trio.fail_after(60):
            await trio.testing.wait_all_tasks_blocked()
            await scenario(driver, store)
            await driver.close()

    trio.run(main)
    return store


def test_what_one_turn_of_the_loop_brings_is_one_transaction_on_the_loop() -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(driver.commit, [MoveCursor(f.ROOM, f.ANN, Position(0))])

    assert with_watched(scenario).made == [(HERE, 5), (HERE, 5)]


def many_facts() -> list[Write]:
    return [f.append(f.opened(), *(f.joined(n, f.ANN) for n in range(2, LIGHT_FACTS + 2)))]


def a_long_text() -> list[Write]:
    return [f.append(f.opened(), f.message(2, body=bytes(LIGHT_BYTES + 1)))]


def a_snapshot() -> list[Write]:
    return [PutSnapshot(f.ROOM, 1, Position(1), b"x")]


@pytest.mark.parametrize("heavy", [many_facts, a_long_text, a_snapshot])
def test_what_would_keep_the_loop_is_committed_in_the_thread(heavy: Callable[[], list[Write]]) -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        assert (await driver.commit(heavy())).error is None
        assert (await driver.commit([MoveCursor(f.ROOM, f.ANN, Position(0))])).error is None

    assert with_watched(scenario).made == [(WRITER, 1), (HERE, 1)]


def test_many_light_jobs_of_one_turn_are_committed_in_the_thread_together() -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        async with trio.open_nursery() as nursery:
            for n in range(LIGHT_FACTS + 1):
                room = RoomId(f"r_{n}")
                nursery.start_soon(driver.commit, [f.append(f.opened(room), room=room)])

    assert with_watched(scenario).made == [(WRITER, LIGHT_FACTS + 1)]


def test_while_the_disk_is_slow_the_loop_is_kept_free_and_later_takes_commits_again() -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        for _ in range(6):
            await driver.commit([MoveCursor(f.ROOM, f.ANN, Position(0))])

    # Remembered as 0.0028, 0.00252, 0.00227, 0.00204, and then as less than 2 ms.
    assert with_watched(scenario, 0.0028).made == [(HERE, 1), *[(WRITER, 1)] * 4, (HERE, 1)]


def test_a_slow_commit_of_much_says_nothing_about_a_light_one() -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        await driver.commit(many_facts())
        await driver.commit([MoveCursor(f.ROOM, f.ANN, Position(0))])

    assert with_watched(scenario, 9.0).made == [(WRITER, 1), (HERE, 1)]


def test_what_is_handed_over_while_the_thread_works_follows_it_there() -> None:
    async def main() -> None:
        store = Gate()
        driver = ThreadDriver(store)

        async def job(*facts: NewFact) -> None:
            assert (await driver.commit([f.append(*facts)])).error is None

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(job, f.opened(), *(f.joined(n, f.ANN) for n in range(2, LIGHT_FACTS + 2)))
                await trio.to_thread.run_sync(store.entered.wait)
                nursery.start_soon(job, f.message(LIGHT_FACTS + 2))
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(job, f.message(LIGHT_FACTS + 3))
                await trio.testing.wait_all_tasks_blocked()
                store.open.set()
            await driver.close()
        assert store.head(f.ROOM).position == LIGHT_FACTS + 3
        assert store.threads == {WRITER}

    trio.run(main)


@pytest.mark.parametrize("job", [opening, many_facts])
def test_a_checkpoint_that_is_due_is_made_in_the_thread_once_it_was_answered(job: Callable[[], list[Write]]) -> None:
    async def scenario(driver: ThreadDriver, store: Watched) -> None:
        store.due = True
        await driver.commit(job())
        assert await trio.to_thread.run_sync(store.checked.wait, 10)
        await driver.commit([MoveCursor(f.ROOM, f.ANN, Position(0))])

    assert with_watched(scenario).checkpoints == [WRITER]


def test_a_driver_says_which_store_it_drives_and_hands_it_to_nobody() -> None:
    async def main() -> None:
        driver = InlineDriver(MemoryStore())
        assert driver.kind == "MemoryStore"
        assert not [name for name in dir(driver) if "store" in name and not name.startswith("_")]
        await driver.close()

    trio.run(main)
