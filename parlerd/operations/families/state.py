"""Coordination: the versioned state of a room."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import MAX_WRITES, SHARED
from parlerd.operations import samples
from parlerd.operations.entry import (
    WAIT_ARGUMENT,
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
    ToolEntry,
    WaitingParams,
)
from parlerd.operations.shared import (
    EXPRESSIONS,
    STATE_READING,
    STATE_WRITES,
    STATE_WRITING,
    Key,
    Source,
    StateEntry,
    TimerAsked,
)

MAX_ENTRIES: Final = 500
"""Entries or versions in one answer at most; a larger limit means this."""
Cursor = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
"""A place in the log of a room, which only the room's home can read."""
Include = Annotated[str, Meta(max_length=80, pattern=r"^(state(\.[^\s.]+)?|agents|messages|actions)\Z")]


class Written(Params, frozen=True, kw_only=True):
    """What one write does. `if` is an expression that has to be true, and `if_version` the version that the key must
    have, 0 for none at all. A view has `expr`, an expression, in place of a value, and the scope `_view`. `enabled` is
    an expression that has to be true for the entry to be there.

    With `increment` the key's number grows by that number, or by `value` where it is true. With `merge` the members of
    `value` are laid over the object there, and with `append` the list there grows by `value`."""

    key: Key
    value: Any = None
    scope: Short = SHARED
    increment: bool | int | float = False
    merge: bool = False
    append: bool = False
    gate: Source | None = msgspec.field(name="if", default=None)
    if_version: Annotated[int, Meta(ge=0)] | None = None
    expr: Source | None = None
    enabled: Source | None = None
    timer: TimerAsked | None = None


class BatchedWrite(Written, frozen=True, kw_only=True):
    delete: bool = False


class SetState(Written, frozen=True, kw_only=True):
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class DeleteState(Params, frozen=True, kw_only=True):
    key: Key
    scope: Short = SHARED
    gate: Source | None = msgspec.field(name="if", default=None)
    if_version: Annotated[int, Meta(ge=0)] | None = None
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class BatchState(Params, frozen=True, kw_only=True):
    """Writes that happen together or not at all, each over what those before it left."""

    writes: Annotated[tuple[BatchedWrite, ...], Meta(min_length=1, max_length=MAX_WRITES)]
    gate: Source | None = msgspec.field(name="if", default=None)
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class GetState(Params, frozen=True, kw_only=True):
    key: Key
    scope: Short = SHARED
    room: Short | None = None


class ListState(Params, frozen=True, kw_only=True):
    """Without a scope, the entries of all scopes. `after` names the last entry of the page before, by its scope and
    its key. `at` is a moment, in epoch milliseconds, and `at_seq` the asker's own number of a message: the state is
    shown as it was then."""

    scope: Short | None = None
    after: tuple[Short, Short] | None = None
    limit: Annotated[int, Meta(ge=1)] = MAX_ENTRIES
    at: Annotated[int, Meta(ge=0)] | None = None
    at_seq: Annotated[int, Meta(ge=0)] | None = None
    room: Short | None = None


class HistoryOfState(Params, frozen=True, kw_only=True):
    """The newest versions first; `before` is the version before which a page ends."""

    key: Key
    scope: Short = SHARED
    before: Annotated[int, Meta(ge=1)] | None = None
    limit: Annotated[int, Meta(ge=1)] = 50
    room: Short | None = None


class RenewTimer(Params, frozen=True, kw_only=True):
    """The timer of a key, or of the action that `key` names."""

    of: Literal["key", "action"] = "key"
    key: Key
    scope: Short = SHARED
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class HideScope(Params, frozen=True, kw_only=True):
    """`hidden` lets only its own agent read the caller's scope, or everybody again. With `everybodys` the room's owner
    says so for every agent that said nothing itself."""

    hidden: bool
    everybodys: bool = False
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class Evaluate(Params, frozen=True, kw_only=True):
    expr: Source
    room: Short | None = None


class WaitUntil(WaitingParams, frozen=True, kw_only=True):
    """`include` names what the answer shows besides: `state`, `state.SCOPE`, `agents`, `messages`, `actions`."""

    condition: Source
    include: Annotated[tuple[Include, ...], Meta(max_length=32)] = ()
    room: Short | None = None


