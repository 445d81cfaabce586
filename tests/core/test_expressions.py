"""What an expression is besides its value: where something stands in it, how it is spelled, and how it is refused."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.errors import ERRORS
from parlerd.core.expressions import (
    Expression,
    Failed,
    Missing,
    Spent,
    below,
    near,
    refusal,
    spelled,
    spot,
)
from parlerd.core.gates import Program
from parlerd.expr import parse
from tests.support.expressions import ROOM, Shelf


def test_a_place_is_a_line_and_a_column_from_one_with_a_caret_below() -> None:
    text = "a &&\n\tb == c"
    assert spot(text, 0) == (1, 1, "a &&\n^")
    assert spot(text, 6) == (2, 2, "\tb == c\n\t^")
    assert spot("a ==", 4) == (1, 5, "a ==\n    ^")
    assert spot('"😀é" == x', 8) == (1, 9, '"😀é" == x\n        ^')


def test_of_a_long_line_only_what_stands_around_the_place_is_shown() -> None:
    line, column, caret = spot("x" * 900 + "!" + "y" * 900, 900)
    assert (line, column) == (1, 901)
    shown, below_it = caret.split("\n")
    assert shown[below_it.index("^")] == "!"
    assert len(shown) < 130


@given(st.text(max_size=60), st.integers(0, 60))
def test_the_caret_stands_below_its_character(text: str, at: int) -> None:
    at = min(at, len(text))
    _, column, caret = spot(text, at)
    shown, _, below_it = caret.rpartition("\n")
    assert below_it.endswith("^")
    if at < len(text) and text[at] != "\n":
        assert shown[len(below_it) - 1] == text[at]
    assert column >= len(below_it)


def test_an_expression_is_stored_whole_and_is_the_same_when_it_is_read_again() -> None:
    text = 'agents.all(a, a in {"x": [1, 2.0, null, true]} ? has(state[a].b) : type(now) == int) || -size(self) < 3'
    expression = parse(text, "gate")
    for encode, decode in (
        (msgspec.msgpack.encode, msgspec.msgpack.decode),
        (msgspec.json.encode, msgspec.json.decode),
    ):
        again = decode(encode(expression), type=Expression)
        assert again == expression
        assert repr(again) == repr(expression)  # 2.0 equals 2, and is another number
        assert Program(again).evaluate(ROOM) is Program(expression).evaluate(ROOM)


def test_the_nearest_name_is_one_that_is_much_like_it() -> None:
    assert near("phse", ["turn", "phase"]) == "phase"
    assert near("phse", ["turn", "wood"]) is None
    assert near("x" * 10**6, ["y" * 10**6]) is None


def test_a_name_is_spelled_as_an_expression_spells_it() -> None:
    assert below("state", "agent-a") == 'state["agent-a"]'
    assert below("state._shared", "turn") == "state._shared.turn"
    assert below("x", 'a"\n') == r'x["a\"\n"]'
    assert below("x", 3) == "x[3]"
    assert spelled(parse('state["agent-a"].costs[params.item].y', "action").tree) == 'state["agent-a"].costs[...].y'


def test_what_reads_the_time_is_known() -> None:
    def reads_time(text: str) -> bool:
        return parse(text, "gate").time_read() is not None

    assert reads_time("now > timestamp(5)")
    assert reads_time("agents.bob.last_seen < timestamp(5)")
    assert reads_time("agents[self][state._shared.attribute] == null")
    assert reads_time("[agents].size() == 1")
    assert not reads_time("agents.all(a, agents[a].status == 'idle') && has(agents.bob) && size(agents) > 1")
    assert not reads_time("state._shared.now == 1 && state._shared.last_seen == 1")


def test_a_failure_says_why_and_where_and_what_was_meant() -> None:
    text = "state._shared.turn > 2 &&\n  state._shared.phse == 'x'"
    with pytest.raises(Missing) as missing:
        Program(parse(text, "gate")).evaluate(ROOM)
    refused = refusal(text, missing.value, index=2)
    assert refused.code == "expression_failed"
    assert refused.details == {
        "expression": text,
        "reason": 'there is no "phse" in state._shared',
        "path": "state._shared.phse",
        "suggest": "state._shared.phase",
        "line": 2,
        "column": 17,
        "index": 2,
    }
    # What somebody wrote stands in details alone, which are marked as data where a model reads them.
    assert refused.message == "The expression came to no value (line 2, column 17)."
    assert refused.hint == ERRORS["expression_failed"].hint


def test_a_failure_in_another_expression_has_no_place_in_this_one() -> None:
    refused = refusal("state._view.ready", Failed("the view ready failed: division by zero"))
    assert refused.details == {"expression": "state._view.ready", "reason": "the view ready failed: division by zero"}


def test_the_nearest_name_is_looked_for_when_a_failure_is_shown_and_not_before() -> None:
    shelf = Shelf({"phase": 1})
    missing = Missing("phse", shelf, "state._shared", 0)
    assert shelf.asked == []
    assert missing.suggest() == "state._shared.phase"
    assert shelf.asked == ["*"]


def test_a_spent_evaluation_says_which_bound() -> None:
    refused = refusal("x", Spent("string"))
    assert refused.code == "expression_budget"
    assert refused.details == {"expression": "x", "bound": "string"}
    assert "too long" in refused.message
