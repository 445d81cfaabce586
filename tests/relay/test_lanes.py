"""Many lanes over one stream: each in order, and what is kept for a slow one is bounded and slows no other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from parlerd.connections.outgoing import CAP, LOW, Outgoing
from parlerd.connections.stream import StreamEnded
from parlerd.wire.lanes import DIALLING, LANES_LIMIT, CloseLane, LaneData, Reader
from relay.lanes import MOST_KEPT, Carrier, LaneBytes, carrying
from tests.support.message_streams import MemoryStream, pair

CERTIFICATE = b"c" * 32


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Carrier, Carrier, MemoryStream]]:
    """Both ends of a link, each of which takes what comes; and the stream of the first."""
    ours, theirs = pair(CERTIFICATE)
    async with trio.open_nursery() as nursery:
        for stream in (ours, theirs):
            stream.limit = 1 << 20
        async with carrying(ours, lambda: None) as one, carrying(theirs, lambda: None) as other:
            for stream, carrier in ((ours, one), (theirs, other)):
                nursery.start_soon(_take, stream, carrier)
            yield one, other, ours
        nursery.cancel_scope.cancel()


async def _take(stream: MemoryStream, carrier: Carrier) -> None:
    reader = Reader(DIALLING)
    reader.welcome()
    while (data := await stream.receive()) is not None:
        for message in reader.feed(data):
            assert isinstance(message, LaneData | CloseLane)
            carrier.take(message)


def test_lanes_carry_what_they_are_given_in_order_and_apart() -> None:
    async def main() -> None:
        async with two() as (here, there, _):
            lanes = [(here.open(number), there.open(number)) for number in (1, 2)]
            for number, (ours, _) in enumerate(lanes):
                for part in range(3):
                    assert ours.put(b"%d %d " % (number, part))
            big = bytes(LANES_LIMIT * 2)
            lanes[0][0].put(big)
            for number, (_, theirs) in enumerate(lanes):
                got = b""
                wanted = b"".join(b"%d %d " % (number, part) for part in range(3)) + (b"" if number else big)
                while len(got) < len(wanted):
                    got += await theirs.receive() or b""
                assert got == wanted

    run(main)


def test_a_lane_that_is_closed_ends_at_both_ends_and_no_other_does() -> None:
    async def main() -> None:
        async with two() as (here, there, _):
            ours, theirs = here.open(1), there.open(1)
            others = here.open(2), there.open(2)
            ours.put(b"last")
            await ours.close()
            assert await theirs.receive() == b"last"
            assert await theirs.receive() is None
            with pytest.raises(StreamEnded):
                theirs.put(b"x")
            assert (here.lanes, there.lanes) == (1, 1)
            others[1].put(b"still")
            assert await others[0].receive() == b"still"

    run(main)


def test_a_link_that_ends_ends_every_lane() -> None:
    async def main() -> None:
        async with two() as (here, there, stream):
            theirs = there.open(1)
            here.open(1)
            stream.cut()
            there.end()
            assert await theirs.receive() is None
            with pytest.raises(StreamEnded):
                await theirs.flushed()

    run(main)


def test_what_nobody_takes_of_one_lane_is_bounded_and_ends_that_lane_alone() -> None:
    async def main() -> None:
        async with two() as (here, there, _):
            ours, theirs = here.open(1), there.open(1)
            beside = here.open(2), there.open(2)
            sent = 0
            with suppress(StreamEnded):
                while sent < 3 * MOST_KEPT:
                    ours.put(bytes(LOW))
                    sent += LOW
                    await ours.flushed()
                    await trio.lowlevel.checkpoint()
            assert MOST_KEPT <= sent <= MOST_KEPT + 16 * LOW
            beside[0].put(b"others go on")
            assert await beside[1].receive() == b"others go on"
            assert there.lanes == 1
            assert theirs.close_code is not None

    run(main)


def test_however_many_lanes_have_something_to_say_what_waits_for_a_relay_is_bounded() -> None:
    async def main() -> None:
        ours, theirs = pair(CERTIFICATE)
        ours.hold()
        async with carrying(ours, lambda: None) as carrier, trio.open_nursery() as nursery:
            outs = [Outgoing(carrier.open(number)) for number in range(200)]

            async def speak(out: Outgoing) -> None:
                async with out.sending():
                    for _ in range(40):
                        out.send(bytes(16 * 1024))
                        await out.drained()

            for out in outs:
                nursery.start_soon(speak, out)
            await trio.sleep(20)
            # Of each lane at most what it may keep itself, and of all together little more than one bound.
            assert carrier.pending < CAP
            assert all(out.pending <= LOW + 16 * 1024 for out in outs)
            assert not carrier.is_broken
            nursery.cancel_scope.cancel()
        await theirs.close()

    run(main)


def test_a_relay_that_takes_nothing_is_cut_off() -> None:
    async def main() -> None:
        ours, _ = pair(CERTIFICATE)
        ours.hold()
        broken = trio.Event()
        async with carrying(ours, broken.set) as carrier:
            lane = carrier.open(1)
            with trio.fail_after(120), suppress(StreamEnded):
                while True:
                    lane.put(bytes(LOW))
                    await lane.flushed()
            assert broken.is_set()
            assert carrier.is_broken

    run(main)


def test_a_lane_is_a_connection_of_bytes_as_well() -> None:
    async def main() -> None:
        async with two() as (here, there, _):
            asks, answers = LaneBytes(here.open(1)), LaneBytes(there.open(1))
            asks.write(b"GET /")
            await asks.flushed()
            assert await answers.receive() == b"GET /"
            answers.write(b"200")
            answers.close()
            assert await asks.receive() == b"200"
            assert await asks.receive() == b""
            asks.write(b"too late")
            with pytest.raises(BrokenPipeError):
                await asks.flushed()

    run(main)
