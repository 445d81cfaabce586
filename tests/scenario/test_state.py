"""The state of a room: who reads and writes what, with versions and guards. Told once, played in every home."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec

from parlerd.core.errors import ParlerError
from parlerd.core.state import IN_HEADER
from parlerd.operations import types as t
from tests.scenario.test_memory import together
from tests.support.engine import Party, gather
from tests.support.homes import Home, Place
from tests.support.room_state import put, value


async def listed(who: Party, **rest: Any) -> dict[tuple[str, str], Any]:
    found = await who.ask("state.list", t.ListState(**rest), t.StateListed)
    return {(each.scope, each.key): each.value for each in found.entries}


async def history(who: Party, key: str, **rest: Any) -> t.StateHistory:
    return await who.ask("state.history", t.HistoryOfState(key=key, **rest), t.StateHistory)


async def changes(who: Party, after: str | None = None, **rest: Any) -> t.StateChanges:
    params = t.FollowState(after=after, wait_ms=60_000, **rest)
    return await who.ask("state.changes", params, t.StateChanges)


def test_what_one_writes_another_reads_with_its_version_and_its_author(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        written = await put(alice, "phase", "planning")
        assert (written.version, written.updated_by, written.replayed) == (1, "alice", False)
        found = await bob.ask("state.get", t.GetState(key="phase"), t.StateRead)
        assert (found.value, found.version, found.updated_by) == ("planning", 1, "alice")
        assert (found.room, found.name) == (written.room, "auth-redesign")
        assert (await put(bob, "phase", {"name": "building", "since": 2.0})).version == 2
        assert await value(alice, "phase") == {"name": "building", "since": 2.0}

    home.play(story)


def test_a_guard_lets_one_of_two_writers_through_and_shows_the_other_what_is_there(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        outcomes: list[ParlerError | None] = []

        async def claim(who: Party, name: str) -> None:
            try:
                await put(who, "leader", name, if_version=0)
                outcomes.append(None)
            except ParlerError as error:
                outcomes.append(error)

        await gather(partial(claim, alice, "alice"), partial(claim, bob, "bob"))
        (lost,) = [error for error in outcomes if error is not None]
        leader = await value(alice, "leader")
        assert (lost.code, lost.message) == ("version_conflict", "The key leader is at version 1.")
        current = lost.details["current"]
        assert (current["version"], current["value"], current["updated_by"]) == (1, leader, leader)

    home.play(story)


def test_counters_lists_and_objects_grow_in_place(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        for who in (alice, bob, alice):
            await put(who, "done", 1, increment=True)
        await put(bob, "done", increment=-2)
        assert await value(alice, "done") == 1
        await put(alice, "log", "a", append=True)
        await put(bob, "log", {"b": 1}, append=True)
        assert await value(alice, "log") == ["a", {"b": 1}]
        await put(alice, "config", {"a": {"x": 1}}, merge=True)
        await put(bob, "config", {"a": {"y": 2}, "b": None}, merge=True)
        assert await value(bob, "config") == {"a": {"x": 1, "y": 2}, "b": None}
        error = await bob.refused("state.set", t.SetState(key="log", value=1, increment=True))
        assert (error.code, error.message) == ("wrong_type", "The key log holds a list, which cannot be incremented.")

    home.play(story)


def test_an_agents_own_scope_is_read_by_all_and_written_by_it_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(bob, "score", 42, scope="bob")
        assert await value(alice, "score", "bob") == 42
        assert await value(alice, "score", (await bob.whoami()).id) == 42
        error = await alice.refused("state.set", t.SetState(key="score", value=0, scope="bob"))
        assert (error.code, error.details["write_scope"], error.details["invoker"]) == ("scope_denied", "bob", "alice")
        assert await listed(alice, scope="bob") == {("bob", "score"): 42}
        assert (await alice.refused("state.get", t.GetState(key="score", scope="zoe"))).code == "no_such_agent"

    home.play(story)


def test_a_batch_happens_whole_or_not_at_all(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        writes = (
            t.BatchedWrite(key="phase", value="planning"),
            t.BatchedWrite(key="turn", value=0),
            t.BatchedWrite(key="turn", value=1, increment=True),
        )
        done = await alice.ask("state.batch", t.BatchState(writes=writes), t.BatchWritten)
        assert [(each.key, each.value, each.version) for each in done.writes] == [
            ("phase", "planning", 1),
            ("turn", 0, 1),
            ("turn", 1, 2),
        ]
        bad = (t.BatchedWrite(key="phase", delete=True), t.BatchedWrite(key="turn", value=9, if_version=1))
        error = await bob.refused("state.batch", t.BatchState(writes=bad))
        assert (error.code, error.details["index"], error.details["current"]["version"]) == ("version_conflict", 1, 2)
        assert await listed(bob) == {("_shared", "phase"): "planning", ("_shared", "turn"): 1}

    home.play(story)


def test_the_same_request_again_is_answered_as_it_was_and_does_nothing(home: Home) -> None:
    async def story(place: Place) -> None:
        (alice,) = await together(place, "alice")
        first = await put(alice, "turn", 1, increment=True, idempotency_key="k-1")
        await put(alice, "turn", 5)
        again = await put(alice, "turn", 1, increment=True, idempotency_key="k-1")
        assert (again.value, again.version, again.replayed) == (first.value, first.version, True)
        assert await value(alice, "turn") == 5
        conflict = await alice.refused("state.set", t.SetState(key="turn", value=2, idempotency_key="k-1"))
        assert conflict.code == "idempotency_conflict"
        writes = (t.BatchedWrite(key="a", value=1), t.BatchedWrite(key="a", increment=1))
        batch = t.BatchState(writes=writes, idempotency_key="k-2")
        answers = [await alice.ask("state.batch", batch, t.BatchWritten) for _ in range(2)]
        assert [each.value for each in answers[1].writes] == [each.value for each in answers[0].writes] == [1, 2]
        assert [each.replayed for each in answers] == [False, True]

    home.play(story)


def test_a_deleted_key_is_gone_and_its_versions_go_on(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "phase", 1), await put(alice, "phase", 2)
        gone = await bob.ask("state.delete", t.DeleteState(key="phase"), t.StateWritten)
        assert (gone.value, gone.version, gone.deleted) == (None, 2, True)
        missing = await alice.refused("state.get", t.GetState(key="phase"))
        assert (missing.code, missing.message) == ("no_such_key", "There is no key phase.")
        assert (await alice.refused("state.delete", t.DeleteState(key="phase"))).code == "no_such_key"
        error = await alice.refused("state.set", t.SetState(key="phase", value=0, if_version=2))
        assert (error.code, error.details["current"]) == ("version_conflict", None)
        assert (await put(alice, "phase", 3, if_version=0)).version == 3

    home.play(story)


def test_history_says_who_wrote_what_and_the_state_can_be_seen_as_it_was(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        await put(alice, "phase", "planning", idempotency_key="k-1")
        said = await alice.send("we begin")
        await put(bob, "phase", "x" * 2 * IN_HEADER)
        await put(bob, "other", 1)
        await alice.ask("state.delete", t.DeleteState(key="phase"), t.StateWritten)
        found = await history(bob, "phase")
        assert [(each.version, each.updated_by, each.deleted) for each in found.versions] == [
            (2, "alice", True),
            (2, "bob", False),
            (1, "alice", False),
        ]
        assert [each.value for each in found.versions] == [None, "x" * 2 * IN_HEADER, "planning"]
        assert (found.versions[-1].request, found.first, found.more) == ("k-1", 1, False)
        page = await history(bob, "phase", limit=1)
        assert (len(page.versions), page.more) == (1, True)
        assert await listed(alice, at_seq=said.seq) == {("_shared", "phase"): "planning"}
        assert await listed(alice, at=0) == {}
        assert await listed(alice) == {("_shared", "other"): 1}

    home.play(story)


def test_what_changes_is_told_to_whoever_follows_it_and_nothing_of_a_hidden_scope(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "phase", "planning")
        cursor = (await changes(bob)).cursor
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        await put(alice, "plan", "canary", scope="alice")
        await put(alice, "phase", "building")
        found = await changes(bob, cursor)
        (change,) = found.changes
        assert (change.key, change.change, change.value, change.version) == ("phase", "written", "building", 2)
        assert (change.updated_by, found.name, found.more) == ("alice", "auth-redesign", False)
        await bob.ask("state.delete", t.DeleteState(key="phase"), t.StateWritten)
        await put(bob, "n", 1)
        first = await changes(bob, found.cursor, limit=1)
        rest = await changes(bob, first.cursor)
        assert [(each.key, each.change) for each in first.changes] == [("phase", "deleted")]
        assert [(each.key, each.change) for each in rest.changes] == [("n", "written")]
        assert first.more

    home.play(story)


def test_a_board_shows_each_reader_what_it_may_see_and_comes_anew_when_it_looks_otherwise(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "phase", "planning")
        await put(alice, "later", 1, timer=t.TimerAsked(ms=3_600_000, effect="enable"))
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        await put(alice, "plan", "canary", scope="alice")
        first = await bob.ask("room.board", t.LookAtBoard(), t.Board)
        assert [(each.key, each.dormant is True) for each in first.entries] == [("later", True), ("phase", False)]
        assert (sorted(each.name for each in first.agents), first.name) == (["alice", "bob"], "auth-redesign")
        await alice.send("review it", kind="task")
        second = await bob.ask("room.board", t.LookAtBoard(after=first.mark, wait_ms=60_000), t.Board)
        assert [(each.text, each.author, each.status) for each in second.tasks] == [("review it", "alice", "open")]
        assert second.unclaimed == 1
        mine = await alice.ask("room.board", t.LookAtBoard(), t.Board)
        assert [each.key for each in mine.entries] == ["later", "phase", "plan"]

    home.play(story)


def test_large_values_are_kept_whole_and_too_large_ones_and_secrets_are_refused(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        large = ["é" * 1000] * 20
        await put(alice, "large", large)
        assert await value(bob, "large") == large
        assert (await alice.refused("state.set", t.SetState(key="k", value="x" * 70_000))).code == "value_too_large"
        secret = "ghp_" + "a" * 36
        error = await alice.refused("state.set", t.SetState(key="k", value={"token": [secret]}))
        assert (error.code, error.details["kinds"]) == ("secret_refused", ["GitHub token"])
        assert secret not in str(error.body())
        assert await listed(bob) == {("_shared", "large"): large}

    home.play(story)


def test_whoever_is_not_in_the_room_neither_reads_nor_writes(home: Home) -> None:
    async def story(place: Place) -> None:
        (alice,) = await together(place, "alice")
        mallory = await place.agent("mallory")
        room = (await put(alice, "phase", 1)).room
        for operation, params in (
            ("state.get", t.GetState(key="phase", room=room)),
            ("state.list", t.ListState(room=room)),
            ("state.set", t.SetState(key="phase", value=2, room=room)),
            ("state.history", t.HistoryOfState(key="phase", room=room)),
            ("state.changes", t.FollowState(wait_ms=0, room=room)),
            ("room.board", t.LookAtBoard(wait_ms=0, room=room)),
        ):
            assert (await mallory.refused(operation, params)).code == "no_such_room"

    home.play(story)


def test_the_text_of_a_view_over_a_hidden_scope_is_shown_to_its_agent_alone(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "plan", 1, scope="alice")
        await put(alice, "ready", expr="state.alice.plan == 1 && !has(state.alice.canary)")
        await put(alice, "door", "shut", enabled="!has(state.alice.canary)")
        await alice.ask("state.hide", t.HideScope(hidden=True), t.ScopeShown)
        for who, is_shown in ((alice, True), (bob, False)):
            views = (await who.ask("state.list", t.ListState(), t.StateListed)).entries
            versions = (await history(who, "ready", scope="_view")).versions
            assert (b"canary" in msgspec.json.encode([views, versions])) is is_shown
            assert any(each.expr == "(private)" for each in views) is not is_shown

    home.play(story)
