"""How a sealed room goes on without its owner (`engine.succeeding`), that its owner is there (`OwnerLine`), and what a
relay can tell of either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.epoch_record import decode_turned
from parlerd.core.epochs import LINE_MS
from parlerd.core.model import Millis, Position, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import NONCE, OwnerLine, Transfer, encode
from parlerd.engine.audit import is_signed
from parlerd.engine.auditing import audited
from parlerd.engine.desk import Desk
from parlerd.operations import types as t
from parlerd.uplink.turning import LINE_EVERY_MS
from tests.support.engine import Party, SteppedClock, run, settle
from tests.support.relayed import Home, homes_of
from tests.uplink.test_sealed import Meeting, meeting_in, met
from tests.uplink.test_sealed_lies import entry, next_record, tell

DAY_S = 86_400
NOBODY = PrincipalId("")


async def name(meeting: Meeting, person: str = "bob") -> t.SuccessorNamed:
    owner = await meeting.ann_served.person()
    params = t.NameSuccessor(room=meeting.opened.room, person=person, nobody=not person)
    return await owner.ask("room.successor", params, t.SuccessorNamed)


async def go_on(who: Party, room: str) -> t.ContinuedRoom:
    return await who.ask("room.continue", t.ContinueRoom(room=room, without_owner=True), t.ContinuedRoom)


async def compared(who: Party) -> t.RoomCompared:
    return await who.ask("room.verify", t.CompareRoom(), t.RoomCompared)


async def wait(seconds: float = 30) -> None:
    await trio.sleep(seconds)
    await settle()


def test_the_person_whom_the_owner_named_goes_on_with_the_records(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving() as engine, meeting.ben.serving() as ben, cat.serving() as third:
            async with meeting.ann.serving() as ann:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                named = await name(meeting)
                assert (named.status, named.names) == ("named", ["bob"])
                assert (await name(meeting)).status == "nothing"
                for who in (meeting.alice, meeting.bob):
                    shown = await compared(who)
                    assert (shown.successor, shown.epoch) == (["bob"], 3)
                    roster = await who.ask("rooms.roster", t.Roster(), t.RosterResult)
                    assert roster.successor == ["bob"]
                    assert isinstance(shown.owner_heard, int)
                    assert roster.owner_heard == shown.owner_heard
            person = await ben.person()
            room = meeting.opened.room
            asked = t.ContinueRoom(room=room, without_owner=True)
            assert (await person.refused("room.continue", asked)).code == "owner_is_there"
            relay.clock.move(seconds=31 * DAY_S)
            taken = await go_on(person, room)
            assert (taken.status, taken.owner, taken.room) == ("taken_over", "bob", room)
            await wait()
            mirror = await meeting.room_of(meeting.ben)
            assert (mirror.state.owner, mirror.state.epochs.number) == (mirror.state.lifecycle.owners[-1].agent, 4)
            assert mirror.state.lifecycle.owners[-1].record == 3
            # What the owner before named counts no more.
            assert (await compared(meeting.bob)).successor is msgspec.UNSET
            # The successor lets in, and everybody reads on.
            carol = await third.agent("carol")
            key = (await person.ask("room.invite", t.Invite(room=room), t.Invited)).code
            waits = await carol.join(key)
            await person.approve("carol", join_code=waits.join_code)
            await wait()
            assert (await carol.come_in(key)).messages
            await meeting.bob.send("we go on")
            assert await carol.read() == ["we go on"]
            # The owner comes back, reads on, and finds out plainly.
            async with meeting.ann.serving() as ann:
                meeting.alice = await ann.agent("alice")
                assert await meeting.alice.read() == ["we go on"]
                shown = await compared(meeting.alice)
                assert isinstance(shown.taken_over, int)
                assert "bob owns this session since" in shown.notice
                assert "alice, who owned it before, had named that person to go on" in shown.notice
                kick = t.KickMember(room=room, agent="carol")
                assert (await meeting.alice.refused("room.kick", kick)).code == "not_owner"
                assert shown.characters == (await compared(carol)).characters
                for desk in (engine.desk, *(each.engine.desk for each in (ann, ben, third))):
                    await holds_up(desk, RoomId(room))

    run(main)


async def holds_up(desk: Desk, name: RoomId) -> None:
    """Whether an audit compares a taking over with the record that was in force, where the log holds that."""
    room = await (await desk.rooms.get(name)).quiet()
    facts = await desk.library.whole_facts(room, Position(0), room.position, 500)
    about = await audited(desk, name)
    assert about is not None
    assert all(is_signed(fact, about) for fact in facts)
    [taken] = [fact for fact in facts if isinstance(fact.header.event, e.OwnerChanged)]
    turned = {fact.header.event.number: fact for fact in facts if isinstance(fact.header.event, e.EpochTurned)}
    assert set(about.records) == {3} & set(turned)
    assert is_signed(taken, about._replace(records={})) is about.is_mirror
    if other := turned.get(2):
        # A record that names nobody, in the place of the one that was in force.
        assert other.body is not None
        record = (decode_turned(other.body)[0], other.signature or b"")
        assert not is_signed(taken, about._replace(records={3: record}))


def test_with_none_nobody_goes_on_and_anybody_opens_another_room_with_the_same_people(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await name(meeting)
            assert (await name(meeting, "")).status == "nobody"
            assert (await compared(meeting.bob)).successor is msgspec.UNSET
            meeting.relay.clock.move(seconds=31 * DAY_S)
            person = await meeting.bob_served.person()
            other = await go_on(person, meeting.opened.room)
            assert (other.status, other.owner) == ("reopened", "bob")
            assert other.room != meeting.opened.room
            assert (await go_on(person, meeting.opened.room)).room == other.room
            await wait()
            (told,) = await meeting.alice.read()
            assert isinstance(other.session_key, str)
            assert told.endswith(f"parler session join {other.session_key}")
            waits = await meeting.alice.join(other.session_key)
            assert waits.status == "pending"
            await person.approve("alice", join_code=waits.join_code)
            assert (await meeting.alice.come_in(other.session_key)).messages
            shown = await compared(meeting.alice)
            assert (shown.room, [reader.name for reader in shown.readers]) == (other.room, ["alice", "bob"])
            anna = await meeting.ann_served.agent("anna")
            await comes_in(anna, "anna", await invites(person, other.room), person)

    run(main)


async def invites(person: Party, room: str) -> str:
    return (await person.ask("room.invite", t.Invite(room=room), t.Invited)).code


async def comes_in(who: Party, name: str, key: str, person: Party) -> None:
    waits = await who.join(key)
    assert (waits.status, waits.join_code is None) == ("pending", False)
    await person.approve(name, join_code=waits.join_code)
    assert (await who.come_in(key)).messages


@pytest.mark.parametrize("times", [1, 2])
def test_who_never_was_in_comes_in_by_a_key_of_the_new_owner_s_and_by_none_of_the_owner_before(
    tmp_path: Path, times: int
) -> None:
    """Whoever only knocks is told no members, and has to know with whose machine it exchanges keys."""

    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with (
            relay.serving(),
            meeting.ann.serving() as ann,
            meeting.ben.serving() as ben,
            cat.serving() as third,
        ):
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            room, old = meeting.opened.room, meeting.opened.session_key
            persons = {"alice": await ann.person(), "bob": await ben.person()}
            carol, carla, cleo = [await third.agent(name) for name in ("carol", "carla", "cleo")]
            # The mirror of this home begins before the room changes hands, and without anybody who is in.
            assert (await cleo.join(old)).status == "pending"
            owner = "alice"
            for to in ("bob", "alice")[:times]:
                transfer = t.TransferRoom(room=room, agent=to)
                await persons[owner].ask("room.transfer", transfer, t.OwnedRoom)
                await wait()
                owner = to
            for who, name in (carol, "carol"), (cleo, "cleo"):
                await comes_in(who, name, await invites(persons[owner], room), persons[owner])
            await carol.send("hello")
            assert await meeting.alice.read() == ["hello"]
            mirror = await meeting.room_of(cat)
            (now,) = [each for each in mirror.state.members.values() if each.handle == owner]
            assert (mirror.state.owner, mirror.state.owner_principal) == (now.agent, now.principal)
            assert (len(mirror.state.lifecycle.owners), mirror.state.contradicted) == (times + 1, "")
            if owner == "bob":
                error = await carla.refused("session.join", t.JoinSession(session_key=old or ""))
                assert error.code == "unknown_key"
                assert "the session has another owner since" in error.hint
            else:
                # The key is the owner's own again.
                await comes_in(carla, "carla", old or "", persons[owner])

    run(main)


def test_only_a_person_with_an_agent_in_the_roster_is_named_and_only_by_the_owner_s(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            owner, other = await meeting.ann_served.person(), await meeting.bob_served.person()
            room = meeting.opened.room

            async def refused(who: Party, **said: Any) -> str:
                return (await who.refused("room.successor", t.NameSuccessor(room=room, **said))).code

            assert await refused(other, person="bob") == "not_owner"
            assert await refused(owner, person="alice") == "invalid_param"
            assert await refused(owner) == "invalid_param"
            assert await refused(owner, person="bob", nobody=True) == "invalid_param"
            assert await refused(owner, person="zoe") == "no_such_agent"
            assert await refused(owner, person="A" + "B" * 55) in ("not_sealed_in", "no_such_agent")
            clear = await meeting.alice.open("in clear", clear=True)
            code = await owner.refused("room.successor", t.NameSuccessor(room=clear.room, nobody=True))
            assert code.code == "not_sealed"

    run(main)


@pytest.mark.parametrize("how", ["kick", "leave"])
def test_of_a_successor_nobody_is_in_any_more_no_record_speaks(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await name(meeting)
            assert (await meeting.room_of(meeting.ann)).state.epochs.successor
            room = meeting.opened.room
            if how == "kick":
                person = await meeting.ann_served.person()
                await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            else:
                await meeting.bob.ask("room.leave", t.LeaveAsMember(room=room), t.MemberGone)
            await wait()
            mirror = await meeting.room_of(meeting.ann)
            assert len(mirror.state.epochs.roster) == 1
            # The relay and a former member together would take the room over with the newest record that names them.
            assert mirror.state.epochs.successor == NOBODY

    run(main)


# -- what a relay may tell of it ---------------------------------------------------------------------------


async def transfer_of(home: Home, room: Room, **more: Any) -> t.TransferEntry:
    """That this home's person takes the room over, whatever the records say."""
    (owner,) = [member for member in room.state.members.values() if member.principal == home.keys.principal]
    said: dict[str, Any] = {
        "home": room.state.home,
        "room": room.state.room,
        "number": 1,
        "owner": owner.agent,
        "principal": owner.principal,
        "taken": True,
        "record": room.state.epochs.number,
        "at": Millis(5),
        "nonce": bytes(NONCE),
    }
    body = encode(Transfer(**said | more))
    return t.TransferEntry(statement=body, signature=home.keys.sign(owner.principal, "parler/transfer", body))


