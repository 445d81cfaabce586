"""HTTP as a client that speaks nothing else: requests over a memory stream, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import h11
import trio
import trio.testing

from parlerd.engine.authority import of_visitor
from parlerd.engine.callers import Caller, Facts
from parlerd.operations import types as t
from parlerd.web.app import Web, is_upload
from parlerd.web.door import Application, Door, Message, Names
from tests.support.engine import Party, Served

NAME = "127.0.0.1:8756"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        code: str = self.document["error"]["code"]
        return code


class Client:
    """One connection."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def ask(
        self, line: str, body: object = None, *, token: str = "", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request, `GET /v1/me`, and its answer. A `body` that is no bytes is sent as JSON."""
        await self.begin(line, body, token=token, headers=headers)
        return await self.answer()

    async def begin(
        self, line: str, body: object = None, *, token: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        method, _, target = line.partition(" ")
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Host": NAME, **(headers or {})}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if data or method in ("POST", "PUT"):
            sent["Content-Length"] = str(len(data))
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        await self._say(h11.Request(method=method, target=target, headers=list(sent.items())))
        if data:
            await self._say(h11.Data(data=data))
        await self._say(h11.EndOfMessage())

    async def answer(self) -> Answer:
        head, body = None, b""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Answer(head.status_code, headers, body)
            else:
                raise AssertionError(event)

    async def piece(self) -> bytes:
        """The next piece of a body that comes in pieces; empty at its end."""
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self.stream.receive_some()))
            elif isinstance(event, h11.Data):
                return bytes(event.data)
            elif not isinstance(event, h11.Response):
                return b""

    async def _say(self, event: Any) -> None:
        data = self._h11.send(event)
        if data:
            await self.stream.send_all(data)


@asynccontextmanager
async def served(
    app: Application, *, is_upload: Callable[[Message], bool] = lambda scope: False
) -> AsyncIterator[tuple[Door, trio.Nursery]]:
    """A door before an application."""
    async with trio.open_nursery() as nursery:
        yield Door(app, Names([NAME]), is_upload=is_upload), nursery
        nursery.cancel_scope.cancel()


def connect(door: Door, nursery: trio.Nursery) -> Client:
    """One connection to a door."""
    mine, its = trio.testing.memory_stream_pair()
    nursery.start_soon(door.visit, its)
    return Client(mine)


@dataclass
class OverHttp:
    """A home that answers over HTTP."""

    door: Door
    nursery: trio.Nursery

    def connect(self) -> Client:
        return connect(self.door, self.nursery)

    async def ask(self, line: str, body: object = None, **rest: Any) -> Answer:
        """One request on a connection of its own."""
        client = self.connect()
        async with client.stream:
            return await client.ask(line, body, **rest)


@asynccontextmanager
async def over_http(home: Served, *, lets_in: bool = False) -> AsyncIterator[OverHttp]:
    """A served home, over HTTP as well; with `lets_in` a program may come that has no token."""
    authority = of_visitor(home.world.keys.principal, is_let_in=lets_in, is_own=True)

    def stranger(peer: object) -> Caller:
        return Caller(Facts("http", "http", authority))

    async with served(Web(home.engine, home.engine.bearers, stranger).app, is_upload=is_upload) as (door, nursery):
        yield OverHttp(door, nursery)


async def minted(party: Party, **rest: Any) -> t.MintedToken:
    return await party.ask("token.mint", t.MintToken(**rest), t.MintedToken)
