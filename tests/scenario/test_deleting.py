"""A room that is deleted by the person whose agent owns it. Told once, played in every home."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.operations import types as t
from tests.scenario.test_channels import invite
from tests.scenario.test_directs import carded, to
from tests.scenario.test_memory import heard, let_in, remember, together
from tests.support.engine import Party, run
from tests.support.homes import Home, Place, RelayedHome, until
from tests.support.relayed import homes_of


async def delete(place: Place, room: str, *, confirmed: bool = True) -> t.DeletedRoom:
    person = await place.person()
    return await person.ask("room.delete", t.DeleteRoom(room=room, confirmed=confirmed), t.DeletedRoom)


async def no_longer(who: Party, room: str) -> str:
    """Wait until an agent may say nothing in a room any more, and give why not."""

    async def refusal() -> str | None:
        try:
            await who.send("still there?", room=room)
        except Refused as error:
            return error.code
        return None

    return await until(refusal)


def test_a_deleted_room_is_gone_for_its_owner_and_takes_nothing_from_anybody(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        (room,) = await alice.rooms()
        sent = await alice.send("the plan")
        await heard(bob, sent.id)
        await remember(alice, "deploys are blue-green", key="deploy")
        gone = await delete(place, room.name)
        assert (gone.status, gone.name, gone.members, gone.room) == ("deleted", room.name, 2, room.room)
        assert gone.messages >= 3
        assert await alice.rooms() == []
        assert (await alice.refused("message.send", t.Send(text="hello"))).code == "no_active_session"
        assert (await alice.refused("message.send", t.Send(text="hello", room=room.room))).code == "room_deleted"
        assert (await alice.refused("rooms.roster", t.Roster(room=room.room))).code == "room_deleted"
        assert await no_longer(bob, room.room) == "room_deleted"
        # Where a machine of somebody else was told the room, it stays there to be read, and says what happened.
        for kept in await bob.rooms():
            assert (kept.room, kept.alarm) == (room.room, "room_deleted")
            assert "the plan" in [str(each.text) for each in (await bob.recv(room=room.room, all=True)).messages]

    home.play(story)


def test_nothing_is_deleted_before_the_person_confirms_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        (room,) = await alice.rooms()
        asked = await delete(place, room.room, confirmed=False)
        assert (asked.status, asked.members, asked.messages > 0, asked.bytes > 0) == ("asked", 2, True, True)
        assert [each.room for each in await alice.rooms()] == [room.room]
        await alice.send("still here")

    home.play(story)


def test_whoever_waits_in_a_room_hears_that_it_was_deleted(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        (room,) = await alice.rooms()
        heard: list[str] = []

        async def waits() -> None:
            heard.append((await bob.refused("message.recv", t.Recv(room=room.room, wait_ms=25_000))).code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await trio.sleep(1)
            await delete(place, room.room)
        assert heard == ["room_deleted"]

    home.play(story)


def test_the_name_of_a_deleted_room_is_free_again_and_its_codes_open_nothing(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        first = await invite(alice, group="team")
        await delete(place, "team")
        assert (await bob.refused("session.join", t.JoinSession(session_key=first.code))).code == "unknown_key"
        second = await invite(alice, group="team")
        assert (second.name, second.opened) == ("team", True)
        assert second.room != first.room
        assert (await bob.join(second.code)).status == "joined"

    home.play(story)


def test_a_member_cannot_delete_a_room_of_somebody_else_and_is_told_how_to_leave(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        opened = await alice.open("auth redesign")
        await bob.commit(await let_in(place, opened, bob))
        error = await bob.refused("room.delete", t.DeleteRoom(room="auth-redesign"))
        assert error.code == "not_owner"
        assert "parler room leave" in error.hint
        assert (await bob.refused("room.delete", t.DeleteRoom(room="nothing"))).code == "no_such_room"

    # In one home both agents would be of one person, who owns the room.
    RelayedHome(tmp_path).play(story)


def test_a_deleted_room_stays_deleted_over_a_restart(home: Home) -> None:
    rooms: list[str] = []

    async def first(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        rooms.extend(each.room for each in await alice.rooms())
        await delete(place, rooms[0])

    async def second(place: Place) -> None:
        alice, bob = await place.agent("alice"), await place.agent("bob")
        assert await alice.rooms() == []
        assert (await alice.refused("message.send", t.Send(text="hello", room=rooms[0]))).code == "room_deleted"
        assert await no_longer(bob, rooms[0]) == "room_deleted"

    home.play(first, second)


def test_who_was_away_while_a_room_was_deleted_is_told_so_and_not_that_the_relay_lost_it(tmp_path: Path) -> None:
    rooms: list[str] = []

    async def together_once(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        rooms.extend(each.room for each in await alice.rooms())
        await heard(bob, (await alice.send("the plan")).id)

    async def one_deletes(place: Place) -> None:
        # Only the daemon of who is named runs.
        await (await place.agent("alice")).rooms()
        assert (await delete(place, rooms[0])).status == "deleted"

    async def the_other_comes_back(place: Place) -> None:
        bob = await place.agent("bob")
        assert await no_longer(bob, rooms[0]) == "room_deleted"
        [kept] = await bob.rooms()
        assert kept.alarm == "room_deleted"
        assert "the plan" in [str(each.text) for each in (await bob.recv(room=rooms[0], all=True)).messages]

    RelayedHome(tmp_path).play(together_once, one_deletes, the_other_comes_back)


def test_a_room_is_not_deleted_here_while_its_relay_is_out_of_reach(tmp_path: Path) -> None:
    _, relay, home_of = homes_of(tmp_path)

    async def main() -> None:
        ann = home_of("ann")
        async with ann.serving() as served:
            async with relay.serving():
                alice = await served.agent("alice")
                opened = await alice.open()
            person = await served.person()
            asked = t.DeleteRoom(room=opened.room, confirmed=True)
            assert (await person.refused("room.delete", asked)).code == "offline"
            assert [each.room for each in await alice.rooms()] == [opened.room]
            async with relay.serving():
                done = await person.ask("room.delete", asked, t.DeletedRoom)
                assert done.status == "deleted"
                assert await alice.rooms() == []

    run(main)


@pytest.mark.parametrize("first_again", [0, 1])
def test_a_pair_whose_direct_room_was_deleted_talks_on_in_a_new_one(home: Home, first_again: int) -> None:
    async def story(place: Place) -> None:
        pair = [(await carded(place, "ann"), "ben"), (await carded(place, "ben"), "ann")]
        (ann, _), (ben, _) = pair
        rooms = [(await to(ann, "ben", "one")).room]
        for _ in range(2):
            await ben.rooms()
            await delete(place, rooms[-1])
            assert await no_longer(ben, rooms[-1]) == "room_deleted"
            who, other = pair[first_again]
            again = await to(who, other, "two")
            assert (again.opened, again.room in rooms) == (True, False)
            who, other = pair[1 - first_again]
            assert (await to(who, other, "three")).room == again.room
            rooms.append(again.room)
            if first_again:
                return  # the next room is another person's to delete

    home.play(story)


def test_a_queue_that_was_deleted_is_opened_anew_by_who_serves_it_next(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        rooms: list[str] = []
        for _ in range(3):
            served = await alice.ask("queue.serve", t.Serve(service="builds"), t.Served)
            assert (served.opened, served.room in rooms) == (True, False)
            rooms.append(served.room)
            await delete(place, served.room)

    home.play(story)


def test_a_room_that_was_given_away_is_its_new_owners_to_delete(tmp_path: Path) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        (room,) = await alice.rooms()
        await (await place.person()).call("room.transfer", t.TransferRoom(agent="bob", room=room.room))
        await heard(bob, (await alice.send("it is yours")).id)
        deleting = t.DeleteRoom(room=room.room, confirmed=True)
        assert (await alice.refused("room.delete", deleting)).code == "not_owner"
        assert (await bob.ask("room.delete", deleting, t.DeletedRoom)).status == "deleted"
        assert await bob.rooms() == []
        assert await no_longer(alice, room.room) == "room_deleted"
        [kept] = await alice.rooms()
        assert kept.alarm == "room_deleted"

    RelayedHome(tmp_path).play(story)
