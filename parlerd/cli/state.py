"""`parler state ...`, `view ...`, `timer renew`, `eval` and `wait`.

Not here: who may write what (the core). Above: `commands`. Below: `context`, `render`. Invariant: a value that is
printed for people is JSON on one line, so that a text is told from a number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.messages import given_text
from parlerd.cli.output import DONE, moment
from parlerd.cli.parsing import NotJson, Parser, UsageError, json_value, positive, seconds, timer, unicode_text, whole
from parlerd.cli.render import counted, span_of
from parlerd.core.model import ACTIONS, SHARED, VIEWS
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from parlerd.cli.output import Cell, Span

SHOWN: Final = 72
"""Characters of a value that a table shows; `parler state get` shows all of it."""
_SECTION: Final = "Coordinate"


def _key_argument(parser: Parser) -> None:
    parser.add_argument("key", type=unicode_text, metavar="KEY", help="a key, such as `phase`")


def _place_arguments(parser: Parser, scope: str = SHARED) -> None:
    parser.add_argument(
        "--scope",
        type=unicode_text,
        default=scope or None,
        metavar="S",
        help=f"{SHARED}, or an agent's name" + ("" if scope else " (default: all)"),
    )
    room_argument(parser)


def once_argument(parser: Parser) -> None:
    """The argument of a write by which it happens once."""
    parser.add_argument("--once", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def yes_argument(parser: Parser) -> None:
    """The argument by which `agree_to_delete` asks nothing."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def agree_to_delete(ctx: Context, args: Namespace, what: str) -> None:
    """Ask whoever types at a terminal whether to delete something, for example `the key turn`. Raises
    `ParlerError(needs_yes)`."""
    if not args.yes and ctx.stdin.isatty():
        ctx.agree(f"Delete {what}?")


def _write_arguments(parser: Parser) -> None:
    parser.add_argument("--if", dest="gate", type=unicode_text, metavar="EXPR", help="only while EXPR is true")
    parser.add_argument(
        "--if-version", type=whole, metavar="N", help="only while the key is at version N; 0: while it has no value"
    )
    once_argument(parser)


def _life_arguments(parser: Parser) -> None:
    parser.add_argument("--enabled", type=unicode_text, metavar="EXPR", help="it is there only while EXPR is true")
    parser.add_argument(
        "--timer",
        type=timer,
        metavar="JSON",
        help='{"ms": 60000, "effect": "delete"}, or at, or ticks with tick_on; effect enable: there only afterwards',
    )


# -- reading -----------------------------------------------------------------------------------------------


def _get_arguments(parser: Parser) -> None:
    _key_argument(parser)
    _place_arguments(parser)


def _get(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("state.get", t.GetState(key=args.key, scope=args.scope, room=args.room), t.StateRead)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    ctx.out.text(whole_of(found.value))
    ctx.out.note(*_about(ctx, found))
    return DONE


def _list_arguments(parser: Parser) -> None:
    _place_arguments(parser, "")
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--at", type=_instant, metavar="TIME", help="the state at that time, as 2026-03-01T09:00 or epoch milliseconds"
    )
    when.add_argument("--at-seq", type=whole, metavar="N", help="the state when your message number N came")
    parser.add_argument("--limit", type=positive, metavar="N", help="entries that are shown (default: all)")


def _list(ctx: Context, args: Namespace) -> int:
    entries, more, name = _entries(
        ctx, args.limit, t.ListState(scope=args.scope, at=args.at, at_seq=args.at_seq, room=args.room)
    )
    if ctx.out.json:
        ctx.out.document({"entries": entries, "more": more})
        return DONE
    if not entries:
        ctx.out.say(f"There is nothing in the state of '{name}'." if args.scope is None else "There is nothing there.")
        return DONE
    ctx.out.table(
        ("scope", "key", "value", "version", "by", "ago"),
        [_row(each, ctx.now()) for each in entries],
    )
    if more:
        ctx.out.note("There are more. To see more of them: --limit")
    return DONE


def _entries(ctx: Context, limit: int | None, asked: t.ListState) -> tuple[list[t.StateEntry], bool, str]:
    """The entries that a question finds, asked page after page, at most `limit` of them; whether there are more; and
    the name of the room."""
    import msgspec

    entries: list[t.StateEntry] = []
    after: tuple[str, str] | None = None
    more = True
    name = ""
    while more and (limit is None or len(entries) < limit):
        many = t.MAX_ENTRIES if limit is None else min(t.MAX_ENTRIES, limit - len(entries))
        page = ctx.call_again("state.list", msgspec.structs.replace(asked, after=after, limit=many), t.StateListed)
        entries += page.entries
        last = (page.entries[-1].scope, page.entries[-1].key) if page.entries else None
        # A home that repeats a page is asked no further: that would never end.
        more, name = page.more and last is not None and (after is None or last > after), page.name
        after = last
    return entries, more, name


