"""What is asked of a room's state in the form in which the core takes it: writes, timers, readable expressions.

Not here: deciding it (`core.state`). Above: `coordination`, `conditions`. Below: `expr`, which reads expressions.
Invariant: what comes from here was checked as far as that is possible without the room.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression
from parlerd.core.membership import present
from parlerd.core.model import SHARED, VIEWS, AgentId, StateAct
from parlerd.core.refusals import refusal
from parlerd.core.room import Room
from parlerd.core.timers import TimerSpec
from parlerd.engine.sight import Sight
from parlerd.expr import watched_key
from parlerd.operations import types as t


def write_of(sight: Sight, params: t.Written) -> c.StateWrite:
    """A write as the core takes it. Raises `Refused`: `invalid_param` for one that says two things at once,
    `expression_invalid`, `invalid_timer`."""
    act, value = act_of(params)
    if params.expr is not None:
        require_no_value(act, value)
    return c.StateWrite(
        scope=VIEWS if params.expr is not None and params.scope == SHARED else params.scope,
        key=params.key,
        act=act,
        value=value,
        expr=None if params.expr is None else sight.parse(params.expr, "view"),
        gate=None if params.gate is None else sight.parse(params.gate, "gate"),
        if_version=params.if_version,
        enabled=None if params.enabled is None else sight.parse(params.enabled, "enabled"),
        timer=None if params.timer is None else timer_of(params.timer),
    )


def act_of(params: t.Written | t.ActionWriteAsked) -> tuple[StateAct, Any]:
    """What a write does, and with which value. Raises `Refused(invalid_param)` for one that says two things at once."""
    acts = {"increment": params.increment is not False, "merge": params.merge, "append": params.append}
    asked = [name for name, is_asked in acts.items() if is_asked]
    if len(asked) > 1:
        raise Refused("invalid_param", f"A write is one of: {', '.join(asked)}.", param=asked[1])
    value = params.value
    if asked == ["increment"] and params.increment is not True:
        if value is not None:
            raise Refused("invalid_param", "Name the number once: in increment or in value.", param="increment")
        value = params.increment
    if asked == ["increment"] and value is None:
        value = 1
    return cast(StateAct, asked[0] if asked else "set"), value


def require_no_value(act: StateAct, value: Any) -> None:
    """Raise `Refused(invalid_param)` for a view that brings more than its expression."""
    if act != "set" or value is not None:
        raise Refused("invalid_param", "A view has an expression and no value.", param="expr")


def deletion_of(sight: Sight, params: t.DeleteState | t.BatchedWrite) -> c.StateWrite:
    gate = None if params.gate is None else sight.parse(params.gate, "gate")
    return c.StateWrite(scope=params.scope, key=params.key, act="delete", gate=gate, if_version=params.if_version)


def timer_of(asked: t.TimerAsked) -> TimerSpec:
    """A timer as the core takes it. Raises `Refused(invalid_timer)`."""
    at = asked.at
    if isinstance(at, str):
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            raise Refused("invalid_timer", "at is a moment, as 2026-03-01T00:00:00Z.", what="at") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at = int(moment.timestamp() * 1000)
    watch = None
    if asked.tick_on is not None:
        try:
            watch = watched_key(asked.tick_on)
        except Refused as refused:
            said = "tick_on is the path of one key, as state._shared.turn; a view has no writes to count."
            raise Refused("invalid_timer", said, what="tick_on") from refused
    return TimerSpec(effect=asked.effect, ms=asked.ms, at=at, ticks=asked.ticks, watch=watch)


def require_readable(room: Room, agent: AgentId, expression: Expression | None) -> None:
    """Raise `Refused(scope_denied)` for an expression that names a scope which only another agent reads."""
    if expression is None:
        return
    require_readable_as(room, present(room.state.members, agent).handle, expression)


def require_readable_as(room: Room, handle: str, expression: Expression) -> None:
    """The same for the agent of this handle, who may not be in the room yet."""
    for scope in sorted(expression.scopes):
        if room.entries.table.is_hidden(scope, handle):
            raise refusal("scope_denied", {"read_scope": scope, "invoker": handle})
