"""What a sealed room remembers, from two homes: what is forgotten goes at the relay too, and versions are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import MemoryPart, TextPart
from parlerd.core.errors import ParlerError
from parlerd.core.messages import Messages
from parlerd.core.model import AgentId, By, MessageId, Position, RoomId
from parlerd.core.words import MEMORY
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.authors import Draft
from parlerd.operations import types as t
from parlerd.store.port import Store
from parlerd.uplink.composing import Composed
from parlerd.uplink.lanes import Lane, Post, mirror_of
from parlerd.uplink.walking import Pull
from tests.support.engine import Party, run, settle
from tests.support.relayed import Home, homes_of
from tests.uplink.test_sealed import Meeting, met
from tests.uplink.test_sealed_lies import page, tell


async def remember(who: Party, text: str, key: str = "", if_version: int | None = None) -> t.Fact:
    params = t.Remember(text=text, key=key or None, if_version=if_version)
    return (await who.ask("memory.remember", params, t.Remembered)).facts[0]


async def refused(who: Party, text: str, if_version: int, key: str = "deploy") -> str:
    return (await who.refused("memory.remember", t.Remember(text=text, key=key, if_version=if_version))).code


async def recalled(who: Party, query: str) -> list[str]:
    return [fact.text for fact in (await who.ask("memory.recall", t.Recall(query=query), t.Recalled)).facts]


def bodies(store: Store, room: RoomId) -> dict[str, bytes | None]:
    """What a store has of each message of a room, by the message's id."""
    facts = store.whole_facts(room, Position(0), 500)
    return {fact.header.event.id: fact.body for fact in facts if isinstance(fact.header.event, e.MessagePosted)}


def test_what_is_forgotten_is_gone_from_every_member_s_machine_and_from_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            one = await remember(meeting.alice, "the marlin is blue", "fish")
            two = await remember(meeting.alice, "the marlin is green", "fish")
            other = await remember(meeting.bob, "the herring is grey")
            kept = await remember(meeting.alice, "the marlin swims")
            await settle()
            assert await recalled(meeting.bob, "marlin") == ["the marlin swims", "the marlin is green"]
            relay = meeting.relay.store
            before = relay.held(room)
            size = sum(len(bodies(relay, room)[id] or b"") for id in (one.id, two.id))
            await meeting.alice.ask("memory.forget", t.Forget(key="fish"), t.Forgotten)
            await meeting.bob.ask("memory.forget", t.Forget(id=other.id), t.Forgotten)
            await settle()
            for store in (relay, meeting.ann.world.store, meeting.ben.world.store):
                held = bodies(store, room)
                assert [held[each.id] for each in (one, two, other)] == [None] * 3
                assert held[kept.id] is not None
            for who in (meeting.alice, meeting.bob):
                assert await recalled(who, "marlin") == ["the marlin swims"]
                assert await recalled(who, "herring") == []
            there = await (await meeting.relay_served.desk.rooms.get(room)).quiet()
            said = [fact.event for fact in relay.facts(room, Position(0), 500)]
            assert [(each.messages, each.bytes >= size) for each in said if isinstance(each, e.BodiesErased)] == [
                (2, True),
                (1, False),
            ]
            assert relay.held(room).messages == before.messages - 3 + 2
            # What is left is what was signed: nothing that is missing was taken away by somebody else.
            facts = relay.whole_facts(room, Position(0), 500)
            gone = relay.erased(room, Position(0), Position(500))
            about = Audited.of(there.state, facts[0].body)
            assert all(is_signed(fact, about, is_erased=fact.header.position in gone) for fact in facts)
            assert there.state.shown == (await meeting.room_of(meeting.ben)).state.shown
            for home in (meeting.ann, meeting.ben):
                assert not (await meeting.room_of(home)).state.contradicted

    run(main)


