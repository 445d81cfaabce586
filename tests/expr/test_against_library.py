"""The library that reads expressions also evaluates: it is the oracle of ours, and where we differ is listed here.

Random expressions over random rooms have the same value in both, or fail in both. What is left out of them, because
we differ on purpose, is the table `DIFFERENCES`, each line with its reason and with what both say.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import pytest
from cel_expr_python import cel
from hypothesis import given, settings
from hypothesis import strategies as st

from parlerd.core.errors import Refused
from parlerd.core.expressions import Failed, Value
from parlerd.core.gates import PlainContext
from parlerd.core.moments import MOMENT_PARTS
from parlerd.core.patterns import BadPattern, Pattern
from parlerd.core.values import Meter, plain
from tests.support.expressions import evaluated

LIBRARY: Final = cel.NewEnv()
ERROR: Final = "an error"
REFUSED: Final = "refused when it is registered"
RAISED: Final = "the library itself fails"


def theirs(text: str, roots: dict[str, Any]) -> object:
    """What the library says: a value, or that there is none."""
    found = LIBRARY.compile(text, disable_check=True).eval(data=roots)
    return ERROR if found.type().name() == "ERROR" else found.plain_value()


def ours(text: str, roots: dict[str, Any]) -> object:
    """What Parler says."""
    try:
        return plain(evaluated(text, PlainContext(roots)), Meter())
    except Failed:
        return ERROR
    except Refused:
        return REFUSED


def same(a: object, b: object) -> bool:
    """The same value of the same type: 1, 1.0 and true are three values."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


# -- random expressions ----------------------------------------------------------------------------------------

NAMES: Final = ("a", "b", "turn", "x-y", "é")
SCALARS: st.SearchStrategy[Value] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([2**63 - 1, -(2**63)])
    | st.sampled_from(["", "a", "ab", "é"])
)
VALUES: st.SearchStrategy[Value] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)
ROOMS: Final = st.fixed_dictionaries(
    {
        "state": st.fixed_dictionaries({"_shared": st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)}),
        "agents": st.dictionaries(
            st.sampled_from(NAMES), st.fixed_dictionaries({"status": st.sampled_from(["idle", "active"])}), max_size=3
        ),
        "self": st.sampled_from(NAMES),
    }
)
LITERALS: Final = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-2",
    "9223372036854775807",
    '""',
    '"a"',
    '"ab"',
    '"é"',
    "[]",
    "[1, 2]",
    "{}",
]
KEYS: Final = ["._shared", ".a", ".turn", '["x-y"]', '["é"]', "[0]", "[1]", "[self]"]
BINARY: Final = ["==", "!=", "<", "<=", ">", ">=", "&&", "||", "+", "-", "*", "/", "%", "in"]


