"""Which agent a connection acts as: slots for windows, names for commands, and what survives a restart."""

from __future__ import annotations

import pytest
import trio

from parlerd.core.model import HOME_ROOM
from parlerd.engine.leases import KEPT_MS
from parlerd.operations import types as t
from tests.support.engine import (
    SlowDriver,
    World,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.faulty_store import FaultyStore
from tests.support.windows import REPO, name_of, talking

# -- windows -----------------------------------------------------------------------------------------------


def test_windows_of_one_workspace_that_are_open_together_get_slots_of_their_own() -> None:
    async def main() -> None:
        async with engine_world() as served:
            windows = [await served.window(f"w{n}", workspace=REPO) for n in range(3)]
            names = [await name_of(window) for window in windows]
            assert names == ["claude-code@shop", "claude-code@shop#2", "claude-code@shop#3"]
            assert len({(await window.whoami()).id for window in windows}) == 3

    run(main)


def test_windows_that_make_their_first_call_at_the_same_moment_do_not_share_a_slot() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            windows = [await served.window(f"w{n}", workspace=REPO) for n in range(4)]
            answers = await gather(*(window.whoami for window in windows))
            assert len({me.id for me in answers}) == 4

    run(main)


def test_a_slot_that_was_freed_is_taken_again_with_its_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first, second = [await served.window(f"w{n}", workspace=REPO) for n in range(2)]
            ids = [(await window.whoami()).id for window in (first, second)]
            await served.leave(first)
            third = await served.window("w9", workspace=REPO)
            assert (await third.whoami()).id == ids[0]
            assert (await second.whoami()).id == ids[1]

    run(main)


def test_other_hosts_workspaces_and_none_are_other_agents() -> None:
    async def main() -> None:
        async with engine_world() as served:
            names = [
                await name_of(await served.window("a", workspace=REPO)),
                await name_of(await served.window("b", host="codex", workspace=REPO)),
                await name_of(await served.window("c", workspace="/home/sam/other")),
                await name_of(await served.window("d", workspace="/tmp/other")),
                await name_of(await served.window("e")),
            ]
            assert names == [
                "claude-code@shop",
                "codex@shop",
                "claude-code@other",
                "claude-code@other-2",
                "claude-code",
            ]

    run(main)


def test_a_window_that_reconnects_is_the_same_agent_and_frees_its_slot_once() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w1", workspace=REPO)
            me = await window.whoami()
            # The new connection is there before the old one's end was noticed.
            again = await served.window("w1", workspace=REPO)
            await served.leave(window)
            assert (await again.whoami()).id == me.id
            other = await served.window("w2", workspace=REPO)
            assert (await other.whoami()).id != me.id

    run(main)


def test_a_connection_that_only_looks_around_is_never_an_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w1", workspace=REPO)
            await window.call("daemon.status", t.DaemonStatus())
            assert await served.notice(window) == ""
            await served.acknowledge(window)
            assert window.caller.agent is None
            assert served.world.store.head(HOME_ROOM).position == 0
            await served.leave(window)

    run(main)


# -- conversations -----------------------------------------------------------------------------------------


def test_a_conversation_that_is_resumed_is_the_agent_it_was_whoever_sits_beside_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one, two = await talking(served, "w1", "A"), await talking(served, "w2", "B")
            ids = [(await party.whoami()).id for party in (one, two)]
            assert ids[0] != ids[1]
            for party in (one, two):
                await served.leave(party)
            # B first this time, from another window: by place alone it would be A's agent.
            again = await talking(served, "w3", "B")
            assert (await again.whoami()).id == ids[1]
            assert (await (await talking(served, "w4", "A")).whoami()).id == ids[0]

    run(main)


def test_the_same_conversation_open_twice_is_two_agents_and_stays_these_two() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one, two = await talking(served, "w1", "A"), await talking(served, "w2", "A")
            ids = [(await party.whoami()).id for party in (one, two)]
            assert len(set(ids)) == 2
            await served.leave(one)
            await served.leave(two)
            three, four = await talking(served, "w3", "A"), await talking(served, "w4", "A")
            assert [(await party.whoami()).id for party in (three, four)] == ids

    run(main)


def test_a_new_conversation_is_a_new_agent_and_has_nothing_of_the_old_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            old = await talking(served, "w1", "A")
            await old.open("an old room")
            await served.leave(old)
            new = await talking(served, "w2", "B")
            assert (await new.rooms()) == []
            assert (await new.whoami()).name == "claude-code@shop#2"

    run(main)


def test_a_conversation_is_known_in_another_directory_and_after_a_restart() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            first = (await (await talking(served, "w1", "A")).whoami()).id
        async with world.serving() as served:
            # Past the time that a seat is kept for the window that had it.
            await trio.sleep(KEPT_MS / 1000 + 1)
            elsewhere = await talking(served, "w2", "A", workspace="/home/sam/other")
            assert (await elsewhere.whoami()).id == first

    run(main)


def test_the_same_id_in_another_host_is_another_conversation() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one = await talking(served, "w1", "A")
            two = await talking(served, "w2", "A", host="grok")
            assert (await one.whoami()).id != (await two.whoami()).id
            assert (await two.whoami()).name == "grok@shop"

    run(main)


def test_a_window_without_a_conversation_takes_no_agent_of_one() -> None:
    async def main() -> None:
        async with engine_world() as served:
            named = await talking(served, "w1", "A")
            mine = (await named.whoami()).id
            await served.leave(named)
            other = await served.window("w2", workspace=REPO)
            assert (await other.whoami()).id != mine
            await served.leave(other)
            assert (await (await served.window("w3", workspace=REPO)).whoami()).id == (await other.whoami()).id

    run(main)


def test_a_host_that_goes_on_with_its_newest_conversation_unnamed_is_the_agent_that_acted_last() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one, two = await talking(served, "w1", "A"), await talking(served, "w2", "B")
            ids = [(await party.whoami()).id for party in (one, two)]
            served.world.clock.move(seconds=5)
            await served.leave(two)
            served.world.clock.move(seconds=5)
            await served.leave(one)
            on = await served.connect("mcp", window="w3", host="claude-code", workspace=REPO, continues=True)
            assert (await on.whoami()).id == ids[0]
            beside = await served.connect("mcp", window="w4", host="claude-code", workspace=REPO, continues=True)
            assert (await beside.whoami()).id == ids[1]

    run(main)


def test_the_threads_of_one_process_keep_their_agents_when_another_calls_first_after_a_restart() -> None:
    """Codex: the first thread that calls has its process's own window, and need not be the one that had it before."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            first = await (await talking(served, "w1", "thread-a", host="codex")).whoami()
            second = await (await talking(served, "w1.digest-of-b", "thread-b", host="codex")).whoami()
            assert first.id != second.id
        async with world.serving() as served:
            # Thread B calls first: the process's own window is B's now, and A's is a further one.
            b = await (await talking(served, "w1", "thread-b", host="codex")).whoami()
            a = await (await talking(served, "w1.digest-of-a", "thread-a", host="codex")).whoami()
            assert (a.id, b.id) == (first.id, second.id)

    run(main)


def test_a_conversation_that_is_resumed_right_after_the_daemon_came_back_is_the_agent_it_was() -> None:
    """A reboot: the old window is gone for good, and the new one starts the daemon."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            before = await (await talking(served, "w1", "conversation-b")).whoami()
        async with world.serving() as served:
            after = await (await talking(served, "w2", "conversation-b")).whoami()
            assert after.id == before.id

    run(main)


def test_a_new_conversation_does_not_become_an_agent_that_a_nameless_one_was() -> None:
    """`claude -p --continue` has no id of its conversation that can be believed, and leaves an agent with rooms."""

    async def main() -> None:
        async with engine_world() as served:
            nameless = await served.connect("mcp", window="w1", host="claude-code", workspace=REPO, continues=True)
            await nameless.open("secret plans")
            before = await nameless.whoami()
            await served.leave(nameless)
            fresh = await talking(served, "w2", "conversation-new")
            assert (await fresh.whoami()).id != before.id

    run(main)


def test_a_window_that_asks_for_the_name_of_an_agent_that_another_window_acts_as_gets_the_next_slot() -> None:
    async def main() -> None:
        async with engine_world() as served:
            seated = await (await served.window("w1", workspace=REPO)).whoami()
            named = await (await served.window("w2", as_name=seated.name)).whoami()
            assert named.id != seated.id

    run(main)


def test_conversations_that_begin_at_the_same_moment_do_not_share_an_agent() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            windows = [await talking(served, f"w{n}", f"c{n % 3}") for n in range(6)]
            answers = await gather(*(window.whoami for window in windows))
            assert len({me.id for me in answers}) == 6

    run(main)


def test_a_window_that_says_it_is_of_another_host_is_seated_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w1", workspace=REPO)
            await served.introduce(window, "grok")
            assert await name_of(window) == "grok@shop"
            seen = await window.ask("hosts.seen", t.SeenHosts(), t.SeenHostList)
            assert {each.host: each.windows for each in seen.hosts} == {"claude-code": 0, "grok": 1}
            # Who acts already stays who it is.
            await served.introduce(window, "codex")
            assert window.caller.facts.host == "grok"

    run(main)


# -- names -------------------------------------------------------------------------------------------------


def test_commands_under_one_name_are_one_agent_from_any_connection() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first, second = await served.agent("bob"), await served.agent("bob")
            assert (await first.whoami()).id == (await second.whoami()).id
            await served.leave(first)
            assert (await (await served.agent("bob")).whoami()).id == (await second.whoami()).id

    run(main)


def test_a_command_without_a_name_is_the_persons_own_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            assert await name_of(await served.person()) == "sam"
            assert (await (await served.agent("sam")).whoami()).id == (await (await served.person()).whoami()).id

    run(main)


@pytest.mark.parametrize(
    "name", ["", " ", "b\u043eb", "a b", "x" * 65, "a\nb", "\u202ebob", "<bob>", "U" + "A" * 55, "owner", "Me"]
)
def test_a_name_that_cannot_be_one_is_refused_and_makes_no_agent(name: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            keys = served.world.keys
            made, create = [], keys.create_agent
            keys.create_agent = lambda: (made.append(1), create())[1]  # type: ignore[method-assign, func-returns-value]
            party = await served.connect(as_name=name, host="shell")
            if not name:
                assert await name_of(party) == "sam"
                return
            assert (await party.refused("agent.whoami", t.WhoAmI())).code == "invalid_name"
            window = await served.window("w", as_name=name)
            assert (await window.refused("agent.whoami", t.WhoAmI())).code == "invalid_name"
            assert served.world.store.head(HOME_ROOM).position == 0
            assert made == []

    run(main)


def test_a_second_live_window_under_one_name_gets_the_next_slot() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first = await served.window("w1", as_name="bob")
            second = await served.window("w2", as_name="bob", workspace=REPO)
            assert [await name_of(first), await name_of(second)] == ["bob", "bob#2"]
            await served.leave(first)
            third = await served.window("w3", as_name="bob")
            assert await name_of(third) == "bob"

    run(main)


def test_a_command_under_the_name_of_a_live_window_reads_without_acknowledging_unless_it_takes() -> None:
    async def main() -> None:
        async with engine_world() as served:
            (alice,) = await served.room("alice")
            opened = await alice.open("second")
            window = await served.window("w1", as_name="bob")
            await served.admit(opened, window)
            await served.acknowledge(window)
            await alice.send("for bob", room=opened.room)

            command = await served.agent("bob")
            page = await command.recv(room=opened.room)
            assert texts(page) == ["for bob"]
            assert not page.acknowledges
            assert "live window" in page.notice
            assert texts(await window.recv(room=opened.room)) == ["for bob"]

            taken = await command.recv(room=opened.room, take=True)
            assert taken.acknowledges
            await command.commit(taken)
            assert texts(await command.recv(room=opened.room, take=True)) == []

            await served.leave(window)
            await alice.send("more", room=opened.room)
            assert (await command.recv(room=opened.room)).acknowledges

    run(main)


def test_a_window_that_came_back_after_a_restart_holds_its_agent_before_its_first_call() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            window = await served.window("w1", as_name="bob")
            await served.admit(opened, window)
            await served.acknowledge(window)
            await alice.send("for bob")
        async with world.serving() as served:
            world.clock.move(seconds=100)
            alice = await served.agent("alice")
            assert (await alice.roster())["bob"].presence == "offline"
            await served.window("w1", as_name="bob")
            assert (await alice.roster())["bob"].presence == "idle"
            command = await served.agent("bob")
            assert not (await command.recv(room=opened.room)).acknowledges

    run(main)


def test_a_first_call_survives_that_another_callers_commit_fails_at_the_same_time() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store, driver=SlowDriver) as served:
            (alice,) = await served.room("alice")
            bob = await served.agent("bob")

            async def fails() -> None:
                store.fail_next_commit("store_locked")
                error = await alice.refused("session.open", t.OpenSession(topic="x"))
                assert error.code == "store_locked"

            _, me = await gather(fails, bob.whoami)
            assert me is not None
            assert me.name == "bob"

    run(main)
