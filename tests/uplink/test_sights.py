"""What a reader's home knows of whether its model was shown a message, told to the room's home and to the author."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from parlerd.core.model import AgentId, MessageId, Millis, RoomId, Sighted
from parlerd.engine.following import PRESENCE_S
from parlerd.engine.sightings import LATE_MS
from parlerd.operations import types as t
from parlerd.store.port import PutSight
from parlerd.uplink.link import LOOK_S
from tests.support.engine import NOTHING, Party, Served, run
from tests.uplink.test_relayed import Meeting, meeting_in


@asynccontextmanager
async def reading(folder: Path) -> AsyncIterator[tuple[Meeting, Served, t.Sent]]:
    """Bob, on another machine than alice, has read a message of hers; his host's record is watched."""
    meeting = meeting_in(folder)
    async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
        await meeting.meet(ann, ben)
        sent = await meeting.alice.send("one")
        await meeting.bob.read()
        yield meeting, ben, sent


async def tell(served: Served, who: Party, id: str, verdict: Sighted, reason: str) -> None:
    told = t.TellSights(sights=(t.SightTold(id=id, verdict=verdict, reason=reason),))
    await served.engine.handlers["window.sighted"](who.caller, told)
    await trio.testing.wait_all_tasks_blocked()


async def sight_of(who: Party, id: str) -> t.SightSaid | msgspec.UnsetType:
    (reader,) = (await who.ask("message.why", t.Why(id=id), t.WhyResult)).readers
    assert ("shown" in [rung for rung, _ in reader.rungs]) == (
        reader.sight is not msgspec.UNSET and reader.sight.verdict in ("shown", "quoted")
    )
    return reader.sight


def test_the_author_on_another_machine_is_told_what_the_readers_record_proves(tmp_path: Path) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, ben, sent):
            alice, bob = meeting.alice, meeting.bob
            assert await sight_of(alice, sent.id) is msgspec.UNSET
            await tell(ben, bob, sent.id, "pending", "")
            assert await sight_of(alice, sent.id) is msgspec.UNSET, "what is only watched is told to nobody elsewhere"
            await tell(ben, bob, sent.id, "cut", "cut_by_host")
            found = await sight_of(alice, sent.id)
            assert found is not msgspec.UNSET
            assert (found.verdict, found.reason, found.host) == ("cut", "cut_by_host", bob.caller.facts.host)
            assert found.elsewhere, "the author sees whose word that is"
            mine = await sight_of(bob, sent.id)
            assert mine is not msgspec.UNSET
            assert not mine.elsewhere
            await tell(ben, bob, sent.id, "shown", "reply")
            found = await sight_of(alice, sent.id)
            assert found is not msgspec.UNSET
            assert (found.verdict, found.reason) == ("shown", "reply")

    run(main)


def test_what_is_known_while_the_link_is_down_is_told_when_it_is_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, ben, sent):
            meeting.wires.cut_off("ben")
            await tell(ben, meeting.bob, sent.id, "shown", "reply")
            assert await sight_of(meeting.alice, sent.id) is msgspec.UNSET
            meeting.wires.bring_back("ben")
            for _ in range(20):
                await trio.sleep(LOOK_S)
                if await sight_of(meeting.alice, sent.id) is not msgspec.UNSET:
                    break
            found = await sight_of(meeting.alice, sent.id)
            assert found is not msgspec.UNSET
            assert found.verdict == "shown"

    run(main)


@pytest.mark.parametrize("what", ["of another reader", "of its own message", "of what it may not see"])
def test_a_home_tells_of_its_own_agents_alone_and_of_what_they_may_see(tmp_path: Path, what: str) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, ben, sent):
            bob, alice = await meeting.bob.whoami(), await meeting.alice.whoami()
            id, agent = sent.id, bob.id
            if what == "of another reader":
                agent = alice.id
            elif what == "of its own message":
                id = (await meeting.bob.send("two")).id
            else:
                id = (await meeting.alice.send("for me", visible_to=[alice.id])).id
            word = t.SightAtRoom(
                room=meeting.opened.room, agent=agent, id=id, verdict="shown", reason="reply", host="codex"
            )
            handle = await ben.engine.desk.rooms.get(RoomId(meeting.opened.room))
            handle.tell_sights([word])
            await trio.sleep(2 * LOOK_S)
            place = meeting.relay.store.find_message(MessageId(id))
            assert place is not None
            assert meeting.relay.store.sights(*place) == []
            # The same word is taken of a message that this reader was given.
            handle.tell_sights([msgspec.structs.replace(word, agent=bob.id, id=sent.id)])
            await trio.sleep(2 * LOOK_S)
            place = meeting.relay.store.find_message(MessageId(sent.id))
            assert place is not None
            assert [row.verdict for row in meeting.relay.store.sights(*place)] == ["shown"]

    run(main)


def test_an_author_elsewhere_has_the_same_notice_as_one_here(tmp_path: Path) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, ben, sent):
            alice = meeting.alice
            window = await meeting.ann_served.window("again", as_name="alice")
            await window.whoami()

            async def notice() -> str:
                return (await window.ask("window.notice", NOTHING, t.Notice)).line

            await tell(ben, meeting.bob, sent.id, "summarised", "compacted")
            other = await alice.send("two")
            await meeting.bob.read()
            await tell(ben, meeting.bob, other.id, "cut", "cut_by_host")
            await tell(ben, meeting.bob, other.id, "shown", "reply")
            await trio.sleep(2 * PRESENCE_S)
            assert "no model" not in await notice()
            meeting.ann.world.clock.move(seconds=LATE_MS / 1000)
            line = await notice()
            assert line.count("no model is known to have been shown your #") == 1, line
            assert "as the reader's own machine says" in line
            assert "no model" not in await notice(), "it is said once"

    run(main)


