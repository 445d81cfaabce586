"""How the daemon is, which hosts came to it and what became of their files, without making anybody an agent."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.engine.ports import NoHostFiles
from parlerd.operations import types as t
from tests.support.engine import (
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


def test_the_frames_of_the_socket_are_the_persons_to_follow() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            with pytest.raises(Refused) as refused:
                async with served.engine.stream("daemon.frames", t.FollowFrames(), window.caller) as frames:
                    await anext(frames)
            assert refused.value.code == "person_only"
        async with engine_world(inspect=lambda peer: replace(peer, agent_host="codex")) as served:
            person = await served.person()
            with pytest.raises(Refused) as refused:
                async with served.engine.stream("daemon.frames", t.FollowFrames(), person.caller) as frames:
                    await anext(frames)
            assert refused.value.code == "needs_person"

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
            assert await served.notice(window) == ""
            for each in (window, other):
                await each.whoami()
                assert [await served.notice(each) for _ in range(2)] == ["Codex lost its entry.", ""]
            files.line = ""
            assert await served.notice(window) == ""
            files.line = "Codex lost its entry."
            assert await served.notice(window) == "Codex lost its entry."

    run(main)
