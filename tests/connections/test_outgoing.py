"""What waits to be sent over a link: whole frames, in order, few messages, a bound, and nobody who waits for ever."""

from __future__ import annotations

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


def test_what_waits_leaves_in_order_as_few_messages() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours)
        frames = [frame(bytes([n]) * 1_000) for n in range(100)]
        for each in frames:
            out.send(each)
        assert out.pending == sum(map(len, frames))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            (message,) = await received(theirs, 1)
            assert message == b"".join(frames)
            await out.drained(below=1)
            assert out.pending == 0
            out.finish()

    run(main)


@settings(max_examples=50)
@given(st.lists(st.sampled_from([1, 1_000, RUN_LIMIT // 2, RUN_LIMIT - PREFIX, RUN_LIMIT, 2 * RUN_LIMIT]), max_size=12))
def test_a_message_is_a_run_of_whole_frames_up_to_its_limit_or_one_frame(sizes: list[int]) -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours, cap=1 << 30)
        for number, size in enumerate(sizes):
            out.send(frame(bytes([number]) * size))
        out.finish()
        seen: list[bytes] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
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
        out = Outgoing(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            for _ in range(10):
                await trio.testing.wait_all_tasks_blocked()
                out.send(frame(b"x" * 1_000))
            start = trio.current_time()
            await out.broken.wait()
        assert STALL_SECONDS <= trio.current_time() - start <= STALL_SECONDS + 11_000 / SLOWEST
        assert out.pending == 0
        out.send(frame(b"x"))
        assert out.pending == 0

    run(main)


def test_a_large_message_is_given_the_time_that_a_slow_network_needs() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours, cap=1 << 30)
        for _ in range(4):
            out.send(frame(b"x"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            for _ in range(4):
                await trio.testing.wait_all_tasks_blocked()
                out.send(frame(b"x"))
            await trio.testing.wait_all_tasks_blocked()
            out.send(frame(b"y" * (4 * 1024 * 1024)))
            await trio.sleep(STALL_SECONDS - 1)
            while (message := await theirs.receive()) is not None and len(message) < 1_000:
                pass
            assert not out.broken.is_set()
            out.finish()

    run(main)


def test_more_than_may_wait_cuts_the_reader_off() -> None:
    async def main() -> None:
        ours, _ = pair(limit=LARGE)
        out = Outgoing(ours)
        piece = frame(b"x" * (CAP // 4))
        for _ in range(4):
            out.send(piece)
            assert not out.broken.is_set()
        out.send(piece)
        assert out.broken.is_set()
        assert out.pending == 0

    run(main)


def test_whoever_waits_for_room_gets_it_when_the_reader_takes_something_and_when_it_is_gone() -> None:
    async def main() -> None:
        ours, theirs = pair(limit=LARGE)
        out = Outgoing(ours)
        piece = frame(b"x" * LOW)
        for _ in range(8):
            out.send(piece)
        free: list[float] = []

        async def wait() -> None:
            await out.drained()
            free.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
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


def test_a_stream_that_ends_ends_the_sending() -> None:
    async def main() -> None:
        ours, theirs = pair()
        out = Outgoing(ours)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            await theirs.close()
            out.send(frame(b"x"))
        assert out.broken.is_set()

    run(main)
