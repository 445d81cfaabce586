"""How the daemon is, which hosts came to it and what became of their files, without making anybody an agent."""

from __future__ import annotations

import os

import trio

from parlerd.engine.ports import NoHostFiles
from parlerd.engine.seats import MAX_HOSTS
from parlerd.operations import types as t
from tests.support.engine import (
    START_MS,
    engine_world,
    run,
)


class LostEntry(NoHostFiles):
    """A host lost its entry, and putting it back did not help."""

    def __init__(self) -> None:
        self.looks = 0
        self.line = "Codex lost its entry."

    def look(self) -> None:
        self.looks += 1

    def notice(self) -> str:
        return self.line

    def failures(self) -> list[tuple[str, str]]:
        return [("Codex rewrites its file", "quit it")] if self.line else []


def test_the_daemon_says_how_it_is_without_making_the_caller_an_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await served.room("alice", "bob")
            window, person = await served.window("w"), await served.person()
            await trio.sleep(12)
            status = await person.ask("daemon.status", t.DaemonStatus(), t.DaemonInfo)
            assert (status.running, status.pid, status.rooms, status.windows) == (True, os.getpid(), 1, 1)
            assert (status.connections, status.uptime_ms) == (4, 12_000)
            assert (status.socket, status.home, status.store) == ("/run/parlerd.sock", "/home/sam/other", "MemoryStore")
            status = await window.ask("daemon.status", t.DaemonStatus(), t.DaemonInfo)
            assert (status.windows, window.caller.agent, person.caller.agent) == (1, None, None)

    run(main)


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


def test_whoever_watches_the_files_looks_anew_only_when_asked_and_its_failures_are_checks() -> None:
    async def main() -> None:
        files = LostEntry()
        async with engine_world(host_files=files) as served:
            script = await served.agent("ann")
            await script.ask("hosts.seen", t.SeenHosts(), t.SeenHostList)
            assert files.looks == 0
            await script.ask("hosts.seen", t.SeenHosts(look=True), t.SeenHostList)
            assert files.looks == 1
            checks = (await script.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            assert t.Check(name="host files", ok=False, detail="Codex rewrites its file", fix="quit it") in checks

    run(main)


def test_a_window_is_told_once_that_a_host_lost_its_entry_and_again_when_it_happens_again() -> None:
    async def main() -> None:
        files = LostEntry()
        async with engine_world(host_files=files) as served:
            window, other = await served.window("w1"), await served.window("w2")
            assert await served.engine.notice(window.caller) == ""
            for each in (window, other):
                await each.whoami()
                assert [await served.engine.notice(each.caller) for _ in range(2)] == ["Codex lost its entry.", ""]
            files.line = ""
            assert await served.engine.notice(window.caller) == ""
            files.line = "Codex lost its entry."
            assert await served.engine.notice(window.caller) == "Codex lost its entry."

    run(main)
