"""Bad input of a sealed room: what is too large, comes twice or in another order, is cut, or is another kind of key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from parlerd.core import epoch_record
from parlerd.core import statements as st
from parlerd.core.envelope import decode_envelope
from parlerd.core.epoch_record import MAX_SEALED_MEMBERS, check_record
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.sealing import sealed_part
from parlerd.identity import epochs, sealing
from parlerd.operations import types as t
from parlerd.uplink.arriving import records
from tests.engine.test_epochs import olga_and_ann
from tests.identity.test_sealing import LOW_ORDER
from tests.support.engine import engine_world, run, settle
from tests.support.sealed_links import added, pair_of
from tests.uplink.test_sealed import met
from tests.uplink.test_sealed_lies import card_with, composed, entries_of, entry, next_record, otherwise, page, tell

MANY = 10_000


class Untouched:
    """A decoder that nobody may ask."""

    def decode(self, body: bytes) -> Any:
        raise AssertionError(f"{len(body)} bytes were decoded")


# -- too large ---------------------------------------------------------------------------------------------


def test_a_record_with_ten_thousand_members_is_refused_by_its_length_where_it_is_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            made = olga.make([added(ann, "ann")])
            record = check_record(made.body)
            (one,) = record.added
            body = epoch_record.encode_record(replace(record, added=(one,) * (MANY // 10)))
            assert epoch_record.MAX_RECORD < len(body) < 512 * 1024, "more is not even a parameter"
            signature = olga.link.person.sign(olga.link.person.principal, "parler/epoch", body)
            with monkeypatch.context() as patched:
                patched.setattr(epoch_record, "_RECORD", Untouched())
                told = t.EpochTold(record=body, signature=signature, wraps=made.wraps)
                error = await olga.link.refused("link.epoch", t.EpochAtRoom(room=olga.room, epoch=told))
            assert (error.code, error.details["what"]) == ("statement_refused", "size")

    run(main)


def test_a_record_with_ten_thousand_decisions_is_refused_by_their_number() -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            record = check_record(olga.make([added(ann, "ann")]).body)
            body = epoch_record.encode_record(replace(record, decisions=(bytes(8),) * MANY))
            assert len(body) < epoch_record.MAX_RECORD
            signature = olga.link.person.sign(olga.link.person.principal, "parler/epoch", body)
            told = t.EpochTold(record=body, signature=signature, wraps=b"\x90")
            error = await olga.link.refused("link.epoch", t.EpochAtRoom(room=olga.room, epoch=told))
            assert (error.code, error.details["what"]) == ("statement_refused", "decisions")

    run(main)


def test_a_roster_of_ten_thousand_is_a_contradiction_and_nothing_of_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            meeting.wires.cut_off("ben")
            await settle()
            await tell_two(meeting)
            state = (await meeting.room_of(meeting.ann)).state
            record = entry(await next_record(meeting))
            seats = entries_of(state.epochs.roster) * (MANY // 2)
            looked_at: list[int] = []
            honest = epoch_record.roster_digest

            def counted(roster: epoch_record.Roster) -> bytes:
                looked_at.append(len(roster))
                return honest(roster)

            monkeypatch.setattr(records, "roster_digest", counted)
            many = [replace(seat, agent=f"{seat.agent}{n}") for n, seat in enumerate(seats)]
            assert len(many) > MAX_SEALED_MEMBERS
            card = card_with(state, record)
            assert card.epoch is not None
            room = await tell(meeting, card=replace(card, epoch=replace(card.epoch, roster=many)))
            assert (room.state.contradicted, room.state.alarm) == ("epoch", "relay_equivocation")
            assert looked_at == []

    run(main)


async def tell_two(meeting: Any) -> None:
    """Two epochs begin that Ben's home does not hear of."""
    for handle in ("one", "two"):
        agent = await meeting.ann_served.agent(handle)
        await meeting.admit(agent, handle)


# -- twice, and in another order ---------------------------------------------------------------------------


async def held_back(meeting: Any) -> list[t.LinkItem]:
    """What Ben's home is told of a message, a record and another message, and did not take in."""
    (link,) = meeting.ben.uplinks._links.values()
    items: list[t.LinkItem] = []

    async def collected(connection: Any, item: t.LinkItem) -> None:
        items.append(item)

    link._take = collected
    await meeting.alice.send("before")
    await settle()
    person = await meeting.ann_served.person()
    await person.ask("room.successor", t.NameSuccessor(room=meeting.opened.room, person="bob"), t.SuccessorNamed)
    await settle()
    await meeting.alice.send("after")
    await settle()
    del link._take
    return [item for item in items if item.epoch is not None or (item.page is not None and item.page.messages)]


