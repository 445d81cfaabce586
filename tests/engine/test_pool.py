"""A pool's threads: each does one errand at a time, short ones first, and all of them end in order."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from parlerd.core.errors import StoreError
from parlerd.engine.pool import Pool
from parlerd.engine.worker import Awaited, Errand


def test_a_short_errand_goes_before_the_long_ones_that_wait_and_all_are_done_before_the_threads_end() -> None:
    async def main() -> None:
        leave, entered = threading.Event(), threading.Event()
        done: list[str] = []

        def run(errand: Errand) -> None:
            if errand.asked == "first":
                entered.set()
                assert leave.wait(60)
            done.append(errand.asked)
            errand.answer = errand.asked.upper()

        # Of two threads one is never given a long errand, so these come one after another.
        pool = Pool("a-pool", run, threads=2, most=10)
        heard: list[str] = []
        pool.submit(Errand("first", lambda answer, error: heard.append(answer)), is_long=True)
        await trio.to_thread.run_sync(entered.wait)
        for name in ("second", "third"):
            pool.submit(Errand(name, lambda answer, error: heard.append(answer)), is_long=True)
        awaited = Awaited()
        pool.submit(Errand("short", awaited.hear), is_long=False)
        assert await awaited.get() == "SHORT"
        leave.set()
        await pool.close()
        assert done == ["short", "first", "second", "third"]
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(heard) == ["FIRST", "SECOND", "THIRD"]
        with pytest.raises(StoreError, match="draining"):
            pool.submit(Errand("late", awaited.hear), is_long=False)

    trio.run(main)


def test_a_pool_that_ends_asks_a_store_that_is_gone_no_more() -> None:
    async def main() -> None:
        leave, entered = threading.Event(), threading.Semaphore(0)
        asked: list[str] = []

        def run(errand: Errand) -> None:
            asked.append(errand.asked)
            entered.release()
            assert leave.wait(60)
            errand.error = StoreError("store_unreachable")

        pool = Pool("a-pool", run, threads=2, most=10)
        codes: list[str] = []

        def hear(_: object, error: BaseException | None) -> None:
            assert isinstance(error, StoreError)
            codes.append(error.code)

        for number in range(8):
            pool.submit(Errand(f"question {number}", hear), is_long=number > 4)
        for _ in range(2):
            await trio.to_thread.run_sync(entered.acquire)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pool.close)
            await trio.testing.wait_all_tasks_blocked()
            leave.set()
        await trio.testing.wait_all_tasks_blocked()
        assert (len(asked), codes) == (2, ["store_unreachable"] * 8)

    trio.run(main)
