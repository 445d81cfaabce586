"""A tree that was read becomes one that may be registered: its names and functions are there, and its reads are known.

Not here: syntax (`syntax`), and what functions do (`core.gates`). Above: whoever registers or asks an expression.
Below: `syntax`, and the core's table of functions. Invariant: the reads of an expression are all that its evaluation
can look at in the context, and where a name is known only then, the read says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal, NoReturn

from parlerd.core import gates
from parlerd.core.expressions import (
    ANY,
    DEPTHS,
    TYPES,
    Call,
    Expression,
    ExpressionLiteral,
    Has,
    Index,
    ListOf,
    Macro,
    MapOf,
    Node,
    Read,
    Root,
    Select,
    Type,
    Variable,
    below,
    invalid,
    is_time,
    near,
    spelled,
)
from parlerd.core.model import VIEWS
from parlerd.core.patterns import MAX_POSITIONS, BadPattern, Pattern
from parlerd.expr import syntax
from parlerd.expr.syntax import Called, Constant, Entries, Items, Member, Name, Parsed, Unusable

Place = Literal["gate", "wait", "view", "enabled", "message", "action"]
"""Where an expression stands: the gate of a write (and one that is evaluated once and kept nowhere), the condition of a
wait, a view, the `enabled` of an entry, an agent or an action, the `enabled` of a message, and all expressions that are
evaluated when an action is invoked."""
_TIMELESS: Final = frozenset({"view", "enabled", "message"})
"""Places where nothing looks again when time passes."""

_OPERATORS: Final = {
    "_&&_": "&&", "_||_": "||", "_?_:_": "?:", "_==_": "==", "_!=_": "!=", "_<_": "<", "_<=_": "<=", "_>_": ">",
    "_>=_": ">=", "@in": "in", "_+_": "+", "_-_": "-", "_*_": "*", "_/_": "/", "_%_": "%", "!_": "!", "-_": "neg",
}  # fmt: skip
"""The library's names of operators, with ours."""
_MEANT: Final = {
    "len": "size", "length": "size", "count": "size", "str": "string", "float": "double", "uint": "int",
    "any": "exists", "lower": "lowerAscii", "upper": "upperAscii", "includes": "contains",
}  # fmt: skip
"""What functions are called in other languages."""
_NAMES: Final = (*DEPTHS, *sorted(TYPES))
_LITERALS: Final = {"true", "false", "null"}
_HYPHENS: Final = re.compile(r"([A-Za-z_][\w.]*)\.([A-Za-z_]\w*(?:-\w+)+)", re.ASCII)
_SHOWN: Final = 64
"""Characters of a name that an error repeats."""
_Path = tuple[str, tuple[str | None, ...]]


def parse(source: str, place: Place) -> Expression:
    """The expression of a text, ready to be registered at this place.

    Raises `expression_invalid`, which says the reason, the line, the column, and the name that was probably meant.
    """
    checker = _Checker(source)
    tree = checker.value(syntax.read(source))
    expression = Expression(source, tree, tuple(checker.reads.values()))
    for read in expression.reads:
        _allowed(source, read, place)
    return expression


def watched_key(text: str) -> tuple[str, str]:
    """The scope and the key that a path like state._shared.turn names, in brackets or not: what a timer counts the
    writes of. Raises `expression_invalid` for everything else, and for a view, which nobody writes."""
    expression = parse(text, "gate")
    for read in expression.reads:
        if read.root == "state" and len(read.path) == DEPTHS["state"]:
            scope, key = read.path
            if scope is not None and key is not None and spelled(expression.tree) == below(below("state", scope), key):
                if scope == VIEWS:
                    raise invalid(text, "a view is not written, so its writes cannot be counted", read.at)
                return scope, key
    raise invalid(text, "one key of the state is named here: state._shared.turn", 0)