def _row(entry: t.StateEntry, now: float) -> Sequence[Cell]:
    return (
        entry.scope,
        (entry.key, "bold"),
        short(entry.value),
        str(entry.version),
        (entry.updated_by, "name"),
        span_of(max(0.0, now - entry.updated_at / 1000)),
    )


def _history_arguments(parser: Parser) -> None:
    _key_argument(parser)
    _place_arguments(parser)
    parser.add_argument("--limit", type=positive, default=50, metavar="N", help="versions that are shown (default 50)")


def _history(ctx: Context, args: Namespace) -> int:
    params = t.HistoryOfState(key=args.key, scope=args.scope, limit=args.limit, room=args.room)
    found = ctx.call_again("state.history", params, t.StateHistory)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    ctx.out.table(
        ("version", "value", "by", "at", "via"),
        [
            (
                str(each.version),
                ("deleted", "dim") if each.deleted else ("erased", "dim") if each.erased else short(each.value),
                (each.updated_by, "name"),
                moment(each.updated_at),
                each.via,
            )
            for each in found.versions
        ],
    )
    if found.more:
        ctx.out.note("There are older versions. To see more of them: --limit")
    return DONE


# -- writing -----------------------------------------------------------------------------------------------


def _set_arguments(parser: Parser) -> None:
    _key_argument(parser)
    parser.add_argument(
        "value",
        nargs="*",
        default=[],
        type=unicode_text,
        metavar="VALUE",
        help="JSON; what is no JSON is a text; - or nothing reads stdin",
    )
    act = parser.add_mutually_exclusive_group()
    act.add_argument("--increment", action="store_true", help="add VALUE, a number, to the number there")
    act.add_argument("--merge", action="store_true", help="lay the members of VALUE, an object, over the object there")
    act.add_argument("--append", action="store_true", help="put VALUE at the end of the list there")
    parser.add_argument("--string", action="store_true", help="VALUE is a text, also where it could be JSON")
    _write_arguments(parser)
    _life_arguments(parser)
    _place_arguments(parser)


def _set(ctx: Context, args: Namespace) -> int:
    text = " ".join(args.value)
    if not args.value or text == "-":
        text = given_text(ctx, args.value, what="the value", path="parler state set")
    params = t.SetState(
        key=args.key,
        value=text if args.string else value_of(text),
        scope=args.scope,
        increment=args.increment,
        merge=args.merge,
        append=args.append,
        gate=args.gate,
        if_version=args.if_version,
        enabled=args.enabled,
        timer=args.timer,
        room=args.room,
        idempotency_key=args.once or new_key(),
    )
    written = ctx.call_again("state.set", params, t.StateWritten)
    if ctx.out.json:
        ctx.out.document(written)
        return DONE
    again = " (before, and not again)" if written.replayed else ""
    # An entry that is not there yet is nothing now, whatever was written; `say_life` says when it is.
    is_now = f"is {short(written.value)} now" if written.dormant is not True else f"is kept as {short(written.value)}"
    ctx.out.say(*place_of(written), f" {is_now}, version {written.version}{again}.")
    say_seen(ctx, written.warning)
    say_life(ctx, written)
    return DONE


def say_seen(ctx: Context, warning: object) -> None:
    """Say who else sees what was written, where an answer says so."""
    if isinstance(warning, str):
        ctx.out.say((warning, "warn"))


def say_life(ctx: Context, entry: t.StateEntry) -> None:
    """Say when an entry will be there, or gone."""
    shown = entry.timer
    if isinstance(shown, t.TimerShown):
        what = "will be gone" if shown.effect == "delete" else "will be there"
        if isinstance(shown.at, int):
            ctx.out.note(f"It {what} in {span_of(max(0.0, shown.at / 1000 - ctx.now()))}.")
        else:
            ctx.out.note(f"It {what} after {counted(int(shown.ticks_left or 0), 'write')} of {shown.tick_on}.")
    if isinstance(entry.enabled, str):
        state = "is not there now" if entry.dormant is True else "is there now"
        ctx.out.note(f"It is there while {entry.enabled}; it {state}.")


def _delete_arguments(parser: Parser) -> None:
    _key_argument(parser)
    _write_arguments(parser)
    _place_arguments(parser)
    yes_argument(parser)


