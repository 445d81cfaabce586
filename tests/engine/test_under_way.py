"""What is under way with something, and its end."""

from __future__ import annotations

import trio
import trio.testing

from parlerd.engine.under_way import UnderWay


def test_all_that_is_under_way_with_one_ends_together_and_what_is_with_another_goes_on() -> None:
    async def main() -> None:
        under_way = UnderWay()
        ended: list[str] = []

        async def stay(id: str) -> None:
            with under_way.entered(id) as scope:
                await trio.Event().wait()
            assert scope.cancelled_caught
            ended.append(id)

        async with trio.open_nursery() as nursery:
            for id in ("a", "a", "b"):
                nursery.start_soon(stay, id)
            await trio.testing.wait_all_tasks_blocked()
            assert [under_way.count(id) for id in ("a", "b", "c")] == [2, 1, 0]
            under_way.cancel("a")
            under_way.cancel("c")
            await trio.testing.wait_all_tasks_blocked()
            assert ended == ["a", "a"]
            assert [under_way.count(id) for id in ("a", "b")] == [0, 1]
            under_way.cancel("b")
        assert under_way.count("b") == 0

    trio.run(main)
