"""Sealed rooms on a relay, from two homes: who reads what, and what the relay has of it."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.envelope import Inside, TextPart, encode_inside, opened, opened_part
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import Millis, Position, RoomId
from parlerd.core.room import Room
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.engine import Engine
from parlerd.operations import types as t
from parlerd.store.memory import MemoryStore
from parlerd.store.port import EraseBodies, Store
from parlerd.uplink.asking.questions import STATE_IS_SEEN, STATE_WRITES
from parlerd.uplink.connection import LinkConnection
from parlerd.uplink.lanes import Lane, Post, mirror_of
from parlerd.uplink.link import Link
from parlerd.uplink.secrets import FRESH_MS
from parlerd.uplink.turning import USED_MS
from parlerd.uplink.walking import Pull
from tests.support.engine import Party, Served, SteppedClock, run, settle, texts
from tests.support.relayed import Home, Relay, Wires, homes_of


class Meeting:
    """Alice, of Ann's home, has a sealed session on the relay, and Bob, of Ben's home, is in it."""

    def __init__(self, wires: Wires, relay: Relay, ann: Home, ben: Home) -> None:
        self.wires, self.relay, self.ann, self.ben = wires, relay, ann, ben
        self.alice: Party
        self.bob: Party
        self.opened: t.OpenedSession
        self.ann_served: Served
        self.bob_served: Served
        self.relay_served: Engine

    async def open(self, ann: Served, ben: Served, history: str = "full") -> None:
        self.ann_served, self.bob_served = ann, ben
        self.alice, self.bob = await ann.agent("alice"), await ben.agent("bob")
        self.opened = await self.alice.open("auth redesign", "Chose PKCE.", history=history)

    async def admit(self, who: Party, name: str) -> None:
        waits = await who.join(self.opened.session_key)
        assert waits.status == "pending"
        await (await self.ann_served.person()).approve(name, join_code=waits.join_code)
        page = await who.come_in(self.opened.session_key)
        assert page.messages

    async def room_of(self, home: Home) -> Room:
        actor = await mirror_of(home.uplinks._desk, RoomId(self.opened.room))
        return await actor.quiet()


@contextmanager
def without_records(home: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a while the machine of the owner cannot make the records of its rooms."""

    async def cannot(*args: object, **changes: object) -> None:
        raise Refused("not_sealed_in")

    with monkeypatch.context() as patched:
        patched.setattr(home.uplinks._turning, "following", cannot)
        yield


def meeting_in(folder: Path) -> Meeting:
    wires, relay, home = homes_of(folder)
    return Meeting(wires, relay, home("ann"), home("ben"))


@asynccontextmanager
async def met(folder: Path, history: str = "full") -> AsyncIterator[Meeting]:
    meeting = meeting_in(folder)
    async with (
        meeting.relay.serving() as meeting.relay_served,
        meeting.ann.serving() as ann,
        meeting.ben.serving() as ben,
    ):
        await meeting.open(ann, ben, history)
        await meeting.admit(meeting.bob, "bob")
        yield meeting


def everything(store: Store) -> bytes:
    """All that a store in memory holds, as bytes."""
    assert isinstance(store, MemoryStore)
    tables = [table.rows for table in store.index._tables.values()]
    return repr((store._logs, store._outbox, store._snapshots, tables)).encode()


