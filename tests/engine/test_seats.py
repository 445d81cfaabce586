"""Which agent a connection acts as: slots for windows, names for commands, and what survives a restart."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import trio

from parlerd.core import events as e
from parlerd.core.model import HOME_ROOM, Position
from parlerd.engine.seats import KEPT_MS
from parlerd.identity.delegation import DELEGATION_TTL_MS, read
from parlerd.operations import types as t
from parlerd.store.port import Store
from tests.support.engine import (
    Party,
    Served,
    SlowDriver,
    World,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.faulty_store import FaultyStore

REPO = "/home/sam/shop"


async def name_of(party: Party) -> str:
    return (await party.whoami()).name


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


def test_a_workspace_and_a_host_with_strange_names_still_give_a_label() -> None:
    async def main() -> None:
        async with engine_world() as served:
            one = await served.window(
                "a", host="Ag\u0435nt \u202e!", workspace="/home/sam/" + "\u65e5\u672c\n" + "x" * 200
            )
            name = await name_of(one)
            assert len(name) <= 64
            assert name.isascii()

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
            assert served.driver.store.head(HOME_ROOM).position == 0
            await served.leave(window)

    run(main)


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


# -- conversations -----------------------------------------------------------------------------------------


async def talking(
    served: Served, name: str, conversation: str, *, workspace: str = REPO, host: str = "claude-code", **about: Any
) -> Party:
    """A window in which a conversation of its host goes on."""
    return await served.connect("mcp", window=name, host=host, workspace=workspace, conversation=conversation, **about)


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


def test_a_hook_is_told_of_the_conversation_it_is_in_before_a_window_acts_in_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            window = await talking(served, "w1", "A")
            await served.admit(await alice.open(), window)
            await served.leave(window)
            await talking(served, "w2", "B")
            await alice.send("for A")
            hook = await served.connect("hook", host="claude-code", workspace=REPO, conversation="A")
            waiting = await hook.ask("wake.check", t.WakeCheck(), t.Waiting)
            assert waiting.unread == 1

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
            assert window.caller.host == "grok"

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
            assert served.driver.store.head(HOME_ROOM).position == 0
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


# -- restarts ----------------------------------------------------------------------------------------------


async def leased(store: Store) -> list[str]:
    await trio.lowlevel.checkpoint()
    return [lease.window for lease in store.leases()]


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


# -- delegation --------------------------------------------------------------------------------------------


def delegations(served: Served) -> list[e.Header]:
    facts = served.driver.store.facts(HOME_ROOM, Position(0), 1000)
    return [header for header in facts if isinstance(header.event, e.DelegationIssued)]


def test_every_agent_has_its_persons_signed_delegation_and_it_renews_with_use() -> None:
    async def main() -> None:
        async with engine_world() as served:
            bob = await served.agent("bob")
            me = await bob.whoami()
            (issued,) = delegations(served)
            assert isinstance(issued.event, e.DelegationIssued)
            assert issued.event.agent == me.id
            assert issued.event.expires_at == served.world.clock.ms + DELEGATION_TTL_MS
            body = served.driver.store.body(HOME_ROOM, issued.position)
            assert body is not None
            assert body[1] is not None
            signed = read(body[0], body[1])
            assert signed is not None
            assert (signed.agent, signed.principal, signed.expires_at) == (me.id, me.principal, issued.event.expires_at)

            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000 / 2 - 10)
            await bob.whoami()
            assert len(delegations(served)) == 1
            served.world.clock.move(seconds=20)
            await bob.whoami()
            assert len(delegations(served)) == 2
            await bob.whoami()
            assert len(delegations(served)) == 2

    run(main)


def test_a_delegation_that_cannot_be_renewed_stops_nothing_while_it_holds() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            (bob,) = await served.room("bob")
            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000 / 2 + 10)
            store.fail_next_commit("store_full")
            assert [room.name for room in await bob.rooms()] == ["auth-redesign"]
            served.world.clock.move(seconds=DELEGATION_TTL_MS / 1000)
            store.fail_next_commit("store_full")
            assert (await bob.refused("rooms.list", t.ListRooms())).code == "store_full"
            assert await bob.rooms()

    run(main)


def test_an_agent_whose_delegation_failed_at_birth_gets_it_at_its_next_call() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            store.fail_commit_number(2)
            bob = await served.agent("bob")
            assert (await bob.refused("agent.whoami", t.WhoAmI())).code == "store_full"
            assert delegations(served) == []
            await bob.whoami()
            assert len(delegations(served)) == 1

    run(main)


# -- presence ----------------------------------------------------------------------------------------------


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
