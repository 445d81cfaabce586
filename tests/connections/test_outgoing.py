"""What waits to be sent over a link: whole frames, in order, few messages, a bound, and nobody who waits for ever."""

from __future__ import annotations

from contextlib import AsyncExitStack

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.connections.outgoing import CAP, LOW, SLOWEST, STALL_SECONDS, Outgoing
from parlerd.connections.stream import RUN_LIMIT
from parlerd.wire.frames import FRAME_LIMIT, PREFIX, FrameReader, frame
from tests.support.links import run
from tests.support.message_streams import MemoryStream, pair

LARGE = PREFIX + FRAME_LIMIT


async def received(stream: MemoryStream, count: int) -> list[bytes]:
    messages = [await stream.receive() for _ in range(count)]
    assert None not in messages
    return [message for message in messages if message is not None]


def test_what_one_turn_of_the_loop_brings_leaves_in_order_as_one_message() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours)
        frames = [frame(bytes([n]) * 1_000) for n in range(100)]
        async with out.sending():
            for each in frames:
                out.send(each)
            assert out.pending == sum(map(len, frames))
            (message,) = await received(theirs, 1)
            assert message == b"".join(frames)
            assert out.pending == 0
            out.send(frames[0])
            (message,) = await received(theirs, 1)
            assert message == frames[0]

    run(main)


def test_many_links_send_what_one_turn_brought_in_one_further_turn_and_without_a_task() -> None:
    async def main() -> None:
        pairs = [pair(limit=LARGE) for _ in range(20)]
        outs = [Outgoing(ours) for ours, _ in pairs]
        async with AsyncExitStack() as stack:
            for out in outs:
                await stack.enter_async_context(out.sending())
            before = trio.lowlevel.current_statistics().tasks_living
            for out in outs:
                out.send(frame(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before
            assert all(ours.sent == [frame(b"x")] for ours, _ in pairs)

    run(main)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([1, 1_000, RUN_LIMIT // 2, RUN_LIMIT - PREFIX, RUN_LIMIT, 2 * RUN_LIMIT]), max_size=12))
def test_a_message_is_a_run_of_whole_frames_up_to_its_limit_or_one_frame(sizes: list[int]) -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours, cap=1 << 30)
        seen: list[bytes] = []
        async with out.sending():
            for number, size in enumerate(sizes):
                out.send(frame(bytes([number]) * size))
            while len(seen) < len(sizes):
                (message,) = await received(theirs, 1)
                reader = FrameReader(FRAME_LIMIT)
                reader.feed(message)
                inside = []
                while (payload := reader.next()) is not None:
                    inside.append(payload)
                assert reader.pending == 0
                assert len(message) <= RUN_LIMIT or len(inside) == 1
                seen += inside
        assert seen == [bytes([number]) * size for number, size in enumerate(sizes)]

    run(main)


def test_a_reader_that_takes_nothing_is_cut_off_after_its_time_and_nothing_is_kept() -> None:
    async def main() -> None:
        ours, _ = pair(limit=LARGE)
        broken = trio.Event()
        out = Outgoing(ours, broken=broken.set)
        async with out.sending():
            for _ in range(10):
                await trio.testing.wait_all_tasks_blocked()
                out.send(frame(b"x" * 1_000))
            start = trio.current_time()
            await broken.wait()
            assert STALL_SECONDS <= trio.current_time() - start <= STALL_SECONDS + 11_000 / SLOWEST
            assert out.is_broken
            assert out.pending == 0
            out.send(frame(b"x"))
            assert out.pending == 0

    run(main)


def test_a_large_message_is_given_the_time_that_a_slow_network_needs() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours, cap=1 << 30)
        async with out.sending():
            for _ in range(8):
                out.send(frame(b"x"))
                await trio.testing.wait_all_tasks_blocked()
            out.send(frame(b"y" * (4 * 1024 * 1024)))
            await received(theirs, 1)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(STALL_SECONDS - 1)
            while (message := await theirs.receive()) is not None and len(message) < 1_000:
                pass
            assert not out.is_broken

    run(main)


def test_a_large_message_that_nobody_takes_holds_on_longer_than_a_small_one() -> None:
    async def main() -> None:
        ours, _ = pair(limit=LARGE)
        broken = trio.Event()
        out = Outgoing(ours, cap=1 << 30, broken=broken.set)
        size = 4 * 1024 * 1024
        async with out.sending():
            for _ in range(4):
                out.send(frame(b"x"))
                await trio.testing.wait_all_tasks_blocked()
            out.send(frame(b"y" * size))
            start = trio.current_time()
            await broken.wait()
            assert trio.current_time() - start >= STALL_SECONDS + size / SLOWEST

    run(main)


def test_more_than_may_wait_cuts_the_reader_off() -> None:
    async def main() -> None:
        ours, _ = pair(limit=LARGE)
        out = Outgoing(ours)
        piece = frame(b"x" * (CAP // 4))
        async with out.sending():
            for _ in range(4):
                out.send(piece)
                assert not out.is_broken
            out.send(piece)
            assert out.is_broken
            assert out.pending == 0

    run(main)


def test_whoever_waits_for_room_gets_it_when_the_reader_takes_something_and_when_it_is_gone() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours)
        piece = frame(b"x" * LOW)
        free: list[float] = []

        async def wait() -> None:
            await out.drained()
            free.append(trio.current_time())

        async with out.sending(), trio.open_nursery() as nursery:
            for _ in range(8):
                out.send(piece)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert free == []
            await received(theirs, 8)
            await trio.testing.wait_all_tasks_blocked()
            assert len(free) == 1
            for _ in range(8):
                out.send(piece)
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert len(free) == 1
            theirs.cut()
        assert len(free) == 2

    run(main)


def test_a_stream_that_ends_ends_the_sending_and_a_block_that_ends_tells_nobody() -> None:
    async def main() -> None:
        told: list[str] = []
        ours, theirs = pair()
        out = Outgoing(ours, broken=lambda: told.append("gone"))
        async with out.sending():
            await theirs.close()
            out.send(frame(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            assert told == ["gone"]
            assert out.is_broken
        ours, _ = pair()
        out = Outgoing(ours, broken=lambda: told.append("left"))
        async with out.sending():
            out.send(frame(b"x"))
        assert out.is_broken
        await trio.testing.wait_all_tasks_blocked()
        assert ours.sent == []
        assert told == ["gone"]

    run(main)
