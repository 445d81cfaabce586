"""What the values of expressions equal, how they are ordered, computed with and turned into one another.

Numbers are friendly: JSON's whole numbers are `int`, an `int` and a `double` mix, and a string never equals a number.
Whole numbers have 64 bits, and division rounds toward zero. Every function here takes a meter, or costs little and
always the same; what compares or makes something large pays for it before it does it.

Not here: syntax, the context, macros. Above: `gates`. Below: `expressions`, `moments`. Invariant: the same values give
the same result, or fail with the same reason, in each process; nothing made here is larger than the meter's bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import fmod, isfinite, nan
from operator import ge, gt, le, lt
from typing import Any, Final, TypeGuard

from parlerd.core import moments
from parlerd.core.expressions import ABSENT, Absent, Bound, Branch, Failed, Moment, Span, Spent, TypeName, Value

STEPS: Final = 10_000
"""Steps of one evaluation. A key that is compared takes none, and each of 200 agents in a macro one."""
CHARACTERS: Final = 64
"""Characters that are read or made for one step."""
MAX_STRING: Final = 65_536
"""Characters of a string that an expression makes."""
MAX_LIST: Final = 1_000
"""Elements of a list that an expression makes."""
MAX_NESTED: Final = 32
"""Levels of a result, as of every value of the state."""
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
_NUMERAL: Final = 32
"""Characters of a text that is read as a number."""


class Meter:
    """How many steps are left. Evaluations that belong together share one: a gate and the views that it reads."""

    __slots__ = ("left",)

    def __init__(self, steps: int = STEPS) -> None:
        self.left = steps
        """Steps that may still be taken. Below zero, the evaluation has ended."""

    def spend(self, steps: int) -> None:
        """Take steps, before the work that they stand for. Raises `Spent` when there are not enough."""
        self.left -= steps
        if self.left < 0:
            raise Spent("steps")

    def text(self, characters: int) -> None:
        """Pay for reading a string of this length."""
        self.spend(characters // CHARACTERS)

    def new_text(self, characters: int) -> None:
        """Pay for making a string of this length. Raises `Spent` when it is too long."""
        _within("string", characters, MAX_STRING)
        self.spend(characters // CHARACTERS)

    def new_list(self, elements: int) -> None:
        """Pay for making a list of this length. Raises `Spent` when it is too long."""
        _within("list", elements, MAX_LIST)
        self.spend(elements)


def _within(bound: Bound, size: int, limit: int) -> None:
    if size > limit:
        raise Spent(bound)


# -- what a value is -------------------------------------------------------------------------------------------

_NAMES: Final[dict[type, str]] = {
    bool: "bool", int: "int", float: "double", str: "string", list: "list", dict: "map", type(None): "null_type",
    Moment: "timestamp", Span: "duration", TypeName: "type",
}  # fmt: skip


def type_name(value: Value) -> str:
    """What `type(value)` is called."""
    return _NAMES.get(type(value), "map")


def names_of(value: dict[str, Value] | Branch, meter: Meter) -> Sequence[str]:
    """The names of a map in the order of their code points, for one step each."""
    meter.spend(len(value))
    return value.names() if isinstance(value, Branch) else sorted(value)


def find(value: dict[str, Value] | Branch, name: str) -> Value:
    """What a map has under a name that it is known to have."""
    found = value.find(name) if isinstance(value, Branch) else value[name]
    assert found is not ABSENT
    return found


# -- comparing -------------------------------------------------------------------------------------------------

_PLAIN: Final = frozenset({bool, int, float, type(None), Moment, Span, TypeName})


def equal(a: Value, b: Value, meter: Meter) -> bool:
    """Whether two values are equal. Values of different kinds are not, and that is no error.

    Each pair inside of lists and maps takes a step, because lists that share their parts can be compared for ever. The
    steps are taken before the pairs are put aside, so what is put aside is bounded too.
    """
    if isinstance(a, str) and isinstance(b, str):
        return _same_text(a, b, meter)
    kind = type(a)
    if kind in _PLAIN or type(b) in _PLAIN:
        return (kind is type(b) or (_is_number(a) and _is_number(b))) and a == b
    return _equal_inside(a, b, meter)


def _equal_inside(a: Value, b: Value, meter: Meter) -> bool:
    left: list[Value] = [a]
    right: list[Value] = [b]
    while left:
        a, b = left.pop(), right.pop()
        if isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            meter.spend(len(a))
            left += a
            right += b
        elif isinstance(a, dict | Branch) and isinstance(b, dict | Branch):
            if len(a) != len(b):
                return False
            for name in names_of(a, meter):
                other = b.find(name) if isinstance(b, Branch) else b.get(name, ABSENT)
                if other is ABSENT:
                    return False
                left.append(find(a, name))
                right.append(other)
        elif isinstance(a, str) and isinstance(b, str):
            if not _same_text(a, b, meter):
                return False
        elif (type(a) is not type(b) and not (_is_number(a) and _is_number(b))) or a != b:
            return False
    return True


def _same_text(a: str, b: str, meter: Meter) -> bool:
    if len(a) != len(b):
        return False
    meter.text(len(a))
    return a == b


def _is_number(value: Value) -> TypeGuard[int | float]:
    kind = type(value)
    return kind is int or kind is float


_SIGNS: Final[dict[str, Callable[[Any, Any], bool]]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_ORDERED: Final = (str, bool, Moment, Span)


def compare(sign: str, a: Value, b: Value, meter: Meter, at: int) -> bool:
    """`a < b`, `a <= b`, `a > b` or `a >= b`. Numbers are compared as numbers, and strings by code points."""
    if isinstance(a, str) and isinstance(b, str):
        meter.text(min(len(a), len(b)))
    elif not (_is_number(a) and _is_number(b)) and (type(a) is not type(b) or not isinstance(a, _ORDERED)):
        raise _no_operator(sign, a, b, at)
    return _SIGNS[sign](a, b)


def inside(element: Value, container: Value, meter: Meter, at: int) -> bool:
    """`element in container`: an element of a list, or a name of a map."""
    if isinstance(container, dict | Branch):
        if not isinstance(element, str):
            if isinstance(element, int | float):  # another kind of name in CEL, so it is in no map of ours
                return False
            raise Failed(f"the names of a map are strings, and this is a {type_name(element)}", at)
        if isinstance(container, dict):
            return element in container
        return container.find(element) is not ABSENT
    if not isinstance(container, list):
        raise Failed(f"`in` looks into a list or a map, and this is a {type_name(container)}", at)
    for each in container:
        meter.spend(1)
        if equal(element, each, meter):
            return True
    return False


# -- looking up ------------------------------------------------------------------------------------------------


def look(value: Value, key: Value, at: int) -> Value | Absent:
    """`value[key]`, or `ABSENT` when there is no such thing: the caller knows whether that is a failure."""
    if isinstance(value, dict | Branch):
        if not isinstance(key, str):
            raise Failed(f"the names of a map are strings, and this is a {type_name(key)}", at)
        return value.get(key, ABSENT) if isinstance(value, dict) else value.find(key)
    if not isinstance(value, list):
        what = f'"{key}"' if isinstance(key, str) and len(key) <= CHARACTERS else "something"
        raise Failed(f"a {type_name(value)} has nothing inside, so {what} cannot be looked up in it", at)
    number = int(key) if isinstance(key, float) and key.is_integer() else key
    if isinstance(number, bool) or not isinstance(number, int):
        raise Failed(f"the place in a list is a whole number, and this is a {type_name(key)}", at)
    return value[number] if 0 <= number < len(value) else ABSENT


# -- computing -------------------------------------------------------------------------------------------------


def _no_operator(sign: str, a: Value, b: Value, at: int) -> Failed:
    hint = ""
    if sign == "+" and str in (type(a), type(b)):
        hint = "; string(x) makes a string of a number"
    return Failed(f"there is no {type_name(a)} {sign} {type_name(b)}{hint}", at)


def _int(value: int, at: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise Failed("the whole number does not fit in 64 bits", at)


def add(a: Value, b: Value, meter: Meter, at: int) -> Value:
    """`a + b`: numbers, strings, lists, and lengths of time."""
    if type(a) is int and type(b) is int:
        return _int(a + b, at)
    if _is_number(a) and _is_number(b):
        return a + b
    if isinstance(a, str) and isinstance(b, str):
        meter.new_text(len(a) + len(b))
        return a + b
    if isinstance(a, list) and isinstance(b, list):
        meter.new_list(len(a) + len(b))
        joined: list[Value] = [*a, *b]
        return joined
    if isinstance(b, Span):
        if isinstance(a, Moment):
            return moments.moment(a.ns + b.ns, at)
        if isinstance(a, Span):
            return moments.span(a.ns + b.ns, at)
    if isinstance(a, Span) and isinstance(b, Moment):
        return moments.moment(a.ns + b.ns, at)
    raise _no_operator("+", a, b, at)


def subtract(a: Value, b: Value, at: int) -> Value:
    """`a - b`: numbers, points in time, and lengths of time."""
    if type(a) is int and type(b) is int:
        return _int(a - b, at)
    if _is_number(a) and _is_number(b):
        return a - b
    if isinstance(a, Moment):
        if isinstance(b, Moment):
            return moments.span(a.ns - b.ns, at)
        if isinstance(b, Span):
            return moments.moment(a.ns - b.ns, at)
    if isinstance(a, Span) and isinstance(b, Span):
        return moments.span(a.ns - b.ns, at)
    raise _no_operator("-", a, b, at)


def multiply(a: Value, b: Value, at: int) -> Value:
    """`a * b`."""
    if type(a) is int and type(b) is int:
        return _int(a * b, at)
    if _is_number(a) and _is_number(b):
        return a * b
    raise _no_operator("*", a, b, at)


def divide(a: Value, b: Value, at: int) -> Value:
    """`a / b`. Of whole numbers the result is whole, toward zero."""
    if type(a) is int and type(b) is int:
        if b == 0:
            raise Failed("division by zero", at)
        return _int(_toward_zero(a, b), at)
    if _is_number(a) and _is_number(b):
        if b == 0:
            raise Failed("division by zero", at)
        return a / b
    raise _no_operator("/", a, b, at)


def remainder(a: Value, b: Value, at: int) -> Value:
    """`a % b`, with the sign of `a`."""
    if type(a) is int and type(b) is int:
        if b == 0:
            raise Failed("division by zero", at)
        return a - b * _toward_zero(a, b)
    if _is_number(a) and _is_number(b):
        if b == 0:
            raise Failed("division by zero", at)
        return fmod(a, b) if isfinite(a) else nan
    raise _no_operator("%", a, b, at)


def _toward_zero(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def negate(a: Value, at: int) -> Value:
    """`-a`."""
    if type(a) is int:
        return _int(-a, at)
    if type(a) is float:
        return -a
    if isinstance(a, Span):
        return moments.span(-a.ns, at)
    raise Failed(f"there is no -{type_name(a)}", at)


# -- turning one into another ----------------------------------------------------------------------------------


def size(value: Value, at: int) -> int:
    """`size(x)`: characters of a string, elements of a list, names of a map."""
    if isinstance(value, str | list | dict | Branch):
        return len(value)
    raise Failed(f"a {type_name(value)} has no size", at)


def to_int(value: Value, at: int) -> int:
    """`int(x)`. A double loses what is behind the point; a point in time is in seconds."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not INT_MIN <= value < INT_MAX:  # as a double, INT_MAX is one more than INT_MAX; NaN is in no range
            raise Failed("the number does not fit in 64 bits", at)
        return int(value)
    if isinstance(value, str):
        text = value.strip(" ") if len(value) <= _NUMERAL else ""
        digits = text[1:] if text[:1] in ("+", "-") else text
        if not (digits.isascii() and digits.isdigit()):
            raise Failed("this text is no whole number", at)
        return _int(int(text), at)
    if isinstance(value, Moment):
        return value.ns // moments.SECOND
    raise _no_conversion("int", value, at)


