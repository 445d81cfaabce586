"""Receipts of a sealed room: the key beside the encrypted message, who has it, and what a check finds."""

from __future__ import annotations

from pathlib import Path

import msgspec

from parlerd.core.envelope import decode_envelope
from parlerd.identity.receipt_checks import Checked, check
from parlerd.operations import types as t
from tests.support.engine import Party, run, settle
from tests.uplink.test_sealed import Meeting, met


async def given(who: Party, id: str) -> t.ReceiptGiven:
    return await who.ask("receipt.get", t.GetReceipt(id=id, proof=True), t.ReceiptGiven)


def checked(meeting: Meeting, receipt: t.ReceiptGiven, **beside: object) -> Checked:
    assert receipt.opening is not None
    changed = msgspec.structs.replace(receipt, opening=msgspec.structs.replace(receipt.opening, **beside))
    return check(msgspec.json.encode(changed), {meeting.relay.keys.id})


def test_a_receipt_opens_its_message_and_no_other(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            one = await meeting.alice.send("the marlin swims")
            two = await meeting.bob.send("swordfish")
            await settle()
            mine, theirs = await given(meeting.bob, one.id), await given(meeting.bob, two.id)
            found = checked(meeting, mine)
            assert (found.verdict, found.text, found.is_authored, found.is_proved) == (
                "valid",
                "the marlin swims",
                True,
                True,
            )
            assert checked(meeting, theirs).text == "swordfish"
            assert theirs.opening is not None
            # The key is all that says what was said.
            without = checked(meeting, mine, key=msgspec.UNSET)
            assert (without.verdict, without.text, without.is_sealed) == ("valid", None, True)
            for wrong in (theirs.opening.key, b"", bytes(32), bytes(100)):
                found = checked(meeting, mine, key=wrong)
                assert (found.verdict, found.text) == ("key_mismatch", None)

    run(main)


def test_the_key_of_a_private_message_is_the_one_that_all_its_readers_have(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            private = await meeting.alice.send("for bob alone", visible_to=("bob",))
            public = await meeting.alice.send("for everyone")
            await settle()
            receipts = [await given(who, private.id) for who in (meeting.alice, meeting.bob)]
            keys = {each.opening.key for each in receipts if each.opening is not None}
            assert len(keys) == 1
            assert {checked(meeting, each).text for each in receipts} == {"for bob alone"}
            other = await given(meeting.bob, public.id)
            assert other.opening is not None
            assert checked(meeting, receipts[0], key=other.opening.key).verdict == "key_mismatch"

    run(main)


def test_the_key_is_what_this_home_has_whatever_the_relay_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            sent = await meeting.alice.send("the marlin swims")
            await settle()
            honest = await given(meeting.bob, sent.id)
            assert honest.opening is not None
            assert honest.opening.body is not None
            room = await meeting.ben.uplinks._desk.rooms.get(decode_envelope(honest.opening.body).room)

            async def asked(*args: object) -> t.Result:
                assert honest.opening is not None
                lie = msgspec.structs.replace(honest.opening, key=bytes(32))
                return msgspec.structs.replace(honest, opening=lie)

            room.ask = asked  # type: ignore[method-assign, assignment]
            assert await given(meeting.bob, sent.id) == honest

    run(main)


def test_a_room_that_the_relay_can_read_has_no_key_to_give(tmp_path: Path) -> None:
    async def main() -> None:
        async with met(tmp_path) as meeting:
            person = await meeting.ann_served.person()
            opened = await person.ask(
                "session.open", t.OpenSession(context="x", topic="clear", clear=True), t.OpenedSession
            )
            sent = await person.send("in clear", room=opened.room)
            receipt = await given(person, sent.id)
            assert receipt.opening is not None
            assert receipt.opening.key is msgspec.UNSET
            assert checked(meeting, receipt).text == "in clear"
            assert checked(meeting, receipt, key=bytes(32)).verdict == "key_mismatch"

    run(main)
