"""The epochs of a sealed room: who gets which secret, and what a record that is not right is worth."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from parlerd.core.envelope import TextPart, encode_envelope
from parlerd.core.epoch_record import (
    EpochCard,
    EpochRecord,
    Roster,
    check_record,
    check_wraps,
    encode_record,
    record_digest,
    roster_after,
)
from parlerd.core.errors import Refused
from parlerd.core.model import History, HomeId
from parlerd.core.sealing import joined
from parlerd.identity import epochs, sealing
from parlerd.identity.epochs import Made
from tests.support.sealing import (
    BEN,
    CARD,
    CAT,
    DAN,
    OLIVE,
    ROOM,
    Person,
    Repeating,
    composed,
    open_sealed,
    sealed,
    turned,
)

PEOPLE = [OLIVE, BEN, CAT, DAN]
FIRST = turned(None, [OLIVE])
SECOND = turned(FIRST, [BEN])
THIRD = turned(SECOND, [CAT], [BEN])


def signed(body: bytes, by: Person = OLIVE) -> bytes:
    return by.person.sign("parler/epoch", body)


def why(attempt: Any) -> object:
    """Why it was refused, or None."""
    try:
        attempt()
    except Refused as error:
        return error.details.get("what", error.code)
    return None


def secret_for(person: Person, made: Made, counter: int = 1) -> bytes:
    wraps = check_wraps(made.wraps, made.record, made.roster)
    return epochs.secret_of(made.record, wraps, person.id, person.pair(counter))


# -- who has which secret ----------------------------------------------------------------------------------


def test_everybody_who_is_in_gets_the_secret_and_nobody_else() -> None:
    for made, inside in ((FIRST, [OLIVE]), (SECOND, [OLIVE, BEN]), (THIRD, [OLIVE, CAT])):
        assert sorted(made.roster) == sorted(each.id for each in inside)
        for person in PEOPLE:
            if person in inside:
                assert secret_for(person, made) == made.epoch.secret
            else:
                assert why(lambda person=person, made=made: secret_for(person, made)) == "member"


def test_whoever_was_removed_cannot_read_what_comes_after() -> None:
    envelope = sealed(composed(TextPart("without ben")), OLIVE, THIRD)
    known = [secret_for(BEN, SECOND)]
    for secret in known:
        epoch = THIRD.epoch._replace(secret=secret)
        assert why(lambda epoch=epoch: open_sealed(encode_envelope(envelope), author=OLIVE.id, epoch=epoch)) == "words"
        assert why(lambda secret=secret: epochs.card(THIRD.record, secret)) == "card"
        assert why(lambda secret=secret: epochs.secret_before(THIRD.record, secret, SECOND.record)) == "link"


@pytest.mark.parametrize("history", ["from-join", "none"])
def test_whoever_joins_cannot_read_what_came_before(history: History) -> None:
    """The fault of a joiner who is given the secret that is in use: it opens what was said before."""
    second = turned(FIRST, [BEN], history=history)
    assert second.record.link == b""
    mine = secret_for(BEN, second)
    before = sealed(composed(TextPart("before ben")), OLIVE, FIRST)
    epoch = FIRST.epoch._replace(secret=mine)
    assert why(lambda: open_sealed(encode_envelope(before), author=OLIVE.id, epoch=epoch)) == "words"
    assert why(lambda: epochs.secret_before(second.record, mine, FIRST.record)) == "link"


def test_where_the_history_is_for_everyone_the_newest_secret_opens_all() -> None:
    chain = [FIRST, SECOND, THIRD]
    secret = secret_for(CAT, THIRD)
    for made, previous in ((THIRD, SECOND), (SECOND, FIRST)):
        secret = epochs.secret_before(made.record, secret, previous.record)
        assert secret == previous.epoch.secret
    assert why(lambda: epochs.secret_before(FIRST.record, secret, FIRST.record)) == "link"
    for made in chain:
        envelope = sealed(composed(TextPart("hello")), OLIVE, made)
        joined(envelope, open_sealed(encode_envelope(envelope), author=OLIVE.id, epoch=made.epoch))


def test_each_epochs_secret_is_drawn_anew() -> None:
    many = [turned(FIRST, [BEN], random=Repeating(f"{n}")) for n in range(5)]
    assert len({made.epoch.secret for made in many}) == len({made.record.ephemeral for made in many}) == 5


def test_the_card_is_told_to_everybody_who_comes_in_and_to_nobody_else() -> None:
    second = turned(FIRST, [BEN], history="none")
    assert epochs.card(second.record, secret_for(BEN, second)) == CARD
    assert CARD.title not in second.body
    assert why(lambda: epochs.card(second.record, FIRST.epoch.secret)) == "card"


# -- records that are not right ----------------------------------------------------------------------------


def read(body: bytes, by: Person = OLIVE) -> EpochRecord:
    return epochs.read(body, signed(body, by), owners=[OLIVE.principal])


def test_a_record_is_the_word_of_the_person_who_owns_the_room() -> None:
    assert read(SECOND.body) == SECOND.record
    assert epochs.read(SECOND.body, signed(SECOND.body), owners=[BEN.principal, OLIVE.principal]) == SECOND.record
    assert why(lambda: read(SECOND.body, BEN)) == "signature"
    assert why(lambda: epochs.read(SECOND.body, signed(FIRST.body), owners=[OLIVE.principal])) == "signature"
    assert why(lambda: epochs.read(SECOND.body, signed(SECOND.body), owners=[])) == "signature"
    for_another = OLIVE.person.sign("parler/decision", SECOND.body)
    assert why(lambda: epochs.read(SECOND.body, for_another, owners=[OLIVE.principal])) == "signature"


def test_nobody_is_put_in_with_a_key_that_is_not_their_own() -> None:
    """The fault of a substituted X25519 key: the owner signs the record, and not for the joiner."""
    other = replace(BEN.added(), signature=CAT.signing.sign("parler/sealing-key", BEN.added().statement))
    stolen = replace(BEN.added(key=CAT.pair().public), signature=BEN.added().signature)
    for wrong in (other, stolen, replace(BEN.added(), agent=CAT.id)):
        body = encode_record(replace(SECOND.record, added=(wrong,)))
        assert why(lambda body=body: read(body)) == "added"


def test_a_key_with_which_everybody_could_read_comes_into_no_record() -> None:
    bad = BEN.added(key=bytes(32))
    with pytest.raises(Refused, match="sealing_key_refused") as caught:
        turned(FIRST, [bad])
    assert caught.value.details == {"agent": BEN.id}
    body = encode_record(replace(SECOND.record, added=(bad,)))
    with pytest.raises(Refused, match="sealing_key_refused"):
        read(body)


def test_a_wrap_counts_only_inside_its_record() -> None:
    other = turned(FIRST, [BEN], random=Repeating("another"))
    assert why(lambda: check_wraps(other.wraps, SECOND.record, SECOND.roster)) == "wraps"
    # Even where the digest of the wraps is the home's own: for whom and in which epoch it is, the key says.
    wraps = check_wraps(SECOND.wraps, SECOND.record, SECOND.roster)
    later = replace(SECOND.record, number=3)
    assert why(lambda: epochs.secret_of(later, wraps, BEN.id, BEN.pair())) == "wrap"
    elsewhere = replace(SECOND.record, room=ROOM[:-1] + "b")
    assert why(lambda: epochs.secret_of(elsewhere, wraps, BEN.id, BEN.pair())) == "wrap"
    swapped = tuple(zip([agent for agent, _ in wraps], [wrap for _, wrap in reversed(wraps)], strict=True))
    assert why(lambda: epochs.secret_of(SECOND.record, swapped, BEN.id, BEN.pair())) == "wrap"
    assert why(lambda: epochs.secret_of(SECOND.record, wraps, BEN.id, BEN.pair(2))) == "wrap"


def test_a_wrapped_secret_that_is_not_the_one_that_the_record_names_is_none() -> None:
    other = turned(FIRST, [BEN], random=Repeating("another"))
    wraps = check_wraps(other.wraps, other.record, other.roster)
    lying = replace(SECOND.record, ephemeral=other.record.ephemeral)
    assert why(lambda: epochs.secret_of(lying, wraps, BEN.id, BEN.pair())) == "secret"


def test_a_link_that_is_not_to_the_record_before_is_none() -> None:
    assert why(lambda: epochs.secret_before(THIRD.record, THIRD.epoch.secret, FIRST.record)) == "secret"
    assert why(lambda: epochs.secret_before(THIRD.record, SECOND.epoch.secret, SECOND.record)) == "link"
    cut = replace(THIRD.record, link=THIRD.record.link[:-1])
    assert why(lambda: epochs.secret_before(cut, THIRD.epoch.secret, SECOND.record)) == "link"


def test_an_owner_makes_no_record_that_nobody_would_take() -> None:
    assert why(lambda: turned(FIRST, [], [BEN])) == "removed"
    assert why(lambda: turned(FIRST, [OLIVE])) == "counter"
    assert why(lambda: turned(FIRST, [], [OLIVE])) == "removed"
    # A room of two begins with both; no room begins with more.
    assert sorted(turned(None, [OLIVE, BEN]).roster) == sorted([OLIVE.id, BEN.id])
    assert why(lambda: turned(None, [OLIVE, BEN, CAT])) == "added"
    assert why(lambda: turned(FIRST, [BEN.added(home=HomeId(OLIVE.principal))])) == "added"


def test_a_fresh_key_of_a_member_is_used_from_the_next_record_on() -> None:
    fresh = turned(SECOND, [BEN.added(2)])
    assert sorted(fresh.roster) == sorted(SECOND.roster)
    assert secret_for(BEN, fresh, 2) == fresh.epoch.secret
    assert why(lambda: secret_for(BEN, fresh, 1)) == "wrap"


# -- what members compare ----------------------------------------------------------------------------------


def test_members_with_the_same_record_and_roster_see_the_same_twenty_characters() -> None:
    shown = epochs.verify_words(ROOM, SECOND.epoch.record, SECOND.roster)
    assert [len(group) for group in shown.split("-")] == [4, 4, 4, 4, 4]
    seat = SECOND.roster[BEN.id]
    other: Roster = {**SECOND.roster, BEN.id: replace(seat, key=CAT.pair().public)}
    all_shown = {
        shown,
        epochs.verify_words(ROOM, THIRD.epoch.record, SECOND.roster),
        epochs.verify_words(ROOM, SECOND.epoch.record, FIRST.roster),
        epochs.verify_words(ROOM, SECOND.epoch.record, other),
    }
    assert len(all_shown) == 4
    assert epochs.verify_words(ROOM, SECOND.epoch.record, dict(SECOND.roster)) == shown


# -- any room ----------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from([BEN, CAT, DAN])), st.booleans()), min_size=1, max_size=6),
    st.sampled_from(["full", "from-join"]),
)
def test_in_any_room_each_member_reads_exactly_what_was_said_while_it_was_in(
    wanted: list[tuple[set[Person], bool]], history: History
) -> None:
    """`wanted` is who else is in from each record on, and whether who stays brings a fresh key."""
    made = turned(None, [OLIVE], history=history)
    chain, counters = [made], dict.fromkeys(PEOPLE, 1)
    inside: set[Person] = {OLIVE}
    held: dict[Person, list[set[int]]] = {person: [] for person in PEOPLE}
    roster: Roster = roster_after({}, check_record(made.body))
    for others, is_fresh in wanted:
        now = {OLIVE, *others}
        changed = (now - inside) | (now & inside if is_fresh else set())
        for person in changed:
            counters[person] += 1
        made = turned(
            made,
            [person.added(counters[person]) for person in changed],
            inside - now,
            history=history,
            random=Repeating(f"{len(chain)}"),
        )
        record = epochs.read(made.body, signed(made.body), owners=[OLIVE.principal])
        assert record.previous == record_digest(chain[-1].body)
        roster = roster_after(roster, record)
        assert roster == made.roster
        inside = now
        chain.append(made)
        wraps = check_wraps(made.wraps, record, roster)
        for person in PEOPLE:
            if person not in inside:
                assert why(lambda p=person, r=record, w=wraps: epochs.secret_of(r, w, p.id, p.pair())) == "member"
                continue
            secret = epochs.secret_of(record, wraps, person.id, person.pair(counters[person]))
            reads = {len(chain) - 1}
            for number in range(len(chain) - 1, 0, -1):
                if not chain[number].record.link:
                    break
                secret = epochs.secret_before(chain[number].record, secret, chain[number - 1].record)
                reads.add(number - 1)
            held[person].append(reads)
    if history == "full":
        assert all(reads == set(range(max(reads) + 1)) for all_reads in held.values() for reads in all_reads)
    else:
        assert all(len(reads) == 1 for all_reads in held.values() for reads in all_reads)


@settings(max_examples=200)
@given(st.data())
def test_damage_anywhere_in_a_signed_record_is_a_refusal(data: st.DataObject) -> None:
    body, signature = bytearray(SECOND.body), signed(SECOND.body)
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Refused, match="statement_refused"):
        epochs.read(bytes(body), signature, owners=[OLIVE.principal])


@given(st.binary(max_size=300), st.binary(max_size=70))
def test_no_bytes_at_all_are_a_record(body: bytes, signature: bytes) -> None:
    with pytest.raises(Refused, match="statement_refused"):
        epochs.read(body, signature, owners=[OLIVE.principal])


def test_the_digests_in_a_record_are_those_of_what_travels() -> None:
    assert SECOND.record.wraps == hashlib.sha256(SECOND.wraps).digest()
    assert SECOND.record.previous == FIRST.epoch.record == hashlib.sha256(FIRST.body).digest()
    assert SECOND.record.secret == sealing.secret_digest(SECOND.epoch.secret)
    assert turned(FIRST, [BEN], decisions=[b"d" * 32]).record.decisions == (b"d" * 32,)
    assert turned(FIRST, [BEN], card=EpochCard(b"other")).record.card != SECOND.record.card
