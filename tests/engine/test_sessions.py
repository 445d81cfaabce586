"""Opening, knocking, deciding, closing: what each party is answered, and what a stranger cannot learn."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import MAX_PENDING_PER_KEY, MAX_TEXT, MAX_TOPIC, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine import sessions as sessions_module
from parlerd.engine.actor import RoomActor
from parlerd.engine.callers import PeerProcess
from parlerd.engine.ports import NoHostFiles
from parlerd.identity.delegation import DELEGATION_TTL_MS
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import (
    HookDriver,
    Party,
    PlugDriver,
    Served,
    SlowDriver,
    World,
    engine_world,
    gather,
    run,
    settle,
    texts,
)
from tests.support.faulty_store import FaultyStore

TERMINAL = PeerProcess(pid=7, uid=1000, program="parler", terminal=True)


def in_agent_host(peer: PeerProcess) -> PeerProcess:
    return replace(peer, agent_host="claude-code")


def body(error: ParlerError) -> bytes:
    return msgspec.json.encode(error.body())


async def wrong_join(party: Party, key: str) -> ParlerError:
    return await party.refused("session.join", t.JoinSession(session_key=key))


def events(served: Served, room: str) -> list[e.Event]:
    return [header.event for header in served.driver.store.facts(RoomId(room), Position(0), 1000)]


# -- opening -----------------------------------------------------------------------------------------------


def test_opening_gives_a_room_a_key_and_the_commands_to_paste() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("Auth redesign: phase 2", "Chose PKCE.")
            assert opened.name == "Auth-redesign-phase-2"
            assert opened.session_key is not None
            assert len(opened.session_key) == 8
            assert opened.line == f"Join the Parler session {opened.session_key}."
            assert opened.join_command == f"parler session join {opened.session_key}"
            assert (
                opened.mcp_command == f"claude mcp add parler -e PARLER_SESSION_KEY={opened.session_key} -- parler mcp"
            )
            assert opened.approval
            assert opened.warning is msgspec.UNSET
            assert opened.expires == served.world.clock.ms + served.world.settings.key_ttl_ms
            assert (await alice.whoami()).active == opened.room
            page = await alice.recv(all=True)
            assert texts(page) == ["Chose PKCE."]
            assert page.messages[0].opening is True
            assert page.messages[0].kind == "context"

    run(main)


def test_an_ungated_key_is_a_secret_long_with_a_warning_and_in_no_command_to_paste() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_default=False)) as served:
            opened = await (await served.window("w")).open()
            assert not opened.approval
            assert opened.session_key is not None
            assert len(opened.session_key) == 16
            assert opened.mcp_command is None
            assert "without being asked" in str(opened.warning)

    run(main)


def test_a_name_is_unique_for_its_owner_and_a_session_without_a_topic_has_one_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            names = [(await alice.open("x")).name for _ in range(3)]
            assert names == ["x", "x-2", "x-3"]
            assert (await bob.open("x")).name == "x"
            assert (await bob.open("")).name == "session"
            assert (await bob.open("\u65e5\u672c")).name == "session-2"

    run(main)


def test_a_session_may_be_opened_without_a_recap() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob", context="")
            assert (await bob.recv(all=True)).messages == []
            assert (await alice.send("first")).seq == 1

    run(main)


def test_a_recap_too_long_and_a_topic_too_long_are_refused_and_name_the_limit() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            error = await alice.refused("session.open", t.OpenSession(context="x" * (300 * 1024)))
            assert (error.code, error.details["limit"]) == ("text_too_long", MAX_TEXT)
            error = await alice.refused("session.open", t.OpenSession(topic="x" * (MAX_TOPIC + 1)))
            assert (error.code, error.details["param"]) == ("invalid_param", "topic")
            assert await alice.rooms() == []

    run(main)


class Connected(NoHostFiles):
    def is_connected(self) -> bool:
        return True


def test_where_an_agent_host_is_connected_the_line_is_all_that_is_handed_over() -> None:
    async def main() -> None:
        async with engine_world(host_files=Connected()) as served:
            opened = await (await served.agent("alice")).open()
            assert opened.line == f"Join the Parler session {opened.session_key}."
            assert opened.join_command == f"parler session join {opened.session_key}"
            assert opened.mcp_command is None

    run(main)


def test_a_retried_open_is_the_same_room_and_gives_its_key_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            first = await alice.open("x", "recap", idempotency_key="k1")
            again = await alice.open("x", "recap", idempotency_key="k1")
            assert again.room == first.room
            assert again == msgspec.structs.replace(first, replayed=True)
            assert (await (await served.agent("bob")).join(again.session_key)).status == "pending"
            error = await alice.refused("session.open", t.OpenSession(topic="y", context="recap", idempotency_key="k1"))
            assert error.code == "idempotency_conflict"
            assert len(await alice.rooms()) == 1

    run(main)


def test_a_retried_open_gives_the_same_key_after_a_restart_and_says_what_became_of_it() -> None:
    async def main() -> None:
        world = World()
        async with world.serving() as served:
            first = await (await served.agent("alice")).open("x", "recap", idempotency_key="k1")
        async with world.serving() as served:
            alice = await served.agent("alice")
            again = await alice.open("x", "recap", idempotency_key="k1")
            assert (again.session_key, again.warning) == (first.session_key, msgspec.UNSET)
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(first.session_key)))
            assert "revoked" in str((await alice.open("x", "recap", idempotency_key="k1")).warning)
            expired = await alice.open("y", idempotency_key="k2", ttl_ms=60_000)
            world.clock.move(seconds=61)
            again = await alice.open("y", idempotency_key="k2", ttl_ms=60_000)
            assert again.session_key == expired.session_key
            assert "expired" in str(again.warning)

    run(main)


def test_rooms_have_keys_of_their_own_of_which_the_store_holds_only_the_id() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            keys = [(await alice.open(f"t{n}")).session_key for n in range(20)]
            assert len(set(keys)) == 20
            room = (await alice.rooms())[0].room
            (minted,) = [event for event in events(served, room) if isinstance(event, e.KeyMinted)]
            assert minted.key == served.world.keys.key_id(str(keys[0]))
            assert str(keys[0]) not in msgspec.json.encode(minted).decode().upper()

    run(main)


def test_a_key_that_was_drawn_at_random_before_cannot_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            monkeypatch.setattr(served.world.keys, "session_key", lambda room, length: "A3KE7DJR")
            await alice.open("x", idempotency_key="k1")
            monkeypatch.undo()
            again = await alice.open("x", idempotency_key="k1")
            assert again.replayed
            assert (again.session_key, again.line, again.join_command, again.mcp_command) == (None, None, None, None)

    run(main)


def test_the_same_open_twice_at_the_same_moment_gives_one_working_key() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            await alice.whoami()
            both = await gather(
                partial(alice.open, "x", "r", idempotency_key="k1"), partial(alice.open, "x", "r", idempotency_key="k1")
            )
            assert {opened.room for opened in both} == {both[0].room}
            (key,) = {opened.session_key for opened in both}
            assert (await bob.join(key)).status == "pending"
            assert len(await alice.rooms()) == 1

    run(main)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("commit", [0, 1])
def test_a_crash_in_the_middle_of_opening_is_made_good_by_the_same_request(commit: int, stored: bool) -> None:
    """Opening is two commits: the name in the home room, then the room. A kill before or after either loses nothing."""

    async def main() -> None:
        world = World()
        async with world.serving() as served:
            await (await served.agent("alice")).whoami()

        killed = trio.CancelScope()
        plugs: list[PlugDriver] = []

        def plug(store: Any) -> PlugDriver:
            plugs.append(PlugDriver(store, killed.cancel))
            return plugs[-1]

        world.driver = plug
        with killed:
            async with world.serving() as served:
                alice = await served.agent("alice")
                await alice.whoami()
                plugs[0].cut = (plugs[0].commits + commit, stored)
                await alice.open("x", "recap", idempotency_key="k1")
        assert plugs[0].dead

        world.driver = PlugDriver
        async with world.serving() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            again = await alice.open("x", "recap", idempotency_key="k1")
            assert again.name == "x"
            assert again.replayed == (commit == 1 and stored)
            assert [room.room for room in await alice.rooms()] == [again.room]
            assert texts(await alice.recv(all=True)) == ["recap"]
            assert (await bob.join(again.session_key)).status == "pending"

    run(main)


@pytest.mark.parametrize("failing", [1, 2])
def test_an_open_that_could_not_be_stored_says_its_key_and_succeeds_once_with_it(failing: int) -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice = await served.agent("alice")
            await alice.whoami()
            store.fail_commit_number(store.commits + failing, "store_full")
            error = await alice.refused("session.open", t.OpenSession(topic="x", context="recap"))
            assert error.code == "store_full"
            opened = await alice.open("x", "recap", idempotency_key=error.details["key"])
            assert (opened.name, opened.replayed) == ("x", False)
            assert len(await alice.rooms()) == 1

    run(main)


def test_an_agent_cannot_open_with_a_weaker_policy_than_the_persons_setting() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            me = await window.whoami()
            weaker: list[dict[str, Any]] = [{"approval": False}, {"approver": "agent"}, {"preapprove": (me.id,)}]
            for how in weaker:
                assert (await window.refused("session.open", t.OpenSession(**how))).code == "person_only"
            assert await window.rooms() == []
            assert (await window.open(approval=True)).approval

    run(main)


def test_a_command_started_by_an_agent_host_cannot_open_with_a_weaker_policy_either() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            alice = await served.agent("alice")
            for how in ({"approval": False}, {"approver": "agent"}):
                error = await alice.refused("session.open", t.OpenSession(**how))
                assert error.code == "needs_person"

    run(main)


def test_a_person_may_open_with_a_weaker_policy_and_pre_approve_by_id_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, bob, carol = await served.person(), await served.agent("bob"), await served.agent("carol")
            error = await person.refused("session.open", t.OpenSession(preapprove=("bob",)))
            assert error.code == "invalid_param"
            opened = await person.open(preapprove=((await bob.whoami()).id,))
            assert (await bob.join(opened.session_key)).status == "joined"
            assert (await carol.join(opened.session_key)).status == "pending"
            ungated = await person.open(approval=False)
            assert (await carol.join(ungated.session_key)).status == "joined"

    run(main)


# -- keys that do not work ---------------------------------------------------------------------------------


def test_a_key_is_not_dead_for_good_after_the_clock_stood_ahead() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            ten_years = 10 * 365 * 86_400
            served.world.clock.move(seconds=ten_years)
            await alice.send("dated ahead")
            assert (await wrong_join(bob, str(opened.session_key))).code == "unknown_key"
            served.world.clock.move(seconds=-ten_years)
            assert (await bob.join(opened.session_key)).status == "pending"
            # What was renewed then lasts no longer than anything else.
            assert (await bob.whoami()).name == "bob"
            agents = served.engine._desk.rooms.home.aggregate.state.agents.values()
            await alice.whoami()
            assert {agent.delegated_until for agent in agents} == {served.world.clock.ms + DELEGATION_TTL_MS}

    run(main)


def test_unknown_expired_used_up_and_revoked_keys_give_the_same_answer_byte_for_byte() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            expired = await alice.open("a", ttl_ms=60_000)
            revoked = await alice.open("b")
            closed = await alice.open("c")
            used_up = await alice.open("d", max_uses=1)
            assert revoked.session_key is not None
            assert used_up.session_key is not None
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=revoked.session_key))
            await alice.close(closed.room)
            await served.admit(used_up, carol)
            served.world.clock.move(seconds=61)
            keys = [
                expired.session_key,
                revoked.session_key,
                closed.session_key,
                used_up.session_key,
                "ZZZZZZZZ",
                "not a key!",
                "@",
                "9" * 64,
                "A" * 200,
            ]
            bodies = {body(await wrong_join(bob, str(key))) for key in keys}
            assert len(bodies) == 1
            assert b"unknown_key" in min(bodies)
            # The other operation that takes a key says no more to a stranger.
            mallory = await served.agent("mallory")
            bodies |= {
                body(await mallory.refused("session.revoke", t.RevokeSessionKey(session_key=str(key)))) for key in keys
            }
            assert len(bodies) == 1

    run(main)


def test_a_key_is_read_forgivingly() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            assert opened.session_key is not None
            typed = opened.session_key.replace("1", "l").replace("0", "o").lower()
            assert (await bob.join(f" {typed[:4]}-{typed[4:]} ")).status == "pending"

    run(main)


def test_a_wrong_key_in_another_home_says_which_home_this_is() -> None:
    async def main() -> None:
        async with engine_world(default_home=False) as served:
            error = await wrong_join(await served.agent("bob"), "ZZZZZZZZ")
            assert error.code == "unknown_key"
            assert "/home/sam/other" in error.hint
            assert "--as" in error.hint
            # A model has no use for any of that.
            assert "--as" not in (await wrong_join(await served.window("w"), "ZZZZZZZZ")).hint

    run(main)


def test_a_key_of_another_home_is_refused_before_anything_is_looked_up() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            looked_up: list[str] = []
            store = served.driver.store
            found = store.room_of_key
            store.room_of_key = lambda key: (looked_up.append(key), found(key))[1]  # type: ignore[method-assign, func-returns-value]
            for op, params in (
                ("session.join", t.JoinSession(session_key=f"{opened.session_key}@relay.example:8443")),
                ("session.revoke", t.RevokeSessionKey(session_key=f"{opened.session_key}@{'h' * 150}")),
            ):
                error = await bob.refused(op, params)
                assert error.code == "home_not_trusted"
                assert error.hint
                assert len(error.details["host"]) <= 64
            assert looked_up == []
            assert not await alice.requests()

    run(main)


def test_who_guesses_keys_is_throttled_and_who_knows_one_is_not() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = [await served.agent(name) for name in ("alice", "bob")]
            mallory = await served.connect(as_name="mallory", peer=PeerProcess(pid=71, group=70))
            opened = await alice.open()
            answers = [(await wrong_join(mallory, f"ZZZZZZZ{n}")).code for n in range(10)]
            assert answers == ["unknown_key"] * 10
            error = await mallory.refused("session.join", t.JoinSession(session_key=str(opened.session_key)))
            assert error.code == "throttled"
            assert error.retry_after_ms
            # Another name and another command of the same shell do not help it; others are not held back.
            again = await served.connect(as_name="other", peer=PeerProcess(pid=72, group=70))
            assert (await wrong_join(again, "ZZZZZZZZ")).code == "throttled"
            assert (await bob.join(opened.session_key)).status == "pending"
            await trio.sleep(error.retry_after_ms / 1000)
            assert (await mallory.join(opened.session_key)).status == "pending"

    run(main)


def test_joining_without_a_page_leaves_the_context_unread_for_the_first_read() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_default=False)) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(context="the recap")
            joined = await bob.join(opened.session_key, limit=0)
            assert (joined.status, joined.messages) == ("joined", [])
            page = await alice.recv(all=True)
            assert (await alice.why(page.messages[0].id))["bob"] == ["stored"]
            assert texts(await bob.recv()) == ["the recap"]
            assert "read" in (await alice.why(page.messages[0].id))["bob"]

    run(main)


# -- knocking ----------------------------------------------------------------------------------------------


def test_who_waits_sees_nothing_learns_nothing_and_is_woken_by_the_decision() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "the recap")
            pending = await bob.join(opened.session_key)
            assert pending.status == "pending"
            assert pending.messages == []
            assert pending.name is None
            assert pending.join_code is not None
            for op, params in outsider_calls(opened.room):
                assert (await bob.refused(op, params)).code in ("no_such_room", "no_active_session")
            assert await bob.rooms() == []

            landed: list[t.JoinedSession] = []

            async def wait() -> None:
                landed.append(await bob.join(opened.session_key, wait=3600))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                began = trio.current_time()
                await alice.approve("bob")
            assert trio.current_time() == began
            assert texts(landed[0]) == ["the recap"]
            assert landed[0].status == "joined"
            assert landed[0].name == "x"

    run(main)


def outsider_calls(room: str) -> list[tuple[str, t.Params]]:
    return [
        ("message.send", t.Send(text="hi", room=room)),
        ("message.recv", t.Recv(room=room)),
        ("message.recv", t.Recv(room=room, all=True)),
        ("message.commit", t.Commit(room=room, cursor="1")),
        ("rooms.roster", t.Roster(room=room)),
        ("handoff.give", t.GiveHandoff(next="go", room=room)),
        ("session.requests", t.SessionRequests(room=room)),
        ("session.close", t.CloseSession(room=room)),
    ]


def test_polling_is_free_and_makes_no_second_request() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(max_uses=1)
            first = await bob.join(opened.session_key)
            facts = len(events(served, opened.room))
            for _ in range(5):
                assert await bob.join(opened.session_key) == first
            assert len(events(served, opened.room)) == facts
            (request,) = await alice.requests()
            assert (request.name, request.host, request.home) == ("bob", "shell", "local")
            assert request.fingerprint.count("-") == 2
            assert request.requested == served.world.clock.ms

    run(main)


def test_a_wait_that_nobody_answers_ends_pending() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            began = trio.current_time()
            assert (await bob.join(opened.session_key, wait=30)).status == "pending"
            assert 30 <= trio.current_time() - began < 31

    run(main)


def test_a_decision_between_a_poll_and_its_answer_answers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            assert (await bob.join(opened.session_key)).status == "pending"
            quiet = RoomActor.quiet

            async def approved_meanwhile(actor: RoomActor[Room]) -> Room:
                monkeypatch.setattr(RoomActor, "quiet", quiet)
                await alice.approve("bob")
                return await quiet(actor)

            monkeypatch.setattr(RoomActor, "quiet", approved_meanwhile)
            assert (await bob.join(opened.session_key)).status == "joined"

    run(main)


def test_the_queue_of_one_key_is_bounded() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open()
            for n in range(MAX_PENDING_PER_KEY):
                await (await served.agent(f"bob{n}")).join(opened.session_key)
            late = await served.agent("late")
            error = await late.refused("session.join", t.JoinSession(session_key=str(opened.session_key)))
            assert (error.code, error.details["limit"]) == ("too_many_pending", 5)
            await alice.deny("bob0")
            assert (await late.join(opened.session_key)).status == "pending"

    run(main)


def test_joining_where_one_is_answers_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            await served.admit(opened, bob)
            for party in (alice, bob):
                other = await party.open("another")
                again = await party.join(opened.session_key)
                assert (again.status, again.room, again.name) == ("already_member", opened.room, opened.name)
                assert texts(again) == ["Chose PKCE."]
                assert (await party.whoami()).active == opened.room != other.room
            assert await alice.requests() == []

    run(main)


def test_the_context_that_is_shown_again_moves_no_cursor_back_and_none_over_what_it_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            sent = [await alice.send(f"m{n}") for n in range(3)]
            # All of it was read before: nothing is new afterwards either.
            assert await bob.read() == ["m0", "m1", "m2"]
            again = await bob.join(opened.session_key, limit=1)
            assert (texts(again), again.cursor) == (["recap", "m2"], str(sent[-1].seq))
            await bob.commit(again)
            assert await bob.read() == []
            # Something unread stands in the gap: the page acknowledges nothing, and all of it is still new.
            for n in range(3, 6):
                await alice.send(f"m{n}")
            again = await bob.join(opened.session_key, limit=1)
            assert (texts(again), again.cursor, again.truncated) == (["recap", "m5"], "", True)
            assert await bob.read() == ["m3", "m4", "m5"]
            # All that is unread is shown: it is read.
            await alice.send("m6")
            again = await bob.join(opened.session_key)
            await bob.commit(again)
            assert await bob.read() == []

    run(main)


@pytest.mark.parametrize(("limit", "left"), [(100, []), (1, ["m0", "m1", "m2"])])
def test_a_window_that_joins_again_acknowledges_with_its_next_call_only_what_was_shown_whole(
    limit: int, left: list[str]
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w", as_name="bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, window)
            await served.acknowledge(window)
            for n in range(3):
                await alice.send(f"m{n}")
            assert (await window.join(opened.session_key, limit=limit)).status == "already_member"
            await served.acknowledge(window)
            assert texts(await window.recv()) == left

    run(main)


def test_a_command_that_joins_again_under_the_name_of_a_live_window_acknowledges_nothing() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w", as_name="bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, window)
            await served.acknowledge(window)
            await alice.send("one")
            again = await (await served.agent("bob")).join(opened.session_key)
            assert (again.status, texts(again), again.cursor) == ("already_member", ["recap", "one"], "")
            assert texts(await window.recv()) == ["one"]

    run(main)


def test_a_knock_from_the_environment_leaves_the_session_that_an_agent_went_on_to() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            other = await bob.open("another")
            again = await bob.join(opened.session_key, limit=0)
            assert (again.status, again.messages) == ("already_member", [])
            assert (await bob.whoami()).active == other.room
            await bob.close()
            assert (await bob.join(opened.session_key, limit=0)).status == "already_member"
            assert (await bob.whoami()).active == opened.room

    run(main)


def test_a_closed_session_that_one_is_in_is_shown_again_too() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await served.admit(opened, bob)
            await alice.close()
            again = await bob.join(opened.session_key)
            assert (again.status, texts(again)) == ("already_member", ["recap"])
            assert "closed" in again.hint

    run(main)


def test_an_approval_after_the_key_died_still_lets_the_joiner_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            assert opened.session_key is not None
            await bob.join(opened.session_key)
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=opened.session_key))
            served.world.clock.move(seconds=25 * 3600)
            assert (await bob.join(opened.session_key)).status == "pending"
            await alice.approve("bob")
            assert texts(await bob.join(opened.session_key)) == ["recap"]

    run(main)


def test_closing_answers_who_waits_at_the_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()
            answers: list[str] = []

            async def wait() -> None:
                try:
                    answers.append((await bob.join(opened.session_key, wait=3600)).status)
                except ParlerError as error:
                    answers.append(error.code)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await settle()
                began = trio.current_time()
                await alice.close()
            assert trio.current_time() == began
            assert answers == ["room_closed"]

    run(main)


def test_a_room_that_was_closed_for_want_of_use_still_wakes_who_waits_for_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")

            async def later() -> None:
                await trio.sleep(1800)
                assert len(served.engine._desk.rooms) == 0
                await alice.approve("bob")

            _, joined = await gather(later, partial(bob.join, opened.session_key, wait=3600))
            assert joined is not None
            assert texts(joined) == ["recap"]

    run(main)


# -- landing -----------------------------------------------------------------------------------------------


def test_a_short_room_is_shown_whole_and_what_follows_is_new() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await alice.send("one")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key)
            assert texts(landed) == ["recap", "one"]
            assert not landed.truncated
            assert landed.cursor == "2"
            await alice.send("two")
            await bob.commit(landed)
            assert await bob.read() == ["two"]

    run(main)


def test_a_join_that_was_not_acknowledged_is_shown_again() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            first = await bob.join(opened.session_key)
            assert await bob.join(opened.session_key) == first
            await bob.commit(first)
            again = await bob.join(opened.session_key)
            assert (again.status, again.messages) == ("already_member", first.messages)

    run(main)


def test_a_long_room_shows_the_recap_and_the_newest_tail_and_says_what_it_left_out() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap")
            sent = [await alice.send(f"m{n}") for n in range(600)]
            await bob.join(opened.session_key)
            await alice.approve("bob")
            landed = await bob.join(opened.session_key, limit=20)
            assert texts(landed) == ["recap", *(f"m{n}" for n in range(580, 600))]
            assert landed.truncated
            assert (landed.first_unshown, landed.last_unshown) == (2, 581)
            assert "580 messages" in landed.hint
            assert "2 to 581" in landed.hint
            await bob.commit(landed)

            await alice.send("after")
            assert await bob.read() == ["after"]
            # The middle is there to be read, and nobody says that it was.
            middle = sent[300].id
            assert (await alice.why(middle))["bob"] == ["stored"]
            assert (await alice.why(sent[590].id))["bob"] == ["stored", "read", "acknowledged"]
            looked = await bob.recv(since=1, limit=500)
            assert texts(looked) == [f"m{n}" for n in range(500)]
            assert looked.more
            assert (await alice.why(middle))["bob"][1] == "read"

    run(main)


def test_a_message_posted_while_a_joiner_lands_is_not_lost_between_join_and_recv() -> None:
    """What arrives between the read of the tail and its answer was not shown, so nothing may count it as shown."""

    async def main(via_mcp: bool) -> None:
        async with engine_world(driver=HookDriver) as served:
            alice = await served.agent("alice")
            bob = await served.window("w") if via_mcp else await served.agent("bob")
            opened = await alice.open("x", "recap")
            await bob.join(opened.session_key)
            await alice.approve((await bob.whoami()).id)
            assert isinstance(served.driver, HookDriver)
            served.driver.then = partial(alice.send, "in between")
            landed = await bob.join(opened.session_key)
            assert texts(landed) == ["recap"]
            if via_mcp:
                await served.acknowledge(bob)
            else:
                await bob.commit(landed)
            page = await bob.recv()
            assert texts(page) == ["in between"]
            assert (await alice.why(page.messages[0].id))[(await bob.whoami()).name] == ["stored", "read"]

    run(partial(main, False))
    run(partial(main, True))


def test_a_landing_that_failed_is_not_counted_as_shown() -> None:
    async def main() -> None:
        store = FaultyStore()
        async with engine_world(store=store) as served:
            alice, window = await served.agent("alice"), await served.window("w")
            opened = await alice.open("x", "recap")
            await window.join(opened.session_key)
            await alice.approve((await window.whoami()).id)
            await window.open("its own, and now its active one")
            # The knock finds it in already; the delivery mark is one commit, making the room its active one the next.
            store.fail_commit_number(store.commits + 2)
            assert (await wrong_join(window, str(opened.session_key))).code == "store_full"
            await served.acknowledge(window)
            assert texts(await window.join(opened.session_key)) == ["recap"]

    run(main)


@pytest.mark.parametrize("history", ["full", "from-join", "none"])
def test_the_history_policy_decides_what_a_joiner_sees_and_the_recap_is_always_shown(history: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("x", "recap", history=history)
            await alice.send("before")
            await bob.join(opened.session_key)
            await alice.approve("bob")
            await alice.send("after the approval")
            landed = await bob.join(opened.session_key)
            shown = ["recap", "before", "after the approval"] if history == "full" else ["recap", "after the approval"]
            assert texts(landed) == shown
            assert [message.seq for message in landed.messages] == list(range(1, len(shown) + 1))
            await bob.commit(landed)
            assert texts(await bob.recv(all=True)) == shown

            await bob.close()
            await alice.send("while away")
            again = await bob.join(opened.session_key)
            assert again.status == "pending"
            await alice.approve("bob")
            back = await bob.join(opened.session_key)
            if history == "none":
                assert texts(await bob.recv(all=True)) == shown
            else:
                assert texts(await bob.recv(all=True)) == [*shown, "while away"]
            await bob.commit(back)
            assert (await alice.send("now")).seq == 5
            assert await bob.read() == ["now"]

    run(main)


# -- deciding ----------------------------------------------------------------------------------------------


async def knocking(served: Served, *names: str, **how: Any) -> tuple[Party, t.OpenedSession, list[Party]]:
    """An owner and some who knock."""
    owner = await served.agent("alice")
    opened = await owner.open(**how)
    knockers = [await served.agent(name) for name in names]
    for knocker in knockers:
        await knocker.join(opened.session_key)
    return owner, opened, knockers


def test_approving_nobody_and_approving_twice_are_told_apart() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await knocking(served, "bob")
            for who in ("carol", "U" + "A" * 55, "q_none", "\u202e", "x" * 128):
                error = await alice.refused("session.approve", t.DecideJoin(agent=who))
                assert error.code == "no_such_request"
            assert (await alice.approve("bob")).proof == "cli"
            error = await alice.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "already_decided"
            error = await alice.refused("session.deny", t.DecideJoin(agent="bob"))
            assert error.code == "already_decided"

    run(main)


def test_two_who_decide_at_the_same_moment_make_one_decision() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice, opened, _ = await knocking(served, "bob")

            async def decide(op: str) -> str:
                try:
                    await alice.call(op, t.DecideJoin(agent="bob"))
                except Refused as error:
                    return error.code
                return "done"

            answers = await gather(
                partial(decide, "session.approve"), partial(decide, "session.deny"), partial(decide, "session.approve")
            )
            assert answers == ["done", "already_decided", "already_decided"]
            decisions = [x for x in events(served, opened.room) if isinstance(x, e.JoinApproved | e.JoinDenied)]
            assert len(decisions) == 1

    run(main)


def test_an_ambiguous_name_decides_nothing_and_lists_who_it_could_be() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            one, two = await alice.open("one"), await alice.open("two")
            await bob.join(one.session_key)
            await bob.join(two.session_key)
            person = await served.person()
            error = await person.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "ambiguous_name"
            assert {candidate["room"] for candidate in error.details["candidates"]} == {one.room, two.room}
            assert len(await alice.requests()) == 2
            await person.approve("bob", room=two.room)
            assert [request.room for request in await alice.requests()] == [one.room]

    run(main)


def test_a_decision_is_answered_with_names() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob, carol) = await knocking(served, "bob", "carol")
            approved = await alice.approve((await bob.whoami()).id)
            assert (approved.name, approved.room_name) == ("bob", opened.name)
            denied = await alice.deny("carol")
            assert (denied.name, denied.room_name) == ("carol", opened.name)
            assert carol.caller.agent == denied.agent

    run(main)


def test_a_denial_is_final_for_the_requester_until_the_owner_lifts_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob,) = await knocking(served, "bob", context="recap")
            await alice.deny("bob")
            for _ in range(3):
                denied = await bob.join(opened.session_key)
                assert denied.status == "denied"
                assert denied.messages == []
            assert await alice.requests() == []
            # Another connection, or another window under its name, is the same requester.
            assert (await (await served.agent("bob")).join(opened.session_key)).status == "denied"
            assert (await alice.approve("bob")).status == "approved"
            assert texts(await bob.join(opened.session_key)) == ["recap"]

    run(main)


def test_a_denial_wakes_who_waits_and_says_so() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()

            async def deny() -> None:
                await alice.deny("bob")

            joined, _ = await gather(partial(bob.join, opened.session_key, wait=600), deny)
            assert joined is not None
            assert joined.status == "denied"
            assert "declined" in joined.hint

    run(main)


def test_decisions_belong_to_the_person_for_all_their_agents_rooms_and_to_an_agent_for_its_own() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, _ = await knocking(served, "bob")
            carol, person = await served.agent("carol"), await served.person()
            assert [request.name for request in await person.requests()] == ["bob"]
            assert await carol.requests() == []
            error = await carol.refused("session.approve", t.DecideJoin(agent="bob"))
            assert error.code == "no_such_request"
            error = await carol.refused("session.approve", t.DecideJoin(agent="bob", room=opened.room))
            assert error.code == "no_such_room"
            await person.approve("bob")
            bob = await served.agent("bob")
            error = await bob.refused("session.approve", t.DecideJoin(agent="carol", room=opened.room))
            assert error.code == "not_owner"
            assert await alice.requests() == []

    run(main)


def test_a_decision_by_an_agent_over_mcp_is_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            opened = await window.open()
            bob = await served.agent("bob")
            await bob.join(opened.session_key)
            for op in ("session.approve", "session.deny"):
                error = await window.refused(op, t.DecideJoin(agent="bob"))
                assert error.code == "person_only"
                assert "parler session" in error.hint
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


def test_a_decision_from_under_an_agent_host_needs_the_person() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            alice, opened, (bob,) = await knocking(served, "bob")
            for party in (alice, await served.person()):
                for op in ("session.approve", "session.deny"):
                    error = await party.refused(op, t.DecideJoin(agent="bob"))
                    assert error.code == "needs_person"
                    assert "claude-code" in error.message
            assert (await bob.join(opened.session_key)).status == "pending"

    run(main)


def test_the_code_at_a_terminal_is_the_stronger_proof_and_is_recorded() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="terminal")) as served:
            _, opened, (bob,) = await knocking(served, "bob")
            code = (await bob.join(opened.session_key)).join_code
            plain = await served.person()
            at_terminal = await served.connect(peer=TERMINAL)
            for party, how in (
                (plain, {}),
                (plain, {"join_code": code}),
                (plain, {"join_code": code, "terminal": True}),
                (at_terminal, {}),
                (at_terminal, {"join_code": code}),
            ):
                error = await party.refused("session.approve", t.DecideJoin(agent="bob", **how))
                assert error.code == "needs_proof"
            decided = await at_terminal.approve("bob", join_code=str(code).lower(), terminal=True)
            assert decided.proof == "terminal"
            (approved,) = [x for x in events(served, opened.room) if isinstance(x, e.JoinApproved)]
            assert approved.proof == "terminal"

    run(main)


def test_denying_needs_no_proof() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="sealed")) as served:
            alice, _, _ = await knocking(served, "bob")
            assert (await alice.refused("session.approve", t.DecideJoin(agent="bob"))).code == "needs_proof"
            assert (await alice.deny("bob")).status == "denied"

    run(main)


def test_a_wrong_code_decides_nothing_and_a_few_of_them_stop_codes_for_a_while() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, opened, (bob, _) = await knocking(served, "bob", "carol")
            codes = {
                name: (await (await served.agent(name)).join(opened.session_key)).join_code for name in ("bob", "carol")
            }
            assert codes["bob"] != codes["carol"]
            for typed in (codes["carol"], "", "0000", "\u202e", "x" * 100):
                error = await alice.refused("session.approve", t.DecideJoin(agent="bob", join_code=typed))
                assert error.code == "code_mismatch"
            error = await alice.refused("session.approve", t.DecideJoin(agent="bob", join_code=codes["bob"]))
            assert error.code == "throttled"
            assert (await alice.approve("carol", join_code=codes["carol"])).status == "approved"
            assert (await bob.join(opened.session_key)).status == "pending"
            await trio.sleep(sessions_module.CODE_PAUSE_S)
            assert (await alice.approve("bob", join_code=codes["bob"])).status == "approved"

    run(main)


def test_what_is_remembered_of_wrong_codes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_module, "MAX_COUNTED", 2)

    async def main() -> None:
        async with engine_world() as served:
            alice, _, _ = await knocking(served, "b1", "b2", "b3")
            for who in ("b1", "b2", "b3"):
                await alice.refused("session.approve", t.DecideJoin(agent=who, join_code="0000"))
            assert len(served.engine._sessions._wrong_codes) == 2

    run(main)


# -- forms -------------------------------------------------------------------------------------------------


async def decide_by_form(served: Served, party: Party, *, admit: bool = True, **how: Any) -> t.Decided:
    return await served.decide_by_form(party, "bob", admit=admit, **how)


def test_a_form_counts_with_the_joiners_code_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window, bob = await served.window("w"), await served.agent("bob")
            opened = await window.open()
            code = (await bob.join(opened.session_key)).join_code
            assert code is not None
            found = await served.find_request(window, "bob")
            assert (found.request.name, found.owner_decides) == ("bob", False)
            assert code not in msgspec.json.encode(found).decode()
            for typed, expected in ((None, "form_undecided"), ("", "code_mismatch"), ("0000", "code_mismatch")):
                with pytest.raises(Refused) as refused:
                    await decide_by_form(served, window, join_code=typed)
                assert refused.value.code == expected
            assert (await decide_by_form(served, window, join_code=code)).proof == "form"
            assert (await bob.join(opened.session_key)).status == "joined"

    run(main)


def test_a_form_is_for_the_rooms_own_agent_and_may_be_too_weak() -> None:
    async def main() -> None:
        async with engine_world(settings=Settings(approval_minimum="terminal")) as served:
            window, other, bob = await served.window("w"), await served.window("v"), await served.agent("bob")
            opened = await window.open()
            code = (await bob.join(opened.session_key)).join_code
            for party, expected in ((other, "no_such_request"), (window, "needs_proof")):
                with pytest.raises(Refused) as refused:
                    await decide_by_form(served, party, join_code=code)
                assert refused.value.code == expected
            assert (await decide_by_form(served, window, admit=False, join_code=code)).status == "denied"

    run(main)


def test_in_a_room_whose_person_chose_so_the_owner_decides_and_the_record_says_that_no_person_did() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, bob = await served.person(), await served.agent("bob")
            opened = await person.open(approver="agent")
            await bob.join(opened.session_key)
            window = await served.window("w", as_name="sam")
            assert (await served.find_request(window, "bob")).owner_decides
            assert (await decide_by_form(served, window)).proof == "none"
            facts = served.driver.store.facts(RoomId(opened.room), Position(0), 1000)
            (approved,) = [header for header in facts if isinstance(header.event, e.JoinApproved)]
            assert approved.authority == "owner"

    run(main)


# -- closing, listing, revoking ----------------------------------------------------------------------------


def test_the_owner_ends_a_session_for_all_and_it_stays_readable() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            assert await alice.close() == "closed"
            assert (await bob.refused("message.send", t.Send(text="x"))).code == "room_closed"
            assert (await alice.refused("message.send", t.Send(text="x", room="auth-redesign"))).code == "room_closed"
            assert texts(await bob.recv(all=True)) == ["Chose PKCE."]
            assert (await bob.refused("message.recv", t.Recv(wait_ms=10_000))).code == "room_closed"
            assert (await bob.recv()).messages == []
            assert (await alice.refused("session.close", t.CloseSession(room="auth-redesign"))).code == "room_closed"
            assert (await alice.whoami()).active is None
            sessions = await alice.ask("session.list", t.ListSessions(), t.SessionList)
            assert [(info.state, info.keys[0].state) for info in sessions.sessions] == [("closed", "revoked")]

    run(main)


def test_a_member_that_leaves_is_out_at_once_and_the_rest_goes_on() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            room = (await bob.rooms())[0].room
            assert await bob.close() == "left"
            for op, params in outsider_calls(room):
                assert (await bob.refused(op, params)).code == "no_such_room", op
            assert (await bob.refused("message.send", t.Send(text="x"))).code == "no_active_session"
            assert set(await alice.roster()) == {"alice"}
            assert (await alice.send("still here")).seq == 2

    run(main)


def test_the_person_ends_a_session_that_any_of_their_agents_owns() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, window, bob = await served.person(), await served.window("w"), await served.agent("bob")
            opened = await window.open("one")
            await served.admit(opened, bob)
            # The only one there is, and still it has to be named.
            assert (await person.refused("session.close", t.CloseSession())).code == "no_active_session"
            assert await person.close("one") == "closed"
            assert (await window.refused("message.send", t.Send(text="x"))).code == "room_closed"
            (closed,) = [
                header
                for header in served.driver.store.facts(RoomId(opened.room), Position(0), 1000)
                if isinstance(header.event, e.RoomClosed)
            ]
            assert (closed.by.actor, closed.authority) == ((await person.whoami()).id, "person")
            assert (await person.refused("session.close", t.CloseSession(room="one"))).code == "room_closed"

    run(main)


def test_the_person_ends_a_session_of_their_agent_that_they_are_in_themselves_and_leaves_as_that_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window, person = await served.window("w"), await served.person()
            one, two = await window.open("one"), await window.open("two")
            for opened in (one, two):
                await served.admit(opened, person)
            assert await (await served.agent("sam")).close("one") == "left"
            assert await person.close("two") == "closed"

    run(main)


def test_an_agent_ends_no_session_of_another_agent() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window, bob, carol = await served.window("w"), await served.agent("bob"), await served.agent("carol")
            opened = await window.open("one")
            await served.admit(opened, bob)
            assert (await carol.refused("session.close", t.CloseSession(room="one"))).code == "no_such_room"
            assert await bob.close("one") == "left"
            assert set(await window.roster()) == {(await window.whoami()).name}

    run(main)


def test_a_window_leaves_what_it_is_in_and_ends_what_it_owns_whatever_else_its_person_has() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, window = await served.agent("alice"), await served.window("w")
            opened = await alice.open("one")
            await served.admit(opened, window)
            assert await window.close() == "left"
            assert (await window.refused("session.close", t.CloseSession(room="one"))).code == "no_such_room"
            assert set(await alice.roster()) == {"alice"}
            await window.open("two")
            assert await window.close() == "closed"
            assert (await window.refused("session.close", t.CloseSession())).code == "no_active_session"

    run(main)


def test_a_command_of_an_agent_host_does_not_end_the_sessions_of_other_agents() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            window, person, alice = await served.window("w"), await served.person(), await served.agent("alice")
            opened = await window.open("one")
            assert (await person.refused("session.close", t.CloseSession(room="one"))).code == "needs_person"
            await person.open("own")
            assert await person.close("own") == "closed"
            assert (await window.roster())[(await window.whoami()).name].owner
            assert (await alice.refused("session.close", t.CloseSession(room=opened.room))).code == "no_such_room"

    run(main)


def test_a_wait_of_a_member_that_left_elsewhere_ends_with_the_strangers_answer() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            elsewhere = await served.agent("bob")

            async def wait() -> str:
                return (await bob.refused("message.recv", t.Recv(wait_ms=3_600_000))).code

            code, _ = await gather(wait, elsewhere.close)
            assert code == "no_such_room"
            assert set(await alice.roster()) == {"alice"}

    run(main)


async def keys_of(party: Party) -> list[t.SessionKey]:
    listed = await party.ask("session.list", t.ListSessions(), t.SessionList)
    return [key for info in listed.sessions for key in info.keys]


def test_the_person_sees_their_keys_whole_and_an_agent_of_its_own_the_beginning() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice, bob = await served.person(), await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one")
            await served.admit(opened, bob)
            code = str(opened.session_key)
            (shown,) = await keys_of(person)
            assert (shown.session_key, shown.begins) == (code, code[:4])
            (hers,) = await keys_of(alice)
            assert (hers.session_key, hers.begins, hers.key_ref) == ("", code[:4], shown.key_ref)
            assert await keys_of(bob) == []

    run(main)


def test_a_command_of_an_agent_host_is_shown_no_whole_key() -> None:
    async def main() -> None:
        async with engine_world(inspect=in_agent_host) as served:
            person, alice = await served.person(), await served.agent("alice")
            opened = await alice.open("one")
            (shown,) = await keys_of(person)
            assert (shown.session_key, shown.begins) == ("", str(opened.session_key)[:4])

    run(main)


def test_who_lost_a_key_revokes_that_one_by_what_the_list_shows_of_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice = await served.person(), await served.agent("alice")
            one, two, three = [await alice.open(topic) for topic in ("one", "two", "three")]
            by_name = dict(zip(("one", "two", "three"), await keys_of(person), strict=True))
            for party, typed, name in (
                (person, by_name["one"].begins.lower(), "one"),
                (alice, by_name["two"].session_key, "two"),
                (person, by_name["three"].session_key, "three"),
            ):
                revoked = await party.ask("session.revoke", t.RevokeSessionKey(session_key=typed), t.RevokedKey)
                assert (revoked.name, revoked.status) == (name, "revoked")
                assert revoked.begins == by_name[name].begins
            bob = await served.agent("bob")
            for opened in (one, two, three):
                assert (await wrong_join(bob, str(opened.session_key))).code == "unknown_key"

    run(main)


def test_a_beginning_that_two_keys_share_is_answered_with_both_and_a_revoked_one_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            session_key = served.world.keys.session_key
            monkeypatch.setattr(
                served.world.keys, "session_key", lambda room, length: "A3KE" + session_key(room, length)[4:]
            )
            await alice.open("one")
            await alice.open("two")
            error = await alice.refused("session.revoke", t.RevokeSessionKey(session_key="A3KE"))
            first, second = await keys_of(alice)
            assert error.code == "ambiguous_name"
            assert error.details["candidates"] == [f"{first.key_ref} of one", f"{second.key_ref} of two"]
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=first.key_ref))
            revoked = await alice.ask("session.revoke", t.RevokeSessionKey(session_key="A3KE"), t.RevokedKey)
            assert revoked.name == "two"

    run(main)


def test_the_beginning_of_another_agents_key_is_a_wrong_guess() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one")
            await served.admit(opened, bob)
            (key,) = await keys_of(alice)
            for typed in (key.begins, key.key_ref, "AAA", "zzzz"):
                assert (
                    await bob.refused("session.revoke", t.RevokeSessionKey(session_key=typed))
                ).code == "unknown_key"
            assert (await keys_of(alice))[0].state == "live"

    run(main)


def test_an_owner_revokes_while_somebody_guesses_keys() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open("one")
            for n in range(10):
                await wrong_join(alice, f"ZZZZZZZ{n}")
            assert (await wrong_join(alice, "ZZZZZZZZ")).code == "throttled"
            await alice.call("session.revoke", t.RevokeSessionKey(session_key=str(opened.session_key)))
            assert (await keys_of(alice))[0].state == "revoked"

    run(main)


def test_the_list_shows_keys_to_the_owner_alone_and_never_the_code() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open(max_uses=7)
            await served.admit(opened, bob)
            assert opened.session_key is not None
            (mine,) = (await alice.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert [(key.uses, key.max_uses, key.state) for key in mine.keys] == [(1, 7, "live")]
            assert opened.session_key not in mine.keys[0].session_key.upper()
            (his,) = (await bob.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert his.keys == []
            assert his.active

    run(main)


def test_a_key_is_revoked_by_its_owner_or_person_and_by_nobody_else() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            opened = await alice.open()
            assert opened.session_key is not None
            await served.admit(opened, bob)
            revoke = t.RevokeSessionKey(session_key=opened.session_key)
            assert (await bob.refused("session.revoke", revoke)).code == "not_owner"
            assert (await carol.refused("session.revoke", revoke)).code == "unknown_key"
            person = await served.person()
            revoked = await person.ask("session.revoke", revoke, t.RevokedKey)
            assert (revoked.status, len(revoked.key_ref)) == ("revoked", 8)
            again = await alice.ask("session.revoke", revoke, t.RevokedKey)
            assert again == revoked
            assert (await wrong_join(carol, opened.session_key)).code == "unknown_key"

    run(main)


def test_draining_answers_who_waits_at_a_door() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open()

            async def wait() -> ParlerError:
                return await bob.refused(
                    "session.join", t.JoinSession(session_key=str(opened.session_key), wait_ms=3_600_000)
                )

            error, _ = await gather(wait, served.engine.drain)
            assert error is not None
            assert error.code == "draining"
            assert error.spec.retryable

    run(main)
