"""`parler watch`: a person follows a room live.

Invariants: nothing is acknowledged; the command goes on when the daemon restarts, and shows no message twice.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from parlerd.cli.context import MAX_LOST, RETRIED, Context
from parlerd.cli.handlers import Handler, wide_argument
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, whole
from parlerd.cli.render import clock, show_message
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

CATCH_UP: Final = 200
"""How many messages are asked for again after the connection was lost. Those that were shown are left out."""

MAX_NAMES: Final = 8
"""How many members are named when a watch begins; `parler roster` names all."""
_HAPPENED: Final = {
    "joined": "came in",
    "left": "left",
    "knocked": "knocks. To decide, run: parler approvals",
    "denied": "was declined",
    "closed": "is closed",
}
"""What happened to a room, in words that follow a name."""


def _arguments(parser: Parser) -> None:
    parser.add_argument("--room", metavar="ROOM", help="a room's id or name (default: the active session)")
    parser.add_argument("--tail", type=whole, default=20, metavar="N", help="how many earlier messages to begin with")
    wide_argument(parser)


def _watch(ctx: Context, args: Namespace) -> int:
    ctx.out.stream()
    shown: deque[str] = deque(maxlen=2 * t.MAX_PAGE)
    tail = min(args.tail, t.MAX_PAGE)
    lost = number = 0
    if not ctx.out.json:
        _say_which(ctx, args.room)
    while True:
        try:
            for item in ctx.client().stream("room.watch", t.WatchRoom(room=args.room, tail=tail)):
                assert isinstance(item, t.WatchItem)
                lost = 0
                if isinstance(item.message, t.Message):
                    if item.message.id in shown:
                        continue
                    shown.append(item.message.id)
                number += 1
                _show(ctx, _numbered(item, number), wide=args.wide)
            return DONE
        except ParlerError as error:
            lost += 1
            if error.code not in RETRIED or lost > MAX_LOST:
                raise
            ctx.out.note(("The daemon went away; connecting again.", "warn"))
            ctx.recover(error, None)
            tail = CATCH_UP


def _say_which(ctx: Context, room: str | None) -> None:
    """Say which room is followed and who is in it, because nothing may happen in the room for a long while."""
    found = ctx.call_again("rooms.roster", t.Roster(room=room), t.RosterResult)
    names = [member.name for member in found.members]
    shown = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else "")
    ctx.out.note(
        "This command follows ",
        (f"'{found.name}'", "name"),
        f", with {shown} in it. Ctrl-C ends the command; nothing is acknowledged.",
    )


def _numbered(item: t.WatchItem, number: int) -> t.WatchItem:
    """An item with its number among all that were shown. The daemon's own numbers begin with 1 again after the
    connection was lost."""
    import msgspec

    if isinstance(item.message, t.Message):
        item = msgspec.structs.replace(item, message=msgspec.structs.replace(item.message, seq=number))
    return msgspec.structs.replace(item, number=number)


def _show(ctx: Context, item: t.WatchItem, *, wide: bool) -> None:
    out = ctx.out
    if out.json:
        out.item(item)
        return
    if isinstance(item.message, t.Message):
        show_message(out, item.message, ctx.now(), you=None, wide=wide)
    else:
        who = item.agent if isinstance(item.agent, str) else f"'{item.name}'"
        what = _HAPPENED.get(item.event, item.event)
        if isinstance(item.role, str):
            what = f"is {item.role} now" if item.role else "has no role any more"
        claimed = "who says it is " if item.event in ("knocked", "denied") else ""
        out.say((f"#{item.number} {clock(item.at, ctx.now())} {claimed}", "dim"), (who, "name"), (f" {what}", "dim"))
    out.flush()


HANDLERS: Final = {
    "watch": Handler(_arguments, _watch, section="Talk", rank=40, examples=("parler watch --room auth-redesign",)),
}
