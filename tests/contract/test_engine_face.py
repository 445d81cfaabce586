"""The engine's face: what the door on the socket leans on holds of the real engine and of the small one of its tests.

The caller is a member of a room. What `FakeEngine` makes up (the words of its results) needs no agreement; that calls
end, wait, are cancelled, begin in line and stream alike does. A window's side of the same face is asked in
`test_mcp_engine`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace
from parlerd.operations import types as t
from tests.support.engine import engine_world, run
from tests.support.faces import PassingFace
from tests.support.fake_engine import FakeEngine
from tests.support.fake_mcp_engine import caller


@dataclass
class Door:
    """An engine and a caller that is connected to it. `arrives` makes one thing happen that a watcher is shown."""

    engine: EngineFace
    caller: Caller
    arrives: Callable[[], Awaitable[None]]


@asynccontextmanager
async def fake() -> AsyncIterator[Door]:
    engine = FakeEngine()
    engine.posts = True
    engine.items = 1
    engine.endless = True
    who = caller()
    await engine.connect(who)
    yield Door(engine, who, trio.lowlevel.checkpoint)
    await engine.disconnect(who)


@asynccontextmanager
async def real() -> AsyncIterator[Door]:
    async with engine_world() as served:
        ann, ben = await served.room("ann", "ben")

        async def post() -> None:
            await ben.send("for the watcher")

        yield Door(served.engine, ann.caller, post)


@asynccontextmanager
async def behind() -> AsyncIterator[Door]:
    async with real() as door:
        yield Door(PassingFace(door.engine), door.caller, door.arrives)


DoorOf = Callable[[], AbstractAsyncContextManager[Door]]


def on_every_engine(test: Callable[[Door], Awaitable[None]]) -> Callable[[DoorOf], None]:
    """Run a test at the door of each engine."""

    @pytest.mark.parametrize("door_of", [fake, real, behind])
    def at_door(door_of: DoorOf) -> None:
        async def main() -> None:
            async with door_of() as door:
                await test(door)

        run(main)

    return at_door


async def send(door: Door, text: str, key: str | None = None) -> t.Sent:
    sent = await door.engine.call("message.send", t.Send(text=text, idempotency_key=key), door.caller)
    assert isinstance(sent, t.Sent)
    return sent


@on_every_engine
async def test_an_operation_that_is_unknown_is_refused_by_name(door: Door) -> None:
    with pytest.raises(ParlerError) as called:
        await door.engine.call("no.such", t.WhoAmI(), door.caller)
    with pytest.raises(ParlerError) as followed:
        async with door.engine.stream("no.such", t.WhoAmI(), door.caller):
            pass
    for caught in (called, followed):
        assert (caught.value.code, caught.value.details) == ("unknown_operation", {"operation": "no.such"})


@on_every_engine
async def test_a_send_is_answered_with_its_key_or_one_that_was_drawn(door: Door) -> None:
    assert (await send(door, "a", "k1")).idempotency_key == "k1"
    assert (await send(door, "ab")).idempotency_key


@on_every_engine
async def test_a_wait_ends_after_its_time_without_anything(door: Door) -> None:
    began = trio.current_time()
    page = await door.engine.call("message.recv", t.Recv(wait_ms=5_000), door.caller)
    assert isinstance(page, t.Received)
    assert (page.messages, page.more) == ([], False)
    assert trio.current_time() - began == pytest.approx(5)


@on_every_engine
async def test_a_call_that_is_cancelled_ends_at_once_and_without_an_answer(door: Door) -> None:
    began = trio.current_time()
    answered = False

    async def wait() -> None:
        nonlocal answered
        await door.engine.call("message.recv", t.Recv(wait_ms=5_000), door.caller)
        answered = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (answered, trio.current_time()) == (False, began)


@on_every_engine
async def test_who_one_is_and_that_the_daemon_stops_are_answered_by_their_shapes(door: Door) -> None:
    me = await door.engine.call("agent.whoami", t.WhoAmI(), door.caller)
    assert isinstance(me, t.Me)
    assert (me.name, me.host) == (door.caller.facts.as_name, door.caller.facts.host)
    assert isinstance(await door.engine.call("daemon.stop", t.StopDaemon(), door.caller), t.Stopping)


@on_every_engine
async def test_what_needs_more_than_a_place_in_line_cannot_be_begun(door: Door) -> None:
    assert door.engine.begin("message.recv", t.Recv(), door.caller) is None


@on_every_engine
async def test_sends_that_were_begun_are_told_of_once_later_and_in_their_order(door: Door) -> None:
    told: list[str] = []
    pending = {text: door.engine.begin("message.send", t.Send(text=text), door.caller) for text in ("a", "ab")}
    for text, begun in pending.items():
        assert begun is not None
        begun.when_done(lambda text=text: told.append(text))  # type: ignore[misc]  # the default binds the loop's name
    assert told == []
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(told) == ["a", "ab"]
    outcomes = [begun.outcome() for begun in pending.values() if begun is not None]
    assert all(isinstance(outcome, t.Sent) for outcome in outcomes)
    first, second = (outcome.seq for outcome in outcomes if isinstance(outcome, t.Sent))
    assert first is not None
    assert second is not None
    assert first < second


@on_every_engine
async def test_a_stream_gives_what_arrives_and_is_left_at_any_time(door: Door) -> None:
    began = trio.current_time()
    async with door.engine.stream("room.watch", t.WatchRoom(), door.caller) as items:
        shown: list[t.Result] = []

        async def follow() -> None:
            async for item in items:
                shown.append(item)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            await door.arrives()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert {(type(item), getattr(item, "event", "")) for item in shown} == {(t.WatchItem, "message")}
    assert trio.current_time() == began
