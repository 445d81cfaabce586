"""Files that a client hands over beside its calls: which number they get, how many there may be, and when they end."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from parlerd.core.errors import ParlerError
from parlerd.engine.handed import MAX_OPEN
from parlerd.operations import types as t
from parlerd.wire import codec
from tests.support.fake_engine import FakeEngine
from tests.support.wire_client import WireClient, connected, expect_goodbye, serving


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


@contextmanager
def files(*sizes: int) -> Iterator[list[int]]:
    """Descriptors of files that have so many bytes."""
    with ExitStack() as opened:
        made = [opened.enter_context(tempfile.TemporaryFile(buffering=0)) for _ in sizes]
        for file, size in zip(made, sizes, strict=True):
            file.truncate(size)
        yield [file.fileno() for file in made]


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """An end to hand over, and the end that shows whether the other is open anywhere: a read gives nothing once it is
    closed."""
    read, write = os.pipe2(os.O_NONBLOCK)
    try:
        yield write, read
    finally:
        os.close(read)


def is_closed(read: int) -> bool:
    try:
        return os.read(read, 1) == b""
    except BlockingIOError:
        return False


async def size_of(client: WireClient, number: int) -> int:
    put = await client.call("blob.put", t.PutBlob(file=number))
    assert isinstance(put, t.BlobPut)
    return put.size


def test_each_file_has_the_next_number_whichever_call_names_it_first() -> None:
    async def main() -> None:
        async with connected(FakeEngine()) as client:
            with files(10, 20, 30) as (first, second, third):
                id, data = client.peer.call("blob.put", codec.encode(t.PutBlob(file=0)))
                await client.hand(data, first)
                put = await client.answer("blob.put", id)
                assert isinstance(put, t.BlobPut)
                assert put.size == 10
                id, data = client.peer.call("message.send", codec.encode(t.Send(text="hello")))
                await client.hand(data, second, third)
                await client.answer("message.send", id)
            assert [await size_of(client, number) for number in (2, 1, 0)] == [30, 20, 10]
            with pytest.raises(ParlerError, match="invalid_param"):
                await size_of(client, 3)

    run(main)


def test_a_file_of_one_connection_has_no_number_on_another() -> None:
    async def main() -> None:
        async with serving(FakeEngine()) as (_, home):
            with WireClient(home) as one, WireClient(home) as other, files(10) as (file,):
                await one.hello()
                await other.hello()
                id, data = one.peer.call("message.send", codec.encode(t.Send(text="hello")))
                await one.hand(data, file)
                await one.answer("message.send", id)
                with pytest.raises(ParlerError, match="invalid_param"):
                    await size_of(other, 0)
                assert await size_of(one, 0) == 10

    run(main)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_client_that_hands_over_too_many_files_is_sent_away_and_all_of_them_are_closed(at_once: bool) -> None:
    async def main() -> None:
        async with connected(FakeEngine()) as client:
            with pipe() as (write, read):
                many = [os.dup(write) for _ in range(3 * MAX_OPEN)]
                groups = [many] if at_once else [[each] for each in many[: MAX_OPEN + 1]]
                for group in groups:
                    await client.hand(b"\0", *group)
                for each in (write, *many):
                    os.close(each)
                await expect_goodbye(client, "bad_frame")
                await wait_all_tasks_blocked()
                assert is_closed(read)

    run(main)


def test_files_end_with_their_connection_and_are_handed_to_no_child() -> None:
    async def main() -> None:
        engine = FakeEngine()
        async with connected(engine) as client:
            with pipe() as (write, read):
                id, data = client.peer.call("message.send", codec.encode(t.Send(text="hello")))
                await client.hand(data, write)
                await client.answer("message.send", id)
                os.close(write)
                (caller,) = engine.connected
                with caller.handed.using(0) as file:
                    assert fcntl.fcntl(file._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
                assert not is_closed(read)
                client.close()
                await wait_all_tasks_blocked()
                assert is_closed(read)

    run(main)


def test_a_file_before_the_hello_is_closed_where_no_hello_comes() -> None:
    async def main() -> None:
        async with serving(FakeEngine()) as (_, home):
            with WireClient(home) as client, pipe() as (write, read):
                await client.hand(b"\0", write)
                os.close(write)
                await expect_goodbye(client, "bad_frame")
                await wait_all_tasks_blocked()
                assert is_closed(read)

    run(main)
