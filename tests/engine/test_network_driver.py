"""Driving a store over a network: what waits is one transaction, questions have threads and bounds of their own, and
whoever may not decide writes nothing. What is alike for every driver: `test_driver`."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import Position, RoomId
from parlerd.engine import network_driver
from parlerd.engine.network_driver import READERS, NetworkDriver
from parlerd.store.memory import MemoryStore
from parlerd.store.port import JobOutcome, MoveCursor, Store, Write
from tests.support import facts as f
from tests.support.faulty_store import FaultyStore


class Gate(FaultyStore):
    """A store whose commits wait to be let through; remembers the rooms whose cursors each of them moved."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        self.entered.set()
        assert self.open.wait(60)
        self.batches.append([write.room for job in jobs for write in job if isinstance(write, MoveCursor)])
        return super().transact(jobs)


def moved(room: str) -> list[Write]:
    return [MoveCursor(RoomId(room), f.ANN, Position(0))]


def text(room: str, size: int) -> list[Write]:
    name = RoomId(room)
    return [f.append(f.opened(name), f.message(2, body=bytes(size)), room=name)]


def drive(scenario: Callable[[NetworkDriver], Awaitable[None]], store: Store | None = None) -> None:
    async def main() -> None:
        driver = NetworkDriver(store or MemoryStore())
        with trio.fail_after(60):
            await scenario(driver)
            await driver.close()

    trio.run(main)


async def code_of(call: Callable[[], Awaitable[object]]) -> str:
    try:
        await call()
    except ParlerError as error:
        return error.code
    return ""


# -- commits -----------------------------------------------------------------------------------------------


def test_what_waits_while_a_commit_is_under_way_is_the_next_transaction_in_the_order_it_came() -> None:
    store = Gate()

    async def scenario(driver: NetworkDriver) -> None:
        told: list[str] = []
        for n in range(30):
            driver.hand_over(moved(f"r_{n}"), lambda outcome, error, n=n: told.append(f"r_{n}"))  # type: ignore[misc]
            if n == 0:
                await trio.to_thread.run_sync(store.entered.wait)
        store.open.set()
        # Closing waits for what was handed over.
        await driver.close()
        await trio.testing.wait_all_tasks_blocked()
        rooms = [f"r_{n}" for n in range(30)]
        assert store.batches == [rooms[:1], rooms[1:]]
        assert told == rooms

    drive(scenario, store)


def test_a_transaction_takes_so_many_bytes_and_the_rest_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_driver, "MOST_AT_ONCE", 3 * network_driver.JOB_WEIGHT)
    store = Gate()

    async def scenario(driver: NetworkDriver) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.commit, moved("r_0"))
            await trio.to_thread.run_sync(store.entered.wait)
            for n in range(1, 8):
                nursery.start_soon(driver.commit, moved(f"r_{n}"))
            await trio.testing.wait_all_tasks_blocked()
            store.open.set()
        assert [len(batch) for batch in store.batches] == [1, 3, 3, 1]

    drive(scenario, store)


def test_more_than_may_wait_is_refused_and_taken_again_once_some_of_it_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(network_driver, "MOST_WAITING", 100_000)
    store = Gate()

    async def scenario(driver: NetworkDriver) -> None:
        async with trio.open_nursery() as nursery:
            # Larger than the bound, and alone.
            nursery.start_soon(driver.commit, text("r_0", 200_000))
            await trio.to_thread.run_sync(store.entered.wait)
            assert await code_of(partial(driver.commit, moved("r_1"))) == "store_busy"
            assert driver.waiting > 200_000
            store.open.set()
        assert driver.waiting == 0
        await driver.commit(moved("r_1"))

    drive(scenario, store)


def test_whoever_may_not_decide_writes_nothing_and_reads_as_ever() -> None:
    async def main() -> None:
        may_write = True
        driver = NetworkDriver(MemoryStore(), may_write=lambda: may_write)
        with trio.fail_after(60):
            await driver.commit([f.append(f.opened())])
            may_write = False
            assert await code_of(partial(driver.commit, [f.append(f.message(2))])) == "store_unreachable"
            assert await driver.look(lambda store: store.head(f.ROOM).position) == 1
            may_write = True
            await driver.commit([f.append(f.message(2))])
            await driver.close()

    trio.run(main)


# -- questions ---------------------------------------------------------------------------------------------


