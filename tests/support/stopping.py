"""Stopping in the middle of work, at one turn of the loop or another: an event that is set then, and work in a room
that goes on until it is cancelled, whatever single calls are answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal

import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.ipc.connection import Limits
from parlerd.ipc.server import DRAIN_SECONDS
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import FarDriver, Party, Served

PAUSE_S: Final = 0.3
"""Between two rounds of some work: a commit of a second is under way in some of them, and in others none is."""

HANGS_S: Final = 3_600.0
"""Virtual seconds after which nothing will ever happen."""

How = Literal["in order", "at once", "behind the engine"]
"""Whether calls have a moment, or their callers are sent away at once, or only when the engine has ended: what a door
shields from being cancelled goes on as long."""


class StopAt(trio.abc.Instrument):
    """Sets `stopping` when tasks have had so many turns."""

    def __init__(self, turn: int) -> None:
        self.stopping = trio.Event()
        self._left = turn

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._left -= 1
        if self._left == 0:
            self.stopping.set()


def play_until(turn: int, story: Callable[[trio.Event], Awaitable[None]]) -> None:
    """Play a story under virtual time, which is told by an event when tasks have had so many turns."""
    at = StopAt(turn)

    async def main() -> None:
        with trio.fail_after(HANGS_S):
            await story(at.stopping)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[at])


class SlowFarDriver(FarDriver):
    """A store over a network that takes its time with each commit."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.lag = 0.25


class RoomWork:
    """What agents do in a room, and what was answered."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        """The messages whose authors were told that they are stored: the room and the text."""

    async def talks(self, party: Party, room: str) -> None:
        text = f"message {len(self.said)} of {party.caller.facts.as_name}"
        await party.send(text, room=room)
        self.said.append((room, text))

    async def gives_up(self, party: Party, room: str) -> None:
        with trio.move_on_after(0.1):
            await party.send("perhaps", room=room)

    async def listens(self, party: Party) -> None:
        await party.commit(await party.recv(wait=5))

    async def looks(self, party: Party, room: str) -> None:
        await party.rooms()
        await party.roster(room)

    async def works(self, party: Party, room: str) -> None:
        task = (await party.send("a task", kind="task", room=room)).id
        await party.call("task.claim", t.ClaimTask(id=task, room=room))
        await party.call("state.set", t.SetState(key="n", value=task, room=room, timer=t.TimerAsked(ms=1_000)))
        await party.call("memory.remember", t.Remember(text="a fact", key="k", room=room))
        await party.call("memory.forget", t.Forget(key="k", room=room))
        await party.call("task.complete", t.CompleteTask(id=task, text="done", room=room))

    async def comes_and_goes(self, served: Served, key: str | None) -> None:
        async with connected(served, "window", is_window=True) as window, connected(served, "") as person:
            if (await window.join(key)).status == "pending":
                await person.approve((await window.whoami()).id)


async def going_on(works: Sequence[Callable[[], Awaitable[None]]]) -> None:
    """Do all of this at the same time, again and again, until cancelled."""
    async with trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(_again_and_again, work)


async def _again_and_again(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except* ParlerError:
            pass
        await trio.sleep(PAUSE_S)


async def stopped(
    home: AbstractAsyncContextManager[Served], work: Callable[[Served], Awaitable[None]], at: trio.Event, how: How
) -> float:
    """Serve a home with work in it until the event, and then stop as a daemon does. How many seconds that took."""
    async with trio.open_nursery() as behind:
        async with home as served, trio.open_nursery() as callers:
            (behind if how == "behind the engine" else callers).start_soon(work, served)
            await at.wait()
            since = trio.current_time()
            await served.engine.drain()
            if how == "in order":
                await trio.sleep(DRAIN_SECONDS)
            callers.cancel_scope.cancel()
        took = trio.current_time() - since
        behind.cancel_scope.cancel()
    return took


@asynccontextmanager
async def connected(served: Served, name: str, *, is_window: bool = False) -> AsyncIterator[Party]:
    """An agent that leaves at the end, as its connection does."""
    party = await (served.window(name, workspace="w") if is_window else served.agent(name))
    try:
        yield party
    finally:
        with trio.move_on_after(Limits().farewell_seconds, shield=True):
            await served.leave(party)


async def is_whole(served: Served) -> set[str]:
    """The rooms of a home, each of which is audited as its person would: the chain, the lines, the signatures."""
    person = await served.person()
    logs = await person.ask("log.list", t.ListLogs(), t.LogList)
    for room in logs.rooms:
        audited = await person.ask("log.audit", t.AuditRoom(room=room), t.AuditedRoom)
        assert (audited.wrong, audited.upto) == (None, audited.end), room
    return set(logs.rooms)


async def said_in(party: Party, room: str) -> set[str]:
    """The texts of a room, from its first message on."""
    found: set[str] = set()
    last = 0
    while messages := (await party.recv(room=room, since=last)).messages:
        found |= {str(message.text) for message in messages}
        last = messages[-1].seq
    return found


async def has_all(party: Party, said: list[tuple[str, str]]) -> None:
    """A member goes on in the rooms, and is shown all of this."""
    there = set()
    for room in {room for room, _ in said}:
        await party.send("again", room=room)
        there |= {(room, text) for text in await said_in(party, room)}
    assert set(said) - there == set()
