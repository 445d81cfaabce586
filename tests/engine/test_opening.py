"""Opening and ending a session: what is handed over, what is refused, and what a retry or a crash makes of it."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.model import MAX_TEXT, MAX_TOPIC, AgentId, By, Millis, Position, RoomId
from parlerd.core.statements import KeyTerms, check_title, decode_opened, is_opening_hash
from parlerd.engine.ports import NoHostFiles
from parlerd.identity.proofs import read_opening, signed
from parlerd.operations import types as t
from parlerd.settings import Settings
from parlerd.store.port import Append, NewFact
from tests.support.engine import (
    PlugDriver,
    SlowDriver,
    World,
    engine_world,
    gather,
    run,
    texts,
)
from tests.support.faulty_store import FaultyStore
from tests.support.sessions import (
    in_agent_host,
    outsider_calls,
)


class Connected(NoHostFiles):
    def is_connected(self) -> bool:
        return True


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


def test_two_sessions_of_one_topic_that_are_opened_in_the_same_moment_get_two_names() -> None:
    async def main() -> None:
        async with engine_world(driver=SlowDriver) as served:
            alice = await served.agent("alice")
            await alice.whoami()
            opened = await gather(*(partial(alice.open, "x", idempotency_key=f"k{n}") for n in range(4)))
            assert sorted(each.name for each in opened) == ["x", "x-2", "x-3", "x-4"]
            assert len({each.room for each in opened}) == 4
            assert {room.name: room.room for room in await alice.rooms()} == {each.name: each.room for each in opened}

    run(main)


@pytest.mark.parametrize("stored", [False, True])
def test_a_retried_open_is_refused_only_where_the_settings_would_now_open_another_room(stored: bool) -> None:
    """The id of a room is the hash of what was signed at its opening: under other settings it is another room."""

    async def main() -> None:
        world = World()
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
                plugs[0].cut = (plugs[0].commits + 1, stored)
                await alice.open("x", "recap", idempotency_key="k1")
        world.driver, world.settings = PlugDriver, Settings(approval_default=False)
        async with world.serving() as served:
            alice = await served.agent("alice")
            if stored:
                again = await alice.open("x", "recap", idempotency_key="k1")
                assert (again.replayed, again.approval) == (True, True)
            else:
                params = t.OpenSession(topic="x", context="recap", idempotency_key="k1")
                assert (await alice.refused("session.open", params)).code == "idempotency_conflict"
                assert await alice.rooms() == []
                assert (await alice.open("x", "recap", idempotency_key="k2")).name == "x-2"

    run(main)


def test_a_session_is_opened_with_what_its_person_signs_and_its_id_is_the_hash_of_that() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            me = await alice.whoami()
            opened = await alice.open("Auth redesign")
            room, store, person = RoomId(opened.room), served.world.store, served.world.keys.principal
            first, _, minted, *_ = store.whole_facts(room, Position(0), 9)
            body, title = decode_opened(first.body or b"")
            opening = read_opening(room, served.world.keys.id, body, first.signature or b"")
            assert (opening.owner, opening.principal, opening.handle) == (me.id, person, "alice")
            assert check_title(title, opening.title).topic == "Auth redesign"
            terms = signed(KeyTerms, minted.body or b"", minted.signature or b"", person)
            assert (terms.room, terms.home, terms.gated) == (room, served.world.keys.id, True)
            assert is_opening_hash(room)
            for header in store.facts(room, Position(0), 9):
                assert b"edesign" not in e.encode_header(header), "the name stands where it can be erased"

    run(main)


def test_a_session_of_an_older_version_goes_on_although_nothing_of_its_opening_was_signed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, person = await served.agent("alice"), await served.agent("bob"), await served.person()
            me, keys = await alice.whoami(), served.world.keys
            room, owner = RoomId("r_018bcfe568000123456789ab"), AgentId(me.id)
            typed = keys.session_key(room, 8)
            old: list[e.RoomEvent] = [
                e.RoomOpened(
                    room=room,
                    home=keys.id,
                    kind="session",
                    owner=owner,
                    owner_principal=keys.principal,
                    history="full",
                    approval=True,
                    approver="person",
                    name="auth",
                    topic="Auth redesign",
                ),
                e.MemberJoined(agent=owner, principal=keys.principal, handle="alice", host=""),
                e.KeyMinted(
                    key=keys.key_id(typed),
                    ref=f"k_{keys.key_id(typed)[:24]}",
                    gated=True,
                    expires_at=Millis(2**50),
                    max_uses=5,
                ),
            ]
            by = By(owner, keys.principal, "s", "", "cli")
            facts = [
                NewFact(e.Header(position=Position(n), at=Millis(n), by=by, authority="owner", event=event))
                for n, event in enumerate(old, 1)
            ]
            (outcome,) = served.world.store.transact([[Append(room, Position(0), facts)]])
            assert outcome.error is None
            assert (await bob.join(typed)).status == "pending"
            await person.approve("bob")
            assert (await bob.join(typed)).name == "auth"
            await alice.send("welcome", room=room)
            assert texts(await bob.recv()) == ["welcome"]
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            assert [each.name for each in checks if not each.ok] == []

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
            assert "whoami` shows the id" in (error.hint or "")
            assert error.code == "invalid_param"
            opened = await person.open(preapprove=((await bob.whoami()).id,))
            assert (await bob.join(opened.session_key)).status == "joined"
            assert (await carol.join(opened.session_key)).status == "pending"
            ungated = await person.open(approval=False)
            assert (await carol.join(ungated.session_key)).status == "joined"

    run(main)


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
                for header in served.world.store.facts(RoomId(opened.room), Position(0), 1000)
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
