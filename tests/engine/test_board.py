"""The board of a room, through the engine in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from msgspec import UNSET

from parlerd.engine.board import AGAIN_S, GRACE_S
from parlerd.operations import types as t
from tests.support.engine import Party, SteppedClock, World, run, settle
from tests.support.room_state import put
from tests.support.sessions import TERMINAL

LONG_MS = 60_000


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock())


async def board(who: Party, after: str = "", wait_ms: int = 0, **rest: Any) -> t.Board:
    return await who.ask("room.board", t.LookAtBoard(after=after, wait_ms=wait_ms, **rest), t.Board)


class Looking:
    """A look that goes on beside the test: what it gave, and when it came, by the loop's clock."""

    def __init__(self) -> None:
        self.found: t.Board | None = None
        self.at = -1.0


@asynccontextmanager
async def looking(who: Party, mark: str, wait_ms: int = LONG_MS) -> AsyncIterator[Looking]:
    """A look that waits when the block begins. The block ends when it is over."""
    look = Looking()

    async def one() -> None:
        look.found = await board(who, mark, wait_ms)
        look.at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        await settle()
        yield look


def test_a_board_shows_who_waits_the_state_the_tasks_and_the_actions() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "turn", 1)
            await put(alice, "fire", True, timer=t.TimerAsked(ms=60_000))
            await put(alice, "later", 7, timer=t.TimerAsked(ms=30_000, effect="enable"))
            await put(alice, "gated", 8, enabled="state._shared.turn > 5")
            await put(alice, "twice", scope="_view", expr="state._shared.turn * 2")
            await put(alice, "broken", scope="_view", expr="state._shared.none")
            await alice.send("one", kind="task")
            await alice.send("two", kind="task")
            await bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)
            again = t.OnInvoke(timer=t.TimerAsked(ms=10_000, effect="enable"))
            await alice.ask("action.register", t.RegisterAction(id="go", on_invoke=again), t.ActionRegistered)
            await alice.ask("action.register", t.RegisterAction(id="shut", gate="1 == 2"), t.ActionRegistered)
            await bob.ask("action.invoke", t.InvokeAction(id="go"), t.ActionInvoked)
            wait = t.WaitUntil(condition="state._shared.turn == 9", wait_ms=1_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(bob.ask, "state.wait", wait, t.WaitEnded))
                await settle()
                found = await board(alice)
            assert [(each.name, each.status, each.waiting_on) for each in found.agents] == [
                ("alice", "active", None),
                ("bob", "waiting", "state._shared.turn == 9"),
            ]
            entries = {(each.scope, each.key): each for each in found.entries}
            assert list(entries) == sorted(entries)
            assert {key: each.dormant for (_, key), each in entries.items() if each.dormant is not UNSET} == {
                "later": True,
                "gated": True,
            }
            assert (entries["_shared", "later"].value, entries["_view", "twice"].value) == (7, 2)
            assert isinstance(entries["_view", "broken"].error, str)
            assert isinstance(timer := entries["_shared", "fire"].timer, t.TimerShown)
            assert timer.at == entries["_shared", "fire"].updated_at + 60_000
            held, free = found.tasks
            assert (held.text, held.author, held.holder, held.status) == ("one", "alice", "bob", "claimed")
            assert held.lease_until > found.now
            assert (free.text, free.holder, free.status, free.lease_until) == ("two", "", "open", 0)
            go, shut = found.actions
            assert (go.available, go.reason, isinstance(go.available_at, int)) == (False, "action_cooldown", True)
            assert (shut.available, shut.reason) == (False, "precondition_failed")
            assert (found.name, found.unclaimed, found.closed, found.left_out) == ("auth-redesign", 1, False, {})

    run(main)


@pytest.mark.parametrize("what", ["state", "wait", "task", "message", "action", "member", "role"])
def test_a_look_ends_when_the_board_looks_otherwise(what: str) -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            mark = (await board(bob)).mark
            carol = await served.agent("carol")
            role = t.GiveRole(agent="bob", role="judge", room=opened.room)
            async with looking(bob, mark) as look:
                await trio.sleep(1.5)
                assert look.at < 0
                match what:
                    case "state":
                        await put(alice, "k", 1)
                    case "wait":
                        wait = t.WaitUntil(condition="1 == 2", wait_ms=500)
                        await alice.ask("state.wait", wait, t.WaitEnded)
                    case "task":
                        await alice.send("x", kind="task")
                    case "message":
                        await alice.send("x")
                    case "action":
                        await alice.ask("action.register", t.RegisterAction(id="go"), t.ActionRegistered)
                    case "member":
                        await served.admit(opened, carol)
                    case _:
                        await (await served.person()).call("room.role", role)
            assert look.at == pytest.approx(1.5 + GRACE_S)

    run(main)


