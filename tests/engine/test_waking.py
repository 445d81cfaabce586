"""What a host's hook is told: whose news it is, counts and ids alone, the same thing once, and no more than an hour's
budget."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.loops import HOUR_MS, WAKES_AN_HOUR
from parlerd.engine.callers import PeerProcess
from parlerd.engine.waking import MAX_IDS
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from tests.support.engine import Party, Served, SteppedClock, World, engine_world, gather, run, settle

REPO = "/home/sam/shop"
NOTHING = {"unread": 0, "rooms": [], "handoffs": 0, "requests": 0, "wake": False, "paused": False}


async def hook(served: Served, *, host: str = "claude-code", workspace: str = REPO, **about: Any) -> Party:
    return await served.connect("hook", host=host, workspace=workspace, **about)


async def check(party: Party, *, turn: bool = False, wait_ms: int = 0) -> t.Waiting:
    found = await party.call("wake.check", t.WakeCheck(turn=turn, wait_ms=wait_ms))
    assert isinstance(found, t.Waiting)
    return found


async def window(served: Served, name: str = "w", **about: Any) -> Party:
    given = {"host": "claude-code", "workspace": REPO, "window": name, **about}
    return await served.connect("mcp", **given)


async def in_one_room(served: Served, **about: Any) -> tuple[Party, Party, str]:
    """Alice, a window in her session with nothing unread, and the session's id."""
    alice = await served.agent("alice")
    opened = await alice.open()
    ours = await window(served, **about)
    await served.admit(opened, ours)
    await served.acknowledge(ours)
    return alice, ours, str(opened.room)


# -- what is said ------------------------------------------------------------------------------------------


def test_a_hook_is_told_counts_and_ids_and_nothing_that_anybody_wrote() -> None:
    async def main() -> None:
        async with engine_world() as served:
            canary = await served.agent("canary")
            opened = await canary.open("canary topic", "canary recap")
            ours = await window(served)
            await served.admit(opened, ours)
            mine = await ours.open("canary of ours", "")
            await canary.send("canary text", room=opened.room, data={"canary": ["canary"]}, kind="canary")
            await canary.handoff("canary next", summary="canary", to=(await ours.whoami()).id, room=opened.room)
            knocking = await served.connect(as_name="canary-two", host="canary")
            await knocking.join(mine.session_key)
            found = await check(await hook(served))
            assert (found.handoffs, found.requests) == (1, 1)
            assert found.unread >= 2
            assert found.rooms == [opened.room]
            assert found.agent == (await ours.whoami()).id
            assert b"canary" not in msgspec.json.encode(found).lower()

    run(main)


def test_nothing_waits_where_nothing_does_and_own_words_are_no_news() -> None:
    async def main() -> None:
        async with engine_world() as served:
            _, ours, _ = await in_one_room(served)
            await ours.send("own words")
            found = await check(await hook(served))
            assert msgspec.to_builtins(found) == {**NOTHING, "agent": (await ours.whoami()).id}

    run(main)


def test_what_a_room_remembers_wakes_nobody_and_is_not_counted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, room = await in_one_room(served)
            asked = t.Remember(text="blue-green", room=room)
            await alice.ask("memory.remember", asked, t.Remembered)
            assert msgspec.to_builtins(await check(await hook(served), turn=True)).items() >= NOTHING.items()
            await alice.send("look it up", room=room)
            assert (await check(await hook(served), turn=True)).wake
            # What was told once is no news again because of a fact that came after it.
            await alice.ask("memory.remember", asked, t.Remembered)
            found = await check(await hook(served), turn=True)
            assert (found.unread, found.wake) == (1, False)

    run(main)


def test_how_a_task_goes_on_begins_no_turn_and_its_end_does() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, room = await in_one_room(served)
            task = await ours.send("review it", kind="task")
            await alice.ask("task.claim", t.ClaimTask(id=task.id, room=room), t.TaskHeld)
            asking = await hook(served)
            for status in ("accepted", "working", "awaiting"):
                said = t.SayOfTask(id=task.id, status=status, room=room)
                await alice.ask("task.say", said, t.TaskHeld)
                assert not (await check(asking, turn=True)).wake
            await alice.ask("task.complete", t.CompleteTask(id=task.id, room=room, text="good"), t.TaskHeld)
            assert (await check(asking, turn=True)).wake

    run(main)


