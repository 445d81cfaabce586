"""Waiting for a condition, and what time does to a room's state, through the engine in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from msgspec import UNSET

from parlerd.core import events as e
from parlerd.core.errors import ParlerError
from parlerd.core.model import HOME_ROOM, Position, RoomId
from parlerd.engine.conditions import SUSPECT_S
from parlerd.engine.presence import ENDS_MS
from parlerd.engine.rooms import IDLE_SECONDS
from parlerd.engine.watching import IDLE_MS, MAX_WAITS
from parlerd.operations import types as t
from tests.support.engine import START_MS, Party, Served, SteppedClock, World, gather, run, settle
from tests.support.room_state import put, value

LONG = 60.0


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock())


async def listed(who: Party) -> dict[str, Any]:
    found = await who.ask("state.list", t.ListState(scope="_shared"), t.StateListed)
    return {each.key: each.value for each in found.entries}


async def wait(who: Party, condition: str, seconds: float = LONG, **rest: Any) -> t.WaitEnded:
    params = t.WaitUntil(condition=condition, wait_ms=int(seconds * 1000), **rest)
    return await who.ask("state.wait", params, t.WaitEnded)


class Waiting:
    """A wait that goes on beside the test: its answer, and when it came, by the loop's clock."""

    def __init__(self) -> None:
        self.ended: t.WaitEnded | None = None
        self.error: ParlerError | None = None
        self.at = -1.0

    @property
    def is_over(self) -> bool:
        return self.at >= 0

    @property
    def answer(self) -> t.WaitEnded:
        assert self.ended is not None
        return self.ended


@asynccontextmanager
async def meanwhile(*waits: Callable[[], Awaitable[t.WaitEnded]]) -> AsyncIterator[list[Waiting]]:
    """These waits, each of which waits when the block begins. The block ends when all are over."""
    found = [Waiting() for _ in waits]

    async def one(waiting: Waiting, call: Callable[[], Awaitable[t.WaitEnded]]) -> None:
        try:
            waiting.ended = await call()
        except ParlerError as error:
            waiting.error = error
        waiting.at = trio.current_time()

    async with trio.open_nursery() as nursery:
        for waiting, call in zip(found, waits, strict=True):
            nursery.start_soon(one, waiting, call)
            await settle()
        yield found


async def fired(served: Served) -> list[tuple[str, int]]:
    """What ran out in the one room that there is: the key, and how late."""
    store = served.world.store
    [room] = [room for room in store.rooms() if room != HOME_ROOM]
    facts = store.facts(room, Position(0), 1_000)
    return [(fact.event.key, fact.event.late_ms) for fact in facts if isinstance(fact.event, e.TimerFired)]


# -- waits -------------------------------------------------------------------------------------------------


def test_a_condition_that_is_true_is_answered_at_once_and_echoed_with_what_was_to_be_included() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "phase", "done")
            began = trio.current_time()
            ended = await wait(bob, 'state._shared.phase == "done"', include=("state", "agents", "messages"))
            assert (ended.triggered, ended.value, trio.current_time()) == (True, True, began)
            assert ended.condition == 'state._shared.phase == "done"'
            assert ended.state == {"_shared": {"phase": "done"}, "_view": {}, "alice": {}, "bob": {}}
            assert isinstance(ended.agents, dict)
            assert {name: seen["status"] for name, seen in ended.agents.items()} == {"alice": "active", "bob": "active"}
            assert isinstance(ended.messages, dict)
            assert ended.messages["unclaimed"] == 0

    run(main)


def test_a_wait_wakes_on_the_write_that_makes_it_true_and_on_no_other() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "turn", 0)
            async with meanwhile(partial(wait, bob, "state._shared.turn >= 2", include=("state._shared",))) as [
                waiting
            ]:
                for seconds in (5, 7):
                    await trio.sleep(seconds)
                    assert not waiting.is_over
                    await put(alice, "turn", 1, increment=True)
            assert (waiting.at, waiting.answer.triggered, waiting.answer.elapsed_ms) == (12, True, 12_000)
            assert waiting.answer.state == {"_shared": {"turn": 2}}

    run(main)


def test_a_wait_of_no_time_looks_once_and_says_what_the_condition_is_worth() -> None:
    async def main() -> None:
        async with world().serving() as served:
            (alice,) = await served.room("alice")
            await put(alice, "turn", 1)
            for condition, triggered, worth in (
                ("state._shared.turn == 1", True, True),
                ("state._shared.turn == 2", False, False),
                ("state._shared.turn", False, 1),
            ):
                ended = await wait(alice, condition, 0)
                assert (ended.triggered, ended.value, ended.elapsed_ms) == (triggered, worth, 0)
            missing = await wait(alice, "state._shared.trun == 1", 0)
            assert isinstance(missing.condition_error, dict)
            assert (missing.value, missing.condition_error["suggest"]) == (None, "state._shared.turn")

    run(main)


