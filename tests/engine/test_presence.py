"""How present an agent is, from connections and calls alone."""

from __future__ import annotations

from functools import partial

import trio

from tests.support.engine import (
    engine_world,
    run,
)


def test_presence_is_derived_from_connections_and_acts() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")

            async def presence() -> tuple[str, int]:
                member = (await alice.roster())["bob"]
                return member.presence, member.since

            began = served.world.clock.ms
            assert await presence() == ("active", began)
            served.world.clock.move(seconds=61)
            assert await presence() == ("idle", began)
            served.world.clock.move(seconds=-10 * 86_400)
            assert await presence() == ("idle", began)
            served.world.clock.move(seconds=10 * 86_400)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(bob.recv, wait=60))
                await trio.testing.wait_all_tasks_blocked()
                assert await presence() == ("waiting", began + 61_000)
                await alice.send("wake up")
            assert (await presence())[0] == "active"
            await served.leave(bob)
            served.world.clock.move(seconds=5)
            assert await presence() == ("offline", began + 61_000)

    run(main)
