"""Markers, and what is expected of a message that was rendered with one."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.sight import DRAWN, MARKER, expected, marker_of

DRAWS = st.binary(min_size=DRAWN, max_size=DRAWN)


@given(DRAWS)
def test_a_marker_has_the_one_form_of_markers(drawn: bytes) -> None:
    assert MARKER.fullmatch(marker_of(drawn))


@given(DRAWS, DRAWS)
def test_two_draws_give_one_marker_only_where_they_are_the_same(one: bytes, other: bytes) -> None:
    assert (marker_of(one) == marker_of(other)) == (one == other)


def test_a_marker_is_made_of_no_other_number_of_bytes() -> None:
    with pytest.raises(ValueError, match="8 random bytes"):
        marker_of(b"1234567")


@given(st.text(), DRAWS)
def test_what_is_expected_of_a_message_is_its_length_and_its_digest_with_the_marker(words: str, drawn: bytes) -> None:
    text = f"{words}\n{marker_of(drawn)}"
    found = expected(text)
    assert (found.marker, found.size) == (marker_of(drawn), len(text))
    assert found.digest == sha256(text.encode("utf-8", "surrogatepass")).digest()


@pytest.mark.parametrize(
    "text", ["", "hello", "hello rcpt-0123456789abcde", "rcpt-0123456789ABCDEF", "rcpt-0123456789abcdef "]
)
def test_a_text_that_ends_with_no_marker_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ends with its marker"):
        expected(text)


def test_a_text_that_holds_its_marker_twice_is_refused() -> None:
    marker = marker_of(bytes(8))
    with pytest.raises(ValueError, match="holds the marker once"):
        expected(f"{marker} {marker}")


def test_nothing_of_the_words_is_in_what_is_expected() -> None:
    assert "nightingale" not in repr(expected(f"nightingale\n{marker_of(bytes(8))}"))
