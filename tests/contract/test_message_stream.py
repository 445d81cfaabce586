"""What a link needs of its transport, asked of a WebSocket over TLS on the loopback and of the pair in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing

from parlerd.connections.dial import WebSocketDialer
from parlerd.connections.stream import MessageStream, StreamEnded
from parlerd.wire.frames import FIRST_FRAME_LIMIT, PREFIX
from tests.support.doors import Handed, open_door, run_over_the_network
from tests.support.message_streams import pair, send

Ends = tuple[MessageStream, MessageStream]
Between = Callable[[], AbstractAsyncContextManager[Ends]]


@asynccontextmanager
async def in_memory() -> AsyncIterator[Ends]:
    yield pair(b"c" * 32, FIRST_FRAME_LIMIT + PREFIX)


@asynccontextmanager
async def over_websockets() -> AsyncIterator[Ends]:
    links = Handed()
    async with open_door(links) as door, WebSocketDialer().dial(door.address) as ours:
        yield ours, await links.streams.receive()


@pytest.fixture(params=[in_memory, over_websockets], ids=["memory", "websocket"])
def between(request: pytest.FixtureRequest) -> Between:
    found: Between = request.param
    return found


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_over_the_network(main)


def test_messages_arrive_whole_and_in_order_both_ways(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            for sender, receiver in ((ours, theirs), (theirs, ours)):
                said = [bytes([n]) * (n * 3_000 + 1) for n in range(12)]
                # Where the length of a message is written in another way.
                said += [b"x" * size for size in (125, 126, 65_535, 65_536)]

                async def say(sender: MessageStream = sender, said: list[bytes] = said) -> None:
                    for message in said:
                        await send(sender, message)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(say)
                    assert [await receiver.receive() for _ in said] == said

    run(main)


def test_an_empty_message_is_a_message(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            await send(ours, b"")
            assert await theirs.receive() == b""

    run(main)


def test_both_ends_name_the_same_certificate(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            assert ours.certificate == theirs.certificate
            assert len(ours.certificate) == 32

    run(main)


def test_what_was_sent_before_a_close_arrives_and_then_the_end_with_its_code(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            assert (ours.close_code, theirs.close_code) == (None, None)
            await send(ours, b"last")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.close, 4003, "kicked")
                assert await theirs.receive() == b"last"
                assert await theirs.receive() is None
            assert theirs.close_code == 4003
            assert ours.close_code is not None
            assert await theirs.receive() is None
            assert await ours.receive() is None

    run(main)


def test_nothing_is_sent_after_the_end_and_to_close_again_does_nothing(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.close, 1012)
                assert await theirs.receive() is None
            for end in (ours, theirs):
                with pytest.raises(StreamEnded):
                    await send(end, b"x")
                await end.close(4001)
            assert theirs.close_code == 1012

    run(main)


def test_a_receiver_that_waits_is_told_of_the_end_of_its_own_stream(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            heard: list[bytes | None] = []

            async def hear() -> None:
                heard.append(await ours.receive())

            async with trio.open_nursery() as nursery:
                nursery.start_soon(hear)
                nursery.start_soon(theirs.receive)
                await trio.testing.wait_all_tasks_blocked()
                await ours.close()
            assert heard == [None]

    run(main)


def test_a_message_beyond_the_limit_ends_the_stream_and_one_within_a_new_limit_arrives(between: Between) -> None:
    async def main() -> None:
        limit = FIRST_FRAME_LIMIT + PREFIX
        async with between() as (ours, theirs):
            assert theirs.limit == limit
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, ours, b"x" * limit)
                assert await theirs.receive() == b"x" * limit
            theirs.limit = 2 * limit
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, ours, b"y" * (limit + 1))
                assert await theirs.receive() == b"y" * (limit + 1)

            async def too_much() -> None:
                with trio.move_on_after(60):
                    try:
                        while True:
                            await send(ours, b"z" * (2 * limit + 1))
                    except StreamEnded:
                        pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(too_much)
                assert await theirs.receive() is None
                await ours.receive()
            assert ours.close_code == 1009

    run(main)


def test_a_receive_that_is_cancelled_loses_nothing(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            with trio.move_on_after(1):
                await theirs.receive()
            await send(ours, b"still here")
            assert await theirs.receive() == b"still here"

    run(main)


def test_a_sender_waits_for_a_reader_that_takes_nothing(between: Between) -> None:
    async def main() -> None:
        async with between() as (ours, theirs):
            sent = 0

            async def say() -> None:
                nonlocal sent
                for _ in range(1_000):
                    await send(ours, b"x" * FIRST_FRAME_LIMIT)
                    sent += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(say)
                await trio.sleep(5)
                assert sent < 1_000
                nursery.cancel_scope.cancel()
            with trio.fail_after(10):
                await ours.close()
            assert theirs.limit

    run(main)