@pytest.mark.parametrize(
    ("order", "contradicted"),
    [
        ((0, 1, 2), ""),
        ((0, 0, 1, 1, 2, 2), ""),
        ((0, 1, 2, 0, 1, 2), ""),
        ((0, 1, 2, 1), ""),
        ((1, 0, 2), "epoch"),
        ((0, 2, 1), "epoch"),
        ((2, 0, 1), "line"),
    ],
)
def test_items_that_come_twice_change_nothing_and_items_in_another_order_are_found(
    tmp_path: Path, order: tuple[int, ...], contradicted: str
) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            items = await held_back(meeting)
            assert [item.epoch is not None for item in items] == [False, True, False]
            (link,) = meeting.ben.uplinks._links.values()
            for at in order:
                await link.mirrors.take(items[at])
            state = (await meeting.room_of(meeting.ben)).state
            assert (state.contradicted, state.alarm is None) == (contradicted, not contradicted)
            if not contradicted:
                assert (state.epochs.number, state.shown.number) == (3, 3)
                assert await meeting.bob.read() == ["before", "after"]
            else:
                # Nothing of what follows the lie is taken in.
                assert state.shown.number < 3

    run(main)


# -- cut ---------------------------------------------------------------------------------------------------

CUT = {"text": [0, 1, 16, -1], "nonce": [0, 23], "input": [0, 31], "record": [0, 31]}


@pytest.mark.parametrize(("field", "length"), [(field, length) for field, all in CUT.items() for length in all])
def test_a_sealed_part_that_is_cut_is_a_contradiction(tmp_path: Path, field: str, length: int) -> None:
    """Its author signed it so: no home admits it, and no member takes it in."""

    async def main() -> None:
        async with met(tmp_path) as meeting:
            room = await meeting.room_of(meeting.ben)
            alice = room.state.owner
            said = await composed(meeting.ann, meeting.opened.room, alice, "mine")
            part = sealed_part(decode_envelope(said.body))
            cut = replace(part, **{field: getattr(part, field)[:length]})
            told = otherwise(said, meeting.ann, alice, parts=(cut,))
            (link,) = meeting.ann.uplinks._links.values()
            posted = t.PostEnvelope(
                room=meeting.opened.room, agent=alice, id=said.id, body=told.body, signature=told.signature
            )
            with pytest.raises(ParlerError) as refused:
                await link.call("link.post", posted)
            assert (refused.value.code, refused.value.details.get("what")) == ("envelope_refused", field)
            room = await tell(meeting, page=page(room, alice, told))
            assert (room.state.contradicted, room.state.alarm) == ("form", "relay_equivocation")

    run(main)


# -- keys of another kind ----------------------------------------------------------------------------------


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_a_card_with_a_key_with_which_everybody_could_read_is_refused(point: bytes) -> None:
    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            low = await olga.knocking(ann, "ann", key=point)
            assert st.check(low.statement, st.JoinCard).key == point
            assert (await ann.refused("link.knock", low)).code == "sealing_key_refused"
            # Nor does a sound key help that is told beside such a card.
            sound = await olga.knocking(ann, "ann")
            mixed = replace(sound, statement=low.statement, signature=low.signature)
            error = await ann.refused("link.knock", mixed)
            assert (error.code, error.details["what"]) == ("statement_refused", "key")

    run(main)


def test_a_signing_key_where_a_sealing_key_is_due_opens_nothing_and_closes_nothing_to_others() -> None:
    """32 bytes are 32 bytes, so it is taken: what is wrapped to it opens for nobody, and for the others as before."""

    async def main() -> None:
        async with engine_world() as served:
            olga, ann = await olga_and_ann(served)
            agent, olive = ann.person.agent("ann"), olga.link.person.agent("olive")
            signing = base64.b32decode(agent + "=" * (-len(agent) % 8))[1:33]
            knock = await olga.knocking(ann, "ann", key=signing)
            assert (await ann.ask("link.knock", knock, t.Knocked)).status == "pending"
            signed = replace(added(ann, "ann"), statement=knock.sealing_key, signature=knock.sealing_key_signature)
            made = olga.make([signed])
            record = check_record(made.body)
            wraps = epoch_record.check_wraps(made.wraps, record, made.roster)
            assert epochs.secret_of(record, wraps, olive, pair_of(olga.link, "olive")) == made.epoch.secret
            for pair in (pair_of(ann, "ann"), sealing.key_pair(signing)):
                with pytest.raises(Refused, match="sealed_unreadable"):
                    epochs.secret_of(record, wraps, agent, pair)

    run(main)
