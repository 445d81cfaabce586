"""What is refused when an expression is registered, and what a registered one is known to read."""

from __future__ import annotations

import pytest

from parlerd.core.errors import ERRORS, Refused
from parlerd.core.expressions import DEPTHS
from parlerd.core.gates import FUNCTIONS, MACROS, PlainContext
from parlerd.expr import Place, parse, watched_key
from tests.support.expressions import Shelf, evaluated, reads


def refused(text: str, place: Place = "action") -> Refused:
    with pytest.raises(Refused) as found:
        parse(text, place)
    assert found.value.code == "expression_invalid"
    assert found.value.details["expression"] == text
    return found.value


@pytest.mark.parametrize(
    ("text", "column", "suggest"),
    [
        ("stat._shared.turn > 1", 1, "state"),
        ("1 + agent['a'].status", 5, "agents"),
        ("state.agent-a.score > 1", 13, 'state["agent-a"]'),
        ("has(agents.my-long-name.status)", 15, 'agents["my-long-name"]'),
        ("True", 1, "true"),
        ("[1].all(item, itme > 1)", 15, "item"),
        ("siz(agents)", 1, "size"),
        ("len(agents)", 1, "size"),
        ("'a'.startswith('a')", 5, "startsWith"),
        ("agents.any(a, true)", 8, "exists"),
        ("contains('abc', 'b')", 1, "x.contains(...)"),
        ("all([1], true)", 1, "x.all(...)"),
        ("'1'.int()", 5, "int(...)"),
        ("1 == strng(2)", 6, "string"),
    ],
)
def test_a_name_that_is_not_there_is_refused_with_the_nearest(text: str, column: int, suggest: str) -> None:
    error = refused(text)
    assert error.details["suggest"] == suggest
    assert (error.details["line"], error.details["column"]) == (1, column)
    assert error.details["caret"].endswith("\n" + " " * (column - 1) + "^")
    # What somebody wrote stands in details alone, which are marked as data where a model reads them.
    assert error.message == f"This is not a valid expression (line 1, column {column})."
    assert error.hint == ERRORS["expression_invalid"].hint


def test_a_bare_key_is_told_how_a_key_is_read() -> None:
    assert "state._shared.KEY" in refused("wood > 3").details["reason"]


@pytest.mark.parametrize("text", ["phase == 1", "tree > 2", "full"])
def test_a_bare_key_is_not_taken_for_a_literal_that_it_resembles(text: str) -> None:
    error = refused(text)
    assert "state._shared.KEY" in error.details["reason"]
    assert "suggest" not in error.details


@pytest.mark.parametrize(
    "text",
    ["b'a' == b'a'", "1u < 2u", "Thing{a: 1}", "has(state)", "has(1)", "has(state.a, state.b)", "[1].all(1, true)",
     "[1].all(a.b, true)", "[1].all(x)", "[1].exists(x, true, false)", "size()", "int(1, 2)", "'a'.contains()",
     ".state.a", "[1].all(.x, true)"],
)  # fmt: skip
def test_what_has_no_meaning_here_is_refused(text: str) -> None:
    assert refused(text).details["reason"]


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("self.matches('(')", 14, "the pattern cannot be read: a ( has no ) after it"),
        ("matches(self, '(a*)*)')", 15, "the pattern cannot be read: a ) has no ( before it"),
        ("self.matches('a{900}b{900}')", 14, "the pattern cannot be read: its repetitions make it too large"),
        (" || ".join(["self.matches('a{300}')"] * 4), 92, "the patterns of the expression together are too large"),
        ("self.matches(self)", 14, "the pattern of matches() stands in quotes in the expression itself"),
        ("self.matches('a' + 'b')", 18, "the pattern of matches() stands in quotes in the expression itself"),
        ("self.matches(1)", 14, "the pattern of matches() stands in quotes in the expression itself"),
    ],
)
def test_a_pattern_is_refused_where_it_stands(text: str, column: int, reason: str) -> None:
    details = refused(text).details
    assert (details["column"], details["reason"]) == (column, reason)


