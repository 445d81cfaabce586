"""The reference of expressions, for `render`: every name that an expression can use, with an example of each.

    parlerd.core.gates, expressions, values ---> expressions.md: functions, macros, operators, types, bounds
    EXAMPLES, evaluated over ROOM -------------> what each example is worth, and how the broken ones are refused

Not here: how agents use expressions (`coordination.md`, written by hand). Invariant: every value and every error on the
page was found by evaluating its example, and `tests/docs/test_reference` asks for an example of each name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from parlerd.core import gates, patterns, resolver, state, values
from parlerd.core.errors import Refused
from parlerd.core.expressions import DEPTHS, MAX_SOURCE, TYPES, Failed, Moment, Spent, Value, refusal
from parlerd.core.values import Meter
from parlerd.engine import watching
from parlerd.expr import Place, parse

_NOW: Final = Moment(1_772_323_200 * 10**9)
ROOM: Final = gates.PlainContext(
    {
        "state": {
            "_shared": {"phase": "build", "turn": 3, "wood": 5, "ratio": 2.5, "votes": [1, 2, 3],
                        "costs": {"hut": 9, "trap": 3}},
            "_view": {"ready": True},
            "bob@repo": {"score": 42},
        },
        "agents": {
            "ann": {"status": "active", "role": "admin", "waiting_on": None, "last_seen": _NOW},
            "bob@repo": {"status": "waiting", "role": "", "waiting_on": "state._view.ready", "last_seen": _NOW},
        },
        "messages": {"count": 42, "unclaimed": 3, "unclaimed_by_kind": {"task": 3}},
        "actions": {"stoke_fire": {"enabled": True, "available": False}},
        "self": "ann",
        "params": {"item": "trap"},
        "now": _NOW,
    }
)  # fmt: skip
"""The room over which the examples are evaluated; the page shows it."""

ROOTS: Final[Mapping[str, tuple[str, str]]] = {
    "state": (
        'state["bob@repo"].score',
        "The values of the room by scope and key: `_shared`, `_view`, and a scope for every member, also an empty one.",
    ),
    "agents": (
        'agents["bob@repo"].waiting_on',
        "The members by name: `status`, `role`, `waiting_on`, `last_seen`.",
    ),
    "messages": (
        "messages.unclaimed_by_kind.task",
        "`count`, `unclaimed` and `unclaimed_by_kind`, as far as whoever asks may see messages.",
    ),
    "actions": (
        "actions.stoke_fire.available",
        "The actions that are there: `enabled`, and `available` to whoever asks.",
    ),
    "self": ("self", "The name of whoever asks. In a view, too, this is the reader and not the author."),
    "params": ("params.item", "The parameters of an invocation. They are there only in the expressions of an action."),
    "now": (
        "now",
        "The time of the room. A view, `enabled` and a message do not read the time; a wait that does is looked at "
        "once a second.",
    ),
}
OPERATORS: Final[Mapping[str, tuple[str, str]]] = {
    "!": ("!has(state._shared.done)", "Not."),
    "neg": ("-state._shared.wood", "The minus before a number."),
    "&&": (
        "state._shared.gone == 1 && 1 > 2",
        "And. The side that is false decides, also where the other side comes to no value.",
    ),
    "||": (
        "state._shared.gone == 1 || 2 > 1",
        "Or. The side that is true decides, also where the other side comes to no value.",
    ),
    "?:": ('state._shared.turn > 2 ? "late" : "early"', "One of two values. The other one is not evaluated."),
    "==": ('"1" == 1', "Equal. Values of different kinds are never equal, which is no error."),
    "!=": ("1 != 1.5", "Not equal. A whole number and a fraction are compared by what they are worth."),
    "<": ("state._shared.wood < 5.5", "Less, of numbers, texts, times and spans. Two kinds cannot be compared."),
    "<=": ('"a" <= "b"', "Less or equal."),
    ">": ("state._shared.turn > 2", "Greater."),
    ">=": ("state._shared.wood >= state._shared.costs[params.item]", "Greater or equal."),
    "in": ('"trap" in state._shared.costs', "Whether a list has the value, or a map the name."),
    "+": ("state._shared.votes + [4]", "The sum of numbers or times; texts and lists are joined."),
    "-": ("state._shared.turn - 0.5", "The difference. A whole number and a fraction make a fraction."),
    "*": ("state._shared.wood * 2", "The product."),
    "/": ("7 / 2", "The quotient. Of two whole numbers it is a whole number, cut towards zero."),
    "%": ("7 % 2", "The remainder, of whole numbers."),
}
FUNCTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "size": ("size(state._shared.votes)", "The elements of a list, the names of a map, the characters of a text."),
    "type": ("type(state._shared.turn) == int", "The type of a value."),
    "int": ('int("7") + int(2.9)', "A whole number, of a text or a number, which is cut towards zero."),
    "double": ('double("2.5")', "A fraction."),
    "string": ('"turn " + string(state._shared.turn)', "A text of a number, a truth, a time or a span."),
    "bool": ('bool("true")', "A truth, of the texts `true`, `t`, `1`, `false`, `f` and `0`."),
    "timestamp": ('now < timestamp("2026-04-01T00:00:00Z")', "A time, of a text as in RFC 3339."),
    "duration": ('now + duration("90m")', "A span, of a text with the units h, m, s, ms, us and ns."),
    "dyn": ("dyn(1) == 1.0", "The value as it is. Other dialects need this, and here it changes nothing."),
    "contains": ('state._shared.phase.contains("ui")', "Whether a text has a part."),
    "startsWith": ('state._shared.phase.startsWith("b")', "Whether a text begins so."),
    "endsWith": ('state._shared.phase.endsWith("d")', "Whether a text ends so."),
    "matches": (
        'state._shared.phase.matches("^b.*d$")',
        "Whether a pattern, which is written out in the expression, is found in a text. The patterns are RE2's.",
    ),
    "lowerAscii": ('"BUILD".lowerAscii()', "The text with small letters, of A to Z alone."),
    "upperAscii": ("state._shared.phase.upperAscii()", "The text with capital letters, of a to z alone."),
    "getDate": ("now.getDate()", "The day of the month from 1. A time zone may be given: `now.getDate(\"+01:00\")`."),
    "getDayOfMonth": ("now.getDayOfMonth()", "The day of the month from 0."),
    "getDayOfWeek": ("now.getDayOfWeek()", "The day of the week from 0, which is Sunday."),
    "getDayOfYear": ("now.getDayOfYear()", "The day of the year from 0."),
    "getFullYear": ("now.getFullYear()", "The year."),
    "getHours": ('now.getHours("+05:30")', "The hour of a time, or all hours of a span."),
    "getMilliseconds": ("now.getMilliseconds()", "The milliseconds of the second."),
    "getMinutes": ('duration("90m").getMinutes()', "The minute of a time, or all minutes of a span."),
    "getMonth": ("now.getMonth()", "The month from 0."),
    "getSeconds": ('duration("90m").getSeconds()', "The second of a time, or all seconds of a span."),
}  # fmt: skip
MACROS: Final[Mapping[str, tuple[str, str]]] = {
    "all": ('agents.all(a, agents[a].status != "offline")', "Whether the body is true for every element."),
    "exists": ("state._shared.votes.exists(v, v > 2)", "Whether the body is true for one element at least."),
    "exists_one": ("state._shared.votes.exists_one(v, v > 1)", "Whether the body is true for exactly one element."),
    "filter": ("state._shared.votes.filter(v, v != 2)", "The elements for which the body is true."),
    "map": (
        "state._shared.votes.map(v, v > 1, v * 10)",
        "What the body makes of each element. With three arguments the first body chooses the elements.",
    ),
}
HAS: Final = ("has(state._shared.a.b)", "Whether there is such a name, also where a name before it is missing.")
TYPE_VALUES: Final[Mapping[str, str]] = {
    "bool": "true",
    "double": "state._shared.ratio",
    "int": "state._shared.turn",
    "list": "state._shared.votes",
    "map": "state._shared.costs",
    "null_type": "agents.ann.waiting_on",
    "string": "state._shared.phase",
    "type": "type(1)",
}
"""A value of each type that `type(x)` can be compared with."""
BROKEN: Final[tuple[tuple[str, Place], ...]] = (
    ("state._shared.turn +", "gate"),
    ("phase", "gate"),
    ("agents.all(a, len(a) > 2)", "gate"),
    ('self == "ann" and true', "gate"),
    ("now > timestamp(state._shared.phase)", "view"),
    ("params.item", "gate"),
    ("state._shared.trun + 1", "gate"),
    ('state._shared.turn < "4"', "gate"),
    ("state._shared.votes[3]", "gate"),
    ("1 / 0", "gate"),
    (
        "state._shared.votes.all(a, " * 9 + "true" + ")" * 9,
        "gate",
    ),
)
"""Expressions that are refused, each in its place: what is wrong with their texts first, then with their values."""

HEAD: Final = """\
# Expressions

