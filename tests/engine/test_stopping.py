"""A home that is asked to stop in the middle of its work: at whatever moment, it ends soon, and nothing that was
answered is lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, get_args

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import HOME_ROOM
from parlerd.engine.driver import Driver
from parlerd.engine.rooms import fold_room
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import Party, PlugDriver, Served, SlowDriver, SteppedClock, World
from tests.support.stopping import (
    How,
    RoomWork,
    SlowFarDriver,
    connected,
    going_on,
    has_all,
    is_whole,
    play_until,
    stopped,
)

ENDS_WITHIN_S: Final = 15.0
"""Virtual seconds. What takes longest are commits of a second, of which some are one after the other."""


class Work(RoomWork):
    """What goes on in a home, and what was answered."""

    def __init__(self) -> None:
        super().__init__()
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
                partial(self.talks, alice, room),
                partial(self.talks, bob, room),
                partial(self.gives_up, bob, room),
                partial(self.listens, bob),
                partial(self.looks, bob, room),
                partial(self._watches, served, alice, room),
                partial(self.comes_and_goes, served, opened.session_key),
                partial(self.works, alice, room),
                partial(self._deletes, served, alice),
            ]
            await going_on(works)

    async def _watches(self, served: Served, party: Party, room: str) -> None:
        async with served.engine.stream("room.watch", t.WatchRoom(room=room), party.caller) as items:
            async for _ in items:
                pass

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
        await has_all(await served.agent("alice"), work.said)


def stop_at(turn: int, driver: Callable[[Store], Driver], how: How) -> None:
    world, work = World(driver=driver, clock=SteppedClock()), Work()

    async def story(stopping: trio.Event) -> None:
        assert await stopped(world.serving(), work.go_on, stopping, how) < ENDS_WITHIN_S
        await is_sound(world, work)

    play_until(turn, story)


DRIVERS: Final[dict[str, Any]] = {"at hand": PlugDriver, "slow": SlowDriver, "far": SlowFarDriver}


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("turn", range(40, 1_200, 137))
def test_a_home_ends_at_whatever_moment_it_is_stopped_and_loses_nothing_that_was_answered(
    name: str, how: How, turn: int
) -> None:
    stop_at(turn, DRIVERS[name], how)
