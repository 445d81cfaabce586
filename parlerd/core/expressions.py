"""An expression that was checked: its text, its tree, what it reads, and the ways in which its evaluation ends early.

The tree is plain data and stands in the fact that registered the expression, so a replay and a snapshot need no parser.
Places in an expression are counted in characters of its text from 0 (`at`); `spot` makes a line and a column of one.

Not here: the text becomes a tree in `parlerd.expr`, and a tree becomes a value in `gates`. Above: both of them. Below:
`errors`. Invariant: an expression is immutable, and two that are equal evaluate alike in the same context.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import OWN_SCOPES

MAX_SOURCE: Final = 2_048
"""Bytes of the text of an expression. A longer one is several: a view can hold a part of it."""
MAX_DEPTH: Final = 64
"""Levels of a tree. The parser takes 32; a chain of `&&` stands on a few more, because it is balanced."""
ANY: Final = None
"""In the path of a read: a name that is known only when the expression is evaluated."""
DEPTHS: Final = {"state": 2, "agents": 2, "actions": 2, "messages": 1, "params": 1, "self": 0, "now": 0}
"""The roots of the context, each with the number of names below it that a read tells apart."""
TYPES: Final = frozenset({"bool", "double", "int", "list", "map", "null_type", "string", "type"})
"""Names of types that an expression can compare `type(x)` with."""
_MAX_NEAR: Final = 256
"""Names that a mistyped one is compared with."""
_MAX_COMPARED: Final = 64
"""Characters of names that are compared."""
_AROUND: Final = 60
"""Characters before and after a place that are shown with its caret."""
_SHOWN: Final = 80
"""Characters of a name that an error repeats."""


class ExpressionLiteral(msgspec.Struct, frozen=True, array_like=True, tag="literal"):
    """A value that stands in the text."""

    at: int
    value: bool | int | float | str | None


class Type(msgspec.Struct, frozen=True, array_like=True, tag="type"):
    """The name of a type, which is a value of its own."""

    at: int
    name: str


class Root(msgspec.Struct, frozen=True, array_like=True, tag="root"):
    """A root of the context."""

    at: int
    name: str


class Variable(msgspec.Struct, frozen=True, array_like=True, tag="variable"):
    """The variable of a macro around this node. `slot` is the number of macros around that one."""

    at: int
    slot: int


class Select(msgspec.Struct, frozen=True, array_like=True, tag="select"):
    """`of.name`. `at` is the place of the name."""

    at: int
    of: Node
    name: str


class Index(msgspec.Struct, frozen=True, array_like=True, tag="index"):
    """`of[key]`. `at` is the place of the bracket."""

    at: int
    of: Node
    key: Node


class Has(msgspec.Struct, frozen=True, array_like=True, tag="has"):
    """`has(of)`, where `of` is a `Select` or an `Index`."""

    at: int
    of: Node


class Call(msgspec.Struct, frozen=True, array_like=True, tag="call"):
    """An operator or a function. A function that was called on a value (`x.size()`) has this value as the first
    argument."""

    at: int
    function: str
    args: tuple[Node, ...]


class Macro(msgspec.Struct, frozen=True, array_like=True, tag="macro"):
    """`over.name(variable, body)`: the body is evaluated for each element of a list or each name of a map."""

    at: int
    name: str
    over: Node
    slot: int
    body: Node
    then: Node | None = None
    """What `map` makes of each element for which the body is true, in its form with three arguments."""


class ListOf(msgspec.Struct, frozen=True, array_like=True, tag="list"):
    """A list that stands in the text."""

    at: int
    items: tuple[Node, ...]


class MapOf(msgspec.Struct, frozen=True, array_like=True, tag="map"):
    """A map that stands in the text."""

    at: int
    entries: tuple[tuple[Node, Node], ...]


Node: TypeAlias = ExpressionLiteral | Type | Root | Variable | Select | Index | Has | Call | Macro | ListOf | MapOf


class Read(msgspec.Struct, frozen=True, array_like=True):
    """One thing that an expression reads.

    A path of the root's full depth (`DEPTHS`) is a value: ("state", ("_shared", "turn")). A shorter path is whether the
    name exists: ("agents", ("bob",)) is read by `has(agents.bob)`, and ("agents", (None,)) by a macro over all agents.
    `None` in a path is a name that is not known before the expression is evaluated, so it stands for each.
    """

    root: str
    path: tuple[str | None, ...]
    at: int
    """Where the expression reads it first."""


class Expression(msgspec.Struct, frozen=True):
    """An expression that may be registered. It is stored whole."""

    source: str
    tree: Node
    reads: tuple[Read, ...]
    """Everything that evaluating it may look at, each once, in the order of the text."""

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes of agents that it names."""
        named = (read.path[0] for read in self.reads if read.root == "state" and read.path)
        return frozenset(scope for scope in named if scope is not None and scope not in OWN_SCOPES)

    def time_read(self) -> Read | None:
        """The first read of the time, or of an agent's `last_seen`, which moves with the time. None when there is
        none."""
        return next((read for read in self.reads if is_time(read)), None)


