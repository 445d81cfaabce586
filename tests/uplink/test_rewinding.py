"""A room goes on after its relay lost the newest part of it, once the person who opened the room says so."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.errors import ERRORS
from parlerd.core.model import MessageId, Position, RoomId
from parlerd.engine.reading import ERASED
from parlerd.operations import types as t
from parlerd.settings import Settings
from tests.engine.test_notices import notice
from tests.support.engine import Party, Served, run, texts
from tests.uplink.test_relayed import Meeting, meeting_in, met_before

ROLLED_BACK = ERRORS["relay_rolled_back"]


async def rewind(home: Served, room: str, *, confirmed: bool = True) -> t.RewoundRoom:
    person = await home.person()
    return await person.ask("room.rewind", t.RewindRoom(room=room, confirmed=confirmed), t.RewoundRoom)


async def history(party: Party, room: str) -> list[tuple[int, str, bool]]:
    """All that this reader may see of the room: its numbers, the words, and whether the relay has lost them."""
    found: list[t.Message] = []
    more = True
    while more:
        page = await party.recv(room=room, since=found[-1].seq if found else 0)
        found += page.messages
        more = page.more
    return [(each.seq, each.text, each.lost is True) for each in found]


def test_a_room_goes_on_without_what_its_relay_lost_and_everybody_sees_what_that_was(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _ben):
            alice, bob, relay, room = meeting.alice, meeting.bob, meeting.relay, meeting.opened.room
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await alice.send("lost of alice")
                await bob.send("lost of bob")
                await bob.send("another of bob")
                assert await alice.read(wait=60) == ["lost of bob", "another of bob"]
                assert await bob.read(wait=60) == ["lost of alice"]
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                for party in (alice, bob):
                    refused = await party.refused("message.send", t.Send(text="no", room=room))
                    assert refused.code == ROLLED_BACK.code
                asked = await rewind(ann, room, confirmed=False)
                assert (asked.status, asked.newest) == ("asked", "alice")
                assert {each.author: each.messages for each in asked.lost} == {"alice": 1, "bob": 2}
                assert (await rewind(ann, room)).status == "rewound"
                assert (await rewind(ann, room)).status == "nothing"
                told = [
                    (1, "Chose PKCE.", False),
                    (2, "before", False),
                    (3, "lost of alice", True),
                    (4, "lost of bob", True),
                    (5, "another of bob", True),
                ]
                for party in (alice, bob):
                    assert await history(party, room) == told
                sent = await alice.send("after")
                assert not sent.queued
                assert sent.seq == 6
                assert await bob.read(wait=60) == ["after"]
                answer = await bob.send("on it", reply_to=sent.id)
                assert (answer.queued, answer.seq) == (False, 7)
                assert await alice.read(wait=60) == ["on it"]
                told += [(6, "after", False), (7, "on it", False)]
                for party in (alice, bob):
                    assert await history(party, room) == told
                    listed = await party.ask("rooms.list", t.ListRooms(), t.RoomList)
                    assert [each.alarm for each in listed.rooms] == [""]

    run(main)


async def lose(meeting: Meeting, *said: str) -> None:
    """These words of alice are said on the relay, which then has an older copy in their place, and runs no more."""
    copy = meeting.relay.copied()
    async with meeting.relay.serving():
        await trio.sleep(120)
        for each in said:
            await meeting.alice.send(each)
        assert await meeting.bob.read(wait=60) == list(said)
    meeting.relay.store = copy


async def talk(meeting: Meeting, *words: str) -> None:
    """These words go to and fro, at once and in this order."""
    parties = [meeting.alice, meeting.bob]
    for each in words:
        speaker, reader = parties
        assert not (await speaker.send(each)).queued
        assert await reader.read(wait=60) == [each]
        parties.reverse()


def test_whoever_was_away_when_a_room_was_rewound_goes_on_too_and_so_does_what_waits_to_be_sent(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _ben):
            alice, bob, relay, wires, room = (
                meeting.alice,
                meeting.bob,
                meeting.relay,
                meeting.wires,
                meeting.opened.room,
            )
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await alice.send("lost of alice")
                await bob.send("lost of bob")
                assert await alice.read(wait=60) == ["lost of bob"]
                assert await bob.read(wait=60) == ["lost of alice"]
            # What follows in bob's thread names an envelope that no relay has, and what he was shown is gone there.
            wires.cut_off("ben")
            assert (await bob.send("waits")).queued
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert (await rewind(ann, room)).status == "rewound"
                assert not (await alice.send("after")).queued
                wires.bring_back("ben")
                await trio.sleep(120)
                assert await bob.read(wait=60) == ["after"]
                assert await alice.read(wait=60) == ["waits"]
                assert await history(bob, room) == [
                    (1, "Chose PKCE.", False),
                    (2, "before", False),
                    (3, "lost of alice", True),
                    (4, "lost of bob", True),
                    (5, "after", False),
                    (6, "waits", False),
                ]
                await talk(meeting, "one", "two", "three")

    run(main)


def test_whoever_comes_into_a_room_that_was_rewound_is_shown_it_without_what_was_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            await lose(meeting, "lost")
            room, person = meeting.opened.room, await ann.person()
            bea = await ben.agent("bea")
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert (await rewind(ann, room)).status == "rewound"
                await talk(meeting, "one", "two")
                await person.approve("bea", join_code=(await bea.join(meeting.opened.session_key)).join_code)
                await bea.come_in(meeting.opened.session_key)
                await bea.send("hello")
                assert await meeting.alice.read(wait=60) == ["hello"]
                assert [text for _, text, _ in await history(bea, room)][-3:] == ["one", "two", "hello"]

    run(main)


def test_whoever_came_in_after_the_copy_is_out_after_the_rewind_and_may_come_in_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            relay, room, key = meeting.relay, meeting.opened.room, meeting.opened.session_key
            copy = relay.copied()
            person, bea = await ann.person(), await ben.agent("bea")
            async with relay.serving():
                await trio.sleep(120)
                await person.approve("bea", join_code=(await bea.join(key)).join_code)
                await bea.come_in(key)
                await bea.send("lost of bea")
                for party in (meeting.alice, meeting.bob):
                    assert await party.read(wait=60) == ["lost of bea"]
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert (await rewind(ann, room)).status == "rewound"
                await talk(meeting, "after")
                assert (await bea.refused("message.send", t.Send(text="no"))).code == "no_active_session"
                assert "bea" not in {
                    member.name for member in (await meeting.alice.roster()).values() if member.state == "in"
                }
                await person.approve("bea", join_code=(await bea.join(key)).join_code)
                await bea.come_in(key)
                assert not (await bea.send("here again")).queued
                for party in (meeting.alice, meeting.bob):
                    assert await party.read(wait=60) == ["here again"]
                await talk(meeting, "one")
                assert (await bea.read(wait=60))[-1:] == ["one"]

    run(main)


def test_private_words_that_the_owner_never_saw_are_lost_for_those_who_did(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            relay, room, key, bob = meeting.relay, meeting.opened.room, meeting.opened.session_key, meeting.bob
            person, bea = await ann.person(), await ben.agent("bea")
            async with relay.serving():
                await trio.sleep(120)
                await person.approve("bea", join_code=(await bea.join(key)).join_code)
                await bea.come_in(key)
                await bob.send("kept between us", visible_to=("bea",))
                assert (await bea.read(wait=60))[-1:] == ["kept between us"]
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await bob.send("lost between us", visible_to=("bea",))
                assert await bea.read(wait=60) == ["lost between us"]
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert (await bob.refused("message.send", t.Send(text="no", room=room))).code == ROLLED_BACK.code
                assert not (await meeting.alice.send("nothing is missing here")).queued
                done = await rewind(ann, room)
                assert (done.status, done.lost, done.newest) == ("rewound", [], "alice")
                await trio.sleep(1)
                # While the room of bob's machine waited for the rewind it took nothing in, so its log leaves this out.
                assert await history(bob, room) == [
                    (1, "Chose PKCE.", False),
                    (2, "before", False),
                    (3, "kept between us", False),
                    (4, "lost between us", True),
                    (5, "nothing is missing here", False),
                ]
                await bob.send("between us again", visible_to=("bea",))
                assert (await bea.read(wait=60))[-1:] == ["between us again"]
                await talk(meeting, "one", "two")

    run(main)


@pytest.mark.parametrize("restarts", [False, True], ids=["runs", "restarts"])
@pytest.mark.parametrize("to", ["after the first", "before the first", "forward again"])
def test_a_relay_may_lose_a_room_a_second_time(tmp_path: Path, to: str, restarts: bool) -> None:
    """After the first rewind the relay gets a copy of after it; or one of before it; or the very store that was lost,
    in which the lost messages are again."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        relay = meeting.relay
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with relay.serving():
                await meeting.meet(ann, ben)
                await talk(meeting, "1", "2")
            before = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await talk(meeting, "3", "4")
            newest = relay.copied()
            relay.store = relay.copied() if to == "nowhere" else before
            before = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                assert (await rewind(ann, meeting.opened.room)).status == "rewound"
                await talk(meeting, "5", "6")
            copies = {"after the first": relay.copied(), "before the first": before, "forward again": newest}
            async with relay.serving():
                await trio.sleep(120)
                await talk(meeting, "7", "8")
            relay.store = copies[to]
            room = meeting.opened.room
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.again(ann, ben)
            async with relay.serving():
                await trio.sleep(120)
                assert (
                    await meeting.bob.refused("message.send", t.Send(text="no", room=room))
                ).code == ROLLED_BACK.code
                assert (await rewind(ann, room)).status == "rewound"
                await trio.sleep(60)
                await talk(meeting, "9", "10")
                lost = {
                    "after the first": ["3", "4", "7", "8"],
                    "before the first": ["3", "4", "5", "6", "7", "8"],
                    "forward again": ["5", "6", "7", "8"],
                }[to]
                for party in (meeting.alice, meeting.bob):
                    told = await history(party, room)
                    assert [text for _, text, _ in told] == ["Chose PKCE.", *map(str, range(1, 11))]
                    assert [seq for seq, _, _ in told] == list(range(1, 12))
                    assert [text for _, text, is_lost in told if is_lost] == lost

    run(main)


