"""What the members of a sealed room compare (`engine.verifying`), from two homes and at the relay between them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from parlerd.core.model import RoomId
from parlerd.engine.engine import Engine
from parlerd.engine.verifying import compared_of
from parlerd.operations import types as t
from tests.support.engine import Party, engine_world, run, settle
from tests.support.relayed import homes_of
from tests.uplink.test_sealed import Meeting, meeting_in, met, without_records


async def compare(who: Party, room: str | None = None) -> t.RoomCompared:
    return await who.ask("room.verify", t.CompareRoom(room=room), t.RoomCompared)


async def at_the_relay(served: Engine, room: str) -> t.RoomCompared:
    """The same of the copy that the room's home has, for which no operation asks."""
    actor = await served._desk.rooms.get(RoomId(room))
    return compared_of(actor.aggregate, "local")


def test_every_member_and_the_home_of_a_sealed_room_have_the_same_characters(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            hers, his = await compare(meeting.alice), await compare(meeting.bob, "auth-redesign")
            assert hers == his
            assert [len(group) for group in hers.characters.split("-")] == [4] * 5
            assert (hers.room, hers.name, hers.epoch) == (meeting.opened.room, "auth-redesign", 2)
            assert [(each.name, each.owner) for each in hers.readers] == [("alice", True), ("bob", False)]
            assert len({each.principal for each in hers.readers}) == 2
            own = [await who.ask("agent.whoami", t.WhoAmI(), t.Me) for who in (meeting.alice, meeting.bob)]
            assert [each.fingerprint for each in hers.readers] == [me.fingerprint for me in own]
            assert (hers.notice, hers.alarm, hers.key_change_since) == ("", "", msgspec.UNSET)
            relay = await at_the_relay(meeting.relay_served, meeting.opened.room)
            assert (relay.characters, relay.epoch, relay.since) == (hers.characters, hers.epoch, hers.since)
            # What is said changes nothing: the characters are those of the keys.
            await meeting.alice.send("hello")
            assert await meeting.bob.read() == ["hello"]
            assert await compare(meeting.bob) == his
            # To the person at their own shell the room is that of their agents.
            assert await compare(await meeting.bob_served.person()) == his

    run(main)


def test_the_characters_differ_while_somebody_has_not_seen_the_newest_record(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            before = await compare(meeting.bob)
            wires.cut_off("ben")
            await settle()
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            hers, his = await compare(meeting.alice), await compare(meeting.bob)
            assert his.characters == before.characters
            assert hers.characters != his.characters
            assert (hers.epoch, his.epoch) == (3, 2)
            assert isinstance(his.silent_since, int)
            assert "the keys may have changed meanwhile" in his.notice
            assert (await compare(carol)).characters == hers.characters
            wires.bring_back("ben")
            await trio.sleep(90)
            await settle()
            assert await compare(meeting.bob) == hers

    run(main)


def test_while_a_key_change_is_pending_that_is_said_and_the_characters_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            meeting.bob, bert = await ben.agent("bob"), await ben.agent("bert")
            meeting.alice = await ann.agent("alice")
            meeting.opened = await meeting.alice.open("open house", "Come in.", approval=False)
            await meeting.bob.come_in(meeting.opened.session_key)
            before = await compare(meeting.bob)
            assert before == await compare(meeting.alice)
            with without_records(meeting.ann, monkeypatch):
                assert (await bert.join(meeting.opened.session_key)).status == "joined"
                # Bert is in, and no record holds him until the machine of the owner makes one.
                his = await compare(meeting.bob)
                assert his.characters == before.characters
                assert [each.name for each in his.readers] == ["alice", "bob"]
                assert isinstance(his.key_change_since, int)
                assert "Key change pending since" in his.notice
                assert "bert cannot read what is said" in his.notice
            await trio.sleep(30)
            await settle()
            hers, his = await compare(meeting.alice), await compare(meeting.bob)
            assert hers == his
            assert hers.characters != before.characters
            assert (his.notice, his.key_change_since) == ("", msgspec.UNSET)

    run(main)


def test_who_waits_for_a_record_where_nobody_reads_is_told_of_none_and_compares_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await meeting.alice.open("open house", "Come in.", approval=False)
            with without_records(meeting.ann, monkeypatch):
                assert (await meeting.bob.join(meeting.opened.session_key)).status == "joined"
                assert (await meeting.bob.refused("room.verify", t.CompareRoom())).code == "not_sealed_in"
            await trio.sleep(30)
            await settle()
            assert await compare(meeting.bob) == await compare(meeting.alice)

    run(main)


def test_a_room_in_clear_has_nothing_to_compare(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann:
            alice = await ann.agent("alice")
            opened = await alice.open("in clear", clear=True)
            error = await alice.refused("room.verify", t.CompareRoom(room=opened.room))
            assert error.code == "not_sealed"
            assert "open another one on a relay" in error.hint

    run(main)


def test_of_a_room_that_one_is_not_in_nothing_is_compared(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = meeting.opened.room
            stranger = await meeting.bob_served.agent("stranger")
            assert (await stranger.refused("room.verify", t.CompareRoom(room="elsewhere"))).code == "no_such_room"
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            await settle()
            assert (await meeting.bob.refused("room.verify", t.CompareRoom(room=room))).code == "no_such_room"
            assert [each.name for each in (await compare(meeting.alice)).readers] == ["alice"]

    run(main)


def test_no_tool_of_an_agent_shows_what_people_compare() -> None:
    """An agent that was talked into something could show its person other characters."""

    async def main() -> None:
        async with engine_world() as served:
            window = await served.window("w")
            await window.open()
            assert (await window.refused("room.verify", t.CompareRoom())).code == "person_only"

    run(main)