def _delete(ctx: Context, args: Namespace) -> int:
    agree_to_delete(ctx, args, f"the key {args.key}")
    return _delete_key(ctx, args, args.scope, args.key)


def _delete_key(ctx: Context, args: Namespace, scope: str, key: str) -> int:
    params = t.DeleteState(
        key=key,
        scope=scope,
        gate=args.gate,
        if_version=args.if_version,
        room=args.room,
        idempotency_key=args.once or new_key(),
    )
    gone = ctx.call_again("state.delete", params, t.StateWritten)
    if ctx.out.json:
        ctx.out.document(gone)
        return DONE
    ctx.out.say(("Deleted", "good"), ": ", *place_of(gone), f", which was at version {gone.version}.")
    return DONE


def _batch_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--file", metavar="FILE", default="-", help='JSON: {"writes": [{"key": ..., "value": ...}]}; - reads stdin'
    )
    once_argument(parser)
    room_argument(parser)


def _batch(ctx: Context, args: Namespace) -> int:
    import msgspec

    given = document_of(ctx, args.file, path="parler state batch")
    asked = given if isinstance(given, dict) else {"writes": given}
    try:
        fields = {**asked, "room": args.room, "idempotency_key": args.once or new_key()}
        params = msgspec.convert({name: value for name, value in fields.items() if value is not None}, t.BatchState)
    except msgspec.ValidationError as error:
        raise UsageError(f"this is no batch: {error}", path="parler state batch") from None
    done = ctx.call_again("state.batch", params, t.BatchWritten)
    if ctx.out.json:
        ctx.out.document(done)
        return DONE
    again = " before, and not again" if done.replayed else ""
    ctx.out.say((f"{counted(len(done.writes), 'key')} written{again}", "good"), ".")
    for each in done.writes:
        ctx.out.say(*place_of(each), " is deleted." if each.deleted is True else f" is {short(each.value)}.")
    say_seen(ctx, done.warning)
    return DONE


# -- timers, scopes ----------------------------------------------------------------------------------------


def _renew_arguments(parser: Parser) -> None:
    _key_argument(parser)
    parser.add_argument("--action", action="store_true", help="KEY is an action")
    once_argument(parser)
    _place_arguments(parser)


def _renew(ctx: Context, args: Namespace) -> int:
    params = t.RenewTimer(
        of="action" if args.action else "key",
        key=args.key,
        scope=args.scope,
        room=args.room,
        idempotency_key=args.once or new_key(),
    )
    entry = ctx.call_again("timer.renew", params, t.StateWritten)
    if ctx.out.json:
        ctx.out.document(entry)
        return DONE
    ctx.out.say("The timer of ", *place_of(entry), " begins again.")
    say_life(ctx, entry)
    return DONE


def _private_arguments(parser: Parser) -> None:
    parser.add_argument("what", choices=("on", "off"), help="on: only you read your scope; off: everybody in the room")
    parser.add_argument("--everybodys", action="store_true", help="for all agents of the room, as its owner")
    room_argument(parser)


def _private(ctx: Context, args: Namespace) -> int:
    params = t.HideScope(
        hidden=args.what == "on", everybodys=args.everybodys, room=args.room, idempotency_key=new_key()
    )
    done = ctx.call_again("state.hide", params, t.ScopeShown)
    if ctx.out.json:
        ctx.out.document(done)
        return DONE
    whose = "Each agent's scope" if not done.scope else f"The scope {done.scope}"
    readers = "that agent alone" if done.hidden else "everybody in the room"
    ctx.out.say(f"{whose} is read by {readers}.")
    return DONE


# -- expressions -------------------------------------------------------------------------------------------


def _eval_arguments(parser: Parser) -> None:
    parser.add_argument("expr", nargs="+", type=unicode_text, metavar="EXPR", help="as state._shared.turn > 2")
    room_argument(parser)


def _eval(ctx: Context, args: Namespace) -> int:
    params = t.Evaluate(expr=" ".join(args.expr), room=args.room)
    found = ctx.call_again("state.evaluate", params, t.Evaluated)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    ctx.out.text(whole_of(found.value))
    return DONE


def _wait_arguments(parser: Parser) -> None:
    parser.add_argument(
        "condition", nargs="+", type=unicode_text, metavar="EXPR", help='as state._shared.phase == "done"'
    )
    parser.add_argument(
        "--timeout", type=seconds, default=None, metavar="S", help="wait at most S seconds (default: without end)"
    )
    parser.add_argument(
        "--include",
        type=unicode_text,
        metavar="WHAT",
        help="show besides, with commas between: state, state.SCOPE, agents, messages, actions",
    )
    room_argument(parser)


