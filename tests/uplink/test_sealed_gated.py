"""Messages that wait in a sealed room: sealed when they are written, shown by the relay, read by who was in then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from parlerd.core import events as e
from parlerd.core.envelope import (
    RELEASED,
    Envelope,
    GatedPart,
    GatePart,
    Inside,
    TextPart,
    decode_envelope,
    decode_inside,
    encode_envelope,
    encode_inside,
    opened,
    opened_part,
    sealed_in,
)
from parlerd.core.gated import decode_signed, released
from parlerd.core.model import AgentId, MessageId, Position, RoomId, Seq
from parlerd.core.room import Room
from parlerd.core.sealing import sealed_part
from parlerd.engine import gating
from parlerd.engine.audit import Audited, is_signed
from parlerd.engine.reading import SEALED_AWAY
from parlerd.identity.receipt_checks import check
from parlerd.operations import types as t
from parlerd.store.port import EraseBodies
from parlerd.uplink.history import Contradicted, judge
from parlerd.uplink.rosters import Inside as Rosters
from parlerd.uplink.rosters import Seats, records_of
from parlerd.uplink.secrets import HomeOpener
from parlerd.uplink.walking import Pull, unknown
from tests.support.engine import Party, run, settle
from tests.support.relayed import Home, homes_of
from tests.support.room_state import put
from tests.uplink.test_sealed import Meeting, everything, meeting_in, met, spelled
from tests.uplink.test_sealed_lies import tell, tell_home

OPEN = "has(state._shared.open)"


async def gate(who: Party, text: str, enabled: str = OPEN, **rest: Any) -> t.Sent:
    sent = await who.send(text, enabled=enabled, **rest)
    assert sent.gated
    return sent


async def waiting(meeting: Meeting) -> list[tuple[MessageId, bytes, bytes]]:
    """What the relay keeps of the messages that wait: the id, what was signed, and the signature."""
    found = meeting.relay.store.whole_facts(RoomId(meeting.opened.room), Position(0), 500)
    kept = [(fact.header.event, decode_signed(fact.body or b"")) for fact in found if _is_gated(fact.header.event)]
    return [(event.id, said.body, said.signature) for event, said in kept if isinstance(event, e.MessageGated)]


def _is_gated(event: e.Event) -> bool:
    return isinstance(event, e.MessageGated)


async def has_secrets(home: Home, meeting: Meeting) -> list[int]:
    return sorted(row.number for row in await home.uplinks._desk.library.epoch_secrets(RoomId(meeting.opened.room)))


def forget_words(home: Home, meeting: Meeting) -> None:
    """Let all words of the room go that a machine has so far."""
    store, room = home.world.store, RoomId(meeting.opened.room)
    positions = [position for position, _ in store.oldest_bodies(room, Position(0), 100)]
    (outcome,) = store.transact([[EraseBodies(room, positions)]])
    assert outcome.error is None


async def come_in(meeting: Meeting, who: Party, name: str) -> None:
    waits = await who.join(meeting.opened.session_key)
    await (await meeting.ann_served.person()).approve(name, join_code=waits.join_code)
    await settle()
    await who.come_in(meeting.opened.session_key)


async def turn(meeting: Meeting) -> None:
    """Let an epoch begin that changes nobody, by the owner's machine."""
    owner = meeting.ann.uplinks._turning
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(owner, "_is_used_up", lambda room, now: True)
        told = await owner.following(await meeting.room_of(meeting.ann))
    assert told is not None
    (link,) = meeting.ann.uplinks._links.values()
    await link.call("link.epoch", t.EpochAtRoom(room=meeting.opened.room, epoch=told))


# -- what is read ------------------------------------------------------------------------------------------


