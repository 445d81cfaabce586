"""Direct rooms of two machines, which their relay carries and cannot read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core.epoch_record import Added, EpochCard
from parlerd.core.errors import Refused
from parlerd.core.model import AgentId, By, Millis, PrincipalId, RoomId
from parlerd.core.room import Room
from parlerd.core.statements import NONCE, KnockStatement, SealingKey, check, encode
from parlerd.engine import cards
from parlerd.engine.callers import Caller
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.uplink.lanes import mirror_of
from parlerd.uplink.secrets import FRESH_MS
from tests.support.directs import of_before
from tests.support.engine import Party, Served, run, settle, texts
from tests.support.faces import PassingFace
from tests.support.relayed import Home
from tests.uplink.test_directs import carded, ids, link_of, not_to, opening, to, two
from tests.uplink.test_relayed import Meeting, meeting_in
from tests.uplink.test_sealed import everything, spelled
from tests.uplink.test_sealed import meeting_in as session_in
from tests.uplink.test_sealed_lies import entries_of, entry

GRANTED = AgentId("T" + "A" * 52)


async def mirror(home: Home, room: str) -> Room:
    return await (await mirror_of(home.uplinks._desk, RoomId(room))).quiet()


async def held(home: Home, room: str) -> set[AgentId]:
    """Whom the record in force holds, as this home has the room."""
    return set((await mirror(home, room)).state.epochs.roster)


async def is_clear(who: Party, room: str) -> bool:
    [found] = [each for each in await who.rooms() if each.room == room]
    return not found.sealed


async def record_of(home: Home, room: str) -> int:
    """The number of the record that is in force, as this home has the room."""
    return (await mirror(home, room)).state.epochs.number


def test_whoever_was_away_reads_what_was_sealed_for_it_while_the_author_is_off(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ben.serving() as ben:
                await carded(ben, "bob")
            async with meeting.ann.serving() as ann:
                alice = await carded(ann, "alice")
                sent = await to(alice, "bob", "the code word is marlin")
                assert (sent.awaits, sent.queued) == ("bob", False)
                assert len(await held(meeting.ann, sent.room)) == 2
                assert not await is_clear(alice, sent.room)
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await trio.sleep(30)
                assert texts(await bob.recv()) == ["the code word is marlin"]
                answer = await to(bob, "alice", "marlin it is")
                assert (answer.room, answer.queued) == (sent.room, False)
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                await alice.whoami()
                await trio.sleep(30)
                assert texts(await alice.recv()) == ["marlin it is"]
                assert await record_of(meeting.ann, sent.room) == 1
            for said in ("marlin", "dm/alice"):
                assert not any(form in everything(meeting.relay.store) for form in spelled(said))

    run(main)


def test_two_who_are_there_talk_at_once_and_nobody_waits_for_a_record(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            sent = await to(alice, "bob", "one")
            assert texts(await bob.recv()) == ["one"]
            await to(bob, "alice", "two")
            assert texts(await alice.recv()) == ["two"]
            both = set(await ids(alice, bob))
            assert await held(meeting.ann, sent.room) == await held(meeting.ben, sent.room) == both
            for who in (alice, bob):
                shown = await who.ask("rooms.roster", t.Roster(room=sent.room), t.RosterResult)
                assert shown.sealed
                assert shown.notice == ""
            words = [
                await who.ask("room.verify", t.CompareRoom(room=sent.room), t.RoomCompared) for who in (alice, bob)
            ]
            assert words[0].characters == words[1].characters
            assert await record_of(meeting.ann, sent.room) == 1

    run(main)


def test_a_room_in_clear_that_two_have_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            with of_before(monkeypatch):
                sent = await to(alice, "bob", "one")
            for who, other in ((bob, "alice"), (alice, "bob")):
                assert (await to(who, other, "two")).room == sent.room
                assert await is_clear(who, sent.room)
            await alice.ask("session.close", t.CloseSession(room=sent.room), t.ClosedSession)
            await settle()
            after = await to(bob, "alice", "three")
            assert after.room != sent.room
            assert not await is_clear(bob, after.room)
            assert texts(await alice.recv(room=after.room)) == ["three"]

    run(main)


# -- without a key ------------------------------------------------------------------------------------------


class _Shown(PassingFace):
    """A relay that shows another key than it was told."""

    shows: Callable[[t.DirectKeyOf], t.DirectKeyOf] = staticmethod(lambda told: t.DirectKeyOf())

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        answer = await super().call(op, params, caller)
        return self.shows(answer) if isinstance(answer, t.DirectKeyOf) else answer


def showing(shows: Callable[[t.DirectKeyOf], t.DirectKeyOf]) -> type[_Shown]:
    return type("_Shown", (_Shown,), {"shows": staticmethod(shows)})


def test_without_a_key_the_message_waits_until_both_machines_were_there_and_whoever_asks_is_told(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = _Shown
        async with meeting.relay.serving():
            async with meeting.ben.serving() as ben:
                await carded(ben, "bob")
            async with meeting.ann.serving() as ann:
                alice = await carded(ann, "alice")
                sent = await to(alice, "bob", "one")
                assert (sent.awaits, sent.needs_both) == ("bob", True)
                assert await held(meeting.ann, sent.room) == set(await ids(alice))
                [reader] = (await alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)).readers
                assert reader.stopped == "not in the room yet; it reads this once both machines were connected"
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await trio.sleep(30)
                assert texts(await bob.recv(room=sent.room)) == []
                shown = await bob.ask("rooms.roster", t.Roster(room=sent.room), t.RosterResult)
                assert "cannot read what is said" in shown.notice
                async with meeting.ann.serving() as ann:
                    alice = await ann.agent("alice")
                    await alice.whoami()
                    await trio.sleep(30)
                    assert await record_of(meeting.ann, sent.room) == 2
                    assert texts(await bob.recv(room=sent.room, all=True)) == ["one"]
                    await to(bob, "alice", "two")
                    assert texts(await alice.recv(room=sent.room)) == ["two"]

    run(main)


def test_in_a_room_of_two_nobody_only_asks_for_work_whatever_the_relay_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = _Shown
        honest = cards._member_entry

        def lying(room: Room, stood: Any, bodies: Any) -> t.MemberEntry:
            return msgspec.structs.replace(honest(room, stood, bodies), role="requester")

        monkeypatch.setattr(cards, "_member_entry", lying)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            bob, alice = await carded(ben, "bob"), await carded(ann, "alice")
            sent = await to(alice, "bob", "one")
            await trio.sleep(120)
            assert await record_of(meeting.ann, sent.room) == 2
            assert texts(await bob.recv(room=sent.room, all=True)) == ["one"]

    run(main)


def _low(told: t.DirectKeyOf) -> t.DirectKeyOf:
    statement = msgspec.structs.replace(check(told.statement, SealingKey), key=bytes(32))
    return msgspec.structs.replace(told, statement=encode(statement))


LIES: dict[str, Callable[[t.DirectKeyOf], t.DirectKeyOf]] = {
    "with another signature": lambda told: msgspec.structs.replace(told, signature=told.signature[::-1]),
    "of low order": _low,
    "without a delegation": lambda told: msgspec.structs.replace(told, delegation=b"", delegation_signature=bytes(64)),
    "that is none": lambda told: msgspec.structs.replace(told, statement=b"\x80"),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_key_that_the_agent_did_not_sign_is_used_for_nothing(
    tmp_path: Path, lie: Callable[[t.DirectKeyOf], t.DirectKeyOf]
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        meeting.relay.face = showing(lie)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            sent = await to(alice, "bob", "one")
            assert await first_of(meeting.ann, sent.room) == set(await ids(alice))
            await trio.sleep(30)
            assert texts(await bob.recv(room=sent.room)) == ["one"]

    run(main)


async def first_of(home: Home, room: str) -> set[AgentId]:
    """Whom the first record of a room holds."""
    state = (await mirror(home, room)).state
    [at] = [at for number, at in state.epochs.turned if number == 1]
    body = await home.uplinks._desk.library.body(RoomId(room), at)
    assert body is not None
    record = msgspec.msgpack.decode(msgspec.msgpack.decode(body)[0])
    return {AgentId(each[0]) for each in record["added"]}


def test_the_key_of_another_agent_of_the_same_person_is_used_for_nothing(tmp_path: Path) -> None:
    """A relay that works together with an agent at the other machine gets nothing for it."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        others: list[t.DirectKeyOf] = []
        meeting.relay.face = showing(lambda told: others[0] if others else told)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob, carol = await carded(ann, "alice"), await carded(ben, "bob"), await carded(ben, "carol")
            me, hers = await ids(alice, carol)
            asked = t.AskDirectKey(agent=me, of=hers)
            others.append(await link_of(meeting.ann).call("link.direct_key_of", asked, by=me))
            sent = await to(alice, "bob", "one")
            assert await first_of(meeting.ann, sent.room) == {me}
            await trio.sleep(30)
            assert texts(await bob.recv(room=sent.room)) == ["one"]

    run(main)


