"""Receipts: their one spelling, own lines, and what opens a content."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core import events as e
from parlerd.core import receipts as r
from parlerd.core.model import AgentId, Millis, RoomId
from tests.support.facts import ANN, BEN, CAT, ROOM, fact, message

WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
DIGESTS = st.binary(min_size=32, max_size=32)
MOMENTS = st.integers(0, 253_402_300_799_999).map(Millis)
NUMBERS = st.integers(1, 2**53)
RECEIPTS = st.builds(
    r.Receipt,
    home=WORDS,
    room=WORDS.map(RoomId),
    fact=WORDS,
    kind=WORDS,
    digest=DIGESTS,
    content=DIGESTS,
    operation=st.just("") | WORDS,
    at=MOMENTS,
    actor=WORDS.map(AgentId),
    handle=WORDS,
    via=WORDS,
    principal=WORDS,
    authority=WORDS,
    token=st.just("") | WORDS,
    verified=st.just("") | WORDS,
    numbered=st.none() | st.builds(r.Numbered, NUMBERS, DIGESTS),
    key=st.just(b"") | DIGESTS,
    line=st.none() | st.tuples(NUMBERS, DIGESTS),
    also=st.lists(st.builds(r.Also, WORDS, DIGESTS, DIGESTS), max_size=3).map(tuple),
    steps=st.lists(st.builds(r.Step, WORDS, WORDS, DIGESTS, MOMENTS, WORDS.map(AgentId)), max_size=3).map(tuple),
    stage=WORDS,
)


@given(RECEIPTS)
def test_a_text_says_what_was_written_and_nothing_else(receipt: r.Receipt) -> None:
    assert r.read(r.text(receipt)) == receipt


@given(RECEIPTS, st.data())
def test_a_text_that_was_changed_anywhere_is_no_receipt_or_says_something_else(
    receipt: r.Receipt, data: st.DataObject
) -> None:
    text = r.text(receipt)
    place = data.draw(st.integers(0, len(text) - 1))
    change = data.draw(st.sampled_from(["", "x", " ", "\n", "\r", "\x00", "é", "\u202e", text[place] * 2]))
    changed = text[:place] + change + text[place + 1 :]
    try:
        found = r.read(changed)
    except r.NotAReceipt:
        return
    assert (found == receipt) is (changed == text)


@given(st.text() | st.text(st.sampled_from("parler/receipt v1\nhomefact 12-:TZ=")))
def test_whatever_is_read_is_a_receipt_or_refused(text: str) -> None:
    for given_text in (text, f"{r.TITLE}\n{text}"):
        try:
            assert r.text(r.read(given_text)) == given_text
        except r.NotAReceipt:
            continue


def test_a_text_without_end_is_no_receipt() -> None:
    with pytest.raises(r.NotAReceipt):
        r.read(f"{r.TITLE}\n" + "x" * r.MAX_BYTES)


def _header(**about: Any) -> e.Header:
    return message(1, **about).header


def test_each_audience_has_a_line_of_its_own() -> None:
    public, private = r.audience_of(_header()), r.audience_of(_header(visible_to=(CAT, ANN)))
    same = r.audience_of(_header(visible_to=(ANN, CAT)))
    other = r.audience_of(fact(1, e.RoomClosed()).header)
    assert (public, private, other) == (r.EVERYBODY, same, r.MYSELF)
    lines = [
        r.first_line(room, agent, audience)
        for room in (ROOM, RoomId("r_x"))
        for agent in (ANN, BEN)
        for audience in (public, private, other)
    ]
    assert len(set(lines)) == 12


def test_what_begins_a_request_has_a_number_and_what_follows_from_it_has_none() -> None:
    assert r.has_number(fact(1, e.RoomClosed(), operation="session.close").header)
    assert not r.has_number(fact(1, e.RoomClosed()).header)
    # A message that a home showed later was asked for before.
    assert r.has_number(_header())


@given(st.integers(1, 10**14))
def test_a_fact_is_found_by_its_id_in_its_own_line_alone(number: int) -> None:
    mine, other = r.first_line(ROOM, ANN, r.MYSELF), r.first_line(ROOM, BEN, r.MYSELF)
    id = r.fact_id(mine, number)
    assert r.number_in(id, mine) == number
    assert r.number_in(id, other) is None
    for wrong in (id.upper(), id + " ", id[:-1] + "a", f"{id}0" * 2, id.replace("_", "-"), "", "f_"):
        assert r.number_in(wrong, mine) is None


def test_a_message_is_called_by_its_id() -> None:
    header = _header(id="m_x")
    assert r.name_of(header, b"", 1) == "m_x"
    other = fact(1, e.RoomClosed()).header
    line = r.first_line(ROOM, ANN, r.MYSELF)
    assert r.name_of(other, line, 3) == r.fact_id(line, 3)


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=50), st.none() | st.binary(max_size=50))
def test_a_content_is_opened_by_what_it_is_of_alone(salt: bytes, event: bytes, body: bytes | None) -> None:
    content_salt = r.content_salt(salt)
    # Whoever is shown the one learns nothing of the other, by which positions could be guessed.
    assert content_salt != salt
    digest = None if body is None else hashlib.sha256(body).digest()
    content = r.content_of(content_salt, event, digest)
    assert r.opens(r.Opening(content_salt, event, body), content)
    assert not r.opens(r.Opening(content_salt, event + b"x", body), content)
    assert not r.opens(r.Opening(content_salt, event, (body or b"") + b"x"), content)
    assert not r.opens(r.Opening(salt, event, body), content)


def test_lines_go_on_by_the_digest_of_each_fact() -> None:
    first = r.first_line(ROOM, ANN, r.EVERYBODY)
    one, two = hashlib.sha256(b"1").digest(), hashlib.sha256(b"2").digest()
    assert r.next_line(r.next_line(first, one), two) != r.next_line(r.next_line(first, two), one)
    assert r.next_line(first, one) == hashlib.sha256(first + one).digest()


def test_a_key_is_told_by_its_digest() -> None:
    assert r.key_digest("k-1") == hashlib.sha256(b"k-1").digest()
