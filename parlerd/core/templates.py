"""An action as it is registered: its parameters, and writes with `${params.x}` where a parameter goes.

    "inventory_${params.item}"    a text with the parameter in it
    "${params.item}"              the parameter itself, whatever its type is
    "${self}"                     the handle of whoever invokes the action

What was put in is never looked at again, so a parameter that holds `${...}` stays what it is. Not here: who may invoke
what, and what follows (`actions`). Above: `actions`, `events`. Below: expressions, timers, JSON values. Invariant: an
action that `check` let through has parameters for all of its templates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.expressions import ANY, Expression, near
from parlerd.core.json_values import Value, require, text_of
from parlerd.core.model import MAX_LABEL, SHARED, StateAct
from parlerd.core.refusals import refusal
from parlerd.core.timers import TimerSpec

ParamType = Literal["any", "string", "number", "integer", "boolean", "object", "array"]
MAX_DEFINITION: Final = 32 * 1024
"""Bytes of an action: it stands in the header of a fact, and in every snapshot of its room."""
REDACTED: Final = "(secret)"
"""In place of a secret parameter, wherever one is kept or shown."""
_SELF: Final = "self"
_SLOT: Final = re.compile(r"\$\{([^{}]*)\}")


class Param(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A parameter of an action. `enum` are the values that it may have, empty for any of its type. `default` is the
    JSON text of what it is where whoever invokes names none, empty where it has no default. A secret parameter is
    never kept as it was given."""

    type: ParamType = "any"
    enum: tuple[Any, ...] = ()
    required: bool = False
    default: bytes = b""
    secret: bool = False


class ActionWrite(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One write of an action. `scope`, `key` and `value` are templates. With `computed` the value is what that
    expression is worth. A view has `expr`."""

    scope: str = SHARED
    key: str
    act: StateAct = "set"
    value: Any = None
    computed: Expression | None = None
    expr: Expression | None = None
    enabled: Expression | None = None
    timer: TimerSpec | None = None


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an action does. `owner` is the scope that it is registered in: a handle, whose agent's authority it carries,
    or `_shared`. `gate` has to be true. `on_invoke` is the timer that begins with an invocation: with the effect
    `enable` a cooldown, with `delete` the rest of the action's life. `result` is what whoever invokes it is told."""

    owner: str = SHARED
    gate: Expression | None = None
    description: str = ""
    params: dict[str, Param] = {}
    writes: tuple[ActionWrite, ...] = ()
    on_invoke: TimerSpec | None = None
    result: Expression | None = None

    @property
    def expressions(self) -> Iterator[Expression]:
        """Every expression that stands in it."""
        for each in (self.gate, self.result):
            if each is not None:
                yield each
        for write in self.writes:
            for each in (write.computed, write.expr, write.enabled):
                if each is not None:
                    yield each

    @property
    def secrets(self) -> frozenset[str]:
        """The parameters that are never kept."""
        return frozenset(name for name, param in self.params.items() if param.secret)


# -- registering -------------------------------------------------------------------------------------------


def check(action: Action) -> None:
    """Raise `Refused` for an action that cannot be invoked as it stands: `invalid_param`, `value_too_large`."""
    for name, param in action.params.items():
        for value in (*param.enum, *([] if not param.default else [default_of(param)])):
            require(value, param="params")
            if not _is(param.type, value):
                raise _wrong(name, param, "type")
        if param.default and param.enum and not _is_among(default_of(param), param.enum):
            raise _wrong(name, param, "value")
    for write in action.writes:
        for template in (write.scope, write.key, *_texts(write.value)):
            for slot in _slots(template):
                _check_slot(slot, action)
        require(write.value, param="value")
    for expression in action.expressions:
        for read in expression.reads:
            if read.root == "params" and read.path and read.path[0] not in (ANY, *action.params):
                raise _no_param(str(read.path[0]), action)
    for read in () if action.result is None or not action.secrets else action.result.reads:
        if read.root == "params" and (not read.path or read.path[0] in (ANY, *action.secrets)):
            raise Refused("invalid_param", "A result is kept, so it cannot show a secret parameter.", param="result")
    if len(msgspec.msgpack.encode(action)) > MAX_DEFINITION:
        raise Refused("value_too_large", size=len(msgspec.msgpack.encode(action)), limit=MAX_DEFINITION)


def _check_slot(slot: str, action: Action) -> None:
    if slot == _SELF:
        return
    root, dot, name = slot.partition(".")
    if root != "params" or not dot:
        raise Refused("invalid_param", "A template has ${params.NAME} and ${self}, and nothing else.", param="writes")
    if name not in action.params:
        raise _no_param(name, action)


def _no_param(name: str, action: Action) -> Refused:
    meant = near(name, action.params)
    suggest = {} if meant is None else {"suggest": meant}
    details = {"param": name[:MAX_LABEL], "problem": "unknown", "allowed": sorted(action.params), **suggest}
    return refusal("invalid_param", details)


# -- invoking ----------------------------------------------------------------------------------------------


def default_of(param: Param) -> Value:
    """What a parameter is that has a default."""
    return msgspec.json.decode(param.default)


def given(action: Action, asked: Mapping[str, Value], *, is_complete: bool = True) -> dict[str, Value]:
    """The parameters of an invocation, with the defaults of those that were not named. One that has none is left out,
    and so is one that has to be named where `is_complete` is false: others may still be named.

    Raises `Refused(invalid_param)`, with the values that are allowed, for a parameter that the action does not have,
    that is missing, or that is not what it may be.
    """
    for name in asked:
        if name not in action.params:
            raise _no_param(name, action)
    found: dict[str, Value] = {}
    for name, param in action.params.items():
        if name in asked:
            require(asked[name], param=name)
            if param.enum and not _is_among(asked[name], param.enum):
                raise _wrong(name, param, "value")
            if not _is(param.type, asked[name]):
                raise _wrong(name, param, "type")
            found[name] = asked[name]
        elif param.default:
            found[name] = default_of(param)
        elif param.required and is_complete:
            raise _wrong(name, param, "missing")
    return found


def _wrong(name: str, param: Param, problem: Literal["missing", "type", "value"]) -> Refused:
    allowed: list[Any] = [*param.enum] or [param.type]
    return refusal("invalid_param", {"param": name, "problem": problem, "allowed": allowed})


def _is(kind: ParamType, value: Value) -> bool:
    match kind:
        case "any":
            return True
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)


