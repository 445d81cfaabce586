"""The seats of windows in the store: kept over a restart for a while, and free at once when a window goes."""

from __future__ import annotations

import trio

from parlerd.engine.leases import KEPT_MS
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import (
    Party,
    SlowDriver,
    World,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.faulty_store import FaultyStore
from tests.support.windows import REPO, name_of


async def leased(store: Store) -> list[str]:
    await trio.lowlevel.checkpoint()
    return [lease.window for lease in store.leases()]


def test_a_window_of_an_agent_that_is_there_takes_its_seat_though_nothing_can_be_written() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            first = await served.window("w1", workspace=REPO)
            me = await first.whoami()
            await served.leave(first)
            store.fail_next_commit("store_full", times=99)
            again = await served.window("w2", workspace=REPO)
            assert (await again.whoami()).id == me.id
            # It holds the seat all the same; one that needs a new agent cannot be seated.
            beside = await served.window("w3", workspace=REPO)
            assert (await beside.refused("agent.whoami", t.WhoAmI())).code == "store_full"

    run(main)


def test_after_a_restart_a_slot_is_kept_for_its_window_for_thirty_seconds() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            me = await (await served.window("w1", workspace=REPO)).whoami()
        assert await leased(world.store) == ["w1"]
        async with world.serving() as served:
            await trio.sleep(29.9)
            stranger = await served.window("w2", workspace=REPO)
            assert await name_of(stranger) == "claude-code@shop#2"
            assert (await (await served.window("w1", workspace=REPO)).whoami()).id == me.id
        async with world.serving() as served:
            await trio.sleep(KEPT_MS / 1000 + 0.1)
            late = await served.window("w3", workspace=REPO)
            assert (await late.whoami()).id == me.id

    run(main)


def test_a_daemon_that_stops_keeps_the_slots_of_the_windows_that_it_lets_go() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            window = await served.window("w1", workspace=REPO)
            me = await window.whoami()
            await served.engine.drain()
            await served.engine.disconnect(window.caller)
        async with world.serving() as served:
            assert await name_of(await served.window("w2", workspace=REPO)) == "claude-code@shop#2"
            assert (await (await served.window("w1", workspace=REPO)).whoami()).id == me.id

    run(main)


def test_a_window_that_came_back_in_time_keeps_its_slot_for_good() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            me = await (await served.window("w1", workspace=REPO)).whoami()
        async with world.serving() as served:
            window = await served.window("w1", workspace=REPO)
            await trio.sleep(3600)
            other = await served.window("w2", workspace=REPO)
            assert await name_of(other) == "claude-code@shop#2"
            assert (await window.whoami()).id == me.id

    run(main)


def test_a_window_that_comes_back_while_a_lapsed_one_is_released_keeps_its_slot() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            for n in range(3):
                await (await served.window(f"w{n}", workspace=REPO)).whoami()
        world.driver = SlowDriver
        async with world.serving() as served:
            world.clock.move(seconds=60)
            stranger = await served.window("x", workspace=REPO)
            back: list[Party] = []

            async def come_back() -> None:
                back.append(await served.window("w2", workspace=REPO))

            # Releasing the first takes a second; the third window connects meanwhile.
            await gather(stranger.whoami, come_back)
            assert await name_of(back[0]) == "claude-code@shop#3"
            assert "w2" in await leased(world.store)

    run(main)


def test_cursors_and_the_active_session_come_back_with_the_agent() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            window = await served.window("w1", workspace=REPO)
            await served.admit(opened, window)
            await served.acknowledge(window)
            await alice.send("while you were away")
        async with world.serving() as served:
            window = await served.window("w1", workspace=REPO)
            assert texts(await window.recv()) == ["while you were away"]

    run(main)


def test_a_slot_whose_release_could_not_be_stored_lapses_after_the_next_start() -> None:
    async def main() -> None:
        world = World(store=FaultyStore())
        assert isinstance(world.store, FaultyStore)
        async with world.serving() as served:
            window = await served.window("w1", workspace=REPO)
            me = await window.whoami()
            world.store.fail_next_commit("store_full")
            await served.leave(window)
            assert (await (await served.window("w2", workspace=REPO)).whoami()).id == me.id
        async with world.serving() as served:
            await trio.sleep(31)
            assert (await (await served.window("w3", workspace=REPO)).whoami()).id == me.id

    run(main)