def test_a_wait_ends_at_its_time_and_shows_statuses_as_they_are_afterwards() -> None:
    async def main() -> None:
        async with world().serving() as served:
            (alice,) = await served.room("alice")
            ended = await wait(alice, "false", 30, include=("agents",))
            assert (ended.triggered, ended.elapsed_ms, trio.current_time()) == (False, 30_000, 30)
            assert isinstance(ended.agents, dict)
            assert (ended.agents["alice"]["status"], ended.agents["alice"]["waiting_on"]) == ("active", None)

    run(main)


def test_who_waits_is_seen_to_wait_for_what_and_as_before_afterwards() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            seen = 'agents.bob.status == "waiting" && agents.bob.waiting_on == "state._shared.go == true"'
            async with meanwhile(partial(wait, alice, seen)) as [watching]:
                await trio.sleep(5)
                assert not watching.is_over
                async with meanwhile(partial(wait, bob, "state._shared.go == true")) as [waiting]:
                    await settle()
                    assert watching.at == 5
                    await put(alice, "go", True)
            assert waiting.answer.triggered
            after = await wait(alice, "agents.bob.status", 0, include=("agents",))
            assert isinstance(after.agents, dict)
            assert (after.value, after.agents["bob"]["waiting_on"]) == ("active", None)

    run(main)


def test_waits_of_one_agent_are_counted_and_it_waits_until_the_last_is_over() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            async with meanwhile(partial(wait, bob, "state._shared.a"), partial(wait, bob, "state._shared.b")) as waits:
                assert (await wait(alice, "agents.bob.waiting_on", 0)).value == "state._shared.a"
                await put(alice, "a", True)
                await settle()
                assert [each.is_over for each in waits] == [True, False]
                found = await wait(alice, 'agents.bob.status + " " + agents.bob.waiting_on', 0)
                assert found.value == "waiting state._shared.b"
                await put(alice, "b", True)
            assert (await wait(alice, "agents.bob.status", 0)).value == "active"

    run(main)


def test_one_agent_has_a_bounded_number_of_waits_in_a_room() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            waits = [partial(wait, bob, f"state._shared.k == {number}") for number in range(MAX_WAITS)]
            async with meanwhile(*waits) as waiting:
                error = await bob.refused("state.wait", t.WaitUntil(condition="state._shared.k == -1", wait_ms=1_000))
                assert (error.code, error.details["what"]) == ("state_full", "waits")
                assert (await wait(alice, "state._shared.k == 0", 1)).triggered is False
                for number in range(MAX_WAITS):
                    await put(alice, "k", number)
                    await settle()
                    assert waiting[number].is_over
            assert (await wait(bob, "state._shared.k == 99", 1)).triggered

    run(main)


def test_a_barrier_at_which_each_waits_until_all_are_ready_opens() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            # As a view, which says nothing of who waits for it.
            ready = 'agents.alice.status == "active" && agents.bob.status == "active"'
            await put(carol, "all_ready", scope="_view", expr=ready)
            async with meanwhile(
                *(partial(wait, who, "state._view.all_ready == true") for who in (alice, bob))
            ) as both:
                await settle()
                assert [each.is_over for each in both] == [True, True]
            # Somebody who waits for something else is not ready.
            async with meanwhile(partial(wait, bob, "state._shared.go")) as [other]:
                async with meanwhile(partial(wait, alice, "state._view.all_ready == true")) as [barrier]:
                    await trio.sleep(1)
                    assert not barrier.is_over
                    await put(carol, "go", True)
                assert (other.answer.triggered, barrier.answer.triggered) == (True, True)

    run(main)


def test_a_key_that_goes_away_keeps_the_waiter_waiting_and_the_answer_says_why() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "turn", 1)
            async with meanwhile(partial(wait, bob, "state._shared.turn == 2")) as [waiting]:
                await alice.ask("state.delete", t.DeleteState(key="turn"), t.StateWritten)
                await trio.sleep(10)
                assert not waiting.is_over
            assert (waiting.at, waiting.answer.triggered, waiting.answer.value) == (LONG, False, None)
            assert isinstance(waiting.answer.condition_error, dict)
            assert waiting.answer.condition_error["path"] == "state._shared.turn"

    run(main)


