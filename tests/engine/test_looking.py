"""Looking around: rooms, roster, who I am, how the daemon is; nothing changes and nothing hidden shows."""

from __future__ import annotations

import os

import pytest
import trio

from parlerd.core.model import MessageId, Position, RoomId
from parlerd.engine import looking
from parlerd.engine.ports import NoHostFiles
from parlerd.engine.seats import MAX_HOSTS
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import START_MS, engine_world, run

YEAR_S = 365 * 86_400


def test_rooms_are_listed_with_what_is_unread_for_this_reader() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert await bob.rooms() == []
            one, two = await alice.open("one", "recap"), await alice.open("two", "")
            await served.admit(one, bob)
            served.world.clock.move(seconds=9)
            await alice.send("x", room=one.room)
            (room,) = await bob.rooms()
            assert (room.room, room.name, room.topic, room.kind, room.home) == (
                one.room,
                "one",
                "one",
                "session",
                "local",
            )
            assert (room.members, room.unread, room.active, room.state) == (2, 1, True, "open")
            assert room.last_at == START_MS + 9000
            mine = {room.name: room for room in await alice.rooms()}
            assert (mine["one"].unread, mine["one"].active) == (0, False)
            assert (mine["two"].members, mine["two"].active, mine["two"].last_at) == (1, True, START_MS)
            await (await served.agent("carol")).join(two.session_key)
            assert {room.name: room.pending for room in await alice.rooms()} == {"one": 0, "two": 1}
            assert (await bob.rooms())[0].pending == 0

    run(main)


def test_the_time_of_the_newest_message_is_that_of_the_newest_this_reader_may_see() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            served.world.clock.move(seconds=5)
            await bob.send("public")
            served.world.clock.move(seconds=5)
            await bob.send("hidden", visible_to=("carol",))
            times = [(await party.rooms())[0].last_at - START_MS for party in (alice, bob, carol)]
            assert times == [5000, 10_000, 10_000]

    run(main)


def test_the_roster_names_members_by_handle_with_their_role_and_says_who_owns() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            roster = await bob.roster()
            assert {name: (member.role, member.owner, member.host) for name, member in roster.items()} == {
                "alice": ("owner", True, "shell"),
                "bob": ("member", False, "shell"),
            }
            assert roster["bob"].id == (await bob.whoami()).id
            assert (await alice.roster("auth-redesign")).keys() == roster.keys()

    run(main)


def test_who_am_i_says_whose_agent_this_is_where_it_stands_and_what_is_active() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w", workspace="/home/sam/shop")
            me = await window.whoami()
            assert (me.name, me.host, me.home, me.workspace) == (
                "claude-code@shop",
                "claude-code",
                "local",
                "/home/sam/shop",
            )
            assert me.principal == served.world.keys.principal
            assert me.active is None
            opened = await window.open()
            assert (await window.whoami()).active == opened.room

    run(main)


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


class Damaged(MemoryStore):
    """A store whose own check or whose chains may not be sound."""

    problems: tuple[str, ...] = ()
    broken: RoomId | None = None

    def check(self) -> list[str]:
        return list(self.problems)

    def verify_chain(self, room: RoomId) -> Position | None:
        return Position(3) if room == self.broken else super().verify_chain(room)


def test_a_check_is_quiet_when_all_is_well_and_names_what_is_not_and_the_fix() -> None:
    async def main() -> None:
        store = Damaged()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            room = (await alice.rooms())[0].room

            async def checks() -> dict[str, t.Check]:
                found = await alice.ask("daemon.check", t.CheckStore(), t.CheckList)
                return {check.name: check for check in found.checks}

            assert all(check.ok and not check.fix for check in (await checks()).values())
            store.problems = ("row 7 is missing",)
            store.broken = RoomId(room)
            found = await checks()
            assert not found["store"].ok
            assert "row 7" in found["store"].detail
            assert room in found["chain"].detail
            assert "backup" in found["store"].fix
            assert "backup" in found["chain"].fix

    run(main)


def test_a_check_finds_a_signature_that_is_none_and_names_the_fact() -> None:
    async def main() -> None:
        store = MemoryStore()
        async with engine_world(store=store) as served:
            (alice,) = await served.room("alice")
            sent = await alice.send("one")
            found = store.find_message(MessageId(sent.id))
            assert found is not None
            room, position = found
            body, _ = store._logs[room].bodies[position]
            store._logs[room].bodies[position] = body, bytes(64)
            checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            (wrong,) = [check for check in checks if not check.ok]
            assert wrong.name == "signatures"
            assert f"room {room}: fact {position}" in wrong.detail
            assert "backup" in wrong.fix

    run(main)


def test_a_check_says_how_many_signatures_it_had_no_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "SIGNATURES_S", 0.0)

    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            (signatures,) = [check for check in checks if check.name == "signatures"]
            assert signatures.ok
            assert signatures.detail.startswith("0 facts")
            assert "older ones were not looked at" in signatures.detail

    run(main)


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


def test_a_check_names_rooms_whose_messages_are_dated_ahead_and_the_way_back() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            await alice.open("fine")
            served.world.clock.move(seconds=10 * YEAR_S)
            room = (await alice.send("from the future", room="auth-redesign")).room
            served.world.clock.move(seconds=-10 * YEAR_S)

            async def named() -> list[t.Check]:
                checks = (await alice.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
                return [check for check in checks if not check.ok]

            (check,) = await named()
            assert check.name == "clock"
            assert room in check.detail
            assert check.fix.endswith(f"parler session close --room {room}")
            await alice.close(room)
            assert await named() == []

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
            assert await served.notice(window) == ""
            for each in (window, other):
                await each.whoami()
                assert [await served.notice(each) for _ in range(2)] == ["Codex lost its entry.", ""]
            files.line = ""
            assert await served.notice(window) == ""
            files.line = "Codex lost its entry."
            assert await served.notice(window) == "Codex lost its entry."

    run(main)