def is_time(read: Read) -> bool:
    """Whether what is read changes by the passing of time alone."""
    if read.root == "agents":
        return len(read.path) == DEPTHS["agents"] and read.path[1] in (ANY, "last_seen")
    return read.root == "now"


class Absent(Enum):
    """The answer of a branch of the context that has no such name. No value is equal to it."""

    ABSENT = 0


ABSENT: Final = Absent.ABSENT


class Branch:
    """A map of the context whose values are looked up one by one: the scopes of the state, the keys of a scope, the
    agents. Who has such a map derives a class from this one, with `find` and `names`.

    It shows what the asking agent may see, and nothing else. `find` raises `Failed` where the value cannot be had: a
    view that errs, for example. While an expression is evaluated, a branch does not change.
    """

    # No abstract base class: every step of an evaluation asks whether a value is a branch, and Python answers that
    # question several times slower about an abstract class.
    __slots__ = ()

    def find(self, name: str) -> Value | Absent:
        """The value of a name, or `ABSENT`."""
        raise NotImplementedError

    def names(self) -> Sequence[str]:
        """All names, in the order of their code points."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many names there are. A map that can count them without listing them says so itself."""
        return len(self.names())


class TypeName(NamedTuple):
    """A type as a value: what `type(x)` gives."""

    name: str


class Moment(NamedTuple):
    """A point in time, in nanoseconds since 1970 in UTC."""

    ns: int


class Span(NamedTuple):
    """A length of time in nanoseconds. It may be negative."""

    ns: int


Scalar: TypeAlias = bool | int | float | str | Moment | Span | TypeName | None
Value: TypeAlias = "Scalar | list[Value] | dict[str, Value] | Branch"
"""A value of an expression. What an expression is given is never changed by it, so lists and maps may be shared."""

Bound = Literal["steps", "string", "list", "depth"]
"""The bounds of an evaluation: steps taken, characters of a string, elements of a list that the expression makes, and
levels of a result."""
_BOUNDS: Final[dict[Bound, str]] = {
    "steps": "the expression takes too many steps: it goes through too many elements or compares too much",
    "string": "the expression makes a string that is too long",
    "list": "the expression makes a list that is too long",
    "depth": "the result of the expression is nested too deep",
}


class Failed(Exception):
    """The evaluation came to no value. `||`, `&&` and the macros `all` and `exists` may go on without it."""

    def __init__(self, reason: str, at: int | None = None) -> None:
        super().__init__(reason)
        self.at = at
        """Where in the expression it failed. None when what failed was in another expression, a view."""

    @property
    def reason(self) -> str:
        """Why, as a part of a sentence."""
        return str(self.args[0])

    @property
    def path(self) -> str | None:
        """What was looked for and is missing."""
        return None

    def suggest(self) -> str | None:
        """The name that was probably meant. Found now, because most failures are shown to nobody."""
        return None


