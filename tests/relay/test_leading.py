"""A connection over HTTP comes to the relay that has the rooms of its token, wherever it was made."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import trio

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.core.tokens import Token
from relay.leading import Leading
from tests.support.engine import run
from tests.support.many_relays import Cluster, Node, cluster_in

GOOD = "as_" + "g" * 40


class Connection:
    """Somebody's connection: what they send, and what they are sent."""

    def __init__(self, *more: bytes) -> None:
        self.more = deque(more)
        self.answer = b""
        self.is_gone = trio.Event()

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.more:
            return self.more.popleft()
        await self.is_gone.wait()
        return b""

    def write(self, data: bytes) -> None:
        self.answer += data

    async def flushed(self) -> None:
        await trio.lowlevel.checkpoint()


@dataclass
class Guest:
    address: str = "192.0.2.99"
    is_proven: bool = False

    def proven(self) -> None:
        self.is_proven = True


@dataclass
class Web:
    """What answers at one relay: it says which it is, and what it was asked."""

    name: str
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    async def visit(self, transport: Any, begun: bytes, guest: Any) -> None:
        data = begun
        while b"\r\n\r\n" not in data:
            data += await transport.receive()
        self.asked.append((guest.address, data))
        if b" /slow " in data:
            await trio.sleep(60)
        transport.write(f"{self.name} answers".encode())
        await transport.flushed()

    async def drain(self) -> None:
        await trio.lowlevel.checkpoint()


@dataclass
class Book:
    """The tokens that hold here."""

    tokens: dict[str, Token] = field(default_factory=dict)

    def shown(self, text: str) -> Token | None:
        return self.tokens.get(text)


class Two:
    """Two relays that share the rooms, and what stands before HTTP at the first."""

    def __init__(self, cluster: Cluster, nodes: list[Node]) -> None:
        self.cluster, self.nodes = cluster, nodes
        self.webs = [Web(node.name) for node in nodes]
        for node, web in zip(nodes, self.webs, strict=True):
            node.together.served.web = web
        self.book, self.late = Book(), Book()
        first = nodes[0].together

        async def take_in() -> None:
            await trio.lowlevel.checkpoint()
            self.book.tokens |= self.late.tokens

        self.leading = Leading(cast(Any, self.webs[0]), self.book, first.holding, first.peers, take_in, first.named)

    def room_of(self, node: Node, number: int = 0) -> RoomId:
        """A room of this relay's."""
        found = [room for n in range(100) if node.holding.has(room := RoomId(f"r_{n}"))]
        return found[number]

    async def ask(self, data: bytes, *more: bytes) -> tuple[Connection, Guest]:
        connection, guest = Connection(*more), Guest()
        await self.leading.visit(cast(Any, connection), data, guest)
        return connection, guest


def token_of(*rooms: RoomId) -> Token:
    made = Token(
        id="as_1",
        digest=b"d" * 32,
        agent=AgentId("agent"),
        room=rooms[0],
        access=("read",),
        minted_at=Millis(0),
        expires_at=Millis(1 << 50),
        label="",
    )
    return made if len(rooms) == 1 else msgspec.structs.replace(made, rooms=rooms)


def head(path: str, token: str = GOOD) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 192.0.2.1\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[Two]:
    async with cluster_in(folder) as cluster:
        nodes = [cluster.relay(), cluster.relay()]
        for node in nodes:
            await cluster.start(node)
        await cluster.settled()
        yield Two(cluster, nodes)


@pytest.mark.parametrize("has_it", [0, 1])
def test_a_connection_is_answered_by_the_relay_of_its_room(tmp_path: Path, has_it: int) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.book.tokens[GOOD] = token_of(made.room_of(made.nodes[has_it]))
            connection, guest = await made.ask(head("/v1/me"))
            assert connection.answer == f"relay{has_it + 1} answers".encode()
            [(address, asked)] = made.webs[has_it].asked
            assert address == "192.0.2.99"
            # One that is led on is answered once: the next request may be another relay's.
            assert (b"Connection: close\r\n" in asked) is (guest.is_proven) is bool(has_it)
            assert asked.endswith(b"Bearer " + GOOD.encode() + b"\r\n\r\n")

    run(main)


def test_what_comes_after_the_head_goes_along(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.book.tokens[GOOD] = token_of(made.room_of(made.nodes[1]))
            whole = head("/v1/me")
            begun, rest = whole[:-2], whole[-2:]
            connection, _ = await made.ask(begun, rest)
            assert connection.answer == b"relay2 answers"

    run(main)


def test_of_a_token_for_several_rooms_the_address_says_which(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            rooms = {node.name: made.room_of(node) for node in made.nodes}
            made.book.tokens[GOOD] = token_of(*rooms.values())
            for name, room in rooms.items():
                connection, _ = await made.ask(head(f"/v1/rooms/{room}/messages"))
                assert connection.answer == f"{name} answers".encode()
            assert all(b"Connection: close" in asked for web in made.webs for _, asked in web.asked)

    run(main)


def test_a_token_that_another_relay_gave_a_moment_ago_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.late.tokens[GOOD] = token_of(made.room_of(made.nodes[1]))
            connection, _ = await made.ask(head("/v1/me"))
            assert connection.answer == b"relay2 answers"

    run(main)


@pytest.mark.parametrize("text", ["as_wrong", "", f"{GOOD}\r\nAuthorization: Bearer {GOOD}"])
def test_whoever_shows_no_token_that_holds_is_led_nowhere(tmp_path: Path, text: str) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.book.tokens[GOOD] = token_of(made.room_of(made.nodes[1]))
            connection, guest = await made.ask(head("/v1/me", text))
            assert connection.answer == b"relay1 answers"
            assert (guest.is_proven, made.webs[1].asked) == (False, [])

    run(main)


def test_whoever_goes_away_ends_what_is_under_way_at_the_other_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.book.tokens[GOOD] = token_of(made.room_of(made.nodes[1]))
            connection = Connection()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.leading.visit, cast(Any, connection), head("/slow"), Guest())
                await trio.sleep(1)
                connection.is_gone.set()
            assert trio.current_time() - began < 2
            assert connection.answer == b""

    run(main)


def test_a_connection_whose_room_moved_is_closed_so_that_it_comes_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as made:
            made.book.tokens[GOOD] = token_of(made.room_of(made.nodes[0]))
            connection = Connection()
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(made.leading.run)
                async with trio.open_nursery() as asking:
                    asking.start_soon(made.leading.visit, cast(Any, connection), head("/slow"), Guest())
                    await trio.sleep(1)
                    await made.nodes[0].holding.drain()
                assert trio.current_time() - began < 5
                nursery.cancel_scope.cancel()

    run(main)
