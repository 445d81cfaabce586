"""A relay's links and a daemon's end of one, over streams in memory: keys, and a list of who is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from trio.testing import MockClock

from parlerd.connections.stream import MessageStream
from parlerd.core.model import HomeId, Label, Millis, PrincipalId
from parlerd.engine.face import EngineFace
from parlerd.identity.signatures import Domain, SigningKey
from parlerd.uplink.connection import LinkConnection, connected
from relay.link import Limits, Links
from tests.support.message_streams import MemoryStream, pair

RELAY: Final = SigningKey("relay", bytes(32))
OTHER_RELAY: Final = SigningKey("relay", b"\1" * 32)
PERSON: Final = SigningKey("principal", b"\2" * 32)
OTHER_PERSON: Final = SigningKey("principal", b"\3" * 32)
SECRET: Final = bytes(range(16))
CERTIFICATE: Final = b"c" * 32
OFFERED: Final = ("message.send", "message.recv", "room.watch", "agent.whoami")
"""What the relay of a test answers: operations that the fake engine knows."""


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        with trio.fail_after(100_000):
            await main()

    trio.run(bounded, clock=MockClock(autojump_threshold=0))


class OneKey:
    """Holds one key, as the person's key ring or as a relay does."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key

    @property
    def principal(self) -> PrincipalId:
        return PrincipalId(self.key.id)

    @property
    def home(self) -> HomeId:
        return HomeId(self.key.id)

    def sign(self, id: str, domain: Domain, data: bytes) -> bytes:
        assert id == self.key.id
        return self.key.sign(domain, data)


class Book:
    """Whom a relay knows."""

    def __init__(self, *known: SigningKey) -> None:
        self.names: dict[PrincipalId, str] = {PrincipalId(key.id): "known" for key in known}
        self.kicked: set[PrincipalId] = set()
        self.current = SECRET
        self.slow = 0.0

    def is_enrolled(self, principal: PrincipalId) -> bool:
        return principal in self.names

    def is_kicked(self, principal: PrincipalId) -> bool:
        return principal in self.kicked

    def secret(self) -> bytes:
        return self.current

    async def enrol(self, principal: PrincipalId, name: Label) -> None:
        await trio.sleep(self.slow)
        self.names[principal] = name
        self.kicked.discard(principal)

    def kick(self, principal: PrincipalId) -> None:
        self.names.pop(principal, None)
        self.kicked.add(principal)
        self.current = bytes(reversed(self.current))


def links_of(engine: EngineFace, book: Book | None = None, *, key: SigningKey = RELAY, **more: Any) -> Links:
    """A relay's links. Who is known is `PERSON`, unless a book says otherwise."""
    about: dict[str, Any] = {
        "name": "team",
        "log_id": "log1",
        "now": lambda: Millis(5_000),
        "addresses": lambda: ("192.0.2.1:7777",),
        "version": "2.0",
        "offered": OFFERED,
        "limits": Limits(),
    }
    return Links(engine, Book(PERSON) if book is None else book, OneKey(key), **{**about, **more})


def dialled(stream: MessageStream, *, key: SigningKey = PERSON, pin: SigningKey = RELAY, **more: Any) -> Any:
    """A daemon's end, as a context manager that gives the link."""
    about: dict[str, Any] = {
        "fits": lambda home: home == pin.id,
        "keys": OneKey(key),
        "name": Label("laptop"),
        "now": lambda: Millis(1_000),
        "version": "1.0",
    }
    return connected(stream, **{**about, **more})


@asynccontextmanager
async def linked(
    engine: EngineFace, links: Links | None = None, **more: Any
) -> AsyncIterator[tuple[Links, LinkConnection, MemoryStream]]:
    """A link in memory whose both ends are proven; the stream is the daemon's end of it."""
    links = links or links_of(engine)
    ours, theirs = pair(CERTIFICATE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(links.serve, theirs)
        async with dialled(ours, **more) as link:
            yield links, link, ours
        nursery.cancel_scope.cancel()
