"""A worker's thread: what waits becomes one batch, its answers reach the loop, and it ends in order."""

from __future__ import annotations

import threading

import pytest
import trio

from parlerd.core.errors import StoreError
from parlerd.engine.worker import Awaited, Errand, Worker


def test_what_waits_is_one_batch_and_each_errand_hears_its_own_answer_on_the_loop() -> None:
    async def main() -> None:
        entered, leave = threading.Event(), threading.Event()
        batches: list[int] = []
        heard: list[tuple[object, str]] = []

        def run(batch: list[Errand]) -> None:
            entered.set()
            assert leave.wait(60)
            batches.append(len(batch))
            for errand in batch:
                errand.answer = errand.asked * 2

        worker = Worker("a-worker", run)
        for n in range(4):
            worker.submit(Errand(n, lambda answer, error: heard.append((answer, threading.current_thread().name))))
            if n == 0:
                await trio.to_thread.run_sync(entered.wait)
        leave.set()
        await worker.close()
        await trio.testing.wait_all_tasks_blocked()
        assert batches == [1, 3]
        assert heard == [(n * 2, threading.main_thread().name) for n in range(4)]

    trio.run(main)


def test_an_errand_that_failed_raises_where_it_is_awaited_and_a_closing_worker_takes_no_more() -> None:
    async def main() -> None:
        def run(batch: list[Errand]) -> None:
            for errand in batch:
                errand.error = KeyError(errand.asked)

        worker = Worker("a-worker", run)
        awaited = Awaited()
        worker.submit(Errand("x", awaited.hear))
        with pytest.raises(KeyError, match="x"):
            await awaited.get()
        await worker.close()
        with pytest.raises(StoreError, match="draining"):
            worker.submit(Errand("y", awaited.hear))

    trio.run(main)