def test_a_rewind_of_a_healthy_room_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _ben), meeting.relay.serving():
            await trio.sleep(120)
            await talk(meeting, "one")
            done = await rewind(ann, meeting.opened.room)
            assert (done.status, done.lost) == ("rewound", [])
            await talk(meeting, "two", "three")
            for party in (meeting.alice, meeting.bob):
                told = await history(party, meeting.opened.room)
                assert told == [
                    (n, text, False) for n, text in enumerate(["Chose PKCE.", "before", "one", "two", "three"], 1)
                ]

    run(main)


def test_only_the_person_whose_agent_opened_the_room_rewinds_it_and_only_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            await lose(meeting, "lost")
            room = meeting.opened.room
            asked = t.RewindRoom(room=room, confirmed=True)
            person = await ann.person()
            here = await (await ann.agent("ada")).open("a room of this machine", "Chose cookies.", home="local")
            assert (await person.refused("room.rewind", asked)).code == "offline"
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert (await (await ann.window("w")).refused("room.rewind", asked)).code == "person_only"
                assert (await (await ben.person()).refused("room.rewind", asked)).code == "not_owner"
                none = t.RewindRoom(room="nowhere")
                assert (await person.refused("room.rewind", none)).code == "no_such_room"
                assert (await person.refused("room.rewind", t.RewindRoom(room=here.room))).code == "room_is_here"
                assert (await rewind(ann, room)).status == "rewound"

    run(main)