def test_a_key_of_before_is_used_for_nothing_where_a_later_one_is_known(tmp_path: Path) -> None:
    async def main() -> None:
        meeting, old = session_in(tmp_path), list[t.DirectKeyOf]()
        meeting.relay.face = showing(lambda told: old[0] if old else told)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            me, other = await ids(meeting.alice, meeting.bob)
            asked = t.AskDirectKey(agent=me, of=other)
            old.append(await link_of(meeting.ann).call("link.direct_key_of", asked, by=me))
            meeting.relay.clock.move(seconds=FRESH_MS / 1000)
            await trio.sleep(60)
            told = (await meeting.room_of(meeting.ann)).state.epochs.told[other]
            assert told.counter > check(old[0].statement, SealingKey).counter
            await meeting.alice.open("notes", home="local")
            sent = await to(meeting.alice, "bob", "one")
            assert await first_of(meeting.ann, sent.room) == {me}
            await trio.sleep(30)
            assert texts(await meeting.bob.recv(room=sent.room)) == ["one"]

    run(main)


def test_whoever_lost_the_key_reads_once_the_machine_of_the_author_was_there(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ben.serving() as ben:
                bob = await carded(ben, "bob")
            async with meeting.ann.serving() as ann:
                alice = await carded(ann, "alice")
                sent = await to(alice, "bob", "one")
                assert len(await held(meeting.ann, sent.room)) == 2
            store = meeting.ben.world.store
            assert isinstance(store, MemoryStore)
            store._sealing_keys.clear()
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await trio.sleep(30)
                assert texts(await bob.recv(room=sent.room)) == []
                async with meeting.ann.serving() as ann:
                    alice = await ann.agent("alice")
                    await alice.whoami()
                    await trio.sleep(30)
                    assert texts(await bob.recv(room=sent.room, all=True)) == ["one"]
                    await to(bob, "alice", "two")
                    assert texts(await alice.recv(room=sent.room)) == ["two"]

    run(main)


def test_an_opener_with_a_fresh_key_of_its_own_waits_for_the_other_to_tell_one_that_it_has(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ben.serving() as ben:
                await carded(ben, "bob")
            async with meeting.ann.serving() as ann:
                alice = await carded(ann, "alice")
                # Her key is a day old when she opens the room, and she draws another one at once.
                meeting.relay.clock.move(seconds=FRESH_MS / 1000)
                sent = await to(alice, "bob", "one")
                await trio.sleep(120)
                assert await record_of(meeting.ann, sent.room) == 1
                store = meeting.ben.world.store
                assert isinstance(store, MemoryStore)
                store._sealing_keys.clear()
                async with meeting.ben.serving() as ben:
                    bob = await ben.agent("bob")
                    await bob.whoami()
                    await trio.sleep(120)
                    assert await record_of(meeting.ann, sent.room) == 2
                    assert texts(await bob.recv(room=sent.room, all=True)) == ["one"]
                    await to(bob, "alice", "two")
                    assert texts(await alice.recv(room=sent.room)) == ["two"]

    run(main)


def test_a_key_that_was_followed_by_another_opens_what_was_sealed_with_it_for_a_month(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        kept: list[t.DirectKeyOf] = []

        def first(told: t.DirectKeyOf) -> t.DirectKeyOf:
            kept.append(told)
            return kept[0]

        meeting.relay.face = showing(first)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            alice, dora = await carded(ann, "alice"), await carded(ann, "dora")
            async with meeting.ben.serving() as ben:
                bob = await carded(ben, "bob")
                await to(alice, "bob", "one")
                assert texts(await bob.recv()) == ["one"]
                meeting.relay.clock.move(seconds=FRESH_MS / 1000)
                await trio.sleep(60)
                await to(bob, "alice", "two")
                meeting.relay.clock.move(seconds=FRESH_MS / 1000)
                await trio.sleep(60)
            sent = await to(dora, "bob", "three")
            assert len(await held(meeting.ann, sent.room)) == 2
            # It comes with the key that the record holds, so it waits for nobody.
            meeting.wires.cut_off("ann")
            async with meeting.ben.serving() as ben:
                bob = await ben.agent("bob")
                await bob.whoami()
                await trio.sleep(30)
                assert texts(await bob.recv(room=sent.room)) == ["three"]
                rows = meeting.ben.world.store.sealing_keys(meeting.ben.uplinks.all()[0])
                assert len({row.counter for row in rows}) > 1

    run(main)


# -- who comes in --------------------------------------------------------------------------------------------


def test_both_write_at_once_and_have_one_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (_, ann, ben):
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            sent: list[t.Sent] = []

            async def write(who: Party, name: str) -> None:
                sent.append(await who.send(f"to {name}", to=(name,)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, alice, "bob")
                nursery.start_soon(write, bob, "alice")
            assert len({each.room for each in sent}) == 1
            await trio.sleep(30)
            for who in (alice, bob):
                assert sorted(texts(await who.recv(room=sent[0].room, all=True))) == ["to alice", "to bob"]
                assert not await is_clear(who, sent[0].room)

    run(main)


def test_whoever_left_comes_back_and_reads_what_was_written_meanwhile(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            sent = await to(alice, "bob", "one")
            await bob.ask("room.leave", t.LeaveAsMember(room=sent.room), t.MemberGone)
            await trio.sleep(30)
            assert await held(meeting.ann, sent.room) == set(await ids(alice))
            again = await to(alice, "bob", "two")
            assert again.room == sent.room
            await trio.sleep(60)
            assert texts(await bob.recv(room=sent.room, all=True)) == ["one", "two"]
            assert len(await held(meeting.ann, sent.room)) == 2

    run(main)


def test_an_agent_that_wants_to_be_asked_reads_once_its_person_agreed_though_the_author_is_off(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            bob = await carded(ben, "bob", direct="ask")
            async with meeting.ann.serving() as ann:
                alice = await carded(ann, "alice")
                sent = await to(alice, "bob", "one")
            await trio.sleep(30)
            assert await bob.rooms() == []
            await (await ben.person()).approve("alice")
            await settle()
            assert texts(await bob.recv(room=sent.room)) == ["one"]

    run(main)


def test_two_who_meet_by_a_code_have_a_sealed_room_and_go_on_in_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (_, ann, ben):
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob")
            error = await alice.refused("room.invite", t.Invite(clear=True))
            assert (error.code, error.details["param"]) == ("invalid_param", "clear")
            invited = await alice.ask("room.invite", t.Invite(), t.Invited)
            assert invited.sealed
            waits = await bob.join(invited.code)
            assert waits.status in ("pending", "joined")
            if waits.status == "pending":
                await (await ann.person()).approve("bob", join_code=waits.join_code)
                await bob.come_in(invited.code)
            assert (await to(alice, "bob", "one")).room == invited.room
            assert (await to(bob, "alice", "two")).room == invited.room
            assert texts(await alice.recv(room=invited.room)) == ["two"]

    run(main)


def test_an_agent_with_a_token_alone_is_written_to_in_no_direct_room(tmp_path: Path) -> None:
    """Its id shows that it has no key, so no relay can say so of another agent."""

    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, _):
            alice = await carded(ann, "alice")
            [me] = await ids(alice)
            record = ann.engine.rooms.home.aggregate.state.agents[me]
            link = link_of(meeting.ann)
            by = By(me, record.principal, "", "", "cli")
            with pytest.raises(Refused) as refused:
                await link._pairs.between(record, by, GRANTED, "ci", link.home, is_answer=False)
            assert (refused.value.code, refused.value.details["param"]) == ("invalid_param", "to")
            assert await alice.rooms() == []

    run(main)


def test_nobody_goes_on_in_a_room_of_two_without_the_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (_, ann, ben):
            alice, _ = await carded(ann, "alice"), await carded(ben, "bob")
            sent = await to(alice, "bob", "one")
            person, other = await ann.person(), await ben.person()
            named = t.NameSuccessor(room=sent.room, person="bob")
            error = await person.refused("room.successor", named)
            assert (error.code, error.details["param"]) == ("invalid_param", "room")
            error = await other.refused("room.continue", t.ContinueRoom(room=sent.room, without_owner=True))
            assert (error.code, error.details["param"]) == ("invalid_param", "room")

    run(main)


# -- what a relay cannot do ----------------------------------------------------------------------------------


def own_key(served: Served, home: str, agent: AgentId, counter: int = 1) -> tuple[bytes, bytes]:
    """A sealing key that an agent of this home signs, and whose private half nobody needs."""
    public = sealing.new_key(served.world.random.bytes).public
    statement = encode(
        SealingKey(home=home, agent=agent, key=public, counter=counter, at=Millis(1), nonce=bytes(NONCE))  # type: ignore[arg-type]
    )
    return statement, served.world.keys.sign(agent, "parler/sealing-key", statement)


async def other_record(meeting: Meeting, room: Room, added: list[Added]) -> t.EpochEntry:
    """A record that Ann's home signs for a room, and that adds these."""
    uplinks, state = meeting.ann.uplinks, room.state
    row = uplinks._secrets.epoch(state.room, state.epochs.record)
    assert row is not None
    made = epochs.make(
        home=state.home,
        room=state.room,
        before=epochs.Before(sealing.Epoch(row.number, row.record, row.secret), dict(state.epochs.roster)),
        added=added,
        removed=(),
        history=state.history,
        card=EpochCard(b""),
        at=room.last_at,
        random=meeting.ann.world.random.bytes,
    )
    return msgspec.structs.replace(entry(uplinks._turning.told(made)), roster=entries_of(made.roster))


@pytest.mark.parametrize("whole", [False, True], ids=["the next", "told whole"])
def test_a_record_that_holds_a_third_is_taken_in_by_neither(tmp_path: Path, whole: bool) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob, carol = await carded(ann, "alice"), await carded(ben, "bob"), await carded(ann, "carol")
            sent = await to(alice, "bob", "one")
            await bob.recv()
            room = await mirror(meeting.ann, sent.room)
            [third] = await ids(carol)
            key = own_key(ann, room.state.home, third)
            told = await other_record(
                meeting, room, [Added(third, PrincipalId(ann.world.keys.principal), "carol", *key)]
            )
            link = link_of(meeting.ben)
            card = t.Card(whole=True, home=room.state.home, epoch=told)
            item = t.LinkItem(room=sent.room, card=card) if whole else t.LinkItem(room=sent.room, epoch=told)
            await link.mirrors.take(item, link._pull)  # type: ignore[arg-type]
            assert (await mirror(meeting.ben, sent.room)).state.contradicted == "epoch"

    run(main)


async def shown_in(
    meeting: Meeting, room: Room, agent: AgentId, principal: PrincipalId, name: str, home: Home
) -> t.MemberEntry:
    """An agent of this home as a relay shows it to be in a direct room: by a knock that the agent signed, and the terms
    of the room's key."""
    [key] = room.state.keys.values()
    knock = encode(
        KnockStatement(
            home=room.state.home,
            room=room.state.room,
            ref=key.ref,
            agent=agent,
            principal=principal,
            name=name,
            host="",
            at=room.last_at,
            nonce=bytes(NONCE),
        )
    )
    terms = (await meeting.ann.uplinks._desk.library.bodies(room.state.room, [key.position]))[key.position]
    return t.MemberEntry(
        agent=agent,
        principal=principal,
        handle=name,
        host="",
        role="",
        present=True,
        joined_at=room.last_at,
        knock=knock,
        knock_signature=home.world.keys.sign(agent, "parler/knock", knock),
        terms=terms.body,
        terms_signature=terms.signature,
    )


def test_a_third_agent_comes_in_by_no_knock_of_its_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob, carol = await carded(ann, "alice"), await carded(ben, "bob"), await carded(ben, "carol")
            sent = await to(alice, "bob", "one")
            await bob.recv()
            room = await mirror(meeting.ann, sent.room)
            [third] = await ids(carol)
            theirs = PrincipalId(ben.world.keys.principal)
            member = await shown_in(meeting, room, third, theirs, "carol", meeting.ben)
            for home in (meeting.ann, meeting.ben):
                link = link_of(home)
                card = t.Card(whole=False, home=room.state.home, members=[member])
                await link.mirrors.take(t.LinkItem(room=sent.room, card=card), link._pull)  # type: ignore[arg-type]
                assert third not in (await mirror(home, sent.room)).state.members

    run(main)


def test_nobody_is_taken_in_for_another_person_than_the_record_names(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ben.serving() as ben:
                [other] = await ids(await carded(ben, "bob"))
            async with meeting.ann.serving() as ann:
                sent = await to(await carded(ann, "alice"), "bob", "one")
                room = await mirror(meeting.ann, sent.room)
                mine = PrincipalId(ann.world.keys.principal)
                member = await shown_in(meeting, room, other, mine, "bob", meeting.ben)
                link = link_of(meeting.ann)
                card = t.Card(whole=False, home=room.state.home, members=[member])
                await link.mirrors.take(t.LinkItem(room=sent.room, card=card), link._pull)  # type: ignore[arg-type]
                assert (await mirror(meeting.ann, sent.room)).state.contradicted == "member"

    run(main)


def test_a_direct_room_of_others_is_nothing_for_an_agent_that_its_opening_does_not_name(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, _, carol = await carded(ann, "alice"), await carded(ben, "bob"), await carded(ben, "carol")
            sent = await to(alice, "bob", "one")
            [third] = await ids(carol)
            link = link_of(meeting.ben)
            honest = link.call

            async def as_bob(op: str, params: Any, **rest: Any) -> Any:
                [bob] = [each for each in await held(meeting.ann, sent.room) if each != (await ids(alice))[0]]
                return await honest(op, msgspec.structs.replace(params, agent=bob), by=bob)

            link.call = as_bob  # type: ignore[method-assign]
            with pytest.raises(Refused) as refused:
                await meeting.ben.uplinks.find_direct(link.home, RoomId(sent.room), third)
            assert refused.value.code == "relay_equivocation"

    run(main)


def test_an_older_program_is_told_so_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, bob = await carded(ann, "alice"), await carded(ben, "bob", direct="ask")
            me, other = await ids(alice, bob)
            link = link_of(meeting.ann)
            _, params = await opening(ann, link, me, other, clear=True)
            with pytest.raises(Refused) as refused:
                await link.call("link.open", params, by=me)
            assert refused.value.code == "unsupported_version"
            sent = await to(alice, "bob", "one")
            with pytest.raises(Refused) as refused:
                await link_of(meeting.ben).call("link.find", t.FindKey(room=sent.room, agent=other), by=other)
            assert refused.value.code == "unsupported_version"

    run(main)


def test_a_relay_of_before_opens_no_direct_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with two(tmp_path) as (meeting, ann, ben):
            alice, _ = await carded(ann, "alice"), await carded(ben, "bob")
            calls = link_of(meeting.ann).calls
            assert calls is not None
            old = tuple(op for op in calls.welcome.operations if not op.startswith("link.direct_key"))
            calls.welcome = msgspec.structs.replace(calls.welcome, operations=old)
            error = await not_to(alice, "bob")
            assert (error.code, "--clear" in error.hint) == ("relay_older", False)

    run(main)