async def tell_alice(meeting: Meeting, **card: Any) -> Room:
    """Tell Ann's home something of how the room stands."""
    (link,) = meeting.ann.uplinks._links.values()
    told = t.Card(whole=False, home=meeting.relay.keys.id, **card)
    await link.mirrors.take(t.LinkItem(room=meeting.opened.room, card=told))
    return await meeting.room_of(meeting.ann)


@pytest.mark.parametrize("shows", [False, True], ids=["without a record", "with a record"])
def test_a_relay_and_a_member_together_invent_no_taking_over(tmp_path: Path, shows: bool) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            told = await transfer_of(meeting.ben, room)
            if shows:
                # The newest record, which the owner did sign, names nobody.
                record = await newest(meeting)
                told = msgspec.structs.replace(told, record=record.record, record_signature=record.signature)
            room = await tell_alice(meeting, transfers=[told])
            assert (room.state.contradicted, room.state.alarm) == ("transfer", "relay_equivocation")

    run(main)


def test_a_successor_who_gives_the_room_to_another_person_s_agent_is_found_out_by_whoever_only_knocked(
    tmp_path: Path,
) -> None:
    """Who only knocks is told no members, and takes the successor's word for which agent owns the room."""

    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with (
            relay.serving(),
            meeting.ann.serving() as ann,
            meeting.ben.serving() as ben,
            cat.serving() as third,
        ):
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            await name(meeting)
            carol = await third.agent("carol")
            waits = await carol.join(meeting.opened.session_key)
            record, room = await newest(meeting), await meeting.room_of(meeting.ben)
            told = await transfer_of(meeting.ben, room, owner=room.state.owner)
            told = msgspec.structs.replace(told, record=record.record, record_signature=record.signature)
            (link,) = cat.uplinks._links.values()
            card = t.Card(whole=False, home=relay.keys.id, transfers=[told])
            await link.mirrors.take(t.LinkItem(room=meeting.opened.room, card=card))
            mirror = await meeting.room_of(cat)
            assert (mirror.state.owner_principal, mirror.state.contradicted) == (meeting.ben.keys.principal, "")
            await (await ann.person()).approve("carol", join_code=waits.join_code)
            await wait()
            assert (await meeting.room_of(cat)).state.contradicted == "member"

    run(main)