def test_only_the_owner_is_told_who_knocks_and_private_words_of_others_are_not_counted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            carol = await served.agent("carol")
            ours = await window(served)
            await served.admit(opened, ours, carol)
            await served.acknowledge(ours)
            await (await served.agent("eve")).join(opened.session_key)
            await alice.send("x", visible_to=("carol",))
            found = await check(await hook(served))
            assert (found.unread, found.requests) == (0, 0)

    run(main)


def test_a_few_rooms_are_named_and_all_are_counted() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours = await served.agent("alice"), await window(served)
            for n in range(MAX_IDS + 2):
                await served.admit(await alice.open(f"room {n}", ""), ours)
                await alice.send("x", room=f"room-{n}")
            found = await check(await hook(served))
            assert len(found.rooms) == MAX_IDS
            assert found.unread >= MAX_IDS + 2

    run(main)


def test_what_a_window_was_just_shown_does_not_wait() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, _ = await in_one_room(served)
            await alice.send("one")
            await ours.recv()
            assert (await check(await hook(served), turn=True)).wake is False

    run(main)


def test_asking_moves_no_cursor_marks_nothing_and_makes_no_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, room = await in_one_room(served)
            sent = await alice.send("one")
            commits = served.plug.commits
            before = await alice.why(sent.id)
            for turn in (False, True):
                assert (await check(await hook(served), turn=turn)).unread == 1
                assert (
                    await check(await hook(served, host="codex", workspace="/home/sam/other"), turn=turn)
                ).agent == ""
            assert served.plug.commits == commits
            assert await alice.why(sent.id) == before
            # One that begins a turn leaves the fact that it did, and nothing else.
            await alice.send("two")
            commits, before = served.plug.commits, await alice.why(sent.id)
            assert (await check(await hook(served), turn=True)).wake
            assert served.plug.commits == commits + 1
            assert await alice.why(sent.id) == before
            assert [message.text for message in (await ours.recv(room=room)).messages] == ["one", "two"]

    run(main)


@pytest.mark.parametrize("via", ["cli", "mcp", "http"])
def test_only_a_hook_may_ask(via: Any) -> None:
    async def main() -> None:
        async with engine_world() as served:
            party = await served.connect(via, host="claude-code", window="w" if via == "mcp" else "")
            assert (await party.refused("wake.check", t.WakeCheck())).code == "hook_only"

    run(main)


# -- whose news it is --------------------------------------------------------------------------------------


async def two_windows(served: Served, first: dict[str, Any], second: dict[str, Any]) -> tuple[str, str]:
    """Two windows of one host that became agents, one message for each in rooms of their own; their ids."""
    alice, ids = await served.agent("alice"), []
    for n, about in enumerate((first, second)):
        ours = await window(served, f"w{n}", **about)
        await served.admit(await alice.open(f"room {n}", ""), ours)
        ids.append((await ours.whoami()).id)
    return ids[0], ids[1]


def test_a_window_is_known_by_the_process_that_started_both() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first, second = await two_windows(
                served, {"parents": frozenset({100})}, {"parents": frozenset({200}), "conversation": "c"}
            )
            near = await hook(served, parents=frozenset({100, 7}), conversation="c", workspace="/elsewhere")
            assert (await check(near)).agent == first
            assert (await check(await hook(served, parents=frozenset({8, 200})))).agent == second

    run(main)


def test_else_by_its_conversation_and_else_by_its_workspace() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first, second = await two_windows(
                served, {"conversation": "one"}, {"conversation": "two", "workspace": "/home/sam/b"}
            )
            assert (await check(await hook(served, conversation="two"))).agent == second
            assert (await check(await hook(served, conversation="new"))).agent == first
            assert (await check(await hook(served, conversation="new", workspace="/home/sam/b"))).agent == second

    run(main)