def _wait(ctx: Context, args: Namespace) -> int:
    condition = " ".join(args.condition)
    include = tuple(part for part in (args.include or "").split(",") if part)
    deadline = None if args.timeout is None else ctx.monotonic() + args.timeout / 1000

    def ask(wait_ms: int) -> t.WaitUntil:
        return t.WaitUntil(condition=condition, wait_ms=wait_ms, include=include, room=args.room)

    def is_over(ended: t.WaitEnded) -> bool:
        return ended.triggered or isinstance(ended.deadlock_suspected, dict)

    began = ctx.monotonic()
    with ctx.out.progress("Waiting until it is true"):
        ended = ctx.wait_for("state.wait", ask, t.WaitEnded, deadline=deadline, until=is_over)
    if ctx.out.json:
        import msgspec

        ctx.out.document(msgspec.structs.replace(ended, elapsed_ms=int((ctx.monotonic() - began) * 1000)))
        return DONE
    out = ctx.out
    if ended.triggered:
        out.say(("It is true", "good"), ".")
    elif isinstance(ended.deadlock_suspected, dict):
        out.say(("Everybody waits, and nothing is due that could change anything:", "warn"))
        for name, conditions in ended.deadlock_suspected.items():
            out.say((name, "name"), f" waits for {', '.join(conditions)}", hang=2)
    else:
        out.say(("It did not become true in time", "warn"), f": {short(ended.value)}.")
    if isinstance(ended.condition_error, dict):
        out.note(f"The condition came to no value: {ended.condition_error.get('reason', '')}")
    for name in ("state", "agents", "messages", "actions"):
        shown = getattr(ended, name)
        if isinstance(shown, dict):
            out.say((name, "bold"))
            out.text(whole_of(shown))
    return DONE


def _view_set_arguments(parser: Parser) -> None:
    parser.add_argument("name", type=unicode_text, metavar="NAME", help="read as state._view.NAME")
    parser.add_argument("expr", nargs="+", type=unicode_text, metavar="EXPR", help="what it is worth when it is read")
    _write_arguments(parser)
    _life_arguments(parser)
    room_argument(parser)


def _view_set(ctx: Context, args: Namespace) -> int:
    params = t.SetState(
        key=args.name,
        scope=VIEWS,
        expr=" ".join(args.expr),
        gate=args.gate,
        if_version=args.if_version,
        enabled=args.enabled,
        timer=args.timer,
        room=args.room,
        idempotency_key=args.once or new_key(),
    )
    written = ctx.call_again("state.set", params, t.StateWritten)
    if ctx.out.json:
        ctx.out.document(written)
        return DONE
    worth = f"{short(written.value)} now" if not isinstance(written.error, str) else f"nothing now: {written.error}"
    ctx.out.say("The view ", (written.key, "bold"), f" is worth {worth}, version {written.version}.")
    say_seen(ctx, written.warning)
    say_life(ctx, written)
    return DONE


def _view_list_arguments(parser: Parser) -> None:
    room_argument(parser)


def _view_list(ctx: Context, args: Namespace) -> int:
    views, more, name = _entries(ctx, None, t.ListState(scope=VIEWS, room=args.room))
    if ctx.out.json:
        ctx.out.document({"views": views, "more": more})
        return DONE
    if not views:
        ctx.out.say(f"There is no view in '{name}'.")
        return DONE
    ctx.out.table(
        ("view", "value", "expression", "by"),
        [
            (
                (each.key, "bold"),
                (f"no value: {each.error}", "warn") if isinstance(each.error, str) else short(each.value),
                str(each.expr),
                (each.updated_by, "name"),
            )
            for each in views
        ],
    )
    return DONE


def _view_delete_arguments(parser: Parser) -> None:
    parser.add_argument("name", type=unicode_text, metavar="NAME", help="the view")
    yes_argument(parser)
    _write_arguments(parser)
    room_argument(parser)


def _view_delete(ctx: Context, args: Namespace) -> int:
    agree_to_delete(ctx, args, f"the view {args.name}")
    return _delete_key(ctx, args, VIEWS, args.name)


# -- values ------------------------------------------------------------------------------------------------


def value_of(text: str) -> Any:
    """A value as it was typed: JSON, or else the text itself. Raises `UsageError` for JSON that no value can be."""
    from argparse import ArgumentTypeError

    try:
        return json_value(text)
    except NotJson:
        return text
    except ArgumentTypeError as error:
        raise UsageError(f"{error}; --string takes the whole as a text", path="parler state set") from None