def test_a_long_name_is_not_repeated_whole() -> None:
    for text in ("x" * 2_000, "x" * 2_000 + "(1)", "-".join("ab" for _ in range(600))):
        assert len(refused(text).details["reason"]) < 160


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state._shared.turn > 1", [("state", "_shared", "turn")]),
        ('state["_shared"]["turn"] > 1', [("state", "_shared", "turn")]),
        ("state._shared.turn > 1 && state._shared.turn < 9", [("state", "_shared", "turn")]),
        ("state._shared.costs.trap.max", [("state", "_shared", "costs")]),
        ("state._shared[params.item]", [("params", "item"), ("state", "_shared", None)]),
        ("state[self].score", [("self",), ("state", None, "score")]),
        ("agents[self].role", [("self",), ("agents", None, "role")]),
        ("has(agents.bob)", [("agents", "bob")]),
        ("has(agents.bob.status)", [("agents", "bob", "status")]),
        ("has(state.bob)", [("state", "bob")]),
        ("'bob' in agents", [("agents", "bob")]),
        ("self in agents", [("self",), ("agents", None)]),
        ("'turn' in state._shared", [("state", "_shared", "turn")]),
        ("size(agents)", [("agents", None)]),
        ("state._shared.size()", [("state", "_shared", None)]),
        ("agents.all(a, agents[a].status == 'x')", [("agents", None), ("agents", None, "status")]),
        ("state.exists(s, has(state[s].x))", [("state", None), ("state", None, "x")]),
        ("state", [("state", None, None)]),
        ("state._shared == {}", [("state", "_shared", None)]),
        ("[agents.bob].all(b, b.status == 'x')", [("agents", "bob", None)]),
        ("(1 > 2 ? agents.a : agents.b).status", [("agents", "a", None), ("agents", "b", None)]),
        ("messages.unclaimed_by_kind.task > 0", [("messages", "unclaimed_by_kind")]),
        ("messages.count > 0", [("messages", "count")]),
        ("has(actions.a) && actions.a.available", [("actions", "a"), ("actions", "a", "available")]),
        ("now > timestamp(params.at)", [("now",), ("params", "at")]),
        ("[1].all(state, state > 0)", []),
        ("1 + 1", []),
    ],
)
def test_what_an_expression_reads_is_known(text: str, expected: list[tuple[str | None, ...]]) -> None:
    assert reads(text) == expected


def test_a_read_says_where_the_expression_reads_it_first() -> None:
    (self_, role, turn) = parse("agents[self].role == 'x' && state._shared.turn > 1 && self != ''", "gate").reads
    text = "agents[self].role == 'x' && state._shared.turn > 1"
    assert text[self_.at :].startswith("self")
    assert text[role.at :].startswith("role")
    assert text[turn.at :].startswith("turn")


@pytest.mark.parametrize(
    "text",
    [
        "agents.all(a, agents[a].role == 'x' || has(state[a].score))",
        "state.map(s, state[s].size())",
        "size(agents) > 0 && 'bob' in agents && agents['bob'] != null",
        "[state._shared, agents].all(m, m.size() > 0)",
    ],
)
def test_nothing_is_looked_at_that_is_not_among_the_reads(text: str) -> None:
    roots = {
        "state": Shelf({scope: Shelf({"score": 1}) for scope in ("_shared", "bob")}),
        "agents": Shelf({"bob": Shelf({"role": "x", "status": "idle"})}),
    }
    evaluated(text, PlainContext(dict(roots)))
    known = {read.root for read in parse(text, "gate").reads}
    assert {root for root, shelf in roots.items() if shelf.asked} <= known
    for read in parse(text, "gate").reads:
        assert len(read.path) <= DEPTHS[read.root]


@pytest.mark.parametrize(
    ("place", "fine", "not_here"),
    [
        ("gate", "now > timestamp(5) && agents.a.last_seen == now && self == 'a'", "params.x == 1"),
        ("wait", "now > timestamp(5) && messages.unclaimed > 0", "params.x == 1"),
        ("view", "agents.all(a, agents[a].status == 'idle')", "now > timestamp(5)"),
        ("view", "state._shared.now == 1", "agents.a.last_seen == null"),
        ("view", "agents[self].role == 'a'", "agents[self][state._shared.x] == 'a'"),
        ("enabled", "has(state._shared.compass)", "now > timestamp(5)"),
        ("enabled", "messages.unclaimed > 0", "params.x == 1"),
        (
            "message",
            "agents[self].role == 'admin' && has(actions.x) && has(agents.bob)",
            "agents[self].status == 'idle'",
        ),
        ("message", "state._shared.phase == 'x'", "messages.unclaimed > 0"),
        ("message", "self == 'a'", "now > timestamp(5)"),
        ("action", "params.x == 1 && now > timestamp(5)", "nowhere"),
    ],
)
def test_each_place_has_its_own_reads(place: Place, fine: str, not_here: str) -> None:
    assert parse(fine, place).source == fine
    assert refused(not_here, place).details["line"] == 1


def test_every_function_and_macro_of_the_evaluation_can_be_written() -> None:
    for name, function in FUNCTIONS.items():
        args = ", ".join(["'1'"] * (function.least - function.is_member))
        parse(f"'1'.{name}({args})" if function.is_member else f"{name}({args})", "gate")
    for name in MACROS:
        parse(f"[].{name}(x, true)", "gate")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("state._shared.turn", ("_shared", "turn")),
        ('state["_shared"]["turn"]', ("_shared", "turn")),
        ('state["agent-a"].score', ("agent-a", "score")),
        (' state . narrator["a.b"] ', ("narrator", "a.b")),
    ],
)
def test_a_key_that_is_watched_is_named_by_its_path(text: str, key: tuple[str, str]) -> None:
    assert watched_key(text) == key


@pytest.mark.parametrize(
    "text",
    ["turn", "_shared.turn", "state._shared", "state", "state._view.ready", "state._shared.turn.x", "state[self].turn",
     "state._shared[params.item]", "agents.bob.status", "has(state._shared.turn)", "state._shared.turn + 1", "",
     "'turn'", "[state._shared.turn]", "state._shared.turn == state._shared.turn"],
)  # fmt: skip
def test_what_names_no_single_key_is_not_watched(text: str) -> None:
    with pytest.raises(Refused) as found:
        watched_key(text)
    assert found.value.code == "expression_invalid"
