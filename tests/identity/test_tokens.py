"""The text of a token: its shape, that a mistyped one shows, and that a text is rid of it."""

from __future__ import annotations

import hashlib
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import TokenKind
from parlerd.core.scrub import kinds_in, scrub
from parlerd.identity import tokens
from parlerd.identity.tokens import KINDS, SECRET_BYTES, TOKEN, digest_of, is_token, made_of

BASE62 = string.ascii_letters + string.digits
MARK = "as_"
BEHIND_THE_MARK = 49
_secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)
# Every code point, those too that stand in no UTF-8.
_letters = st.characters(min_codepoint=0)


@given(_secrets)
def test_a_token_is_its_mark_and_49_characters_of_base62(secret: bytes) -> None:
    text = made_of(secret)
    assert re.fullmatch(r"as_[0-9A-Za-z]{49}", text)
    assert len(text) == len(MARK) + BEHIND_THE_MARK
    assert is_token(text)


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        (bytes(32), "as_" + "0" * 43 + "33FKxV"),
        (b"\xff" * 32, "as_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp10Eub4r"),
        (bytes(range(32)), "as_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf2YZ1BR"),
    ],
)
def test_the_text_of_given_bits_stays_what_it_was_because_people_keep_theirs(secret: bytes, text: str) -> None:
    assert made_of(secret) == text


@given(_secrets, _secrets)
def test_other_bits_are_another_token(one: bytes, two: bytes) -> None:
    assert (made_of(one) == made_of(two)) == (one == two)


@given(_secrets, st.integers(0, len(MARK) + BEHIND_THE_MARK - 1), st.sampled_from(BASE62 + "_-") | _letters)
def test_one_character_that_is_another_makes_it_no_token(secret: bytes, at: int, letter: str) -> None:
    text = made_of(secret)
    assert is_token(text[:at] + letter + text[at + 1 :]) == (letter == text[at])


def test_no_other_character_fits_in_any_place_of_a_token() -> None:
    text = made_of(bytes(range(32)))
    for at, right in enumerate(text):
        fits = [letter for letter in BASE62 + "_" if is_token(text[:at] + letter + text[at + 1 :])]
        assert fits == [right], at


@given(_secrets, st.integers(len(MARK), len(MARK) + 41))
def test_two_neighbours_of_the_secret_that_changed_places_make_it_no_token(secret: bytes, at: int) -> None:
    text = made_of(secret)
    swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    assert is_token(swapped) == (swapped == text)


@given(_secrets, st.integers(0, len(MARK) + BEHIND_THE_MARK - 1), st.text(_letters, min_size=1, max_size=3))
def test_a_token_that_is_cut_or_has_more_is_none(secret: bytes, at: int, more: str) -> None:
    text = made_of(secret)
    assert not is_token(text[:at])
    assert not is_token(text[at + 1 :])
    assert not is_token(text[:at] + more + text[at:])
    assert not is_token(text + more)
    assert not is_token(more + text)


@given(
    st.text(_letters)
    | st.text(_letters, min_size=BEHIND_THE_MARK, max_size=BEHIND_THE_MARK).map(MARK.__add__)
    | st.text(BASE62, min_size=BEHIND_THE_MARK, max_size=BEHIND_THE_MARK).map(MARK.upper().__add__)
)
def test_anything_else_is_no_token_and_no_mistake(text: str) -> None:
    assert is_token(text) is False


@pytest.mark.parametrize("text", ["", MARK, "as_" + "٣" * 49, "as_" + "\ud800" * 49, "as_" + "0" * 49, "x" * 100_000])
def test_what_only_looks_like_a_token_is_none(text: str) -> None:
    assert is_token(text) is False


@given(_secrets)
def test_what_is_kept_of_a_token_is_the_sha_256_of_its_text(secret: bytes) -> None:
    text = made_of(secret)
    assert digest_of(text) == hashlib.sha256(text.encode("ascii")).digest()
    assert digest_of(text) != digest_of(text[:-1])


@given(_secrets)
def test_the_text_of_each_kind_says_which_it_is_and_is_that_of_no_other(secret: bytes) -> None:
    texts = {kind: made_of(secret, kind) for kind in KINDS}
    assert set(texts) == {"as", "aj", "ah"}
    for kind, text in texts.items():
        assert text.startswith(f"{kind}_")
        assert is_token(text)
        assert TOKEN.fullmatch(text)
        # The sum is over the mark too: a token does not become one of another kind by another mark.
        for other in KINDS:
            assert is_token(f"{other}_{text[3:]}") == (other == kind)


@pytest.mark.parametrize("mark", ["AS_", "as-", "ak_", "_", ""])
def test_a_mark_of_no_kind_is_that_of_no_token(mark: str) -> None:
    assert not is_token(mark + made_of(bytes(range(32)))[3:])


# -- in a text of others -----------------------------------------------------------------------------------


@given(
    _secrets,
    st.sampled_from(["", " ", "Authorization: Bearer ", "TOKEN=", "(", '"', "\n", "https://a.example/v1/me?t="]),
    st.sampled_from(["", " ", ".", ")", '"', "\n", "&x=1", "-"]),
    st.sampled_from(KINDS),
)
def test_a_token_is_taken_out_of_a_text_before_others_read_it(
    secret: bytes, before: str, after: str, kind: TokenKind
) -> None:
    text = made_of(secret, kind)
    said = f"it works with{' ' if before == '' else before}{text}{after} now"
    clean, removed = scrub(said)
    assert (text[:-1] in clean, removed) == (False, {"bearer token": 1})
    assert clean == said.replace(text, "[removed: bearer token]")
    assert kinds_in(said) == {"bearer token"}


def test_a_mistyped_token_is_taken_out_too() -> None:
    text = made_of(bytes(range(32)))
    near = text[:-1] + ("0" if text[-1] != "0" else "1")
    assert not tokens.is_token(near)
    assert scrub(f"x {near} {text}")[1] == {"bearer token": 2}


@pytest.mark.parametrize("text", ["as_if", "ah_ha", "aj_" + "x" * 48, "ah_" + "x" * 50, "has_" + "x" * 49])
def test_a_word_that_only_begins_like_a_token_stays(text: str) -> None:
    assert scrub(f"x {text} y") == (f"x {text} y", {})
