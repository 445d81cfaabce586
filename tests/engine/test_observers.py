"""What a person sees of their agents' rooms at their own shell, and that an agent sees its own alone."""

from __future__ import annotations

from parlerd.core.errors import Refused
from parlerd.core.model import RoomId
from parlerd.engine.observers import observed_room, observed_rooms, observers
from parlerd.engine.person import is_person
from parlerd.operations import types as t
from tests.support.engine import HookDriver, Party, Served, engine_world, run


async def names(served: Served, party: Party) -> list[str]:
    """The agents whose eyes this party has."""
    desk = served.engine._desk
    me = await desk.me(party.caller)
    return [record.name for record in observers(desk, party.caller, me)]


async def room_meant(served: Served, party: Party, wanted: str | None) -> str:
    """The id of the room this party means, or the code it is refused with."""
    desk = served.engine._desk
    try:
        actor, _, _ = await observed_room(desk, party.caller, await desk.me(party.caller), wanted)
    except Refused as refused:
        return refused.code
    return actor.room


def test_the_person_has_the_eyes_of_all_their_agents_and_an_agent_its_own() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, bob = await served.person(), await served.agent("bob")
            window = await served.window("w", as_name="carol")
            for party in (bob, window):
                await party.whoami()
            assert [is_person(party.caller) for party in (person, bob, window)] == [True, False, False]
            assert await names(served, person) == ["sam", "bob", "carol"]
            assert await names(served, bob) == ["bob"]
            assert await names(served, window) == ["carol"]

    run(main)


def test_a_room_is_found_by_id_or_name_and_the_callers_own_comes_first() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice, bob = await served.person(), await served.agent("alice"), await served.agent("bob")
            one, two = await alice.open("one"), await bob.open("two")
            assert await room_meant(served, person, one.room) == one.room
            assert await room_meant(served, person, "two") == two.room
            assert await room_meant(served, person, "three") == "no_such_room"
            assert await room_meant(served, alice, "two") == await room_meant(served, alice, two.room) == "no_such_room"
            again = await bob.open("one")
            assert await room_meant(served, person, "one") == "ambiguous_name"
            assert await room_meant(served, bob, "one") == again.room
            mine = await person.open("one")
            assert await room_meant(served, person, "one") == mine.room

    run(main)


def test_a_person_without_a_session_means_the_only_room_their_agents_have() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, alice = await served.person(), await served.agent("alice")
            assert await room_meant(served, person, None) == "no_active_session"
            one = await alice.open("one")
            assert await room_meant(served, person, None) == one.room
            assert await room_meant(served, await served.agent("bob"), None) == "no_active_session"
            await alice.open("two")
            assert await room_meant(served, person, None) == "no_active_session"
            mine = await person.open("three")
            assert await room_meant(served, person, None) == mine.room

    run(main)


def test_a_room_that_the_last_of_their_agents_left_while_it_was_opened_is_gone() -> None:
    async def main() -> None:
        async with engine_world(driver=HookDriver) as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            opened = await alice.open("one")
            await served.admit(opened, bob)
            desk = served.engine._desk
            me = await desk.me(bob.caller)
            stale = await observed_rooms(desk, bob.caller, me)
            assert list(stale) == [RoomId(opened.room)]
            await bob.close()
            assert await observed_rooms(desk, bob.caller, me) == {}
            assert await room_meant(served, bob, opened.room) == "no_such_room"

    run(main)


# -- through the operations --------------------------------------------------------------------------------


def test_the_person_is_shown_every_room_of_their_agents_and_which_of_them_are_in_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, window, bob = await served.person(), await served.window("w"), await served.agent("bob")
            opened = await window.open("one")
            await served.admit(opened, bob)
            await (await served.agent("dan")).join(opened.session_key)
            await bob.send("hello")
            mine = await person.open("mine", context="")
            owner = await window.whoami()
            rooms = {info.name: info for info in await person.rooms()}
            assert set(rooms) == {"one", "mine"}
            one = rooms["one"]
            assert (one.owner, one.owner_name, one.agents) == (owner.id, owner.name, [owner.name, "bob"])
            # Counted for the first of them, who was sent one message.
            assert (one.unread, one.pending, one.members, one.active) == (1, 1, 2, False)
            assert (rooms["mine"].room, rooms["mine"].agents, rooms["mine"].active) == (mine.room, ["sam"], True)
            sessions = (await person.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert {info.name: (info.agents, len(info.keys)) for info in sessions} == {
                "one": ([owner.name, "bob"], 1),
                "mine": (["sam"], 1),
            }
            assert set(await person.roster("one")) == {owner.name, "bob"}
            # An agent sees what it is in, and of keys what it owns.
            (his,) = await bob.rooms()
            assert (his.name, his.agents, his.pending) == ("one", ["bob"], 0)
            (his_session,) = (await bob.ask("session.list", t.ListSessions(), t.SessionList)).sessions
            assert (his_session.agents, his_session.keys) == (["bob"], [])
            assert (await bob.refused("rooms.roster", t.Roster(room=mine.room))).code == "no_such_room"

    run(main)


def test_in_a_room_of_their_own_agent_the_person_counts_what_that_one_has_to_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            person, bob = await served.person(), await served.agent("bob")
            opened = await person.open("one", context="")
            await served.admit(opened, bob)
            await bob.send("hello")
            (one,) = await person.rooms()
            assert (one.agents, one.unread) == (["sam", "bob"], 1)
            assert await person.read() == ["hello"]
            (one,) = await person.rooms()
            assert one.unread == 0

    run(main)


def test_the_person_learns_where_a_message_of_any_of_their_agents_got_to() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            person = await served.person()
            sent = await bob.send("between us", visible_to=("carol",))
            await carol.read()
            assert await person.why(sent.id) == {"carol": ["stored", "read", "acknowledged"]}
            assert (await alice.refused("message.why", t.Why(id=sent.id))).code == "no_such_message"
            public = await alice.send("for all")
            assert set(await person.why(public.id)) == {"bob", "carol"}
            assert set(await bob.why(public.id)) == {"bob"}
            assert (await person.refused("message.why", t.Why(id="m_nothing"))).code == "no_such_message"

    run(main)
