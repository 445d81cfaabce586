"""A dict of at most so many keys, against a plain list of what was set last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parlerd.bounded import Bounded


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 8), st.integers()), max_size=40))
def test_the_keys_that_were_set_last_are_there_with_their_newest_values(most: int, sets: list[tuple[int, int]]) -> None:
    bounded: Bounded[int, int] = Bounded(most)
    newest: list[tuple[int, int]] = []
    for key, value in sets:
        bounded[key] = value
        newest = [each for each in newest if each[0] != key] + [(key, value)]
        assert list(bounded.items()) == newest[-most:]


def test_what_was_taken_out_makes_room() -> None:
    bounded: Bounded[str, int] = Bounded(2)
    bounded["a"], bounded["b"] = 1, 2
    assert bounded.pop("a") == 1
    bounded["c"] = 3
    assert list(bounded) == ["b", "c"]
