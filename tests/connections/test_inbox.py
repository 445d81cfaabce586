"""Answers by call: each is taken once, in order, by whoever waits for its call, and every wait ends."""

from __future__ import annotations

import msgspec
import pytest
import trio
import trio.testing

from parlerd.connections.inbox import Answer, Inbox
from parlerd.wire.messages import Item, Reply
from tests.support.engine import run


class Over(Exception):
    """Nothing more comes."""


def item(id: int, number: int) -> Item:
    return Item(id=id, item=msgspec.Raw(str(number).encode()))


def test_each_call_has_its_own_answers_in_the_order_in_which_they_came() -> None:
    async def main() -> None:
        inbox, came = Inbox(), list[Answer]()
        inbox.open(1)
        inbox.open(2)

        async def wait() -> None:
            for _ in range(3):
                came.append(await inbox.next_of(1))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            for number in range(2):
                assert inbox.put(item(1, number))
                assert inbox.put(item(2, number))
            await trio.testing.wait_all_tasks_blocked()
            assert inbox.put(Reply(id=1, result=msgspec.Raw(b"2")))
        assert came == [item(1, 0), item(1, 1), Reply(id=1, result=msgspec.Raw(b"2"))]
        assert (inbox.untaken(1), inbox.untaken(2)) == (0, 2)

    run(main)


def test_what_comes_for_a_call_that_nobody_waits_for_is_dropped() -> None:
    inbox = Inbox()
    assert not inbox.put(item(1, 0))
    inbox.open(1)
    inbox.put(item(1, 0))
    inbox.close(1)
    inbox.close(1)
    assert not inbox.put(item(1, 1))
    assert inbox.untaken(1) == 0


def test_what_came_before_the_end_is_taken_and_then_every_wait_hears_why_it_is_over() -> None:
    async def main() -> None:
        inbox = Inbox()
        inbox.open(1)
        inbox.open(2)
        inbox.put(item(1, 0))

        async def wait(id: int) -> None:
            with pytest.raises(Over):
                await inbox.next_of(id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, 2)
            await trio.testing.wait_all_tasks_blocked()
            inbox.lose(Over())
            inbox.lose(ValueError())
            assert await inbox.next_of(1) == item(1, 0)
            await wait(1)

    run(main)
