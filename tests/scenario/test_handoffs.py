"""What goes along with the turn: pinned code, and a slice of the conversation. Told once, played in every home."""

from __future__ import annotations

import msgspec

from parlerd.operations import types as t
from tests.scenario.test_memory import heard, let_in, settled, together
from tests.support.engine import Party
from tests.support.files import digest, fetch, share
from tests.support.homes import Home, Place

TIP, BASE = "ab" * 20, "cd" * 20


async def offer_of(who: Party, id: str) -> t.Message:
    """The message of an offer, as this reader is shown it."""
    await heard(who, id)
    [message] = [each for each in (await who.recv(all=True, limit=500)).messages if each.id == id]
    return message


async def apart(place: Place) -> tuple[Party, Party, t.SharedBlob]:
    """One who shared code, and one who came in after that and is shown nothing from before."""
    alice = await place.agent("alice")
    opened = await alice.open("auth redesign", "Chose PKCE.", history="none")
    shared = await share(alice, b"the bundle", name="main", tip=TIP, base=BASE, left_out=2)
    late = await place.agent("late")
    await late.commit(await let_in(place, opened, late))
    return alice, late, shared


def test_a_turn_with_pinned_code_brings_the_code_to_who_takes_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob", clear=True)
        shared = await share(alice, b"the bundle", name="main", tip=TIP, base=BASE, left_out=2)
        for bundle in (str(shared.seq), f"#{shared.seq}", shared.blob):
            await offer_of(bob, (await alice.handoff("look", to="bob", bundle=bundle)).id)
        given = await alice.handoff("review and merge", to="bob", bundle=shared.id)
        message = await offer_of(bob, given.id)
        assert (message.kind, message.verified) == ("handoff", "valid")
        assert not isinstance(message.handoff, msgspec.UnsetType)
        assert (message.handoff.next, message.handoff.to_you) == ("review and merge", True)
        brings = message.brings
        assert not isinstance(brings, msgspec.UnsetType)
        assert (brings.blob, brings.size, brings.name) == (digest(b"the bundle"), 10, "main")
        assert (brings.tip, brings.base, brings.left_out) == (TIP, BASE, 2)
        assert await fetch(bob, str(message.seq)) == b"the bundle"
        taken = await bob.ask("handoff.accept", t.AcceptHandoff(id=given.id), t.AnsweredHandoff)
        assert taken.holder == "bob"

    home.play(story)


