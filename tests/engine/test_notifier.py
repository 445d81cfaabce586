"""Waking: whoever waits for what changed, nobody else, and no wake is lost between a look and a wait."""

from __future__ import annotations

import trio

from parlerd.core.topics import keys, life, messages, requests
from parlerd.engine.notifier import LocalNotifier
from parlerd.engine.ports import Notifier, Waiter
from tests.support.engine import run, settle


async def woken(*waiters: Waiter) -> list[bool]:
    answers = []
    for waiter in waiters:
        with trio.move_on_after(1) as scope:
            await waiter.wait()
        answers.append(not scope.cancelled_caught)
    return answers


def test_publishing_wakes_those_who_wait_for_that_topic_alone() -> None:
    async def main() -> None:
        notifier: Notifier = LocalNotifier()
        with (
            notifier.listen(messages("r_1")) as all_of_one,
            notifier.listen(messages("r_1", "U1")) as private_of_one,
            notifier.listen(messages("r_2"), life("r_1")) as other,
        ):
            notifier.publish([messages("r_1")])
            assert await woken(all_of_one, private_of_one, other) == [True, False, False]
            notifier.publish([life("r_1")])
            assert await woken(other) == [True]

    run(main)


def test_a_change_after_clear_and_before_wait_is_not_missed() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        with notifier.listen(messages("r_1")) as waiter:
            waiter.clear()
            notifier.publish([messages("r_1")])
            assert await woken(waiter) == [True]
            waiter.clear()
            assert await woken(waiter) == [False]

    run(main)


def test_clear_wakes_nobody_and_keeps_those_who_wait_waiting() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        done: list[str] = []
        with notifier.listen(messages("r_1")) as waiter:

            async def wait() -> None:
                await waiter.wait()
                done.append("woken")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                waiter.clear()
                await settle()
                assert done == []
                waiter.wake()
            assert done == ["woken"]

    run(main)


def test_who_has_left_is_not_kept() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        with notifier.listen(messages("r_1"), life("r_1")), notifier.listen(messages("r_1")):
            assert len(notifier.waiters) == 2
        assert notifier.waiters == {}
        notifier.publish([messages("r_1")])
        await trio.lowlevel.checkpoint()

    run(main)


def test_a_drain_wakes_everyone() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        with notifier.listen(messages("r_1")) as one, notifier.listen(requests("A1")) as two:
            notifier.wake_all()
            assert await woken(one, two) == [True, True]

    run(main)


def test_a_change_wakes_whoever_left_open_what_it_says_and_nobody_who_named_something_else() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        with (
            notifier.listen(keys("r_1", "k_1")) as this,
            notifier.listen(keys("r_1")) as any_of_the_room,
            notifier.listen(keys("r_1", "k_2"), keys("r_2"), messages("r_1")) as other,
        ):
            notifier.publish([keys("r_1", "k_1")])
            assert await woken(this, any_of_the_room, other) == [True, True, False]

    run(main)
