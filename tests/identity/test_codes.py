"""Codes people type: an alphabet without look-alikes, and forgiveness for the usual slips."""

from __future__ import annotations

import os
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.model import AgentId
from parlerd.identity import codes

_codes = st.text(codes.ALPHABET, min_size=1, max_size=16)


def test_the_alphabet_is_32_letters_without_look_alikes() -> None:
    assert len(set(codes.ALPHABET)) == 32
    assert set("ILOU") & set(codes.ALPHABET) == set()


def test_a_code_has_its_length_and_only_letters_of_the_alphabet() -> None:
    for length in (codes.GATED_LENGTH, codes.OPEN_LENGTH):
        code = codes.spell(os.urandom(32), length)
        assert len(code) == length
        assert set(code) <= set(codes.ALPHABET)


def test_every_letter_is_equally_likely() -> None:
    spelt = codes.spell(bytes(range(256)), 256)
    assert set(Counter(spelt).values()) == {8}


@given(code=_codes)
def test_a_code_is_its_own_normal_form(code: str) -> None:
    assert codes.normalise(code) == code


@given(code=_codes, data=st.data())
def test_case_dashes_spaces_and_look_alikes_are_forgiven(code: str, data: st.DataObject) -> None:
    slips = {"1": "1iIlL", "0": "0oO"}
    typed = "".join(
        data.draw(st.sampled_from(slips.get(letter, letter + letter.lower())))
        + data.draw(st.sampled_from(["", "-", " ", " - "]))
        for letter in code
    )
    if len(typed) <= codes.MAX_TYPED:
        assert codes.normalise(typed) == code


@pytest.mark.parametrize(
    "typed", ["", "  -", "ABCU2345", "ABC*2345", "ÀBCD2345", "A" * 65, "ABCD\n2345", "\uff11\uff12\uff13\uff14"]
)
def test_what_cannot_be_a_code_gets_the_answer_of_an_unknown_one(typed: str) -> None:
    with pytest.raises(Refused) as caught:
        codes.normalise(typed)
    assert caught.value.code == "unknown_key"
    assert caught.value.details == {}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("k7m2-9qxd", ("K7M29QXD", "", None)),
        (" K7M29QXD-4MWX2B9Q@relay.example:7443 ", ("K7M29QXD", "4MWX2B9Q", "relay.example:7443")),
        ("k7m29qxd 4mwx 2b9q@team-7f3k2q", ("K7M29QXD", "4MWX2B9Q", "team-7f3k2q")),
        ("k7m29qxdk7m29qxd4mwx2b9q@[::1]:80", ("K7M29QXDK7M29QXD", "4MWX2B9Q", "[::1]:80")),
        # Without what binds it to a room it is no whole key of another home.
        ("k7m29qxd@team-7f3k2q", ("K7M29QXD", "", "team-7f3k2q")),
        ("K7M2@team-7f3k2q", ("K7M2", "", "team-7f3k2q")),
    ],
)
def test_a_key_may_carry_its_home_and_what_binds_it_to_a_room_there(
    typed: str, expected: tuple[str, str, str | None]
) -> None:
    read = codes.read_key(typed)
    assert (read.key, read.binding, read.home, read.secret) == (*expected, "")
    assert read.code == expected[0] + expected[1]


def test_a_key_is_read_as_it_was_written() -> None:
    written = codes.write_key("K7M29QXD", "4MWX2B9Q", "team-7f3k2q")
    assert written == "K7M29QXD-4MWX2B9Q@team-7f3k2q"
    assert codes.read_key(written) == codes.TypedKey("K7M29QXD", "4MWX2B9Q", "team-7f3k2q")


