"""A daemon, or the relay behind it, that is stopped in the middle of what goes on in a room on the relay: at whatever
moment, it ends soon, and nothing that was answered is lost."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final, get_args

import pytest
import trio
import trio.testing

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import FarDriver, Party, PlugDriver, Served, SlowDriver
from tests.support.relayed import homes_of
from tests.support.stopping import How, StopAt, connected, going_on, is_whole, said_in, stopped

ENDS_WITHIN_S: Final = 30.0
"""Virtual seconds. What takes longest are commits of a second, of which some are one after the other."""
HANGS_S: Final = 3_600.0
"""Virtual seconds after which nothing will ever happen."""


class Work:
    """What goes on between Alice, whose daemon is to stop, and Bob, whose daemon goes on."""

    def __init__(self, ben: Served, *, clear: bool) -> None:
        self.said: list[tuple[str, str]] = []
        """The messages whose authors were told that they are stored: the room and the text."""
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
                partial(self._talks, alice, room),
                partial(self._talks, bob, room),
                partial(self._gives_up, alice, room),
                partial(self._listens, alice),
                partial(self._listens, bob),
                partial(self._looks, alice, room),
                partial(self._works, alice, room),
                partial(self._comes_and_goes, ann, opened.session_key),
                partial(self._opens, alice, person),
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

    async def _works(self, party: Party, room: str) -> None:
        task = (await party.send("a task", kind="task", room=room)).id
        await party.call("task.claim", t.ClaimTask(id=task, room=room))
        await party.call("state.set", t.SetState(key="n", value=task, room=room, timer=t.TimerAsked(ms=1_000)))
        await party.call("memory.remember", t.Remember(text="a fact", key="k", room=room))
        await party.call("memory.forget", t.Forget(key="k", room=room))
        await party.call("task.complete", t.CompleteTask(id=task, text="done", room=room))

    async def _comes_and_goes(self, served: Served, key: str | None) -> None:
        async with connected(served, "window", is_window=True) as window, connected(served, "") as person:
            if (await window.join(key)).status == "pending":
                await person.approve((await window.whoami()).id)

    async def _opens(self, party: Party, person: Party) -> None:
        opened = await party.open("a room for a moment", clear=self._clear)
        await party.send("for a moment", room=opened.room)
        await person.call("room.delete", t.DeleteRoom(room=opened.room, confirmed=True))


def stop_at(turn: int, driver: Any, how: How, folder: Path, *, clear: bool) -> None:
    at = StopAt(turn)
    _, relay, home = homes_of(folder)
    ann, ben = home("ann"), home("ben")
    ann.world.driver = driver

    async def main() -> None:
        with trio.fail_after(HANGS_S):
            async with relay.serving(), ben.serving() as served:
                work = Work(served, clear=clear)
                assert await stopped(ann.serving(), work.go_on, at.stopping, how) < ENDS_WITHIN_S
                ann.world.driver = PlugDriver
                async with ann.serving() as again, connected(again, "alice") as alice:
                    await is_whole(again)
                    # A member that came while this daemon was away is let in by it, and then shown what was said.
                    await trio.sleep(10)
                    await has_all(alice, work.said)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[at])


async def has_all(party: Party, said: list[tuple[str, str]]) -> None:
    """A member goes on in the rooms, and is shown all of this."""
    there = set()
    for room in {room for room, _ in said}:
        await party.send("again", room=room)
        there |= {(room, text) for text in await said_in(party, room)}
    assert set(said) - there == set()


def stop_relay_at(turn: int, driver: Any, folder: Path, *, clear: bool) -> None:
    at = StopAt(turn)
    _, relay, home = homes_of(folder)
    relay.driver = driver

    async def main() -> None:
        with trio.fail_after(HANGS_S):
            async with home("ann").serving() as ann, home("ben").serving() as ben:
                work = Work(ben, clear=clear)
                async with trio.open_nursery() as daemons:
                    async with relay.serving() as engine:
                        daemons.start_soon(work.go_on, ann)
                        await at.stopping.wait()
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

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), instruments=[at])


class SlowFarDriver(FarDriver):
    """A store over a network that takes its time with each commit."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.lag = 0.25


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
