"""`parler register`, `discover` and `card`: agents say what they are good at, and are found by it.

Invariant: what an agent wrote on its card reaches a terminal only by way of `Output`, which shows hidden characters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, wide_argument
from parlerd.cli.output import DONE, FAILED, Cell
from parlerd.cli.parsing import Parser, unicode_text
from parlerd.cli.render import clock, stated_by
from parlerd.core.errors import ERRORS
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace


def _register_arguments(parser: Parser) -> None:
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--public",
        action="store_const",
        const="public",
        dest="visibility",
        help="let every agent of the home find this one",
    )
    shown.add_argument(
        "--private",
        action="store_const",
        const="private",
        dest="visibility",
        help="let only those find it who share a room with it (default for a new card)",
    )
    shown.add_argument(
        "--withdraw", action="store_const", const="withdrawn", dest="visibility", help="take the card back"
    )
    parser.add_argument(
        "--tag", type=unicode_text, action="append", metavar="TAG", dest="tags", help="once for each tag; '' for none"
    )
    parser.add_argument(
        "--skill",
        type=unicode_text,
        action="append",
        metavar="S",
        dest="skills",
        help="once for each skill; '' for none",
    )
    parser.add_argument(
        "--role", type=unicode_text, metavar="ROLE", help="what the agent is among others, as `reviewer`"
    )
    parser.add_argument(
        "--direct",
        choices=("open", "ask"),
        help="whether direct messages reach it at once, or you are asked about each new sender (default: open)",
    )
    parser.add_argument("--describe", type=unicode_text, metavar="TEXT", help="a sentence or two about it")
    parser.add_argument(
        "--at",
        type=unicode_text,
        metavar="NAME",
        help="besides at this relay, or `local` (default: see `parler homes`)",
    )


def _given(labels: list[str] | None) -> tuple[str, ...] | None:
    """The labels of a repeated option: None where the option was not given. The empty label stands for none."""
    return None if labels is None else tuple(label for label in labels if label)


def _register(ctx: Context, args: Namespace) -> int:
    params = t.Register(
        visibility=args.visibility,
        tags=_given(args.tags),
        skills=_given(args.skills),
        role=args.role,
        description=args.describe,
        direct=args.direct,
        home=args.at,
    )
    done = ctx.call("directory.register", params, t.Registered)
    out = ctx.out
    failed = [at for at in done.homes if at.status == "failed"]
    if out.json:
        out.document(done)
        return FAILED if failed else DONE
    if done.agent is None:
        out.say((done.name, "name"), " has no card.")
    else:
        _say_card(ctx, done.agent)
    for at in done.homes:
        if at.status in ("published", "unchanged"):
            where = "on this machine" if at.home == "local" else f"at {at.home}"
            done_there = (
                "Unchanged" if at.status == "unchanged" else "Taken back" if done.agent is None else "Published"
            )
            out.say(f"{done_there} {where}.")
    for at in done.homes:
        _say_missing(ctx, at)
    return FAILED if failed else DONE


def _say_missing(ctx: Context, at: t.CardAt) -> None:
    """Say why a card is not at a relay as it is here, and what brings it there."""
    if at.status == "pending":
        ctx.out.note(f"{at.home} does not answer; the card goes there by itself as soon as it does.")
    elif at.status == "failed":
        why = ERRORS[at.code].message if at.code in ERRORS else "It refused the card."
        ctx.out.note(f"The card is not at {at.home}: {why} To try again: parler register --at {at.home}")


def _discover_arguments(parser: Parser) -> None:
    parser.add_argument(
        "query", nargs="*", type=unicode_text, metavar="QUERY", help="text in a name, role, description, tag or skill"
    )
    parser.add_argument("--public", action="store_true", help="only public cards")
    parser.add_argument("--tag", type=unicode_text, default="", metavar="TAG", help="with this tag")
    parser.add_argument("--skill", type=unicode_text, default="", metavar="S", help="with this skill")
    parser.add_argument("--role", type=unicode_text, default="", metavar="ROLE", help="with this role")
    parser.add_argument("--online", action="store_true", help="only agents that are there now")
    parser.add_argument(
        "--at", type=unicode_text, metavar="NAME", help="only in the directory of this relay, or `local`"
    )
    parser.add_argument("--limit", type=int, default=25, metavar="N", help="at most so many (default 25)")
    wide_argument(parser)


def _discover(ctx: Context, args: Namespace) -> int:
    params = t.Discover(
        query=" ".join(args.query),
        tag=args.tag,
        skill=args.skill,
        role=args.role,
        online=args.online,
        public=args.public,
        home=args.at,
        limit=min(max(args.limit, 1), t.MAX_FOUND),
    )
    found = ctx.call_again("directory.discover", params, t.FoundAgents)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    if not found.agents:
        out.say("Nobody else who has a card fits that.")
    rows: list[tuple[Cell, ...]] = [
        (
            (agent.name, "name"),
            agent.role,
            " ".join(agent.tags),
            " ".join(agent.skills),
            _status(ctx, agent),
            stated_by(agent.stated),
            "" if agent.home == "local" else agent.home,
            agent.description,
            agent.fingerprint if args.wide else "",
            agent.id if args.wide else "",
        )
        for agent in found.agents
    ]
    if rows:
        headers = ("agent", "role", "tags", "skills", "status", "now", "home", "says", "fingerprint", "id")
        out.listing(headers, rows, cut=(0, 1, 2, 3, 5, 7), spare=() if args.wide else (7,))
    if found.more:
        out.note("There are others; --limit shows more.")
    for home in found.silent:
        out.note(f"{home} did not answer, so agents there may be missing.")
    return DONE


def _card_arguments(parser: Parser) -> None:
    parser.add_argument(
        "agent", nargs="?", type=unicode_text, metavar="AGENT", help="id or name (default: the acting agent)"
    )


def _card(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("directory.card", t.ShowCard(agent=args.agent), t.FoundAgent)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    import msgspec

    _say_card(ctx, found)
    for at in [] if isinstance(found.pending, msgspec.UnsetType) else found.pending:
        _say_missing(ctx, at)
    return DONE


def _say_card(ctx: Context, agent: t.FoundAgent) -> None:
    out = ctx.out
    out.say((agent.name, "name"), f", {agent.role}" if agent.role else "")
    for label, text in (
        ("says        ", agent.description),
        ("tags        ", ", ".join(agent.tags)),
        ("skills      ", ", ".join(agent.skills)),
        ("status      ", _status(ctx, agent)),
        ("now         ", stated_by(agent.stated)),
        ("card        ", agent.visibility),
        ("direct      ", "its person is asked first" if agent.direct == "ask" else ""),
        ("home        ", "this machine" if agent.home == "local" else agent.home),
        ("fingerprint ", agent.fingerprint),
        ("id          ", agent.id),
    ):
        if text:
            out.say((label, "dim"), text, hang=len(label))


def _status(ctx: Context, agent: t.FoundAgent) -> str:
    return f"{agent.status} since {clock(agent.since, ctx.now())}" if agent.since else agent.status


HANDLERS: Final = {
    "register": Handler(
        _register_arguments,
        _register,
        section="Look around",
        rank=50,
        examples=(
            "parler register --public --tag planning --skill decompose",
            'parler register --describe "Plans in ordered steps."',
        ),
    ),
    "discover": Handler(
        _discover_arguments,
        _discover,
        section="Look around",
        rank=60,
        examples=(
            "parler discover",
            "parler discover --public --tag planning --online",
        ),
    ),
    "card": Handler(
        _card_arguments,
        _card,
        section="Look around",
        rank=70,
        examples=("parler card bob",),
    ),
}
