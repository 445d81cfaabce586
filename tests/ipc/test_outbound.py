from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from parlerd.ipc.outbound import LOW, Outbound


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def read_all(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        await trio.lowlevel.wait_readable(sock)
        data += sock.recv(size - len(data))
    return data


def test_what_the_kernel_takes_at_once_needs_no_task(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        out.send(b"hello")
        assert out.pending == 0
        assert pair[1].recv(10) == b"hello"

    run(main)


def test_bytes_leave_in_the_order_they_were_given_however_they_were_given(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            parts = [bytes([number % 256]) * (number * 37 % 5_000) for number in range(200)]
            nursery.start_soon(send, parts, out)
            assert await read_all(pair[1], sum(map(len, parts))) == b"".join(parts)
            out.finish()

    async def send(parts: list[bytes], out: Outbound) -> None:
        for number, part in enumerate(parts):
            out.send(part, soon=number % 3 == 0)
            if number % 7 == 0:
                await trio.lowlevel.checkpoint()

    run(main)


def test_answers_that_are_ready_together_leave_together(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            await wait_all_tasks_blocked()
            for _ in range(10):
                out.send(b"x", soon=True)
            await trio.lowlevel.wait_readable(pair[1])
            assert pair[1].recv(100) == b"x" * 10
            out.finish()

    run(main)


def test_finish_sends_what_waits_before_run_returns(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        out.send(b"x" * 100_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            out.finish()
            assert await read_all(pair[1], 100_000) == b"x" * 100_000

    run(main)


def test_everyone_who_waits_for_room_is_woken_when_the_reader_catches_up(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        out.send(b"x" * (2 * LOW))
        woken = []

        async def wait(name: int) -> None:
            await out.drained()
            woken.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            for name in range(3):
                nursery.start_soon(wait, name)
            await wait_all_tasks_blocked()
            assert woken == []
            await read_all(pair[1], 2 * LOW)
            await wait_all_tasks_blocked()
            assert sorted(woken) == [0, 1, 2]
            out.finish()

    run(main)


def test_beyond_the_cap_it_breaks_and_keeps_nothing(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0], cap=10_000)
        out.send(b"x" * 50_000)
        assert not out.broken.is_set()
        out.send(b"x")
        assert out.broken.is_set()
        assert out.pending == 0
        out.send(b"more")
        assert out.pending == 0

    run(main)


def test_one_frame_of_any_size_may_wait(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0], cap=10_000)
        out.send(b"x" * 8_000_000)
        assert not out.broken.is_set()
        assert out.pending > 7_000_000

    run(main)


def test_a_reader_that_is_gone_breaks_it_and_wakes_who_waits(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0])
        out.send(b"x" * 400_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            nursery.start_soon(out.drained)
            await wait_all_tasks_blocked()
            pair[1].close()
        assert out.broken.is_set()

    run(main)


def test_a_reader_that_stalls_breaks_it_and_one_that_is_slow_does_not(pair: Pair) -> None:
    async def main() -> None:
        out = Outbound(pair[0], stall_seconds=30)
        out.send(b"x" * 60_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.run)
            reads = 0
            while out.pending > 20_000:
                await trio.sleep(29)
                assert not out.broken.is_set()
                pair[1].recv(10_000)
                reads += 1
                await wait_all_tasks_blocked()
            assert reads > 2
            start = trio.current_time()
            await out.broken.wait()
            assert trio.current_time() - start == pytest.approx(30)

    run(main)
