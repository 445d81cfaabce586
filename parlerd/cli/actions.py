"""`parler action ...` and `affordances`: the actions of a room, and what may be done there.

Not here: who may do what (the core). Above: `commands`. Below: `context`, `render`, `state`. Invariant: what an action
says of itself is shown as text of its author, and never run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, json_value, unicode_text, whole
from parlerd.cli.render import counted, span_of, within
from parlerd.cli.state import (
    agree_to_delete,
    document_of,
    once_argument,
    place_of,
    say_life,
    say_seen,
    short,
    whole_of,
    yes_argument,
)
from parlerd.core.model import SHARED
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from parlerd.cli.output import Cell, Span

_SECTION: Final = "Coordinate"
_REASONS: Final = {
    "needs_params": "needs parameters",
    "action_cooldown": "cools down",
    "precondition_failed": "its condition is not true",
    "expression_failed": "its condition comes to no value",
    "expression_budget": "its condition takes too long",
    "scope_denied": "it writes another's scope",
}
"""Why an action cannot be invoked, in words."""


def _id_argument(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the action, such as `stoke_fire`")


# -- registering -------------------------------------------------------------------------------------------


def _register_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--file",
        metavar="FILE",
        default="-",
        help='JSON: {"id": ..., "if": ..., "params": ..., "writes": [{"key": ..., "value": ...}]}; - reads stdin',
    )
    once_argument(parser)
    room_argument(parser)


def _register(ctx: Context, args: Namespace) -> int:
    import msgspec

    given = document_of(ctx, args.file, path="parler action register")
    if not isinstance(given, dict):
        raise UsageError("an action is a JSON object", path="parler action register")
    fields = {**given, "idempotency_key": args.once or new_key()}
    if args.room is not None:
        fields["room"] = args.room
    try:
        params = msgspec.convert(fields, t.RegisterAction)
    except msgspec.ValidationError as error:
        raise UsageError(f"this is no action: {error}", path="parler action register") from None
    found = ctx.call_again("action.register", params, t.ActionRegistered)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    again = " (before, and not again)" if found.replayed else ""
    ctx.out.say("The action ", (found.id, "bold"), f" is registered, version {found.version}{again}.")
    if found.dormant is True:
        ctx.out.note("It is not there now.")
    say_seen(ctx, found.warning)
    if isinstance(found.contested, list):
        ctx.out.note(f"It writes a key that other actions write too: {', '.join(found.contested)}")
    return DONE


# -- looking -----------------------------------------------------------------------------------------------


def _list_arguments(parser: Parser) -> None:
    parser.add_argument("id", nargs="?", type=unicode_text, metavar="ID", help="only this action, with all of it")
    parser.add_argument(
        "--expand-params", action="store_true", help="say for which values of its parameters each is available"
    )
    room_argument(parser)


def _list(ctx: Context, args: Namespace) -> int:
    found: list[t.ActionShown] = []
    after: str | None = None
    more, name = True, ""
    while more:
        params = t.ListActions(id=args.id, expand_params=args.expand_params, after=after, room=args.room)
        page = ctx.call_again("action.list", params, t.ActionsListed)
        found += page.actions
        last = page.actions[-1].id if page.actions else None
        # A home that repeats a page is asked no further: that would never end.
        more, name = page.more and last is not None and (after is None or last > after), page.name
        after = last
    if ctx.out.json:
        ctx.out.document({"actions": found, "more": more})
        return DONE
    if not found:
        ctx.out.say(f"There is no action in '{name}'.")
        return DONE
    if args.id is not None:
        _show(ctx, found[0])
        return DONE
    ctx.out.table(("action", "available", "parameters", "of", "what it does"), [_row(ctx, each) for each in found])
    if args.expand_params:
        for each in found:
            _show_values(ctx, each)
    return DONE


def _row(ctx: Context, action: t.ActionShown) -> Sequence[Cell]:
    return (
        (action.id, "bold"),
        ("yes", "good") if action.available else (_why_not(ctx, action), "warn"),
        ", ".join(action.params) if isinstance(action.params, dict) else "",
        "everybody" if action.scope == SHARED else (action.scope, "name"),
        action.description if isinstance(action.description, str) else "",
    )


def _why_not(ctx: Context, action: t.ActionShown) -> str:
    if isinstance(action.available_at, int):
        return f"in {span_of(max(0.0, action.available_at / 1000 - ctx.now()))}"
    if isinstance(action.ticks_left, int):
        return f"after {counted(action.ticks_left, 'write')}"
    return _reason(action.reason)


def _reason(code: Any) -> str:
    return _REASONS.get(code, f"no: {code}") if isinstance(code, str) else "no"


def _show(ctx: Context, action: t.ActionShown) -> None:
    """All of one action."""
    out = ctx.out
    out.say((action.id, "bold"), f", version {action.version}, registered by ", (action.registered_by, "name"))
    if isinstance(action.description, str):
        out.text(action.description)
    out.say("available: ", ("yes", "good") if action.available else (_why_not(ctx, action), "warn"))
    for label, text in (("if", action.gate), ("enabled", action.enabled), ("result", action.result)):
        if isinstance(text, str):
            out.say(f"{label}: ", text, hang=2)
    for label, value in (("params", action.params), ("writes", action.writes), ("on_invoke", action.on_invoke)):
        if value and isinstance(value, dict | list):
            for each in value if isinstance(value, list) else [value]:
                out.say(f"{label}: ", whole_of(each), hang=2)
    _show_values(ctx, action)


def _show_values(ctx: Context, action: t.ActionShown) -> None:
    if not isinstance(action.availability_by_param, dict):
        return
    for name, values in action.availability_by_param.items():
        said = [f"{value}: {'yes' if each.available else _reason(each.reason)}" for value, each in values.items()]
        ctx.out.say((f"{action.id}, {name}", "bold"), f": {'; '.join(said)}", hang=2)


# -- invoking ----------------------------------------------------------------------------------------------


def _invoke_arguments(parser: Parser) -> None:
    _id_argument(parser)
    parser.add_argument("--params", type=json_value, metavar="JSON", default=None, help='as {"item": "trap"}')
    once_argument(parser)
    room_argument(parser)


def _invoke(ctx: Context, args: Namespace) -> int:
    import msgspec

    given = {} if args.params is None else args.params
    if not isinstance(given, dict):
        raise UsageError("the parameters are a JSON object", path="parler action invoke")
    params = t.InvokeAction(id=args.id, params=given, room=args.room, idempotency_key=args.once or new_key())
    done = ctx.call_again("action.invoke", params, t.ActionInvoked)
    if ctx.out.json:
        ctx.out.document(done)
        return DONE
    again = " before, and not again" if done.replayed else ""
    ctx.out.say(("Done", "good"), f"{again}: ", (done.action, "bold"), f", {counted(len(done.writes), 'key')} written.")
    for each in done.writes:
        ctx.out.say(*place_of(each), " is deleted." if each.deleted is True else f" is {short(each.value)}.")
        say_life(ctx, each)
    say_seen(ctx, done.warning)
    if done.result is not msgspec.UNSET:
        ctx.out.say(("result", "bold"), f": {short(done.result)}")
    if isinstance(done.available_at, int):
        ctx.out.note(f"It can be invoked again in {span_of(max(0.0, done.available_at / 1000 - ctx.now()))}.")
    elif isinstance(done.ticks_left, int):
        ctx.out.note(f"It can be invoked again after {counted(done.ticks_left, 'write')}.")
    return DONE


def _delete_arguments(parser: Parser) -> None:
    _id_argument(parser)
    parser.add_argument("--if-version", type=whole, metavar="N", help="only while the action is at version N")
    yes_argument(parser)
    once_argument(parser)
    room_argument(parser)


def _delete(ctx: Context, args: Namespace) -> int:
    agree_to_delete(ctx, args, f"the action {args.id}")
    params = t.DeleteAction(
        id=args.id, if_version=args.if_version, room=args.room, idempotency_key=args.once or new_key()
    )
    gone = ctx.call_again("action.delete", params, t.ActionDeleted)
    if ctx.out.json:
        ctx.out.document(gone)
        return DONE
    ctx.out.say(("Deleted", "good"), ": the action ", (gone.id, "bold"), f", which was at version {gone.version}.")
    return DONE


# -- what may be done --------------------------------------------------------------------------------------


def _affordances_arguments(parser: Parser) -> None:
    room_argument(parser)


def _affordances(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("room.affordances", t.ListAffordances(room=args.room), t.Affordances)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    rows: list[Sequence[Cell]] = []
    for each in found.affordances:
        rows.append((_command(each.operation), ("yes", "good") if each.allowed else (_refusal(each.reason), "warn")))
    for action in found.actions if isinstance(found.actions, list) else []:
        said: Cell = ("yes", "good") if action.available else (_reason(action.reason), "warn")
        rows.append((f"parler action invoke {action.id}", said))
    ctx.out.say((found.you, "name"), " in ", (found.name or found.room, "bold"), ":")
    ctx.out.table(("command", "you may"), rows)
    for step in found.next:
        ctx.out.say(("next: ", "bold"), *_step(step, args.room))
    if found.notice:
        ctx.out.note(found.notice)
    return DONE


def _command(operation: str) -> str:
    """The command that runs an operation; the operation's own name where a newer home says one."""
    from parlerd.operations.registry import OPERATIONS

    return OPERATIONS[operation].command if operation in OPERATIONS else operation


