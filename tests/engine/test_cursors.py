"""A place in a log as it is told to its reader."""

from __future__ import annotations

import base64

import pytest

from parlerd.core.model import AgentId, Position, RoomId
from parlerd.engine.cursors import PART, cursor_of, place_of

KEY, OTHER = b"k" * 32, b"o" * 32
ROOM, ANN = RoomId("r_1"), AgentId("UANN")


@pytest.mark.parametrize("place", [0, 1, 255, 2**40, 2**63 - 1])
def test_a_place_comes_back_from_what_was_told(place: int) -> None:
    cursor = cursor_of(KEY, ROOM, ANN, Position(place), b"n" * PART)
    assert place_of(KEY, ROOM, ANN, cursor) == place


def test_the_same_place_is_told_in_other_words_each_time_and_neighbours_have_nothing_in_common() -> None:
    told = [cursor_of(KEY, ROOM, ANN, Position(7), bytes([n]) * PART) for n in range(20)]
    told.append(cursor_of(KEY, ROOM, ANN, Position(8), bytes([0]) * PART))
    hidden = [base64.urlsafe_b64decode(each)[PART : 2 * PART] for each in told[:20]]
    assert len(set(told)) == 21
    assert len(set(hidden)) == 20
    assert all(len(set(each)) > 2 for each in hidden)


def test_a_cursor_is_of_one_reader_of_one_room_of_one_home() -> None:
    cursor = cursor_of(KEY, ROOM, ANN, Position(7), b"n" * PART)
    assert place_of(OTHER, ROOM, ANN, cursor) is None
    assert place_of(KEY, RoomId("r_2"), ANN, cursor) is None
    assert place_of(KEY, ROOM, AgentId("UBOB"), cursor) is None


def test_nobody_counts_with_a_cursor_that_was_changed_a_little() -> None:
    told = base64.urlsafe_b64decode(cursor_of(KEY, ROOM, ANN, Position(7), b"n" * PART))
    for byte in range(len(told)):
        for bit in (1, 128):
            changed = bytes(each ^ bit if at == byte else each for at, each in enumerate(told))
            assert place_of(KEY, ROOM, ANN, base64.urlsafe_b64encode(changed).decode()) is None


@pytest.mark.parametrize("text", ["", "7", "A", "AAAA", "A" * 32, "A" * 64, "é" * 32, "=" * 32, "++//" * 8])
def test_any_other_text_is_no_place(text: str) -> None:
    assert place_of(KEY, ROOM, ANN, text) is None