def spelled(word: str) -> list[bytes]:
    """How a word may stand somewhere: as it is, in hex, and in base64 wherever it begins there."""
    raw = word.encode()
    found = [raw, raw.hex().encode()]
    for before in range(3):
        coded = base64.b64encode(bytes(before) + raw)
        # The characters that what stands beside the word does not change.
        found.append(coded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return found


def test_two_homes_talk_in_a_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            assert meeting.opened.sealed
            assert meeting.opened.name == "auth-redesign"
            assert (await meeting.room_of(meeting.ben)).state.name == "auth-redesign"
            await meeting.alice.send("the code word is marlin")
            assert await meeting.bob.read() == ["the code word is marlin"]
            await meeting.bob.send("swordfish")
            assert await meeting.alice.read() == ["swordfish"]

    run(main)


def test_who_joins_reads_what_was_said_before_where_the_history_is_full(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.alice.send("said before bob came")
            waits = await meeting.bob.join(meeting.opened.session_key)
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            await settle()
            page = await meeting.bob.come_in(meeting.opened.session_key)
            assert [message.text for message in page.messages] == ["Chose PKCE.", "said before bob came"]

    run(main)


@pytest.mark.parametrize("history", ["from-join", "none"])
def test_who_joins_reads_the_recap_and_nothing_else_of_before_where_the_history_is_not(
    tmp_path: Path, history: str
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben, history)
            await meeting.alice.send("said before bob came")
            waits = await meeting.bob.join(meeting.opened.session_key)
            await (await ann.person()).approve("bob", join_code=waits.join_code)
            await settle()
            page = await meeting.bob.come_in(meeting.opened.session_key)
            assert [message.text for message in page.messages] == ["Chose PKCE."]
            await meeting.alice.send("said after bob came")
            assert await meeting.bob.read() == ["said after bob came"]
            assert (await meeting.room_of(meeting.ben)).state.alarm is None

    run(main)


WRITES: dict[str, t.Params] = {
    "state.set": t.SetState(key="turn", value=1),
    "state.batch": t.BatchState(writes=(t.BatchedWrite(key="turn", value=2),)),
    "action.register": t.RegisterAction(id="stoke", writes=(t.ActionWriteAsked(key="fire", value=1),)),
    "action.invoke": t.InvokeAction(id="stoke"),
    "agent.enable": t.EnableAgent(enabled="1 == 1"),
    "module.register": t.RegisterModule(id="path"),
}
"""What brings words of an agent into the state of a room, an action before it is invoked."""


def test_whichever_way_a_window_writes_first_into_the_state_it_is_told_once_who_sees_that(tmp_path: Path) -> None:
    assert set(WRITES) == STATE_WRITES

    async def main() -> None:
        async with met(tmp_path) as meeting:
            for name, params in WRITES.items():
                window = await meeting.ann_served.agent("alice")
                said = [await window.call(name, msgspec.structs.replace(params, idempotency_key=f"{n}")) for n in "ab"]
                assert [getattr(each, "warning", None) for each in said] == [STATE_IS_SEEN, msgspec.UNSET], name

    run(main)


def test_the_relay_has_nothing_of_what_is_said(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("the marlin swims", idempotency_key="swordfish-7")
            # It looks like a key that is drawn for a message, and an agent thought it up.
            await meeting.alice.send("the marlin dives", idempotency_key="k_rotatethemackerelkeys")
            await meeting.bob.send("for alice alone: barracuda", visible_to=("alice",))
            await meeting.bob.ask("memory.remember", t.Remember(text="pollock", key="halibut"), t.Remembered)
            writes = t.SetState(key="seen", value="sturgeon")
            # What an agent states is told for all of its rooms at once, so one that is in a sealed room states nothing.
            await meeting.alice.ask("agent.presence", t.StatePresence(status="busy", text="haddock"), t.PresenceIs)
            await trio.sleep(120)
            first = await meeting.alice.ask("state.set", writes, t.StateWritten)
            assert first.warning == STATE_IS_SEEN
            assert (await meeting.alice.ask("state.set", writes, t.StateWritten)).warning is msgspec.UNSET
            await settle()
            assert await meeting.alice.read() == ["for alice alone: barracuda", "pollock"]
            held = everything(meeting.relay.store)
            # Nor is any of that in what goes over the links, which TLS hides from all but the relay.
            sent = b"".join(message for both in meeting.wires.open for end in both for message in end.sent)
            assert len(sent) > 10_000
            words = [
                "marlin",
                "swordfish-7",
                "mackerel",
                "barracuda",
                "pollock",
                "halibut",
                "PKCE",
                "auth-redesign",
                "auth redesign",
                "haddock",
            ]
            for word in words:
                for form in spelled(word):
                    assert form not in held, word
                    assert form not in sent, word
            # A value of the room's state is seen, so the search finds what is there.
            assert b"sturgeon" in held
            assert b"sturgeon" in sent

    run(main)


def test_the_relay_is_not_told_what_belongs_to_the_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            params = t.Remember(text="blue", key="marlin", idempotency_key="once")
            for replayed in (False, True):
                assert (await meeting.bob.ask("memory.remember", params, t.Remembered)).replayed is replayed
            # The same key for another operation is another request.
            sent = await meeting.bob.ask("message.send", t.Send(text="hello", idempotency_key="once"), t.Sent)
            assert not sent.replayed
            await meeting.bob.ask("memory.forget", t.Forget(key="marlin", idempotency_key="once"), t.Forgotten)
            await settle()
            facts = meeting.relay.store.facts(RoomId(meeting.opened.room), Position(0), 500)
            posted = [fact for fact in facts if isinstance(fact.event, e.MessagePosted)]
            assert {fact.operation for fact in posted[1:]} == {"message.send"}
            assert len({fact.key for fact in posted[1:]}) == 3
            sent_bytes = b"".join(each for both in meeting.wires.open for end in both for each in end.sent)
            assert b"memory.remember" not in sent_bytes
            assert b"memory.forget" not in sent_bytes

    run(main)


def test_a_private_message_is_read_by_those_whom_it_names(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            await meeting.bob.read()
            await meeting.alice.send("for bob alone", visible_to=("bob",))
            await meeting.alice.send("for everyone")
            assert await meeting.bob.read() == ["for bob alone", "for everyone"]
            assert await carol.read() == ["for everyone"]

    run(main)


def test_who_was_kicked_cannot_read_what_follows(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            await meeting.alice.send("two")
            await settle()
            state = (await meeting.room_of(meeting.ann)).state
            assert (state.epochs.number, len(state.epochs.roster)) == (3, 1)
            assert not state.epochs.leaving
            records = {row.number for row in meeting.ben.world.store.epoch_secrets(RoomId(meeting.opened.room))}
            assert 3 not in records
            # Whoever comes in again reads on, with a record of its own.
            waits = await meeting.bob.join(meeting.opened.session_key)
            await person.approve("bob", join_code=waits.join_code)
            await settle()
            await meeting.bob.come_in(meeting.opened.session_key)
            await meeting.alice.send("three")
            assert await meeting.bob.read() == ["three"]

    run(main)


def test_who_was_put_out_of_its_session_elsewhere_is_told_so_and_waits_for_a_decision_as_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            bob, room = meeting.bob, meeting.opened.room
            assert (await bob.whoami()).active == room
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            await settle()
            assert (await bob.whoami()).active is None
            error = await bob.refused("message.recv", t.Recv())
            assert (error.code, error.message) == ("no_active_session", "You are no longer in 'auth-redesign'.")
            assert await bob.rooms() == []
            waits = await bob.join(meeting.opened.session_key)
            pages: list[t.Received] = []

            async def wait_for_the_decision() -> None:
                pages.append(await bob.recv(wait=60))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait_for_the_decision)
                await settle()
                await person.approve("bob", join_code=waits.join_code)
                await settle()
                await meeting.alice.send("three")
            assert [texts(page) for page in pages] == [["three"]]

    run(main)


def test_what_waits_in_the_outbox_is_sealed_under_the_epoch_in_which_it_arrives(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            wires.cut_off("ben")
            await settle()
            sent = await meeting.bob.send("written while away", idempotency_key="once")
            assert sent.queued
            assert sent.idempotency_key == "once"
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            wires.bring_back("ben")
            await trio.sleep(90)
            await settle()
            assert await meeting.alice.read() == ["written while away"]
            assert await carol.read() == ["written while away"]
            again = await meeting.bob.send("written while away", idempotency_key="once")
            assert again.replayed
            assert await meeting.alice.read() == []

    run(main)


def test_all_goes_on_after_a_restart_of_each(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving():
            async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                await meeting.alice.send("one")
                assert await meeting.bob.read() == ["one"]
            async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
                meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
                await meeting.alice.send("two")
                await settle()
                assert await meeting.bob.read() == ["two"]
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            await meeting.bob.send("three")
            await settle()
            assert await meeting.alice.read() == ["three"]

    run(main)


def test_those_who_have_an_open_key_wait_for_the_owner_s_home_and_come_in_with_nobody_asked(tmp_path: Path) -> None:
    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ben.serving() as ben, cat.serving() as third:
            async with meeting.ann.serving() as ann:
                meeting.alice = await ann.agent("alice")
                meeting.opened = await meeting.alice.open("open house", "Come in.", approval=False)
            meeting.bob, carol = await ben.agent("bob"), await third.agent("carol")
            for who in (meeting.bob, carol):
                joined = await who.join(meeting.opened.session_key)
                assert (joined.status, joined.join_code, joined.messages) == ("pending", None, [])
                assert "The relay last heard of that machine at 20" in joined.hint
                assert "Your knock waits there for seven days" in joined.hint
            async with meeting.ann.serving() as ann:
                await (await ann.agent("alice")).read()
                await trio.sleep(30)
                await settle()
                room = await meeting.room_of(meeting.ann)
                assert (room.state.epochs.number, len(room.state.epochs.roster)) == (3, 3)
                assert [request.state for request in room.state.requests.values()] == ["approved"] * 2
                for who in (meeting.bob, carol):
                    assert (await who.come_in(meeting.opened.session_key)).messages
                await carol.send("hello")
                assert (await meeting.bob.read())[-1] == "hello"

    run(main)


def test_an_epoch_that_was_used_ends_after_seven_days(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await trio.sleep(20)
            await settle()
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3
            await meeting.alice.send("two")
            assert await meeting.bob.read() == ["two"]
            await trio.sleep(60)
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3

    run(main)


def test_an_epoch_ends_after_seven_days_here_though_the_time_of_its_home_stands_still(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            turning, room = meeting.ann.uplinks._turning, await meeting.room_of(meeting.ann)
            still = room.state.epochs.at
            assert not turning.is_due(room, still)
            meeting.ann.world.clock.move(seconds=USED_MS / 1000)
            assert turning.is_due(room, still)

    run(main)


def test_a_task_that_is_open_for_a_time_is_a_message_like_any_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            timer = t.TimerAsked(effect="delete", ms=60_000)
            task = t.Send(room=meeting.opened.room, text="now", kind="task", timer=timer)
            sent = await meeting.alice.ask("message.send", task, t.Sent)
            assert (sent.gated, bool(sent.seq)) == (False, True)
            assert await meeting.bob.read() == ["now"]

    run(main)


def test_what_opens_on_a_relay_is_sealed_unless_the_person_says_otherwise(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann:
            alice, window = await ann.agent("alice"), await ann.window("w1")
            assert (await window.open("by a model")).sealed
            clear = await alice.open("in clear", clear=True)
            channel = await alice.ask("room.invite", t.Invite(group="team"), t.Invited)
            in_clear = await alice.ask("room.invite", t.Invite(group="open-team", clear=True), t.Invited)
            assert (clear.sealed, channel.sealed, in_clear.sealed) == (False, True, False)
            # A model lets nobody read a room, and what was opened stays as it was.
            for op, params in (
                ("session.open", t.OpenSession(topic="x", clear=True)),
                ("room.invite", t.Invite(group="more", approval=True, clear=True)),
            ):
                assert (await window.refused(op, params)).code == "person_only"
            refused = await alice.refused("room.invite", t.Invite(group="team", clear=True))
            assert (refused.code, refused.details["param"]) == ("invalid_param", "clear")
            # Here nobody else keeps a room, so that it is in clear takes no word of the person.
            assert not (await window.open("here", home="local", clear=True)).sealed
            rooms = (await alice.ask("rooms.list", t.ListRooms(), t.RoomList)).rooms
            found = {room.name: room.sealed for room in rooms}
            assert found == {"in-clear": False, "team": True, "open-team": False}

    run(main)


def test_a_sealed_channel_is_come_into_by_its_code_alone(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann, home("ben").serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            channel = await alice.ask("room.invite", t.Invite(group="team"), t.Invited)
            assert (await bob.join(channel.code, wait=10)).status == "joined"
            await bob.send("hello", room=channel.room)
            assert await alice.read(room=channel.room, wait=10) == ["hello"]
            await alice.send("welcome", room=channel.room)
            assert await bob.read(room=channel.room, wait=10) == ["welcome"]

    run(main)


@pytest.mark.parametrize("clear", [False, True], ids=["sealed", "clear"])
def test_who_comes_into_an_open_channel_is_shown_what_was_said_there(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann, home("ben").serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            channel = await alice.ask("room.invite", t.Invite(group="team", clear=clear), t.Invited)
            assert not channel.approval
            await alice.send("the build is green", room=channel.room)
            page = await bob.join(channel.code, wait=10)
            assert (page.status, texts(page)) == ("joined", ["the build is green"])

    run(main)


@pytest.mark.parametrize("clear", [False, True], ids=["sealed", "clear"])
def test_the_last_of_a_home_that_leaves_is_told_so_while_another_one_knocks(tmp_path: Path, clear: bool) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bert = await ann.agent("alice"), await ben.agent("bert")
            meeting.bob, meeting.ann_served = await ben.agent("bob"), ann
            meeting.opened = await alice.open("auth redesign", "Chose PKCE.", clear=clear)
            await meeting.admit(meeting.bob, "bob")
            assert (await bert.join(meeting.opened.session_key)).status == "pending"
            leave = t.LeaveAsMember(room=meeting.opened.room)
            assert (await meeting.bob.ask("room.leave", leave, t.MemberGone)).status == "left"
            handles = [
                each.handle for each in (await meeting.room_of(meeting.ben)).state.members.values() if each.present
            ]
            assert "bob" not in handles
            # Also where the link is down when it happens.
            await meeting.admit(bert, "bert")
            waits = await meeting.bob.join(meeting.opened.session_key)
            assert waits.status == "pending"
            meeting.wires.cut_off("ben")
            await settle()
            kick = t.KickMember(room=meeting.opened.room, agent="bert")
            await (await ann.person()).ask("room.kick", kick, t.MemberGone)
            meeting.wires.bring_back("ben")
            await trio.sleep(90)
            await settle()
            state = (await meeting.room_of(meeting.ben)).state
            assert [each.handle for each in state.members.values() if each.present and each.handle != "alice"] == []
            assert state.contradicted == ""

    run(main)


def test_a_session_of_this_machine_is_not_sealed(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        async with relay.serving(), home("ann").serving() as ann:
            alice = await ann.agent("alice")
            assert not (await alice.open("here", home="local")).sealed

    run(main)


def test_a_day_old_key_is_followed_by_a_fresh_one_which_the_next_record_uses(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = RoomId(meeting.opened.room)
            before = dict((await meeting.room_of(meeting.ann)).state.epochs.roster)
            meeting.relay.clock.move(seconds=FRESH_MS / 1000)
            await trio.sleep(30)
            # A fresh key by itself asks for no record.
            state = (await meeting.room_of(meeting.ann)).state.epochs
            assert state.number == 2
            fresh = {agent: told.counter for agent, told in state.told.items()}
            assert all(fresh[agent] > seat.counter for agent, seat in before.items())
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await trio.sleep(30)
            state = (await meeting.room_of(meeting.ben)).state.epochs
            assert state.number == 3
            assert {agent: seat.counter for agent, seat in state.roster.items()} == fresh
            await meeting.alice.send("for bob", visible_to=("bob",))
            assert await meeting.bob.read() == ["for bob"]
            assert {row.number for row in meeting.ben.world.store.epoch_secrets(room)} >= {2, 3}

    run(main)


def test_a_key_that_was_made_while_the_clock_was_ahead_is_followed_by_a_fresh_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            secrets, home = meeting.ann.uplinks._secrets, meeting.relay.keys.id
            state = (await meeting.room_of(meeting.ann)).state
            alice, used = state.owner, state.epochs.roster[state.owner].counter
            (row,) = secrets._keys[home][alice]
            for ahead_ms, is_followed in ((3_600_000, False), (FRESH_MS, True)):
                made_at = Millis(meeting.ann.world.clock.now() + ahead_ms)
                secrets._keys[home][alice] = [msgspec.structs.replace(row, made_at=made_at)]
                assert (await secrets.fresh(home, alice, used) > used) is is_followed

    run(main)


def test_a_room_that_takes_no_fresh_key_holds_nothing_else_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            (link,) = meeting.ben.uplinks._links.values()
            calls = link.calls
            assert calls is not None
            asked: list[str] = []

            async def call(op: str, params: t.Params, seconds: float) -> t.Result:
                asked.append(op)
                if op == "link.sealing_key":
                    raise Refused("statement_refused", what="counter")
                return await LinkConnection.call(calls, op, params, seconds)

            monkeypatch.setattr(calls, "call", call)
            meeting.relay.clock.move(seconds=FRESH_MS / 1000)
            await meeting.alice.send("two")
            assert await meeting.bob.read() == ["two"]
            await trio.sleep(120)
            # It is asked once, and how far Bob read is told.
            assert asked.count("link.sealing_key") == 1
            assert asked.index("link.sealing_key") < len(asked) - 1 - asked[::-1].index("link.cursors")

    run(main)


def test_the_secret_of_an_epoch_of_which_nothing_is_held_goes_where_the_history_is_not_full(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path, "none") as meeting:
            room = RoomId(meeting.opened.room)
            await meeting.alice.send("one")
            assert await meeting.bob.read() == ["one"]
            store = meeting.ben.world.store
            words = store.oldest_bodies(room, Position(0), 10)
            (outcome,) = store.transact([[EraseBodies(room, [position for position, _ in words])]])
            assert outcome.error is None
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await trio.sleep(30)
            assert [row.number for row in store.epoch_secrets(room)] == [3]
            assert {row.number for row in meeting.ann.world.store.epoch_secrets(room)} == {1, 2, 3}
            await meeting.alice.send("two")
            assert await meeting.bob.read() == ["two"]

    run(main)


def test_a_relay_that_knows_no_epochs_is_asked_for_no_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        _, relay, home = homes_of(tmp_path)
        ann = home("ann")
        async with relay.serving(), ann.serving() as served:
            alice = await served.agent("alice")
            await alice.open("in clear", clear=True)
            (link,) = ann.uplinks._links.values()
            assert link.connection is not None
            welcome = link.connection.welcome
            older = tuple(each for each in welcome.operations if each != "link.epoch")
            link.connection.welcome = msgspec.structs.replace(welcome, operations=older)
            refused = await alice.refused("session.open", t.OpenSession(topic="x"))
            assert refused.code == "relay_older"

    run(main)


def test_a_relay_that_lost_a_record_is_sent_it_again(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                await meeting.alice.send("one")
                assert await meeting.bob.read() == ["one"]
                copy = meeting.relay.copied()
                meeting.relay.clock.move(seconds=USED_MS / 1000)
                await trio.sleep(30)
                assert (await meeting.room_of(meeting.ben)).state.epochs.number == 3
            meeting.relay.store = copy
            async with meeting.relay.serving():
                await trio.sleep(120)
                assert not (await meeting.bob.send("two")).queued
                assert (await meeting.alice.read(wait=60)) == ["two"]
                assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3

    run(main)


def test_a_new_owner_s_machine_begins_an_epoch(tmp_path: Path) -> None:
    """So that the owner before can begin none any more."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            transfer = t.TransferRoom(room=meeting.opened.room, agent="bob")
            await (await meeting.ann_served.person()).ask("room.transfer", transfer, t.OwnedRoom)
            await trio.sleep(60)
            signers = [home.world.keys.principal for home in (meeting.ann, meeting.ben)]
            for home in (meeting.ann, meeting.ben):
                state = (await meeting.room_of(home)).state.epochs
                assert (state.number, state.signers) == (3, signers)
            await meeting.alice.send("yours now")
            assert await meeting.bob.read() == ["yours now"]

    run(main)


def test_who_is_put_out_while_it_waits_for_a_record_is_in_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            with without_records(meeting.ann, monkeypatch):
                waits = await meeting.bob.join(meeting.opened.session_key)
                person = await ann.person()
                await person.approve("bob", join_code=waits.join_code)
                mirror = await meeting.room_of(meeting.ann)
                waiting = mirror.epochs.waiting()
                assert waiting is not None
                [agent] = waiting.entering
                kick = t.KickMember(room=meeting.opened.room, agent="bob")
                # Nothing but a record says that it was put out.
                assert (await person.refused("room.kick", kick)).code == "not_sealed_in"
            await person.ask("room.kick", kick, t.MemberGone)
            await trio.sleep(60)
            state = (await meeting.room_of(meeting.ann)).state
            assert not state.members[agent].present
            assert (state.epochs.number, list(state.epochs.roster)) == (2, [state.owner])

    run(main)


@pytest.mark.parametrize("forgotten", ["that it was put out", "that it is out"])
def test_who_was_put_out_while_it_waited_for_a_record_is_let_read_by_no_word_of_the_relay(
    tmp_path: Path, forgotten: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving() as relay, meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            meeting.alice, meeting.bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await meeting.alice.open("open house", "Come in.", approval=False)
            person = await ann.person()
            with without_records(meeting.ann, monkeypatch):
                assert (await meeting.bob.join(meeting.opened.session_key)).status == "joined"
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            mirror = await meeting.room_of(meeting.ann)
            bob = next(each for each in mirror.state.members.values() if each.agent != mirror.state.owner)
            assert (mirror.state.epochs.number, mirror.state.epochs.out, bob.present) == (2, {}, False)

            async def require_out() -> None:
                await trio.sleep(60)
                state = (await meeting.room_of(meeting.ann)).state
                assert (state.epochs.number, list(state.epochs.roster)) == (2, [state.owner])

            if forgotten == "that it was put out":
                handle = await relay._desk.rooms.get(RoomId(meeting.opened.room))
                handle.aggregate.state.members[bob.agent].barred = False
                again = await meeting.bob.join(meeting.opened.session_key)
                assert (again.status, len(again.join_code or "")) == ("pending", 4)
                await require_out()
                # What a person decides later counts.
                await person.approve("bob", join_code=again.join_code)
                await settle()
                assert (await meeting.bob.come_in(meeting.opened.session_key)).messages
                await meeting.bob.ask("room.leave", t.LeaveAsMember(room=meeting.opened.room), t.MemberGone)
                await trio.sleep(60)
                assert (await meeting.bob.join(meeting.opened.session_key)).status == "joined"
            else:
                back = t.MemberEntry(
                    agent=bob.agent,
                    principal=bob.principal,
                    handle=bob.handle,
                    host="",
                    role="",
                    present=True,
                    joined_at=bob.joined_at,
                )
                (link,) = meeting.ann.uplinks._links.values()
                card = t.Card(whole=False, home=mirror.state.home, members=[back], moves=99)
                await link.mirrors.take(t.LinkItem(room=meeting.opened.room, card=card))
                mirror = await meeting.room_of(meeting.ann)
                assert mirror.state.members[bob.agent].present
                assert mirror.epochs.waiting() is not None
                assert await meeting.ann.uplinks._turning.following(mirror) is None
                await require_out()

    run(main)


def test_who_left_comes_in_again_by_an_open_key_and_who_was_put_out_by_a_person_alone(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await alice.open("open house", "Come in.", approval=False)
            room, person = meeting.opened.room, await ann.person()
            assert (await bob.join(meeting.opened.session_key)).status == "joined"
            await trio.sleep(60)
            await bob.ask("room.leave", t.LeaveAsMember(room=room), t.MemberGone)
            await trio.sleep(60)
            state = (await meeting.room_of(meeting.ann)).state.epochs
            assert (state.number, len(state.roster), len(state.out)) == (3, 1, 1)
            assert (await bob.join(meeting.opened.session_key)).status == "joined"
            await trio.sleep(60)
            assert len((await meeting.room_of(meeting.ann)).state.epochs.roster) == 2
            await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            await settle()
            waits = await bob.join(meeting.opened.session_key)
            assert waits.status == "pending"
            await person.approve("bob", join_code=waits.join_code)
            await trio.sleep(60)
            state = (await meeting.room_of(meeting.ann)).state.epochs
            assert (len(state.roster), state.out) == (2, {})

    run(main)


def test_what_each_of_them_keeps_is_what_was_signed_and_a_change_of_what_was_read_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await meeting.alice.send("one")
            await meeting.bob.send("for alice", visible_to=("alice",))
            assert await meeting.alice.read() == ["for alice"]
            room = RoomId(meeting.opened.room)
            there = await (await meeting.relay_served.desk.rooms.get(room)).quiet()
            for store, found in (
                (meeting.ann.world.store, await meeting.room_of(meeting.ann)),
                (meeting.ben.world.store, await meeting.room_of(meeting.ben)),
                (meeting.relay.store, there),
            ):
                facts = store.whole_facts(room, Position(0), 500)
                about = Audited.of(found.state, facts[0].body)
                assert [fact.header.event for fact in facts if not is_signed(fact, about)] == []
                read = [fact for fact in facts if isinstance(fact.header.event, e.MessagePosted)]
                assert len(read) == 3
                for fact in read if found is not there else ():
                    kept = opened_part(fact.body or b"")
                    other = Inside(kind="text", authored_at=Millis(1), via="cli", parts=(TextPart("something else"),))
                    lies = (
                        opened(kept.body, kept.signature[::-1], kept.words),
                        opened(read[0].body or b"", kept.signature, kept.words),
                        opened(kept.body, kept.signature, encode_inside(other)[:-1]),
                    )
                    for body in lies:
                        assert not is_signed(msgspec.structs.replace(fact, body=body), about)

    run(main)


def test_a_message_that_an_epoch_overtook_is_sealed_again_and_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            take, dealt_with, refused = link.mirrors.take, Lane._dealt_with, []

            async def late(item: t.LinkItem, pull: Pull | None = None) -> bool:
                await trio.sleep(0.5)
                return await take(item, pull)

            async def noted(lane: Lane, post: Post) -> bool:
                refused.append(None if post.error is None else post.error.code)
                return await dealt_with(lane, post)

            monkeypatch.setattr(link.mirrors, "take", late)
            monkeypatch.setattr(Lane, "_dealt_with", noted)
            owner = meeting.ann.uplinks._turning
            room = await meeting.room_of(meeting.ann)
            monkeypatch.setattr(owner, "_is_used_up", lambda room, now: True)
            told = await owner.following(room)
            assert told is not None
            (anns,) = meeting.ann.uplinks._links.values()
            await anns.call("link.epoch", t.EpochAtRoom(room=meeting.opened.room, epoch=told))
            monkeypatch.setattr(owner, "_is_used_up", lambda room, now: False)
            assert not (await meeting.bob.send("overtaken", idempotency_key="once")).queued
            assert "stale_epoch" in refused
            assert await meeting.alice.read() == ["overtaken"]
            await trio.sleep(30)
            assert await meeting.alice.read() == []

    run(main)


def test_an_agent_whose_key_an_older_copy_of_the_database_lost_makes_another_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            keys = meeting.ben.uplinks._secrets._keys[meeting.relay.keys.id]
            (bob,) = keys
            lost = keys[bob][-1]
            meeting.relay.clock.move(seconds=60)
            keys[bob] = [msgspec.structs.replace(lost, counter=lost.counter - 1, private=bytes(range(32)))]
            await meeting.admit(meeting.bob, "bob")
            assert keys[bob][-1].counter > lost.counter
            await meeting.alice.send("one")
            assert (await meeting.bob.read())[-1] == "one"

    run(main)


def test_a_rewound_room_goes_on_under_a_record_of_the_owner_s_home(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                copy = meeting.relay.copied()
                await meeting.alice.send("lost")
                assert await meeting.bob.read() == ["lost"]
                meeting.relay.clock.move(seconds=USED_MS / 1000)
                await trio.sleep(30)
            meeting.relay.store = copy
            async with meeting.relay.serving():
                await trio.sleep(120)
                refused = await meeting.bob.refused("message.send", t.Send(text="after"))
                assert refused.code == "relay_rolled_back"
                rewind = t.RewindRoom(room=meeting.opened.room, confirmed=True)
                rewound = await (await ann.person()).ask("room.rewind", rewind, t.RewoundRoom)
                assert rewound.status == "rewound"
                await trio.sleep(60)
                await meeting.bob.send("after")
                assert (await meeting.alice.read(wait=60))[-1] == "after"
                assert (await meeting.room_of(meeting.ben)).state.epochs.number == 4

    run(main)


def test_who_came_in_before_a_record_holds_it_is_shown_then_what_its_home_has_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            assert not (await meeting.bob.send("one")).queued
            bert = await meeting.bob_served.agent("bert")
            with without_records(meeting.ann, monkeypatch):
                waits = await bert.join(meeting.opened.session_key)
                await (await meeting.ann_served.person()).approve("bert", join_code=waits.join_code)
                page = await bert.come_in(meeting.opened.session_key)
                assert page.messages == []
                assert page.hint.startswith("Key change pending since ")
                assert await bert.read() == []
                roster = await meeting.bob.ask("rooms.roster", t.Roster(), t.RosterResult)
                assert roster.key_change_since
                assert "bert cannot read what is said" in roster.notice
                assert (await bert.refused("message.send", t.Send(text="hello"))).code == "not_sealed_in"
            await trio.sleep(30)
            await settle()
            assert (await bert.read())[-1] == "one"
            roster = await meeting.bob.ask("rooms.roster", t.Roster(), t.RosterResult)
            assert (roster.notice, roster.key_change_since) == ("", msgspec.UNSET)

    run(main)


@pytest.mark.parametrize("history", ["full", "from-join", "none"])
def test_a_home_whose_link_breaks_before_a_record_takes_the_numbers_of_whoever_waited_for_it(
    tmp_path: Path, history: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room's home counts for a reader as the record in force lets it see: also where it says from where it goes on
    to a home that has not heard of that record."""
    take, lost = Link._take, list[str]()

    async def breaks_off(link: Link, connection: LinkConnection, item: t.LinkItem) -> None:
        if item.epoch is not None and not lost:
            lost.append(item.room)
            raise ParlerError("home_unreachable")
        await take(link, connection, item)

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            alice, alan = await ann.agent("alice"), await ann.agent("alan")
            meeting.opened = await alice.open("open house", "Come in.", approval=False, history=history)
            await alice.send("one")
            monkeypatch.setattr(Link, "_take", breaks_off)
            await alan.join(meeting.opened.session_key)
            await trio.sleep(60)
            await settle()
            mirror = await meeting.room_of(meeting.ann)
            assert (len(lost), mirror.state.epochs.number, mirror.state.contradicted) == (1, 2, "")
            await alice.send("two")
            await settle()
            assert await alan.read() == (["Come in.", "one", "two"] if history == "full" else ["Come in.", "two"])

    run(main)


def test_an_owner_s_daemon_that_was_started_again_makes_records_though_nobody_asks_it_for_anything(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            bob, bert = await ben.agent("bob"), await ben.agent("bert")
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                meeting.opened = await alice.open("open house", "Come in.", approval=False)
                await bob.join(meeting.opened.session_key)
                await trio.sleep(30)
                await settle()
                assert not (await bob.send("one")).queued
            assert (await bert.join(meeting.opened.session_key)).status == "pending"
            await bob.close()
            await settle()
            async with meeting.ann.serving():
                await trio.sleep(30)
                await settle()
                state = (await meeting.room_of(meeting.ben)).state
                assert {state.members[agent].handle for agent in state.epochs.roster} == {"alice", "bert"}
                await bert.come_in(meeting.opened.session_key)
                assert not (await bert.send("two")).queued
                # The daemon stays linked, because others may come and go at any time.
                await trio.sleep(3600)
                assert meeting.ann.uplinks.listed()[0].state == "connected"

    run(main)


def test_a_home_that_owns_a_sealed_room_dials_a_relay_that_is_away_with_pauses_and_keeps_nobody_waiting(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            opened = await (await ann.agent("alice")).open("open house", "Come in.")
        wires = meeting.wires
        wires.cut()
        async with meeting.ann.serving() as ann:
            dialled = wires.dialled
            await trio.sleep(3600)
            assert 60 < wires.dialled - dialled < 180
            alice, begun = await ann.agent("alice"), trio.current_time()
            await alice.open("at home", "Mine.", home="local")
            await alice.rooms()
            assert trio.current_time() == begun
        async with meeting.ann.serving() as ann:
            await trio.sleep(3600)
            wires.mend()
            async with meeting.relay.serving():
                # Whoever comes first is not kept waiting by the pause between two attempts.
                await (await ann.agent("alice")).recv(room=opened.room)
                assert meeting.ann.uplinks.listed()[0].state == "connected"

    run(main)


@pytest.mark.parametrize("how", ["closed", "handed over"])
def test_a_home_that_makes_the_records_of_no_room_any_more_lets_its_link_go(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            if how == "closed":
                await meeting.alice.close()
            else:
                transfer = t.TransferRoom(agent="bob", room=meeting.opened.room)
                await (await meeting.ann_served.person()).call("room.transfer", transfer)
            await settle()
            for caller in list(meeting.ann_served.engine.desk.connected):
                await meeting.ann_served.engine.disconnect(caller)
            await trio.sleep(3600)
            assert meeting.ann.uplinks.listed()[0].state == "idle"

    run(main)


def test_who_came_again_and_reads_while_it_waits_is_shown_later_what_was_said_while_it_was_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ben.serving() as ben:
            bob, bert = await ben.agent("bob"), await ben.agent("bert")
            async with meeting.ann.serving() as ann:
                alice = await ann.agent("alice")
                meeting.opened = await alice.open("open house", "Come in.", approval=False)
                for who in bob, bert:
                    await who.join(meeting.opened.session_key)
                await trio.sleep(30)
                await settle()
                await bob.read()
                await alice.send("one")
                await settle()
                await bob.ask("room.leave", t.LeaveAsMember(room=meeting.opened.room), t.MemberGone)
                await alice.send("two")
                await trio.sleep(30)
                await settle()
            async with meeting.ann.serving():
                with without_records(meeting.ann, monkeypatch):
                    assert (await bob.join(meeting.opened.session_key)).status == "joined"
                    assert await bob.read(room=meeting.opened.room) == ["one"]
                await trio.sleep(30)
                await settle()
                assert await bob.read(room=meeting.opened.room) == ["two"]

    run(main)


@pytest.mark.parametrize(
    ("history", "shown"), [("full", ["Come in.", "one"]), ("from-join", ["Come in."]), ("none", ["Come in."])]
)
@pytest.mark.parametrize("is_late", [False, True])
def test_the_first_of_a_home_that_comes_in_by_an_open_key_is_shown_what_it_may_see_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, history: str, shown: list[str], is_late: bool
) -> None:
    """The record that holds it may be there at once, or come once it has waited for longer than a join takes."""

    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await alice.open("open house", "Come in.", approval=False, history=history)
            key = meeting.opened.session_key
            await alice.send("one")
            if is_late:
                with without_records(meeting.ann, monkeypatch):
                    page = await bob.come_in(key)
                    assert (page.messages, page.name) == ([], "")
                    assert (await meeting.room_of(meeting.ben)).state.epochs.number == 0
                    # It knows of itself alone, and that it waits.
                    assert (await bob.roster())["bob"].state == "member"
                    assert "bob cannot read" in (await bob.recv()).notice
                await trio.sleep(90)
                await settle()
                assert await bob.read() == shown
            else:
                assert texts(await bob.come_in(key)) == shown
            assert not (await bob.send("hello")).queued
            await alice.send("two")
            await settle()
            assert await bob.read() == ["two"]
            assert (await meeting.room_of(meeting.ben)).state.contradicted == ""
            assert {each.topic for each in await bob.rooms()} == {"open house"}

    run(main)


def test_who_came_again_to_a_home_where_nobody_was_left_is_shown_what_was_said_while_it_was_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await alice.open("open house", "Come in.", approval=False)
            key, room = meeting.opened.session_key, meeting.opened.room
            await bob.come_in(key)
            await alice.send("one")
            await settle()
            assert await bob.read() == ["one"]
            await bob.ask("room.leave", t.LeaveAsMember(room=room), t.MemberGone)
            await trio.sleep(30)
            await alice.send("two")
            with without_records(meeting.ann, monkeypatch):
                assert (await bob.join(key)).status == "joined"
                meeting.wires.cut_off("ben")
                await trio.sleep(30)
                meeting.wires.bring_back("ben")
                await trio.sleep(90)
                assert await bob.read(room=room) == []
            await trio.sleep(90)
            await settle()
            assert await bob.read(room=room) == ["two"]
            assert (await meeting.room_of(meeting.ben)).state.contradicted == ""

    run(main)


@pytest.mark.parametrize(("op", "epoch"), [("link.knock", 1), ("link.exchange", 2)])
def test_who_came_in_by_a_knock_whose_answer_was_lost_reads_what_was_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, op: str, epoch: int
) -> None:
    """Where the last of its steps came through, its machine may find out later than everybody else that it is in."""
    call, lost = LinkConnection.call, list[str]()
    meeting = meeting_in(tmp_path)

    async def without_answer(connection: LinkConnection, asked: str, params: Any, *rest: Any) -> Any:
        answer = await call(connection, asked, params, *rest)
        if asked == op and getattr(params, "step", "shown") == "shown" and not lost:
            lost.append(op)
            meeting.wires.cut_off("ben")
            raise ParlerError("home_unreachable")
        return answer

    async def main() -> None:
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            alice, bob = await ann.agent("alice"), await ben.agent("bob")
            meeting.opened = await alice.open("open house", "Come in.", approval=False)
            await alice.send("one")
            monkeypatch.setattr(LinkConnection, "call", without_answer)
            key = meeting.opened.session_key
            if op == "link.knock":
                params = t.JoinSession(session_key=key or "")
                assert (await bob.refused("session.join", params)).code == "home_unreachable"
            else:
                assert (await bob.join(key)).status == "pending"
            await trio.sleep(30)
            await settle()
            assert lost == [op]
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == epoch
            meeting.wires.bring_back("ben")
            assert texts(await bob.come_in(key)) == ["Come in.", "one"]

    run(main)


@pytest.mark.parametrize("whose", ["ann", "ben"])
@pytest.mark.parametrize("years", [-1, 1])
def test_a_machine_whose_clock_is_a_year_wrong_talks_in_a_sealed_room_and_makes_fresh_keys(
    tmp_path: Path, whose: str, years: int
) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        clock = SteppedClock()
        clock.step(seconds=years * 365 * 24 * 3600)
        (meeting.ann if whose == "ann" else meeting.ben).world.clock = clock
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            await meeting.bob.send("one")
            await settle()
            assert (await meeting.alice.read())[-1:] == ["one"]
            before = (await meeting.room_of(meeting.ann)).state.epochs
            assert before.number == 2, "no epoch is used up before its time"
            owner_s = clock if whose == "ann" else meeting.relay.clock
            assert abs(before.heard - owner_s.now()) < 3_600_000, "the owner is heard of by its own clock"
            keys = {agent: entry.counter for agent, entry in before.roster.items()}
            # Fresh keys are told after a day, and the record after seven uses them.
            for passed_ms, number in ((FRESH_MS, 2), (USED_MS - FRESH_MS, 3)):
                for each in (clock, meeting.relay.clock):
                    each.move(seconds=passed_ms / 1000)
                await trio.sleep(60)
                await settle()
                for home in (meeting.ann, meeting.ben):
                    state = (await meeting.room_of(home)).state
                    assert (state.contradicted, state.epochs.number) == ("", number)
            after = (await meeting.room_of(meeting.ben)).state.epochs.roster
            assert all(entry.counter > keys[agent] for agent, entry in after.items())
            await meeting.alice.send("two")
            await settle()
            assert (await meeting.bob.read())[-1:] == ["two"]

    run(main)