@pytest.mark.parametrize("turn", [True, False])
@pytest.mark.parametrize("below", ["", "codex"])
def test_a_process_that_only_names_a_conversation_takes_no_news_from_it(turn: bool, below: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await in_one_room(served, conversation="c", parents=frozenset({100}))
            await alice.send("one")
            stranger: dict[str, Any] = {
                "peer": PeerProcess(pid=7),
                "parents": frozenset({50}),
                "below": below,
                "conversation": "c",
            }
            for _ in range(2):
                assert (await check(await hook(served, **stranger), turn=turn)).wake is False
            own: dict[str, Any] = {"peer": PeerProcess(pid=8), "parents": frozenset({90, 100}), "conversation": "c"}
            assert (await check(await hook(served, **own), turn=True)).wake

    run(main)


@pytest.mark.parametrize("acts", [True, False], ids=["that window is an agent", "that window is none yet"])
def test_a_hook_below_a_process_with_a_window_takes_no_news_of_a_conversation_of_another(acts: bool) -> None:
    async def main() -> None:
        async with engine_world() as served:
            victim: dict[str, Any] = {"conversation": "c", "is_exact": True, "parents": frozenset({100})}
            alice, ours, _ = await in_one_room(served, **victim)
            await alice.send("one")
            beside = await window(served, "w2", **victim | {"conversation": "d", "parents": frozenset({200})})
            if acts:
                await beside.whoami()
            about: dict[str, Any] = {"peer": PeerProcess(pid=7), "below": "claude-code", "conversation": "c"}
            foreign = await check(await hook(served, parents=frozenset({90, 200}), **about), turn=True)
            assert (foreign.agent, foreign.unread, foreign.wake) == ("", 0, False)
            own = await check(await hook(served, parents=frozenset({91, 100}), **about), turn=True)
            assert (own.agent, own.unread, own.wake) == ((await ours.whoami()).id, 1, True)

    run(main)


def test_a_window_that_is_no_agent_yet_is_not_the_agent_whose_conversation_its_hook_names() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await in_one_room(served, conversation="c", parents=frozenset({100}))
            await alice.send("one")
            await window(served, "w2", conversation="d", parents=frozenset({200}))
            about: dict[str, Any] = {"peer": PeerProcess(pid=7), "below": "claude-code", "conversation": "c"}
            foreign = await check(await hook(served, parents=frozenset({90, 200}), **about), turn=True)
            assert (foreign.agent, foreign.unread, foreign.wake) == ("", 0, False)

    run(main)


def test_of_several_conversations_in_one_process_the_one_that_the_hook_names_is_meant() -> None:
    async def main() -> None:
        async with engine_world() as served:
            shared: dict[str, Any] = {"is_exact": True, "parents": frozenset({100})}
            ids = await two_windows(served, shared | {"conversation": "c"}, shared | {"conversation": "d"})
            about: dict[str, Any] = {"peer": PeerProcess(pid=7), "below": "claude-code", "parents": frozenset({100})}
            for conversation, me in zip("cd", ids, strict=True):
                assert (await check(await hook(served, conversation=conversation, **about))).agent == me

    run(main)


def test_a_hook_below_its_host_is_believed_where_the_host_runs_its_servers_elsewhere() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await in_one_room(served, conversation="c", parents=frozenset({100}))
            await alice.send("one")
            about: dict[str, Any] = {"peer": PeerProcess(pid=7), "parents": frozenset({50}), "below": "claude-code"}
            assert (await check(await hook(served, conversation="c", **about), turn=True)).wake

    run(main)


def test_where_two_could_be_meant_nobody_is_told() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await two_windows(served, {}, {})
            assert (await check(await hook(served), turn=True)).agent == ""

    run(main)


def test_another_hosts_window_in_the_same_workspace_is_not_meant() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await in_one_room(served)
            assert (await check(await hook(served, host="codex"))).agent == ""

    run(main)


def test_a_window_that_is_no_agent_yet_is_told_what_waits_for_the_agent_it_will_be() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, _ = await in_one_room(served)
            me = (await ours.whoami()).id
            await served.leave(ours)
            await alice.send("while nobody was there")
            await window(served, "w2")
            found = await check(await hook(served))
            assert (found.agent, found.unread) == (me, 1)

    run(main)


def test_an_agent_that_the_environment_names_is_known_by_its_name() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            ours = await window(served, as_name="bob")
            await served.admit(await alice.open(), ours)
            me = (await ours.whoami()).id
            await served.leave(ours)
            assert (await check(await hook(served, as_name="bob"))).agent == me
            assert (await check(await hook(served))).agent == ""

    run(main)


# -- once --------------------------------------------------------------------------------------------------


def test_the_same_news_begins_a_turn_once_and_more_news_another() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, _ = await in_one_room(served)
            await alice.send("one")
            asking = await hook(served)
            assert [(await check(asking, turn=True)).wake for _ in range(3)] == [True, False, False]
            await ours.send("own words are no news")
            assert (await check(asking, turn=True)).wake is False
            await alice.send("two")
            found = await check(asking, turn=True)
            assert (found.wake, found.unread) == (True, 2)
            await ours.recv()
            await served.acknowledge(ours)
            assert (await check(asking, turn=True)).wake is False
            await alice.send("three")
            assert (await check(asking, turn=True)).wake is True

    run(main)


def test_who_knocks_begins_a_turn_once_and_the_next_one_another() -> None:
    async def main() -> None:
        async with engine_world() as served:
            ours = await window(served)
            opened = await ours.open()
            asking = await hook(served)
            for name in ("eve", "dan"):
                await (await served.agent(name)).join(opened.session_key)
                assert [(await check(asking, turn=True)).wake for _ in range(2)] == [True, False]

    run(main)


def test_what_was_said_with_a_prompt_begins_no_turn_at_its_end_and_is_said_again_with_the_next() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await in_one_room(served)
            await alice.send("one")
            asking = await hook(served)
            assert (await check(asking)).unread == 1
            assert (await check(asking, turn=True)).wake is False
            assert (await check(asking)).unread == 1

    run(main)


def test_two_that_wait_for_the_same_news_begin_one_turn() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await in_one_room(served)
            first, second = await hook(served), await hook(served)
            woken: list[bool] = []

            async def waiting(party: Party) -> None:
                woken.append((await check(party, turn=True, wait_ms=50_000)).wake)

            async def sends() -> None:
                await alice.send("one")

            await gather(lambda: waiting(first), lambda: waiting(second), sends)
            assert sorted(woken) == [False, True]

    run(main)


# -- waiting -----------------------------------------------------------------------------------------------


def test_a_waiter_hears_of_a_message_a_private_one_and_a_knock_at_once_and_else_at_the_end() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, _ = await in_one_room(served)
            mine = await ours.open("mine", "")
            eve = await served.agent("eve")
            asking = await hook(served)
            me = (await ours.whoami()).id

            async def public() -> None:
                await alice.send("one")

            async def private() -> None:
                await alice.send("two", visible_to=(me,))

            async def knock() -> None:
                await eve.join(mine.session_key)

            for happens in (public, private, knock):
                start = trio.current_time()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(happens)
                    assert (await check(asking, turn=True, wait_ms=50_000)).wake is True
                assert trio.current_time() - start < 50
            start = trio.current_time()
            assert (await check(asking, turn=True, wait_ms=50_000)).wake is False
            assert trio.current_time() - start == pytest.approx(50)

    run(main)


def test_a_waiter_hears_of_the_room_its_agent_was_let_into() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours = await served.agent("alice"), await window(served)
            opened = await alice.open("x", "recap")
            await ours.join(opened.session_key)
            me = (await ours.whoami()).id

            async def admits() -> None:
                await settle()
                await (await served.person()).approve(me, room=opened.room)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(admits)
                assert (await check(await hook(served), turn=True, wait_ms=50_000)).unread == 1

    run(main)


def test_a_waiter_that_began_before_its_window_was_an_agent_hears_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            ours = await window(served)

            async def later() -> None:
                await settle()
                await served.admit(opened, ours)
                await served.acknowledge(ours)
                await trio.sleep(5)
                await alice.send("one")

            start = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(later)
                assert (await check(await hook(served), turn=True, wait_ms=50_000)).unread == 1
            assert trio.current_time() - start < 10

    run(main)


def test_what_a_window_that_waits_is_shown_begins_no_turn() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, room = await in_one_room(served)
            asking = await hook(served)

            async def reads() -> None:
                assert len((await ours.recv(room=room, wait=50)).messages) == 1

            async def sends() -> None:
                await settle()
                await alice.send("one")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(reads)
                nursery.start_soon(sends)
                assert (await check(asking, turn=True, wait_ms=20_000)).wake is False

    run(main)


def test_a_daemon_that_stops_does_not_keep_a_waiter() -> None:
    async def main() -> None:
        async with engine_world() as served:
            await in_one_room(served)
            asking = await hook(served)

            async def drains() -> None:
                await settle()
                await served.engine.drain()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drains)
                assert (await asking.refused("wake.check", t.WakeCheck(wait_ms=50_000))).code == "draining"

    run(main)