def test_what_waits_is_not_written_by_whoever_may_not_decide_any_more() -> None:
    store = Gate()

    async def main() -> None:
        may_write = True
        driver = NetworkDriver(store, may_write=lambda: may_write)
        codes: dict[str, str] = {}

        async def commit(room: str) -> None:
            codes[room] = await code_of(partial(driver.commit, moved(room)))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(commit, "r_0")
                await trio.to_thread.run_sync(store.entered.wait)
                nursery.start_soon(commit, "r_1")
                await trio.testing.wait_all_tasks_blocked()
                may_write = False
                store.open.set()
            assert (codes, store.batches, driver.waiting) == ({"r_0": "", "r_1": "store_unreachable"}, [["r_0"]], 0)
            await driver.close()

    trio.run(main)


def test_questions_are_asked_side_by_side_and_while_a_commit_is_under_way() -> None:
    store = Gate()

    async def scenario(driver: NetworkDriver) -> None:
        together = threading.Barrier(READERS)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(driver.commit, moved("r_0"))
            await trio.to_thread.run_sync(store.entered.wait)
            for _ in range(READERS):
                # Each of them ends only when all of them are under way.
                nursery.start_soon(driver.look, lambda _: together.wait(60))
        assert store.batches

    async def opened(driver: NetworkDriver) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scenario, driver)
            await trio.to_thread.run_sync(store.entered.wait)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not store.batches
            store.open.set()

    drive(opened, store)


def test_long_reads_leave_a_thread_for_short_ones() -> None:
    async def scenario(driver: NetworkDriver) -> None:
        leave = threading.Event()
        ended: list[object] = []

        async def read() -> None:
            ended.append(await driver.read(lambda _: leave.wait(60)))

        async with trio.open_nursery() as nursery:
            for _ in range(3 * READERS):
                nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert await driver.look(lambda store: store.rooms()) == []
            assert ended == []
            leave.set()
        assert ended == [True] * 3 * READERS

    drive(scenario)


def test_a_question_is_answered_on_the_loop_after_the_call_that_asked_it() -> None:
    async def scenario(driver: NetworkDriver) -> None:
        assert not driver.is_at_hand
        heard: list[tuple[object, BaseException | None, str]] = []
        known = trio.Event()

        def told(answer: object, error: BaseException | None) -> None:
            heard.append((answer, error, threading.current_thread().name))
            known.set()

        driver.ask(lambda store: store.rooms(), told)
        assert heard == []
        await known.wait()
        assert heard == [([], None, threading.main_thread().name)]

    drive(scenario)


def test_one_question_too_many_is_an_error_that_comes_later_like_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_driver, "MOST_QUESTIONS", 2)

    async def scenario(driver: NetworkDriver) -> None:
        leave, entered = threading.Event(), threading.Semaphore(0)

        def slow(_: Store) -> bool:
            entered.release()
            return leave.wait(60)

        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(driver.look, slow)
                await trio.to_thread.run_sync(entered.acquire)
            for _ in range(2):
                nursery.start_soon(driver.look, slow)
            await trio.testing.wait_all_tasks_blocked()
            for ask in (driver.look, driver.read):
                assert await code_of(partial(ask, slow)) == "store_busy"
            leave.set()
        assert await driver.look(lambda store: store.rooms()) == []

    drive(scenario)


# -- the end -----------------------------------------------------------------------------------------------


def test_closing_finishes_what_waits_refuses_what_comes_and_closes_the_store_last() -> None:
    closed: list[bool] = []

    class Closing(Gate):
        def close(self) -> None:
            closed.append(True)

    store = Closing()

    async def main() -> None:
        driver = NetworkDriver(store)
        answers: list[object] = []

        async def look() -> None:
            answers.append(await driver.look(lambda store: store.rooms()))

        async def write(room: str) -> None:
            answers.append((await driver.commit(moved(room))).error)

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, "r_0")
                await trio.to_thread.run_sync(store.entered.wait)
                nursery.start_soon(write, "r_1")
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(driver.close)
                await trio.testing.wait_all_tasks_blocked(0.01)
                assert closed == []
                with pytest.raises(StoreError, match="draining"):
                    driver.hand_over(moved("r_2"), lambda *_: None)
                assert await code_of(partial(driver.look, lambda store: store.rooms())) == "draining"
                store.open.set()
        assert closed == [True]
        assert len(answers) == 3
        assert store.batches == [["r_0"], ["r_1"]]

    trio.run(main)