@pytest.mark.parametrize("secret", ["K7M29QXD", "K7M29QXDK7M29QXD"])
def test_a_key_of_a_sealed_room_is_a_route_and_a_secret(secret: str) -> None:
    written = codes.write_sealed_key("A3KE7D", secret, "team-7f3k2q")
    assert written == f"A3KE7DU{secret}@team-7f3k2q"
    for typed in (written, written.lower().replace("team", "team"), f"{codes.LINK}a3k-e7d u {secret}@team-7f3k2q"):
        read = codes.read_key(typed)
        assert (read.key, read.binding, read.home, read.secret) == ("A3KE7D", "", "team-7f3k2q", secret)
        assert read.code == f"A3KE7DU{secret}"
        assert secret not in repr(read)


@pytest.mark.parametrize(
    "typed",
    [
        "A3KE7DUK7M29QXD",
        "A3KE7UK7M29QXD@team",
        "A3KE7D2UK7M29QXD@team",
        "A3KE7DUK7M29QX@team",
        "A3KE7DUK7M29QXDK@team",
        "A3KE7DUUK7M29QXD@team",
        "A3KE7DUK7M2UQXD@team",
        "U@team",
        "A3KE7DU@team",
    ],
)
def test_what_is_no_key_of_a_sealed_room_is_an_unknown_one(typed: str) -> None:
    """Above all an older client, to which the letter is in no code, refuses such a key before it sends anything."""
    with pytest.raises(Refused) as caught:
        codes.read_key(typed)
    assert caught.value.code == "unknown_key"
    with pytest.raises(Refused):
        codes.normalise(typed.partition("@")[0])


@given(st.text(max_size=80))
def test_whatever_is_typed_is_a_key_or_an_unknown_one(typed: str) -> None:
    try:
        read = codes.read_key(typed)
    except Refused:
        return
    assert set(read.key + read.binding + read.secret) <= set(codes.ALPHABET)
    assert not read.secret or (len(read.key), read.binding) == (codes.ROUTE_LENGTH, "")


@pytest.mark.parametrize("typed", ["@host", "K7M29QXD@", "@", "UUUU@host"])
def test_half_a_key_is_an_unknown_one(typed: str) -> None:
    with pytest.raises(Refused) as caught:
        codes.read_key(typed)
    assert caught.value.code == "unknown_key"


@given(one=st.text(min_size=1), two=st.text(min_size=1))
def test_a_fingerprint_is_three_fours_that_follow_from_the_id(one: str, two: str) -> None:
    first, second = codes.fingerprint(AgentId(one)), codes.fingerprint(AgentId(two))
    assert re.fullmatch(r"[A-Z2-7]{4}-[A-Z2-7]{4}-[A-Z2-7]{4}", first)
    assert (first == second) == (one == two)


@given(st.binary(min_size=codes.SECRET_BYTES, max_size=codes.SECRET_BYTES))
def test_a_join_secret_is_read_as_it_was_written_however_it_is_typed(secret: bytes) -> None:
    text = codes.secret_text(secret)
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{5}-){4}[0-9A-HJKMNP-TV-Z]{6}", text)
    assert codes.secret_bytes(text) == secret
    assert codes.secret_bytes(f"  {text.replace('-', '').lower().replace('0', 'o').replace('1', 'l')}\n") == secret


def test_another_text_is_no_join_secret_and_the_refusal_does_not_repeat_it() -> None:
    right = codes.secret_text(bytes(range(16)))
    for text in ("", right[:-1], right + "0", right[:-1] + "1", right.replace(right[0], "U"), "A" * 10_000):
        with pytest.raises(Refused) as refused:
            codes.secret_bytes(text)
        assert refused.value.code == "wrong_secret"
        assert text[:10] not in refused.value.message or not text
    with pytest.raises(ValueError, match="16 bytes"):
        codes.secret_text(b"short")


def test_the_code_of_a_direct_message_follows_from_the_opening_alone_and_is_typed_as_any_code() -> None:
    code = codes.direct_code(b"an opening with a nonce")
    assert code == codes.direct_code(b"an opening with a nonce") == codes.normalise(code.lower())
    assert len(code) == codes.JOIN_CODE_LENGTH
    assert len({codes.direct_code(bytes([n])) for n in range(200)}) > 190
