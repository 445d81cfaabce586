"""Rooms, roster and who one is: what each reader sees of them."""

from __future__ import annotations

import msgspec

from parlerd.operations import types as t
from tests.support.engine import (
    START_MS,
    Party,
    engine_world,
    run,
)


def test_rooms_are_listed_with_what_is_unread_for_this_reader() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.agent("alice"), await served.agent("bob")
            assert await bob.rooms() == []
            one, two = await alice.open("one", "recap"), await alice.open("two", "")
            await served.admit(one, bob)
            served.world.clock.move(seconds=9)
            await alice.send("x", room=one.room)
            (room,) = await bob.rooms()
            assert (room.room, room.name, room.topic, room.kind, room.home) == (
                one.room,
                "one",
                "one",
                "session",
                "local",
            )
            assert (room.members, room.unread, room.active, room.state) == (2, 1, True, "open")
            assert room.last_at == START_MS + 9000
            mine = {room.name: room for room in await alice.rooms()}
            assert (mine["one"].unread, mine["one"].active) == (0, False)
            assert (mine["two"].members, mine["two"].active, mine["two"].last_at) == (1, True, START_MS)
            await (await served.agent("carol")).join(two.session_key)
            assert {room.name: room.pending for room in await alice.rooms()} == {"one": 0, "two": 1}
            assert (await bob.rooms())[0].pending == 0

    run(main)


def test_the_time_of_the_newest_message_is_that_of_the_newest_this_reader_may_see() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob, carol = await served.room("alice", "bob", "carol")
            served.world.clock.move(seconds=5)
            await bob.send("public")
            served.world.clock.move(seconds=5)
            await bob.send("hidden", visible_to=("carol",))
            times = [(await party.rooms())[0].last_at - START_MS for party in (alice, bob, carol)]
            assert times == [5000, 10_000, 10_000]

    run(main)


def test_the_roster_names_members_by_handle_with_their_role_and_says_who_owns() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, bob = await served.room("alice", "bob")
            roster = await bob.roster()
            assert {name: (member.role, member.owner, member.host) for name, member in roster.items()} == {
                "alice": ("owner", True, "shell"),
                "bob": ("member", False, "shell"),
            }
            assert roster["bob"].id == (await bob.whoami()).id
            assert (await alice.roster("auth-redesign")).keys() == roster.keys()

    run(main)


def test_who_am_i_says_whose_agent_this_is_where_it_stands_and_what_is_active() -> None:
    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w", workspace="/home/sam/shop")
            me = await window.whoami()
            assert (me.name, me.host, me.home, me.workspace) == (
                "claude-code@shop",
                "claude-code",
                "local",
                "/home/sam/shop",
            )
            assert me.principal == served.world.keys.principal
            assert me.active is None
            opened = await window.open()
            assert (await window.whoami()).active == opened.room

    run(main)


def test_sizes_are_told_when_asked_for_and_those_of_all_rooms_to_the_person_alone() -> None:
    async def main() -> None:
        async with engine_world() as served:
            alice, person, window = await served.agent("alice"), await served.person(), await served.window("w")
            opened = await alice.open(context="Chose PKCE.")
            await alice.send("x" * 1_000)
            await alice.call("memory.remember", t.Remember(text="mine", private=True))
            await window.open("another")

            async def sizes(party: Party, *, size: bool = True) -> t.RoomList:
                return await party.ask("rooms.list", t.ListRooms(size=size), t.RoomList)

            plain = await sizes(person, size=False)
            assert [each.kept for each in plain.rooms] + [plain.kept] == [msgspec.UNSET] * 3
            listed = await sizes(person)
            kept = {each.room: each.kept for each in listed.rooms}
            assert isinstance(of_one := kept[opened.room], t.KeptSize)
            assert (of_one.messages, of_one.bytes > 1_000) == (2, True)
            assert isinstance(listed.kept, t.KeptSize)
            # Two rooms with a recap, a message, and what is remembered privately.
            assert listed.kept.messages == 4
            assert listed.kept.bytes > sum(each.bytes for each in kept.values() if isinstance(each, t.KeptSize))
            of_window = await sizes(window)
            assert of_window.kept is msgspec.UNSET
            assert [isinstance(each.kept, t.KeptSize) for each in of_window.rooms] == [True]

    run(main)
