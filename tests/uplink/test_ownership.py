"""A room on a relay changes hands: by its owner's person, or because that person is away for long."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.support.engine import Party, run
from tests.uplink.test_relayed import meeting_in

DAY_S = 86_400


async def take_over(person: Party, room: str) -> t.OwnedRoom:
    return await person.ask("room.takeover", t.TakeOver(room=room), t.OwnedRoom)


def test_a_room_is_taken_over_once_its_owners_person_was_away_for_so_long_and_no_sooner(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.settings = Settings(relay_takeover_days=2)
        async with meeting.ben.serving() as ben, meeting.relay.serving():
            async with meeting.ann.serving() as ann:
                await meeting.meet(ann, ben)
                room = meeting.opened.room
                person, params = await ben.person(), t.TakeOver(room=room)
                owner = await ann.person()
                assert (await owner.refused("room.takeover", params)).code == "invalid_param"
                assert (await meeting.bob.refused("room.takeover", params)).code == "owner_is_there"
                meeting.relay.clock.move(seconds=3 * DAY_S)
                # The person said nothing for three days, and is there.
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(meeting.alice.recv, wait=120))
                    await trio.sleep(60)
                    assert (await person.refused("room.takeover", params)).code == "owner_is_there"
                await meeting.alice.send("see you")
                assert (await meeting.bob.read(wait=60))[-1] == "see you"
            refused = await person.refused("room.takeover", params)
            assert refused.code == "owner_is_there"
            assert refused.details["until"] > meeting.relay.clock.ms
            meeting.relay.clock.move(seconds=2 * DAY_S)
            owned = await take_over(person, room)
            assert (owned.name, owned.status) == ("bob", "taken_over")
            await meeting.bob.send("mine now", room=room)
            invited = await meeting.bob.ask("room.invite", t.Invite(room=room), t.Invited)
            assert invited.room == room
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                await trio.sleep(60)
                assert (await alice.read(wait=60))[-1] == "mine now"
                (found,) = await alice.rooms()
                assert found.owner_name == "bob"
                assert (await alice.refused("room.invite", t.Invite(room=room))).code == "not_owner"

    run(main)


def test_a_newcomer_learns_from_what_was_signed_that_a_room_changed_hands(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ben.serving() as ben, meeting.relay.serving(), meeting.ann.serving() as ann:
            await meeting.meet(ann, ben)
            room = meeting.opened.room
            person = await ann.person()
            await person.call("room.transfer", t.TransferRoom(agent="bob", room=room))
            await trio.sleep(60)
            person = await ben.person()
            invited = await person.ask("room.invite", t.Invite(room=room), t.Invited)
            carol = await ann.agent("carol")
            waits = await carol.join(invited.code)
            assert waits.status == "pending"
            await person.approve("carol", join_code=waits.join_code, room=room)
            await carol.come_in(invited.code)
            await meeting.alice.send("hello carol", room=room)
            assert "hello carol" in await carol.read(wait=60, room=room)
            for home in (ann, ben):
                checked = await (await home.person()).ask("daemon.check", t.CheckStore(), t.CheckList)
                assert [check for check in checked.checks if not check.ok] == []

    run(main)
