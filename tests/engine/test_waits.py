"""The one loop of everyone who waits: no change is missed, none wakes who did not name it, and every wait ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from functools import partial

import pytest
import trio

from parlerd.core.errors import Refused, StoreError
from parlerd.core.topics import life, messages
from parlerd.engine.callers import Caller
from parlerd.engine.notifier import LocalNotifier
from parlerd.engine.waits import Wait, Waits
from tests.support.callers import caller_of
from tests.support.engine import run, settle

ONE, TWO = messages("r_1"), life("r_2")


def somebody() -> Caller:
    return caller_of("cli", session="s")


class Looks:
    """A look that counts: it names `topics` and finds something at the look of that number, or when the time is
    over."""

    def __init__(self, *, finds_at: int = 10**6) -> None:
        self.at: list[float] = []
        self.topics = [ONE]
        self._finds_at = finds_at

    async def __call__(self, wait: Wait) -> str | None:
        wait.on(*self.topics)
        await trio.lowlevel.checkpoint()
        self.at.append(trio.current_time())
        return "found" if len(self.at) >= self._finds_at or wait.over else None


# -- until -------------------------------------------------------------------------------------------------


def test_what_is_there_is_given_at_once_and_what_comes_as_soon_as_it_comes() -> None:
    async def main() -> None:
        notifier, caller = LocalNotifier(), somebody()
        waits, began = Waits(notifier), trio.current_time()
        assert await waits.until(caller, Looks(finds_at=1), began + 60) == "found"
        assert trio.current_time() == began
        looks = Looks(finds_at=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits.until, caller, looks, began + 60)
            await trio.sleep(5)
            notifier.publish([TWO])
            await settle()
            assert looks.at == [began]
            notifier.publish([ONE])
        assert looks.at == [began, began + 5]
        assert notifier.waiters == {}

    run(main)


def test_a_change_during_a_look_is_looked_at_too() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        seen: list[bool] = []

        async def look(wait: Wait) -> str | None:
            wait.on(ONE)
            if not seen:
                notifier.publish([ONE])
                await trio.sleep(3)
            seen.append(wait.woken)
            return "found" if len(seen) == 2 else None

        began = trio.current_time()
        assert await Waits(notifier).until(somebody(), look, began + 60) == "found"
        assert (seen, trio.current_time()) == ([True, False], began + 3)

    run(main)


def test_what_an_earlier_look_named_wakes_until_the_next_one_has_said_what_it_depends_on() -> None:
    async def main() -> None:
        notifier, looks = LocalNotifier(), Looks(finds_at=3)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Waits(notifier).until, somebody(), looks, trio.current_time() + 60)
            await settle()
            looks.topics = [TWO]
            notifier.publish([ONE])
            await settle()
            assert (len(looks.at), set(notifier.waiters)) == (2, {TWO})
            notifier.publish([ONE])
            await settle()
            assert len(looks.at) == 2
            notifier.publish([TWO])
        assert len(looks.at) == 3

    run(main)


def test_at_the_end_of_the_time_it_looks_once_more_and_that_is_the_answer() -> None:
    async def main() -> None:
        looks, began = Looks(), trio.current_time()
        assert await Waits(LocalNotifier()).until(somebody(), looks, began + 7) == "found"
        assert looks.at == [began, began + 7]
        assert await Waits(LocalNotifier()).until(somebody(), looks, trio.current_time()) == "found"
        assert len(looks.at) == 3

    run(main)


def test_a_moment_at_which_no_topic_fires_can_be_waited_for_and_is_forgotten_by_the_next_look() -> None:
    async def main() -> None:
        began = trio.current_time()
        at: list[float] = []

        async def look(wait: Wait) -> str | None:
            at.append(trio.current_time() - began)
            if len(at) == 1:
                wait.again_in(20)
                wait.again_in(4)
            return "found" if wait.over else None

        await Waits(LocalNotifier()).until(somebody(), look, began + 30)
        assert at == [0, 4, 30]

    run(main)


def test_a_look_after_a_change_comes_later_by_the_grace_but_not_after_the_deadline() -> None:
    async def main() -> None:
        notifier, looks, began = LocalNotifier(), Looks(), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(Waits(notifier).until, somebody(), looks, began + 10, grace_s=2))
            for pause in (3, 6.5):
                await trio.sleep(pause)
                notifier.publish([ONE])
        assert looks.at == [began, began + 5, began + 10]

    run(main)


def test_a_caller_counts_as_waiting_while_it_waits_and_no_longer_however_that_ends() -> None:
    async def main() -> None:
        notifier, caller = LocalNotifier(), somebody()
        waits, looks, cancelled = Waits(notifier), Looks(), trio.CancelScope()
        looks.topics = [TWO]

        async def failing(wait: Wait) -> str | None:
            wait.on(ONE)
            if caller.waiting:
                raise StoreError("store_failed")
            return None

        async def fails() -> None:
            with pytest.raises(StoreError):
                await waits.until(caller, failing, trio.current_time() + 60)

        async def is_cancelled() -> None:
            with cancelled:
                await waits.until(caller, looks, trio.current_time() + 60)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            await settle()
            assert caller.waiting == 1
            nursery.start_soon(is_cancelled)
            await settle()
            assert caller.waiting == 2
            notifier.publish([ONE])
            await settle()
            assert caller.waiting == 1
            cancelled.cancel()
        assert caller.waiting == 0
        assert notifier.waiters == {}

    run(main)


def test_a_drain_ends_waits_that_found_nothing_with_its_code_and_lets_nobody_begin_one() -> None:
    async def main() -> None:
        notifier = LocalNotifier()
        waits, codes = Waits(notifier), []

        async def waiting(looks: Looks) -> None:
            try:
                codes.append(await waits.until(somebody(), looks, trio.current_time() + 60))
            except Refused as error:
                codes.append(error.code)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting, Looks())
            nursery.start_soon(waiting, Looks(finds_at=2))
            await settle()
            waits.drain()
        await waiting(Looks())
        assert sorted(codes) == ["draining", "draining", "found"]
        assert trio.current_time() == began

    run(main)


def test_what_holds_while_it_waits_holds_at_no_other_time() -> None:
    async def main() -> None:
        notifier, held = LocalNotifier(), []

        @contextmanager
        def holding(name: str) -> Iterator[None]:
            held.append(name)
            yield
            held.append(f"not {name}")

        looks = 0

        async def look(wait: Wait) -> str | None:
            nonlocal looks
            looks += 1
            held.append("look")
            if looks == 1:
                wait.meanwhile(holding("skipped"))
                wait.again()
            elif looks == 2:
                wait.meanwhile(holding("a"))
            return "found" if wait.over else None

        await Waits(notifier).until(somebody(), look, trio.current_time() + 5)
        assert held == ["look", "look", "a", "not a", "look"]

    run(main)


# -- follow ------------------------------------------------------------------------------------------------


def test_a_stream_gives_what_each_look_found_and_ends_when_a_look_says_so() -> None:
    async def main() -> None:
        notifier, given = LocalNotifier(), []
        looks = 0

        async def look(wait: Wait) -> list[str]:
            nonlocal looks
            looks += 1
            wait.on(ONE)
            if looks == 3:
                wait.finish()
            return [f"{looks}a", f"{looks}b"]

        async def follow() -> None:
            async with aclosing(Waits(notifier).follow(look)) as items:
                async for item in items:
                    given.append(item)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            for _ in range(2):
                await settle()
                notifier.publish([ONE])
        assert given == ["1a", "1b", "2a", "2b", "3a", "3b"]
        assert notifier.waiters == {}

    run(main)


def test_a_change_while_items_are_taken_is_not_missed() -> None:
    async def main() -> None:
        notifier, looks = LocalNotifier(), 0

        async def look(wait: Wait) -> list[int]:
            nonlocal looks
            looks += 1
            wait.on(ONE)
            return [looks]

        async with aclosing(Waits(notifier).follow(look)) as items:
            assert await anext(items) == 1
            notifier.publish([ONE])
            assert await anext(items) == 2

    run(main)


def test_a_drain_ends_a_stream_wherever_it_is() -> None:
    async def main() -> None:
        for drain_at in ("look", "item", "wait"):
            notifier = LocalNotifier()
            waits = Waits(notifier)

            async def look(wait: Wait, waits: Waits = waits, at: str = drain_at) -> list[str]:
                # It names nothing before: the drain finds no topic to publish.
                if at == "look":
                    waits.drain()
                wait.on(ONE)
                return ["item"]

            given: list[str] = []

            async def follow(waits: Waits = waits, at: str = drain_at, given: list[str] = given) -> None:
                async with aclosing(waits.follow(look)) as items:
                    async for item in items:
                        given.append(item)
                        if at == "item":
                            waits.drain()

            with trio.fail_after(1):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(follow)
                    await settle()
                    if drain_at == "wait":
                        waits.drain()
            assert given == ["item"]

    run(main)
