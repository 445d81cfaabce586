"""Receipts of what was done in a room: who is given one, what it says, and what its check finds. Told once, played in
every home."""

from __future__ import annotations

import msgspec
import pytest

from parlerd.core import handoff
from parlerd.core.receipts import NotAReceipt, Receipt, read
from parlerd.identity.notes import split
from parlerd.identity.receipt_checks import check, gaps
from parlerd.operations import types as t
from tests.scenario.test_memory import together
from tests.support.engine import Party
from tests.support.homes import Home, Place
from tests.support.room_state import put


async def given(who: Party, id: str) -> t.ReceiptGiven:
    return await who.ask("receipt.get", t.GetReceipt(id=id), t.ReceiptGiven)


def said(receipt: t.ReceiptGiven) -> Receipt:
    """What a receipt says, once its check has found it valid."""
    text, _ = split(receipt.receipt)
    home = read(text).home
    found = check(msgspec.json.encode(receipt), {home})
    assert found.verdict == "valid"
    assert check(receipt.receipt.encode(), {"A" * 56}).verdict == "unknown_key"
    assert found.receipt is not None
    return found.receipt


def test_author_and_reader_are_given_the_same_receipt_of_a_message(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        sent = await alice.send("the plan", idempotency_key="k-1")
        await bob.recv()
        mine, theirs = await given(alice, sent.id), await given(bob, sent.id)
        assert mine == theirs == await given(alice, sent.id)
        receipt = said(mine)
        assert (receipt.fact, receipt.kind, receipt.operation) == (sent.id, "message_posted", "message.send")
        assert (receipt.at, receipt.handle, receipt.verified, receipt.stage) == (sent.at, "alice", "valid", "stored")
        assert sent.receipt == t.ReceiptRef(fact=sent.id, number=receipt.numbered.number if receipt.numbered else -1)
        assert check(msgspec.json.encode(mine), {receipt.home}).is_authored
        # No word of it is in what is signed.
        assert "plan" not in mine.receipt
        assert mine.opening is not None
        assert b"the plan" in (mine.opening.body or b"")

    home.play(story)


def test_a_repeated_request_names_the_fact_of_the_first_time(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        first = await alice.send("once", idempotency_key="k-1")
        again = await alice.send("once", idempotency_key="k-1")
        assert again.replayed
        assert isinstance(again.receipt, t.ReceiptRef)
        assert again.receipt.fact == first.id
        wrote = await put(alice, "phase", "planning", idempotency_key="k-2")
        repeated = await put(alice, "phase", "planning", idempotency_key="k-2")
        assert repeated.replayed
        assert wrote.receipt == repeated.receipt

    home.play(story)


def test_own_lines_go_on_from_receipt_to_receipt_and_a_missing_one_shows(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        ids = [(await alice.send(f"number {n}")).id for n in range(3)]
        # Of what bob is not shown, and of what others say, alice's line counts nothing.
        await bob.send("meanwhile")
        await alice.send("for myself", visible_to=("alice",))
        ids.append((await alice.send("the last")).id)
        receipts = [said(await given(alice, id)) for id in ids]
        numbers = [each.numbered.number for each in receipts if each.numbered is not None]
        assert numbers == list(range(numbers[0], numbers[0] + 4))
        assert gaps(reversed(receipts)) == []
        (gap,) = gaps([receipts[0], receipts[3]])
        assert (gap.receipt.fact, gap.missing) == (ids[3], 2)
        wrong = receipts[1]._replace(digest=bytes(32))
        assert [(each.receipt.fact, each.missing) for each in gaps([receipts[0], wrong, receipts[2]])] == [(ids[2], 0)]

    home.play(story)


def test_an_agent_lists_what_it_did_and_nobody_elses(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        said_first = (await alice.send("one")).id
        await bob.send("meanwhile")
        private = (await alice.send("for bob", visible_to=("bob",))).id
        wrote = await put(alice, "phase", "planning")
        assert isinstance(wrote.receipt, t.ReceiptRef)
        newest = [wrote.receipt.fact, private, said_first]
        listed = await alice.ask("receipt.list", t.ListReceipts(), t.ReceiptList)
        assert [each.fact for each in listed.receipts][:3] == newest
        assert [each.operation for each in listed.receipts][:3] == ["state.set", "message.send", "message.send"]
        # Each of them has the receipt that the list names, and all of them are found a few at a time.
        found: list[t.ReceiptEntry] = []
        before: str | None = None
        while before != "":
            page = await alice.ask("receipt.list", t.ListReceipts(before=before, limit=2), t.ReceiptList)
            assert len(page.receipts) <= 2
            found += page.receipts
            before = page.before
        assert found == listed.receipts
        assert listed.before == ""
        for entry in found:
            numbered = said(await given(alice, entry.fact)).numbered
            assert numbered is not None
            assert numbered.number == entry.number
        his = await bob.ask("receipt.list", t.ListReceipts(), t.ReceiptList)
        assert {each.fact for each in his.receipts}.isdisjoint(each.fact for each in found)
        # A place is told to one reader.
        page = await alice.ask("receipt.list", t.ListReceipts(limit=1), t.ReceiptList)
        refused = await bob.refused("receipt.list", t.ListReceipts(before=page.before))
        assert (refused.code, refused.details["param"]) == ("invalid_param", "before")

    home.play(story)


def test_what_is_hidden_has_no_receipt_for_who_may_not_see_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = await together(place, "alice", "bob", "carol")
        hidden = await alice.send("between us", visible_to=("bob",))
        wrote = await put(alice, "phase", "planning")
        assert isinstance(wrote.receipt, t.ReceiptRef)
        assert said(await given(bob, hidden.id)).line is None
        refusals = {
            msgspec.json.encode((await carol.refused("receipt.get", t.GetReceipt(id=id))).body())
            for id in (hidden.id, "m_none", wrote.receipt.fact, "f_" + "a" * 24 + "_1")
        }
        assert len(refusals) == 1
        assert b"no_such_receipt" in refusals.pop()

    home.play(story)


def test_a_write_to_the_state_has_a_receipt_for_who_wrote_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        writes = tuple(t.BatchedWrite(key=f"k{n}", value=n) for n in range(3))
        batch = await alice.ask("state.batch", t.BatchState(writes=writes), t.BatchWritten)
        assert isinstance(batch.receipt, t.ReceiptRef)
        given_to = await given(alice, batch.receipt.fact)
        receipt = said(given_to)
        assert (receipt.operation, receipt.kind) == ("state.batch", "state_written")
        assert [each.kind for each in receipt.also] == ["state_written", "state_written"]
        assert len({receipt.digest, *(each.digest for each in receipt.also)}) == 3
        assert given_to.opening is not None
        assert b"k0" in given_to.opening.event

    home.play(story)


def test_the_receipt_of_a_hand_off_lists_its_trail_until_it_is_complete(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob, carol = await together(place, "alice", "bob", "carol")
        gave = await alice.ask("handoff.give", t.GiveHandoff(next="wire the login"), t.GivenHandoff)
        assert isinstance(gave.receipt, t.ReceiptRef)
        offered = said(await given(alice, gave.id))
        assert (offered.stage, [step.operation for step in offered.steps]) == ("offered", ["handoff.give"])
        await carol.ask("handoff.decline", t.DeclineHandoff(id=gave.id, reason="no time"), t.AnsweredHandoff)
        took = await bob.ask("handoff.accept", t.AcceptHandoff(id=gave.id), t.AnsweredHandoff)
        complete = said(await given(alice, gave.id))
        assert complete.stage == "complete"
        trail = ["handoff.give", "handoff.decline", "handoff.accept"]
        assert [step.operation for step in complete.steps] == trail
        assert [step.operation for step in said(await given(bob, took.id)).steps] == trail
        # Each step is the fact that a receipt of its own is of.
        assert complete.steps[2].digest == said(await given(bob, took.id)).digest

    home.play(story)


def test_a_hand_off_that_its_room_forgot_is_not_called_a_message_like_any_other(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "KEPT", 1)

    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        gave = await alice.ask("handoff.give", t.GiveHandoff(next="wire the login"), t.GivenHandoff)
        took = await bob.ask("handoff.accept", t.AcceptHandoff(id=gave.id), t.AnsweredHandoff)
        await alice.ask("handoff.give", t.GiveHandoff(next="wire the logout"), t.GivenHandoff)
        for who, id in ((alice, gave.id), (bob, took.id)):
            forgotten = said(await given(who, id))
            assert (forgotten.stage, forgotten.steps) == ("forgotten", ())

    home.play(story)


def test_a_changed_byte_is_found_and_named(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        one, two = await alice.send("one"), await bob.send("two")
        mine, theirs = await given(alice, one.id), await given(alice, two.id)
        home_id = said(mine).home
        assert mine.opening is not None
        assert theirs.opening is not None
        swapped = msgspec.structs.replace(mine, opening=theirs.opening)
        assert check(msgspec.json.encode(swapped), {home_id}).verdict == "digest_mismatch"
        unsigned = msgspec.structs.replace(mine.opening, signature=theirs.opening.signature)
        forged = msgspec.structs.replace(mine, opening=unsigned)
        assert check(msgspec.json.encode(forged), {home_id}).verdict == "author_mismatch"
        text = mine.receipt
        for old, new in (("stage stored", "stage complete"), ("via ", "via x"), (f"fact {one.id}", f"fact {two.id}")):
            assert check(text.replace(old, new).encode(), {home_id}).verdict == "bad_signature"

    home.play(story)


def test_what_was_signed_about_an_author_shows_who_let_it_in(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        exported: list[t.ReceiptGiven] = []
        for who in (alice, bob):
            sent = await who.send("one")
            params = t.GetReceipt(id=sent.id, proof=True)
            exported.append(await who.ask("receipt.get", params, t.ReceiptGiven))
        home_id = said(exported[0]).home
        for each in exported:
            found = check(msgspec.json.encode(each), {home_id})
            assert (found.verdict, found.is_proved, found.is_authored) == ("valid", True, True)
        mine, theirs = exported
        assert isinstance(mine.author, t.AuthorProof)
        assert isinstance(theirs.author, t.AuthorProof)
        # The owner's word about bob is not there, or is about another room.
        for wrong in (
            mine.author,
            msgspec.structs.replace(theirs.author, opening=b"x"),
            msgspec.structs.replace(theirs.author, opening_signature=bytes(64)),
            msgspec.structs.replace(theirs.author, handovers=[t.TransferEntry(statement=b"", signature=b"")]),
        ):
            forged = msgspec.structs.replace(theirs, author=wrong)
            assert check(msgspec.json.encode(forged), {home_id}).verdict == "author_mismatch"

    home.play(story)


def test_no_spelling_but_one_is_a_receipt(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, _ = await together(place, "alice", "bob")
        note = (await given(alice, (await alice.send("one")).id)).receipt.encode()
        home_id = said(await given(alice, (await alice.send("two")).id)).home
        for place_of in range(len(note)):
            for changed in (note[place_of] ^ 1, note[place_of] ^ 0x20):
                altered = note[:place_of] + bytes([changed]) + note[place_of + 1 :]
                assert check(altered, {home_id}).verdict in ("not_a_receipt", "bad_signature", "unknown_key")
        for altered in (note[:-1], note + b"\n", note.replace(b"\n", b"\r\n"), b" " + note, note.replace(b"=", b"")):
            assert check(altered, {home_id}).verdict in ("not_a_receipt", "bad_signature")

    home.play(story)


def test_erased_words_leave_a_receipt_without_an_opening(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        kept = await alice.ask("memory.remember", t.Remember(text="the old way", key="way"), t.Remembered)
        before = await given(alice, kept.facts[0].id)
        await alice.ask("memory.forget", t.Forget(key="way"), t.Forgotten)
        after = await given(bob, kept.facts[0].id)
        assert after.opening is None
        assert after.receipt == before.receipt
        assert said(after).operation == "memory.remember"

    home.play(story)


def test_what_is_no_receipt_says_so() -> None:
    for data in (b"", b"{}", b"{", b"\xff", b"parler/receipt v1\n\n", b"[" * 9999, b'{"receipt": "x"}'):
        assert check(data, set()).verdict == "not_a_receipt"
    for text in ("", "parler/receipt v1\n", "parler/receipt v2\n"):
        try:
            read(text)
        except NotAReceipt:
            continue
        raise AssertionError(text)