An expression is CEL, the [Common Expression Language](https://github.com/google/cel-spec), over the state of a room.
The same language stands in waits, in the guards of writes (`--if`), in views, in the `enabled` of entries and actions,
and inside actions. [Coordinating over a room's state](coordination.md) shows how agents use expressions; this page is
for looking things up. `parler eval EXPR` evaluates any of them. The examples are evaluated over this room, as ann sees
it:

```text
"""
MISSING: Final = """\
A missing name is an error that names the nearest one, except inside `has()`. A name with characters other than letters,
digits and `_` stands in brackets: `state["bob@repo"]`. Macros go through the names of a map in order.
"""
BOUNDS_HEAD: Final = """\
## Bounds

No expression holds up the daemon. One that reaches a bound is stopped, and what depends on it is refused with
`expression_budget`, which names the bound.
"""
ERRORS_HEAD: Final = """\
## Errors

A text that is no expression is refused with `expression_invalid` before anything is kept. An expression that comes to
no value is refused with `expression_failed` where its value is needed. A guard that is not exactly `true` is refused
with `precondition_failed`. The error holds the expression, the line, the column and the reason, and `suggest` where a
name like it is there.
"""
_SHORT: Final = 60
"""Characters of a broken expression that the table shows."""


def worth(source: str, place: Place = "action") -> Value:
    """What an expression is worth over `ROOM`, as JSON has it. Raises `Refused` as an agent would be refused."""
    program = gates.Program(parse(source, place))
    meter = Meter()
    try:
        return values.plain(program.evaluate(ROOM, meter), meter)
    except (Failed, Spent) as error:
        raise refusal(source, error) from None


def refused(source: str, place: Place) -> Refused:
    """How an expression of `BROKEN` is refused."""
    try:
        found = worth(source, place)
    except Refused as error:
        return error
    raise AssertionError(f"{source} is worth {found}")


def expressions_page(made: str) -> str:
    """The page, which begins with the line `made`."""
    return "\n".join((made, HEAD + _room() + "\n```\n", *_sections()))


def _sections() -> Iterator[str]:
    yield "## What an expression sees\n"
    yield from _examples("name", {f"`{name}`": ROOTS[name] for name in DEPTHS})
    yield MISSING
    yield "## Operators\n"
    yield from _examples("operator", {_code(_spelling(name)): OPERATORS[name] for name in gates.OPERATORS})
    yield "## Functions\n"
    yield from _examples("function", {_called(name): FUNCTIONS[name] for name in gates.FUNCTIONS})
    yield "## Macros\n"
    yield from _examples("macro", {"`has(x.name)`": HAS, **{_macro(name): MACROS[name] for name in gates.MACROS}})
    yield "## Types\n"
    yield from _table(
        ("`type(x)`", "for example", "is worth"),
        [(f"`{name}`", _code(TYPE_VALUES[name]), _code(_json(worth(TYPE_VALUES[name])))) for name in sorted(TYPES)],
    )
    yield "Times and spans come of `now`, `last_seen`, `timestamp()` and `duration()`; the state holds them as texts."
    yield "Whole numbers have 64 bits, and a result beyond them is an error.\n"
    yield BOUNDS_HEAD
    yield from _table(("bound", "at most"), [(what, f"{most:,}") for what, most in _bounds().items()])
    yield ERRORS_HEAD
    yield from _table(("expression", "where", "code", "reason", "suggests"), map(_broken, BROKEN))


def _bounds() -> dict[str, int]:
    return {
        "bytes of an expression": MAX_SOURCE,
        "steps of one evaluation": values.STEPS,
        "steps of everything that one question evaluates, views and `enabled` among it": resolver.MAX_STEPS,
        "entries and views that depend on one another in a row": resolver.MAX_WAY,
        "characters of a text that an expression makes": values.MAX_STRING,
        "elements of a list that an expression makes": values.MAX_LIST,
        "levels of a result": values.MAX_NESTED,
        "bytes of a pattern": patterns.MAX_PATTERN,
        "views of one agent in a room": state.MAX_VIEWS,
        "open waits of one agent in a room": watching.MAX_WAITS,
    }


def _room() -> str:
    shown = values.plain({name: ROOM.root(name) for name in DEPTHS}, Meter())
    assert isinstance(shown, dict)
    return "\n".join(f"{name}: {_json(value)}" for name, value in shown.items())


def _examples(head: str, examples: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield from _table(
        (head, "is", "for example", "is worth"),
        [
            (name, meaning.replace("|", "\\|"), _code(example), _code(_json(worth(example))))
            for name, (example, meaning) in examples.items()
        ],
    )


def _broken(each: tuple[str, Place]) -> tuple[str, ...]:
    source, place = each
    error = refused(source, place)
    shown = source if len(source) <= _SHORT else source[: _SHORT - 3] + "..."
    reason = str(error.details.get("reason") or f"the bound is `{error.details['bound']}`")
    suggested = error.details.get("suggest")
    found = _code(str(suggested)) if suggested else ""
    return _code(shown), place, f"`{error.code}`", reason.replace("|", "\\|"), found


def _spelling(name: str) -> str:
    return {"neg": "-x", "!": "!x", "?:": "c ? x : y"}.get(name, f"x {name} y")


def _called(name: str) -> str:
    """The ways in which a function is called, each in backticks."""
    function = gates.FUNCTIONS[name]
    args = ["x", "y"][: function.least]
    more = "" if function.most == function.least else "[zone]"
    member = f"`x.{name}({', '.join(args[1:])}{more})`"
    alone = f"`{name}({', '.join(args)})`"
    return ", ".join([member] * function.is_member + [alone] * function.is_global)


def _macro(name: str) -> str:
    least, most = gates.MACROS[name]
    return ", ".join([f"`x.{name}(v, body)`"] + [f"`x.{name}(v, condition, body)`"] * (most > least))


def _json(value: Value) -> str:
    return msgspec.json.encode(value).decode()


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`"


def _table(head: tuple[str, ...], rows: object) -> Iterator[str]:
    assert isinstance(rows, list | map)
    for row in (head, ("---",) * len(head), *rows):
        yield f"| {' | '.join(row)} |"
    yield ""