def _step(step: t.NextStep, room: str | None) -> list[Span]:
    if not step.operation:
        return [_WHYS[step.why]]
    words = _command(step.operation)
    id = step.params.get("id")
    named = f" {id}" if isinstance(id, str) else ""
    wait = step.params.get("wait_ms")
    waits = f" --wait {wait // 1000}" if isinstance(wait, int) else ""
    return [(f"{words}{named}{waits}{within(room)}", "bold"), f" ({_WHYS[step.why]})"]


def _refusal(code: Any) -> str:
    return _REFUSALS.get(code, f"no: {code}") if isinstance(code, str) else "no"


_REFUSALS: Final = {
    "not_owner": "only the room's owner",
    "room_closed": "the room is closed",
    "not_a_worker": "only who sees the room",
}
_WHYS: Final = {
    "offer": "the turn is offered to you",
    "claim_ends": "your claim ends soon",
    "unread": "there is something that you have not read",
    "knock": "somebody knocks, and your person decides",
    "open_work": "there is open work",
    "wait": "nothing waits for you",
}
"""Why a step is the next one, in words."""

HANDLERS: Final = {
    "affordances": Handler(
        _affordances_arguments, _affordances, section=_SECTION, rank=125, examples=("parler affordances",)
    ),
    "action register": Handler(
        _register_arguments,
        _register,
        section=_SECTION,
        rank=130,
        examples=("parler action register --file stoke.json",),
        gives_receipt=True,
    ),
    "action list": Handler(
        _list_arguments,
        _list,
        section=_SECTION,
        rank=140,
        examples=("parler action list", "parler action list craft --expand-params"),
    ),
    "action invoke": Handler(
        _invoke_arguments,
        _invoke,
        section=_SECTION,
        rank=150,
        examples=("parler action invoke stoke_fire", 'parler action invoke craft --params \'{"item": "trap"}\''),
        gives_receipt=True,
    ),
    "action delete": Handler(
        _delete_arguments,
        _delete,
        section=_SECTION,
        rank=160,
        examples=("parler action delete stoke_fire",),
        gives_receipt=True,
    ),
}
