"""What a host counts of a text, and how much of one fits."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.hosts import HOSTS
from mcp_server.budget import PAGE, RESERVE, Budget
from parlerd.operations.traits import UNMEASURED, HostTraits

BYTES = HostTraits(page=1000)
CHARACTERS = HostTraits(page=1000, unit="characters")
JSON = HostTraits(page=1000, unit="json")


@pytest.mark.parametrize(
    ("traits", "text", "size"),
    [
        (BYTES, "abc", 3),
        (BYTES, "日本", 6),
        (CHARACTERS, "日本", 2),
        (CHARACTERS, "👩", 2),
        (CHARACTERS, "a\n", 2),
        (JSON, "a", 3),
        (JSON, 'a"b\n', 8),
        (JSON, "日👩", 5),
    ],
)
def test_a_text_is_measured_in_what_its_host_counts(traits: HostTraits, text: str, size: int) -> None:
    assert Budget(traits).size(text) == size


def test_where_lines_are_counted_too_many_of_them_are_too_much() -> None:
    budget = Budget(HostTraits(page=1000, lines=10))
    assert budget.size("a\n" * 8 + "a") < 1000
    assert budget.size("a\n" * 10 + "a") > 1000


@given(st.text(max_size=300), st.integers(0, 400), st.sampled_from([BYTES, CHARACTERS, JSON, HostTraits(lines=7)]))
def test_a_prefix_is_the_longest_that_fits(text: str, room: int, traits: HostTraits) -> None:
    budget = Budget(traits)
    end = budget.prefix(text, room)
    assert end == 0 or budget.size(text[:end]) <= room
    assert end == len(text) or budget.size(text[: end + 1]) > room


def test_an_error_is_held_to_what_a_result_is_unless_it_gets_less() -> None:
    assert Budget(BYTES).error == 1000
    assert Budget(HostTraits(page=1000, error=500)).error == 500


def test_an_unknown_host_gets_what_the_strictest_known_one_lets_through() -> None:
    assert UNMEASURED.page <= min(host.traits.page for host in HOSTS)
    assert UNMEASURED.wait_s <= 50


def test_the_reserve_leaves_most_of_the_smallest_ceiling() -> None:
    assert min(host.traits.page for host in HOSTS) > 8 * RESERVE
    assert PAGE == 8_000
    assert Budget(JSON).size(json.dumps("x")) > 0