@pytest.mark.parametrize("of", ["the author", "nobody", "one who may not see it", "bob"])
def test_a_relay_says_nothing_of_this_homes_agents_nor_of_those_who_may_not_see_a_message(
    tmp_path: Path, of: str
) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, _, sent):
            alice, bob, id = await meeting.alice.whoami(), await meeting.bob.whoami(), sent.id
            reader = {"the author": alice.id, "nobody": "U" + "A" * 55}.get(of, bob.id)
            if of == "one who may not see it":
                id = (await meeting.alice.send("for me", visible_to=[alice.id])).id
            said = t.SightSaid(verdict="not_shown", reason="failed_request", host="codex", at=1)
            [link] = meeting.ann.uplinks._links.values()
            word = t.SightOnMessage(id=id, agent=reader, sight=said)
            await link.mirrors.take(t.LinkItem(room=RoomId(meeting.opened.room), sights=[word]))
            desk = meeting.ann_served.engine.desk
            found = desk.sightings.unshown(AgentId(alice.id), Millis(desk.clock.now() + LATE_MS))
            assert [each.word.reader for each in found] == ([bob.id] if of == "bob" else [])

    run(main)


def word_on(meeting: Meeting, reader: str, id: str, verdict: Sighted, reason: str) -> t.SightAtRoom:
    return t.SightAtRoom(room=meeting.opened.room, agent=reader, id=id, verdict=verdict, reason=reason, host="codex")


def kept(meeting: Meeting, id: str) -> list[tuple[str, str]]:
    """What the relay has on its disk of this message's readers."""
    place = meeting.relay.store.find_message(MessageId(id))
    assert place is not None
    return [(row.verdict, row.reason) for row in meeting.relay.store.sights(*place)]


@pytest.mark.parametrize("together", [True, False])
def test_no_later_word_of_another_home_takes_back_what_was_proved(tmp_path: Path, together: bool) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, _, sent):
            bob, alice = await meeting.bob.whoami(), await meeting.alice.whoami()
            [link] = meeting.ben.uplinks._links.values()
            calls = link.calls
            assert calls is not None
            said: list[tuple[Sighted, str]] = [
                ("pending", ""),
                ("not_shown", "failed_request"),
                ("unknown", "timeout"),
                ("shown", "reply"),
                ("cut", "cut_by_host"),
                ("unknown", "restarted"),
                ("pending", ""),
            ]
            words = [word_on(meeting, bob.id, sent.id, *each) for each in said]
            for batch in [words] if together else [[word] for word in words]:
                await calls.call("link.sighted", t.TellSightsAtRoom(sights=tuple(batch)), 10)
            assert kept(meeting, sent.id) == [("shown", "reply")]
            await trio.sleep(2 * PRESENCE_S)
            desk = meeting.ann_served.engine.desk
            assert desk.sightings.unshown(AgentId(alice.id), Millis(desk.clock.now() + 2 * LATE_MS)) == []

    run(main)


@pytest.mark.parametrize("reason", ["timeout", "quoted", ""])
def test_a_home_that_says_shown_without_a_proof_is_not_believed(tmp_path: Path, reason: str) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, ben, sent):
            bob = await meeting.bob.whoami()
            handle = await ben.engine.desk.rooms.get(RoomId(meeting.opened.room))
            handle.tell_sights([word_on(meeting, bob.id, sent.id, "shown", reason)])
            await trio.sleep(2 * LOOK_S)
            assert kept(meeting, sent.id) == [("unknown", "")]
            handle.tell_sights([word_on(meeting, bob.id, sent.id, "shown", "reply")])
            await trio.sleep(2 * LOOK_S)
            assert kept(meeting, sent.id) == [("shown", "reply")]

    run(main)


def test_what_the_home_of_a_room_watched_before_it_was_restarted_is_unknown_to_another_home(tmp_path: Path) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, _, sent):
            bob, store = await meeting.bob.whoami(), meeting.relay.store
            place = store.find_message(MessageId(sent.id))
            assert place is not None
            row = PutSight(place[0], AgentId(bob.id), place[1], "pending", "", "codex", Millis(1))
            store.transact([[row]])
            found = await sight_of(meeting.alice, sent.id)
            assert found is not msgspec.UNSET
            assert (found.verdict, found.reason) == ("unknown", "restarted")

    run(main)


def test_what_a_relay_says_of_one_reader_after_the_proof_of_another_is_no_news(tmp_path: Path) -> None:
    async def main() -> None:
        async with reading(tmp_path) as (meeting, _, sent):
            alice, bob = await meeting.alice.whoami(), await meeting.bob.whoami()
            [link] = meeting.ann.uplinks._links.values()
            said: list[tuple[Sighted, str]] = [("pending", ""), ("shown", "reply"), ("not_shown", "failed_request")]
            for verdict, reason in said:
                sight = t.SightSaid(verdict=verdict, reason=reason, host="codex", at=1)
                word = t.SightOnMessage(id=sent.id, agent=bob.id, sight=sight)
                await link.mirrors.take(t.LinkItem(room=RoomId(meeting.opened.room), sights=[word]))
                desk = meeting.ann_served.engine.desk
                assert desk.sightings.unshown(AgentId(alice.id), Millis(desk.clock.now() + LATE_MS)) == []

    run(main)