def test_a_wait_for_a_view_wakes_on_what_the_view_reads() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "n", 0)
            await put(alice, "many", scope="_view", expr="state._shared.n > 1")
            async with meanwhile(partial(wait, bob, "state._view.many == true")) as [waiting]:
                await put(alice, "n", 1)
                await settle()
                assert not waiting.is_over
                await put(alice, "n", 2)
                await settle()
                assert waiting.at == 0

    run(main)


def test_a_wait_wakes_on_messages_claims_and_newcomers() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(approval=False)
            await served.admit(opened, bob)
            count = (await wait(bob, "messages.count", 0)).value
            async with meanwhile(
                partial(wait, bob, f"messages.count > {count}"),
                partial(wait, bob, "messages.unclaimed == 1"),
                partial(wait, bob, "has(agents.carol)"),
            ) as [more, work, newcomer]:
                await alice.send("hello")
                await settle()
                assert (more.is_over, work.is_over, newcomer.is_over) == (True, False, False)
                await alice.send("do this", kind="task")
                await settle()
                assert (work.is_over, newcomer.is_over) == (True, False)
                await (await served.agent("carol")).join(opened.session_key)
            assert newcomer.answer.triggered

    run(main)


def test_a_condition_that_reads_the_time_is_looked_at_every_second() -> None:
    async def main() -> None:
        async with world().serving() as served:
            (alice,) = await served.room("alice")
            moment = (START_MS + 10_400) // 1000
            ended = await wait(alice, f"now >= timestamp({moment}) + duration('400ms')")
            assert (ended.triggered, trio.current_time()) == (True, 11)

    run(main)


@pytest.mark.parametrize(("who", "code"), [("bob", "no_such_room"), ("alice", "room_closed")])
def test_who_leaves_or_is_in_a_room_that_closes_does_not_wait_on(who: str, code: str) -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await put(alice, "a", 1)).room
            async with meanwhile(partial(wait, bob, "false")) as [waiting]:
                other = await served.agent(who)
                await other.ask("session.close", t.CloseSession(room=room), t.ClosedSession)
            assert waiting.error is not None
            assert (waiting.error.code, waiting.at) == (code, 0)
            if code == "room_closed":
                assert (await wait(bob, "state._shared.a == 1")).triggered

    run(main)


def test_a_condition_that_is_looked_at_once_has_a_value_in_a_room_that_is_closed_too() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await put(alice, "a", 1)).room
            await alice.ask("session.close", t.CloseSession(room=room), t.ClosedSession)
            ended = await wait(bob, "state._shared.a == 2", 0, room=room)
            assert (ended.triggered, ended.value) == (False, False)

    run(main)


def test_a_condition_may_name_no_scope_that_only_another_reads_and_such_a_scope_wakes_nobody() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            error = await bob.refused("state.wait", t.WaitUntil(condition="has(state.alice.plan)"))
            assert (error.code, error.details) == ("scope_denied", {"read_scope": "alice", "invoker": "bob"})
            looks = looked_at(served)
            await put(alice, "plan", 1, scope="alice")
            alone = looks()
            async with meanwhile(partial(wait, bob, 'has(state["ali" + "ce"].plan)', 10)) as [waiting]:
                before = looks()
                await put(alice, "plan", 2, scope="alice")
                await settle()
                assert looks() - before == alone, "a write that the waiter may not see woke it"
            assert (waiting.answer.triggered, waiting.answer.value) == (False, False)

    run(main)


def test_a_wait_goes_on_when_a_hidden_scope_is_shown_to_everybody_again() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "plan", 1, scope="alice")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            async with meanwhile(partial(wait, bob, 'has(state["ali" + "ce"].plan)')) as [waiting]:
                await trio.sleep(3)
                await alice.ask("state.hide", t.HideScope(hidden=False), t.ScopeShown)
            assert (waiting.at, waiting.answer.triggered) == (3, True)

    run(main)


def test_while_a_scope_is_hidden_what_its_agent_waits_for_there_is_private() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            async with meanwhile(partial(wait, alice, "state.alice.codename == 'blue'", 5)):
                assert (await wait(bob, "agents.alice.waiting_on", 0)).value == "(private)"
                assert (await wait(alice, "agents.alice.waiting_on", 0)).value == "state.alice.codename == 'blue'"

    run(main)


def looked_at(served: Served) -> Callable[[], int]:
    """How often anybody looked at a room since this was called."""
    rooms = served.engine._desk.rooms
    count = 0
    get = rooms.get

    async def counted(room: RoomId, *args: Any, **more: Any) -> Any:
        nonlocal count
        count += 1
        return await get(room, *args, **more)

    rooms.get = counted  # type: ignore[method-assign] # counts what the real one is asked
    return lambda: count


