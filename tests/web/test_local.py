"""The door of this machine's daemon: opened and closed, on loopback alone."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.web.local import LocalDoor, process_of, user_of
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
            door = LocalDoor(home.engine, home.engine.bearers, home.engine.viewers, home.world.keys.principal, nursery)
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
            door = LocalDoor(home.engine, home.engine.bearers, home.engine.viewers, home.world.keys.principal, nursery)
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


ENDS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2234 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 50114 1 0 100 0
   1: 0100007F:2234 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 51107 1 0 20 4
   2: 0100007F:9C40 0100007F:2234 01 00000000:00000000 00:00000000 00000000  1001        0 51106 2 0 20 4
"""


def test_whose_a_connection_is_is_asked_of_the_system(tmp_path: Path) -> None:
    if sys.byteorder != "little":
        pytest.skip("the table above was written on another kind of machine")
    door = ("127.0.0.1", 0x2234)
    (tmp_path / "tcp").write_text(ENDS)
    assert user_of(("127.0.0.1", 0x9C40), door, tmp_path) == 1001
    # The door's own end is nobody else's, and another connection is none: not with the port alone, either.
    for peer in (("127.0.0.1", 0x9C41), ("127.0.0.9", 0x9C40)):
        assert user_of(peer, door, tmp_path) == -1
    (tmp_path / "tcp6").write_text(ENDS.replace("9C40", "9C41").replace("0100007F", "0000000000000000FFFF00000100007F"))
    assert user_of(("127.0.0.1", 0x9C41), door, tmp_path) == 1001
    assert user_of(("127.0.0.1", 0x9C40), door, tmp_path / "nowhere") is None


def test_whose_process_has_the_other_end_is_found_in_its_files_and_nobodys_where_two_have_it(tmp_path: Path) -> None:
    if sys.byteorder != "little":
        pytest.skip("the table above was written on another kind of machine")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "tcp").write_text(ENDS)

    def process(number: str, *files: str) -> None:
        folder = tmp_path / number / "fd"
        folder.mkdir(parents=True)
        for name, leads_to in enumerate(files):
            (folder / str(name)).symlink_to(leads_to)

    process("7", "/dev/null", "socket:[51107]")
    process("8", "pipe:[51106]", "socket:[51106]")
    process("self", "socket:[51106]")
    (tmp_path / "9").mkdir()  # one that has ended meanwhile
    door = ("127.0.0.1", 0x2234)
    assert process_of(("127.0.0.1", 0x9C40), door, tmp_path) == 8
    assert process_of(("127.0.0.1", 0x9C41), door, tmp_path) == 0
    assert process_of(("127.0.0.1", 0x9C40), door, tmp_path / "nowhere") == 0
    process("10", "socket:[51106]")
    assert process_of(("127.0.0.1", 0x9C40), door, tmp_path) == 0


def test_on_this_machine_a_connection_of_this_process_is_its_own() -> None:
    if not Path("/proc/net/tcp").exists():
        pytest.skip("this system does not tell whose connections are")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert process_of(client.getsockname(), server.getsockname()) == os.getpid()


def test_another_user_of_this_machine_is_not_let_in_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begun(url: str, name: str) -> int:
        at = urlsplit(url)
        assert at.hostname is not None
        assert at.port is not None
        async with await trio.open_tcp_stream(at.hostname, at.port) as stream:
            headers = {"Host": at.netloc, "Content-Type": "application/json"}
            return (await Client(stream).ask("POST /rooms", {"id": name}, headers=headers)).status

    async def main() -> None:
        async with engine_world() as home, trio.open_nursery() as nursery:
            door = LocalDoor(home.engine, home.engine.bearers, home.engine.viewers, home.world.keys.principal, nursery)
            url = await door.open(0, lets_in=True)
            assert await begun(url, "team") == 201
            for user, status in ((os.getuid() + 1, 401), (-1, 401), (None, 201)):
                monkeypatch.setattr("parlerd.web.local.user_of", lambda peer, door, user=user: user)
                assert await begun(url, f"annex-{user}") == status
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_port_that_somebody_has_is_said() -> None:
    async def main() -> None:
        async with engine_world() as home, trio.open_nursery() as nursery:
            with socket.socket() as other:
                other.bind(("127.0.0.1", 0))
                other.listen()
                port = other.getsockname()[1]
                door = LocalDoor(
                    home.engine, home.engine.bearers, home.engine.viewers, home.world.keys.principal, nursery
                )
                with pytest.raises(ParlerError) as refused:
                    await door.open(port, lets_in=False)
                assert (refused.value.code, door.url) == ("port_taken", None)

    trio.run(main)
