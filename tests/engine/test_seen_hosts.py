"""Which hosts have opened a window here: seen before they are an agent, and bounded."""

from __future__ import annotations

from parlerd.engine.seen_hosts import MAX_HOSTS
from parlerd.operations import types as t
from tests.support.engine import (
    START_MS,
    engine_world,
    run,
)


def test_hosts_are_seen_when_a_window_of_theirs_comes_and_before_it_is_an_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            script = await served.agent("ann")
            before = await script.ask("hosts.seen", t.SeenHosts(), t.SeenHostList)
            assert before.hosts == []
            window = await served.window("w1", host="codex")
            served.world.clock.move(seconds=5)
            await served.window("w2", host="gemini")
            await served.window("w3", host="gemini")
            await served.leave(window)
            after = await script.ask("hosts.seen", t.SeenHosts(), t.SeenHostList)
            assert after.hosts == [
                t.SeenHost(host="codex", at=START_MS, windows=0),
                t.SeenHost(host="gemini", at=START_MS + 5000, windows=2),
            ]
            assert [agent.name for agent in served.engine._desk.rooms.home.aggregate.state.agents.values()] == []

    run(main)


def test_the_hosts_that_are_remembered_are_bounded_and_the_oldest_is_forgotten() -> None:
    async def main() -> None:
        async with engine_world() as served:
            for n in range(MAX_HOSTS + 1):
                await served.window(f"w{n}", host=f"host-{n}")
                if n == 1:
                    await served.window("again", host="host-0")
            hosts = (await (await served.agent("ann")).ask("hosts.seen", t.SeenHosts(), t.SeenHostList)).hosts
            assert len(hosts) == MAX_HOSTS
            assert {"host-0", f"host-{MAX_HOSTS}"} <= {host.host for host in hosts}
            assert "host-1" not in {host.host for host in hosts}

    run(main)