# -- deadlock ----------------------------------------------------------------------------------------------


def test_when_everybody_waits_and_nothing_is_due_each_is_told_two_seconds_later_who_waits_for_what() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            async with meanwhile(
                partial(wait, alice, "state._shared.a == 1"), partial(wait, bob, "state._shared.b == 1")
            ) as both:
                await trio.sleep(SUSPECT_S - 0.1)
                assert [each.is_over for each in both] == [False, False]
            assert {each.at for each in both} == {SUSPECT_S}
            expected = {"alice": ["state._shared.a == 1"], "bob": ["state._shared.b == 1"]}
            for each in both:
                assert (each.answer.triggered, each.answer.deadlock_suspected) == (False, expected)

    run(main)


def test_nobody_suspects_a_deadlock_while_a_timer_is_due_somebody_is_present_or_one_waits_alone() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "lamp", 1, timer=t.TimerAsked(ms=30_000))
            async with meanwhile(
                partial(wait, alice, "state._shared.a"), partial(wait, bob, "state._shared.b")
            ) as both:
                await trio.sleep(29)
                assert [each.is_over for each in both] == [False, False]
                await trio.sleep(1 + SUSPECT_S)
                await settle()
                assert {each.at for each in both} == {30 + SUSPECT_S}, "the timer has run out"
            began = trio.current_time()
            async with meanwhile(partial(wait, alice, "state._shared.a", 20)) as [alone]:
                pass
            assert (alone.at - began, alone.answer.deadlock_suspected) == (20, UNSET)

    run(main)


def test_a_write_in_the_two_seconds_starts_them_anew() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            async with meanwhile(
                partial(wait, alice, "state._shared.a"), partial(wait, bob, "state._shared.b")
            ) as both:
                # Carol is there, and acts.
                await trio.sleep(10)
                assert [each.is_over for each in both] == [False, False]
                async with meanwhile(partial(wait, carol, "state._shared.c")) as [third]:
                    await trio.sleep(1.5)
                    await put(await served.agent("carol"), "c", True)
                    await settle()
                    assert (third.is_over, both[0].is_over) == (True, False)
                await trio.sleep(5)
                assert [each.is_over for each in both] == [False, False], "Carol waits no more"
                await put(carol, "a", True), await put(carol, "b", True)

    run(main)


# -- timers ------------------------------------------------------------------------------------------------


def test_a_wait_wakes_in_the_moment_in_which_a_timer_runs_out() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "fire", 1, timer=t.TimerAsked(ms=20_000))
            await put(alice, "door", 1, timer=t.TimerAsked(ms=30_000, effect="enable"))
            async with meanwhile(
                partial(wait, bob, "!has(state._shared.fire)"), partial(wait, bob, "has(state._shared.door)")
            ) as waits:
                pass
            assert [(each.at, each.answer.triggered) for each in waits] == [(20, True), (30, True)]
            assert await fired(served) == [("fire", 0), ("door", 0)]

    run(main)


def test_what_runs_out_is_a_fact_in_its_moment_also_when_nobody_asks_and_the_room_is_closed_up() -> None:
    async def main() -> None:
        async with world().serving() as served:
            (alice,) = await served.room("alice")
            await put(alice, "fire", 1, timer=t.TimerAsked(ms=int(2 * IDLE_SECONDS * 1000)))
            await trio.sleep(1.5 * IDLE_SECONDS)
            assert served.open_rooms == 0
            await trio.sleep(IDLE_SECONDS)
            assert [key for key, _ in await fired(served)] == ["fire"]
            assert await listed(alice) == {}

    run(main)


def test_what_ran_out_while_no_daemon_ran_runs_out_once_in_its_order_and_says_how_late() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            (alice,) = await served.room("alice")
            await put(alice, "b", 1, timer=t.TimerAsked(ms=40_000))
            await put(alice, "a", 1, timer=t.TimerAsked(ms=30_000))
            await put(alice, "c", 1, timer=t.TimerAsked(ms=100_000, effect="enable"))
        await trio.sleep(60)
        async with home.serving() as served:
            alice = await served.agent("alice")
            assert await listed(alice) == {}
            found = await fired(served)
            assert [key for key, _ in found] == ["a", "b"]
            assert [late >= 20_000 for _, late in found] == [True, True]
            assert found[0][1] - found[1][1] == 10_000
            assert (await wait(alice, "has(state._shared.c)")).triggered
            assert trio.current_time() == 100
            assert len(await fired(served)) == 3

    run(main)


