"""JSON values as a room keeps them: what may be one, their text, and what is done to one in place.

A value is null, a boolean, an integer of 64 bits, a finite float, a string, a list, or an object whose keys are
strings. It is kept as its JSON text, so that an integer stays an integer and a float a float, and an object keeps the
order of its keys.

Not here: where values are kept (`state`). Above: `state`. Below: the errors. Invariant: `read(text_of(value))` is the
value again, of the same types.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.refusals import refusal

Value = Any
"""A JSON value."""
MAX_VALUE: Final = 64 * 1024
"""Bytes of a value's JSON text. Source: coordination spec, Quotas."""
MAX_DEPTH: Final = 32
"""How deep lists and objects may stand in each other. Source: recipes, CEL 3."""
INTEGERS: Final = range(-(1 << 63), 1 << 63)
"""The integers that there are. Source: CEL, whose integers have 64 bits."""


def text_of(value: Value, param: str = "value") -> bytes:
    """The JSON text of a value. Raises `Refused`: `invalid_param` for what is no value, `value_too_large`."""
    require(value, param=param)
    try:
        text = msgspec.json.encode(value)
    except (UnicodeEncodeError, msgspec.EncodeError):
        raise Refused("invalid_param", "A string of this value is no valid text.", param=param) from None
    if len(text) > MAX_VALUE:
        raise Refused("value_too_large", size=len(text), limit=MAX_VALUE)
    return text


def read(text: bytes) -> Value:
    """The value of a text that `text_of` made; null for the empty text of a value that was erased."""
    return msgspec.json.decode(text) if text else None


def name_of(value: Value) -> str:
    """What sort of value this is, in one word."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "list"
        case _:
            return "object"


def added(old: Value, delta: Value) -> Value:
    """A number with another added. Integers stay integers, and with a float the sum is a float.

    Raises `Refused`: `wrong_type` where `old` is no number, `invalid_param` where `delta` is none and where the sum is
    outside what a number can be.
    """
    if name_of(delta) != "number":
        raise Refused("invalid_param", "A key is incremented by a number.", param="increment")
    if name_of(old) != "number":
        raise refusal("wrong_type", {"act": "increment", "is": name_of(old)})
    total = old + delta
    if total not in INTEGERS if isinstance(total, int) else not isfinite(total):
        raise Refused("invalid_param", "The sum is larger than a number can be.", param="increment")
    return total


def merged(old: Value, new: Value) -> Value:
    """An object with the members of another laid over it, and over the objects in it. Raises `Refused`: `wrong_type`
    where `old` is no object, `invalid_param` where `new` is none."""
    if not isinstance(new, dict):
        raise Refused("invalid_param", "An object is merged with an object.", param="merge")
    if not isinstance(old, dict):
        raise refusal("wrong_type", {"act": "merge", "is": name_of(old)})
    return _laid_over(old, new)


def appended(old: Value, new: Value) -> Value:
    """A list with one value more at its end. Raises `Refused(wrong_type)` where `old` is no list."""
    if not isinstance(old, list):
        raise refusal("wrong_type", {"act": "append", "is": name_of(old)})
    return [*old, new]


def _laid_over(old: Mapping[str, Value], new: Mapping[str, Value]) -> Value:
    found = dict(old)
    for key, value in new.items():
        before = found.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            value = _laid_over(before, value)
        found[key] = value
    return found


def require(value: Value, depth: int = MAX_DEPTH, param: str = "value") -> None:
    """Raise `Refused(invalid_param)` for what is no value: what JSON cannot say, and what is deeper than `depth`."""
    match value:
        case None | bool() | str():
            return
        case int():
            if value not in INTEGERS:
                raise Refused("invalid_param", "An integer has 64 bits at most; use a string.", param=param)
        case float():
            if not isfinite(value):
                raise Refused("invalid_param", 'There is no such number; use a string, such as "NaN".', param=param)
        case list() | dict() if not depth:
            raise Refused("invalid_param", f"A value is at most {MAX_DEPTH} lists and objects deep.", param=param)
        case list():
            for each in value:
                require(each, depth - 1, param)
        case dict():
            for key, each in value.items():
                if not isinstance(key, str):
                    raise Refused("invalid_param", "The keys of an object are strings.", param=param)
                require(each, depth - 1, param)
        case _:
            raise Refused("invalid_param", "A value is what JSON can say.", param=param)