def document_of(ctx: Context, file: str, *, path: str) -> Any:
    """The JSON in a file, or on stdin. Raises `UsageError`."""
    from argparse import ArgumentTypeError

    if file == "-":
        text = given_text(ctx, [], what="the JSON", path=path)
    else:
        try:
            with open(file, encoding="utf-8", errors="surrogateescape") as opened:
                text = opened.read()
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}", path=path) from error
    try:
        return json_value(text)
    except ArgumentTypeError as error:
        raise UsageError(str(error), path=path) from None


def _instant(text: str) -> int:
    """A moment, as epoch milliseconds, from ISO 8601 in local time or from the number itself."""
    import argparse
    from datetime import datetime

    if text.isascii() and text.isdigit():
        return whole(text)
    try:
        return max(0, int(datetime.fromisoformat(text).timestamp() * 1000))
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time, as 2026-03-01T09:00") from None


def whole_of(value: Any) -> str:
    """A value as JSON."""
    import json

    return json.dumps(value, ensure_ascii=False)


def short(value: Any) -> str:
    """A value as JSON, as much of it as fits into a line."""
    text = whole_of(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def place_of(entry: t.StateEntry | t.StateChange) -> list[Span]:
    """A key as a sentence names it."""
    if entry.scope == ACTIONS:
        return ["the action ", (entry.key, "bold")]
    named: list[Span] = [] if entry.scope == SHARED else [(entry.scope, "name"), "."]
    return [*named, (entry.key, "bold")]


def _about(ctx: Context, entry: t.StateEntry) -> list[Span]:
    ago = span_of(max(0.0, ctx.now() - entry.updated_at / 1000))
    return [f"version {entry.version}, by ", (entry.updated_by, "name"), f" {ago} ago"]


HANDLERS: Final = {
    "state get": Handler(
        _get_arguments,
        _get,
        section=_SECTION,
        rank=20,
        examples=("parler state get phase", "parler state get x --json"),
    ),
    "state list": Handler(
        _list_arguments,
        _list,
        section=_SECTION,
        rank=10,
        examples=("parler state list", "parler state list --at-seq 7"),
    ),
    "state set": Handler(
        _set_arguments,
        _set,
        section=_SECTION,
        rank=0,
        examples=(
            "parler state set phase planning",
            "parler state set tasks_done 1 --increment",
            "parler state set config '{\"retries\": 3}' --merge --if-version 4",
        ),
        gives_receipt=True,
    ),
    "state delete": Handler(
        _delete_arguments,
        _delete,
        section=_SECTION,
        rank=30,
        examples=("parler state delete phase",),
        gives_receipt=True,
    ),
    "state batch": Handler(
        _batch_arguments,
        _batch,
        section=_SECTION,
        rank=40,
        examples=("parler state batch --file writes.json",),
        gives_receipt=True,
    ),
    "state history": Handler(
        _history_arguments, _history, section=_SECTION, rank=50, examples=("parler state history phase",)
    ),
    "state private": Handler(
        _private_arguments,
        _private,
        section=_SECTION,
        rank=60,
        examples=("parler state private on",),
        operation="state.hide",
        gives_receipt=True,
    ),
    "timer renew": Handler(
        _renew_arguments,
        _renew,
        section=_SECTION,
        rank=70,
        examples=("parler timer renew fire_lit",),
        gives_receipt=True,
    ),
    "eval": Handler(
        _eval_arguments,
        _eval,
        section=_SECTION,
        rank=80,
        examples=("parler eval 'state._shared.turn > 2'",),
        operation="state.evaluate",
    ),
    "wait": Handler(
        _wait_arguments,
        _wait,
        section=_SECTION,
        rank=90,
        examples=("parler wait 'state._shared.turn == 2' --timeout 60 --include state,agents",),
        operation="state.wait",
    ),
    "view set": Handler(
        _view_set_arguments,
        _view_set,
        section=_SECTION,
        rank=100,
        examples=("parler view set ready 'agents.all(a, agents[a].status == \"active\")'",),
        summary="Name an expression, whose value is read like that of a key.",
    ),
    "view list": Handler(
        _view_list_arguments,
        _view_list,
        section=_SECTION,
        rank=110,
        examples=("parler view list",),
        summary="Show the views of a room, and what each is worth to you.",
    ),
    "view delete": Handler(
        _view_delete_arguments,
        _view_delete,
        section=_SECTION,
        rank=120,
        examples=("parler view delete ready",),
        summary="Delete a view.",
    ),
}
