"""What the home of a room answered to a question about the room's state, as far as it may be handed on.

    bytes of an answer     the result of the operation, or `relay_failed`
    a code and details     the refusal that this home makes of them

Another home may answer anything. What is handed on has the operation's form, its values are what JSON can say, and what
is shown outside any fence is a label; texts of others stay what they are, and are fenced where they are shown.

Not here: asking (`asking.questions`), and the sentences of refusals (`core.refusals`). Above: `asking.questions`.
Below: the registry, `core.json_values`. Invariant: nothing but `Refused` escapes, whatever the bytes are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.json_values import MAX_DEPTH, require
from parlerd.core.model import is_label
from parlerd.core.refusals import heard
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS

_LABELS: Final = frozenset(
    {"id", "action", "scope", "key", "reason", "registered_by", "updated_by", "agent", "role", "via", "effect"}
)
"""Fields that are shown outside any fence. One may be empty."""
_ABOUT_PARAMS: Final = ("invalid_name",)
"""Codes that follow from the plane of an operation, and that another home means of the parameters. The others are about
the home itself, and would be taken for this one's trouble."""
_AROUND: Final = 4
"""Levels that an answer puts around a value: what was to be included, its scope, its key."""


def answered(operation: str, data: bytes, home: str) -> t.Result:
    """The result that these bytes are. Raises `Refused(relay_failed)`."""
    try:
        result: t.Result = msgspec.msgpack.decode(data, type=OPERATIONS[operation].result)
        _check(result)
        result = _with_fact(result)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused):
        raise Refused("relay_failed", home=home) from None
    return result


def refused(operation: str, code: str, details: Mapping[str, Any]) -> Refused:
    """The refusal that the home told. A code that the operation does not have is `relay_refused`; details that JSON
    cannot say are left out."""
    known = code if code in (*OPERATIONS[operation].errors, *_ABOUT_PARAMS) else ""
    return heard(known, {name: value for name, value in details.items() if _is_plain(value)})


def _with_fact(result: t.Result) -> t.Result:
    """An answer that names its fact by a label and a number alone. Nobody asked for the text of a receipt with it, and
    one that comes along was not checked."""
    told = getattr(result, "receipt", None)
    if not isinstance(told, t.ReceiptRef):
        return result
    if not is_label(told.fact):
        raise Refused("invalid_param", param="receipt")
    number = told.number if told.number is not msgspec.UNSET and told.number > 0 else msgspec.UNSET
    return msgspec.structs.replace(result, receipt=t.ReceiptRef(fact=told.fact, number=number))


def _check(value: Any) -> None:
    match value:
        case msgspec.Struct():
            for field in msgspec.structs.fields(value):
                found = getattr(value, field.name)
                if field.name in _LABELS and isinstance(found, str) and found and not is_label(found):
                    raise Refused("invalid_param", param=field.name)
                _check(found)
        case [msgspec.Struct(), *_]:
            for each in value:
                _check(each)
        case dict() if _has_struct(value):
            for each in value.values():
                _check(each)
        case msgspec.UNSET | bytes():
            return
        case _:
            require(value, MAX_DEPTH + _AROUND)


def _has_struct(value: Any) -> bool:
    """Whether a map has structures in it, at any level."""
    return isinstance(value, msgspec.Struct) or (isinstance(value, dict) and any(map(_has_struct, value.values())))


def _is_plain(value: Any) -> bool:
    try:
        require(value)
    except Refused:
        return False
    return True
