"""A socket whose bytes are written at once: in order, whole, with TLS and without, and nobody who waits for ever."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from parlerd.connections.transport import Transport
from tests.support.doors import certificate, run_over_the_network

Ends = tuple[Transport, Transport]


@asynccontextmanager
async def between(tls: bool) -> AsyncIterator[Ends]:
    """Both ends of one connection on the loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        dialled = await trio.open_tcp_stream(*listener.socket.getsockname())
        ours, theirs = Transport(dialled), Transport(await listener.accept())
    try:
        if tls:
            with certificate() as made:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname = False
                context.verify_mode = ssl.CERT_NONE
                async with trio.open_nursery() as nursery:

                    async def serve() -> None:
                        assert await theirs.secure(made.context(), is_server=True) == b""

                    nursery.start_soon(serve)
                    assert await ours.secure(context, is_server=False) != b""
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()


async def everything(end: Transport, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := await end.receive()):
        data += more
    return data


@pytest.mark.parametrize("tls", [True, False])
def test_what_the_network_does_not_take_arrives_after_it_and_in_order(tls: bool) -> None:
    async def main() -> None:
        async with between(tls) as (ours, theirs):
            pieces = [os.urandom(size) for size in (1, 3_000_000, 70_000, 3, 3_000_000, 1)]
            assert ours.write(pieces[0])
            taken = [ours.write(piece) for piece in pieces[1:]]
            assert not any(taken)
            gone: list[int] = []

            async def wait(number: int) -> None:
                await ours.flushed()
                gone.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(wait, number)
                await trio.testing.wait_all_tasks_blocked()
                assert gone == []
                whole = b"".join(pieces)
                assert await everything(theirs, len(whole)) == whole
            assert sorted(gone) == [0, 1, 2]
            assert ours.write(b"x")

    run_over_the_network(main)


@pytest.mark.parametrize("tls", [True, False])
def test_what_waits_arrives_before_the_end_and_the_other_direction_goes_on(tls: bool) -> None:
    async def main() -> None:
        async with between(tls) as (ours, theirs):
            whole = os.urandom(6_000_000)
            assert not ours.write(whole)
            ours.end()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.flushed)
                assert await everything(theirs, len(whole)) == whole
            assert theirs.write(b"still here")
            assert await theirs.receive() == b""
            assert await ours.receive() == b"still here"

    run_over_the_network(main)


@pytest.mark.parametrize("tls", [True, False])
def test_who_reads_and_who_waits_to_write_hear_that_this_end_is_closed(tls: bool) -> None:
    async def main() -> None:
        async with between(tls) as (ours, _):
            ours.write(bytes(6_000_000))
            heard: list[str] = []

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await ours.receive()
                heard.append("read")

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await ours.flushed()
                heard.append("write")

            async with trio.open_nursery() as nursery:
                for each in (read, wait, wait):
                    nursery.start_soon(each)
                await trio.testing.wait_all_tasks_blocked()
                ours.close()
            assert sorted(heard) == ["read", "write", "write"]
            assert await ours.receive() == b""
            ours.close()

    run_over_the_network(main)


@pytest.mark.parametrize("tls", [True, False])
def test_a_flush_that_is_given_up_loses_nothing(tls: bool) -> None:
    async def main() -> None:
        async with between(tls) as (ours, theirs):
            whole = os.urandom(6_000_000)
            ours.write(whole)
            with trio.move_on_after(1) as limit:
                await ours.flushed()
            assert limit.cancelled_caught
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ours.flushed)
                assert await everything(theirs, len(whole)) == whole

    run_over_the_network(main)


def test_who_speaks_no_tls_breaks_the_greeting_off() -> None:
    async def main() -> None:
        async with between(tls=False) as (ours, theirs):
            ours.write(b"GET / HTTP/1.1\r\n\r\n")
            with certificate() as made, pytest.raises(ssl.SSLError):
                await theirs.secure(made.context(), is_server=True)

    run_over_the_network(main)