def test_a_look_at_what_stays_as_it_is_ends_with_its_time_and_the_same_mark() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "fire", True, timer=t.TimerAsked(ms=3_600_000))
            first = await board(bob)
            async with looking(bob, first.mark, 5_000) as look:
                # That somebody acts moves when it was last seen, and no more.
                await trio.sleep(1)
                await alice.whoami()
            assert look.found is not None
            assert (look.at, look.found.mark) == (5, first.mark)
            assert look.found.now > first.now

    run(main)


def test_a_renewed_timer_is_seen_soon_although_nobody_is_woken_by_it() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "fire", True, timer=t.TimerAsked(ms=60_000))
            async with looking(bob, (await board(bob)).mark) as look:
                await trio.sleep(3)
                await alice.ask("timer.renew", t.RenewTimer(key="fire"), t.StateWritten)
            assert 3 < look.at <= 3 + AGAIN_S

    run(main)


def test_what_is_hidden_from_the_reader_is_on_no_board_and_ends_no_look() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            first = await board(carol)
            async with looking(carol, first.mark, 10_000) as look:
                await put(alice, "plan", "secret", scope="alice", timer=t.TimerAsked(ms=60_000))
                await bob.send("a private task", kind="task", visible_to=("alice",))
                await served.agent("dan")
            assert look.found is not None
            assert (look.at, look.found.mark) == (10, first.mark)
            assert [each.key for each in (await board(alice)).entries] == ["plan"]
            assert [each.text for each in (await board(alice)).tasks] == ["a private task"]
            condition = "state.alice.plan == 1"
            wait = t.WaitUntil(condition=condition, wait_ms=1_000)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(alice.ask, "state.wait", wait, t.WaitEnded))
                await settle()
                assert [each.waiting_on for each in (await board(carol)).agents] == ["(private)", None, None]
                assert (await board(alice)).agents[0].waiting_on == condition

    run(main)


def test_looking_marks_nothing_as_read_and_is_no_wait_for_a_condition() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.send("x", kind="task")
            async with looking(bob, (await board(bob)).mark, 1_000):
                (_, me) = (await board(alice)).agents
                assert (me.name, me.status) == ("bob", "active")
            assert [each.text for each in (await bob.recv()).messages] == ["x"]

    run(main)


def test_of_too_much_a_board_shows_what_has_a_timer_and_what_was_written_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(t, "MAX_BOARD_ENTRIES", 3)
    monkeypatch.setattr(t, "MAX_BOARD_TASKS", 1)

    async def main() -> None:
        async with world().serving() as served:
            (alice,) = await served.room("alice")
            await put(alice, "z", 0, timer=t.TimerAsked(ms=60_000))
            for number in range(4):
                await trio.sleep(1)
                await put(alice, f"k{number}", number)
                await alice.send(f"task {number}", kind="task")
            found = await board(alice)
            assert [each.key for each in found.entries] == ["k2", "k3", "z"]
            assert found.left_out == {"entries": 2, "tasks": 3}

    run(main)


def test_a_person_looks_on_with_the_eyes_of_their_agents_and_a_stranger_does_not() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, _ = await served.room("alice", "bob")
            room = (await put(alice, "k", 1)).room
            person = await served.connect(peer=TERMINAL)
            assert [each.key for each in (await board(person, room=room)).entries] == ["k"]
            cursor = (await person.ask("state.changes", t.FollowState(room=room), t.StateChanges)).cursor
            await put(alice, "k", 2)
            follow = t.FollowState(room=room, after=cursor, wait_ms=0)
            assert [each.value for each in (await person.ask("state.changes", follow, t.StateChanges)).changes] == [2]
            assert "cli" not in await alice.roster()
            dan = await served.agent("dan")
            for operation, params in (("room.board", t.LookAtBoard(room=room)), ("state.changes", follow)):
                assert (await dan.refused(operation, params)).code == "no_such_room"

    run(main)
