"""A home that is asked to stop in the middle of its work: at whatever moment, it ends soon, and nothing that was
answered is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, get_args

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.core.model import HOME_ROOM
from parlerd.engine.driver import Driver
from parlerd.engine.rooms import fold_room
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import FarDriver, Party, PlugDriver, Served, SlowDriver, SteppedClock, World
from tests.support.stopping import How, StopAt, connected, going_on, is_whole, said_in, stopped

ENDS_WITHIN_S: Final = 15.0
"""Virtual seconds. What takes longest are commits of a second, of which some are one after the other."""
HANGS_S: Final = 3_600.0
"""Virtual seconds after which nothing will ever happen."""


class Work:
    """What goes on in a home, and what was answered."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []
        """The messages whose authors were told that they are stored: the room and the text."""
        self.deleted: set[str] = set()
        """The rooms whose deletion was confirmed."""

    async def go_on(self, served: Served) -> None:
        """Everything at once, until cancelled."""
        async with connected(served, "alice") as alice, connected(served, "bob") as bob:
            try:
                opened = await alice.open()
                await served.admit(opened, bob)
            except ParlerError:
                # The home stops already.
                return
            room = opened.room
            works = [
                partial(self._talks, alice, room),
                partial(self._talks, bob, room),
                partial(self._gives_up, bob, room),
                partial(self._listens, bob),
                partial(self._looks, bob, room),
                partial(self._watches, served, alice, room),
                partial(self._comes_and_goes, served, opened.session_key),
                partial(self._works, alice, room),
                partial(self._deletes, served, alice),
            ]
            await going_on(works)

    async def _talks(self, party: Party, room: str) -> None:
        text = f"message {len(self.said)} of {party.caller.facts.as_name}"
        await party.send(text, room=room)
        self.said.append((room, text))

    async def _gives_up(self, party: Party, room: str) -> None:
        with trio.move_on_after(0.1):
            await party.send("perhaps", room=room)

    async def _listens(self, party: Party) -> None:
        await party.commit(await party.recv(wait=5))

    async def _looks(self, party: Party, room: str) -> None:
        await party.rooms()
        await party.roster(room)

    async def _watches(self, served: Served, party: Party, room: str) -> None:
        async with served.engine.stream("room.watch", t.WatchRoom(room=room), party.caller) as items:
            async for _ in items:
                pass

    async def _comes_and_goes(self, served: Served, key: str | None) -> None:
        async with connected(served, "window", is_window=True) as window, connected(served, "") as person:
            if (await window.join(key)).status == "pending":
                await person.approve((await window.whoami()).id)

    async def _works(self, party: Party, room: str) -> None:
        task = (await party.send("a task", kind="task", room=room)).id
        await party.call("task.claim", t.ClaimTask(id=task, room=room))
        await party.call("state.set", t.SetState(key="n", value=task, room=room, timer=t.TimerAsked(ms=1_000)))
        await party.call("memory.remember", t.Remember(text="a fact", key="k", room=room))
        await party.call("memory.forget", t.Forget(key="k", room=room))
        await party.call("task.complete", t.CompleteTask(id=task, text="done", room=room))

    async def _deletes(self, served: Served, party: Party) -> None:
        opened = await party.open("a room for a moment")
        async with connected(served, "") as person, trio.open_nursery() as nursery:
            for n in range(3):
                nursery.start_soon(self._says, party, opened.room, f"for a moment {n}")
            await trio.sleep(0.1)
            await person.call("room.delete", t.DeleteRoom(room=opened.room, confirmed=True))
            self.deleted.add(opened.room)

    async def _says(self, party: Party, room: str, text: str) -> None:
        with suppress(ParlerError):
            await party.send(text, room=room)


async def is_sound(world: World, work: Work) -> None:
    """What was answered is stored, in logs that are whole, and the next daemon serves them."""
    for room in world.store.rooms():
        if room != HOME_ROOM:
            folded, frozen = fold_room(world.store, room)
            assert (frozen, folded.position) == (False, world.store.head(room).position)
    world.driver = PlugDriver
    async with world.serving() as served:
        assert not work.deleted.intersection(await is_whole(served))
        alice = await served.agent("alice")
        there = set()
        for wanted in {room for room, _ in work.said}:
            there |= {(wanted, text) for text in await said_in(alice, wanted)}
            await alice.send("again", room=wanted)
        assert set(work.said) - there == set()


def stop_at(turn: int, driver: Callable[[Store], Driver], how: How) -> None:
    at, work = StopAt(turn), Work()
    world = World(driver=driver, clock=SteppedClock())

    async def main() -> None:
        with trio.fail_after(HANGS_S):
            assert await stopped(world.serving(), work.go_on, at.stopping, how) < ENDS_WITHIN_S
            await is_sound(world, work)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[at])


class SlowFarDriver(FarDriver):
    """A store over a network that takes its time with each commit."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.lag = 0.25


DRIVERS: Final[dict[str, Any]] = {"at hand": PlugDriver, "slow": SlowDriver, "far": SlowFarDriver}


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("turn", range(40, 1_200, 137))
def test_a_home_ends_at_whatever_moment_it_is_stopped_and_loses_nothing_that_was_answered(
    name: str, how: How, turn: int
) -> None:
    stop_at(turn, DRIVERS[name], how)
