"""What a home tells of a sealed room and cannot be so: each is found, and nothing of it is taken in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import commands as c
from parlerd.core.envelope import TextPart, decode_envelope, encode_envelope
from parlerd.core.epoch_record import EpochCard, EpochRecord, Roster
from parlerd.core.model import AgentId, By, MessageId, RoomId, Seq
from parlerd.core.room import Room, RoomState
from parlerd.core.sealing import sealed_part
from parlerd.engine.authors import Draft
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.uplink.composing import Composed
from parlerd.uplink.history import Contradicted, Judged, judge
from parlerd.uplink.lanes import mirror_of
from parlerd.uplink.rosters import Seats, records_of
from parlerd.uplink.turning import USED_MS
from tests.support.engine import run, settle
from tests.support.relayed import Home, homes_of
from tests.uplink.test_sealed import Meeting, met

Change = Callable[[t.EpochEntry], t.EpochEntry]


def entry(told: t.EpochTold) -> t.EpochEntry:
    return t.EpochEntry(record=told.record, signature=told.signature, wraps=told.wraps)


async def next_record(meeting: Meeting, previous: bytes = b"") -> t.EpochTold:
    """A record that Ann's home signs for the room as it is now, and that changes nobody. It names the one in force, or
    `previous`, as the one before it."""
    uplinks, room = meeting.ann.uplinks, await meeting.room_of(meeting.ann)
    state = room.state
    row = uplinks._secrets.epoch(state.room, state.epochs.record)
    assert row is not None
    made = epochs.make(
        home=state.home,
        room=state.room,
        before=epochs.Before(sealing.Epoch(row.number, previous or row.record, row.secret), dict(state.epochs.roster)),
        added=(),
        removed=(),
        history=state.history,
        card=EpochCard(b""),
        at=room.last_at,
        random=meeting.ann.world.random.bytes,
    )
    return uplinks._turning.told(made)


async def tell(meeting: Meeting, **item: object) -> Room:
    """Tell Ben's home something of the room; gives the mirror afterwards."""
    return await tell_home(meeting.ben, meeting, **item)


async def tell_home(home: Home, meeting: Meeting, **item: object) -> Room:
    """The same of another home."""
    (link,) = home.uplinks._links.values()
    await link.mirrors.take(t.LinkItem(room=meeting.opened.room, **item))  # type: ignore[arg-type]
    return await meeting.room_of(home)


async def composed(
    home: Home, room: str, agent: str, text: str, *, clear: bool = False, readers: tuple[AgentId, ...] | None = None
) -> Composed:
    """What a daemon signs for a room as its mirror is now, and does not send."""
    actor = await mirror_of(home.uplinks._desk, RoomId(room))
    composer = home.uplinks._composer
    command = c.PostMessage(
        kind="text", id=MessageId(f"m_{text}"), idempotency_key=f"k_{text}", fresh=True, visibility=readers
    )
    words = Draft((TextPart(text),), actor.aggregate.state.shown)
    by = By(AgentId(agent), home.world.keys.principal, "", "shell", "cli")
    decided = await composer.decided(actor, command, by, words)
    if clear:
        actor.aggregate.state.lifecycle.sealed = 0
    try:
        return composer.sign(decided, command, by, words, {})
    finally:
        actor.aggregate.state.lifecycle.sealed = 1


def otherwise(said: Composed, home: Home, author: str, **fields: object) -> Composed:
    """A message with other fields, as the first of its thread, signed by an agent of this home."""
    envelope = msgspec.structs.replace(decode_envelope(said.body), previous=b"", counter=1, **fields)
    body = encode_envelope(envelope)
    return Composed(said.id, body, home.world.keys.sign(author, "parler/message", body), None, said.thread, 0)


