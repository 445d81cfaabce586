"""Patterns: what matches, what is no pattern, and that no text and no pattern take more than their steps."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.expressions import Spent
from parlerd.core.patterns import MAX_GROUPS, MAX_PATTERN, MAX_POSITIONS, BadPattern, Pattern
from parlerd.core.values import STEPS, Meter
from tests.support.counting import calls_in


def found(pattern: str, text: str) -> bool:
    return Pattern(pattern).found_in(text, Meter())


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("b", ["abc", "b"], ["ac", ""]),
        ("^b", ["bc"], ["ab", "a\nb"]),
        ("b$", ["ab"], ["b\n", "ba"]),
        ("(?m)^b$", ["a\nb\nc"], ["ab\nc"]),
        (r"\Ab\z", ["b"], ["b\n", "ab"]),
        ("^a.c$", ["abc", "aéc", "a😀c"], ["a\nc", "ac"]),
        ("(?s)^a.c$", ["a\nc"], ["ac"]),
        ("^task-[0-9]+$", ["task-12"], ["task-", "task-x", "Task-1"]),
        ("^(done|failed)$", ["done", "failed"], ["done!", "one"]),
        ("^a|b$", ["ax", "xb"], ["xax"]),
        ("a|", ["a", "", "x"], []),
        ("", ["", "x"], []),
        ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("^a{2,}$", ["aa", "aaaaa"], ["a"]),
        ("^a{0}b$", ["b"], ["ab"]),
        ("a{,2}", ["a{,2}"], ["aa"]),
        ("^a??b+?c*?$", ["abbc", "b"], ["ac"]),
        ("^(a*)*$", ["", "aaa"], ["b"]),
        ("^(|a)+$", ["", "aa"], ["b"]),
        (r"^\d\w\s$", ["1_ ", "9z\t"], ["a_ ", "1- ", "1é ", "1a\v"]),
        (r"^\D\W\S$", ["a-x", "é\u0663x"], ["1-x", "aax", "a- "]),
        (r"\bcat\b", ["a cat.", "cat"], ["cats", "bobcat"]),
        (r"a\Bb", ["ab"], ["a b"]),
        ("^[a-c-]$", ["a", "c", "-"], ["d", ""]),
        ("^[]x]$", ["]", "x"], ["["]),
        ("^[^]x]$", ["a", "["], ["]", "x"]),
        (r"^[\d\-z]$", ["5", "-", "z"], ["a"]),
        (r"^[^\d]$", ["a"], ["5"]),
        (r"^[\D]$", ["a"], ["5"]),
        ("^[[:alpha:]_]+$", ["ab_"], ["a1"]),
        ("^[[:^alpha:]]$", ["1"], ["a"]),
        ("(?i)^DoNe$", ["done", "DONE"], ["don"]),
        ("(?i)^[a-z]$", ["K", "\u212a"], ["1"]),
        ("(?i)^[^k]$", ["a"], ["k", "K", "\u212a"]),
        ("^a(?i)B$", ["ab", "aB"], ["AB"]),
        ("^(?i:a)b$", ["Ab"], ["aB"]),
        ("^(?i)a(?-i)b$", ["Ab"], ["AB"]),
        ("^((?i)a)b$", ["Ab"], ["aB"]),
        ("^(?P<word>a)(?<other>b)$", ["ab"], ["a"]),
        (r"^\x41\x{1F600}\t\.$", ["A😀\t."], ["A😀\tx"]),
        (r"^\_\-\/$", ["_-/"], []),
        ("^a}]$", ["a}]"], []),
    ],
)
def test_what_a_pattern_finds(pattern: str, yes: list[str], no: list[str]) -> None:
    assert [text for text in yes if not found(pattern, text)] == []
    assert [text for text in no if found(pattern, text)] == []


NONE = r"""
( ) (a a) [ [a [^ [] * a|* {2} {0} a|{1} ({2,}) (?i){2} a** a+* a{2}{3} a{3,2} a{1001} a{1,99999} \ a\ \1 (a)\1 \y
\Z \C \pL \é \x{110000} (?=a) (?!a) (?<=a) (?x)a (? [z-a] [a-\d] [[:foo:]] (?i)*
"""


@pytest.mark.parametrize("pattern", [*NONE.split(), "a" * (MAX_PATTERN + 1), "é" * 129])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadPattern) as bad:
        Pattern(pattern)
    assert str(bad.value)


@pytest.mark.parametrize(
    "pattern",
    ["a{1000}b{1000}", "(a{100}){100}", "((((x{0}){1000}){1000}){1000}){1000}", "(((){1000}){1000}){1000}",
     "(a{1,30}){1,40}", "(" * (MAX_GROUPS + 1) + "a" + ")" * (MAX_GROUPS + 1), "(" * 128 + ")" * 128],
)  # fmt: skip
def test_a_pattern_that_is_large_when_it_is_written_out_is_refused_in_a_bounded_time(pattern: str) -> None:
    def act() -> None:
        with pytest.raises(BadPattern):
            Pattern(pattern)

    assert calls_in(act) < 40 * MAX_POSITIONS


LETTERS = st.sampled_from("ab1 \n_-")
PLAIN = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\s", "_", "", "^", r"\b", r"\B", "[a-z1]"]),
    lambda inner: st.one_of(
        st.builds("({})".format, inner),
        st.builds("(?:{}|{})".format, inner, inner),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}", "*?"])),
        st.builds("{}{}".format, inner, inner),
    ),
    max_leaves=6,
)


@given(PLAIN, st.text(LETTERS, min_size=1, max_size=8))  # Python's \B says no to the empty text
def test_a_plain_pattern_finds_what_python_finds(pattern: str, text: str) -> None:
    assert found(pattern, text) is (re.search(pattern, text, re.ASCII) is not None)


CATASTROPHES = r"""
(x+x+)+y (a*)*b (a|a)*c (a|aa)+$ (.*)*=.* (a?){300}a{300} (.|.|.|.|.)*z [^b]{200}b (?:a|b)*a(?:a|b){12}x
(\b|\B)*(^|$)*b .*.*.*.*.*.*.*.*=
"""


@pytest.mark.parametrize("pattern", CATASTROPHES.split())
@pytest.mark.parametrize("text", ["a" * 60_000, "ab" * 30_000, "".join(map(chr, range(0x4000)))])
def test_a_pattern_that_takes_python_for_ever_takes_its_steps(pattern: str, text: str) -> None:
    read = Pattern(pattern)

    def act() -> None:
        try:
            read.found_in(text, Meter())
        except Spent:
            return

    assert calls_in(act) < 30 * STEPS


def test_a_short_text_takes_a_few_steps_and_a_long_one_more() -> None:
    def steps(pattern: str, text: str) -> int:
        meter = Meter()
        Pattern(pattern).found_in(text, meter)
        return STEPS - meter.left

    assert steps("^task-[0-9]+$", "task-12") < 20
    assert 1_000 < steps("z", "a" * 2_000) < 2_000
    assert steps("(a|b|c|d)*z", "a" * 500) > 2 * steps("z", "a" * 500)


def test_the_same_match_takes_the_same_steps_each_time() -> None:
    read = Pattern("(a|b)*z")
    left = []
    for _ in range(2):
        meter = Meter()
        read.found_in("abab" * 100, meter)
        left.append(meter.left)
    assert left[0] == left[1] < STEPS
