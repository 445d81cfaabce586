"""JSON values: their texts keep every type, and what is done to one in place is exact or refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.json_values import INTEGERS, MAX_DEPTH, MAX_VALUE, added, appended, merged, name_of, read, text_of
from tests.support.core import refused

# Half of a surrogate pair is no text.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types, all the way down, with the keys in the same order."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@given(VALUES)
def test_a_text_reads_as_the_value_of_the_same_types(value: Any) -> None:
    assert same(read(text_of(value)), value)


def nested(levels: int, leaf: Any) -> Any:
    for level in range(levels):
        leaf = [leaf] if level % 2 else {"a": leaf}
    return leaf


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (2**63, "invalid_param"),
        (-(2**63) - 1, "invalid_param"),
        (float("nan"), "invalid_param"),
        (float("inf"), "invalid_param"),
        ({"a": [1, float("-inf")]}, "invalid_param"),
        ({1: "one"}, "invalid_param"),
        ({"a": {2: "b"}}, "invalid_param"),
        (b"bytes", "invalid_param"),
        ({1, 2}, "invalid_param"),
        ("\ud800", "invalid_param"),
        ({"\udfff": 1}, "invalid_param"),
        (nested(MAX_DEPTH + 1, 1), "invalid_param"),
        ("x" * (MAX_VALUE - 1), "value_too_large"),
    ],
)
def test_what_json_cannot_say_and_what_is_too_large_is_no_value(value: Any, code: str) -> None:
    with refused(code):
        text_of(value)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), nested(MAX_DEPTH, 1), "x" * (MAX_VALUE - 2)])
def test_a_value_at_each_bound_is_one(value: Any) -> None:
    assert same(read(text_of(value)), value)


def test_which_parameter_is_wrong_is_said() -> None:
    with refused("invalid_param") as error:
        text_of(b"", param="delta")
    assert error.value.details["param"] == "delta"


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_the_sum_of_integers_is_exact_or_refused(old: int, delta: int) -> None:
    if old + delta in INTEGERS:
        assert same(added(old, delta), old + delta)
    else:
        with refused("invalid_param"):
            added(old, delta)


@pytest.mark.parametrize(
    ("old", "delta", "total"), [(1, 0.5, 1.5), (1.5, 1, 2.5), (1, 1.0, 2.0), (0.0, 0, 0.0), (0, -3, -3)]
)
def test_a_sum_with_a_float_is_a_float(old: Any, delta: Any, total: Any) -> None:
    assert same(added(old, delta), total)


def test_a_sum_that_is_no_number_any_more_is_refused() -> None:
    with refused("invalid_param"):
        added(1.7e308, 1.7e308)


@pytest.mark.parametrize("old", [None, True, "1", [1], {"n": 1}])
def test_only_a_number_is_incremented_and_the_refusal_says_what_is_there(old: Any) -> None:
    with refused("wrong_type") as error:
        added(old, 1)
    assert error.value.details == {"act": "increment", "is": name_of(old)}


@pytest.mark.parametrize("delta", [None, True, "1", [1]])
def test_a_key_is_incremented_by_nothing_but_a_number(delta: Any) -> None:
    with refused("invalid_param"):
        added(1, delta)


def test_merging_goes_down_into_objects_and_replaces_everything_else() -> None:
    old = {"a": {"x": 1, "y": [1]}, "b": 1, "c": {"z": 1}}
    new = {"a": {"y": [2], "w": None}, "b": {"n": 1}, "c": 3, "d": {}}
    before = text_of(old)
    expected = {"a": {"x": 1, "y": [2], "w": None}, "b": {"n": 1}, "c": 3, "d": {}}
    assert merged(old, new) == expected
    assert text_of(old) == before, "the value that was there was changed in place"


@given(st.dictionaries(st.text(max_size=2), VALUES, max_size=4))
def test_merging_a_value_into_itself_or_into_nothing_leaves_it(value: dict[str, Any]) -> None:
    assert merged(value, value) == value
    assert merged({}, value) == value
    assert merged(value, {}) == value


@pytest.mark.parametrize(
    ("old", "new", "code"), [([], {}, "wrong_type"), (None, {}, "wrong_type"), ({}, [], "invalid_param")]
)
def test_only_objects_are_merged(old: Any, new: Any, code: str) -> None:
    with refused(code):
        merged(old, new)


def test_appending_adds_one_value_at_the_end_also_a_list() -> None:
    old = [1]
    assert appended(old, [2]) == [1, [2]]
    assert old == [1]
    others: list[Any] = [None, {}, "a"]
    for other in others:
        with pytest.raises(Refused, match="wrong_type"):
            appended(other, 1)


@pytest.mark.parametrize(
    ("value", "name"),
    [(None, "null"), (True, "boolean"), (0, "number"), (0.5, "number"), ("", "string"), ([], "list"), ({}, "object")],
)
def test_every_sort_of_value_has_a_name(value: Any, name: str) -> None:
    assert name_of(value) == name
