"""How the actions of a room look in answers, to whoever may invoke them.

Not here: which of them there are, and whether they can be invoked (`core.actions`). Above: `acting`. Below: the
resolver, `entries_shown`. Invariant: an expression that names a scope which the reader does not read is not shown.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from parlerd.core.entries import Entry
from parlerd.core.expressions import Expression, Spent, below
from parlerd.core.json_values import Value
from parlerd.core.model import SHARED, PeerText
from parlerd.core.resolver import Resolver
from parlerd.core.room import Room
from parlerd.core.templates import Action, ActionWrite, Param, default_of
from parlerd.core.timers import TimerSpec
from parlerd.engine.entries_shown import timer as timer_shown
from parlerd.operations import types as t

NEEDS_PARAMS: Final = "needs_params"


def shown(room: Room, resolver: Resolver, id: str, entry: Entry, *, expand: bool = False) -> t.ActionShown:
    """An action; with `expand` also for which values of its parameters it can be invoked."""
    return t.ActionShown(**fields(room, resolver, id, entry, expand=expand))


def fields(room: Room, resolver: Resolver, id: str, entry: Entry, *, expand: bool = False) -> dict[str, Any]:
    """What is shown of an action, by the names of the fields."""
    action = entry.action
    assert action is not None
    timer = entry.timer
    return {
        "id": id,
        "scope": action.owner,
        "version": entry.version,
        "registered_by": room.entries.handle(entry.by),
        "registered_at": entry.at,
        "description": PeerText(action.description) or msgspec.UNSET,
        "gate": _source(action.gate, resolver),
        "enabled": _source(entry.enabled, resolver),
        "params": {name: _param(each) for name, each in action.params.items()} or msgspec.UNSET,
        "writes": [_write(each, resolver) for each in action.writes],
        "on_invoke": msgspec.UNSET if action.on_invoke is None else {"timer": _spec(action.on_invoke)},
        "result": _source(action.result, resolver),
        "timer": msgspec.UNSET if timer is None else timer_shown(timer, entry.ticks),
        "availability_by_param": _by_param(room, resolver, id, action) if expand else msgspec.UNSET,
        **_availability(room, resolver, id, {}),
        **cooldown(room, id),
    }


def cooldown(room: Room, id: str) -> dict[str, Any]:
    """How long an action still has to cool down; nothing where it does not have to."""
    cooling = room.actions.cooldown(id)
    if cooling is None or cooling.timer is None:
        return {}
    if cooling.timer.watch is not None:
        return {"ticks_left": cooling.ticks}
    return {"available_at": cooling.timer.due}


def _availability(room: Room, resolver: Resolver, id: str, params: dict[str, Value]) -> dict[str, Any]:
    try:
        why_not = room.actions.why_not(resolver, id, params)
    except Spent:
        why_not = "expression_budget"
    return {"available": not why_not, **({"reason": why_not} if why_not else {})}


def _by_param(room: Room, resolver: Resolver, id: str, action: Action) -> Any:
    found: dict[str, dict[str, t.Availability]] = {}
    for name, param in action.params.items():
        if param.enum:
            found[name] = {
                _label(value): t.Availability(**_availability(room, resolver, id, {name: value}))
                for value in param.enum
            }
    return found or msgspec.UNSET


def _label(value: Value) -> str:
    """A value as the name of a field."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _source(expression: Expression | None, resolver: Resolver) -> Any:
    return msgspec.UNSET if expression is None else resolver.source(expression)


def _param(param: Param) -> dict[str, Any]:
    found: dict[str, Any] = {"type": param.type}
    if param.enum:
        found["enum"] = [*param.enum]
    if param.default:
        found["default"] = default_of(param)
    return found | {name: True for name in ("required", "secret") if getattr(param, name)}


def _write(write: ActionWrite, resolver: Resolver) -> dict[str, Any]:
    """A write as it was registered, without what goes without saying."""
    found: dict[str, Any] = {"key": write.key}
    if write.scope != SHARED:
        found["scope"] = write.scope
    if write.computed is not None:
        found |= {"value": _source(write.computed, resolver), "expr": True}
    elif write.expr is not None:
        found["expr"] = _source(write.expr, resolver)
    elif write.act != "delete":
        found["value"] = write.value
    if write.act != "set":
        found[write.act] = True
    if write.enabled is not None:
        found["enabled"] = _source(write.enabled, resolver)
    if write.timer is not None:
        found["timer"] = _spec(write.timer)
    return found


def _spec(spec: TimerSpec) -> dict[str, Any]:
    found: dict[str, Any] = {"effect": spec.effect}
    for name in ("ms", "at", "ticks"):
        if (value := getattr(spec, name)) is not None:
            found[name] = value
    if spec.watch is not None:
        scope, key = spec.watch
        found["tick_on"] = below(below("state", scope), key)
    return found