def to_double(value: Value, at: int) -> float:
    """`double(x)`."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        text = value.strip(" ") if len(value) <= _NUMERAL else ""
        if not text.isascii() or "_" in text:
            text = ""
        try:
            number = float(text)
        except ValueError:
            raise Failed("this text is no number", at) from None
        return number
    raise _no_conversion("double", value, at)


def to_string(value: Value, at: int) -> str:
    """`string(x)`. Numbers look as in JSON, and a double without a fraction as a whole number."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        return text.removesuffix(".0")
    if isinstance(value, Moment):
        return moments.moment_text(value)
    if isinstance(value, Span):
        return moments.span_text(value)
    raise _no_conversion("string", value, at)


_TRUE: Final = frozenset({"1", "t", "true", "TRUE", "True"})
_FALSE: Final = frozenset({"0", "f", "false", "FALSE", "False"})


def to_bool(value: Value, at: int) -> bool:
    """`bool(x)`, of a bool or of its text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise Failed("this text is neither true nor false", at)
    raise _no_conversion("bool", value, at)


def to_moment(value: Value, at: int) -> Moment:
    """`timestamp(x)`, of a text like 2026-03-01T00:00:00Z, or of seconds since 1970."""
    if isinstance(value, Moment):
        return value
    if type(value) is int:
        return moments.moment(value * moments.SECOND, at)
    if isinstance(value, str):
        return moments.parse_moment(value, at)
    raise _no_conversion("timestamp", value, at)


def to_span(value: Value, at: int) -> Span:
    """`duration(x)`, of a text like 1h30m."""
    if isinstance(value, Span):
        return value
    if isinstance(value, str):
        return moments.parse_span(value, at)
    raise _no_conversion("duration", value, at)


def _no_conversion(wanted: str, value: Value, at: int) -> Failed:
    return Failed(f"{wanted}() cannot be made of a {type_name(value)}", at)


def plain(value: Value, meter: Meter) -> Value:
    """A result as JSON has it: without branches, times as text. Raises `Failed` for a number that JSON has not.

    Every value inside takes a step however often it is shared, because JSON writes it each time.
    """
    return _plain(value, meter, MAX_NESTED)


def _plain(value: Value, meter: Meter, levels: int) -> Value:
    meter.spend(1)
    if isinstance(value, str):
        meter.text(len(value))
        return value
    if isinstance(value, float):
        if not isfinite(value):
            raise Failed("the result is a number that JSON has not")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Moment | Span):
        return to_string(value, 0)
    if isinstance(value, TypeName):
        return value.name
    if levels == 0:
        raise Spent("depth")
    if isinstance(value, list):
        return [_plain(each, meter, levels - 1) for each in value]
    return {name: _plain(find(value, name), meter, levels - 1) for name in names_of(value, meter)}
