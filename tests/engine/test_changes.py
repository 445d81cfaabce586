"""Following what changes in a room's state, through the engine in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from msgspec import UNSET

from parlerd.core.errors import ParlerError
from parlerd.core.state import IN_HEADER
from parlerd.engine import changes as module
from parlerd.engine import entries_shown
from parlerd.operations import types as t
from tests.support.engine import Party, SteppedClock, World, run, settle
from tests.support.room_state import put

LONG_MS = 60_000


def world() -> World:
    """A home whose wall clock goes with the loop's."""
    return World(clock=SteppedClock())


async def follow(who: Party, after: str | None = None, wait_ms: int = 0, **rest: Any) -> t.StateChanges:
    params = t.FollowState(after=after, wait_ms=wait_ms, **rest)
    return await who.ask("state.changes", params, t.StateChanges)


def told(found: t.StateChanges) -> list[tuple[str, str, Any]]:
    return [(each.key, each.change, each.value) for each in found.changes]


class Following:
    """A call that goes on beside the test: what it gave, and when it came, by the loop's clock."""

    def __init__(self) -> None:
        self.found: t.StateChanges | None = None
        self.error: ParlerError | None = None
        self.at = -1.0

    @property
    def answer(self) -> t.StateChanges:
        assert self.found is not None
        return self.found


@asynccontextmanager
async def meanwhile(call: Callable[[], Awaitable[t.StateChanges]]) -> AsyncIterator[Following]:
    """A call that waits when the block begins. The block ends when the call is over."""
    following = Following()

    async def follows() -> None:
        try:
            following.found = await call()
        except ParlerError as error:
            following.error = error
        following.at = trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follows)
        await settle()
        yield following


def test_without_a_cursor_the_place_of_now_is_told_at_once_and_nothing_from_before() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "phase", "planning")
            began = trio.current_time()
            found = await follow(bob, wait_ms=LONG_MS)
            assert (found.changes, found.more, trio.current_time()) == ([], False, began)
            await put(alice, "phase", "building")
            found = await follow(bob, found.cursor)
            assert told(found) == [("phase", "written", "building")]
            (change,) = found.changes
            assert (change.scope, change.version, change.updated_by) == ("_shared", 2, "alice")
            assert (await follow(bob, found.cursor)).changes == []

    run(main)


def test_each_kind_of_change_is_told_as_its_fact_tells_it() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            await put(alice, "short", 1, timer=t.TimerAsked(ms=1_000))
            await put(alice, "later", {"a": 1}, timer=t.TimerAsked(ms=2_000, effect="enable"))
            await put(bob, "gated", 3, enabled="state._shared.n > 5")
            await put(alice, "sum", scope="_view", expr="1 + 1")
            await trio.sleep(3)
            await bob.ask("state.delete", t.DeleteState(key="gated"), t.StateWritten)
            found = await follow(alice, (await follow(alice)).cursor)
            assert found.changes == []
            found = await follow(bob, start)
            assert told(found) == [
                ("short", "written", 1),
                ("later", "written", {"a": 1}),
                ("gated", "written", 3),
                ("sum", "written", None),
                ("short", "expired", None),
                ("later", "enabled", {"a": 1}),
                ("gated", "deleted", None),
            ]
            short, later, gated, view, expired, enabled, gone = found.changes
            assert (short.dormant, later.dormant, enabled.dormant) == (UNSET, True, UNSET)
            assert (gated.enabled, view.expr, view.scope) == ("state._shared.n > 5", "1 + 1", "_view")
            assert (expired.updated_by, enabled.updated_by, gone.updated_by) == ("", "", "bob")
            assert expired.updated_at - short.updated_at == 1_000

    run(main)


def test_an_entry_that_was_enabled_and_written_again_is_told_without_the_value_of_another_version() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            await put(alice, "k", 1, timer=t.TimerAsked(ms=1_000, effect="enable"))
            await trio.sleep(2)
            await put(alice, "k", 2)
            assert told(await follow(bob, start)) == [
                ("k", "written", 1),
                ("k", "enabled", None),
                ("k", "written", 2),
            ]

    run(main)


def test_what_no_fact_says_of_a_key_is_no_change() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "k", 1, timer=t.TimerAsked(ms=3_600_000))
            await put(alice, "gated", 1, enabled="state._shared.n == 2")
            await put(alice, "twice", scope="_view", expr="state._shared.n * 2")
            await put(alice, "n", 1)
            start = (await follow(bob)).cursor
            await alice.ask("timer.renew", t.RenewTimer(key="k"), t.StateWritten)
            await alice.send("hello")
            await alice.ask("action.register", t.RegisterAction(id="go"), t.ActionRegistered)
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            await put(alice, "n", 2)
            assert told(await follow(bob, start)) == [("n", "written", 2)]

    run(main)


def test_a_wait_ends_with_the_write_that_is_followed_and_with_no_other() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            call = partial(follow, bob, start, LONG_MS, scope="alice", key="plan")
            async with meanwhile(call) as following:
                await put(alice, "plan", 1)
                await put(alice, "other", 1, scope="alice")
                await put(bob, "plan", 1, scope="bob")
                await alice.send("hello")
                await trio.sleep(5)
                assert following.at < 0
                await put(alice, "plan", 2, scope="alice")
            assert following.at == 5
            assert told(following.answer) == [("plan", "written", 2)]

    run(main)