def _allowed(source: str, read: Read, place: Place) -> None:
    """Raises `expression_invalid` for what cannot be read at this place."""
    if read.root == "params" and place != "action":
        raise invalid(source, "`params` is there only in the expressions of an action", read.at)
    if place in _TIMELESS and is_time(read):
        what = "`now`" if read.root == "now" else "`last_seen`, or an attribute that may be it,"
        raise invalid(
            source,
            f"{what} cannot be read here, where nothing looks again when time passes: use a timer, or a wait",
            read.at,
        )
    if place == "message" and not (
        read.root in ("state", "actions", "self")
        or (read.root == "agents" and (len(read.path) < DEPTHS["agents"] or read.path[1] == "role"))
    ):
        raise invalid(source, "`enabled` of a message reads state, actions, roles and self only", read.at)


class _Checker:
    """Checks one tree, and collects what it reads."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._variables: list[str] = []
        """The variables of the macros around the node that is being checked, the outermost first."""
        self._positions = 0
        """Positions of the patterns so far."""
        self.reads: dict[_Path, Read] = {}

    def value(self, parsed: Parsed) -> Node:
        """The node of something that is used as a value, so all of it may be looked at."""
        node, path = self._chain(parsed)
        if path is not None:
            root, names = path
            self._reads(root, names + (ANY,) * (DEPTHS[root] - len(names)), node)
        return node

    def _names(self, parsed: Parsed, name: str | None = ANY) -> Node:
        """The node of a map of which only the names are looked at, or only whether it has one name."""
        node, path = self._chain(parsed)
        if path is not None:
            root, names = path
            self._reads(root, (*names, name)[: DEPTHS[root]], node)
        return node

    def _reads(self, root: str, path: tuple[str | None, ...], node: Node) -> None:
        if (root, path) not in self.reads:
            self.reads[root, path] = Read(root, path, node.at)

    def _chain(self, parsed: Parsed) -> tuple[Node, _Path | None]:
        """The node, and the path of names by which it is looked up in the context, if it is."""
        if isinstance(parsed, Name):
            return self._name(parsed)
        if isinstance(parsed, Member):
            of, path = self._chain(parsed.of)
            at = max(self._source.find(parsed.name, parsed.at), parsed.at)
            return Select(at, of, parsed.name), _longer(path, parsed.name)
        if isinstance(parsed, Called) and parsed.function == "_[_]":
            of, path = self._chain(parsed.args[0])
            key = self.value(parsed.args[1])
            name = key.value if isinstance(key, ExpressionLiteral) and isinstance(key.value, str) else ANY
            return Index(parsed.at, of, key), _longer(path, name)
        return self._node(parsed), None

    def _node(self, parsed: Parsed) -> Node:
        if isinstance(parsed, Constant):
            return ExpressionLiteral(parsed.at, parsed.value)
        if isinstance(parsed, Items):
            return ListOf(parsed.at, tuple([self.value(item) for item in parsed.items]))
        if isinstance(parsed, Entries):
            return MapOf(parsed.at, tuple([(self.value(key), self.value(value)) for key, value in parsed.entries]))
        if isinstance(parsed, Unusable):
            self._refuse(parsed.at, f"{parsed.what} is no value here: the state holds what JSON has")
        assert isinstance(parsed, Called)
        if parsed.function in _OPERATORS:
            return self._operator(parsed)
        if parsed.target is None and parsed.function == "has":
            return self._has(parsed)
        if parsed.target is not None and parsed.function in gates.MACROS:
            return self._macro(parsed, parsed.target)
        return self._call(parsed)

    def _name(self, parsed: Name) -> tuple[Node, _Path | None]:
        at, name = parsed
        for slot in reversed(range(len(self._variables))):
            if self._variables[slot] == name:
                return Variable(at, slot), None
        if name in DEPTHS:
            return Root(at, name), (name, ())
        if name not in TYPES:
            self._no_name(at, name[:_SHOWN])
        return Type(at, name), None

    def _no_name(self, at: int, name: str) -> NoReturn:
        # Only what stands around the name is looked at: the pattern takes a square of the length of what it fails on.
        start = max(at - _SHOWN, 0)
        for found in _HYPHENS.finditer(self._source[start : at + _SHOWN]):
            if found.start(2) < at - start < found.end():
                self._refuse(at, f"there is no `{name}`: a - is a minus", f'{found[1]}["{found[2]}"]')
        # What is merely like a literal (`phase`, `full`) is more often a key: only another case means the literal.
        suggest = near(name, [*self._variables, *_NAMES])
        suggest = suggest or (name.lower() if name.lower() in _LITERALS else near(name.lower(), _NAMES))
        keys = "" if suggest else ": a key that all members share is read as state._shared.KEY"
        self._refuse(at, f"there is no `{name}`{keys}", suggest)

    def _operator(self, parsed: Called) -> Node:
        name = _OPERATORS[parsed.function]
        if name == "in":
            element = self.value(parsed.args[0])
            wanted = element.value if isinstance(element, ExpressionLiteral) else ANY
            container = self._names(parsed.args[1], wanted if isinstance(wanted, str) else ANY)
            return Call(parsed.at, name, (element, container))
        return Call(parsed.at, name, tuple([self.value(arg) for arg in parsed.args]))

    def _has(self, parsed: Called) -> Node:
        node, path = self._chain(parsed.args[0]) if len(parsed.args) == 1 else (None, None)
        if not isinstance(node, Select | Index):
            self._refuse(parsed.at, "has() asks for one name in a map: has(state._shared.turn)")
        if path is not None:
            self._reads(*path, node)
        return Has(parsed.at, node)

    def _macro(self, parsed: Called, target: Parsed) -> Node:
        name, args = parsed.function, parsed.args
        least, most = gates.MACROS[name]
        if not least <= len(args) <= most or not isinstance(args[0], Name) or args[0].name.startswith("."):
            self._refuse(parsed.at, f"{name} takes a variable and what is asked of each: {name}(x, x > 1)")
        over = self._names(target)
        slot = len(self._variables)
        self._variables.append(args[0].name)
        body, *then = [self.value(arg) for arg in args[1:]]
        self._variables.pop()
        return Macro(parsed.at, name, over, slot, body, then[0] if then else None)

    def _call(self, parsed: Called) -> Node:
        name = parsed.function
        at = max(self._source.rfind(name, 0, parsed.at), 0)  # the library says where the bracket is
        function = gates.FUNCTIONS.get(name)
        given: Sequence[Parsed] = parsed.args if parsed.target is None else [parsed.target, *parsed.args]
        if function is None or not (function.is_global if parsed.target is None else function.is_member):
            self._no_function(name, at, parsed.target is not None)
        if not function.least <= len(given) <= function.most:
            self._refuse(at, f"{name}() does not take {len(parsed.args)} values")
        if name == "size":
            return Call(at, name, (self._names(given[0]),))
        args = [self.value(arg) for arg in given]
        if name == "matches":
            self._pattern(args[1])
        return Call(at, name, tuple(args))

    def _pattern(self, node: Node) -> None:
        """A pattern stands in the text, so that it is read once and refused now."""
        if not isinstance(node, ExpressionLiteral) or not isinstance(node.value, str):
            self._refuse(node.at, "the pattern of matches() stands in quotes in the expression itself")
        try:
            self._positions += len(Pattern(node.value))
        except BadPattern as bad:
            self._refuse(node.at, f"the pattern cannot be read: {bad}")
        if self._positions > MAX_POSITIONS:
            self._refuse(node.at, "the patterns of the expression together are too large")

    def _no_function(self, name: str, at: int, on_value: bool) -> NoReturn:
        if name in gates.MACROS or (name in gates.FUNCTIONS and not on_value):
            self._refuse(at, f"{name} is called on a value", f"x.{name}(...)")
        if name in gates.FUNCTIONS or name == "has":
            self._refuse(at, f"{name} is not called on a value", f"{name}(...)")
        known = [*gates.FUNCTIONS, *gates.MACROS, "has"]
        self._refuse(at, f"there is no function {name[:_SHOWN]}", _MEANT.get(name) or near(name, known))

    def _refuse(self, at: int, reason: str, suggest: str | None = None) -> NoReturn:
        raise invalid(self._source, reason, at, suggest)


def _longer(path: _Path | None, name: str | None) -> _Path | None:
    """The path of a name below. What is deeper than a read tells apart belongs to the same read."""
    if path is None:
        return None
    root, names = path
    return root, (*names, name)[: DEPTHS[root]]
