"""An action as it is asked for, in the form in which the core takes it.

Not here: whether it may be registered (`core.actions`). Above: `acting`. Below: `sight`, `state_inputs`. Invariant: all
expressions of what comes from here were checked for the places where they stand.
"""

from __future__ import annotations

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.json_values import text_of
from parlerd.core.model import SHARED, VIEWS
from parlerd.core.templates import Action, ActionWrite, Param
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import act_of, require_no_value, timer_of
from parlerd.operations import types as t


def action_of(sight: Sight, params: t.RegisterAction, scope: str) -> Action:
    """The action that is registered in this scope. Raises `Refused`, with the number of the write at fault: as
    `state_inputs.write_of` does."""
    writes = []
    for number, write in enumerate(params.writes):
        try:
            writes.append(_write_of(sight, write))
        except Refused as refused:
            refused.details["index"] = number
            raise
    return Action(
        owner=scope,
        gate=None if params.gate is None else sight.parse(params.gate, "action"),
        description=params.description,
        params={name: _param_of(each) for name, each in params.params.items()},
        writes=tuple(writes),
        on_invoke=None if params.on_invoke is None else timer_of(params.on_invoke.timer),
        result=None if params.result is None else sight.parse(params.result, "action"),
    )


def _param_of(asked: t.ActionParam) -> Param:
    has_default = asked.default is not msgspec.UNSET
    return Param(
        type=asked.type,
        enum=asked.enum,
        required=asked.required,
        default=text_of(asked.default, param="default") if has_default else b"",
        secret=asked.secret,
    )


def _write_of(sight: Sight, asked: t.ActionWriteAsked) -> ActionWrite:
    act, value = act_of(asked)
    view = asked.expr if isinstance(asked.expr, str) else None
    if asked.delete:
        if act != "set" or value is not None or asked.expr:
            raise Refused("invalid_param", "A deletion has no value.", param="delete")
        return ActionWrite(scope=asked.scope, key=asked.key, act="delete")
    if view is not None:
        require_no_value(act, value)
    computed = None
    if asked.expr is True:
        if not isinstance(value, str):
            raise Refused("invalid_param", "With expr, the value is the text of an expression.", param="value")
        computed, value = sight.parse(value, "action"), None
    return ActionWrite(
        scope=VIEWS if view is not None and asked.scope == SHARED else asked.scope,
        key=asked.key,
        act=act,
        value=value,
        computed=computed,
        expr=None if view is None else sight.parse(view, "view"),
        enabled=None if asked.enabled is None else sight.parse(asked.enabled, "enabled"),
        timer=None if asked.timer is None else timer_of(asked.timer),
    )
