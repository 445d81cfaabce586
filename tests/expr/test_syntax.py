"""What is no expression is refused in words that help, at the place where a person would look."""

from __future__ import annotations

import pytest

from parlerd.core.expressions import MAX_SOURCE
from parlerd.expr import parse
from parlerd.expr.syntax import Called, Constant, Name, read
from tests.support.core import refused
from tests.support.expressions import evaluated

QUOTES = "the text in quotes does not end, or has an escape that there is not"
NESTED = "it is nested deeper than 32 levels: keep a part of it as a view"


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("state._shared.turn = 3", 1, 20, "one = stands alone: two compare, =="),
        ("true and false", 1, 6, "`and` is no operator: write &&"),
        ("true or false", 1, 6, "`or` is no operator: write ||"),
        ("not true", 1, 5, "true is not expected here"),
        ("true & false", 1, 6, "one & stands alone: write &&"),
        ("if (true) 1", 1, 1, "`if` is a reserved word: choose with CONDITION ? THIS : THAT"),
        ("for", 1, 1, '`for` is a reserved word: write such a name as a key, state._shared["for"]'),
        ("1 ==", 1, 5, "it ends too early"),
        ("(1", 1, 3, "it ends too early"),
        ("[1, 2", 1, 6, "it ends too early"),
        ("1 ? 2", 1, 6, "it ends too early"),
        ("", 1, 1, "it is empty"),
        (" \n ", 1, 1, "it is empty"),
        ('"abc', 1, 1, QUOTES),
        ('"a\\q"', 1, 1, QUOTES),
        (
            '"\\ud800"',
            1,
            1,
            "the text in quotes has an escape that there is not: write a backslash twice, or r before the quotes",
        ),
        ("état == 1", 1, 1, "the character 'é' has no meaning here: write other names as a key, state[\"agent-a\"]"),
        ('"é😀" ==  @', 1, 10, "the character '@' has no meaning here: write other names as a key, state[\"agent-a\"]"),
        ("1 &&\n  2 ** 3", 2, 6, "* is not expected here"),
        ("state..a", 1, 7, ".. is not expected here"),
        ("9223372036854775808", 1, 1, "the whole number does not fit in 64 bits"),
        ("{'a' 1}", 1, 6, "1 is not expected here"),
        ("[?x]", 1, 2, "? is not expected here"),
        ("(" * 40 + "1" + ")" * 40, 1, 1, NESTED),
        ("+".join(["1"] * 900), 1, 1, NESTED),
    ],
)
def test_what_is_no_expression_is_refused_where_it_goes_wrong(text: str, line: int, column: int, reason: str) -> None:
    with refused("expression_invalid") as caught:
        parse(text, "gate")
    assert caught.value.details["reason"] == reason
    assert (caught.value.details["line"], caught.value.details["column"]) == (line, column)
    assert caught.value.message == f"This is not a valid expression (line {line}, column {column})."


@pytest.mark.parametrize("text", ["\x00", "1 == \x00 2", "'a' \x1b[31m", "1 \u202e 2"])
def test_a_character_that_a_terminal_would_act_on_is_shown_as_an_escape_in_the_reason(text: str) -> None:
    with refused("expression_invalid") as caught:
        parse(text, "gate")
    assert caught.value.details["reason"].isprintable()


def test_a_text_has_a_bound_in_bytes() -> None:
    fits = '"' + "é" * ((MAX_SOURCE - 2) // 2) + '"'
    assert len(fits.encode()) == MAX_SOURCE
    assert evaluated(fits) == fits[1:-1]
    with refused("expression_invalid") as caught:
        parse(fits + " ", "gate")
    assert str(MAX_SOURCE) in caught.value.details["reason"]
    with refused("expression_invalid"):
        parse("+".join(["1"] * 20_000), "gate")


def test_a_text_that_is_no_unicode_is_refused() -> None:
    with refused("expression_invalid") as caught:
        parse("'\ud800'", "gate")
    assert caught.value.details["expression"] == ""


def test_a_chain_of_conditions_may_be_long() -> None:
    assert evaluated(" && ".join(["true"] * 250)) is True
    assert evaluated(" || ".join(["false"] * 220)) is False


@pytest.mark.parametrize(
    ("text", "value"),
    [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1), ("-3", -3), ("0x1F", 31), ("1.5", 1.5),
     ("-0.0", -0.0), ("1e3", 1000.0), ("true", True), ("false", False), ("null", None), (r'"\u00e9\n"', "é\n"),
     (r'r"\d"', r"\d"), ("'''a\nb'''", "a\nb"), ('""', ""), ("1 // one", 1)],
)  # fmt: skip
def test_a_value_in_the_text_is_read_as_it_is(text: str, value: object) -> None:
    found = read(text)
    assert isinstance(found, Constant)
    assert type(found.value) is type(value)
    assert repr(found.value) == repr(value)


def test_each_node_knows_its_place() -> None:
    text = '"é😀" == x.y[0]'
    tree = read(text)
    assert isinstance(tree, Called)
    assert text[tree.at :].startswith("==")
    index = tree.args[1]
    assert isinstance(index, Called)
    assert text[index.at] == "["


def test_macros_are_read_as_they_were_written() -> None:
    assert read("x.all(y, z)") == Called(5, "all", Name(0, "x"), [Name(6, "y"), Name(9, "z")])
    assert read("has(x)") == Called(3, "has", None, [Name(4, "x")])