# -- the budget --------------------------------------------------------------------------------------------


def test_at_the_end_of_the_budget_no_turn_begins_reading_goes_on_and_it_is_said() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, ours, room = await in_one_room(served)
            asking = await hook(served)
            for n in range(WAKES_AN_HOUR):
                await alice.send(f"{n}")
                found = await check(asking, turn=True)
                assert (found.wake, found.paused) == (True, n == WAKES_AN_HOUR - 1)
            await alice.send("one too many")
            found = await check(asking, turn=True)
            assert (found.wake, found.paused, found.unread) == (False, True, WAKES_AN_HOUR + 1)
            assert (await check(asking)).paused is True
            assert len((await ours.recv(room=room, limit=500)).messages) == WAKES_AN_HOUR + 1
            checks = await alice.call("daemon.check", t.CheckStore())
            assert isinstance(checks, t.CheckList)
            (paused,) = [one for one in checks.checks if one.name == "wakes"]
            assert not paused.ok
            assert str(WAKES_AN_HOUR) in paused.detail

    run(main)


def test_the_budget_is_one_for_all_agents_of_a_person() -> None:
    async def main() -> None:
        async with engine_world() as served:
            first, second = {"conversation": "1"}, {"conversation": "2"}
            await two_windows(served, first, second)
            alice = await served.agent("alice")
            askings = [await hook(served, **first), await hook(served, **second)]
            woken = 0
            for n in range(WAKES_AN_HOUR + 10):
                await alice.send("x", room=f"room-{n % 2}")
                woken += (await check(askings[n % 2], turn=True)).wake
            assert woken == WAKES_AN_HOUR

    run(main)


