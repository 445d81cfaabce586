"""Waits between attempts: never shorter than half a second, never longer than a minute, and spread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parlerd.uplink.backoff import LEAST_S, MOST_S, Backoff


def _drawing(value: bytes) -> Backoff:
    return Backoff(lambda count: (value * 4)[:count])


def test_the_longest_wait_doubles_up_to_a_minute_and_begins_anew_after_a_success() -> None:
    longest = _drawing(b"\xff")
    found = [round(longest.next(), 3) for _ in range(9)]
    assert found == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    longest.succeeded()
    assert round(longest.next(), 3) == 1.0


def test_the_shortest_wait_stays_the_same() -> None:
    shortest = _drawing(b"\0")
    assert {shortest.next() for _ in range(9)} == {LEAST_S}


@given(st.lists(st.binary(min_size=4, max_size=4), max_size=50))
def test_every_wait_is_within_the_bounds(drawn: list[bytes]) -> None:
    source = iter(drawn)
    backoff = Backoff(lambda count: next(source))
    for _ in drawn:
        assert LEAST_S <= backoff.next() <= MOST_S