def test_who_joins_later_reads_nothing_of_what_was_forgotten_and_finds_what_was_not(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            await remember(meeting.alice, "the marlin is blue", "fish")
            await remember(meeting.alice, "the herring is grey", "other")
            await meeting.bob.ask("memory.remember", t.Remember(text="the cod is white"), t.Remembered)
            await meeting.alice.ask("memory.forget", t.Forget(key="fish"), t.Forgotten)
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            await settle()
            assert await recalled(carol, "marlin") == []
            assert await recalled(carol, "herring") == ["the herring is grey"]
            room = await meeting.room_of(cat)
            assert (room.state.contradicted, room.state.shown) == ("", (await meeting.room_of(meeting.ben)).state.shown)
            # Its machine lacks what was forgotten, and so cannot tell what is not there under a key.
            assert await refused(carol, "new", 0, "unheard-of") == "sealed_room"
            assert (await remember(carol, "the herring is green", "other", if_version=1)).version == 2

    run(main)


def test_what_another_wrote_is_not_forgotten_by_who_is_not_the_owner(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await remember(meeting.alice, "of Alice", "hers")
            await settle()
            assert (await meeting.bob.refused("memory.forget", t.Forget(key="hers"))).code == "not_your_fact"
            assert (await meeting.bob.refused("memory.forget", t.Forget(key="nobody-s"))).code == "no_such_fact"
            assert await recalled(meeting.bob, "hers") == ["of Alice"]

    run(main)


# -- versions ----------------------------------------------------------------------------------------------


def test_what_is_for_a_version_is_remembered_while_the_key_is_at_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            assert (await remember(meeting.alice, "blue", "deploy", if_version=0)).version == 1
            await settle()
            assert await refused(meeting.bob, "green", 0) == "version_conflict"
            assert (await remember(meeting.bob, "green", "deploy", if_version=1)).version == 2
            await settle()
            assert await refused(meeting.alice, "red", 1) == "version_conflict"
            await meeting.alice.ask("memory.forget", t.Forget(key="deploy"), t.Forgotten)
            await settle()
            assert await refused(meeting.bob, "red", 2) == "version_conflict"
            assert (await remember(meeting.bob, "red", "deploy", if_version=0)).version == 3
            await settle()
            assert await recalled(meeting.alice, "deploy") == ["red"]

    run(main)


def slow(meeting: Meeting, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the relay tells a home comes in late there."""
    (link,) = home.uplinks._links.values()
    take = link.mirrors.take

    async def late(item: t.LinkItem, pull: Pull | None = None) -> bool:
        await trio.sleep(0.5)
        return await take(item, pull)

    monkeypatch.setattr(link.mirrors, "take", late)


def test_of_two_who_want_to_be_first_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            slow(meeting, meeting.ben, monkeypatch)
            assert (await remember(meeting.alice, "blue", "deploy", if_version=0)).version == 1
            # Bob's machine has not heard of it: its first envelope says that nothing is there.
            assert await refused(meeting.bob, "green", 0) == "version_conflict"
            await settle()
            assert await recalled(meeting.alice, "deploy") == ["blue"]

    run(main)


def test_what_else_is_said_meanwhile_does_not_keep_a_version_from_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            tries: list[str] = []
            dealt_with = Lane._dealt_with

            async def noted(lane: Lane, post: Post) -> bool:
                tries.append("" if post.error is None else str(post.error.details.get("what")))
                return await dealt_with(lane, post)

            monkeypatch.setattr(Lane, "_dealt_with", noted)
            slow(meeting, meeting.ben, monkeypatch)
            await meeting.alice.send("a word")
            assert (await remember(meeting.bob, "green", "deploy", if_version=0)).version == 1
            assert tries == []
            # Another fact may be of the same key, as far as the relay knows: Bob's machine looks, and tries again.
            await remember(meeting.alice, "something else", "other")
            assert (await remember(meeting.bob, "blue", "deploy", if_version=1)).version == 2
            assert tries == ["guard"]

    run(main)


def test_a_fact_for_a_version_never_waits_and_what_forgets_does(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            one = await remember(meeting.bob, "blue", "deploy")
            await settle()
            meeting.wires.cut_off("ben")
            await settle()
            assert await refused(meeting.bob, "green", 1) == "offline"
            forgotten = await meeting.bob.ask("memory.forget", t.Forget(key="deploy"), t.Forgotten)
            assert forgotten.queued
            later = await remember(meeting.alice, "something else", "other")
            meeting.wires.bring_back("ben")
            await trio.sleep(90)
            await settle()
            held = bodies(meeting.relay.store, room)
            assert held[one.id] is None
            assert held[later.id] is not None
            assert await recalled(meeting.alice, "deploy") == []
            assert await recalled(meeting.alice, "other") == ["something else"]

    run(main)


def test_what_may_be_missing_in_several_rooms_of_a_home_that_is_silent_is_one_sentence(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            for number in range(6):
                await meeting.alice.open(f"room {number}")
            meeting.wires.cut_off("ann")
            await trio.sleep(120)
            found = await meeting.alice.ask("memory.recall", t.Recall(query="deploy"), t.Recalled)
            assert found.notice.count("Nothing was heard from") == 1
            assert found.notice.endswith(" and 2 more may be missing here.")
            assert found.notice.count("room-") + found.notice.count("auth-redesign") == 5

    run(main)


def test_what_waited_to_forget_a_key_that_another_wrote_meanwhile_takes_nothing_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            one = await remember(meeting.bob, "blue", "deploy")
            await settle()
            meeting.wires.cut_off("ben")
            await settle()
            forgotten = await meeting.bob.ask("memory.forget", t.Forget(key="deploy"), t.Forgotten)
            assert forgotten.queued
            two = await remember(meeting.alice, "green", "deploy")
            meeting.wires.bring_back("ben")
            await trio.sleep(90)
            await settle()
            held = bodies(meeting.relay.store, room)
            assert held[one.id] is not None
            assert held[two.id] is not None
            assert await recalled(meeting.bob, "deploy") == ["green"]

    run(main)


def test_who_sees_nothing_of_before_writes_for_no_version_of_what_it_never_saw(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, history="from-join") as meeting:
            await remember(meeting.alice, "blue", "deploy")
            await settle()
            assert (await remember(meeting.bob, "green", "deploy", if_version=1)).version == 2
            wires_home = Home("cat", meeting.relay, tmp_path)
            async with wires_home.serving() as third:
                carol = await third.agent("carol")
                await meeting.admit(carol, "carol")
                assert await refused(carol, "red", 0) == "sealed_room"
                assert await refused(carol, "red", 0, "unheard-of") == "sealed_room"
                await remember(meeting.alice, "violet", "deploy")
                await settle()
                assert await recalled(carol, "deploy") == ["violet"]
                assert await refused(carol, "red", 0) == "version_conflict"
                counted = (await meeting.room_of(wires_home)).state.memory.keys["deploy"].version
                assert (await remember(carol, "red", "deploy", if_version=counted)).version == counted + 1
                await settle()
                assert await recalled(meeting.alice, "deploy") == ["red"]

    run(main)


# -- a machine, and a relay, that keep to nothing ------------------------------------------------------------


async def made(
    home: Home, meeting: Meeting, command: c.PostMessage, *words: TextPart, erases: MessageId | None = None
) -> Composed:
    """What a daemon signs over its mirror as that is now, and does not send; with `erases` as one does that asks for
    the words of any message."""
    actor = await mirror_of(home.uplinks._desk, RoomId(meeting.opened.room))
    composer, state = home.uplinks._composer, actor.aggregate.state
    assert command.memory is not None
    agent = next(each.agent for each in state.members.values() if each.principal == home.world.keys.principal)
    by = By(agent, home.world.keys.principal, "", "shell", "cli")
    draft = Draft((*words, command.memory), state.shown)
    decided = await composer.decided(actor, command, by, draft)
    if erases is not None:
        decided = replace(decided, erases=(erases,))
    return composer.sign(decided, command, by, draft, {})


async def answer(home: Home, meeting: Meeting, agent: str, message: Composed) -> str:
    """With which code the relay refuses what a daemon signed; nothing where it takes it in."""
    (link,) = home.uplinks._links.values()
    params = t.PostEnvelope(
        room=meeting.opened.room, agent=agent, id=message.id, body=message.body, signature=message.signature
    )
    try:
        await link.call("link.post", params)
    except ParlerError as error:
        return error.code
    return ""


def test_the_relay_lets_only_those_words_go_that_their_author_or_the_owner_takes_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            alices, bobs = await remember(meeting.alice, "of Alice"), await remember(meeting.bob, "of Bob")
            said, task = await meeting.bob.send("not remembered"), await meeting.bob.send("a task", kind="task")
            await settle()
            bob = author_of(meeting.relay.store, bobs.id)
            command = c.PostMessage(
                kind=MEMORY,
                reply_to=MessageId(bobs.id),
                id=MessageId("m_crafted"),
                idempotency_key="k_crafted",
                fresh=True,
                memory=MemoryPart(forgets=True),
            )
            for id, code in (
                (alices.id, "not_your_fact"),
                (said.id, "envelope_refused"),
                (task.id, "envelope_refused"),
                (bobs.id, ""),
            ):
                message = await made(meeting.ben, meeting, command, erases=MessageId(id))
                assert await answer(meeting.ben, meeting, bob, message) == code
            await settle()
            held = bodies(meeting.relay.store, room)
            assert {id for id in (alices.id, said.id, task.id, bobs.id) if held[id] is None} == {bobs.id}
            assert await recalled(meeting.bob, "bob") == []
            # What the owner's person lets go may be anybody's.
            later = await remember(meeting.bob, "of Bob again", "his")
            await settle()
            await meeting.alice.ask("memory.forget", t.Forget(key="his"), t.Forgotten)
            await settle()
            assert bodies(meeting.relay.store, room)[later.id] is None

    run(main)


def author_of(store: Store, message: str) -> AgentId:
    found = store.find_message(MessageId(message))
    header = None if found is None else store.message(*found)
    assert header is not None
    return header.by.actor


def test_a_relay_that_takes_in_what_was_composed_on_an_older_state_has_lied(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            command = c.PostMessage(
                kind=MEMORY,
                id=MessageId("m_late"),
                idempotency_key="k_late",
                fresh=True,
                memory=MemoryPart(key="deploy", if_version=0),
            )
            late = await made(meeting.ann, meeting, command, TextPart("blue"))
            await remember(meeting.bob, "green", "deploy", if_version=0)
            await settle()
            room = await meeting.room_of(meeting.ben)
            room = await tell(meeting, page=page(room, room.state.owner, late))
            assert (room.state.contradicted, room.state.alarm) == ("guard", "relay_equivocation")
            assert await recalled(meeting.bob, "deploy") == ["green"]

    run(main)


def test_a_relay_and_a_member_together_take_nobody_else_s_words_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            alices = await remember(meeting.alice, "of Alice")
            bobs = await remember(meeting.bob, "of Bob")
            await settle()
            bob = author_of(meeting.relay.store, bobs.id)
            command = c.PostMessage(
                kind=MEMORY,
                reply_to=MessageId(alices.id),
                id=MessageId("m_crafted"),
                idempotency_key="k_crafted",
                fresh=True,
                memory=MemoryPart(forgets=True),
            )
            with monkeypatch.context() as patched:
                patched.setattr("parlerd.core.memory._require_right", lambda *_: None)
                message = await made(meeting.ben, meeting, command)
                # The relay takes in what it has to refuse.
                patched.setattr(Messages, "_guarded", lambda *_: ((), ()))
                assert await answer(meeting.ben, meeting, bob, message) == ""
                await settle()
            room = RoomId(meeting.opened.room)
            assert MessageId("m_crafted") in bodies(meeting.ann.world.store, room)
            assert bodies(meeting.ann.world.store, room)[alices.id] is not None
            assert await recalled(meeting.alice, "alice") == ["of Alice"]

    run(main)