class FollowState(WaitingParams, frozen=True, kw_only=True):
    """What changes under one key, in one scope, or in all of them. `after` is the `cursor` of an earlier answer;
    without it nothing is told but the cursor of now, at once."""

    scope: Short | None = None
    key: Key | None = None
    after: Cursor | None = None
    limit: Annotated[int, Meta(ge=1)] = 100
    room: Short | None = None


class StateRead(StateEntry, frozen=True, kw_only=True):
    room: str
    name: str = ""


class StateWritten(StateRead, frozen=True, kw_only=True):
    """`warning` is there when a window writes for the first time into the state of a sealed room: its home sees what is
    written. Actions, modules and conditions belong to the state."""

    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class BatchWritten(Result, frozen=True, kw_only=True):
    """What stands under each key after the batch, in the order of the writes. `warning` is as in `StateWritten`."""

    writes: list[StateEntry]
    room: str
    name: str = ""
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class StateListed(Result, frozen=True, kw_only=True):
    entries: list[StateEntry]
    more: bool
    room: str
    name: str = ""


class StateVersion(Result, frozen=True, kw_only=True):
    """One version of a key: who wrote it, when, through which door and by which request. `deleted` is that the key had
    no value from then on, `expired` that this was because its timer ran out, and `erased` that the value is kept no
    more."""

    version: int
    value: Any
    updated_by: str
    updated_at: int
    via: str
    request: str | None
    deleted: bool = False
    erased: bool = False
    expired: bool = False
    expr: str | msgspec.UnsetType = msgspec.UNSET


class StateHistory(Result, frozen=True, kw_only=True):
    """`from` is the first version that is known here."""

    scope: str
    key: str
    versions: list[StateVersion]
    more: bool
    first: int = msgspec.field(name="from")
    room: str
    name: str = ""


class StateChange(Result, frozen=True, kw_only=True):
    """One change of an entry, as the log tells of it: it was `written` or `deleted`, it `expired` (its timer deleted
    it), or it was `enabled` (its timer ran out, and it is there from then on). `updated_by` is whose change it was,
    empty where time alone did it; `updated_at` is when, in epoch milliseconds of the room's time.

    `value` is what was written, also where the entry is not there yet: `dormant` says that its timer has to run out
    first, and `enabled` is the expression that has to be true besides. Of an entry that was enabled the value is what
    stands there now, if that version still does; else `value` is null, as it is for a view, whose expression is `expr`,
    and for a value that is kept no more (`erased`)."""

    scope: str
    key: str
    change: Literal["written", "deleted", "expired", "enabled"]
    value: Any
    version: int
    updated_by: str
    updated_at: int
    expr: str | msgspec.UnsetType = msgspec.UNSET
    enabled: str | msgspec.UnsetType = msgspec.UNSET
    dormant: bool | msgspec.UnsetType = msgspec.UNSET
    erased: bool | msgspec.UnsetType = msgspec.UNSET


class StateChanges(Result, frozen=True, kw_only=True):
    """What changed after the cursor, the oldest first, as far as the asker may see it: nothing of a scope that is
    hidden from it now, and nothing that the history of the room does not show it. `cursor` is where to go on, and with
    `more` there is more at once.

    Only what was written, deleted or ran out is a change. That what an expression is worth changed (the value of a
    view, whether an entry is there by its `enabled`) is told by no change here, nor are the renewal of a timer, its
    ticks, and who reads which scope."""

    changes: list[StateChange]
    cursor: Cursor
    more: bool
    room: str
    name: str = ""


class ScopeShown(Result, frozen=True, kw_only=True):
    """Who reads a scope now. An empty scope stands for every agent's that said nothing itself."""

    scope: str
    hidden: bool
    room: str
    name: str = ""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class Evaluated(Result, frozen=True, kw_only=True):
    value: Any
    room: str
    name: str = ""


