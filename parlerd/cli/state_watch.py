"""`parler state watch`: what changes in a room's state, as it changes.

Not here: what a change is (the room's home). Above: `commands`. Below: `context`, `state`. Invariants: no change is
shown twice; the command goes on where it was when the daemon restarts, and when the room's home can be reached again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, unicode_text
from parlerd.cli.render import to_the_second
from parlerd.cli.state import place_of, short
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from parlerd.cli.output import Span


def _arguments(parser: Parser) -> None:
    parser.add_argument(
        "--scope", type=unicode_text, metavar="S", help="_shared, _view, or an agent's name (default: all)"
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="what changes under this key alone")
    room_argument(parser)


def _watch(ctx: Context, args: Namespace) -> int:
    ctx.out.stream()
    for change in _changes(ctx, t.FollowState(scope=args.scope, key=args.key, room=args.room)):
        if ctx.out.json:
            ctx.out.item(change)
        else:
            ctx.out.say(*_sentence(change, ctx.now()))
        ctx.out.flush()
    return DONE


def _changes(ctx: Context, asked: t.FollowState) -> Iterator[t.StateChange]:
    """Every change from now on, without end."""
    import msgspec

    cursor: str | None = None
    is_said = False

    def ask(wait_ms: int) -> t.FollowState:
        return msgspec.structs.replace(asked, after=cursor, wait_ms=wait_ms)

    def is_enough(found: t.StateChanges) -> bool:
        nonlocal cursor
        is_first, cursor = cursor is None, found.cursor
        return is_first or bool(found.changes) or found.more

    while True:
        try:
            for found in ctx.follow("state.changes", ask, t.StateChanges, until=is_enough):
                if not is_said and not ctx.out.json:
                    named = f"'{found.name}'"
                    ctx.out.note("This command follows the state of ", (named, "name"), ". Ctrl-C ends the command.")
                is_said = True
                yield from found.changes
        except ParlerError as error:
            if cursor is None or error.code != "invalid_param" or error.details.get("param") != "after":
                raise
            ctx.out.note(("The room's home lost a part of its log. What changes from now on is shown.", "warn"))
            cursor = None


def _sentence(change: t.StateChange, now: float) -> list[Span]:
    """What happened to a key, in a line."""
    place: list[Span] = [(f"{to_the_second(change.updated_at, now)} ", "dim"), *place_of(change)]
    match change.change:
        case "deleted":
            return [*place, " is deleted", *_by(change)]
        case "expired":
            return [*place, " ran out."]
        case "enabled":
            what = "." if change.value is None else f": {short(change.value)}."
            return [*place, f" is there now{what}"]
        case "written":
            what = f"is {short(change.value)}"
            if isinstance(change.expr, str):
                what = f"is the view {change.expr}"
            elif change.erased is True:
                what = "had a value that is kept no more"
            when = " once its timer has run out" if change.dormant is True else ""
            when += f" while {change.enabled}" if isinstance(change.enabled, str) else ""
            return [*place, f" {what}{when}, version {change.version}", *_by(change)]


def _by(change: t.StateChange) -> list[Span]:
    return [", by ", (change.updated_by, "name"), "."] if change.updated_by else ["."]


HANDLERS: Final = {
    "state watch": Handler(
        _arguments,
        _watch,
        section="Coordinate",
        rank=55,
        examples=("parler state watch", "parler state watch --scope _shared --key phase --json"),
    ),
}
