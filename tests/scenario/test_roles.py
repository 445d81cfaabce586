"""What members are in a room, by their own word or the owner's. Told once, played in every home."""

from __future__ import annotations

import trio

from parlerd.operations import types as t
from tests.scenario.test_memory import heard, let_in, settled, together
from tests.support.engine import Party, gather
from tests.support.homes import Home, Place
from tests.support.room_state import put, value


async def give(who: Party, agent: str, role: str, *, lock: bool = False, room: str | None = None) -> t.RoleOfMember:
    return await who.ask("room.role", t.GiveRole(agent=agent, role=role, lock=lock, room=room), t.RoleOfMember)


async def roles(who: Party, room: str | None = None) -> dict[str, tuple[str, bool]]:
    return {name: (member.role, member.locked) for name, member in (await who.roster(room)).items()}


async def until_roles(who: Party, wanted: dict[str, tuple[str, bool]]) -> None:
    found = await roles(who)
    for _ in range(600):
        if found == wanted:
            return
        await trio.sleep(0.1)
        found = await roles(who)
    raise AssertionError(f"the roles are {found}")


def test_a_role_that_the_owner_gives_is_seen_at_once_by_whatever_goes_by_roles(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = await together(place, "alice", "bob", "cat")
        given = await give(alice, "bob", "reviewer")
        assert (given.name, given.role, given.locked, given.room_name) == ("bob", "reviewer", False, "auth-redesign")
        expected = {"alice": ("owner", False), "bob": ("reviewer", False), "cat": ("member", False)}
        for who in (alice, bob, cat):
            await until_roles(who, expected)
        offer = await alice.handoff("review it", to="reviewer")
        await heard(bob, offer.id)
        await heard(cat, offer.id)
        refused = await cat.refused("handoff.accept", t.AcceptHandoff(id=offer.id))
        assert refused.code == "handoff_not_yours"
        assert (await give(alice, "bob", "")).role == ""
        await give(alice, "cat", "reviewer")
        await until_roles(cat, {**expected, "bob": ("member", False), "cat": ("reviewer", False)})
        assert offer.id in {each.id for each in (await cat.recv(all=True, mentions=True)).messages}
        taken = await cat.ask("handoff.accept", t.AcceptHandoff(id=offer.id), t.AnsweredHandoff)
        assert taken.holder == "cat"
        said = await cat.send("mine now")
        await heard(alice, said.id)
        [message] = [each for each in (await alice.recv(all=True, limit=500)).messages if each.id == said.id]
        assert message.author.role == "reviewer"

    home.play(story)


def test_a_wait_and_an_entry_that_go_by_a_role_see_the_new_one(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await put(alice, "vault", "open", enabled='agents[self].role == "admin"')
        assert (await bob.refused("state.get", t.GetState(key="vault"))).code == "no_such_key"

        async def waits() -> t.WaitEnded:
            params = t.WaitUntil(condition='agents.bob.role == "admin"', wait_ms=60_000)
            return await bob.ask("state.wait", params, t.WaitEnded)

        async def gives() -> None:
            await trio.sleep(0.5)
            await give(alice, "bob", "admin", lock=True)

        ended, _ = await gather(waits, gives)
        assert isinstance(ended, t.WaitEnded)
        assert (ended.triggered, ended.elapsed_ms < 30_000) == (True, True)
        assert await value(bob, "vault") == "open"

    home.play(story)


def test_a_locked_role_stays_when_its_agent_comes_in_again_and_another_becomes_what_it_says(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign", "Chose PKCE.")
        await let_in(place, opened, bob)
        await give(alice, "bob", "reader", lock=True)
        person = await place.person()

        async def again(role: str) -> None:
            await bob.ask("room.leave", t.LeaveAsMember(room=opened.room), t.MemberGone)
            knock = await bob.join(opened.session_key, role=role)
            await person.approve((await bob.whoami()).id, room=opened.room, join_code=knock.join_code)
            await bob.come_in(opened.session_key)

        await again("admin")
        for who in (alice, bob):
            await until_roles(who, {"alice": ("owner", False), "bob": ("reader", True)})
        await give(alice, "bob", "reader")
        await again("tester")
        for who in (alice, bob):
            await until_roles(who, {"alice": ("owner", False), "bob": ("tester", False)})

    home.play(story)


def test_the_owner_or_its_person_alone_gives_roles_and_a_restart_keeps_them(home: Home) -> None:
    async def before(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        room = (await alice.rooms())[0].room
        assert (await bob.refused("room.role", t.GiveRole(agent="bob", role="admin"))).code == "not_owner"
        for agent, role, code in (
            ("zoe", "reviewer", "no_such_agent"),
            ("bob", "owner", "invalid_name"),
            ("bob", "requester", "invalid_name"),
            ("bob", "no role", "invalid_name"),
        ):
            assert (await alice.refused("room.role", t.GiveRole(agent=agent, role=role))).code == code
        assert await roles(bob) == {"alice": ("owner", False), "bob": ("member", False)}
        await give(await place.person(), "bob", "reviewer", lock=True, room=room)
        await settled(alice, bob)

    async def after(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        for who in (alice, bob):
            await until_roles(who, {"alice": ("owner", False), "bob": ("reviewer", True)})
        await alice.close()
        room = (await bob.rooms())[0].room if await bob.rooms() else None
        refused = await alice.refused("room.role", t.GiveRole(agent="bob", role="", room=room))
        assert refused.code in ("room_closed", "no_such_room", "no_active_session")

    home.play(before, after)


def test_who_says_no_role_has_that_of_its_card_and_only_the_first_time(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, cat = [await place.agent(name) for name in ("alice", "bob", "cat")]
        for who in (bob, cat):
            await who.ask("directory.register", t.Register(role="reviewer", home="local"), t.Registered)
        opened = await alice.open("auth redesign")
        await let_in(place, opened, bob)
        await let_in(place, opened, cat, role="tester")
        expected = {"alice": ("owner", False), "bob": ("reviewer", False), "cat": ("tester", False)}
        for who in (alice, bob):
            await until_roles(who, expected)
        await give(alice, "bob", "")
        await until_roles(bob, {**expected, "bob": ("member", False)})
        await bob.close(opened.room)
        await let_in(place, opened, bob)
        await until_roles(alice, {**expected, "bob": ("member", False)})

    home.play(story)
