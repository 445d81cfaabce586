"""The door of this machine's daemon: opened and closed, on loopback alone."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.web.local import LocalDoor
from tests.support.engine import engine_world
from tests.support.http import Client


def where(door: LocalDoor) -> str | None:
    return door.url


async def visit(url: str, host: str = "") -> int:
    """The status with which a door answers whoever asks what it is."""
    at = urlsplit(url)
    assert at.hostname is not None
    assert at.port is not None
    stream = await trio.open_tcp_stream(at.hostname, at.port)
    async with stream:
        answer = await Client(stream).ask("GET /llms.txt", headers={"Host": host or at.netloc})
        return answer.status


def test_a_door_answers_where_it_says_until_it_is_closed() -> None:
    async def main() -> None:
        async with engine_world() as home, trio.open_nursery() as nursery:
            door = LocalDoor(home.engine, home.engine.bearers, home.world.keys.principal, nursery)
            assert where(door) is None
            url = await door.open(0, lets_in=False)
            # To open an open door tells where it is.
            assert await door.open(0, lets_in=False) == url == where(door)
            assert urlsplit(url).hostname == "127.0.0.1"
            assert await visit(url) == 200
            assert await visit(url, f"localhost:{urlsplit(url).port}") == 200
            assert await visit(url, "evil.example") == 421
            await door.close()
            assert where(door) is None
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match=r"refused|could not be opened|failed"):
                await visit(url)
            # It can be opened again.
            assert await visit(await door.open(0, lets_in=False)) == 200
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_two_who_open_a_door_at_once_open_one() -> None:
    async def main() -> None:
        async with engine_world() as home, trio.open_nursery() as nursery:
            door = LocalDoor(home.engine, home.engine.bearers, home.world.keys.principal, nursery)
            urls: list[str] = []

            async def opened() -> None:
                urls.append(await door.open(0, lets_in=False))

            async with trio.open_nursery() as both:
                both.start_soon(opened)
                both.start_soon(opened)
            assert len(set(urls)) == 1
            await door.close()
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OSError, match=r"refused|could not be opened|failed"):
                await visit(urls[0])
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_port_that_somebody_has_is_said() -> None:
    async def main() -> None:
        async with engine_world() as home, trio.open_nursery() as nursery:
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                other.listen()
                port = other.getsockname()[1]
                door = LocalDoor(home.engine, home.engine.bearers, home.world.keys.principal, nursery)
                with pytest.raises(ParlerError) as refused:
                    await door.open(port, lets_in=False)
                assert (refused.value.code, door.url) == ("port_taken", None)

    trio.run(main)