class WaitEnded(Result, frozen=True, kw_only=True):
    """How a wait ended: the condition is true (`triggered`), its time is over, or everybody who is present waits and
    nothing is due that could change anything (`deadlock_suspected`: who waits for what). `value` is what the condition
    was worth last, null where it came to no value, and then `condition_error` says why. Further fields are what was to
    be included; `cut` names what was too much for one answer."""

    triggered: bool
    condition: str
    value: Any
    elapsed_ms: int
    condition_error: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    deadlock_suspected: dict[str, list[str]] | msgspec.UnsetType = msgspec.UNSET
    state: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    agents: dict[str, dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    messages: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    actions: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    cut: list[str] | msgspec.UnsetType = msgspec.UNSET
    room: str
    name: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="state.get",
            summary="Read one key of a room's state.",
            params=GetState,
            result=StateRead,
            plane="agent",
            http=Route("GET /rooms/{room}/state/entry", "read"),
            effect="read",
            errors=(*STATE_READING, "no_such_key", "expression_failed"),
            facts=("timer_fired",),
            example={"key": "phase"},
            answers=({**samples.ENTRY, **samples.PLACED},),
            tool=Offer(tool="parler_state", verb="get", arguments=(Argument(name="offset", kind="integer"),)),
            command="parler state get",
        ),
        Operation(
            name="state.list",
            summary="Read a room's state.",
            params=ListState,
            result=StateListed,
            plane="agent",
            http=Route("GET /rooms/{room}/state", "read"),
            effect="read",
            errors=STATE_READING,
            facts=("timer_fired",),
            example={},
            answers=({"entries": [samples.ENTRY], "more": False, **samples.PLACED},),
            tool=Offer(tool="parler_state", verb="list"),
            command="parler state list",
        ),
        Operation(
            name="state.set",
            summary="Write one key of a room's state.",
            params=SetState,
            result=StateWritten,
            plane="agent",
            http=Route("PUT /rooms/{room}/state", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=STATE_WRITING,
            facts=STATE_WRITES,
            example={"key": "phase", "value": "planning"},
            answers=({**samples.ENTRY, **samples.DONE},),
            tool=Offer(
                tool="parler_state",
                verb="set",
                arguments=(
                    Argument(name="value", kind="json", is_free=True, help="JSON or text"),
                    Argument(name="increment", kind="boolean"),
                    Argument(name="merge", kind="boolean"),
                    Argument(name="append", kind="boolean"),
                    Argument(name="enabled"),
                    Argument(name="timer", kind="json", help='{"ms":60000,"effect":"delete"}, or ticks and tick_on'),
                ),
            ),
            command="parler state set",
        ),
        Operation(
            name="state.delete",
            summary="Delete one key of a room's state.",
            params=DeleteState,
            result=StateWritten,
            plane="agent",
            http=Route("DELETE /rooms/{room}/state", "state"),
            effect="destructive",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "no_such_key"),
            facts=("state_deleted", "timer_fired"),
            example={"key": "phase"},
            answers=({**samples.ENTRY, "value": None, "deleted": True, **samples.DONE},),
            tool=Offer(tool="parler_state", verb="delete"),
            command="parler state delete",
        ),
        Operation(
            name="state.batch",
            summary="Write several keys of a room's state, all or none.",
            params=BatchState,
            result=BatchWritten,
            plane="agent",
            http=Route("PUT /rooms/{room}/state/batch", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "no_such_key"),
            facts=(*STATE_WRITES, "state_deleted"),
            example={"writes": [{"key": "turn", "value": 1, "increment": True}]},
            answers=({"writes": [samples.ENTRY], **samples.DONE},),
            tool=Offer(tool="parler_state", verb="batch", arguments=(Argument(name="writes", kind="json"),)),
            command="parler state batch",
        ),
        Operation(
            name="state.history",
            summary="Show who wrote which version of a key.",
            params=HistoryOfState,
            result=StateHistory,
            plane="agent",
            http=Route("GET /rooms/{room}/state/history", "read"),
            effect="read",
            errors=(*STATE_READING, "no_such_key"),
            facts=("timer_fired",),
            example={"key": "phase"},
            answers=(
                {
                    "scope": SHARED,
                    "key": "phase",
                    "versions": [
                        {
                            "version": 1,
                            "value": "planning",
                            "updated_by": samples.ANN,
                            "updated_at": samples.AT,
                            "via": "cli",
                            "request": "k_1",
                        }
                    ],
                    "more": False,
                    "from": 1,
                    **samples.PLACED,
                },
            ),
            tool=Offer(tool="parler_state", verb="history"),
            command="parler state history",
        ),
        Operation(
            name="state.changes",
            summary="Follow what changes in a room's state.",
            params=FollowState,
            result=StateChanges,
            plane="agent",
            http=Route("GET /rooms/{room}/state/changes", "read"),
            effect="read",
            waits=True,
            errors=STATE_READING,
            facts=("timer_fired",),
            example={"scope": SHARED, "wait_ms": 25_000},
            answers=(
                {
                    "changes": [
                        {
                            "scope": SHARED,
                            "key": "phase",
                            "change": "written",
                            "value": "planning",
                            "version": 1,
                            "updated_by": samples.ANN,
                            "updated_at": samples.AT,
                        }
                    ],
                    "cursor": "pkI6vBv5BcbC8LE3pvXpqJ0eYkXJdGfU",
                    "more": False,
                    **samples.PLACED,
                },
            ),
            command="parler state watch",
        ),
        Operation(
            name="timer.renew",
            summary="Let the timer of a key begin again.",
            params=RenewTimer,
            result=StateWritten,
            plane="agent",
            http=Route("POST /rooms/{room}/state/timer", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "no_such_key", "no_such_action", "action_owned"),
            facts=("timer_renewed", "timer_fired"),
            example={"key": "fire_lit"},
            answers=(
                {
                    **samples.ENTRY,
                    "timer": {"effect": "delete", "at": samples.AT + 60_000, "ms": 60_000},
                    **samples.DONE,
                },
            ),
            tool=Offer(tool="parler_state", verb="renew"),
            command="parler timer renew",
        ),
        Operation(
            name="state.hide",
            summary="Let nobody else read this agent's scope of the state, or everybody again.",
            params=HideScope,
            result=ScopeShown,
            plane="agent",
            http=Route("PUT /rooms/{room}/state/hidden", "state"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*STATE_WRITING, "not_owner"),
            facts=("scope_hidden", "timer_fired"),
            example={"hidden": True},
            answers=({"scope": samples.ANN, "hidden": True, **samples.PLACED},),
            tool=Offer(tool="parler_state", verb="hide", arguments=(Argument(name="hidden", kind="boolean"),)),
            command="parler state private",
        ),
        Operation(
            name="state.evaluate",
            summary="Evaluate an expression over a room's state.",
            params=Evaluate,
            result=Evaluated,
            plane="agent",
            http=Route("POST /rooms/{room}/eval", "read"),
            effect="read",
            errors=(*STATE_READING, *EXPRESSIONS),
            facts=("timer_fired",),
            example={"expr": "state._shared.turn > 2"},
            answers=({"value": True, **samples.PLACED},),
            tool=Offer(tool="parler_state", verb="eval"),
            command="parler eval",
        ),
        Operation(
            name="state.wait",
            summary="Wait until a condition over a room's state is true.",
            params=WaitUntil,
            result=WaitEnded,
            plane="agent",
            http=Route("GET /rooms/{room}/wait", "read"),
            effect="read",
            waits=True,
            errors=(*STATE_READING, "room_closed", "expression_invalid", "scope_denied", "state_full"),
            facts=("timer_fired",),
            example={"condition": 'state._shared.phase == "done"'},
            answers=(
                {
                    "triggered": True,
                    "condition": 'state._shared.phase == "done"',
                    "value": True,
                    "elapsed_ms": 1200,
                    "state": {"_shared": {"phase": "done"}},
                    **samples.PLACED,
                },
            ),
            tool=Offer(
                tool="parler_state",
                verb="wait",
                arguments=(
                    Argument(name="expr", field="condition"),
                    Argument(name="include", kind="lines"),
                    WAIT_ARGUMENT,
                ),
            ),
            command="parler wait",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_state",
            title="State",
            does="Read and write the room's versioned keys, evaluate or wait for CEL conditions over them.",
            arguments=(
                Argument(name="key"),
                Argument(name="scope", help="_shared, or an agent"),
                Argument(name="if", help="CEL"),
                Argument(name="if_version", kind="integer"),
                Argument(name="expr", help="CEL; to set: a view"),
                Argument(name="room"),
            ),
            default="list",
            example={"action": "wait", "expr": "state._shared.turn == 2"},
            is_core=False,
        ),
    ),
)