def test_readers_and_authors_are_told_what_was_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            alice, bob, relay, room = meeting.alice, meeting.bob, meeting.relay, meeting.opened.room
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                lost = await alice.send("lost of alice")
                await alice.send("another of alice")
                assert len(await bob.read(wait=60)) == 2
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert "lost" not in await notice(ann, alice)
                await rewind(ann, room)
                assert "the relay of 'auth-redesign' lost 2 messages of yours" in await notice(ann, alice)
                assert "lost" not in await notice(ann, alice)
                [ladder] = (await alice.ask("message.why", t.Why(id=lost.id), t.WhyResult)).readers
                assert (ladder.name, ladder.stopped) == ("bob", "lost by the relay")
                await trio.sleep(1)
                assert "lost" not in await notice(ben, bob)
                said = "The relay of this session was restored from an older copy."
                assert (await bob.recv(room=room)).notice.startswith(said)
                await alice.send("after")
                page = await bob.recv(room=room, wait=60)
                assert (texts(page), page.notice.startswith(said)) == (["after"], True)
                await bob.ask("message.commit", t.Commit(cursor=page.cursor, room=room), t.Committed)
                assert (await bob.recv(room=room)).notice == ""

    run(main)


def test_what_a_relay_lost_stays_here_when_the_relay_lets_other_words_go(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _):
            bob, relay, room = meeting.bob, meeting.relay, meeting.opened.room
            await lose(meeting, "lost 1", "lost 2")
            async with relay.serving():
                await trio.sleep(120)
                await rewind(ann, room)
                await talk(meeting, "a", "b", "c", "d", "e", "f")
                for party in (meeting.alice, bob):
                    while (page := await party.recv(room=room)).messages:
                        await party.commit(page)
                await trio.sleep(120)
            relay.settings = Settings(retention_room_messages=3)
            async with relay.serving():
                await trio.sleep(120)
                assert relay.store.held(RoomId(room)).messages == 3
                page = await bob.recv(room=room, since=0)
                assert texts(page) == ["Chose PKCE.", ERASED, "lost 1", "lost 2", *[ERASED] * 4, "e", "f"]
                assert page.notice.endswith("Words erased by retention or a timer (5 messages).")
                await meeting.alice.send("after")
                assert await bob.read(wait=60) == ["after"]
                assert [each.alarm for each in await bob.rooms()] == [""]

    run(main)