def page(room: Room, agent: str, message: Composed) -> t.LinkPage:
    shown = room.state.shown
    member = room.state.members[AgentId(agent)]
    told = t.LinkMessage(
        at=room.last_at, agent=agent, principal=member.principal, body=message.body, signature=message.signature
    )
    return t.LinkPage(public=shown.number, line=shown.line, before={}, jumped=False, messages=[told])


def card_with(state: RoomState, told: t.EpochEntry) -> t.Card:
    """A card that tells the room whole, as to a machine that was away, with this record in force."""
    return t.Card(
        whole=True, home=state.home, epoch=msgspec.structs.replace(told, roster=entries_of(state.epochs.roster))
    )


def entries_of(roster: Roster) -> list[t.RosterEntry]:
    return [
        t.RosterEntry(agent=agent, principal=entry.principal, handle=entry.handle, key=entry.key, counter=entry.counter)
        for agent, entry in roster.items()
    ]


def other_signature(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, signature=told.signature[::-1])


def no_wraps(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, wraps=b"\x90")


def wraps_of_another(told: t.EpochEntry) -> t.EpochEntry:
    return msgspec.structs.replace(told, wraps=told.wraps[:-1] + bytes([told.wraps[-1] ^ 1]))


def gone_on(told: t.EpochEntry) -> t.EpochEntry:
    """The record names another one before it; nobody signed that."""
    record = msgspec.msgpack.decode(told.record, type=EpochRecord)
    changed = msgspec.structs.replace(record, previous=bytes(32))
    return msgspec.structs.replace(told, record=msgspec.msgpack.encode(changed))


@pytest.mark.parametrize("change", [other_signature, no_wraps, wraps_of_another, gone_on])
def test_a_record_that_is_not_what_the_owner_s_person_signed_is_a_contradiction(tmp_path: Path, change: Change) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            record = await next_record(meeting)
            room = await tell(meeting, epoch=change(entry(record)))
            assert (room.state.contradicted, room.state.alarm) == ("epoch", "relay_equivocation")
            assert room.state.epochs.number == 2

    run(main)


def test_two_records_with_one_number_are_a_contradiction(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            one, other = await next_record(meeting), await next_record(meeting)
            assert one.record != other.record
            room = await tell(meeting, epoch=entry(one))
            assert (room.state.epochs.number, room.state.contradicted) == (3, "")
            # The same once more, and an older one, change nothing.
            assert (await tell(meeting, epoch=entry(one))).state.contradicted == ""
            assert (await tell(meeting, epoch=entry(other))).state.contradicted == "epoch"

    run(main)


@pytest.mark.parametrize("how", ["epoch", "card"])
def test_who_owned_the_room_once_begins_no_epoch_any_more(tmp_path: Path, how: str) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            person = await meeting.ann_served.person()
            transfer = t.TransferRoom(room=meeting.opened.room, agent="bob")
            await person.ask("room.transfer", transfer, t.OwnedRoom)
            await settle()
            room = await meeting.room_of(meeting.ben)
            assert room.state.owner_principal == meeting.ben.world.keys.principal
            # Whoever owns it now does: the record that puts Alice out is Ben's.
            ben = await meeting.bob_served.person()
            await ben.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="alice"), t.MemberGone)
            await settle()
            state = (await meeting.room_of(meeting.ben)).state
            assert (state.epochs.number, list(state.epochs.roster), state.contradicted) == (3, [state.owner], "")
            # Of the epoch in force Ann's home has no secret, and no reader of the record sees that.
            before = epochs.Before(sealing.Epoch(3, state.epochs.record, bytes(32)), dict(state.epochs.roster))
            made = epochs.make(
                home=state.home,
                room=state.room,
                before=before,
                added=(),
                removed=(),
                history=state.history,
                card=EpochCard(b""),
                at=state.epochs.at,
                random=meeting.ann.world.random.bytes,
            )
            told = entry(meeting.ann.uplinks._turning.told(made))
            room = await tell(meeting, **{how: told if how == "epoch" else card_with(state, told)})
            assert (room.state.epochs.number, room.state.contradicted) == (3, "epoch")

    run(main)