def test_pinned_code_reaches_who_may_not_see_the_message_that_first_brought_it(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, late, shared = await apart(place)
        params = t.FindBlob(blob=shared.blob)
        assert (await late.refused("blob.find", params)).code == "no_such_blob"
        given = await alice.handoff("review and merge", to="late", bundle=shared.id)
        await offer_of(late, given.id)
        assert await fetch(late, given.id) == b"the bundle"
        assert await fetch(late, shared.blob) == b"the bundle"

    home.play(story)


def test_code_of_another_room_and_what_is_no_code_cannot_be_pinned_and_offer_nothing(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        room = (await alice.rooms())[0].room
        file = await share(alice, b"a file", name="report.pdf")
        words = await alice.send("no code at all")
        private = await share(bob, b"only bob's", name="x", tip=TIP, visible_to=("bob",))
        await settled(alice, bob)
        await alice.open("another", "context")
        elsewhere = await share(alice, b"elsewhere", name="main", tip=TIP)

        async def refused(bundle: str) -> tuple[str, str]:
            error = await alice.refused("handoff.give", t.GiveHandoff(next="go", bundle=bundle, room=room))
            return error.code, error.hint

        assert (await refused(elsewhere.blob))[0] == "no_such_blob"
        assert (await refused(elsewhere.id))[0] in ("no_such_message", "no_such_blob")
        assert (await refused(private.blob))[0] == "no_such_blob"
        assert (await refused(private.id))[0] == "no_such_message"
        code, hint = await refused(words.id)
        assert (code, "Share it with this room first" in hint) == ("no_such_blob", True)
        assert (await refused("no blob"))[0] == "no_such_blob"
        assert (await refused("999"))[0] == "no_such_message"
        code, hint = await refused(file.blob)
        assert (code, "pins code that was pushed" in hint) == ("bundle_refused", True)
        shown = await alice.ask("handoff.show", t.ShowHandoffs(room=room), t.HandoffList)
        assert shown.handoffs == []

    home.play(story)


async def said(who: Party, id: str) -> t.HandoffTranscript:
    """The conversation that goes along with an offer, as this reader is shown it."""
    handoff = (await offer_of(who, id)).handoff
    assert not isinstance(handoff, msgspec.UnsetType)
    assert not isinstance(handoff.transcript, msgspec.UnsetType)
    return handoff.transcript


def test_a_conversation_that_the_taker_can_read_is_named_by_the_takers_own_numbers_and_not_copied(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        await alice.send("for alice's eyes", visible_to=("alice",))
        first = await bob.send("one")
        last = await alice.send("two")
        await settled(alice, bob)
        given = await alice.handoff("go on", to="bob", transcript=4)
        assert given.transcript == t.SentTranscript(count=4, quoted=False)
        told = await said(bob, given.id)
        assert (told.first, told.count, told.left_out, told.quoted) == (first.id, 4, 0, msgspec.UNSET)
        numbers = {each.id: each.seq for each in (await bob.recv(all=True, limit=500)).messages}
        assert (told.first_seq, told.last_seq) == (numbers[first.id], numbers[told.last])
        assert told.first_seq < numbers[last.id] < told.last_seq

    home.play(story)


def test_a_conversation_that_the_taker_never_saw_is_quoted_without_secrets_and_private_words(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        opened = await alice.open("auth redesign", "Chose PKCE.", history="none")
        early = await place.agent("early")
        await early.commit(await let_in(place, opened, early))
        await early.send("the token is ghp_" + "a" * 36)
        await early.send("between us", visible_to=("alice",))
        await alice.send("then rotate it", data={"in": "vault"})
        await settled(alice, early)
        late = await place.agent("late")
        await late.commit(await let_in(place, opened, late))
        given = await alice.handoff("go on", to="late", transcript=100)
        assert given.transcript == t.SentTranscript(count=5, quoted=True)
        told = await said(late, given.id)
        assert not isinstance(told.quoted, msgspec.UnsetType)
        assert [(each.author, each.text) for each in told.quoted] == [
            ("alice", "Chose PKCE."),
            ("early", "the token is [removed: GitHub token]"),
            ("alice", 'then rotate it\n{"in":"vault"}'),
            ("alice", "settled"),
            ("early", "settled"),
        ]
        # The recap alone is shown to whoever comes in.
        assert (told.first_seq, told.last_seq, told.left_out) == (1, 0, 0)
        assert "between us" not in str(await offer_of(late, given.id))

    home.play(story)


def test_an_offer_to_anyone_quotes_as_soon_as_one_who_may_take_it_cannot_read_everything(home: Home) -> None:
    async def story(place: Place) -> None:
        alice = await place.agent("alice")
        opened = await alice.open("auth redesign", "Chose PKCE.", history="none")
        early = await place.agent("early")
        await early.commit(await let_in(place, opened, early))
        await alice.send("one")
        assert (await alice.handoff("go", transcript=1)).transcript == t.SentTranscript(count=1, quoted=False)
        late = await place.agent("late")
        await late.commit(await let_in(place, opened, late))
        both = await alice.handoff("go", transcript=2)
        assert both.transcript == t.SentTranscript(count=2, quoted=True)
        told = await said(early, both.id)
        assert told.first_seq == 0 or told.first_seq < told.last_seq
        again = await alice.handoff("go", to="early", transcript=2)
        assert again.transcript == t.SentTranscript(count=2, quoted=False)

    home.play(story)


def test_the_same_request_again_is_the_same_offer_although_the_conversation_went_on(home: Home) -> None:
    async def story(place: Place) -> None:
        alice, bob = await together(place, "alice", "bob")
        first = await alice.handoff("go", to="bob", transcript=2, idempotency_key="k1")
        await bob.send("more")
        await settled(alice, bob)
        again = await alice.handoff("go", to="bob", transcript=2, idempotency_key="k1")
        assert (again.id, again.replayed, again.transcript) == (first.id, True, msgspec.UNSET)
        error = await alice.refused(
            "handoff.give", t.GiveHandoff(next="stop", for_="bob", transcript=2, idempotency_key="k1")
        )
        assert error.code == "idempotency_conflict"

    home.play(story)