def test_a_session_key_that_was_revoked_after_the_copy_is_revoked_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, ben):
            relay, room, key = meeting.relay, meeting.opened.room, meeting.opened.session_key
            assert key is not None
            copy = relay.copied()
            async with relay.serving():
                await trio.sleep(120)
                await meeting.alice.ask("session.revoke", t.RevokeSessionKey(session_key=key), t.RevokedKey)
                await meeting.alice.send("lost")
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                await rewind(ann, room)
                bea = await ben.agent("bea")
                assert (await bea.refused("session.join", t.JoinSession(session_key=key))).code == "unknown_key"

    run(main)


def test_a_room_in_which_somebody_wrote_in_the_place_of_what_others_were_told_is_not_rewound(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _ben):
            alice, bob, relay, wires, room = (
                meeting.alice,
                meeting.bob,
                meeting.relay,
                meeting.wires,
                meeting.opened.room,
            )
            copy = relay.copied()
            wires.cut_off("ben")
            async with relay.serving():
                await trio.sleep(120)
                await alice.send("lost")
                await alice.send("lost too")
            relay.store = copy
            async with relay.serving():
                await trio.sleep(120)
                assert (await alice.refused("message.send", t.Send(text="no", room=room))).code == ROLLED_BACK.code
                wires.bring_back("ben")
                await trio.sleep(120)
                assert not (await bob.send("in its place")).queued
                asked = t.RewindRoom(room=room, confirmed=True)
                assert (await (await ann.person()).refused("room.rewind", asked)).code == "rewind_refused"
                assert [text for _, text, _ in await history(alice, room)][-2:] == ["lost", "lost too"]

    run(main)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_copies_are_put_in_place_what_is_marked_as_lost_is_what_the_relay_lacks(
    tmp_path: Path, seed: int
) -> None:
    """Any copy of any moment, again and again, with restarts, and with a machine that is away while the room is
    rewound. The relay's own store is the judge; and each reader's numbers go on."""
    draw = random.Random(seed)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        relay, wires, said = meeting.relay, meeting.wires, 0
        before: dict[str, list[tuple[int, str]]] = {"alice": [], "bob": []}
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.meet(ann, ben)
        room, copies = meeting.opened.room, [relay.copied()]
        for _ in range(6):
            async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
                await meeting.again(ann, ben)
                alice, bob = meeting.alice, meeting.bob
                is_away = draw.random() < 0.3
                if is_away:
                    wires.cut_off("ben")
                    said += 1
                    await bob.send(f"{said}")
                async with relay.serving():
                    await trio.sleep(120)
                    assert (await rewind(ann, room)).status in ("rewound", "nothing")
                    wires.bring_back("ben")
                    await trio.sleep(120)
                    for party, other in ((alice, "bob"), (bob, "alice")):
                        # What waits for a room of which the relay lost a part is given up, which its author is told.
                        await party.read(wait=0)
                        for _ in range(draw.randrange(3)):
                            said += 1
                            hidden = (other,) if draw.random() < 0.4 else ()
                            assert not (await party.send(f"{said}", visible_to=hidden)).queued
                    await trio.sleep(5)
                    for party, name in ((alice, "alice"), (bob, "bob")):
                        page = await party.recv(room=room, since=0)
                        assert not page.more
                        told = [(each.seq, str(each.text)) for each in page.messages]
                        assert [seq for seq, _ in told] == list(range(1, len(told) + 1))
                        assert told[: len(before[name])] == before[name]
                        before[name] = told
                        for each in page.messages:
                            there = relay.store.find_message(MessageId(each.id)) is not None
                            assert (each.lost is True) is not there, each.text
                    assert before["alice"] == before["bob"]
                copies.append(relay.copied())
                if draw.random() < 0.7:
                    relay.store = draw.choice(copies)
                    relay.store = relay.copied()

    run(main)


