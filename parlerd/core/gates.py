"""An expression becomes a value: its tree is turned into functions once, which are run against a context under a meter.

The library that parsed the text also evaluates, but not for us: its time has no bound, maps come in an order of the
process, and numbers are not friendly (`docs/dependencies.md`). What a program costs follows its tree and what it reads:
each element of a macro takes a step for each few nodes of its body, and what compares or makes much pays for it
(`values`), so no expression holds up whoever evaluates it.

Not here: what the context holds (its owner implements `Context`), which expressions are evaluated when, and what an
error means there. Above: the facets with gates, waits and views, and `parlerd.expr`, which asks here what functions
there are. Below: `expressions`, `values`, `moments`, `patterns`. Invariant: evaluating gives a value, `Failed` or
`Spent`, and the same one for the same context in each process; nothing else escapes, and the context is not changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias

from parlerd.core import moments, values
from parlerd.core.expressions import (
    ABSENT,
    DEPTHS,
    MAX_DEPTH,
    MAX_SOURCE,
    TYPES,
    Absent,
    Branch,
    Call,
    Expression,
    ExpressionLiteral,
    Failed,
    Has,
    Index,
    ListOf,
    Macro,
    MapOf,
    Missing,
    Moment,
    Node,
    Root,
    Select,
    Span,
    Type,
    TypeName,
    Value,
    Variable,
    invalid,
    spelled,
)
from parlerd.core.patterns import MAX_POSITIONS, BadPattern, Pattern
from parlerd.core.values import Meter

BODY: Final = 4
"""Nodes of a macro's body that an element pays one step for. It pays one at least, and for what one usually asks of an
agent (`agents[a].status == "idle"`, six nodes) no more."""


class Context(Protocol):
    """What expressions are evaluated against: the room as one agent may see it, at one moment."""

    def root(self, name: str) -> Value:
        """`state`, `agents`, `messages`, `actions`, `self`, `params` or `now`. A map may be a `Branch`.

        Raises `Failed` for a root that is not there.
        """


class Frame:
    """One evaluation."""

    __slots__ = ("context", "meter", "slots")

    def __init__(self, context: Context, meter: Meter, slots: int) -> None:
        self.context = context
        self.meter = meter
        self.slots: list[Value] = [None] * slots
        """The variables of the macros that are being evaluated, the outermost first."""


Code: TypeAlias = Callable[[Frame], Value]
Chain: TypeAlias = Callable[[Frame], "Value | Absent"]
"""What `has` asks: the value, or that some name on the way is missing."""


class Program:
    """An expression that is ready to be evaluated, as often as one likes. It keeps nothing of an evaluation."""

    __slots__ = ("_code", "_slots", "expression")

    def __init__(self, expression: Expression) -> None:
        """Raises `expression_invalid` for a tree that no text has, as one from a home that lies could be."""
        builder = _Builder(expression.source)
        self.expression = expression
        self._code = builder.build(expression.tree)
        self._slots = builder.slots

    def evaluate(self, context: Context, meter: Meter | None = None) -> Value:
        """The value, which may share parts with the context, and be a `Branch` of it: `values.plain` makes JSON of it.

        With a meter, evaluations share its steps. Raises `Failed` when there is no value, and `Spent` at a bound.
        """
        return self._code(Frame(context, Meter() if meter is None else meter, self._slots))

    def holds(self, context: Context, meter: Meter | None = None) -> bool:
        """Whether the value is exactly `true`: a text or a number opens no gate. Raises as `evaluate` does."""
        return self.evaluate(context, meter) is True


class PlainContext:
    """A context of plain maps."""

    def __init__(self, roots: dict[str, Value]) -> None:
        self._roots = roots

    def root(self, name: str) -> Value:
        """One of the roots that it was made of."""
        found = self._roots.get(name, ABSENT)
        if found is ABSENT:
            raise Failed(f"there is no `{name}` here")
        return found


# -- functions -------------------------------------------------------------------------------------------------

Apply: TypeAlias = Callable[[tuple[Value, ...], Meter, int], Value]


class Function(NamedTuple):
    """A function of expressions."""

    apply: Apply | None
    """None for `matches`: its pattern is read once, when the function is made."""
    least: int
    """Arguments that it takes at least, the value before the dot among them."""
    most: int
    is_member: bool
    """Whether it is called on a value: `x.size()`."""
    is_global: bool
    """Whether it is called by its name alone: `size(x)`."""


def _text(name: str, arg: Value, at: int) -> str:
    if not isinstance(arg, str):
        raise Failed(f"{name}() takes strings, and this is a {values.type_name(arg)}", at)
    return arg


def _two_texts(name: str, args: tuple[Value, ...], at: int) -> tuple[str, str]:
    one, other = args
    return _text(name, one, at), _text(name, other, at)


def _contains(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    text, part = _two_texts("contains", args, at)
    # Looking for a part may take a look at all of it from each place of the text.
    meter.spend(len(text) // values.CHARACTERS * (1 + len(part) // values.CHARACTERS))
    return part in text


def _starts_with(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    text, part = _two_texts("startsWith", args, at)
    meter.text(len(part))
    return text.startswith(part)


def _ends_with(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    text, part = _two_texts("endsWith", args, at)
    meter.text(len(part))
    return text.endswith(part)


_UPPER: Final = {code: code - 32 for code in range(ord("a"), ord("z") + 1)}
_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _lower(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    text = _text("lowerAscii", args[0], at)
    meter.new_text(len(text))
    return text.translate(_LOWER)


def _upper(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    text = _text("upperAscii", args[0], at)
    meter.new_text(len(text))
    return text.translate(_UPPER)


def _size(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    return values.size(args[0], at)


def _converted(convert: Callable[[Value, int], Value]) -> Function:
    return Function(lambda args, meter, at: convert(args[0], at), 1, 1, is_member=False, is_global=True)


def _type(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
    return TypeName(values.type_name(args[0]))


def _time_part(part: str) -> Function:
    def apply(args: tuple[Value, ...], meter: Meter, at: int) -> Value:
        value, *zone = args
        if isinstance(value, Span) and part in moments.SPAN_PARTS and not zone:
            return moments.part_of_span(value, part)
        if isinstance(value, Moment):
            offset = moments.parse_offset(_text(part, zone[0], at), at) if zone else 0
            return moments.part_of_moment(value, part, offset)
        raise Failed(f"{part}() is of a timestamp, and this is a {values.type_name(value)}", at)

    return Function(apply, 1, 2, is_member=True, is_global=False)


FUNCTIONS: Final[dict[str, Function]] = {
    "size": Function(_size, 1, 1, is_member=True, is_global=True),
    "type": Function(_type, 1, 1, is_member=False, is_global=True),
    "int": _converted(values.to_int),
    "double": _converted(values.to_double),
    "string": _converted(values.to_string),
    "bool": _converted(values.to_bool),
    "timestamp": _converted(values.to_moment),
    "duration": _converted(values.to_span),
    "dyn": _converted(lambda value, at: value),
    "contains": Function(_contains, 2, 2, is_member=True, is_global=False),
    "startsWith": Function(_starts_with, 2, 2, is_member=True, is_global=False),
    "endsWith": Function(_ends_with, 2, 2, is_member=True, is_global=False),
    "matches": Function(None, 2, 2, is_member=True, is_global=True),
    "lowerAscii": Function(_lower, 1, 1, is_member=True, is_global=False),
    "upperAscii": Function(_upper, 1, 1, is_member=True, is_global=False),
    **{part: _time_part(part) for part in moments.MOMENT_PARTS},
}
"""The functions by their names. An operator is none of them."""
MACROS: Final = {"all": (2, 2), "exists": (2, 2), "exists_one": (2, 2), "filter": (2, 2), "map": (2, 3)}
"""The macros by their names, with how many arguments each takes at least and at most."""


# -- operators -------------------------------------------------------------------------------------------------

_TWO: Final[dict[str, Callable[[Value, Value, Meter, int], Value]]] = {
    "<": lambda a, b, meter, at: values.compare("<", a, b, meter, at),
    "<=": lambda a, b, meter, at: values.compare("<=", a, b, meter, at),
    ">": lambda a, b, meter, at: values.compare(">", a, b, meter, at),
    ">=": lambda a, b, meter, at: values.compare(">=", a, b, meter, at),
    "in": values.inside,
    "+": values.add,
    "-": lambda a, b, meter, at: values.subtract(a, b, at),
    "*": lambda a, b, meter, at: values.multiply(a, b, at),
    "/": lambda a, b, meter, at: values.divide(a, b, at),
    "%": lambda a, b, meter, at: values.remainder(a, b, at),
}
OPERATORS: Final = {"!": 1, "neg": 1, "&&": 2, "||": 2, "?:": 3, "==": 2, "!=": 2, **dict.fromkeys(_TWO, 2)}
"""The operators by the names that they have in a tree, with how many values each takes. `neg` is the minus before a
value."""


class _Builder:
    """Makes functions of the nodes of one tree. Places are bound when the functions are made and not when they run."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._size = 0
        """Nodes so far, and characters of texts: a text of the most bytes has no more of both."""
        self._positions = 0
        """Positions of the patterns so far."""
        self._open = 0
        """Macros around the node that is being built."""
        self.slots = 0
        """Variables that are there at once."""

    def build(self, node: Node, depth: int = 0) -> Code:
        """The function that evaluates a node."""
        self._grow(node, depth)
        depth += 1
        if isinstance(node, ExpressionLiteral):
            return _constant(node.value)
        if isinstance(node, Type):
            self._ask(node.name in TYPES, "there is no such type", node)
            return _constant(TypeName(node.name))
        if isinstance(node, Root):
            self._ask(node.name in DEPTHS, "there is no such name", node)
            return _root(node.name)
        if isinstance(node, Variable):
            self._ask(0 <= node.slot < self._open, "no macro has this variable", node)
            return _variable(node.slot)
        if isinstance(node, Select):
            return _select(self.build(node.of, depth), node.name, spelled(node.of), node.at)
        if isinstance(node, Index):
            return _index(self.build(node.of, depth), self.build(node.key, depth), spelled(node.of), node.at)
        if isinstance(node, Has):
            self._ask(isinstance(node.of, Select | Index), "has() asks for a name in a map", node)
            chain = self._chain(node.of, depth)
            return lambda frame: chain(frame) is not ABSENT
        if isinstance(node, ListOf):
            return _list([self.build(item, depth) for item in node.items])
        if isinstance(node, MapOf):
            return _map([(self.build(k, depth), self.build(v, depth)) for k, v in node.entries], node.at)
        if isinstance(node, Macro):
            return self._macro(node, depth)
        return self._call(node, depth)

    def _chain(self, node: Node, depth: int) -> Chain:
        """The function that evaluates what stands in `has`, and says `ABSENT` where a name on the way is missing."""
        self._grow(node, depth)
        if isinstance(node, Select):
            return _chained(self._chain(node.of, depth + 1), _constant(node.name), node.at)
        if isinstance(node, Index):
            return _chained(self._chain(node.of, depth + 1), self.build(node.key, depth + 1), node.at)
        return self.build(node, depth)

    def _call(self, node: Call, depth: int) -> Code:
        name, at = node.function, node.at
        args = [self.build(arg, depth) for arg in node.args]
        if name in OPERATORS:
            self._ask(len(args) == OPERATORS[name], "an operator takes another number of values", node)
            if name == "==" and isinstance(node.args[1], ExpressionLiteral):
                return _equal_to(args[0], node.args[1].value, args[1])
            return _operator(name, args, at)
        function = FUNCTIONS.get(name)
        if function is None:
            raise invalid(self._source, "there is no such function", at)
        self._ask(function.least <= len(args) <= function.most, "a function takes another number of values", node)
        if function.apply is None:
            return _matches(args[0], self._pattern(node.args[1]), at)
        return _applied(function.apply, args, at)

    def _pattern(self, node: Node) -> Pattern:
        text = node.value if isinstance(node, ExpressionLiteral) else None
        try:
            pattern = Pattern(text if isinstance(text, str) else "*")
        except BadPattern as bad:
            raise invalid(self._source, f"the pattern cannot be read: {bad}", node.at) from None
        self._positions += len(pattern)
        self._ask(self._positions <= MAX_POSITIONS, "its patterns together are too large", node)
        return pattern

    def _macro(self, node: Macro, depth: int) -> Code:
        self._ask(node.name in MACROS and node.slot == self._open, "there is no such macro", node)
        self._ask(node.then is None or node.name == "map", "there is no such macro", node)
        over = self.build(node.over, depth)
        self._open += 1
        self.slots = max(self.slots, self._open)
        body = self.build(node.body, depth)
        then = None if node.then is None else self.build(node.then, depth)
        self._open -= 1
        price = max(1, (_weight(node.body) + (0 if node.then is None else _weight(node.then))) // BODY)
        return _MACROS[node.name](_elements(over, price, node.name, node.at), node.slot, body, then, node.at)

    def _grow(self, node: Node, depth: int) -> None:
        self._size += 1
        if isinstance(node, ExpressionLiteral) and isinstance(node.value, str):
            self._size += len(node.value)
        self._ask(depth <= MAX_DEPTH and self._size <= MAX_SOURCE, "it is larger than any text could make it", node)

    def _ask(self, is_so: bool, otherwise: str, node: Node) -> None:
        """Texts make no other trees, and a tree can come from a home that lies."""
        if not is_so:
            raise invalid(self._source, otherwise, node.at)


def _weight(node: Node) -> int:
    """The nodes that are run for one element, without what a macro inside runs for each element of its own."""
    if isinstance(node, Select | Has):
        return 1 + _weight(node.of)
    if isinstance(node, Index):
        return 1 + _weight(node.of) + _weight(node.key)
    if isinstance(node, Call):
        return 1 + sum(map(_weight, node.args))
    if isinstance(node, Macro):
        return 1 + _weight(node.over)
    if isinstance(node, ListOf):
        return 1 + sum(map(_weight, node.items))
    if isinstance(node, MapOf):
        return 1 + sum(_weight(key) + _weight(value) for key, value in node.entries)
    return 1


def _constant(value: Value) -> Code:
    return lambda frame: value


def _root(name: str) -> Code:
    def code(frame: Frame) -> Value:
        return frame.context.root(name)

    return code


def _variable(slot: int) -> Code:
    return lambda frame: frame.slots[slot]


def _select(of: Code, name: str, within: str, at: int) -> Code:
    def code(frame: Frame) -> Value:
        value = of(frame)
        if type(value) is dict:
            found = value.get(name, ABSENT)
        elif isinstance(value, Branch):
            found = value.find(name)
        else:
            values.look(value, name, at)  # only a map has names, so this fails and says so
            found = ABSENT
        if found is ABSENT:
            raise Missing(name, value, within, at)
        return found

    return code


def _index(of: Code, key: Code, within: str, at: int) -> Code:
    def code(frame: Frame) -> Value:
        value, wanted = of(frame), key(frame)
        # A name in a map is what most of them are, and stands in the body of most macros.
        if isinstance(wanted, str) and isinstance(value, dict | Branch):
            found = value.find(wanted) if isinstance(value, Branch) else value.get(wanted, ABSENT)
            if found is ABSENT:
                raise Missing(wanted, value, within, at)
            return found
        looked = values.look(value, wanted, at)
        if looked is ABSENT:
            assert isinstance(wanted, int | float)  # a place in a list, because the names of maps were looked up above
            raise Missing(int(wanted), value, within, at)
        return looked

    return code


def _chained(of: Chain, key: Code, at: int) -> Chain:
    def code(frame: Frame) -> Value | Absent:
        value = of(frame)
        if value is ABSENT:
            return ABSENT
        return values.look(value, key(frame), at)

    return code


def _list(items: list[Code]) -> Code:
    return lambda frame: [item(frame) for item in items]


def _map(entries: list[tuple[Code, Code]], at: int) -> Code:
    def code(frame: Frame) -> Value:
        made: dict[str, Value] = {}
        for key, value in entries:
            name = key(frame)
            if not isinstance(name, str):
                raise Failed(f"the names of a map are strings, and this is a {values.type_name(name)}", at)
            if name in made:
                raise Failed("the map has the same name twice", at)
            made[name] = value(frame)
        return made

    return code


def _operator(name: str, args: list[Code], at: int) -> Code:
    if name == "&&":
        return _both(args[0], args[1], at)
    if name == "||":
        return _either(args[0], args[1], at)
    if name == "?:":
        return _choice(args[0], args[1], args[2], at)
    if name == "!":
        return _not(args[0], at)
    if name == "neg":
        (value,) = args
        return lambda frame: values.negate(value(frame), at)
    if name == "==":
        return _equal(args[0], args[1])
    if name == "!=":
        same = _equal(args[0], args[1])
        return lambda frame: not same(frame)
    return _two(_TWO[name], args[0], args[1], at)


def _two(apply: Callable[[Value, Value, Meter, int], Value], left: Code, right: Code, at: int) -> Code:
    return lambda frame: apply(left(frame), right(frame), frame.meter, at)


def _equal(left: Code, right: Code) -> Code:
    equal = values.equal
    return lambda frame: equal(left(frame), right(frame), frame.meter)


def _equal_to(left: Code, value: bool | int | float | str | None, right: Code) -> Code:
    """Most comparisons are with a text or with true, and cost less where it is known beforehand."""
    if value is None or isinstance(value, bool):
        return lambda frame: left(frame) is value
    if isinstance(value, str) and len(value) < values.CHARACTERS:
        return lambda frame: left(frame) == value
    return _equal(left, right)


def _matches(text: Code, pattern: Pattern, at: int) -> Code:
    return lambda frame: pattern.found_in(_text("matches", text(frame), at), frame.meter)


def _applied(apply: Apply, args: list[Code], at: int) -> Code:
    if len(args) == 1:
        (only,) = args
        return lambda frame: apply((only(frame),), frame.meter, at)
    return lambda frame: apply(tuple([arg(frame) for arg in args]), frame.meter, at)


# What decides alone wins over a failure on the other side, on whichever side it stands. Source: the CEL specification.


def _truth(value: Value, what: str, at: int) -> bool:
    if value is True or value is False:
        return value
    raise Failed(f"{what} takes true or false, and this is a {values.type_name(value)}", at)


def _both(left: Code, right: Code, at: int) -> Code:
    def code(frame: Frame) -> Value:
        try:
            first = _truth(left(frame), "&&", at)
        except Failed:
            if _is(right, frame, False):
                return False
            raise
        return _truth(right(frame), "&&", at) if first else False

    return code


def _either(left: Code, right: Code, at: int) -> Code:
    def code(frame: Frame) -> Value:
        try:
            first = _truth(left(frame), "||", at)
        except Failed:
            if _is(right, frame, True):
                return True
            raise
        return True if first else _truth(right(frame), "||", at)

    return code


def _is(code: Code, frame: Frame, wanted: bool) -> bool:
    """Whether the other side of a failure decides. It does not when it fails too: the first failure is the one told."""
    try:
        return code(frame) is wanted
    except Failed:
        return False


def _choice(condition: Code, yes: Code, no: Code, at: int) -> Code:
    return lambda frame: yes(frame) if _truth(condition(frame), "?", at) else no(frame)


def _not(value: Code, at: int) -> Code:
    return lambda frame: not _truth(value(frame), "!", at)


# -- macros ----------------------------------------------------------------------------------------------------

Elements: TypeAlias = Callable[[Frame], "list[Value]"]


def _elements(over: Code, price: int, macro: str, at: int) -> Elements:
    """What a macro goes through: the elements of a list, or the names of a map in order. They are paid for before."""

    def code(frame: Frame) -> list[Value]:
        value = over(frame)
        if isinstance(value, list):
            frame.meter.spend(len(value) * price)
            return value
        if isinstance(value, dict | Branch):
            frame.meter.spend(len(value) * (price - 1))
            return list(values.names_of(value, frame.meter))
        raise Failed(f"{macro} goes through a list or a map, and this is a {values.type_name(value)}", at)

    return code


def _all(elements: Elements, slot: int, body: Code, then: Code | None, at: int) -> Code:
    return _decided(elements, slot, body, "all", False, at)


def _exists(elements: Elements, slot: int, body: Code, then: Code | None, at: int) -> Code:
    return _decided(elements, slot, body, "exists", True, at)


def _decided(elements: Elements, slot: int, body: Code, macro: str, decisive: bool, at: int) -> Code:
    """One decisive element decides, whatever failed for another."""

    def code(frame: Frame) -> Value:
        failed: Failed | None = None
        slots = frame.slots
        for slots[slot] in elements(frame):
            try:
                value = body(frame)
                if value is decisive:
                    return decisive
                if type(value) is not bool:
                    _truth(value, macro, at)
            except Failed as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return not decisive

    return code


def _exists_one(elements: Elements, slot: int, body: Code, then: Code | None, at: int) -> Code:
    def code(frame: Frame) -> Value:
        found = 0
        for element in elements(frame):
            frame.slots[slot] = element
            found += _truth(body(frame), "exists_one", at)
        return found == 1

    return code


def _filter(elements: Elements, slot: int, body: Code, then: Code | None, at: int) -> Code:
    def code(frame: Frame) -> Value:
        kept: list[Value] = []
        for element in elements(frame):
            frame.slots[slot] = element
            if _truth(body(frame), "filter", at):
                kept.append(element)
        frame.meter.new_list(len(kept))
        return kept

    return code


def _mapped(elements: Elements, slot: int, body: Code, then: Code | None, at: int) -> Code:
    def code(frame: Frame) -> Value:
        made: list[Value] = []
        for element in elements(frame):
            frame.slots[slot] = element
            if then is None:
                made.append(body(frame))
            elif _truth(body(frame), "map", at):
                made.append(then(frame))
        frame.meter.new_list(len(made))
        return made

    return code


_MACROS: Final[dict[str, Callable[[Elements, int, Code, Code | None, int], Code]]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _mapped,
}
