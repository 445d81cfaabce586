"""Sealed rooms of other homes' people, at the home that keeps them and cannot read them."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from parlerd.core import events as e
from parlerd.core.envelope import GatePart, TextPart
from parlerd.core.epoch_record import check_record, check_wraps, roster_after, roster_digest
from parlerd.core.model import AgentId, History, Millis, Position, PrincipalId, RoomId, RosterEntry
from parlerd.core.statements import NONCE, Rewind, Transfer, encode
from parlerd.identity import epochs
from parlerd.identity.sealing import Epoch
from parlerd.operations import types as t
from tests.support.engine import Served, engine_world, run, settle
from tests.support.linked import Elsewhere, LinkParty, Told
from tests.support.sealed_links import SealedOwner, added, home_of, pair_of, read, told_key


async def olga_and_ann(served: Served, history: History = "full", **how: Any) -> tuple[SealedOwner, LinkParty]:
    """Olga, of one home, opened a sealed room at this one; ann, of another, has its key."""
    olga = SealedOwner(await Elsewhere("olga").link(served, "olive"), "olive", history)
    ann = await Elsewhere("mia").link(served, "ann", "bea")
    await olga.open(**how)
    return olga, ann


def roster_of(entry: t.EpochEntry) -> dict[AgentId, RosterEntry]:
    return {
        AgentId(seat.agent): RosterEntry(PrincipalId(seat.principal), seat.handle, seat.key, seat.counter)
        for seat in entry.roster
    }


def steps(told: Told, room: str) -> list[str]:
    """What a link was told, in order: `epoch` with its number, and `page` with how many messages it has."""
    found = []
    for item in told.of(room):
        if item.card is not None and item.card.epoch is not None:
            found.append(f"card {check_record(item.card.epoch.record).number}")
        if item.epoch is not None:
            found.append(f"epoch {check_record(item.epoch.record).number}")
        if item.page is not None and item.page.messages:
            found.append(f"page {len(item.page.messages)}")
    return found


# -- opening and reading -----------------------------------------------------------------------------------


def test_a_sealed_room_has_no_name_here_and_no_word_of_its_members() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            await olga.say(ann, "ann", "a word that no home reads")
            room = (await served.engine._desk.rooms.get(RoomId(olga.room))).aggregate
            state = room.state
            assert (state.is_sealed, state.name, state.topic) == (True, "", "")
            stored = await served.engine._desk.library.whole_facts(room, Position(0), room.position, 99)
            assert stored
            assert not any(b"no home reads" in (fact.body or b"") for fact in stored)

    run(main)


def test_what_one_member_seals_another_reads_and_the_home_passes_on_the_bytes_that_were_signed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            async with olga.link.following(olga.room) as told:
                said = olga.message(ann, "ann", "for all of us")
                await ann.call("link.post", said)
                await settle()
                (message,) = told.messages
                assert (message.body, message.signature) == (said.body, said.signature)
                assert read(message, olga.epoch) == "for all of us"

    run(main)


def test_a_private_message_is_read_by_whom_it_names_with_their_own_keys() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            await olga.let_in(ann, "bea")
            olive = olga.link.person.agent("olive")
            async with ann.following(olga.room) as hers, olga.link.following(olga.room) as told:
                await olga.say(ann, "ann", "between us", visible_to=[olive])
                await settle()
                (message,) = told.messages
                assert read(message, me=(olive, pair_of(olga.link, "olive"))) == "between us"
                assert [each.body for each in hers.messages] == [message.body]

    run(main)


@pytest.mark.parametrize(
    ("changes", "code", "what"),
    [
        ({"title": b"title"}, "statement_refused", "format"),
        ({"epoch": None}, "statement_refused", "format"),
    ],
    ids=["a title in clear", "no record"],
)
def test_a_sealed_room_comes_with_its_record_and_without_its_title(changes: Any, code: str, what: str) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga = SealedOwner(await Elsewhere("olga").link(served, "olive"), "olive")
            params = msgspec.structs.replace(olga.opening(), **changes)
            error = await olga.link.refused("link.open", params)
            assert (error.code, error.details["what"]) == (code, what)

    run(main)


def test_a_room_opened_again_with_the_same_record_is_the_same_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga = SealedOwner(await Elsewhere("olga").link(served, "olive"), "olive")
            params = olga.opening()
            first = await olga.link.ask("link.open", params, t.OpenedRemoteRoom)
            again = await olga.link.ask("link.open", params, t.OpenedRemoteRoom)
            assert (first.room, first.replayed, again.room, again.replayed) == (olga.room, False, olga.room, True)

    run(main)


# -- what links are told -----------------------------------------------------------------------------------


def test_a_card_holds_the_record_in_force_with_the_roster_that_it_names() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            async with ann.following(olga.room) as told:
                entry = told.cards[0].epoch
                assert entry is not None
                record, roster = check_record(entry.record), roster_of(entry)
                assert (record.number, record.roster) == (2, roster_digest(roster))
                assert set(roster) == {olga.link.person.agent("olive"), ann.person.agent("ann")}
                wraps = check_wraps(entry.wraps, record, roster)
                secret = epochs.secret_of(record, wraps, ann.person.agent("ann"), pair_of(ann, "ann"))
                assert secret == olga.epoch.secret
                assert epochs.read(entry.record, entry.signature, owners=[olga.link.person.principal]) == record

    run(main)


def test_who_only_knocks_is_told_no_record() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await ann.call("link.knock", await olga.knocking(ann, "ann"))
            async with ann.following(olga.room) as told:
                await olga.turn()
                await settle()
                assert steps(told, olga.room) == []
                assert all(not card.sealing_keys for card in told.cards)

    run(main)


def test_records_are_told_in_the_order_of_the_log_between_the_messages_under_them() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            async with olga.link.following(olga.room, newest=0) as told:
                await olga.say(ann, "ann", "one")
                await olga.turn()
                await olga.say(ann, "ann", "two")
                await olga.say(ann, "ann", "three")
                await settle()
                assert steps(told, olga.room) == ["card 2", "page 1", "epoch 3", "page 1", "page 1"]
            async with olga.link.following(olga.room, newest=10) as told:
                assert steps(told, olga.room) == ["card 2", "page 1", "epoch 3", "page 2"]
                assert told.cards[0].epoch is not None
                roster = roster_of(told.cards[0].epoch)
                [entry] = [item.epoch for item in told.of(olga.room) if item.epoch is not None]
                assert roster_after(roster, check_record(entry.record)) == olga.made.roster  # type: ignore[union-attr]
                assert entry.roster == []

    run(main)


def test_an_older_card_holds_the_roster_as_it_was_there() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.say(olga.link, "olive", "before anybody came")
            await olga.let_in(ann, "ann")
            await olga.let_in(ann, "bea")
            await olga.link.call(
                "link.kick",
                t.KickFromRoom(
                    room=olga.room,
                    agent=ann.person.agent("bea"),
                    epoch=olga.told(olga.make(remove=[ann.person.agent("bea")])),
                ),
            )
            async with olga.link.following(olga.room, newest=10) as told:
                assert steps(told, olga.room) == ["card 1", "page 1", "epoch 2", "epoch 3", "epoch 4"]
                assert told.cards[0].epoch is not None
                roster = roster_of(told.cards[0].epoch)
                assert set(roster) == {olga.link.person.agent("olive")}

    run(main)


def test_one_who_goes_on_is_told_no_record_again_that_it_has() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            await olga.say(ann, "ann", "one")
            async with olga.link.following(olga.room) as told:
                page, moves, asks = told.pages[-1], told.cards[-1].moves, told.cards[-1].asks
            await olga.turn()
            await olga.turn()
            olive = olga.link.person.agent("olive")
            resume = t.Resume(
                room=olga.room, public=page.public, line=page.line, moves=moves, asks=asks, before={olive: 1}, epoch=3
            )
            async with olga.link.resuming(resume) as told:
                assert steps(told, olga.room) == ["epoch 4"]

    run(main)


def test_the_owner_is_told_the_keys_that_no_record_holds_and_nobody_else_is() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            async with olga.link.following(olga.room) as told:
                knocked = await ann.ask("link.knock", await olga.knocking(ann, "ann"), t.Knocked)
                await settle()
                keys = [key for card in told.cards for key in card.sealing_keys]
                assert [(key.statement, key.signature) for key in keys] == [told_key(ann, "ann")]
            async with olga.link.following(olga.room) as told:
                assert [key.statement for card in told.cards for key in card.sealing_keys] == [told_key(ann, "ann")[0]]
            await olga.exchange(ann, "ann", knocked.request)
            await olga.link.call("link.decide", await olga.deciding(ann, "ann"))
            async with olga.link.following(olga.room) as told:
                assert not any(card.sealing_keys for card in told.cards)

    run(main)


def test_the_key_of_one_who_was_turned_away_is_told_no_more() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await ann.call("link.knock", await olga.knocking(ann, "ann"))
            async with olga.link.following(olga.room) as told:
                [asked] = [request for card in told.cards for request in card.requests]
                no = olga.link.deciding(olga.room, told.cards[0], asked, admit=False)
            await olga.link.call("link.decide", no)
            async with olga.link.following(olga.room) as told:
                assert not any(card.sealing_keys for card in told.cards)

    run(main)


# -- who waits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", ["full", "from-join"])
def test_one_who_came_in_before_a_record_holds_it_is_told_messages_from_that_record_on(history: History) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served, history)
            await olga.let_in(ann, "ann", with_epoch=False)
            async with ann.following(olga.room) as told:
                await olga.say(olga.link, "olive", "before the record")
                await settle()
                assert told.messages == []
                assert (await ann.refused("link.post", olga.message(ann, "ann", "me too"))).code == "not_sealed_in"
                pages = len(told.pages)
                await olga.turn([added(ann, "ann")])
                await settle()
                # Before anything else is said: it is told what it may see of before, as whoever just came in, and from
                # which number it goes on.
                numbers = [page.before[ann.person.agent("ann")] for page in told.pages[pages:]]
                assert numbers[-1] == (1 if history == "full" else 0)
                assert len(told.messages) == numbers[-1]
                await olga.say(olga.link, "olive", "after it")
                await settle()
                assert [read(message, olga.epoch) for message in told.messages[numbers[-1] :]] == ["after it"]
                before = told.pages[-1].before[ann.person.agent("ann")]
                assert before == (1 if history == "full" else 0)
            pulled = t.PullHistory(room=olga.room, agent=ann.person.agent("ann"), after=0)
            page = await ann.ask("link.pull", pulled, t.LinkPage)
            assert len(page.messages) == (2 if history == "full" else 1)

    run(main)


def test_a_knock_without_a_key_or_with_one_of_no_use_is_refused() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            plain = await ann.knocking("ann", olga.opened)
            error = await ann.refused("link.knock", plain)
            assert (error.code, error.details["what"]) == ("statement_refused", "sealing_key")
            low = await olga.knocking(ann, "ann", key=bytes(32))
            assert (await ann.refused("link.knock", low)).code == "sealing_key_refused"
            other = msgspec.structs.replace(await olga.knocking(ann, "ann"), sealing_key_signature=bytes(64))
            error = await ann.refused("link.knock", other)
            assert (error.code, error.details["what"]) == ("statement_refused", "signature")

    run(main)


# -- messages ----------------------------------------------------------------------------------------------


def test_a_message_under_an_older_record_is_sealed_again_and_counts_once() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            old = olga.epoch
            await olga.turn()
            stale = olga.message(ann, "ann", "again", epoch=old, key="k_1", counter=1, previous=b"")
            error = await ann.refused("link.post", stale)
            assert (error.code, error.details["number"]) == ("stale_epoch", 3)
            said = {"key": "k_1", "counter": 2, "previous": b""}
            posted = await olga.say(ann, "ann", "again", **said)
            again = await olga.say(ann, "ann", "again", **said)
            assert (posted.replayed, again.replayed, again.id) == (False, True, posted.id)

    run(main)


def test_a_message_in_clear_is_refused_in_a_sealed_room() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            error = await ann.refused("link.post", ann.person.envelope("ann", olga.room, "in clear"))
            assert (error.code, error.details["what"]) == ("envelope_refused", "v")

    run(main)


# -- what a home cannot do for anybody there ---------------------------------------------------------------


def test_nobody_takes_a_sealed_room_over_whom_its_owner_did_not_name() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            served.world.clock.move(seconds=90 * 86_400)
            await ann.attach("ann")
            agent, principal = ann.person.agent("ann"), ann.person.principal
            said: dict[str, Any] = {"home": home_of(served), "room": RoomId(olga.room), "nonce": bytes(NONCE)}
            fields: dict[str, Any] = {"number": 1, "owner": agent, "principal": principal, "taken": True, "record": 2}
            taken = encode(Transfer(**fields, at=Millis(5), **said))
            signature = ann.person.sign(principal, "parler/transfer", taken)
            params = t.TransferRoomThere(room=olga.room, statement=taken, signature=signature)
            assert (await ann.refused("link.transfer", params)).code == "not_successor"

    run(main)


def test_a_message_that_waits_is_sealed_under_the_record_that_is_in_force_when_it_is_taken_in() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            parts = (TextPart("later"), GatePart(enabled="has(state._shared.open)"))
            clear = ann.person.envelope("ann", olga.room, "later", parts=parts, counter=0, previous=b"")
            old = olga.message(ann, "ann", "later", parts=parts, counter=0, previous=b"")
            await olga.turn()
            said = olga.message(ann, "ann", "later", parts=parts, counter=0, previous=b"", id="m_later")

            def gated(envelope: t.PostEnvelope) -> t.GateAtRoom:
                signature = ann.person.sign(ann.person.agent("ann"), "parler/gated", envelope.body)
                return t.GateAtRoom(room=olga.room, agent=envelope.agent, body=envelope.body, signature=signature)

            assert (await ann.refused("link.gate", gated(clear))).details["what"] == "v"
            assert (await ann.refused("link.gate", gated(old))).code == "stale_epoch"
            # As a message it is none.
            assert (await ann.refused("link.post", said)).code == "envelope_refused"
            assert not (await ann.ask("link.gate", gated(said), t.GatedAtRoom)).replayed
            facts = await served.engine.desk.library.facts(RoomId(olga.room), Position(0), 100)
            [kept] = [fact.event for fact in facts if isinstance(fact.event, e.MessageGated)]
            assert (kept.kind, kept.visibility) == ("text", None)

    run(main)


# -- records -----------------------------------------------------------------------------------------------


def test_a_record_counts_only_when_the_owner_s_person_signed_it() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            made = olga.make()
            by_agent = olga.told(made, by=olga.link.person.agent("olive"))
            error = await olga.link.refused("link.epoch", t.EpochAtRoom(room=olga.room, epoch=by_agent))
            assert (error.code, error.details["what"]) == ("statement_refused", "signature")
            signed = ann.person.sign(ann.person.principal, "parler/epoch", made.body)
            theirs = t.EpochTold(record=made.body, signature=signed, wraps=made.wraps)
            assert (await ann.refused("link.epoch", t.EpochAtRoom(room=olga.room, epoch=theirs))).code == "not_owner"

    run(main)


def test_a_key_in_a_record_is_one_that_its_agent_signed() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann", with_epoch=False)
            swapped = msgspec.structs.replace(added(ann, "ann"), signature=bytes(64))
            params = t.EpochAtRoom(room=olga.room, epoch=olga.told(olga.make([swapped])))
            error = await olga.link.refused("link.epoch", params)
            assert (error.code, error.details["what"]) == ("statement_refused", "added")

    run(main)


def test_a_kick_goes_with_its_record_or_not_at_all() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            agent = ann.person.agent("ann")
            made = olga.make(remove=[agent])
            told = olga.told(made)
            late = olga.message(ann, "ann", "too late")
            broken = msgspec.structs.replace(told, wraps=b"\x90")
            error = await olga.link.refused("link.kick", t.KickFromRoom(room=olga.room, agent=agent, epoch=broken))
            assert (error.code, error.details["what"]) == ("statement_refused", "wraps")
            await olga.say(ann, "ann", "still here", counter=1, previous=b"", id="m_here")
            await olga.link.call("link.kick", t.KickFromRoom(room=olga.room, agent=agent, epoch=told))
            assert (await ann.refused("link.post", late)).code == "no_such_room"
            state = (await served.engine._desk.rooms.get(RoomId(olga.room))).aggregate.state
            assert set(state.epochs.roster) == {olga.link.person.agent("olive")}

    run(main)


def test_behind_a_rewind_the_owner_s_machine_says_first_who_can_read() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            head = await olga.link.ask("link.head", t.AskHead(room=olga.room), t.RoomHead)
            rewind = encode(
                Rewind(
                    home=home_of(served),
                    room=RoomId(olga.room),
                    epoch=1,
                    public=head.public,
                    line=head.line,
                    at=Millis(5),
                    nonce=bytes(NONCE),
                )
            )
            signature = olga.link.person.sign(olga.link.person.principal, "parler/rewind", rewind)
            async with ann.following(olga.room) as told:
                signed = t.RewindAtRoom(room=olga.room, statement=rewind, signature=signature)
                await olga.link.call("link.rewind", signed)
                said: dict[str, Any] = {"counter": 1, "previous": b"", "line": head.line}
                error = await ann.refused("link.post", olga.message(ann, "ann", "too early", **said))
                assert (error.code, error.details["what"]) == ("stale_epoch", "rewound")
                await olga.turn()
                await olga.say(ann, "ann", "now", **said)
                await settle()
                assert steps(told, olga.room) == ["card 2", "card 2", "epoch 3", "page 1"]

    run(main)


def test_older_records_are_read_by_members_up_to_the_number_that_they_ask_for() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            made = [olga.made]
            for _ in range(3):
                made.append(await olga.turn())
            asked = t.PullEpochs(room=olga.room, agent=ann.person.agent("ann"), upto=4, limit=2)
            pulled = await ann.ask("link.epochs", asked, t.PulledEpochs)
            assert [check_record(each.record).number for each in pulled.epochs] == [3, 4]
            assert [each.wraps for each in pulled.epochs] == [b"", b""]
            # The links open what came before, one after the other.
            secret = epochs.secret_before(
                check_record(made[2].body),  # type: ignore[union-attr]
                made[2].epoch.secret,  # type: ignore[union-attr]
                check_record(pulled.epochs[0].record),
            )
            assert secret == made[1].epoch.secret  # type: ignore[union-attr]
            with_wraps = await ann.ask("link.epochs", msgspec.structs.replace(asked, wraps=True), t.PulledEpochs)
            assert all(each.wraps for each in with_wraps.epochs)
            ahead = msgspec.structs.replace(asked, upto=2**53 - 1)
            assert (await ann.refused("link.epochs", ahead)).details["number"] == 5
            stranger = await Elsewhere("zoe").link(served, "zed")
            other = msgspec.structs.replace(asked, agent=stranger.person.agent("zed"))
            assert (await stranger.refused("link.epochs", other)).code == "no_such_room"

    run(main)


def test_an_answer_with_large_records_holds_as_many_as_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, _ = await olga_and_ann(served)
            for _ in range(3):
                await olga.turn()
            olive = olga.link.person.agent("olive")
            asked = t.PullEpochs(room=olga.room, agent=olive, upto=4)
            pulled = await olga.link.ask("link.epochs", asked, t.PulledEpochs)
            assert [check_record(each.record).number for each in pulled.epochs] == [4]

    monkeypatch.setattr("parlerd.engine.epochs.PULLED_BYTES", 1)
    run(main)


def test_a_fresh_key_is_told_to_the_owner_and_used_by_the_next_record() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            await olga.let_in(ann, "ann")
            served.world.clock.move(seconds=25 * 3600)
            statement, signature = told_key(ann, "ann", 2)
            fresh = t.SealingKeyAtRoom(room=olga.room, statement=statement, signature=signature)
            async with olga.link.following(olga.room) as told:
                await ann.call("link.sealing_key", fresh)
                await settle()
                assert [key.statement for card in told.cards for key in card.sealing_keys] == [statement]
            await olga.turn([added(ann, "ann", 2)])
            assert olga.made is not None
            assert olga.made.roster[ann.person.agent("ann")].counter == 2
            stranger = await Elsewhere("zoe").link(served, "zed")
            other, by = told_key(stranger, "zed")
            asked = t.SealingKeyAtRoom(room=olga.room, statement=other, signature=by)
            assert (await stranger.refused("link.sealing_key", asked)).code == "no_such_room"

    run(main)


def test_the_record_that_is_in_force_is_harmless_again_after_a_lost_answer() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, _ = await olga_and_ann(served)
            made = await olga.turn()
            again = t.EpochAtRoom(room=olga.room, epoch=olga.told(made))
            await olga.link.call("link.epoch", again)
            assert isinstance(made.epoch, Epoch)
            state = (await served.engine._desk.rooms.get(RoomId(olga.room))).aggregate.state
            assert (state.epochs.number, state.epochs.record) == (2, hashlib.sha256(made.body).digest())

    run(main)