def test_a_waiter_that_was_paused_begins_its_turn_when_the_hour_has_passed() -> None:
    async def main() -> None:
        async with engine_world(clock=SteppedClock()) as served:
            alice, _, _ = await in_one_room(served)
            asking = await hook(served)
            start = trio.current_time()
            for _ in range(WAKES_AN_HOUR):
                await alice.send("x")
                assert (await check(asking, turn=True)).wake
            await alice.send("while paused")
            found = await check(asking, turn=True, wait_ms=t.MAX_WAIT_MS)
            assert found.wake
            assert trio.current_time() - start == pytest.approx(HOUR_MS / 1000, abs=1)

    run(main)


def test_a_restart_of_the_daemon_gives_no_turn_back_and_the_person_does() -> None:
    async def main() -> None:
        world = World(clock=SteppedClock(), store=MemoryStore())
        async with world.serving() as served:
            alice, _, room = await in_one_room(served)
            for _ in range(WAKES_AN_HOUR):
                await alice.send("x")
                assert (await check(await hook(served), turn=True)).wake
        async with world.serving() as served:
            asking = await hook(served)
            found = await check(asking, turn=True)
            assert (found.wake, found.paused) == (False, True)
            person = await served.person()
            done = await person.ask("room.continue", t.ContinueRoom(room=room), t.ContinuedRoom)
            assert (done.status, done.was_paused) == ("continued", True)
            found = await check(asking, turn=True)
            assert (found.wake, found.paused) == (True, False)

    run(main)