def below(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Texts that are made of smaller ones."""
    macro = st.sampled_from(["all", "exists", "exists_one"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(BINARY), inner),
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner),
        st.builds("{}{}".format, st.sampled_from(["!", "-"]), inner.map("({})".format)),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("({}){}".format, inner, st.sampled_from(KEYS)),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds('{{"a": {}, "b": {}}}'.format, inner, inner),
        st.builds("{}({})".format, st.sampled_from(["size", "int", "bool", "dyn"]), inner),
        st.builds("(type({}) == type({}))".format, inner, inner),
        st.builds("({}).{}({})".format, inner, st.sampled_from(["contains", "startsWith", "endsWith"]), inner),
        st.builds("({}).{}(v, {})".format, inner, macro, inner),
        st.builds("[{}, {}].{}(v, {})".format, inner, inner, st.sampled_from(["map", "filter"]), inner),
        st.builds("[{}].map(v, {}, {})".format, inner, inner, inner),
    )


PATHS: Final = st.lists(st.sampled_from(KEYS), max_size=2).map(lambda keys: "state._shared" + "".join(keys))
LEAVES: Final = st.one_of(
    st.sampled_from(LITERALS),
    PATHS,
    st.sampled_from(["self", "agents", "agents[self].status", "size(agents)", "has(agents.a)"]),
)
TEXTS: Final = st.recursive(LEAVES, below, max_leaves=8)
# Inside of a macro `v` is an element; elsewhere a macro around everything gives it a value.
WITH_VARIABLE: Final = st.recursive(LEAVES | st.just("v"), below, max_leaves=8).map("[[1, 2, 'a']].map(v, {})".format)


@settings(max_examples=400, deadline=None)
@given(TEXTS | WITH_VARIABLE, ROOMS)
def test_a_random_expression_has_the_value_that_the_library_says(text: str, roots: dict[str, Any]) -> None:
    try:
        expected = theirs(text, roots)
    except RuntimeError:  # nested too deep, or a map that says a name twice
        return
    found = ours(text, roots)
    assert same(found, expected), (text, found, expected)


CLASSES: Final = [
    "a",
    "B",
    ".",
    "[aB]",
    "[^a]",
    r"\\d",
    r"\\W",
    "[[:upper:]]",
    "",
    "^",
    "$",
    r"\\b",
    r"[\\s_-]",
    "k",
    "é",
]
PATTERNS: Final = st.recursive(
    st.sampled_from(CLASSES),
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("(?{}:{}|{})".format, st.sampled_from(["", "i", "s", "m", "-i"]), inner, inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "+?"])),
        st.builds("{}{}".format, inner, inner),
        st.builds("(?i){}".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(PATTERNS, st.text(st.sampled_from("abABkK\u212a1 \n_é"), max_size=6))
def test_a_pattern_finds_what_the_library_finds(pattern: str, text: str) -> None:
    roots = {"self": text}
    asked = f"self.matches('{pattern}')"
    assert ours(asked, roots) is theirs(asked, roots)


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab(|)[]^-*+?{2,}\\.dwx:i<>P=!0"), max_size=8))
def test_what_the_library_says_is_no_pattern_is_none_here(pattern: str) -> None:
    found = theirs("'aab'.matches(p)", {"p": pattern})
    try:
        read = Pattern(pattern)
    except BadPattern:
        return  # a few of the library's patterns are none here
    assert found is read.found_in("aab", Meter())


DOUBLES: Final = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(2**40), 2**40)


@settings(max_examples=100, deadline=None)
@given(DOUBLES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), DOUBLES)
def test_numbers_are_compared_as_the_library_compares_them(a: float, sign: str, b: float) -> None:
    roots = {"state": {"a": a, "b": b}}
    text = f"state.a {sign} state.b"
    assert ours(text, roots) is theirs(text, roots)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from("+-*"),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_doubles_are_computed_as_the_library_computes_them(a: float, sign: str, b: float) -> None:
    roots = {"state": {"a": a, "b": b}}
    text = f"state.a {sign} state.b"
    expected = theirs(text, roots)
    assert isinstance(expected, float)
    assert same(ours(text, roots), expected if math.isfinite(expected) else ERROR)


TIMES: Final = [
    "timestamp('2024-02-29T23:59:59.123456Z')",
    "timestamp('0001-01-01T00:00:00Z')",
    "timestamp('9999-12-31T23:59:59.999Z')",
    "timestamp('1969-12-31T23:59:59.5-07:30')",
    "timestamp(1772323200)",
    "duration('1h30m')",
    "duration('-1.5s')",
    "duration('0')",
]


@pytest.mark.parametrize("time", TIMES)
def test_times_are_what_the_library_says(time: str) -> None:
    for text in (
        *(f"{time}.{part}()" for part in MOMENT_PARTS),
        *(f"{time}.{part}('-03:30')" for part in MOMENT_PARTS if not time.startswith("duration")),
        *(f"string({time} {sign} {other})" for sign in "+-" for other in TIMES),
        *(f"{time} {sign} {other}" for sign in ("<", "==", ">=") for other in TIMES),
        f"string({time})",
        f"int({time})",
        f"{time} in [{time}]",
    ):
        assert same(ours(text, {}), theirs(text, {})), (text, ours(text, {}), theirs(text, {}))


# -- where we differ on purpose --------------------------------------------------------------------------------


class Difference(NamedTuple):
    """Something that the library says otherwise."""

    text: str
    ours: object
    theirs: object
    reason: str


MIXED = "whole numbers and doubles mix: JSON does not tell them apart, and agents write either"
PATH = "has() is false when a name is missing anywhere on its path: an agent's scope comes and goes"
JSON = "a value is what JSON has, because results are written into the state"
EXACT = "numbers are compared exactly, and not as doubles"
DIVISION = "nothing is divided by zero, because JSON has no infinity"
TEXT = "a number becomes the text that a person writes"
TWICE = "a name that a map has twice is an error of the expression, as all others"
CASE = "small and capital letters are what agents ask for first; the library has them in an extension"
PROPERTIES = "nobody asks for them, and a table of properties differs between versions of Unicode"
FIXED = "a pattern is read once, when its expression is registered, and a mistake in it is told then"
ZONES = "the rules of time zones by name differ from machine to machine, and a replay has to say the same"

DIFFERENCES: Final = [
    Difference("1 + 1.5", 2.5, ERROR, MIXED),
    Difference("3 - 1.5", 1.5, ERROR, MIXED),
    Difference("2 * 1.5", 3.0, ERROR, MIXED),
    Difference("3 / 2.0", 1.5, ERROR, MIXED),
    Difference("5.5 % 2", 1.5, ERROR, MIXED),
    Difference("has({'a': {}}.b.c)", False, ERROR, PATH),
    Difference("{1: 2}[1]", ERROR, 2, JSON),
    Difference("b'a' == b'a'", REFUSED, True, JSON),
    Difference(r"'a'.matches('\\pL')", REFUSED, True, PROPERTIES),
    Difference(r"'a'.matches('\\Qa\\E')", REFUSED, True, PROPERTIES),
    Difference("['a', 'b'].all(p, p.matches(p))", REFUSED, True, FIXED),
    Difference("1u == 1u", REFUSED, True, JSON),
    Difference("1.0 / 0.0", ERROR, math.inf, DIVISION),
    Difference("9007199254740993 == 9007199254740992.0", False, True, EXACT),
    Difference("string(123456789.0)", "123456789", "1.23456789e+08", TEXT),
    Difference("{'a': 1, 'a': 2}.a", ERROR, RAISED, TWICE),
    Difference("'A'.lowerAscii()", "a", ERROR, CASE),
    Difference("'a'.upperAscii()", "A", ERROR, CASE),
    Difference("timestamp(0).getHours('Europe/Berlin')", ERROR, 1, ZONES),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.text)
def test_where_we_differ_is_known_and_has_a_reason(difference: Difference) -> None:
    assert same(ours(difference.text, {}), difference.ours)
    try:
        found = theirs(difference.text, {})
    except RuntimeError:
        found = RAISED
    assert same(found, difference.theirs)
    assert not same(difference.ours, difference.theirs)