def test_a_message_that_waits_is_read_when_it_is_shown_and_the_relay_reads_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            sent = await gate(meeting.bob, "the word is marlin", kind="code-word", idempotency_key="swordfish")
            assert await meeting.alice.read() == []
            await put(meeting.alice, "open", True)
            await settle()
            page = await meeting.alice.recv()
            [message] = page.messages
            assert (message.id, str(message.text), message.kind) == (sent.id, "the word is marlin", "code-word")
            assert (message.author.name, message.verified) == ("bob", "valid")
            await meeting.alice.commit(page)
            assert "the word is marlin" in await meeting.bob.read(all=True)
            kept = everything(meeting.relay.store)
            for word in ("marlin", "swordfish", "code-word"):
                assert not any(each in kept for each in spelled(word)), word
            # Nor is a guess of the key confirmed by the id that follows from it.
            room = await meeting.room_of(meeting.ben)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            assert sent.id != gating._id_of(room.state.room, bob, "swordfish")
            # The condition is what the relay goes by.
            assert any(each in kept for each in spelled("_shared.open"))
            reply = await meeting.alice.send("seen", reply_to=sent.id)
            assert (await meeting.bob.read()) == ["seen"]
            await put(meeting.bob, "again", True)
            await gate(meeting.bob, "and later", "has(state._shared.last)", reply_to=reply.id)
            await put(meeting.alice, "last", 1)
            assert await meeting.alice.read() == ["and later"]

    run(main)


def test_its_author_may_be_away_when_it_is_shown(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann:
            async with meeting.ben.serving() as ben:
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                await gate(meeting.bob, "when you are ready")
                await settle()
            # An epoch more makes no difference.
            await turn(meeting)
            await settle()
            await put(meeting.alice, "open", True)
            assert await meeting.alice.read() == ["when you are ready"]
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3

    run(main)


def test_who_comes_later_reads_it_where_the_history_is_full(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben)
            await gate(meeting.alice, "written before bob came")
            await gate(meeting.alice, "for the bold", 'agents[self].role == "bold"')
            await come_in(meeting, meeting.bob, "bob")
            await put(meeting.alice, "open", True)
            assert await meeting.bob.read() == ["written before bob came"]
            role = t.GiveRole(room=meeting.opened.room, agent="bob", role="bold")
            await meeting.alice.ask("room.role", role, t.RoleOfMember)
            assert await meeting.bob.read() == ["for the bold"]

    run(main)


@pytest.mark.parametrize("history", ["from-join", "none"])
def test_elsewhere_who_comes_later_is_not_shown_it_and_the_others_keep_its_secret(tmp_path: Path, history: str) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben, history)
            # No word of the first epoch is on Ann's machine.
            forget_words(meeting.ann, meeting)
            await gate(meeting.alice, "written before bob came")
            await come_in(meeting, meeting.bob, "bob")
            await settle()
            # The secret of that epoch is needed yet.
            assert (await has_secrets(meeting.ann, meeting), await has_secrets(meeting.ben, meeting)) == ([1, 2], [2])
            await put(meeting.alice, "open", True)
            assert await meeting.bob.read() == []
            assert (await meeting.alice.read(all=True))[-1] == "written before bob came"
            # The relay says that nothing waits any more, and the words that were shown are here in clear.
            await settle()
            assert await has_secrets(meeting.ann, meeting) == [2]

    run(main)


def test_a_secret_is_kept_until_all_is_told_that_a_machine_missed(tmp_path: Path) -> None:
    """The record comes before the home says that something waits that was sealed before it."""

    async def main() -> None:
        async with met(tmp_path, "from-join") as meeting:
            await settle()
            forget_words(meeting.ben, meeting)
            meeting.wires.cut_off("ben")
            await gate(meeting.alice, "written while ben was away")
            await turn(meeting)
            meeting.wires.bring_back("ben")
            await trio.sleep(120)
            assert (await meeting.room_of(meeting.ben)).state.epochs.number == 3
            await put(meeting.alice, "open", True)
            assert await meeting.bob.read(wait=60) == ["written while ben was away"]

    run(main)


@pytest.mark.parametrize("history", ["from-join", "none"])
def test_who_was_in_when_it_was_written_and_came_back_is_shown_it(tmp_path: Path, history: str) -> None:
    async def main() -> None:
        async with met(tmp_path, history) as meeting:
            await gate(meeting.alice, "mine")
            await meeting.bob.ask("room.leave", t.LeaveAsMember(room=meeting.opened.room), t.MemberGone)
            await trio.sleep(60)
            await meeting.alice.send("while bob was out")
            assert (await meeting.room_of(meeting.ann)).state.epochs.number == 3
            await meeting.admit(meeting.bob, "bob")
            await put(meeting.alice, "open", True)
            assert (await meeting.bob.read())[-1:] == ["mine"]
            assert "while bob was out" not in await meeting.bob.read(all=True)
            assert (await meeting.room_of(meeting.ben)).state.contradicted == ""

    run(main)