def test_a_restart_keeps_ticks_timers_versions_and_hidden_scopes() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "lamp", 1, timer=t.TimerAsked(ticks=2, tick_on="state._shared.turn"))
            await put(alice, "turn", 1)
            await put(alice, "plan", "x" * 4_000, scope="alice")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        async with home.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert await listed(bob) == {"lamp": 1, "turn": 1}
            assert (await bob.refused("state.get", t.GetState(key="plan", scope="alice"))).code == "no_such_key"
            assert await value(alice, "plan", "alice") == "x" * 4_000
            assert (await put(bob, "turn", 1)).version == 2
            assert await listed(bob) == {"turn": 1}

    run(main)


def test_a_status_that_time_alone_changes_wakes_who_waits_for_it() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await bob.ask("agent.presence", t.StatePresence(status="busy"), t.PresenceIs)
            await served.leave(bob)
            began = trio.current_time()
            for status, left_ms in (("idle", ENDS_MS), ("offline", IDLE_MS)):
                # What bob stated is over when he was offline for as long as somebody counts as active.
                waits = partial(wait, alice, f'agents.bob.status == "{status}"', 2 * IDLE_MS / 1000)
                async with meanwhile(waits) as [waiting]:
                    pass
                assert waiting.answer.triggered
                assert 0 <= waiting.at - began - left_ms / 1000 < 1

    run(main)


def test_a_restart_ends_every_wait_and_nobody_counts_as_waiting_afterwards() -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            alice, bob = await served.room("alice", "bob")
            async with meanwhile(partial(wait, bob, "state._shared.go")) as [waiting]:
                await served.engine.drain()
            assert waiting.error is not None
            assert waiting.error.code == "draining"
        async with home.serving() as served:
            alice = await served.agent("alice")
            assert (await wait(alice, "agents.bob.status", 0)).value == "offline"

    run(main)


# -- the store fails ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
def test_a_commit_that_dies_with_due_facts_in_it_leaves_all_of_the_batch_or_nothing(counts: bool) -> None:
    async def main() -> None:
        home = world()
        async with home.serving() as served:
            (alice,) = await served.room("alice")
            await put(alice, "n", 1)
            await put(alice, "lamp", 1, timer=t.TimerAsked(ticks=1, tick_on="state._shared.n"))
            await put(alice, "fire", 1, timer=t.TimerAsked(at=START_MS + 5_000))
            plug = served.plug
            plug.is_full = True
            await trio.sleep(6)
            plug.is_full = False
            plug.cut = (plug.commits, counts)
            error = await alice.refused("state.set", t.SetState(key="n", value=2, idempotency_key="k-1"))
            assert error.code == "store_failed"
        async with home.serving() as served:
            alice = await served.agent("alice")
            again = await put(alice, "n", 2, idempotency_key="k-1")
            assert (again.version, again.replayed) == (2, counts)
            assert await listed(alice) == {"n": 2}
            found = await fired(served)
            assert sorted(key for key, _ in found) == ["fire", "lamp"]
            facts = [type(fact.event).__name__ for fact in home.store.facts(RoomId(again.room), Position(0), 1_000)]
            assert (facts.count("TimersTicked"), facts.count("StateWritten")) == (1, 4)

    run(main)


def test_a_disk_that_takes_nothing_refuses_the_write_and_the_next_one_stands_on_what_is_stored() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "n", 1)
            async with meanwhile(partial(wait, bob, "state._shared.n == 2")) as [waiting]:
                served.plug.is_full = True
                error = await alice.refused("state.set", t.SetState(key="n", value=2))
                assert error.code == "store_failed"
                await settle()
                assert not waiting.is_over, "what was not stored was told"
                served.plug.is_full = False
                assert await value(alice, "n") == 1
                assert (await put(alice, "n", 2)).version == 2
            assert waiting.answer.triggered

    run(main)


# -- who waits ---------------------------------------------------------------------------------------------


def test_the_caller_counts_as_waiting_while_it_waits_and_not_afterwards() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            async with meanwhile(partial(wait, bob, "state._shared.go")):
                assert (alice.caller.waiting, bob.caller.waiting) == (0, 1)
                await put(alice, "go", True)
            assert bob.caller.waiting == 0
            with trio.move_on_after(1):
                await wait(bob, "false")
            assert bob.caller.waiting == 0
            assert (await wait(alice, "agents.bob.status", 0)).value == "active", "a cancelled wait is over"

    run(main)


def test_racing_increments_are_all_counted() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await gather(*(partial(put, who, "n", 1, increment=True) for who in (alice, bob) * 20))
            assert await value(alice, "n") == 40

    run(main)