def test_an_old_rewind_that_is_shown_again_changes_nothing_and_a_forged_one_is_a_lie(tmp_path: Path) -> None:
    async def main() -> None:
        async with met_before(tmp_path) as (meeting, ann, _ben), meeting.relay.serving():
            await trio.sleep(120)
            room = meeting.opened.room
            assert (await rewind(ann, room)).status == "rewound"
            await talk(meeting, "one", "two")
            told = await history(meeting.bob, room)
            [place] = [
                each.header.position
                for each in meeting.relay.store.whole_facts(RoomId(room), Position(0), 100)
                if isinstance(each.header.event, e.RoomRewound)
            ]
            body, signature = meeting.relay.store.body(RoomId(room), place) or (b"", b"")
            [mirrors] = [link.mirrors for link in meeting.ben.uplinks._links.values()]
            again = t.RewindEntry(statement=body, signature=signature or b"", before={})
            assert await mirrors.take(t.LinkItem(room=room, rewound=again))
            assert await history(meeting.bob, room) == told
            await talk(meeting, "three")
            forged = msgspec.structs.replace(again, statement=body.replace(b"epoch\x01", b"epoch\x09"))
            assert forged != again
            assert not await mirrors.take(t.LinkItem(room=room, rewound=forged))
            refused = await meeting.bob.refused("message.send", t.Send(text="no", room=room))
            assert refused.code == "relay_equivocation"
            assert [text for _, text, is_lost in await history(meeting.bob, room) if is_lost] == []

    run(main)
