"""A daemon, or the relay behind it, that is stopped in the middle of what goes on in a room on the relay: at whatever
moment, it ends soon, and nothing that was answered is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import trio

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.support.engine import Party, PlugDriver, Served, SlowDriver
from tests.support.relayed import homes_of
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

ENDS_WITHIN_S: Final = 30.0
"""Virtual seconds. What takes longest are commits of a second, of which some are one after the other."""


class Work(RoomWork):
    """What goes on between Alice, whose daemon is to stop, and Bob, whose daemon goes on."""

    def __init__(self, ben: Served, *, clear: bool) -> None:
        super().__init__()
        self._ben = ben
        self._clear = clear

    async def go_on(self, ann: Served) -> None:
        """Everything at once, until cancelled."""
        async with connected(ann, "alice") as alice, connected(self._ben, "bob") as bob, connected(ann, "") as person:
            try:
                opened = await alice.open(clear=self._clear)
                waits = await bob.join(opened.session_key)
                await person.approve("bob", join_code=waits.join_code)
                await bob.come_in(opened.session_key, wait=600)
            except ParlerError:
                # What is to stop does so already.
                return
            room = opened.room
            works = [
                partial(self.talks, alice, room),
                partial(self.talks, bob, room),
                partial(self.gives_up, alice, room),
                partial(self.listens, alice),
                partial(self.listens, bob),
                partial(self.looks, alice, room),
                partial(self.works, alice, room),
                partial(self.comes_and_goes, ann, opened.session_key),
                partial(self._opens, alice, person),
            ]
            await going_on(works)

    async def _opens(self, party: Party, person: Party) -> None:
        opened = await party.open("a room for a moment", clear=self._clear)
        await party.send("for a moment", room=opened.room)
        await person.call("room.delete", t.DeleteRoom(room=opened.room, confirmed=True))


def stop_at(turn: int, driver: Any, how: How, folder: Path, *, clear: bool) -> None:
    _, relay, home = homes_of(folder)
    ann, ben = home("ann"), home("ben")
    ann.world.driver = driver

    async def story(stopping: trio.Event) -> None:
        async with relay.serving(), ben.serving() as served:
            work = Work(served, clear=clear)
            assert await stopped(ann.serving(), work.go_on, stopping, how) < ENDS_WITHIN_S
            ann.world.driver = PlugDriver
            async with ann.serving() as again, connected(again, "alice") as alice:
                await is_whole(again)
                # A member that came while this daemon was away is let in by it, and then shown what was said.
                await trio.sleep(10)
                await has_all(alice, work.said)

    play_until(turn, story)


def stop_relay_at(turn: int, driver: Any, folder: Path, *, clear: bool) -> None:
    _, relay, home = homes_of(folder)
    relay.driver = driver

    async def story(stopping: trio.Event) -> None:
        async with home("ann").serving() as ann, home("ben").serving() as ben:
            work = Work(ben, clear=clear)
            async with trio.open_nursery() as daemons:
                async with relay.serving() as engine:
                    daemons.start_soon(work.go_on, ann)
                    await stopping.wait()
                    since = trio.current_time()
                    await engine.drain()
                assert trio.current_time() - since < ENDS_WITHIN_S
                # Who goes on meanwhile is not answered by the relay any more.
                said = list(work.said)
                relay.driver = PlugDriver
                async with relay.serving():
                    await trio.sleep(10)
                    daemons.cancel_scope.cancel()
                    with trio.CancelScope(shield=True):
                        async with connected(ann, "alice") as alice, connected(ben, "bob") as bob:
                            await trio.sleep(10)
                            for party in (alice, bob):
                                await has_all(party, said)

    play_until(turn, story)


DRIVERS: Final[dict[str, Any]] = {"at hand": PlugDriver, "slow": SlowDriver}


@pytest.mark.parametrize("clear", [True, False], ids=["clear", "sealed"])
@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("how", get_args(How))
@pytest.mark.parametrize("turn", range(300, 1_800, 411))
def test_a_daemon_ends_at_whatever_moment_it_is_stopped_and_loses_nothing_that_was_answered(
    tmp_path: Path, name: str, how: How, turn: int, clear: bool
) -> None:
    stop_at(turn, DRIVERS[name], how, tmp_path, clear=clear)


@pytest.mark.parametrize("clear", [True, False], ids=["clear", "sealed"])
@pytest.mark.parametrize("name", [*DRIVERS, "far"])
@pytest.mark.parametrize("turn", range(350, 2_000, 611))
def test_a_relay_ends_at_whatever_moment_it_is_stopped_and_loses_nothing_that_was_answered(
    tmp_path: Path, name: str, turn: int, clear: bool
) -> None:
    stop_relay_at(turn, DRIVERS.get(name, SlowFarDriver), tmp_path, clear=clear)
