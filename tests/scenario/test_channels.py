"""A channel: opened by its first invite, joined with a code, and left. Told once, played in every home."""

from __future__ import annotations

from typing import Any

import msgspec

from parlerd.operations import types as t
from tests.scenario.test_memory import heard, settled
from tests.support.engine import Party, gather, texts
from tests.support.homes import Home, Place


async def invite(who: Party, **how: Any) -> t.Invited:
    return await who.ask("room.invite", t.Invite(**how), t.Invited)


async def kick(who: Party, agent: str, room: str = "team") -> t.MemberGone:
    return await who.ask("room.kick", t.KickMember(agent=agent, room=room), t.MemberGone)


def test_the_first_code_opens_a_channel_and_whoever_has_it_comes_in(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        invited = await invite(alice, group="team")
        assert (invited.name, invited.kind, invited.opened, invited.approval) == ("team", "channel", True, False)
        assert invited.link == f"parler:join/{invited.code}"
        assert (await bob.join(invited.code)).status == "joined"
        await alice.send("standup at 10", room="team")
        assert await bob.read(room="team") == ["standup at 10"]
        (room,) = await bob.rooms()
        assert (room.name, room.kind, room.members) == ("team", "channel", 2)

    home.play(story)


def test_whoever_comes_into_a_channel_stays_in_the_session_that_it_is_in(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        session = await bob.open("mine")
        hers = await alice.open("hers")
        invited = await invite(alice, group="team")
        assert (await bob.join(invited.link)).status == "joined"
        assert (await bob.whoami()).active == session.room
        assert (await alice.whoami()).active == hers.room

    home.play(story)


def test_who_is_in_no_session_goes_on_in_the_channel(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        invited = await invite(alice, group="team")
        await bob.join(invited.code)
        assert (await alice.whoami()).active == (await bob.whoami()).active == invited.room

    home.play(story)


def test_a_second_code_leads_to_the_same_channel_and_each_is_revoked_by_itself(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        first = await invite(alice, group="team")
        second = await invite(alice, group="team", max_uses=1)
        assert second.room == first.room
        assert second.code != first.code
        assert (second.opened, second.max_uses) == (False, 1)
        await alice.call("session.revoke", t.RevokeSessionKey(session_key=first.code))
        assert (await bob.refused("session.join", t.JoinSession(session_key=first.code))).code == "unknown_key"
        assert (await bob.join(second.code)).status == "joined"
        assert (await carol.refused("session.join", t.JoinSession(session_key=second.code))).code == "unknown_key"

    home.play(story)


def test_a_retried_invite_is_the_same_code(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        for key in ("opens", "adds"):
            first = await invite(alice, group="team", idempotency_key=key)
            again = await invite(alice, group="team", idempotency_key=key)
            assert again == msgspec.structs.replace(first, opened=False, replayed=True)
            assert (first.replayed, again.replayed) == (False, True)

    home.play(story)


def test_two_first_invites_at_once_open_one_channel(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        codes: list[t.Invited] = []

        async def one() -> None:
            codes.append(await invite(alice, group="team"))

        await gather(*[one] * 3)
        assert len({each.room for each in codes}) == 1
        assert len({each.code for each in codes}) == 3
        assert [each.opened for each in codes].count(True) == 1

    home.play(story)


def test_a_member_invites_nobody_and_a_gated_room_gets_no_code_that_asks_nobody(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        gated = await invite(alice, group="team", approval=True)
        assert gated.approval
        error = await alice.refused("room.invite", t.Invite(group="team", approval=False))
        assert (error.code, error.details["param"]) == ("invalid_param", "approval")
        person = await place.person()
        knock = await bob.join(gated.code)
        assert knock.status == "pending"
        await person.approve((await bob.whoami()).id, join_code=knock.join_code)
        assert (await bob.join(gated.code)).status == "joined"
        for how in ({"group": "team"}, {"room": "team"}):
            assert (await bob.refused("room.invite", t.Invite(**how))).code == "not_owner"  # type: ignore[arg-type]
        assert (await carol.refused("room.invite", t.Invite(room="team"))).code == "no_such_room"
        # Whoever is in no such channel opens one of their own: nobody learns that there is another.
        assert (await invite(carol, group="team")).room != gated.room

    home.play(story)


def test_a_session_gets_another_code_after_its_first_is_useless(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign")
        await alice.call("session.revoke", t.RevokeSessionKey(session_key=opened.session_key or ""))
        code = (await invite(alice, room="auth-redesign")).code
        knock, person = await bob.join(code), await place.person()
        assert knock.status == "pending"
        await person.approve((await bob.whoami()).id, join_code=knock.join_code)
        assert (await bob.join(code)).status == "joined"
        listed = await alice.ask("session.list", t.ListSessions(), t.SessionList)
        assert [key.state for key in listed.sessions[0].keys] == ["revoked", "live"]

    home.play(story)


def test_who_was_put_out_comes_in_again_only_after_a_yes(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        invited = await invite(alice, group="team")
        for who in (bob, carol):
            await who.join(invited.code)
        await settled(alice, bob, carol)
        assert (await bob.refused("room.kick", t.KickMember(agent="carol", room="team"))).code == "not_owner"
        assert (await alice.refused("room.kick", t.KickMember(agent="alice", room="team"))).code == "owner_stays"
        gone = await kick(alice, "bob")
        assert (gone.name, gone.status, gone.room_name) == ("bob", "kicked", "team")
        await alice.send("without bob", room="team")
        assert (await carol.read(room="team"))[-1] == "without bob"
        assert (await bob.refused("message.send", t.Send(text="still here?", room="team"))).code == "no_such_room"
        assert (await bob.refused("message.send", t.Send(text="here?"))).code == "no_active_session"
        knock = await bob.join(invited.code)
        assert knock.status == "pending"
        person = await place.person()
        await person.approve((await bob.whoami()).id, join_code=knock.join_code)
        assert (await bob.join(invited.code)).status == "joined"
        assert (await kick(alice, "bob")).status == "kicked"

    home.play(story)


def test_a_member_leaves_and_comes_back_and_the_owner_stays(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        invited = await invite(alice, group="team")
        await bob.join(invited.code)
        await settled(alice, bob)
        left = await bob.ask("room.leave", t.LeaveAsMember(), t.MemberGone)
        assert (left.name, left.status) == ("bob", "left")
        assert await bob.rooms() == []
        assert (await bob.refused("room.leave", t.LeaveAsMember(room="team"))).code == "no_such_room"
        assert (await alice.refused("room.leave", t.LeaveAsMember(room="team"))).code == "owner_stays"
        assert (await bob.join(invited.code)).status == "joined"

    home.play(story)


def test_a_code_that_is_used_up_still_lets_those_in_again_who_came_with_it_and_nobody_else(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        invited = await invite(alice, group="team", max_uses=1)
        await bob.join(invited.code)
        await settled(alice, bob)
        await bob.ask("room.leave", t.LeaveAsMember(room="team"), t.MemberGone)
        assert (await bob.join(invited.code)).status == "joined"
        assert (await carol.refused("session.join", t.JoinSession(session_key=invited.code))).code == "unknown_key"
        await settled(alice, bob)
        await bob.ask("room.leave", t.LeaveAsMember(room="team"), t.MemberGone)
        await alice.call("session.revoke", t.RevokeSessionKey(session_key=invited.code))
        assert (await bob.refused("session.join", t.JoinSession(session_key=invited.code))).code == "unknown_key"

    home.play(story)


def test_who_was_put_out_may_knock_again_with_a_code_that_is_used_up(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        invited = await invite(alice, group="team", max_uses=1)
        await bob.join(invited.code)
        await settled(alice, bob)
        await kick(alice, "bob")
        assert (await bob.join(invited.code)).status == "pending"

    home.play(story)


def test_an_archived_channel_is_over_for_all_and_its_name_is_free_for_nobody(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        invited = await invite(alice, group="team")
        await bob.join(invited.code)
        await settled(alice, bob)
        assert (await bob.refused("room.archive", t.ArchiveRoom(room="team"))).code == "not_owner"
        done = await alice.ask("room.archive", t.ArchiveRoom(room="team"), t.ArchivedRoom)
        assert (done.name, done.status) == ("team", "archived")
        assert (await alice.refused("message.send", t.Send(text="x", room="team"))).code == "room_closed"
        assert (await alice.refused("room.invite", t.Invite(room="team"))).code == "room_closed"
        assert (await bob.recv(room="team", all=True)).messages
        again = await invite(alice, group="team")
        assert (again.name, again.opened) == ("team-2", True)

    home.play(story)


async def transfer(who: Party, agent: str, room: str = "team") -> t.OwnedRoom:
    return await who.ask("room.transfer", t.TransferRoom(agent=agent, room=room), t.OwnedRoom)


def test_a_room_is_given_to_another_member_who_then_decides(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = [await place.agent(name) for name in ("alice", "bob", "carol")]
        first = await invite(alice, group="team", approval=True)
        person = await place.person()
        await admitted(person, first, bob)
        await settled_in(alice, bob)
        assert (await alice.refused("room.transfer", t.TransferRoom(agent="carol", room="team"))).code in (
            "no_such_agent",
            "person_only",
        )
        given = await transfer(person, "bob")
        assert (given.name, given.room_name, given.status) == ("bob", "team", "transferred")
        await settled_in(alice, bob)
        for who in (alice, bob):
            (room,) = await who.rooms()
            assert room.owner_name == "bob"
        assert (await alice.refused("room.invite", t.Invite(group="team"))).code == "not_owner"
        assert (await alice.refused("room.kick", t.KickMember(agent="bob", room="team"))).code in (
            "not_owner",
            "owner_stays",
        )
        second = await invite(bob, group="team", approval=True)
        assert second.room == first.room
        # Those who come by the new owner's key are members for all, and so are those who came before.
        knock = await carol.join(second.code)
        assert knock.status == "pending"
        await bob.approve((await carol.whoami()).id, join_code=knock.join_code)
        assert (await carol.join(second.code)).status == "joined"
        await carol.send("I am in", room="team")
        await settled_in(alice, bob, carol)
        for who in (alice, bob, carol):
            assert sorted(await who.roster("team")) == ["alice", "bob", "carol"]
        assert "I am in" in texts(await alice.recv(room="team", all=True))
        assert (await kick(bob, "alice")).status == "kicked"

    home.play(story)


async def settled_in(*parties: Party) -> None:
    for party in parties:
        sent = await party.send("settled", room="team")
        for other in parties:
            await heard(other, sent.id, room="team")


async def admitted(person: Party, invited: t.Invited, who: Party) -> None:
    knock = await who.join(invited.code)
    await person.approve((await who.whoami()).id, room=invited.room, join_code=knock.join_code)
    assert (await who.join(invited.code)).status == "joined"
