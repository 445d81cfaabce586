"""What is counted for all relays is asked in a thread, one thing after the other, and whoever goes away leaves the next
one a free connection."""

from __future__ import annotations

import threading

import trio
import trio.testing

from parlerd.core.errors import StoreError
from parlerd.core.model import PrincipalId
from parlerd.store.counts import Ask
from parlerd.store.memory_counts import MemoryCounts
from relay.counting import FORGET_S, Counting, OneThread
from tests.support.engine import run
from tests.support.shared_counts import at_once


def test_one_thing_is_done_at_a_time_also_where_somebody_goes_away_in_the_middle() -> None:
    aside, going_on, begun = OneThread(), threading.Event(), threading.Event()
    under_way, most, done = 0, 0, []

    def work(name: str) -> str:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        begun.set()
        going_on.wait(60)
        under_way -= 1
        done.append(name)
        return name

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            gone = trio.CancelScope()

            async def goes() -> None:
                with gone:
                    await aside(lambda: work("first"))

            nursery.start_soon(goes)
            await trio.to_thread.run_sync(begun.wait)
            nursery.start_soon(aside, lambda: work("second"))
            gone.cancel()
            await trio.testing.wait_all_tasks_blocked()
            going_on.set()

    trio.run(main)
    assert (done, most) == (["first", "second"], 1)


def test_what_is_whole_again_is_forgotten_once_an_hour_also_after_the_store_did_not_answer() -> None:
    class Counted(MemoryCounts):
        forgot = 0

        def forget_old(self) -> None:
            self.forgot += 1
            if self.forgot == 1:
                raise StoreError("store_unreachable")

    async def main() -> None:
        counts = Counted(trio.current_time)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Counting(counts, at_once).run)
            await trio.sleep(2.5 * FORGET_S)
            assert counts.forgot == 3
            nursery.cancel_scope.cancel()

    run(main)


def test_every_question_is_the_stores_own() -> None:
    async def main() -> None:
        clock = [0.0]
        counting, ann = Counting(MemoryCounts(lambda: clock[0])), PrincipalId("ANN")
        assert [await counting.claim(ann), await counting.claim(ann)] == [1, 2]
        assert await counting.newest([ann]) == {ann: 2}
        two = Ask("two", 1.0, 2.0)
        assert (await counting.draw([two])).amounts == [1.0]
        assert (await counting.draw([two])).amounts == [1.0]
        await counting.give([two])
        assert (await counting.draw([two])).amounts == [1.0]
        assert (await counting.draw([two])).wait_s == 1.0
        await counting.forget(["two"])
        assert (await counting.draw([two])).amounts == [1.0]
        assert (await counting.keep({ann: 3}, 0.0)).bytes == {ann: 3}
        assert await counting.correct({ann: 4}, 0)
        assert (await counting.keep({}, 0.0)).bytes == {ann: 7}

    trio.run(main)