def test_an_older_record_that_named_somebody_does_not_count_once_a_later_one_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await name(meeting)
            named = await newest(meeting)
            room = await meeting.room_of(meeting.ben)
            told = await transfer_of(meeting.ben, room)
            told = msgspec.structs.replace(told, record=named.record, record_signature=named.signature)
            await name(meeting, "")
            room = await tell_alice(meeting, transfers=[told])
            assert (room.state.contradicted, room.state.alarm) == ("epoch", "relay_equivocation")

    run(main)


def test_a_record_of_the_owner_and_one_of_the_successor_with_one_number_freeze_the_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await name(meeting)
            owner_s = await next_record(meeting)
            meeting.wires.cut_off("ann")
            await settle()
            meeting.relay.clock.move(seconds=31 * DAY_S)
            await go_on(await meeting.bob_served.person(), meeting.opened.room)
            await wait()
            mirror = await meeting.room_of(meeting.ben)
            assert mirror.state.epochs.number == 4
            mirror = await tell(meeting, epoch=entry(owner_s))
            assert (mirror.state.contradicted, mirror.state.alarm) == ("epoch", "relay_equivocation")

    run(main)


def test_who_has_a_record_behind_the_one_that_named_the_successor_takes_no_taking_over(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await name(meeting)
            named = await newest(meeting)
            told = await transfer_of(meeting.ben, await meeting.room_of(meeting.ben))
            told = msgspec.structs.replace(told, record=named.record, record_signature=named.signature)
            # Ann's home signed one more, which the relay kept back so far.
            later = await meeting.ann.uplinks._turning.following(await meeting.room_of(meeting.ann), names=NOBODY)
            assert later is not None
            (link,) = meeting.ann.uplinks._links.values()
            await link.mirrors.take(t.LinkItem(room=meeting.opened.room, epoch=entry(later)))
            room = await tell_alice(meeting, transfers=[told])
            assert (room.state.contradicted, room.state.alarm) == ("epoch", "relay_equivocation")

    run(main)


async def newest(meeting: Meeting) -> t.EpochTold:
    """The record in force, as Ann's home has it."""
    room = await meeting.room_of(meeting.ann)
    (told,) = await meeting.ann.uplinks._turning.since(room, room.state.epochs.number - 1)
    return told


# -- that the owner is there -------------------------------------------------------------------------------


def test_the_owner_s_home_says_once_a_day_that_it_is_there_and_everybody_sees_when(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            first = (await compared(meeting.bob)).owner_heard
            assert isinstance(first, int)
            await wait(60)
            assert (await compared(meeting.bob)).owner_heard == first
            meeting.relay.clock.move(seconds=LINE_EVERY_MS / 1000)
            await wait(60)
            second = (await compared(meeting.bob)).owner_heard
            assert isinstance(second, int)
            assert second >= first + LINE_EVERY_MS
            assert (await compared(meeting.alice)).owner_heard == second
            position = (await meeting.room_of(meeting.ben)).position
            await wait(600)
            assert (await meeting.room_of(meeting.ben)).position == position
            # While the owner is away nothing is heard, and that is shown.
            meeting.wires.cut_off("ann")
            await settle()
            meeting.relay.clock.move(seconds=5 * DAY_S)
            await wait(60)
            assert (await compared(meeting.bob)).owner_heard == second
            meeting.wires.bring_back("ann")
            await wait(120)
            third = (await compared(meeting.bob)).owner_heard
            assert isinstance(third, int)
            assert third >= second + 5 * DAY_S * 1000

    run(main)


def test_who_was_away_is_told_the_newest_line(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting = Meeting(wires, relay, home("ann"), home("ben"))
        async with relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
            for _ in range(2):
                relay.clock.move(seconds=LINE_EVERY_MS / 1000)
                await meeting.alice.roster()
                await wait(60)
            async with meeting.ben.serving() as ben:
                meeting.bob = await ben.agent("bob")
                await meeting.bob.read()
                await wait(60)
                heard = (await compared(meeting.alice)).owner_heard
                assert (await compared(meeting.bob)).owner_heard == heard
                lines = [each for each in await facts(meeting.ben, meeting) if each == "owner_line_told"]
                assert len(lines) == 1

    run(main)


def test_a_clock_that_was_days_ahead_keeps_no_line_from_being_told_once_it_is_right(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        relay_s, clock = meeting.relay.clock, SteppedClock()
        meeting.ann.world.clock = clock
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")

            async def a_day_later() -> int:
                for each in (clock, relay_s):
                    each.move(seconds=DAY_S + 1)
                await wait(60)
                heard = (await compared(meeting.bob)).owner_heard
                assert isinstance(heard, int)
                return heard

            clock.step(seconds=5 * DAY_S)
            wrong = await a_day_later()
            assert wrong > relay_s.now() + 4 * DAY_S * 1000
            clock.step(seconds=-5 * DAY_S)
            for _ in range(3):
                assert abs(await a_day_later() - relay_s.now()) < 600_000
            # What was signed while the clock was ahead is of an earlier record, and is not heard again.
            room = await meeting.room_of(meeting.ben)
            before, number = room.state.epochs.heard, room.state.epochs.number
            assert number == 3, "one record, and no more"
            room = await tell_line(meeting, meeting.ann, record=number - 1, at=Millis(wrong))
            assert (room.state.epochs.heard, room.state.contradicted) == (before, "")

    run(main)


async def facts(home: Home, meeting: Meeting) -> list[str]:
    """The types of the facts of the room's log at a home, in order."""
    return [
        str(header.event.__struct_config__.tag)
        for header in home.world.store.facts(RoomId(meeting.opened.room), 0, 1_000)  # type: ignore[arg-type]
    ]


async def line_of(meeting: Meeting, home: Home, **more: Any) -> t.OwnerLineEntry:
    """What a home says of the room, as Ben's mirror has it."""
    state = (await meeting.room_of(meeting.ben)).state
    said: dict[str, Any] = {
        "home": state.home,
        "room": state.room,
        "record": state.epochs.number,
        "digest": state.epochs.record,
        "public": state.shown.number,
        "line": state.shown.line,
        "at": Millis(meeting.relay.clock.now() + LINE_MS),
        "nonce": bytes(NONCE),
    }
    body = encode(OwnerLine(**said | more))
    return t.OwnerLineEntry(statement=body, signature=home.keys.sign(home.keys.principal, "parler/owner-line", body))


async def tell_line(meeting: Meeting, home: Home, **more: Any) -> Room:
    line = await line_of(meeting, home, **more)
    return await tell(meeting, card=t.Card(whole=False, home=meeting.relay.keys.id, owner_line=line))


def test_a_line_that_another_person_signed_or_an_old_one_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            before = (await meeting.room_of(meeting.ben)).state.epochs.heard
            for home, more in (
                (meeting.ben, {}),
                (meeting.ann, {"at": before}),
                (meeting.ann, {"room": RoomId("r_other")}),
            ):
                room = await tell_line(meeting, home, **more)
                assert (room.state.contradicted, room.state.epochs.heard) == ("", before)
            room = await tell_line(meeting, meeting.ann)
            assert room.state.contradicted == ""
            assert room.state.epochs.heard > before

    run(main)


def test_a_member_who_is_shown_another_room_than_the_owner_finds_out(tmp_path: Path) -> None:
    other = b"another line than that".ljust(32)
    for more, what in (
        ({"line": other}, "fork"),
        ({"public": 1, "line": other}, "fork"),
        ({"digest": other}, "epoch"),
        ({"record": 3}, "epoch"),
    ):
        folder = tmp_path / what / str(len(more)) / "".join(more)
        folder.mkdir(parents=True)

        async def main(folder: Path = folder, more: Any = more, what: str = what) -> None:
            async with met(folder) as meeting:
                await meeting.alice.send("one")
                assert await meeting.bob.read() == ["one"]
                room = await tell_line(meeting, meeting.ann, **more)
                assert (room.state.contradicted, room.state.alarm) == (what, "relay_equivocation")

        run(main)


def test_a_line_of_a_message_that_is_not_here_is_taken_as_what_it_is(tmp_path: Path) -> None:
    """A member kept in the past can see that it may be, no more."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await tell_line(meeting, meeting.ann, public=99, line=bytes(32))
            assert room.state.contradicted == ""

    run(main)