def _is_among(value: Value, values: tuple[Any, ...]) -> bool:
    """Whether a value is one of these, of the same type: true is no 1."""
    return any(value == each and isinstance(value, bool) is isinstance(each, bool) for each in values)


def filled(template: Value, params: Mapping[str, Value], invoker: str) -> Value:
    """A template with what goes in. Raises `Refused(invalid_param)` for a parameter that was not given."""
    match template:
        case str():
            return _filled(template, params, invoker)
        case list():
            return [filled(each, params, invoker) for each in template]
        case dict():
            return {str(_text(_filled(k, params, invoker))): filled(v, params, invoker) for k, v in template.items()}
        case _:
            return template


def filled_name(template: str, params: Mapping[str, Value], invoker: str) -> str:
    """A template of a scope or a key, as text. Raises as `filled` does."""
    return _text(_filled(template, params, invoker))


def _filled(template: str, params: Mapping[str, Value], invoker: str) -> Value:
    whole = _SLOT.fullmatch(template)
    if whole is not None:
        return _worth(whole[1], params, invoker)
    return _SLOT.sub(lambda slot: _text(_worth(slot[1], params, invoker)), template)


def _worth(slot: str, params: Mapping[str, Value], invoker: str) -> Value:
    if slot == _SELF:
        return invoker
    name = slot.partition(".")[2]
    if name not in params:
        raise refusal("invalid_param", {"param": name, "problem": "missing"})
    return params[name]


def _text(value: Value) -> str:
    """A value as a part of a text: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else text_of(value).decode()


def redacted(action: Action, params: Mapping[str, Value]) -> dict[str, Value]:
    """Parameters as they may be kept."""
    return {name: REDACTED if name in action.secrets else value for name, value in params.items()}


def _texts(template: Value) -> Iterator[str]:
    match template:
        case str():
            yield template
        case list():
            for each in template:
                yield from _texts(each)
        case dict():
            for key, value in template.items():
                yield key
                yield from _texts(value)
        case _:
            return


def _slots(template: str) -> Iterator[str]:
    return (slot[1] for slot in _SLOT.finditer(template))


def params_in(template: str) -> frozenset[str]:
    """The parameters that go into a template."""
    return frozenset(slot.partition(".")[2] for slot in _slots(template) if slot != _SELF)
