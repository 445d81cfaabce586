"""The engine behind its face: what a window leans on holds of the real one and of the tests' own.

A reader's window in one room, in which somebody else posts. Whatever `FakeMcpEngine` plays by itself is asked here of
the engine over a store in memory as well; what tests script is a copy of a result and needs no agreement.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
import trio
import trio.testing

from mcp_server.tools.results import Scribe
from parlerd.core.model import RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from tests.support.callers import caller_of
from tests.support.engine import engine_world, run
from tests.support.fake_mcp_engine import ROOM, FakeMcpEngine, caller
from tests.support.models import pair


class Room(Protocol):
    """One room with a reader's window."""

    engine: EngineFace
    caller: Caller
    id: RoomId

    async def post(self, text: str) -> None:
        """Somebody else posts."""
        ...


class Fake:
    def __init__(self) -> None:
        self._engine = FakeMcpEngine()
        self.engine: EngineFace = self._engine
        self.caller = caller()
        self.id = ROOM

    async def post(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self._engine.post(text)


class Real:
    def __init__(self, engine: EngineFace, who: Caller, room: str, send: Callable[[str], Awaitable[object]]) -> None:
        self.engine = engine
        self.caller = who
        self.id = RoomId(room)
        self._send = send

    async def post(self, text: str) -> None:
        await self._send(text)


@asynccontextmanager
async def fake() -> AsyncIterator[Room]:
    yield Fake()


@asynccontextmanager
async def real() -> AsyncIterator[Room]:
    async with engine_world() as served:
        two = await pair(served)
        # Reads what came with the join.
        await two.bob.call("parler_recv")
        await two.bob.call("parler_rooms")
        yield Real(served.engine, two.bob.window.caller, two.opened.room, two.alice.send)


RoomOf = Callable[[], AbstractAsyncContextManager[Room]]


async def recv(room: Room, **params: Any) -> t.Received:
    page = await room.engine.call("message.recv", t.Recv(room=str(room.id), **params), room.caller)
    assert isinstance(page, t.Received)
    return page


def texts(page: t.Received) -> list[str]:
    return [str(message.text) for message in page.messages]


def on_every_engine(test: Callable[[Room], Awaitable[None]]) -> Callable[[RoomOf], None]:
    """Run a test in a room of each engine."""

    @pytest.mark.parametrize("room_of", [fake, real])
    def in_room(room_of: RoomOf) -> None:
        async def main() -> None:
            async with room_of() as room:
                await test(room)

        run(main)

    return in_room


@on_every_engine
async def test_a_page_comes_again_until_it_is_acknowledged(room: Room) -> None:
    await room.post("one")
    await room.post("two")
    assert texts(await recv(room)) == ["one", "two"]
    assert texts(await recv(room)) == ["one", "two"]
    await room.engine.call("window.acknowledge", t.AcknowledgeShown(), room.caller)
    assert room.caller.reader.shown.holds(room.id) is None
    assert texts(await recv(room)) == []


@on_every_engine
async def test_what_was_shown_is_noted_for_the_room_and_taken_back_by_the_window(room: Room) -> None:
    await room.post("one")
    await recv(room)
    before = room.caller.reader.shown.holds(room.id)
    assert before is not None
    await room.post("two")
    await recv(room)
    assert (room.caller.reader.shown.holds(room.id) or 0) > before
    room.caller.reader.shown.take()
    await room.engine.call("window.acknowledge", t.AcknowledgeShown(), room.caller)
    assert texts(await recv(room)) == ["one", "two"]


@on_every_engine
async def test_a_page_says_what_is_left_and_whether_it_acknowledges(room: Room) -> None:
    for text in ("one", "two", "three"):
        await room.post(text)
    first = await recv(room, limit=2)
    assert (texts(first), first.unread, first.more, first.acknowledges) == (["one", "two"], 1, True, True)
    await room.engine.call("window.acknowledge", t.AcknowledgeShown(), room.caller)
    last = await recv(room, limit=2)
    assert (texts(last), last.unread, last.more) == (["three"], 0, False)


@on_every_engine
async def test_looking_back_shows_from_there_and_acknowledges_nothing(room: Room) -> None:
    for text in ("one", "two", "three"):
        await room.post(text)
    everything = await recv(room)
    room.caller.reader.shown.take()
    since = everything.messages[0].seq
    page = await recv(room, since=since, limit=1)
    assert (texts(page), page.acknowledges, page.following) == (["two"], False, 1)
    assert room.caller.reader.shown.holds(room.id) is None
    assert texts(await recv(room)) == ["one", "two", "three"]


@on_every_engine
async def test_a_peek_acknowledges_nothing(room: Room) -> None:
    await room.post("one")
    page = await recv(room, peek=True)
    assert (texts(page), page.acknowledges, room.caller.reader.shown.take()) == (["one"], False, {})


@on_every_engine
async def test_a_page_holds_what_the_window_says_that_it_can_show(room: Room) -> None:
    room.caller.reader.fits = Scribe()
    for letter in "abc":
        await room.post(letter * 6_000)
    page = await recv(room)
    assert [text[0] for text in texts(page)] == ["a"]
    assert page.unread == 2
    await room.engine.call("window.acknowledge", t.AcknowledgeShown(), room.caller)
    assert [text[0] for text in texts(await recv(room))] == ["b"]


@on_every_engine
async def test_a_wait_ends_with_a_message_and_else_with_its_time(room: Room) -> None:
    began = trio.current_time()
    assert texts(await recv(room, wait_ms=5_000)) == []
    assert trio.current_time() - began == pytest.approx(5)
    pages: list[t.Received] = []

    async def wait() -> None:
        pages.append(await recv(room, wait_ms=40_000))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        await room.post("there")
    assert [texts(page) for page in pages] == [["there"]]


@on_every_engine
async def test_a_send_is_answered_with_its_place_and_its_key(room: Room) -> None:
    sent = await room.engine.call(
        "message.send", t.Send(text="x", room=str(room.id), idempotency_key="k1"), room.caller
    )
    assert isinstance(sent, t.Sent)
    assert (sent.room, sent.idempotency_key, sent.replayed) == (room.id, "k1", False)
    assert sent.seq is not None
    assert sent.seq > 0
    assert not sent.queued


@on_every_engine
async def test_a_cursor_that_is_committed_acknowledges(room: Room) -> None:
    await room.post("one")
    page = await recv(room)
    room.caller.reader.shown.take()
    await room.engine.call("message.commit", t.Commit(room=room.id, cursor=page.cursor), room.caller)
    assert texts(await recv(room)) == []


@on_every_engine
async def test_without_news_there_is_no_notice(room: Room) -> None:
    assert await room.engine.call("window.notice", t.AskNotice(), room.caller) == t.Notice(line="")


@on_every_engine
async def test_a_window_is_introduced_as_another_host(room: Room) -> None:
    further = caller_of("mcp", session="further", host="codex", window="f" * 32)
    await room.engine.connect(further)
    await room.engine.call("window.introduce", t.Introduce(host="gemini"), further)
    assert further.facts.host == "gemini"
    await room.engine.disconnect(further)