def test_a_private_message_that_waits_is_for_its_readers(tmp_path: Path) -> None:
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
            carol = await third.agent("carol")
            await meeting.admit(carol, "carol")
            sent = await gate(meeting.alice, "for bob", visible_to=("bob",))
            assert sent.readers == ["bob"]
            kick = t.KickMember(room=meeting.opened.room, agent="carol")
            await (await ann.person()).ask("room.kick", kick, t.MemberGone)
            await settle()
            await put(meeting.alice, "open", True)
            assert await meeting.bob.read() == ["for bob"]
            why = await meeting.alice.ask("message.why", t.Why(id=sent.id), t.WhyResult)
            assert [each.name for each in why.readers] == ["bob"]

    run(main)


def test_a_reply_that_waits_is_for_those_readers_of_a_private_message_who_are_in(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            anna = await meeting.ann_served.agent("anna")
            await meeting.admit(anna, "anna")
            private = await meeting.alice.send("for two", visible_to=("bob", "anna"))
            assert await meeting.bob.read() == ["for two"]
            kick = t.KickMember(room=meeting.opened.room, agent="anna")
            await (await meeting.ann_served.person()).ask("room.kick", kick, t.MemberGone)
            await settle()
            sent = await gate(meeting.bob, "between us", reply_to=private.id)
            assert sent.readers == ["alice"]
            await put(meeting.alice, "open", True)
            assert await meeting.alice.read() == ["between us"]

    run(main)


def test_a_message_that_an_epoch_overtook_is_sealed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            (link,) = meeting.ben.uplinks._links.values()
            take = link.mirrors.take

            async def late(item: t.LinkItem, pull: Pull | None = None) -> bool:
                await trio.sleep(0.5)
                return await take(item, pull)

            monkeypatch.setattr(link.mirrors, "take", late)
            await turn(meeting)
            await gate(meeting.bob, "sealed twice", idempotency_key="once")
            again = await meeting.bob.send("sealed twice", enabled=OPEN, idempotency_key="once")
            assert again.replayed
            [(_, body, _)] = await waiting(meeting)
            assert sealed_part(decode_envelope(body)).epoch == 3
            await put(meeting.alice, "open", True)
            assert await meeting.alice.read() == ["sealed twice"]

    run(main)


def test_a_repeated_request_is_known_whatever_was_sealed_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            sent = await gate(meeting.bob, "once", idempotency_key="mine")
            await turn(meeting)
            await settle()
            again = await meeting.bob.send("once", enabled=OPEN, idempotency_key="mine")
            assert (again.id, again.replayed, again.at) == (sent.id, True, sent.at)
            other = t.Send(room=meeting.opened.room, text="twice", enabled=OPEN, idempotency_key="mine")
            assert (await meeting.bob.refused("message.send", other)).code == "idempotency_conflict"
            await put(meeting.alice, "open", True)
            shown = await meeting.bob.send("once", enabled=OPEN, idempotency_key="mine")
            assert (shown.id, shown.replayed, bool(shown.seq)) == (sent.id, True, True)
            assert await meeting.alice.read() == ["once"]

    run(main)


def test_what_waits_is_withdrawn_and_its_words_go_with_a_timer(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            back = await gate(meeting.bob, "taken back")
            await meeting.bob.ask("message.withdraw", t.WithdrawMessage(id=back.id), t.Withdrawn)
            timer = t.TimerAsked(effect="delete", ms=60_000)
            assert not (await meeting.bob.send("for a minute", timer=timer)).gated
            assert await meeting.alice.read() == ["for a minute"]
            await put(meeting.alice, "open", True)
            assert await meeting.alice.read() == []
            await trio.sleep(61)
            await put(meeting.alice, "later", True)
            await settle()
            for who in (meeting.alice, meeting.bob):
                assert "for a minute" not in await who.read(all=True)
            for home in (meeting.ann, meeting.ben):
                assert "for a minute" not in repr(everything(home.world.store))

    run(main)


def test_a_task_that_waits_is_claimed_and_done(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            task = await gate(meeting.alice, "mine the ore", "state._shared.day == true", kind="task")
            assert (await meeting.bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)).id is None
            await put(meeting.alice, "day", True)
            await settle()
            assert [each.id for each in (await meeting.bob.recv(unclaimed=True)).messages] == [task.id]
            claimed = await meeting.bob.ask("task.claim", t.ClaimTask(), t.TaskHeld)
            assert claimed.id == task.id
            await meeting.bob.send("done", kind="result", reply_to=task.id)
            await settle()
            assert (await meeting.room_of(meeting.ann)).claims.get(MessageId(task.id)).state == "done"  # type: ignore[union-attr]

    run(main)


def test_what_each_of_them_keeps_is_what_was_signed_and_a_change_of_what_was_read_is_found(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await gate(meeting.alice, "one")
            await gate(meeting.bob, "for alice", visible_to=("alice",))
            await gate(meeting.bob, "a task", kind="task", timer=t.TimerAsked(effect="delete", ms=60_000))
            await put(meeting.alice, "open", True)
            assert await meeting.alice.read() == ["for alice", "a task"]
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
                read = [
                    fact
                    for fact in facts
                    if isinstance(fact.header.event, e.MessagePosted) and fact.header.event.envelope_v == RELEASED
                ]
                assert len(read) == 3
                for fact in read if found is not there else ():
                    kept = opened_part(fact.body or b"")
                    other = Inside(kind="text", authored_at=found.last_at, via="cli", parts=(TextPart("else"),))
                    lies = (
                        opened(opened_part(read[0].body or b"").body, b"", kept.words),
                        opened(kept.body, b"", encode_inside(other)),
                        opened(kept.body, b"", kept.words[:-1]),
                        opened(kept.body, b"", without_gate(kept.words)),
                        opened(shown_otherwise(kept.body), b"", kept.words),
                    )
                    for number, body in enumerate(lies):
                        if fact is not read[0] or number:
                            assert not is_signed(msgspec.structs.replace(fact, body=body), about)

    run(main)


def test_what_cannot_be_opened_is_kept_as_it_came_and_shown_as_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await gate(meeting.alice, "mine", kind="note")
            monkeypatch.setattr(HomeOpener, "words", lambda *args, **seat: None)
            await put(meeting.alice, "open", True)
            await settle()
            page = await meeting.bob.recv()
            [message] = page.messages
            assert (str(message.text), message.kind, message.verified) == (SEALED_AWAY, "other", "valid")
            mirror = await meeting.room_of(meeting.ben)
            facts = meeting.ben.world.store.whole_facts(mirror.state.room, Position(0), 500)
            about = Audited.of(mirror.state, facts[0].body)
            assert facts[-1].header.by.via == "link"
            assert [fact.header.event for fact in facts if not is_signed(fact, about)] == []

    run(main)


def test_a_receipt_of_what_was_shown_is_over_what_its_author_sealed(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            sent = await gate(meeting.bob, "the word is marlin")
            await put(meeting.alice, "open", True)
            await settle()
            given = await meeting.alice.ask("receipt.get", t.GetReceipt(id=sent.id), t.ReceiptGiven)
            found = check(msgspec.json.encode(given), {meeting.relay.keys.id})
            assert (found.verdict, found.is_authored) == ("valid", True)
            assert given.opening is not None
            shown = given.opening.body or b""
            assert sealed_in(shown) is not None
            assert b"marlin" not in msgspec.json.encode(given)
            # The key beside it opens what was sealed in there, and another one does not.
            assert (found.text, found.is_sealed) == ("the word is marlin", True)
            wrong = msgspec.structs.replace(given.opening, key=bytes(32))
            changed = msgspec.json.encode(msgspec.structs.replace(given, opening=wrong))
            assert check(changed, {meeting.relay.keys.id}).verdict == "key_mismatch"
            without = msgspec.structs.replace(given.opening, key=msgspec.UNSET)
            changed = msgspec.json.encode(msgspec.structs.replace(given, opening=without))
            found = check(changed, {meeting.relay.keys.id})
            assert (found.verdict, found.text, found.is_sealed) == ("valid", None, True)

    run(main)


def test_what_a_relay_lost_is_shown_again_under_another_name_behind_a_record(tmp_path: Path) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            async with meeting.relay.serving():
                await meeting.open(ann, ben)
                await meeting.admit(meeting.bob, "bob")
                first = await gate(meeting.bob, "when it is open")
                await settle()
            copy = meeting.relay.copied()
            async with meeting.relay.serving():
                await trio.sleep(120)
                await put(meeting.alice, "open", True)
                assert await meeting.alice.read(wait=60) == ["when it is open"]
            meeting.relay.store = copy
            async with meeting.relay.serving():
                await trio.sleep(120)
                rewind = t.RewindRoom(room=meeting.opened.room, confirmed=True)
                await (await ann.person()).ask("room.rewind", rewind, t.RewoundRoom)
                await trio.sleep(120)
                await put(meeting.alice, "open", True)
                page = await meeting.alice.recv(wait=60)
                [again] = page.messages
                assert (str(again.text), again.id != first.id) == ("when it is open", True)
                assert (await meeting.room_of(meeting.ann)).state.alarm is None
                assert (await meeting.room_of(meeting.ben)).state.alarm is None

    run(main)


def test_what_a_mirror_leaves_out_is_read_and_judged_as_well(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            alice = room.state.owner
            bob = next(agent for agent in room.state.members if agent != alice)
            (link,) = meeting.ben.uplinks._links.values()

            def judged(part: GatedPart, author: str = alice, inside: Rosters | None = None) -> list[str]:
                page = shows(room, author, released(part, id, None), before={bob: 7})
                everybody = Seats(room.state.epochs.number, dict.fromkeys(room.state.epochs.roster, False))
                rosters = dict.fromkeys(records_of(page.messages), everybody) if inside is None else inside
                found = judge(page, room.state, AgentId(bob), Seq(7), {}, link.mirrors.opener, rosters)
                return [text_in(each.body or b"") for each in found.earlier.messages]

            assert judged(part) == ["mine"]
            messages = shows(room, alice, released(part, id, None)).messages
            (record,) = records_of(messages)
            # Whoever lacks the secret of that epoch walks back to it.
            secrets = meeting.ben.uplinks._secrets
            assert unknown(secrets, RoomId("r_without_secrets"), messages) == {record}
            assert unknown(secrets, room.state.room, messages) == set()
            # Of whom nobody shows that it was in then, nothing is shown.
            assert judged(part, inside={}) == []
            others = {record: Seats(room.state.epochs.number, {AgentId(bob): False})}
            lies: list[tuple[GatedPart, str, Rosters | None]] = [
                (part, alice, others),
                (part, bob, None),
                (other_condition(part), alice, None),
            ]
            for said, author, inside in lies:
                with pytest.raises(Contradicted):
                    judged(said, author, inside)
            private = wrapped_to_more(meeting, part, alice, bob)
            page = shows(room, alice, released(private, id, (alice,)), before={alice: 7})
            with pytest.raises(Contradicted) as lie:
                judge(page, room.state, alice, Seq(7), {}, link.mirrors.opener, {})
            assert lie.value.what == "form"

    run(main)


def without_gate(words: bytes) -> bytes:
    """Other words, which say of everything but the gate what was said."""
    return encode_inside(msgspec.structs.replace(decode_inside(words), parts=(TextPart("else"),)))


def shown_otherwise(body: bytes) -> bytes:
    """What a home showed, in an envelope that it did not show."""
    told = msgspec.msgpack.decode(body)
    return msgspec.msgpack.encode({**told, "nonce": bytes(16)})


def text_in(body: bytes) -> str:
    """The words of a message as a member's home keeps them."""
    return "".join(part.text for part in decode_envelope(body).parts if isinstance(part, TextPart))


# -- a relay that lies -------------------------------------------------------------------------------------


def shows(room: Room, author: str, envelope: Envelope, **page: Any) -> t.LinkPage:
    """A page on which a home shows this to everybody who follows."""
    state = room.state
    told = t.LinkMessage(
        at=room.last_at,
        agent=author,
        principal=state.members[AgentId(author)].principal,
        body=encode_envelope(envelope),
        signature=b"",
    )
    fields: dict[str, Any] = {"public": state.shown.number, "line": state.shown.line, "messages": [told]}
    return t.LinkPage(**{"before": {}, "jumped": False, **fields, **page})


def other_condition(part: GatedPart) -> GatedPart:
    envelope = decode_envelope(part.body)
    parts = tuple(GatePart("true") if isinstance(each, GatePart) else each for each in envelope.parts)
    return GatedPart(encode_envelope(msgspec.structs.replace(envelope, parts=parts)), part.signature)


def without_condition(part: GatedPart) -> GatedPart:
    envelope = decode_envelope(part.body)
    return GatedPart(encode_envelope(msgspec.structs.replace(envelope, parts=envelope.parts[:1])), part.signature)


def of_another_epoch(part: GatedPart) -> GatedPart:
    envelope = decode_envelope(part.body)
    sealed = msgspec.structs.replace(sealed_part(envelope), epoch=1)
    return GatedPart(
        encode_envelope(msgspec.structs.replace(envelope, parts=(sealed, *envelope.parts[1:]))), part.signature
    )


@pytest.mark.parametrize("altered", [other_condition, without_condition, of_another_epoch])
def test_what_its_author_signed_cannot_be_another_s_word(
    tmp_path: Path, altered: Callable[[GatedPart], GatedPart]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            await gate(meeting.alice, "mine")
            [(id, body, signature)] = await waiting(meeting)
            room = await meeting.room_of(meeting.ben)
            told = shows(room, room.state.owner, released(altered(GatedPart(body, signature)), id, None))
            assert (await tell(meeting, page=told)).state.contradicted == "unsigned"

    run(main)


def wrapped_to_more(meeting: Meeting, part: GatedPart, author: str, reader: str) -> GatedPart:
    """The message as a private one for its author alone, which is wrapped to another agent too."""
    envelope = decode_envelope(part.body)
    wraps = tuple((AgentId(each), bytes(48)) for each in sorted((author, reader)))
    sealed = msgspec.structs.replace(sealed_part(envelope), ephemeral=bytes(32), digest=bytes(32), wraps=wraps)
    parts = (sealed, *envelope.parts[1:])
    body = encode_envelope(msgspec.structs.replace(envelope, parts=parts, visibility=(AgentId(author),)))
    return GatedPart(body, meeting.ann.world.keys.sign(author, "parler/gated", body))


async def a_message(meeting: Meeting, **rest: Any) -> tuple[MessageId, GatedPart, Room]:
    """A message of Alice's that waits, and the room as Ben's home has it."""
    await gate(meeting.alice, "mine", **rest)
    [(id, body, signature)] = await waiting(meeting)
    return id, GatedPart(body, signature), await meeting.room_of(meeting.ben)


def test_it_is_shown_as_its_author_s_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            told = shows(room, bob, released(part, id, None))
            assert (await tell(meeting, page=told)).state.contradicted == "unsigned"

    run(main)


def test_it_is_shown_to_nobody_twice_whatever_it_is_called(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            alice = room.state.owner
            room = await tell(meeting, page=shows(room, alice, released(part, MessageId("m_other"), None)))
            # Under another id it is the same message, and readable.
            assert room.state.contradicted == ""
            assert "mine" in await meeting.bob.read(all=True)
            again = await tell(meeting, page=shows(room, alice, released(part, id, None)))
            assert again.state.contradicted == "id"

    run(main)


@pytest.mark.parametrize("readers", [lambda alice, bob: None, lambda alice, bob: tuple(sorted((alice, bob)))])
def test_a_private_one_is_shown_to_none_but_its_readers(
    tmp_path: Path, readers: Callable[[AgentId, AgentId], tuple[AgentId, ...] | None]
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            anna = await meeting.ann_served.agent("anna")
            await meeting.admit(anna, "anna")
            id, part, room = await a_message(meeting, visible_to=("anna",))
            alice = room.state.owner
            bob = next(each.agent for each in room.state.members.values() if each.handle == "bob")
            told = released(part, id, readers(alice, bob))
            room = await tell(meeting, page=shows(room, alice, told))
            assert room.state.contradicted == "unsigned"

    run(main)


def test_it_is_not_shown_before_the_epoch_in_which_it_was_written(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            before = (await meeting.room_of(meeting.ben)).state.shown
            meeting.wires.cut_off("ben")
            await turn(meeting)
            await settle()
            id, part, room = await a_message(meeting)
            assert (room.state.epochs.number, room.state.shown) == (2, before)
            page = shows(room, room.state.owner, released(part, id, None))
            assert (await tell(meeting, page=page)).state.contradicted == "epoch"

    run(main)


def test_it_is_not_shown_before_what_its_author_had_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut_off("ben")
            await meeting.alice.send("one")
            assert "one" in await meeting.alice.read(all=True)
            id, part, room = await a_message(meeting)
            page = shows(room, room.state.owner, released(part, id, None))
            assert (await tell(meeting, page=page)).state.contradicted == "shown"

    run(main)


def test_who_was_put_out_says_nothing_later_by_a_message_that_waits(tmp_path: Path) -> None:
    """With the relay: it keeps what somebody wrote while it was in, or writes it now under the record of then."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            await gate(meeting.bob, "from the grave")
            [(id, body, signature)] = await waiting(meeting)
            room = await meeting.room_of(meeting.ann)
            bob = next(agent for agent in room.state.members if agent != room.state.owner)
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="bob"), t.MemberGone)
            await settle()
            room = await meeting.room_of(meeting.ann)
            page = shows(room, bob, released(GatedPart(body, signature), id, None))
            assert (await tell_home(meeting.ann, meeting, page=page)).state.contradicted == "epoch"

    run(main)


def test_a_private_one_is_wrapped_to_its_readers_and_its_author_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            alice = room.state.owner
            bob = next(agent for agent in room.state.members if agent != alice)
            private = wrapped_to_more(meeting, part, alice, bob)
            page = shows(room, alice, released(private, id, (alice,)))
            assert (await tell(meeting, page=page)).state.contradicted == "epoch"

    run(main)


def test_nobody_is_named_as_a_reader_whom_the_record_in_force_does_not_hold(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            anna = await meeting.ann_served.agent("anna")
            await meeting.admit(anna, "anna")
            id, part, room = await a_message(meeting)
            gone = next(each.agent for each in room.state.members.values() if each.handle == "anna")
            bob = next(each.agent for each in room.state.members.values() if each.handle == "bob")
            person = await meeting.ann_served.person()
            await person.ask("room.kick", t.KickMember(room=meeting.opened.room, agent="anna"), t.MemberGone)
            await settle()
            room = await meeting.room_of(meeting.ben)
            readers = tuple(sorted((room.state.owner, gone, bob)))
            page = shows(room, room.state.owner, released(part, id, readers))
            assert (await tell(meeting, page=page)).state.contradicted == "epoch"

    run(main)


@pytest.mark.parametrize("history", ["from-join", "none"])
@pytest.mark.parametrize("by_name", [False, True])
def test_who_came_later_is_not_shown_it_whatever_the_relay_says(tmp_path: Path, history: str, by_name: bool) -> None:
    async def main() -> None:
        meeting = meeting_in(tmp_path)
        async with meeting.relay.serving(), meeting.ann.serving() as ann, meeting.ben.serving() as ben:
            await meeting.open(ann, ben, history)
            await meeting.admit(meeting.bob, "bob")
            # Other agents of Ben's came in later than that.
            bert = await ben.agent("bert")
            await meeting.admit(bert, "bert")
            await gate(meeting.alice, "before basil", "has(state._shared.basil)")
            *_, (id, body, signature) = await waiting(meeting)
            basil = await ben.agent("basil")
            await meeting.admit(basil, "basil")
            room = await meeting.room_of(meeting.ben)
            names = {each.handle: each.agent for each in room.state.members.values()}
            part = GatedPart(body, signature)
            honest = tuple(sorted(names[each] for each in ("alice", "bob", "bert")))
            lie = (*honest, names["basil"])
            envelope = released(part, id, tuple(sorted(lie)) if by_name else None)
            page = shows(room, room.state.owner, envelope)
            assert (await tell(meeting, page=page)).state.contradicted == "epoch"

    run(main)


def test_a_message_in_clear_that_waited_is_none_of_a_sealed_room(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            found = sealed_in(encode_envelope(released(part, id, None)))
            assert found is not None
            envelope, alice = found[0], room.state.owner
            clear = msgspec.structs.replace(envelope, v=2, via="cli", parts=(TextPart("clear"), GatePart(OPEN)))
            body = encode_envelope(clear)
            signature = meeting.ann.world.keys.sign(alice, "parler/gated", body)
            page = shows(room, alice, released(GatedPart(body, signature), id, None))
            assert (await tell(meeting, page=page)).state.contradicted == "form"

    run(main)


def test_a_relay_that_withholds_it_says_nothing_wrong_and_no_word_of_it_is_lost(tmp_path: Path) -> None:
    """Nobody can find out that a condition came true and nothing was shown: that is the relay's word, as the state."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            id, part, room = await a_message(meeting)
            await put(meeting.bob, "shut", True)
            assert await meeting.bob.read() == []
            room = await tell(meeting, page=shows(room, room.state.owner, released(part, id, None)))
            assert room.state.contradicted == ""
            assert await meeting.bob.read() == ["mine"]

    run(main)
