"""Evaluation: what agents were promised of expressions, and that none of them takes more than its steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from parlerd.core.errors import Refused
from parlerd.core.expressions import (
    MAX_DEPTH,
    Call,
    Expression,
    ExpressionLiteral,
    Failed,
    Has,
    ListOf,
    Macro,
    Missing,
    Node,
    Root,
    Select,
    Spent,
    Type,
    Value,
    Variable,
)
from parlerd.core.gates import BODY, FUNCTIONS, MACROS, OPERATORS, PlainContext, Program
from parlerd.core.values import MAX_LIST, STEPS, Meter
from parlerd.expr import parse
from tests.support.counting import calls_in
from tests.support.expressions import AGENTS, ROOM, Shelf, evaluated, steps, with_value

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('state._shared.currentPlayer == "agent-a"', True),
        ('state._shared.phase == "executing"', True),
        ('state["agent-a"].score > 40', True),
        ('agents["agent-b"].status == "waiting"', True),
        ('agents["agent-b"].waiting_on', "state._view.ready"),
        ("messages.unclaimed > 0", True),
        ("messages.unclaimed_by_kind.task", 3),
        ("state._view.ready == true", True),
        ("has(actions.stoke_fire)", True),
        ('agents[self].role == "admin"', True),
        ("has(state._shared.compass)", False),
        ("!has(state.narrator.fire_lit)", True),
        ("!has(state.nobody.fire_lit)", True),
        ('has(state["agent-a"].score)', True),
        ("state._shared.population > 5", True),
        ("state._shared.wood >= 3", True),
        ("state._shared.wood >= state._shared.costs[params.item]", True),
        ("0 - state._shared.costs[params.item]", -3),
        ("state._shared.turn + 1", 4),
        ("state._shared.turn % 2 == 1", True),
        ("state._shared.ratio * 2", 5.0),
        ('"T" + string(state._shared.turn)', "T3"),
        ('"turn" in state._shared', True),
        ('"nope" in state._shared', False),
        ("state._shared.phase == 3", False),
        ('agents["agent-a"].status == "active" && agents["agent-b"].status == "active"', False),
        ("agents.all(a, agents[a].status != 'offline')", True),
        ("agents.filter(a, agents[a].role == 'worker')", ["agent-b"]),
        ("state._shared.votes.exists_one(v, v > 2)", True),
        ("state._shared.votes.map(v, v > 1, v * 10)", [20, 30]),
        ("size(agents) == 2 ? 'two' : 'many'", "two"),
        ("now - agents['agent-b'].last_seen < duration('10m')", True),
        ("now == timestamp('2026-03-01T00:00:00Z')", True),
        ("type(state._shared.turn) == int && type(null) == null_type", True),
        ("state._shared.nothing == null", True),
        ('{"a": [1, 2]}.a[1]', 2),
        ("state.all(s, size(s) > 0)", True),
        ("'Ab'.lowerAscii() + 'Ab'.upperAscii()", "abAB"),
        ("'abc'.startsWith('ab') && 'abc'.endsWith('bc') && 'abc'.contains('b')", True),
        ("'task-12'.matches('^task-[0-9]+$') && matches('abc', 'b')", True),
        ("agents.exists(a, a.matches('^agent-[b-z]$'))", True),
        ("now.getFullYear() + now.getHours('+02:00')", 2028),
        ("duration('90m').getHours()", 1),
    ],
)
def test_what_agents_were_promised_evaluates_to_what_they_expect(text: str, value: Value) -> None:
    found = evaluated(text)
    assert type(found) is type(value)
    assert found == value


def test_only_exactly_true_holds() -> None:
    for text, holds in (("1 == 1", True), ("1", False), ('"true"', False), ("false", False), ("[true]", False)):
        assert Program(parse(text, "gate")).holds(ROOM) is holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("state._shared.nope", 'there is no "nope" in state._shared'),
        ("state.nobody.x", 'there is no "nobody" in state'),
        ("state._shared.costs[self]", 'there is no "agent-a" in state._shared.costs'),
        ("state._shared.votes[3]", "the list has no element 3"),
        ("state._shared.votes[-1]", "the list has no element -1"),
        ("state._shared.votes.x", "the place in a list is a whole number, and this is a string"),
        ("state._shared[1]", "the names of a map are strings, and this is a int"),
        ("state._shared.nothing.x", 'a null_type has nothing inside, so "x" cannot be looked up in it'),
        ('"a" + 1', "there is no string + int; string(x) makes a string of a number"),
        ("state._shared.phase > 3", "there is no string > int"),
        ("1 ? 2 : 3", "? takes true or false, and this is a int"),
        ("!1", "! takes true or false, and this is a int"),
        ("true && 1", "&& takes true or false, and this is a int"),
        ("1 || false", "|| takes true or false, and this is a int"),
        ("[1].all(x, x)", "all takes true or false, and this is a int"),
        ("'abc'.all(x, true)", "all goes through a list or a map, and this is a string"),
        ("1 in 'abc'", "`in` looks into a list or a map, and this is a string"),
        ("size(1)", "a int has no size"),
        ("'a'.contains(1)", "contains() takes strings, and this is a int"),
        ("state._shared.turn.matches('1')", "matches() takes strings, and this is a int"),
        ("{1: 2}", "the names of a map are strings, and this is a int"),
        ("{'a': 1, 'a': 2}", "the map has the same name twice"),
        ("duration('1h').getFullYear()", "getFullYear() is of a timestamp, and this is a duration"),
    ],
)
def test_what_has_no_value_says_why_and_where(text: str, reason: str) -> None:
    with pytest.raises(Failed) as failed:
        evaluated(text)
    assert failed.value.reason == reason
    assert failed.value.at is not None


def test_has_is_false_when_a_name_is_missing_anywhere_on_its_path_and_only_then() -> None:
    for path in (
        "state._shared.x",
        "state.x.y",
        'state["x"]["y"]',
        "state[self].x.y",
        "agents.x.y",
        "state._shared.votes[9]",
    ):
        assert evaluated(f"has({path})") is False
    for path in (
        "state._shared.nothing",
        "state[self].score",
        "state._shared.votes[2]",
        "state._shared.costs[params.item]",
    ):
        assert evaluated(f"has({path})") is True
    for path in (
        "state._shared.turn.x",
        "state._shared.nothing.x",
        "state._shared[1]",
        "state[1/0]",
        "state[params.nope]",
    ):
        with pytest.raises(Failed):
            evaluated(f"has({path})")


@pytest.mark.parametrize("failing", ["1/0 == 1", "state._shared.nope == 1", "1"])
def test_what_decides_alone_wins_over_a_failure_on_either_side(failing: str) -> None:
    assert evaluated(f"{failing} || true") is True
    assert evaluated(f"true || {failing}") is True
    assert evaluated(f"{failing} && false") is False
    assert evaluated(f"false && {failing}") is False
    for undecided in (f"{failing} || false", f"false || {failing}", f"{failing} && true", f"true && {failing}"):
        with pytest.raises(Failed):
            evaluated(undecided)


def test_of_two_failures_the_first_is_told() -> None:
    for text in ("1/0 == 1 || state._shared.nope", "1/0 == 1 && state._shared.nope"):
        with pytest.raises(Failed, match="division by zero"):
            evaluated(text)


def test_one_decisive_element_decides_a_macro_whatever_failed_before() -> None:
    assert evaluated("['a', 1].exists(x, x > 0)") is True
    assert evaluated("['a', 0].all(x, x > 0)") is False
    for text in ("['a', 0].exists(x, x > 0)", "['a', 1].all(x, x > 0)", "['a', 2].exists_one(x, x > 1)"):
        with pytest.raises(Failed, match="string > int"):
            evaluated(text)


def test_a_spent_evaluation_is_not_absorbed() -> None:
    too_much = "state._shared.x.all(a, state._shared.x.all(b, true))"
    for text in (f"{too_much} || true", f"true && ({too_much}) || true", f"[1, 2].exists(i, {too_much} || true)"):
        with pytest.raises(Spent):
            evaluated(text, with_value(list(range(500))))


def test_a_variable_hides_an_outer_one_and_a_root_and_ends_with_its_macro() -> None:
    assert evaluated("[1].map(x, [2].map(x, x)[0] + x)") == [3]
    assert evaluated("[1].map(self, self)") == [1]
    assert evaluated("[1, 2].map(x, [10, 20].map(y, x + y))") == [[11, 21], [12, 22]]
    assert evaluated("[[3], [4]].map(x, x.map(y, y))") == [[3], [4]]


def test_maps_are_gone_through_in_the_order_of_code_points() -> None:
    names = ["b", "a", "B", "\uffff", "\U0001f600", "é", ""]
    for context in (with_value(dict.fromkeys(names, 1)), with_value(Shelf(dict.fromkeys(names, 1)))):
        assert evaluated("state._shared.x.map(k, k)", context) == ["", "B", "a", "b", "é", "\uffff", "\U0001f600"]


def test_a_branch_is_asked_for_what_the_expression_reads_and_for_nothing_else() -> None:
    shelf = Shelf(dict.fromkeys(("turn", "phase", "wood"), 1))
    context = PlainContext({"state": {"_shared": shelf}})
    assert evaluated("state._shared.turn == 1 && has(state._shared.phase) && 'x' in state._shared", context) is False
    assert shelf.asked == ["turn", "phase", "x"]
    shelf.asked.clear()
    assert evaluated("size(state._shared)", context) == 3
    assert shelf.asked == []


def test_a_view_that_fails_is_a_failure_wherever_it_is_read() -> None:
    context = PlainContext({"state": {"_view": Shelf({"broken": Failed("the view broken failed")})}})
    for text in ("state._view.broken", "has(state._view.broken)", "!state._view.broken", "'broken' in state._view"):
        with pytest.raises(Failed, match="the view broken failed"):
            evaluated(text, context)


def test_a_root_that_is_not_there_is_a_failure() -> None:
    with pytest.raises(Failed, match="params"):
        evaluated("params.x", PlainContext({}))


def test_a_missing_name_suggests_the_nearest_that_the_agent_may_see() -> None:
    for text, suggest in (
        ("agents.agent_b.status", 'agents["agent-b"]'),
        ("state._shared.costs.trpa", "state._shared.costs.trap"),
        ("agents[self].stauts", "agents[...].status"),
        ("state._shared.qqqq", None),
    ):
        with pytest.raises(Missing) as missing:
            evaluated(text)
        assert missing.value.suggest() == suggest


# -- bounds ----------------------------------------------------------------------------------------------------


def test_a_key_that_is_compared_takes_no_step_whatever_the_size_of_the_room() -> None:
    room = PlainContext({"state": {"_shared": Shelf({f"k{n}": n for n in range(10_000)})}, "agents": Shelf(AGENTS)})
    assert steps("state._shared.k77 == 77 && agents['agent-a'].status == 'active'", room) == 0


def test_each_element_of_a_macro_takes_a_step_and_more_where_its_body_is_large() -> None:
    agents = PlainContext({"agents": {f"agent-{n}": {"status": "active"} for n in range(200)}})
    assert steps("agents.all(a, agents[a].status == 'active')", agents) == 200
    assert steps("agents.all(a, " + " && ".join(["agents[a].status == 'active'"] * 8) + ")", agents) == 200 * (
        55 // BODY
    )


def test_evaluations_that_share_a_meter_share_its_steps() -> None:
    meter = Meter()
    context = with_value(list(range(900)))
    for _ in range(STEPS // 900):
        evaluated("state._shared.x.all(x, true)", context, meter)
    with pytest.raises(Spent):
        evaluated("state._shared.x.all(x, true)", context, meter)


def doubled(times: int) -> str:
    return "[[1]]" + ".map(x, [x, x])" * times


SHARED = "state._shared.x"
LONG: Value = "x" * 65_000
MANY: Value = list(range(900))
TEXTS: Value = [LONG] * 900
NAMES: Value = {str(n): n for n in range(900)}
HOSTILE: dict[str, tuple[str, Value]] = {
    "macros in macros": (f"{SHARED}.all(a, {SHARED}.all(b, {SHARED}.all(c, true)))", MANY),
    "a long list": (f"{SHARED}.all(a, true)", list(range(20_000))),
    "parts that are shared, compared": (f"{doubled(16)} == {doubled(16)}", None),
    "a text that doubles": (f"[{SHARED}].map(a, a + a)", LONG),
    "texts that add up": (f"{SHARED}.map(a, 'y' + string(a))", TEXTS),
    "a part looked for in long texts": (f"[1, 2, 3, 4].exists(i, {SHARED}.contains('{'y' * 500}'))", LONG),
    "long texts compared": (f"{SHARED}.all(a, a == {SHARED}[0] + '')", TEXTS),
    "a list that grows": (f"{SHARED} + {SHARED}", list(range(600))),
    "lists that add up": (f"{SHARED}.map(a, {SHARED})", list(range(MAX_LIST + 1))),
    "maps compared with themselves": (f"{SHARED}.all(k, {SHARED} == {SHARED})", NAMES),
    "a list looked through again and again": (f"{SHARED}.all(a, -1 in {SHARED} || true)", MANY),
    "a pattern with many positions": (f"{SHARED}.matches('(a?){{300}}x{{300}}y')", LONG),
    "a pattern for each of many texts": (f"{SHARED}.all(a, a.matches('^x*$'))", TEXTS),
    "a large body": (f"{SHARED}.exists(x, {' && '.join(['!(x < 0)'] * 150)})", MANY),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_expression_is_stopped_before_it_does_the_work(name: str) -> None:
    text, value = HOSTILE[name]
    program = Program(parse(text, "gate"))

    def act() -> None:
        with pytest.raises(Spent):
            program.evaluate(with_value(value))

    assert calls_in(act) < 30 * STEPS


def test_a_value_in_each_process_is_the_same() -> None:
    texts = [
        "agents.map(a, a)",
        "state._shared.costs",
        "state.map(s, size(state[s]))",
        "[state._shared].exists(s, s == state._shared)",
        "{'b': 1, 'a': 2}.map(k, k)",
    ]
    program = (
        "import sys, msgspec\n"
        "from parlerd.core.values import Meter, plain\n"
        "from tests.support.expressions import evaluated, steps\n"
        "texts = msgspec.json.decode(sys.stdin.read())\n"
        "print(msgspec.json.encode([[plain(evaluated(text), Meter()), steps(text)] for text in texts]).decode())\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=msgspec.json.encode(texts),
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
    assert b'["agent-a","agent-b"]' in found.pop()


# -- trees that no text has ------------------------------------------------------------------------------------

ONE = ExpressionLiteral(0, 1)


def nested(levels: int) -> Node:
    node: Node = ONE
    for _ in range(levels):
        node = Call(0, "neg", (node,))
    return node


@pytest.mark.parametrize(
    "tree",
    [
        Root(0, "secrets"),
        Type(0, "bytes"),
        Variable(0, 0),
        Macro(0, "all", ONE, 1, ONE),
        Macro(0, "all", ONE, 0, Variable(0, 1)),
        Macro(0, "each", ONE, 0, ONE),
        Macro(0, "all", ONE, 0, ONE, ONE),
        Call(0, "open", (ONE,)),
        Call(0, "+", (ONE,)),
        Call(0, "size", ()),
        Call(0, "size", (ONE, ONE)),
        Has(0, ONE),
        Call(0, "matches", (ONE, ONE)),
        Call(0, "matches", (ONE, ExpressionLiteral(0, "("))),
        nested(MAX_DEPTH + 1),
        Has(0, Select(0, nested(MAX_DEPTH), "x")),
        ListOf(0, (ONE,) * 3_000),
        ListOf(0, (ExpressionLiteral(0, "x" * 600),) * 4),
        ListOf(0, (Call(0, "matches", (ONE, ExpressionLiteral(0, "a{300}"))),) * 4),
    ],
)
def test_a_tree_that_no_text_has_is_refused(tree: Node) -> None:
    with pytest.raises(Refused) as refused:
        Program(Expression("", tree, ()))
    assert refused.value.code == "expression_invalid"


def test_a_tree_that_is_nested_without_end_cannot_even_be_read() -> None:
    packed = msgspec.msgpack.encode(nested(100))
    deep = msgspec.msgpack.encode(nested(0))
    start = packed[: packed.index(deep)]
    assert msgspec.msgpack.decode(packed, type=Call) == nested(100)
    with pytest.raises((RecursionError, msgspec.DecodeError)):
        msgspec.msgpack.decode(start * 1_000 + deep, type=Call)


def test_each_function_and_operator_and_macro_can_be_built() -> None:
    for name, function in FUNCTIONS.items():
        Program(Expression("", Call(0, name, (ExpressionLiteral(0, "1"),) * function.least), ()))
    for name, count in OPERATORS.items():
        Program(Expression("", Call(0, name, (ONE,) * count), ()))
    for name in MACROS:
        Program(Expression("", Macro(0, name, ONE, 0, ONE), ()))
