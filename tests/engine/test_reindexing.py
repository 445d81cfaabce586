"""What is left to do in the index of what rooms remember is done in steps, with a pause after each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from parlerd.core.memory import MAX_VERSIONS
from parlerd.engine.reindexing import AGAIN_S, PAUSE_S, RETRY_S, STEP, Reindexing
from parlerd.store.memory import MemoryStore
from parlerd.store.port import IndexMemory, JobOutcome, NewFact, Write
from tests.support.engine import PlugDriver, run, settle
from tests.support.facts import forgetting, message, remembering


class Old(MemoryStore):
    """A store in which so many messages are in no index yet."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left
        self.steps: list[tuple[float, int]] = []
        """When each step came, and how much it was to put in."""

    def is_memory_indexed(self) -> bool:
        return self.left <= 0

    def transact(self, jobs: Sequence[Sequence[Write]]) -> list[JobOutcome]:
        for write in [write for job in jobs for write in job]:
            assert isinstance(write, IndexMemory)
            self.steps.append((trio.current_time(), write.limit))
            self.left -= write.limit
        return super().transact(jobs)


@asynccontextmanager
async def running(driver: PlugDriver) -> AsyncIterator[Reindexing]:
    reindexing = Reindexing(driver)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reindexing.run)
        await settle()
        yield reindexing
        reindexing.close()


def test_steps_follow_one_another_with_a_pause_until_nothing_is_left() -> None:
    async def main() -> None:
        store = Old(2 * STEP + 1)
        begun = trio.current_time()
        async with running(PlugDriver(store)):
            await trio.sleep(9 * PAUSE_S)
        assert [limit for _, limit in store.steps] == [STEP] * 3
        assert [round((at - begun) / PAUSE_S) for at, _ in store.steps] == [0, 1, 2]

    run(main)


@pytest.mark.parametrize(
    ("fact", "looks"),
    [
        (forgetting(3, (2,)), True),
        (remembering(99, "x", "key", version=MAX_VERSIONS + 1, drops=(2,)), True),
        (remembering(3, "x", "key", version=2, drops=(2,)), False),
        (message(3), False),
    ],
)
def test_a_fact_with_which_words_go_is_looked_after_at_once_and_others_within_the_hour(
    fact: NewFact, looks: bool
) -> None:
    async def main() -> None:
        store = Old(0)
        async with running(PlugDriver(store)) as reindexing:
            assert store.steps == []
            store.left = 1
            reindexing.note([fact.header])
            await settle()
            assert bool(store.steps) is looks
            await trio.sleep(AGAIN_S + 1)
            assert len(store.steps) == 1

    run(main)


def test_it_ends_after_the_step_that_it_is_at() -> None:
    async def main() -> None:
        store = Old(100 * STEP)
        async with running(PlugDriver(store)):
            assert len(store.steps) == 1
        assert len(store.steps) == 1

    run(main)


def test_a_full_disk_is_tried_again_later() -> None:
    async def main() -> None:
        store = Old(1)
        driver = PlugDriver(store)
        driver.is_full = True
        begun = trio.current_time()
        async with running(driver):
            assert store.steps == []
            driver.is_full = False
            await trio.sleep(2 * RETRY_S)
        assert [(at - begun, limit) for at, limit in store.steps] == [(RETRY_S, STEP)]

    run(main)
