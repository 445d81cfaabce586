"""`parler view`: a room, or the whole home, in a browser; and what was opened so.

The address of a view of the whole home is for a person who sits there, so it is printed on a terminal alone. No browser
is started: its command line would show the code to every user of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, port, unicode_text
from parlerd.cli.render import clock, later
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

PATH: Final = "parler view"


def _arguments(parser: Parser) -> None:
    parser.add_argument("--room", metavar="ROOM", help="a room's id or name (default: your whole home)")
    parser.add_argument("--port", type=port, metavar="N", help="where this home answers (default: any that is free)")
    parser.add_argument("--list", action="store_true", help="show the watch codes that hold, by their ids")
    parser.add_argument("--revoke", type=unicode_text, metavar="ID", help="close what was opened with a watch code")


def _view(ctx: Context, args: Namespace) -> int:
    if args.list and args.revoke is not None:
        raise UsageError("--list and --revoke are two things", path=PATH)
    if (args.list or args.revoke is not None) and (args.room is not None or args.port is not None):
        raise UsageError("--room and --port are for opening a view", path=PATH)
    if args.list:
        return _list(ctx)
    if args.revoke is not None:
        return _revoke(ctx, args.revoke)
    return _open(ctx, args)


def _open(ctx: Context, args: Namespace) -> int:
    out = ctx.out
    if args.room is None and not out.stdout.isatty():
        # Whoever has it has a person's rights, and what is no terminal may be read by a program.
        said = "the address of your whole home is printed on a terminal alone; with --room, that of a room is printed"
        raise UsageError(said, path=PATH)
    opened = ctx.call("page.open", t.OpenPages(room=args.room, port=args.port or 0), t.OpenedPages)
    if out.json:
        out.document(opened)
        return DONE
    info, now = opened.info, ctx.now()
    if info.room:
        out.say("A view of ", (f"'{info.name or info.room}'", "name"), " for a browser of this machine:")
    else:
        out.say("A view of your whole home, for a browser of this machine:")
    out.paste((f"{opened.url}#{opened.watch_code}", "good"))
    if info.room:
        eyes = "what your agents there may see" if info.as_person else f"what {info.agent} may see there"
        out.note(f"Whoever opens it first sees {eyes}, and changes nothing.")
    else:
        out.note("Whoever opens it first sees what you may see, and decides who comes in. Tell nobody.")
    out.note(f"It opens once, until {later(info.use_by, now)}; what is open closes at {later(info.expires_at, now)}.")
    out.note("To close it before:")
    out.paste(f"parler view --revoke {info.id}", beside=True)
    return DONE


def _list(ctx: Context) -> int:
    found = ctx.call_again("page.codes", t.ListWatchCodes(), t.WatchCodeList)
    out, now = ctx.out, ctx.now()
    if out.json:
        out.document(found)
        return DONE
    if not found.codes:
        out.say("No watch code holds.")
        return DONE
    rows = [
        (
            each.id,
            (each.name or each.room) if each.room else "your home",
            each.agent,
            clock(each.used_at, now) if each.used_at else "",
            later(each.expires_at if each.used_at else each.use_by, now),
            str(each.streams or ""),
        )
        for each in found.codes
    ]
    out.table(("id", "shows", "as", "opened", "until", "live"), rows)
    return DONE


def _revoke(ctx: Context, id: str) -> int:
    revoked = ctx.call("page.revoke", t.RevokeWatchCode(id=id), t.RevokedWatchCode)
    if ctx.out.json:
        ctx.out.document(revoked)
    else:
        ctx.out.say(("Revoked", "good"), f": what was opened with {revoked.id} is closed.")
    return DONE


HANDLERS: Final = {
    "view": Handler(
        _arguments,
        _view,
        section="Look around",
        rank=5,
        examples=("parler view", "parler view --room auth-redesign", "parler view --list"),
    ),
}
