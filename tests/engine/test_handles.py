"""A room that lives elsewhere is read like any other, and what is asked of it goes to nobody but its home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import ERRORS, Refused
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, PrincipalId, RoomId
from parlerd.core.statements import NONCE, KnockStatement, encode
from parlerd.engine.authors import Admission, Attested
from parlerd.engine.handles import ForsakenRoom, MirrorRoom, NoHomes
from parlerd.engine.rooms import LocalRoom
from parlerd.identity import codes
from parlerd.identity.codes import TypedKey
from parlerd.identity.signatures import SigningKey
from parlerd.operations import types as t
from tests.support.engine import Party, Served, engine_world, run, settle, texts
from tests.support.fake_homes import FAR, JOIN_LINE, PATIENCE_S, FakeHomes, beside
from tests.support.mirrors import Elsewhere, elsewhere


@asynccontextmanager
async def inside(public: int = 0) -> AsyncIterator[tuple[Served, Elsewhere, Party]]:
    """An engine with the mirror of a room that bob of this home is a member of."""
    async with engine_world() as served:
        bob = await served.agent("bob")
        me = await bob.whoami()
        there = await elsewhere(served.engine, public=public)
        await there.let_in(AgentId(me.id), served.world.keys.principal, "bob")
        yield served, there, bob


def test_a_room_of_this_home_is_its_own_line_and_any_other_a_mirror() -> None:
    async def main() -> None:
        async with inside() as (served, there, bob):
            rooms = served.engine.rooms
            here = await rooms.get(RoomId((await bob.open()).room))
            assert (type(here), here.home_name) == (LocalRoom, "local")
            far = await rooms.get(there.room)
            assert (type(far), far.home_name, far.room) == (ForsakenRoom, str(there.principal), there.room)
            assert [rooms.is_here(each.aggregate) for each in (here, far)] == [True, False]
            assert far is rooms.open_actor(there.room) is await rooms.create(there.room, HomeId("N"))

    run(main)


def test_a_mirror_is_read_waited_for_and_acknowledged_like_any_room() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("hello from elsewhere")
            page = await bob.recv(room=there.room)
            [message] = page.messages
            assert (texts(page), message.seq, message.verified) == (["hello from elsewhere"], 1, "valid")
            assert (message.author.name, message.at) == ("olive", there.at)
            await bob.commit(page)
            assert await bob.read(room=there.room) == []
            assert sorted(await bob.roster(there.room)) == ["bob", "olive"]

    run(main)


def test_a_mirror_that_leaves_messages_out_keeps_the_numbers_that_its_home_gave() -> None:
    async def main() -> None:
        async with inside(public=40) as (_, there, bob):
            await there.leave_out(40, bob=43)
            await there.say("first here")
            await there.leave_out(99, bob=103)
            await there.say("then")
            page = await bob.recv(room=there.room)
            assert [message.seq for message in page.messages] == [44, 104]
            assert (page.unread, page.cursor) == (0, "104")
            await bob.commit(page)
            assert [message.seq for message in (await bob.recv(room=there.room, since=50)).messages] == [104]
            # A look back ends where messages are left out, and names them where the home does not tell them.
            before = await bob.recv(room=there.room, since=43)
            assert ([message.seq for message in before.messages], before.more, before.cursor) == ([44], True, "44")
            assert "not on this machine" not in before.notice
            behind = await bob.recv(room=there.room, since=44)
            assert ([message.seq for message in behind.messages], behind.more) == ([104], False)
            assert "Messages 45 to 103 are not on this machine" in behind.notice
            assert "(home_not_trusted)" in behind.notice

    run(main)


def test_words_that_were_erased_or_are_nobodys_are_shown_as_not_verified() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("gone", erased=True)
            await there.say("of a stranger", proved=False)
            shown = [(message.text, message.verified) for message in (await bob.recv(room=there.room)).messages]
            assert shown == [("", "invalid"), ("of a stranger", "invalid")]

    run(main)


def test_a_message_whose_id_another_room_has_does_not_arrive() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await bob.open()
            sent = await bob.send("mine")
            with pytest.raises(Refused) as refused:
                await there.say("not mine", id=sent.id)
            assert (refused.value.code, refused.value.details["what"]) == ("relay_equivocation", "id")
            await there.say("once", id="m_once")
            with pytest.raises(Refused):
                await there.say("twice", id="m_once")
            assert texts(await bob.recv(room=there.room)) == ["once"]

    run(main)


def test_a_log_goes_on_in_time_whatever_its_home_says() -> None:
    async def main() -> None:
        async with inside() as (_, there, bob):
            await there.say("one")
            said = there.at
            there.at = 5
            await there.say("two")
            assert [message.at for message in (await bob.recv(room=there.room)).messages] == [said, said]

    run(main)


def test_nothing_is_asked_of_a_room_whose_home_is_not_added() -> None:
    async def main() -> None:
        async with inside() as (served, there, bob):
            for op, params in (
                ("message.send", t.Send(text="x", room=there.room)),
                ("handoff.give", t.GiveHandoff(next="x", room=there.room)),
                ("session.close", t.CloseSession(room=there.room)),
            ):
                assert (await bob.refused(op, params)).code == "home_not_trusted", op
            handle = await served.engine.rooms.get(there.room)
            with pytest.raises(Refused, match="home_not_trusted"):
                await handle.check_code(None, "ABCD", "cli")  # type: ignore[arg-type]

    run(main)


def test_no_homes_know_none() -> None:
    async def main() -> None:
        homes = NoHomes()
        assert (homes.default, homes.join_line(HomeId("N")), homes.name_of(HomeId("N"))) == (None, None, "N")
        with pytest.raises(Refused, match="home_not_trusted"):
            homes.named("team")
        with pytest.raises(Refused, match="home_not_trusted"):
            await homes.find(HomeId("N"), TypedKey("A3KE7DJR", "4MWX2B9Q", "team"))

    run(main)


# -- a home that answers, one that is away, and one that is silent ----------------------------------------


async def let_in(homes: FakeHomes, party: Party, room: RoomId, session_key: str) -> None:
    """The whole way of an agent of this home into a room of the other."""
    key = homes.handed_on(room, session_key)
    assert (await party.join(key)).status == "pending"
    await homes.approve(room, (await party.whoami()).name)
    assert (await party.join(key)).status == "joined"


def test_an_agent_knocks_comes_in_speaks_and_leaves_elsewhere_as_at_home() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            knocked = await bob.join(homes.handed_on(room, session_key))
            assert (knocked.status, knocked.room) == ("pending", room)
            assert knocked.join_code == homes.keys.join_code(homes.actor(room).aggregate.pending()[0].id)
            await homes.approve(room, "bob")
            joined = await bob.join(homes.handed_on(room, session_key))
            assert (joined.status, texts(joined), joined.name) == ("joined", ["Chose PKCE."], "far-work")
            assert (await bob.whoami()).active == room
            await bob.commit(joined)
            sent = await bob.send("hello there")
            assert (sent.seq, sent.queued, sent.room) == (2, False, room)
            await homes.say(room, "hello here")
            assert await bob.read() == ["hello here"]
            given = await bob.handoff("go on", to="olive")
            assert (given.seq, given.for_, given.queued) == (4, "olive", False)
            assert [(each.name, each.home, each.unread) for each in await bob.rooms()] == [("far-work", FAR, 0)]
            assert await bob.close() == "left"
            assert await bob.rooms() == []

    run(main)


def test_who_waits_is_woken_by_what_is_said_elsewhere() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            await let_in(homes, bob, room, session_key)
            pages: list[t.Received] = []
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    pages.append(await bob.recv(wait=3_000))

                await bob.read()
                nursery.start_soon(wait)
                await settle()
                await homes.say(room, "now")
            assert texts(pages[0]) == ["now"]

    run(main)


def test_a_message_for_a_home_that_is_away_is_stored_here_and_says_so() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            await let_in(homes, bob, room, session_key)
            homes.mood = "queues"
            sent = await bob.send("later", idempotency_key="k1", visible_to=["olive"])
            assert (sent.queued, sent.seq, sent.at, sent.replayed) == (True, None, None, False)
            assert (sent.room, sent.name, sent.idempotency_key, sent.readers) == (room, "far-work", "k1", ["olive"])
            assert sent.id.startswith("m_")
            again = await bob.send("later", idempotency_key="k1", visible_to=["olive"])
            assert (again.id, again.queued, again.replayed) == (sent.id, True, True)
            given = await bob.handoff("go on")
            assert (given.queued, given.seq, given.room) == (True, None, room)
            assert given.id not in (sent.id, "")
            plain = await bob.send("no key")
            assert (plain.queued, plain.idempotency_key) == (True, f"k{plain.id[1:]}")

    run(main)


def test_no_look_waits_for_a_home_that_is_silent() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob, carol = await served.agent("bob"), await served.agent("carol")
            await let_in(homes, bob, room, session_key)
            assert (await carol.join(homes.handed_on(room, session_key))).status == "pending"
            opened = await bob.open("here")
            await carol.join(opened.session_key)
            window = await served.window("w", workspace="/repo", as_name="bob")
            await window.whoami()
            person = await served.person()
            asked, homes.mood = len(homes.asked), "silent"
            began = trio.current_time()
            assert {each.home for each in await bob.rooms()} == {FAR, "local"}
            everywhere = await bob.ask("message.recv_all", t.Recv(), t.ReceivedAll)
            assert [page.room for page in everywhere.rooms] == [room]
            assert texts(await bob.recv(room=room, all=True)) == ["Chose PKCE."]
            assert sorted(await bob.roster(room)) == ["bob", "olive"]
            assert "far-work" in await served.notice(window)
            found = await person.ask("approvals.list", t.ListApprovals(), t.RequestList)
            assert [(each.name, each.home) for each in found.requests] == [("carol", "local")]
            hook = await served.connect("hook", host="claude-code", workspace="/repo")
            waiting = await hook.ask("wake.check", t.WakeCheck(), t.Waiting)
            assert (waiting.unread, waiting.rooms) == (1, [room])
            assert (await carol.ask("rooms.list", t.ListRooms(), t.RoomList)).waits[0].join_code is not None
            await bob.send("at home", room=opened.room)
            assert trio.current_time() == began
            assert len(homes.asked) == asked

    run(main)


def test_what_a_silent_home_is_asked_ends_in_its_time_and_the_idempotency_key_is_told() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            await let_in(homes, bob, room, session_key)
            homes.mood = "silent"
            began = trio.current_time()
            error = await bob.refused("message.send", t.Send(text="x", idempotency_key="k9"))
            assert (error.code, error.details["key"]) == ("home_unreachable", "k9")
            assert trio.current_time() == began + PATIENCE_S
            assert (await bob.refused("session.close", t.CloseSession())).code == "home_unreachable"

    run(main)


def test_a_member_is_shown_a_room_again_although_its_home_does_not_answer() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob, carol = await served.agent("bob"), await served.agent("carol")
            await let_in(homes, bob, room, session_key)
            await bob.read()
            homes.mood = "silent"
            again = await bob.join(homes.handed_on(room, session_key))
            assert (again.status, texts(again)) == ("already_member", ["Chose PKCE."])
            # Who is not in hears that the home is silent, and not whether the key is one.
            key = t.JoinSession(session_key=homes.handed_on(room, session_key))
            assert (await carol.refused("session.join", key)).code == "home_unreachable"

    run(main)


# -- keys --------------------------------------------------------------------------------------------------


def test_a_key_opens_rooms_of_its_own_home_alone() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            opened = await bob.open("here")
            await let_in(homes, bob, room, session_key)
            carol = await served.agent("carol")
            for key in (
                session_key,
                homes.handed_on(room, str(opened.session_key)),
                homes.handed_on(room, "WRNGKEY1"),
                "WRNGKEY1",
            ):
                refused = await carol.refused("session.join", t.JoinSession(session_key=key))
                assert refused.code == "unknown_key", key
            assert "KEY@NAME" in ERRORS["unknown_key"].hint
            for key in (f"{session_key}@nobody", f"{session_key}@NOBODY.example"):
                refused = await carol.refused("session.join", t.JoinSession(session_key=key))
                assert refused.code == "home_not_trusted"
            assert homes.asked.count("find") == 4

    run(main)


def test_a_key_of_another_home_that_nobody_typed_asks_nothing_there_until_somebody_does() -> None:
    """A repository can set the environment of a window, and the owner elsewhere would decide who comes in."""

    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            window = await served.window("w")
            of_environment = t.JoinSession(session_key=homes.handed_on(room, session_key), limit=0)
            refused = await window.refused("session.join", of_environment)
            assert refused.code == "needs_person"
            assert homes.asked == []
            assert (await window.join(homes.handed_on(room, session_key))).status == "pending"
            assert (await window.ask("session.join", of_environment, t.JoinedSession)).status == "pending"
            # A key of this machine knocks by itself, because the person here decides.
            here = await (await served.agent("alice")).open("here", home="local")
            assert here.mcp_command is not None
            other = await served.window("other", workspace="/other")
            own = t.JoinSession(session_key=str(here.session_key), limit=0)
            assert (await other.ask("session.join", own, t.JoinedSession)).status == "pending"
            # So nobody is given a command that would set such a key.
            assert (await (await served.agent("alice")).open("there", home=FAR, clear=True)).mcp_command is None

    run(main)


def test_a_home_that_nobody_added_is_asked_nothing() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            _, session_key = await homes.open()
            bob = await served.agent("bob")
            await bob.refused("session.join", t.JoinSession(session_key=f"{session_key}@other"))
            await bob.refused("session.revoke", t.RevokeSessionKey(session_key=f"{session_key}@other"))
            assert homes.asked == []

    run(main)


# -- names -------------------------------------------------------------------------------------------------


def test_a_name_that_is_in_two_homes_is_told_apart_by_the_home_behind_it() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open("same")
            bob = await served.agent("bob")
            await let_in(homes, bob, room, session_key)
            assert (await bob.recv(room="same")).room == room
            opened = await bob.open("same")
            refused = await bob.refused("message.recv", t.Recv(room="same"))
            assert refused.code == "ambiguous_name"
            assert sorted(refused.details["candidates"]) == sorted([f"same@{FAR}", "same@local"])
            assert (await bob.recv(room=f"same@{FAR}")).room == room
            assert (await bob.recv(room="same@local")).room == opened.room
            assert (await bob.refused("message.recv", t.Recv(room="same@other"))).code == "no_such_room"
            near = await bob.refused("message.recv", t.Recv(room="sam"))
            assert "same" in near.message

    run(main)


def test_a_newcomer_that_is_no_agent_of_this_home_is_not_seated_here() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice = await served.agent("alice")
            opened = await alice.open(clear=True)
            handle = await served.engine.rooms.get(RoomId(opened.room))
            [key] = handle.aggregate.state.keys.values()
            own, person = SigningKey("agent", b"g" * 32), SigningKey("principal", b"p" * 32)
            guest = By(AgentId(own.id), PrincipalId(person.id), "", "codex", "http")
            home = handle.aggregate.state.home
            statement = KnockStatement(
                home=home,
                room=handle.room,
                ref=key.ref,
                agent=guest.actor,
                principal=guest.principal,
                name="guest",
                host="codex",
                at=served.world.clock.now(),
                nonce=bytes(NONCE),
            )
            body = encode(statement)
            signed = Attested(body, own.sign("parler/knock", body))
            command, words = Admission().knock(guest, signed, key_id=key.id, wall=statement.at)
            await handle.submit(command, guest, words)
            assert (await (await served.person()).approve("guest")).status == "approved"
            assert guest.actor not in served.engine.rooms.home.aggregate.state.active
            assert "guest" in await alice.roster(opened.room)

    run(main)


# -- a session that opens elsewhere ------------------------------------------------------------------------


def test_a_key_of_another_home_is_shown_to_its_owners_person_whole_for_as_long_as_it_lives() -> None:
    async def main() -> None:
        async with beside() as (served, _):
            alice = await served.agent("alice")
            opened = await alice.open("two", home=FAR, clear=True)
            person = await served.person()

            async def shown() -> tuple[str, str, str]:
                listed = await person.ask("session.list", t.ListSessions(), t.SessionList)
                [key] = listed.sessions[0].keys
                return key.session_key, key.begins, key.state

            whole = str(opened.session_key)
            assert await shown() == (whole, whole[:4], "live")
            served.world.clock.move(seconds=2 * 86_400)
            assert await shown() == ("", whole[:4], "expired")

    run(main)


def test_a_session_opens_where_its_opener_says_and_else_where_the_person_chose() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            here = await alice.open("one")
            assert "@" not in str(here.session_key)
            assert here.connect_command is None
            there = await alice.open("two", home=FAR, clear=True)
            homes.default = homes.home
            chosen = await alice.open("three", clear=True)
            back = await alice.open("four", home="local")
            for opened in (there, chosen):
                key = codes.read_key(str(opened.session_key))
                assert opened.session_key == homes.handed_on(RoomId(opened.room), key.key)
                assert opened.line == f"Join the Parler session {opened.session_key}."
                assert opened.join_command == f"parler session join {opened.session_key}"
                assert opened.connect_command == JOIN_LINE
                assert homes.actor(RoomId(opened.room)).aggregate.state.home == homes.home
            assert (back.connect_command, str(back.session_key).find("@")) == (None, -1)
            assert {room.name: room.home for room in await alice.rooms()} == {
                "one": "local",
                "two": FAR,
                "three": FAR,
                "four": "local",
            }
            assert (await alice.whoami()).active == back.room
            assert texts(await alice.recv(room="two", all=True)) == ["Chose PKCE."]

    run(main)


def test_an_opening_that_is_repeated_is_one_room_also_when_new_sessions_open_elsewhere_since() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            homes.default = homes.home
            first = await alice.open("work", clear=True, idempotency_key="k1")
            again = await alice.open("work", clear=True, idempotency_key="k1")
            homes.default = None
            later = await alice.open("work", clear=True, idempotency_key="k1")
            assert [(each.room, each.session_key, each.replayed) for each in (again, later)] == [
                (first.room, first.session_key, True)
            ] * 2
            params = t.OpenSession(topic="work", context="Chose PKCE.", clear=True, idempotency_key="k1", home="local")
            assert (await alice.refused("session.open", params)).code == "idempotency_conflict"

    run(main)


def test_an_opening_at_a_home_that_is_unknown_or_silent_is_refused_with_its_key() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice = await served.agent("alice")
            unknown = await alice.refused("session.open", t.OpenSession(home="nobody", idempotency_key="k1"))
            assert (unknown.code, unknown.details["key"]) == ("home_not_trusted", "k1")
            homes.mood = "silent"
            silent = await alice.refused(
                "session.open", t.OpenSession(topic="x", home=FAR, clear=True, idempotency_key="k2")
            )
            assert (silent.code, silent.details["key"]) == ("home_unreachable", "k2")
            homes.mood = "answers"
            opened = await alice.open("x", context="", home=FAR, clear=True, idempotency_key="k2")
            assert (opened.name, opened.replayed) == ("x", False)

    run(main)


def test_whoever_owns_a_room_elsewhere_sees_who_knocks_decides_lists_its_key_and_ends_it() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            alice, bob, carol = [await served.agent(name) for name in ("alice", "bob", "carol")]
            opened = await alice.open("work", home=FAR, clear=True)
            key = str(opened.session_key)
            code = (await bob.join(key)).join_code
            assert (await carol.join(key)).status == "pending"
            person = await served.person()
            found = await person.ask("approvals.list", t.ListApprovals(), t.RequestList)
            assert [(each.name, each.home) for each in found.requests] == [("bob", FAR), ("carol", FAR)]
            wrong = t.DecideJoin(agent="bob", join_code="0000" if code != "0000" else "1111")
            assert (await person.refused("session.approve", wrong)).code == "code_mismatch"
            assert (await person.approve("bob", join_code=code)).status == "approved"
            assert (await bob.whoami()).active == opened.room
            assert (await person.deny("carol")).status == "denied"
            assert (await carol.join(key)).status == "denied"
            [listed] = (await person.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert [each.session_key for each in listed.keys] == [key]
            # Without the home behind it a key is one of this machine, also to its owner.
            bare = t.RevokeSessionKey(session_key=key.partition("@")[0])
            assert (await alice.refused("session.revoke", bare)).code == "unknown_key"
            revoked = await alice.ask("session.revoke", t.RevokeSessionKey(session_key=key), t.RevokedKey)
            assert (revoked.room, revoked.status) == (opened.room, "revoked")
            assert await alice.close() == "closed"
            assert homes.actor(RoomId(opened.room)).aggregate.state.closed

    run(main)


# -- a home that contradicts itself, and what is checked of a mirror ---------------------------------------


def test_a_home_that_contradicts_itself_is_said_with_every_read_and_is_sent_nothing_more() -> None:
    async def main() -> None:
        async with inside() as (served, there, bob):
            await there.say("one")
            person = await served.person()
            before = (await bob.recv(room=there.room)).notice
            said = " is not among the homes of this machine: newer messages of this session may be missing here."
            assert before.endswith(said), "nobody added this home"
            await there.arrive(e.HomeContradicted(what="line", number=1))
            page = await bob.recv(room=there.room)
            assert texts(page) == ["one"]
            assert page.notice.startswith(ERRORS["relay_equivocation"].message)
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            [found] = [check for check in checks if not check.ok]
            assert (found.name, "line" in found.detail, there.room in found.detail) == ("relay", True, True)

    run(main)


def test_where_a_home_contradicted_itself_its_room_refuses_what_is_said_there() -> None:
    async def main() -> None:
        async with beside() as (served, homes):
            room, session_key = await homes.open()
            bob = await served.agent("bob")
            await let_in(homes, bob, room, session_key)
            mirror = await served.engine.rooms.get(room)
            assert isinstance(mirror, MirrorRoom)
            alarm = c.Arrive(events=(e.HomeContradicted(what="thread"),), at=served.world.clock.now())
            await mirror.actor.submit(alarm, homes.by)
            post = c.PostMessage(kind="text", id=MessageId("m_1"))
            by = served.engine._desk.by(bob.caller, await served.engine._desk.me(bob.caller))
            with pytest.raises(Refused, match="relay_equivocation"):
                mirror.aggregate.decide(post, by=by, now=Millis(0), ids=served.world.random)

    run(main)


def test_a_check_of_the_store_verifies_what_came_from_elsewhere_and_leaves_its_times_alone() -> None:
    async def main() -> None:
        async with inside() as (served, there, _):
            there.at = served.world.clock.ms + 10 * 86_400_000
            await there.say("from the future")
            person = await served.person()
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            assert all(check.ok for check in checks), checks
            await there.say("forged", forged=True)
            checks = (await person.ask("daemon.check", t.CheckStore(), t.CheckList)).checks
            [found] = [check for check in checks if not check.ok]
            assert (found.name, there.room in found.detail) == ("signatures", True)

    run(main)
