"""Values of expressions: friendly numbers, comparing without end, and the bounds of what is made."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.expressions import Failed, Moment, Span, Spent, TypeName, Value
from parlerd.core.values import (
    INT_MAX,
    INT_MIN,
    MAX_NESTED,
    MAX_STRING,
    STEPS,
    Meter,
    add,
    compare,
    divide,
    equal,
    inside,
    multiply,
    negate,
    plain,
    remainder,
    size,
    subtract,
    to_bool,
    to_double,
    to_int,
    to_string,
)
from tests.support.expressions import Shelf

INTS = st.integers(INT_MIN, INT_MAX)
JSON: st.SearchStrategy[Value] = st.recursive(
    st.none() | st.booleans() | INTS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(INTS, INTS)
def test_whole_numbers_stay_whole_and_fit_in_64_bits(a: int, b: int) -> None:
    computed: list[tuple[int, Callable[[], Value]]] = [
        (a + b, lambda: add(a, b, Meter(), 0)),
        (a - b, lambda: subtract(a, b, 0)),
        (a * b, lambda: multiply(a, b, 0)),
    ]
    for exact, compute in computed:
        try:
            result = compute()
        except Failed:
            assert not INT_MIN <= exact <= INT_MAX
        else:
            assert type(result) is int
            assert result == exact


@given(INTS, INTS.filter(bool))
def test_division_rounds_toward_zero_and_the_remainder_has_the_sign_of_the_first(a: int, b: int) -> None:
    left = remainder(a, b, 0)
    assert isinstance(left, int)
    if (a, b) == (INT_MIN, -1):
        with pytest.raises(Failed):
            divide(a, b, 0)
        return
    quotient = divide(a, b, 0)
    assert isinstance(quotient, int)
    assert quotient * b + left == a
    assert abs(left) < abs(b)
    assert left == 0 or (left < 0) == (a < 0)


def test_a_whole_number_and_a_double_make_a_double() -> None:
    for found, expected in (
        (add(1, 1.5, Meter(), 0), 2.5),
        (subtract(3, 1.5, 0), 1.5),
        (multiply(2, 2.0, 0), 4.0),
        (divide(3, 2.0, 0), 1.5),
        (remainder(5.5, 2, 0), 1.5),
    ):
        assert type(found) is float
        assert found == expected
    assert equal(1, 1.0, Meter())
    assert compare("<", 1, 1.5, Meter(), 0)
    assert not equal(2**53 + 1, float(2**53), Meter())  # exactly, and not as doubles


@pytest.mark.parametrize("zero", [0, 0.0])
def test_nothing_is_divided_by_zero(zero: Value) -> None:
    for by_zero in (divide, remainder):
        with pytest.raises(Failed, match="division by zero"):
            by_zero(1, zero, 0)


def test_different_kinds_are_not_equal_and_are_not_ordered() -> None:
    kinds: list[Value] = [None, True, 1, "1", [1], {"a": 1}, Moment(1), Span(1), TypeName("int"), Shelf({"b": 1})]
    for place, a in enumerate(kinds):
        for other, b in enumerate(kinds):
            assert equal(a, b, Meter()) is (place == other)
            if place != other:
                with pytest.raises(Failed):
                    compare("<", a, b, Meter(), 0)


@given(JSON, JSON)
def test_values_are_equal_when_their_json_is_with_numbers_as_numbers(a: Value, b: Value) -> None:
    def same(x: object, y: object) -> bool:
        if isinstance(x, bool) or isinstance(y, bool):
            return x is y
        if isinstance(x, list) and isinstance(y, list):
            return len(x) == len(y) and all(map(same, x, y))
        if isinstance(x, dict) and isinstance(y, dict):
            return x.keys() == y.keys() and all(same(x[key], y[key]) for key in x)
        return x == y

    assert equal(a, b, Meter()) is same(a, b)
    assert equal(a, a, Meter()) is True
    if isinstance(a, dict):
        assert equal(Shelf(a), a, Meter()) is True
        assert equal(a, Shelf(a), Meter()) is True


def test_nan_equals_nothing_also_inside_of_lists() -> None:
    nan: list[Value] = [math.nan]
    assert not equal(nan, nan, Meter())
    assert not inside(nan[0], nan, Meter(), 0)


def test_lists_that_share_their_parts_are_compared_for_a_bounded_time() -> None:
    a: Value = [1]
    b: Value = [1]
    for _ in range(30):
        a, b = [a, a], [b, b]
    with pytest.raises(Spent) as spent:
        equal(a, b, Meter())
    assert spent.value.bound == "steps"


def test_steps_are_taken_before_the_work() -> None:
    long: list[Value] = [[0] * 1_000] * 1_000
    one: list[Value] = [long] * 20
    other: list[Value] = [list(long)] * 20
    meter = Meter()
    with pytest.raises(Spent):
        equal(one, other, meter)
    assert meter.left > -2_000  # the work for which they were refused was not done


def test_a_long_text_is_paid_for_by_its_length() -> None:
    meter = Meter()
    assert equal("x" * 6_400, "x" * 6_399 + "x", meter)
    assert STEPS - meter.left == 100
    meter = Meter()
    add("x" * 6_400, "y" * 6_400, meter, 0)
    assert STEPS - meter.left == 200


def test_a_text_or_list_beyond_the_bound_is_not_made() -> None:
    half = "x" * (MAX_STRING // 2)
    assert size(add(half, half, Meter(), 0), 0) == MAX_STRING
    with pytest.raises(Spent) as spent:
        add(half, half + "x", Meter(), 0)
    assert spent.value.bound == "string"
    five: list[Value] = [0] * 500
    assert size(add(five, five, Meter(), 0), 0) == 1_000
    with pytest.raises(Spent) as spent:
        add(five, [*five, 0], Meter(), 0)
    assert spent.value.bound == "list"


def test_a_list_that_was_added_to_is_not_changed() -> None:
    first: list[Value] = [1]
    assert add(first, [2], Meter(), 0) == [1, 2]
    assert first == [1]


@given(JSON)
def test_a_result_is_plain_json_and_the_same_value(value: Value) -> None:
    made = plain(value, Meter())
    assert made == value
    assert made == json.loads(json.dumps(made))
    if isinstance(value, dict):
        assert plain(Shelf(value), Meter()) == value


def test_a_result_holds_only_what_json_has() -> None:
    assert plain([Moment(0), Span(10**9), TypeName("int")], Meter()) == ["1970-01-01T00:00:00Z", "1s", "int"]
    for number in (math.inf, -math.inf, math.nan):
        with pytest.raises(Failed, match="JSON"):
            plain([number], Meter())


def test_a_result_that_shares_its_parts_or_is_nested_deep_is_not_written_out() -> None:
    wide: Value = [1]
    for _ in range(20):
        wide = [wide, wide]
    with pytest.raises(Spent) as spent:
        plain(wide, Meter())
    assert spent.value.bound == "steps"
    deep: Value = 1
    for _ in range(MAX_NESTED):
        deep = [deep]
    assert plain(deep, Meter()) == deep
    with pytest.raises(Spent) as spent:
        plain([deep], Meter())
    assert spent.value.bound == "depth"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        (1.0, "1"),
        (2.5, "2.5"),
        (1e15, "1000000000000000"),
        (0.1, "0.1"),
        (True, "true"),
        ("é", "é"),
        (-0.0, "-0"),
    ],
)
def test_a_number_becomes_the_text_that_a_person_writes(value: Value, text: str) -> None:
    assert to_string(value, 0) == text


@pytest.mark.parametrize("value", [None, [], {}, TypeName("int")])
def test_what_has_no_text_is_a_failure(value: Value) -> None:
    with pytest.raises(Failed):
        to_string(value, 0)


def test_a_text_becomes_a_number_or_fails() -> None:
    assert to_int(" 12", 0) == 12
    assert to_int("-9223372036854775808", 0) == INT_MIN
    assert to_int(-1.9, 0) == -1
    assert to_int(True, 0) == 1
    assert to_double("1e3", 0) == 1000.0
    for text in ("", "1.5", "0x1", "1_000", "٣", "9223372036854775808", "9" * 10**6):
        with pytest.raises(Failed):
            to_int(text, 0)
    for text in ("", "abc", "1_0", "٣", "1" * 10**6):
        with pytest.raises(Failed):
            to_double(text, 0)
    for number in (1e30, math.nan, math.inf, 2.0**63):
        with pytest.raises(Failed):
            to_int(number, 0)
    assert to_int(-(2.0**63), 0) == INT_MIN


def test_a_bool_is_made_of_its_own_texts_alone() -> None:
    assert to_bool("true", 0) is True
    assert to_bool("0", 0) is False
    for value in ("yes", "tRUE", "", 1, None):
        with pytest.raises(Failed):
            to_bool(value, 0)


def test_a_minus_before_the_smallest_number_does_not_fit() -> None:
    assert negate(INT_MAX, 0) == -INT_MAX
    with pytest.raises(Failed):
        negate(INT_MIN, 0)
    with pytest.raises(Failed):
        negate(True, 0)
