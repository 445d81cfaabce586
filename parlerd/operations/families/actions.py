"""Coordination: the actions of a room, writes that have a name."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import MAX_LABEL, MAX_WRITES, SHARED, PeerText
from parlerd.operations import samples
from parlerd.operations.entry import (
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
)
from parlerd.operations.shared import (
    STATE_READING,
    STATE_WRITES,
    STATE_WRITING,
    Availability,
    Key,
    Source,
    StateEntry,
    TimerAsked,
    TimerShown,
)

MAX_DESCRIPTION: Final = 200
"""Characters of what an action says of itself. Source: coordination spec, Actions."""
MAX_ACTION_PARAMS: Final = 32
"""Parameters of one action."""
MAX_ENUM: Final = 100
"""Values that a parameter may be limited to."""

ParamName = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z")]


class ActionParam(Params, frozen=True, kw_only=True):
    """A parameter. `enum` are the values that it may have. A parameter that is `required` has to be named unless it has
    a default; the log says nothing of one that is `secret`."""

    type: Literal["any", "string", "number", "integer", "boolean", "object", "array"] = "any"
    enum: Annotated[tuple[Any, ...], Meta(max_length=MAX_ENUM)] = ()
    required: bool = False
    default: Any = msgspec.UNSET
    secret: bool = False


class ActionWriteAsked(Params, frozen=True, kw_only=True):
    """One write, as `state.set` makes it. `${params.NAME}` and `${self}` stand for a parameter and for the handle of
    whoever invokes the action, in `key`, `scope` and `value`. With `expr` true `value` is an expression, and what it is
    worth is written; a text in `expr` is a view."""

    key: Key
    value: Any = None
    scope: Short = SHARED
    increment: bool | int | float = False
    merge: bool = False
    append: bool = False
    delete: bool = False
    expr: bool | Source | None = None
    enabled: Source | None = None
    timer: TimerAsked | None = None


class OnInvoke(Params, frozen=True, kw_only=True):
    """A timer that begins with each invocation: with the effect `enable` the action has to cool down, with `delete` it
    is gone so long after the last one."""

    timer: TimerAsked


class RegisterAction(Params, frozen=True, kw_only=True):
    """`if` has to be true for the action to be invoked, and `enabled` for it to be there. In the scope `_shared` it is
    everybody's; in an agent's own scope it carries that agent's authority, who alone changes it. `reset_cooldown` lets
    it be invoked at once."""

    id: Key
    scope: Short = SHARED
    gate: Source | None = msgspec.field(name="if", default=None)
    enabled: Source | None = None
    description: Annotated[str, Meta(max_length=MAX_DESCRIPTION)] = ""
    params: Annotated[dict[ParamName, ActionParam], Meta(max_length=MAX_ACTION_PARAMS)] = {}
    writes: Annotated[tuple[ActionWriteAsked, ...], Meta(max_length=MAX_WRITES)] = ()
    on_invoke: OnInvoke | None = None
    result: Source | None = None
    timer: TimerAsked | None = None
    if_version: Annotated[int, Meta(ge=0)] | None = None
    reset_cooldown: bool = False
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class DeleteAction(Params, frozen=True, kw_only=True):
    id: Key
    if_version: Annotated[int, Meta(ge=0)] | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class ListActions(Params, frozen=True, kw_only=True):
    """The actions that are there for the asker, by their names; `id` names one of them. With `expand_params`, and where
    one is named, each says besides for which values of its parameters it can be invoked, the other parameters at their
    defaults. `after` is the last action of the page before."""

    id: Key | None = None
    expand_params: bool = False
    after: Key | None = None
    room: Short | None = None


class InvokeAction(Params, frozen=True, kw_only=True):
    id: Key
    params: Annotated[dict[Short, Any], Meta(max_length=MAX_ACTION_PARAMS)] = {}
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class ActionShown(Result, frozen=True, kw_only=True):
    """An action as whoever asks may invoke it. `available` is whether they can now, and `reason` why not (as in
    `Availability`); `available_at` or `ticks_left` says how long it still has to cool down. `availability_by_param`
    says the same for each value of each parameter that has an `enum`. `dormant` is that it is not there for whoever
    asks, who registered it just now."""

    id: str
    scope: str
    version: int
    registered_by: str
    registered_at: int
    available: bool
    reason: str | msgspec.UnsetType = msgspec.UNSET
    available_at: int | msgspec.UnsetType = msgspec.UNSET
    ticks_left: int | msgspec.UnsetType = msgspec.UNSET
    description: PeerText | msgspec.UnsetType = msgspec.UNSET
    gate: str | msgspec.UnsetType = msgspec.field(name="if", default=msgspec.UNSET)
    enabled: str | msgspec.UnsetType = msgspec.UNSET
    params: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    writes: list[dict[str, Any]]
    on_invoke: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    result: str | msgspec.UnsetType = msgspec.UNSET
    timer: TimerShown | msgspec.UnsetType = msgspec.UNSET
    availability_by_param: dict[str, dict[str, Availability]] | msgspec.UnsetType = msgspec.UNSET
    dormant: bool | msgspec.UnsetType = msgspec.UNSET


class ActionRegistered(ActionShown, frozen=True, kw_only=True):
    """`contested` are other actions that write one of the same keys, by their names: two of them may undo each other's
    work. `warning` is as in `StateWritten`."""

    contested: list[str] | msgspec.UnsetType = msgspec.UNSET
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ActionDeleted(Result, frozen=True, kw_only=True):
    id: str
    version: int
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ActionsListed(Result, frozen=True, kw_only=True):
    actions: list[ActionShown]
    more: bool
    room: str
    name: str = ""


class ActionInvoked(Result, frozen=True, kw_only=True):
    """What stands under each key after the invocation, in the order of the writes, and what the action gave.
    `available_at` or `ticks_left` says when it can be invoked again. `warning` is as in `StateWritten`."""

    invoked: bool = True
    action: str
    writes: list[StateEntry]
    result: Any = msgspec.UNSET
    available_at: int | msgspec.UnsetType = msgspec.UNSET
    ticks_left: int | msgspec.UnsetType = msgspec.UNSET
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


_SHOWN: Final = {
    "id": "stoke_fire",
    "scope": SHARED,
    "version": 1,
    "registered_by": samples.ANN,
    "registered_at": samples.AT,
    "available": True,
    "if": "state._shared.wood > 0",
    "writes": [{"key": "wood", "value": -1, "increment": True}],
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="action.register",
            summary="Give writes a name, by which others make them.",
            params=RegisterAction,
            result=ActionRegistered,
            plane="agent",
            http=Route("PUT /rooms/{room}/actions", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "action_owned"),
            facts=("action_registered", "timer_fired"),
            example={
                "id": "stoke_fire",
                "if": "state._shared.wood > 0",
                "writes": [{"key": "wood", "value": -1, "increment": True}],
            },
            answers=({**_SHOWN, **samples.DONE},),
            tool=Offer(
                tool="parler_act",
                verb="register",
                arguments=(
                    Argument(name="define", kind="json", spreads=True, help="{id, if, params, writes, on_invoke...}"),
                ),
            ),
            command="parler action register",
        ),
        Operation(
            name="action.list",
            summary="Show the actions of a room, and which of them you can invoke.",
            params=ListActions,
            result=ActionsListed,
            plane="agent",
            http=Route("GET /rooms/{room}/actions", "read"),
            effect="read",
            errors=(*STATE_READING, "no_such_action"),
            facts=("timer_fired",),
            example={},
            answers=({"actions": [_SHOWN], "more": False, **samples.PLACED},),
            tool=Offer(tool="parler_act", verb="actions"),
            command="parler action list",
        ),
        Operation(
            name="action.invoke",
            summary="Make the writes of an action of a room: all of them, or none.",
            params=InvokeAction,
            result=ActionInvoked,
            plane="agent",
            http=Route("POST /rooms/{room}/actions/{id}/invoke", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "no_such_key", "no_such_action", "action_disabled", "action_cooldown"),
            facts=(*STATE_WRITES, "state_deleted", "action_invoked", "message_posted"),
            example={"id": "stoke_fire"},
            answers=(
                {
                    "invoked": True,
                    "action": "stoke_fire",
                    "writes": [{**samples.ENTRY, "key": "wood", "value": 4, "version": 2}],
                    **samples.DONE,
                },
            ),
            tool=Offer(tool="parler_act", verb="invoke", arguments=(Argument(name="params", kind="json"),)),
            command="parler action invoke",
        ),
        Operation(
            name="action.delete",
            summary="Delete an action of a room.",
            params=DeleteAction,
            result=ActionDeleted,
            plane="agent",
            http=Route("DELETE /rooms/{room}/actions/{id}", "state"),
            effect="destructive",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "no_such_action", "action_owned"),
            facts=("action_deleted", "timer_fired"),
            example={"id": "stoke_fire"},
            answers=({"id": "stoke_fire", "version": 1, **samples.DONE},),
            tool=Offer(tool="parler_state", verb="delete_action", arguments=(Argument(name="key", field="id"),)),
            command="parler action delete",
        ),
    )
)