class Missing(Failed):
    """A map has no such name, or a list no such element."""

    def __init__(self, key: str | int, among: Value, within: str, at: int) -> None:
        super().__init__("", at)
        self.key = key
        self._among = among
        self._within = within
        """How the map is spelled in the expression."""

    @property
    def reason(self) -> str:
        if isinstance(self.key, int):
            return f"the list has no element {self.key}"
        return f"there is no {_quoted(self.key[:_SHOWN])} in {self._within}"

    @property
    def path(self) -> str | None:
        return below(self._within, self.key if isinstance(self.key, int) else self.key[:_SHOWN])

    def suggest(self) -> str | None:
        if isinstance(self.key, int) or not isinstance(self._among, dict | Branch):
            return None
        names = self._among.names() if isinstance(self._among, Branch) else self._among
        found = near(self.key, names)
        return None if found is None else below(self._within, found)


class Spent(Exception):
    """The evaluation reached one of its bounds. Nothing in an expression goes on after it."""

    def __init__(self, bound: Bound) -> None:
        super().__init__(bound)
        self.bound = bound


_WORD: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def below(within: str, key: str | int) -> str:
    """How an expression spells what a map has under a name, or a list at a place."""
    if isinstance(key, str) and _WORD.fullmatch(key):
        return f"{within}.{key}"
    return f"{within}[{key if isinstance(key, int) else _quoted(key)}]"


def spelled(node: Node) -> str:
    """How an expression spells a value that it looks up. What is computed is three dots."""
    if isinstance(node, Root):
        return node.name
    if isinstance(node, Select):
        return below(spelled(node.of), node.name)
    if isinstance(node, Index):
        key = node.key
        if isinstance(key, ExpressionLiteral) and isinstance(key.value, str):
            return below(spelled(node.of), key.value)
        return f"{spelled(node.of)}[...]"
    return "(...)"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()


def near(word: str, names: Iterable[str]) -> str | None:
    """The name that is most like a word, or None when none is much like it."""
    from difflib import get_close_matches  # imported here because each command imports this module, and few err

    wanted = word[:_MAX_COMPARED]
    close: list[str] = []
    for name in names:
        if abs(len(name) - len(word)) <= 3:
            close.append(name[:_MAX_COMPARED])
            if len(close) == _MAX_NEAR:
                break
    found = get_close_matches(wanted, close, n=1)
    return found[0] if found else None


class Spot(NamedTuple):
    """A place in a text, as a person counts it, and the line with a caret below."""

    line: int
    column: int
    caret: str


def spot(source: str, at: int) -> Spot:
    """The line and the column of a character, both from 1."""
    before = source[:at]
    start = before.rfind("\n") + 1
    end = source.find("\n", start)
    shown_from = max(start, at - _AROUND)
    text = source[shown_from : min(end if end >= 0 else len(source), at + _AROUND)]
    # A tab stays one under the caret too, so the caret is below its character however wide the tab is drawn.
    blanks = "".join("\t" if each == "\t" else " " for each in source[shown_from:at])
    return Spot(before.count("\n") + 1, at - start + 1, f"{text}\n{blanks}^")


# The sentence of an error says labels and numbers alone. What is a text of somebody is a detail: a surface marks it as
# data, and a link carries it.


def invalid(source: str, reason: str, at: int, suggest: str | None = None) -> Refused:
    """The refusal of a text that is no expression. `reason` says what to do where that is known."""
    line, column, caret = spot(source, at)
    more: dict[str, Any] = {} if suggest is None else {"suggest": suggest}
    return Refused(
        "expression_invalid",
        f"This is not a valid expression (line {line}, column {column}).",
        expression=source,
        reason=reason,
        line=line,
        column=column,
        caret=caret,
        **more,
    )


def refusal(source: str, error: Failed | Spent, **more: Any) -> Refused:
    """The refusal of what depends on an expression that came to no value: `expression_failed` or
    `expression_budget`."""
    if isinstance(error, Spent):
        message = f"The expression was stopped: {_BOUNDS[error.bound]}."
        return Refused("expression_budget", message, expression=source, bound=error.bound, **more)
    found: dict[str, Any] = {"expression": source, "reason": error.reason}
    if error.path is not None:
        found["path"] = error.path
    suggest = error.suggest()
    if suggest is not None:
        found["suggest"] = suggest
    where = ""
    if error.at is not None:
        line, column, _ = spot(source, error.at)
        found |= {"line": line, "column": column}
        where = f" (line {line}, column {column})"
    return Refused("expression_failed", f"The expression came to no value{where}.", **found, **more)
