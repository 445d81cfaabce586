"""`parler homes`: this machine and the relays that were added, how each is, and taking one out.

Not here: adding one (`team`, by `parler connect`). Invariant: messages that wait to be sent are given up only after a
person said yes to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, no_arguments
from parlerd.cli.output import DONE, Cell, Style
from parlerd.cli.parsing import Parser
from parlerd.cli.render import counted, day_or_time
from parlerd.core.errors import ERRORS
from parlerd.core.model import LOCAL_HOME
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

_STATES: Final[dict[str, tuple[str, Style]]] = {
    "local": ("this machine", "plain"),
    "connected": ("connected", "good"),
    "connecting": ("connecting", "warn"),
    "idle": ("idle", "dim"),
    "unreachable": ("not reached", "bad"),
    "refused": ("refused", "bad"),
}
"""How a home is, in a word or two. A link is idle while nothing here needs it."""

CLOCKS_APART_MS: Final = 60_000
"""Two clocks that differ by more than this are said to: what other machines said bears the relay's time."""


def _homes(ctx: Context, _args: Namespace) -> int:
    listed = ctx.call_again("homes.list", t.ListHomes(), t.HomeList)
    out = ctx.out
    if out.json:
        out.document(listed)
        return DONE
    rows: list[tuple[Cell, ...]] = [
        (
            (("* " if home.default else "  ") + home.name, "name"),
            _STATES[home.state],
            (str(home.waiting), "warn") if home.waiting else "",
            (day_or_time(home.heard_at, ctx.now()) if home.heard_at else "", "dim"),
            home.url,
        )
        for home in listed.homes
    ]
    out.listing(("home", "how it is", "to send", "last heard", "where"), rows, cut=(0, 4), spare=(3,))
    for home in listed.homes:
        if home.state == "unreachable":
            out.say((home.name, "name"), " does not answer. What is sent there waits here until it does.")
        elif home.state == "refused" and home.reason in ERRORS:
            hint = ERRORS[home.reason].hint.replace("NAME", home.name)
            out.say((home.name, "name"), f": {ERRORS[home.reason].message} {hint}")
        if home.cards:
            waits = f"{counted(home.cards, 'card')} of your agents wait{'s' if home.cards == 1 else ''} to go there."
            out.say((home.name, "name"), f": {waits}")
        if abs(home.clock_ahead_ms) > CLOCKS_APART_MS:
            way = "ahead of" if home.clock_ahead_ms > 0 else "behind"
            away = counted(round(abs(home.clock_ahead_ms) / 60_000), "minute")
            out.say((home.name, "name"), (f": its clock is {away} {way} this machine's.", "warn"))
    if len(listed.homes) == 1:
        out.say("Sessions live on this machine. How to share them with other machines:")
        out.paste("parler help connect")
    else:
        out.say(("New sessions open at the home with the star.", "dim"))
    return DONE


def _remove_arguments(parser: Parser) -> None:
    parser.add_argument("added", metavar="NAME", help="the home, as `parler homes` names it")
    parser.add_argument("--yes", action="store_true", help="give up what waits to be sent there, without asking")


def _remove(ctx: Context, args: Namespace) -> int:
    if not args.yes:
        listed = ctx.call_again("homes.list", t.ListHomes(), t.HomeList)
        waiting = sum(home.waiting for home in listed.homes if args.added in (home.name, home.id))
        if waiting:
            what = f"{counted(waiting, 'message')} for {args.added} could not be sent yet, and would never be."
            ctx.agree(what)
            args.yes = True
    done = ctx.call("homes.remove", t.RemoveHome(name=args.added, drop=args.yes), t.HomeRemoved)
    out = ctx.out
    if out.json:
        out.document(done)
        return DONE
    out.say((done.name, "name"), " was taken out. This machine does not dial it any more.")
    if done.rooms:
        out.say(f"Its {counted(done.rooms, 'room')} can still be read here, and nothing can be sent there.")
    if done.dropped:
        out.say((f"{counted(done.dropped, 'message')} that waited will not be sent.", "warn"))
    where = "on this machine" if done.default == LOCAL_HOME else f"at {done.default}"
    out.say(f"New sessions open {where}.")
    return DONE


HANDLERS: Final = {
    "homes": Handler(
        no_arguments,
        _homes,
        section="Sessions across machines",
        rank=10,
        examples=("parler homes",),
    ),
    "homes remove": Handler(
        _remove_arguments,
        _remove,
        section="Sessions across machines",
        rank=15,
        examples=("parler homes remove team-7f3k2q",),
    ),
}