def test_a_wait_ends_in_the_moment_in_which_a_timer_runs_out() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await put(alice, "fire", True, timer=t.TimerAsked(ms=7_000))
            async with meanwhile(partial(follow, bob, (await follow(bob)).cursor, LONG_MS)) as following:
                pass
            assert (following.at, told(following.answer)) == (7, [("fire", "expired", None)])

    run(main)


def test_a_wait_whose_time_is_over_tells_nothing_and_goes_on_from_there() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            found = await follow(bob, start, 3_000)
            assert (found.changes, found.more, trio.current_time()) == ([], False, 3)
            await put(alice, "k", 1)
            for cursor in (start, found.cursor):
                assert told(await follow(bob, cursor, LONG_MS)) == [("k", "written", 1)]
            assert trio.current_time() == 3

    run(main)


def test_a_page_that_is_cut_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", 3)

    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            for number in range(10):
                await put(alice, f"k{number}", number)
                await alice.send("between")
            pages, cursor, more = [], start, True
            while more:
                found = await follow(bob, cursor, LONG_MS, limit=4)
                pages.append([each.value for each in found.changes])
                cursor, more = found.cursor, found.more
            assert pages == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    run(main)


def test_a_page_is_bounded_in_bytes_and_long_values_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries_shown, "PAGE_BYTES", 5 * IN_HEADER)

    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            long = "x" * 2 * IN_HEADER
            for number in range(3):
                await put(alice, f"k{number}", long)
            first = await follow(bob, start)
            rest = await follow(bob, first.cursor)
            assert (len(first.changes), first.more, len(rest.changes), rest.more) == (2, True, 1, False)
            assert {each.value for each in (*first.changes, *rest.changes)} == {long}

    run(main)


def test_a_hidden_scope_tells_another_nothing_and_ends_no_wait_of_it() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            start, mine = (await follow(bob)).cursor, (await follow(alice)).cursor
            async with meanwhile(partial(follow, bob, start, 20_000)) as following:
                await put(alice, "plan", "secret", scope="alice", timer=t.TimerAsked(ms=1_000))
                await trio.sleep(5)
                await put(alice, "plan", "secret", scope="alice")
            assert (following.at, following.answer.changes, following.answer.more) == (20, [], False)
            assert (await follow(bob, start, scope="alice")).changes == []
            assert [each.change for each in (await follow(alice, mine)).changes] == ["written", "expired", "written"]

    run(main)


def test_an_expression_that_names_a_hidden_scope_is_not_told() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            start = (await follow(bob)).cursor
            await put(alice, "ready", scope="_view", expr='state.alice.secret == "x"')
            await put(alice, "gated", 1, enabled='state.alice.secret == "x"')
            await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
            view, gated = (await follow(bob, start)).changes
            assert (view.expr, gated.enabled) == ("(private)", "(private)")

    run(main)


@pytest.mark.parametrize(
    ("history", "shown"), [("none", ["seen", "again"]), ("from-join", ["seen", "missed", "again"])]
)
def test_whoever_comes_in_again_is_told_what_the_history_of_the_room_shows(history: str, shown: list[str]) -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(history=history)
            await put(alice, "k", "before")
            await served.admit(opened, bob)
            start = (await follow(bob)).cursor
            await put(alice, "k", "seen")
            assert await bob.close() == "left"
            await put(alice, "k", "missed")
            gone = await bob.refused("state.changes", t.FollowState(after=start, wait_ms=0, room=opened.room))
            assert gone.code == "no_such_room"
            await served.admit(opened, bob)
            await put(alice, "k", "again")
            assert [each.value for each in (await follow(bob, start)).changes] == shown

    run(main)


@pytest.mark.parametrize("after", ["nonsense", "A" * 32, "7"])
def test_what_was_told_to_nobody_is_no_cursor(after: str) -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            error = await bob.refused("state.changes", t.FollowState(after=after, wait_ms=0))
            assert (error.code, error.details["param"]) == ("invalid_param", "after")
            theirs = (await follow(alice)).cursor
            assert (await bob.refused("state.changes", t.FollowState(after=theirs, wait_ms=0))).code == "invalid_param"

    run(main)


def test_a_restart_goes_on_from_a_cursor_and_ends_the_wait_with_a_word_to_ask_again() -> None:
    async def main() -> None:
        place = world()
        async with place.serving() as served:
            alice, bob = await served.room("alice", "bob")
            cursor = (await follow(bob)).cursor
            await put(alice, "k", 1)
        async with place.serving() as served:
            bob = await served.agent("bob")
            found = await follow(bob, cursor)
            assert told(found) == [("k", "written", 1)]
            async with meanwhile(partial(follow, bob, found.cursor, LONG_MS)) as following:
                await served.engine.drain()
            assert following.error is not None
            assert following.error.code == "draining"

    run(main)


def test_whoever_follows_the_state_does_not_count_as_waiting_for_a_condition() -> None:
    async def main() -> None:
        async with world().serving() as served:
            alice, bob = await served.room("alice", "bob")
            async with meanwhile(partial(follow, bob, (await follow(bob)).cursor, 1_000)):
                status = await alice.ask("state.evaluate", t.Evaluate(expr="agents.bob.status"), t.Evaluated)
                assert status.value == "active"

    run(main)