def test_an_agent_that_was_put_out_is_not_let_in_again_on_the_word_of_the_relay(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            person, room = await meeting.ann_served.person(), RoomId(meeting.opened.room)
            await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            await settle()
            state = (await meeting.room_of(meeting.ann)).state
            bob = next(member for member in state.members.values() if member.agent != state.owner)
            assert (state.epochs.number, bob.present, list(state.epochs.out)) == (3, False, [bob.agent])
            back = t.MemberEntry(
                agent=bob.agent,
                principal=bob.principal,
                handle=bob.handle,
                host=bob.host,
                role=bob.role,
                present=True,
                joined_at=bob.joined_at,
            )
            (link,) = meeting.ann.uplinks._links.values()
            card = t.Card(whole=False, home=state.home, members=[back], moves=99)
            await link.mirrors.take(t.LinkItem(room=room, card=card))
            mirror = await meeting.room_of(meeting.ann)
            assert mirror.state.members[bob.agent].present
            assert mirror.epochs.waiting() is not None
            assert await meeting.ann.uplinks._turning.following(mirror) is None
            # A record that is made for something else leaves the agent out, too.
            mirror.state.epochs.used = 1
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            told = await meeting.ann.uplinks._turning.following(mirror)
            assert told is not None
            assert msgspec.msgpack.decode(told.record, type=EpochRecord).added == ()

    run(main)


def test_a_record_without_those_between_and_with_another_roster_is_a_contradiction(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut_off("ben")
            await settle()
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            record = entry(await next_record(meeting))
            seats = entries_of((await meeting.room_of(meeting.ben)).state.epochs.roster)
            assert len(seats) == 2, "with Bob, who is out"
            room = await tell(meeting, epoch=msgspec.structs.replace(record, roster=seats))
            assert room.state.contradicted == "epoch"

    run(main)


def test_a_record_that_follows_another_than_the_one_in_force_is_a_contradiction(tmp_path: Path) -> None:
    """The owner's person signed it: who can read would be said by another chain to others."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await tell(meeting, epoch=entry(await next_record(meeting, previous=bytes(32))))
            assert (room.state.contradicted, room.state.epochs.number) == ("epoch", 2)

    run(main)


def test_a_message_by_somebody_whom_the_record_in_force_does_not_hold_is_a_contradiction(tmp_path: Path) -> None:
    """Also where another member gave somebody who was put out the secret: that one is heard no more."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ann)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            said = await composed(meeting.ann, meeting.opened.room, room.state.owner, "mine")
            room = await meeting.room_of(meeting.ann)
            told = page(room, bob, otherwise(said, meeting.ben, bob))
            assert (await tell_home(meeting.ann, meeting, page=told)).state.contradicted == "epoch"

    run(main)


@pytest.mark.parametrize("wrapped_to", ["another too", "not its author", "whom no record holds"])
def test_a_private_message_that_is_not_wrapped_to_its_readers_and_its_author_is_a_contradiction(
    tmp_path: Path, wrapped_to: str
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            alice = room.state.owner
            bob = next(agent for agent in room.state.members if agent != alice)
            nobody = meeting.ben.world.keys.create_agent()
            readers = (bob, nobody) if wrapped_to == "whom no record holds" else (bob,)
            wraps = {"another too": {alice, bob, nobody}, "not its author": {bob}}.get(wrapped_to, {alice, *readers})
            key = sealing.new_key(meeting.ann.world.random.bytes)
            said = await composed(meeting.ann, meeting.opened.room, alice, "mine")
            sealed = sealed_part(decode_envelope(said.body))
            part = msgspec.structs.replace(
                sealed,
                ephemeral=key.public,
                digest=bytes(32),
                wraps=tuple((AgentId(each), sealing.wrap(bytes(32), key.public, key)) for each in sorted(wraps)),
            )
            told = otherwise(said, meeting.ann, alice, visibility=tuple(sorted(readers)), parts=(part,))
            room = await tell(meeting, page=page(room, alice, told))
            assert room.state.contradicted == "epoch"

    run(main)


def test_a_message_under_a_record_that_is_in_force_no_more_is_a_contradiction(tmp_path: Path) -> None:
    """So whoever was kicked adds nothing later together with the relay."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            agent = room.state.owner
            late = await composed(meeting.ann, meeting.opened.room, agent, "late")
            assert (await tell(meeting, epoch=entry(await next_record(meeting)))).state.epochs.number == 3
            room = await tell(meeting, page=page(room, agent, late))
            assert room.state.contradicted == "epoch"
            assert room.state.shown.number == 1

    run(main)


def test_an_old_message_under_a_record_that_was_in_force_no_more_is_a_contradiction(tmp_path: Path) -> None:
    """Of what a mirror leaves out, too, nobody who was put out has said something later."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            late = await composed(meeting.ben, meeting.opened.room, bob, "late")
            await meeting.alice.send("one")
            await meeting.bob.read()
            meeting.relay.clock.move(seconds=USED_MS / 1000)
            await trio.sleep(30)
            now = await composed(meeting.ann, meeting.opened.room, room.state.owner, "now")
            room = await meeting.room_of(meeting.ben)
            assert room.state.epochs.number == 3
            told = [page(room, bob, late), page(room, room.state.owner, now)]
            (link,) = meeting.ben.uplinks._links.values()

            everybody = dict.fromkeys(room.state.epochs.roster, False)
            records = records_of(message for each in told for message in each.messages)
            inside = {record: Seats(number, everybody) for record, number in records.items()}

            def judged(*pages: t.LinkPage, epoch: int = 0) -> Judged:
                messages = [message for each in pages for message in each.messages]
                asked = msgspec.structs.replace(told[0], before={bob: 7}, messages=messages)
                return judge(asked, room.state, bob, Seq(7), {}, link.mirrors.opener, inside, epoch)

            assert (len(judged(*told).earlier.messages), judged(*told, epoch=2).epoch) == (2, 3)
            with pytest.raises(Contradicted) as lie:
                judged(*reversed(told))
            assert lie.value.what == "epoch"
            # Nor on a page that begins where a later record was in force.
            with pytest.raises(Contradicted) as lie:
                judged(told[0], epoch=3)
            assert lie.value.what == "epoch"
            # Who was in no roster then has said nothing; of whom nobody shows that, nothing is shown.
            (first,) = records_of(told[0].messages)
            inside[first] = Seats(2, {agent: asks for agent, asks in everybody.items() if agent != bob})
            with pytest.raises(Contradicted) as lie:
                judged(*told)
            assert lie.value.what == "epoch"
            del inside[first]
            assert [each.header.by.actor for each in judged(*told).earlier.messages] == [room.state.owner]
            # And nobody passes an older record, under which it was in, off as a later one.
            part = sealed_part(decode_envelope(late.body))
            passed_off = otherwise(late, meeting.ben, bob, parts=(msgspec.structs.replace(part, epoch=3),))
            inside[first] = Seats(2, everybody)
            with pytest.raises(Contradicted) as lie:
                judged(page(room, bob, passed_off))
            assert lie.value.what == "epoch"

    run(main)


def test_who_was_put_out_says_nothing_in_what_a_member_that_was_away_looks_back_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay and who was put out together: of private messages no public line tells where they stand."""
    for bound in ("engine.following.CATCH_UP", "engine.following.NEWEST", "uplink.mirrors.NEWEST"):
        monkeypatch.setattr(f"parlerd.{bound}", 2)

    async def main() -> None:
        wires, relay, home = homes_of(tmp_path)
        meeting, cat = Meeting(wires, relay, home("ann"), home("ben")), home("cat")
        async with relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben, cat.serving() as third:
            await meeting.open(ann, ben)
            await meeting.admit(meeting.bob, "bob")
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            await settle()
            room, me = meeting.opened.room, AgentId((await carol.whoami()).id)
            bob = AgentId((await meeting.bob.whoami()).id)
            late = await composed(meeting.ben, room, bob, "late", readers=(me,))
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=room, agent="bob"), t.MemberGone)
            await meeting.alice.send("bob is out")
            assert await carol.read() == ["bob is out"]
            wires.cut_off("cat")
            await settle()
            for number in range(6):
                await meeting.alice.send(f"n{number}")
            wires.bring_back("cat")
            await trio.sleep(90)
            assert (await meeting.room_of(cat)).state.contradicted == ""
            (link,) = cat.uplinks._links.values()
            call = link.call

            async def lied(operation: str, params: t.Params, **how: Any) -> t.Result:
                answer: t.Result = await call(operation, params, **how)
                if isinstance(answer, t.LinkPage):
                    (told,) = page(await meeting.room_of(cat), bob, late).messages
                    answer = msgspec.structs.replace(answer, messages=[told, *answer.messages])
                return answer

            # What is told honestly is read, page after page.
            heard = await carol.recv(since=0, limit=50)
            while heard.more:
                heard = await carol.recv(since=heard.messages[-1].seq, limit=2)
            assert heard.messages[-1].text == "n5"
            assert (await meeting.room_of(cat)).state.contradicted == ""
            monkeypatch.setattr(link, "call", lied)
            found: list[str] = []
            since = 0
            while not found or found[-1] != "n5":
                heard = await carol.recv(since=since, limit=2)
                found += [message.text for message in heard.messages]
                since = heard.messages[-1].seq
                assert "late" not in found
            assert (await meeting.room_of(cat)).state.contradicted == "epoch"

    run(main)


def test_a_message_in_clear_is_a_contradiction_in_a_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            clear = await composed(meeting.ann, meeting.opened.room, room.state.owner, "clear", clear=True)
            assert decode_envelope(clear.body).v == 2
            room = await tell(meeting, page=page(room, room.state.owner, clear))
            assert room.state.contradicted == "form"

    run(main)


def test_a_message_that_cannot_be_opened_is_one_sentence_and_fails_no_page(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            secrets = meeting.ann.uplinks._secrets
            room = await meeting.room_of(meeting.ann)
            row = secrets.epoch(room.state.room, room.state.epochs.record)
            assert row is not None
            # Ann's home signs what it sealed under no secret of this epoch.
            secrets._epochs[room.state.room][row.record] = msgspec.structs.replace(row, secret=bytes(32))
            await meeting.alice.send("lost")
            secrets._epochs[room.state.room][row.record] = row
            await meeting.alice.send("found")
            page = await meeting.bob.recv()
            lost, found = page.messages
            assert (found.text, lost.author.name) == ("found", "alice")
            assert lost.text == "[The words of this message are encrypted, and this machine could not read them.]"

    run(main)


def test_what_an_author_sealed_cannot_be_told_as_another_s_or_in_another_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            said = await composed(meeting.ann, meeting.opened.room, room.state.owner, "mine")
            room = await tell(meeting, page=page(room, bob, said))
            assert room.state.contradicted == "signature"
        async with met(tmp_path / "again") as meeting:
            room = await meeting.room_of(meeting.ben)
            said = await composed(meeting.ann, meeting.opened.room, room.state.owner, "mine")
            envelope = msgspec.structs.replace(decode_envelope(said.body), room=RoomId("r_another"))
            body = encode_envelope(envelope)
            signature = meeting.ann.world.keys.sign(room.state.owner, "parler/message", body)
            other = Composed(said.id, body, signature, None, said.thread, 0)
            room = await tell(meeting, page=page(room, room.state.owner, other))
            assert room.state.contradicted == "room"

    (tmp_path / "again").mkdir()
    run(main)
