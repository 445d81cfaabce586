"""Things happen at their moments by the wall clock, whatever that clock does meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from parlerd.core.errors import StoreError
from parlerd.core.model import Millis
from parlerd.engine.scheduler import LOOK_S, RETRY_MS, Due, Scheduler
from tests.support.engine import START_MS, SteppedClock, run, settle


class Diary:
    """What was done, and at which second of the loop's clock."""

    def __init__(self) -> None:
        self.done: list[tuple[str, float]] = []

    def note(self, what: str) -> Due:
        async def due() -> None:
            self.done.append((what, trio.current_time()))

        return due


@asynccontextmanager
async def scheduling(clock: SteppedClock, **more: Due) -> AsyncIterator[Scheduler]:
    scheduler = Scheduler(clock, **more)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield scheduler
        scheduler.close()


def at(seconds: float) -> Millis:
    return Millis(START_MS + int(seconds * 1000))


def test_things_are_done_in_the_order_of_their_moments_and_none_before_its_own() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            for what, seconds in (("late", 90), ("soon", 5), ("between", 30), ("also soon", 5)):
                scheduler.put(what, at(seconds), diary.note(what))
            await trio.sleep(200)
        assert diary.done == [("soon", 5), ("also soon", 5), ("between", 30), ("late", 90)]

    run(main)


def test_an_earlier_moment_wakes_a_task_that_sleeps_for_a_later_one() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            scheduler.put("late", at(40), diary.note("late"))
            await trio.sleep(10)
            scheduler.put("soon", at(20), diary.note("soon"))
            await trio.sleep(50)
        assert diary.done == [("soon", 20), ("late", 40)]

    run(main)


def test_a_moment_that_has_passed_is_now() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            scheduler.put("past", at(-5), diary.note("past"))
            await settle()
        assert diary.done == [("past", 0)]

    run(main)


def test_a_name_has_one_moment_and_what_is_dropped_is_not_done() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            scheduler.put("moved", at(10), diary.note("moved from 10"))
            scheduler.put("moved", at(20), diary.note("moved to 20"))
            scheduler.put("dropped", at(5), diary.note("dropped"))
            scheduler.drop("dropped")
            scheduler.drop("unknown")
            assert scheduler.moment("moved") == at(20)
            assert scheduler.moment("dropped") is None
            assert len(scheduler) == 1
            await trio.sleep(100)
            assert len(scheduler) == 0
        assert diary.done == [("moved to 20", 20)]

    run(main)


def test_what_is_due_may_ask_to_be_done_again() -> None:
    async def main() -> None:
        times: list[float] = []
        async with scheduling(SteppedClock()) as scheduler:

            async def due() -> None:
                times.append(trio.current_time())
                if len(times) < 3:
                    scheduler.put("again", at(len(times) * 10), due)

            scheduler.put("again", at(1), due)
            await trio.sleep(100)
        assert times == [1, 10, 20]

    run(main)


def test_what_could_not_be_done_is_tried_again_and_keeps_nothing_else_waiting() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:

            async def due() -> None:
                await diary.note("tried")()
                if len(diary.done) == 1:
                    raise StoreError("store_locked")

            scheduler.put("locked", at(1), due)
            scheduler.put("other", at(2), diary.note("other"))
            await trio.sleep(100)
        assert diary.done == [("tried", 1), ("other", 2), ("tried", 1 + RETRY_MS / 1000)]

    run(main)


def test_a_clock_that_is_set_forward_makes_due_what_it_passed() -> None:
    async def main() -> None:
        diary, clock = Diary(), SteppedClock()
        async with scheduling(clock) as scheduler:
            scheduler.put("in an hour", at(3_600), diary.note("in an hour"))
            await trio.sleep(10)
            clock.step(seconds=4_000)
            await trio.sleep(LOOK_S)
        assert diary.done == [("in an hour", LOOK_S)]

    run(main)


def test_a_clock_that_is_set_back_delays_what_it_has_not_reached_and_stops_nothing_else() -> None:
    async def main() -> None:
        diary, clock = Diary(), SteppedClock()
        async with scheduling(clock) as scheduler:
            scheduler.put("before", at(100), diary.note("before"))
            await trio.sleep(10)
            clock.step(seconds=-1_000)
            scheduler.put("after", Millis(clock.now() + 5_000), diary.note("after"))
            await trio.sleep(2_000)
        assert diary.done == [("after", 15), ("before", 1_100)]

    run(main)


def test_after_a_step_back_what_was_due_is_asked_for_once_more() -> None:
    async def main() -> None:
        diary, clock = Diary(), SteppedClock()
        async with scheduling(clock, stepped_back=diary.note("asked")) as scheduler:
            scheduler.put("due", at(100), diary.note("due"))
            await trio.sleep(1)
            clock.step(seconds=3_600)
            await trio.sleep(LOOK_S)
            clock.step(seconds=-3_600)
            await trio.sleep(3 * LOOK_S)
        assert diary.done == [("due", LOOK_S), ("asked", 2 * LOOK_S)]

    run(main)


def test_a_clock_that_stands_still_is_looked_at_less_and_less_often() -> None:
    async def main() -> None:
        looks = 0

        class Still(SteppedClock):
            def now(self) -> Millis:
                nonlocal looks
                looks += 1
                return Millis(START_MS)

        diary = Diary()
        async with scheduling(Still()) as scheduler:
            scheduler.put("never", at(0.001), diary.note("never"))
            await trio.sleep(3_600)
        assert diary.done == []
        assert looks < 100

    run(main)


def test_thousands_of_rooms_are_one_task_and_each_is_done_once() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            for number in range(5_000):
                scheduler.put(number, at(number % 100), diary.note(str(number)))
            await trio.sleep(200)
        assert len(diary.done) == len({what for what, _ in diary.done}) == 5_000
        assert all(when == int(what) % 100 for what, when in diary.done)

    run(main)


def test_the_task_ends_when_it_is_closed_and_leaves_what_is_not_due() -> None:
    async def main() -> None:
        diary = Diary()
        async with scheduling(SteppedClock()) as scheduler:
            scheduler.put("later", at(1_000), diary.note("later"))
            await trio.sleep(1)
        assert trio.current_time() == 1
        assert diary.done == []

    run(main)
