"""`parler handoff`: offer the turn, answer an offer, and see what became of it.

Not here: how an offer and an answer look among other messages (`render`). Above: `main`. Below: the operations of the
family `handoff`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument, wide_argument
from parlerd.cli.messages import QUEUED, say_warning
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, seconds, unicode_text, whole
from parlerd.cli.render import counted, left_of, offer_line, show_messages, within
from parlerd.core.words import MAX_TRANSCRIPT
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.cli.output import Span


# -- the offer ---------------------------------------------------------------------------------------------


def _offer_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--next", required=True, type=unicode_text, metavar="TEXT", help="what the next agent should do"
    )
    parser.add_argument("--summary", default="", type=unicode_text, metavar="TEXT", help="what is done")
    parser.add_argument(
        "--for",
        dest="whom",
        default="",
        type=unicode_text,
        metavar="AGENT|ROLE",
        help="who is offered the turn: an agent in the room, or a role that one of them has (default: anyone)",
    )
    parser.add_argument("--goal", default="", type=unicode_text, metavar="TEXT", help="what all of it is for")
    parser.add_argument("--state", default="", type=unicode_text, metavar="TEXT", help="where things stand")
    for option, what in _LISTS.items():
        parser.add_argument(
            f"--{option}",
            action="append",
            default=[],
            type=unicode_text,
            metavar="TEXT",
            help=f"{what}; may be repeated",
        )
    parser.add_argument(
        "--bundle",
        type=unicode_text,
        metavar="ID",
        help="code that goes along: what `parler push` shared with this room, by its id or its message",
    )
    parser.add_argument(
        "--transcript",
        type=whole,
        default=0,
        metavar="N",
        help="the newest N messages that all in the room may read go along (at most 100): quoted, within 32 KiB, where "
        "whoever may take the turn cannot read them there",
    )
    parser.add_argument(
        "--ttl", type=seconds, metavar="S", help="how long the offer stands (default: a day; at most 30 days)"
    )
    room_argument(parser)
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


_LISTS: Final = {
    "decision": "something that was decided",
    "failed": "something that was tried and did not work",
    "question": "something that is open",
    "file": "a file that matters",
    "ref": "a branch, commit or address that matters",
}
"""The options that may be repeated."""


def _offer(ctx: Context, args: Namespace) -> int:
    if args.transcript > MAX_TRANSCRIPT:
        raise UsageError(f"--transcript is at most {MAX_TRANSCRIPT}", path="parler handoff")
    params = t.GiveHandoff(
        next=args.next,
        summary=args.summary,
        goal=args.goal,
        state=args.state,
        decisions=tuple(args.decision),
        failed=tuple(args.failed),
        questions=tuple(args.question),
        files=tuple(args.file),
        refs=tuple(args.ref),
        for_=args.whom,
        bundle=args.bundle,
        transcript=args.transcript,
        ttl_ms=args.ttl,
        room=args.room,
        idempotency_key=args.key or new_key(),
    )
    given = ctx.call_again("handoff.give", params, t.GivenHandoff)
    if ctx.out.json:
        ctx.out.document(given)
        return DONE
    whom = given.for_ or "whoever takes it"
    room = given.name or given.room
    if given.queued:
        ctx.out.say(("The turn is not offered yet to ", "warn"), (whom, "name"), f" in '{room}'. {QUEUED}")
    else:
        ctx.out.say(("The turn is offered to ", "good"), (whom, "name"), f" in '{room}', as #{given.seq}.")
        until = f" It can be taken for {left_of(given.expires, ctx.now())}." if given.expires else ""
        see = f"parler handoff show {given.seq}{within(args.room)}"
        ctx.out.note(f"The turn stays yours until somebody takes it.{until} To see: {see}")
    if given.transcript:
        ctx.out.note(_sent(given.transcript))
    say_warning(ctx, given.warning)
    if not given.others:
        ctx.out.say(
            ("Nobody else is in it yet: ", "warn"),
            "the offer waits for whoever comes in. To see its key, and who knocks: parler session list",
        )
    return DONE


def _sent(told: t.SentTranscript) -> str:
    """What goes along of the conversation."""
    if not told.count:
        return "Nothing of the conversation goes along: no message can be quoted whole."
    messages = counted(told.count, "message")
    if not told.quoted:
        verb = "belongs" if told.count == 1 else "belong"
        return f"{messages} of the conversation {verb} to it, to be read in the room."
    left = f" {counted(told.left_out, 'older message')} did not fit." if told.left_out else ""
    return f"{messages} of the conversation {'is' if told.count == 1 else 'are'} quoted in it.{left}"


# -- the answers -------------------------------------------------------------------------------------------


def _id_argument(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the offer: your own number of it, or its id")
    room_argument(parser)
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _reason_arguments(parser: Parser) -> None:
    _id_argument(parser)
    parser.add_argument("--reason", default="", type=unicode_text, metavar="T", help="why, for everyone in the room")


def _accept(ctx: Context, args: Namespace) -> int:
    params = t.AcceptHandoff(id=args.id, room=args.room, idempotency_key=args.key or new_key())
    return _say_answer(ctx, ctx.call_again("handoff.accept", params, t.AnsweredHandoff))


def _decline(ctx: Context, args: Namespace) -> int:
    params = t.DeclineHandoff(id=args.id, reason=args.reason, room=args.room, idempotency_key=args.key or new_key())
    return _say_answer(ctx, ctx.call_again("handoff.decline", params, t.AnsweredHandoff))


def _withdraw(ctx: Context, args: Namespace) -> int:
    params = t.WithdrawHandoff(id=args.id, reason=args.reason, room=args.room, idempotency_key=args.key or new_key())
    return _say_answer(ctx, ctx.call_again("handoff.withdraw", params, t.AnsweredHandoff))


def _say_answer(ctx: Context, done: t.AnsweredHandoff) -> int:
    if ctx.out.json:
        ctx.out.document(done)
        return DONE
    room, again = done.name or done.room, " (as before)" if done.replayed else ""
    giver: Span = (done.giver, "name")
    match done.status:
        case "accepted":
            ctx.out.say(("You have the turn", "good"), again, f" in '{room}'. ", giver, " was told.")
        case "declined":
            ctx.out.say(("Declined", "good"), again, f" in '{room}': the turn stays with ", giver, ".")
        case _:
            ctx.out.say(("Withdrawn", "good"), again, f" in '{room}': the turn stays with you.")
    say_warning(ctx, done.warning)
    return DONE


# -- what became of it -------------------------------------------------------------------------------------


def _show_arguments(parser: Parser) -> None:
    parser.add_argument(
        "id", nargs="?", type=unicode_text, metavar="ID", help="one offer, with the answers to it (default: all)"
    )
    room_argument(parser)
    wide_argument(parser)


def _show(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("handoff.show", t.ShowHandoffs(id=args.id, room=args.room), t.HandoffList)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    for each in found.handoffs:
        out.say(*offer_line(each, ctx.now()), hang=2)
    if not found.handoffs:
        out.say(f"Nobody offered the turn in '{found.name}' yet.")
    if found.more:
        out.note(f"{counted(found.more, 'older offer')} {'is' if found.more == 1 else 'are'} not shown.")
    if found.messages:
        show_messages(out, found.messages, ctx.now(), you=found.you, wide=args.wide, room=args.room)
    if found.notice:
        out.note(found.notice)
    return DONE


HANDLERS: Final = {
    "handoff": Handler(
        _offer_arguments,
        _offer,
        section="Talk",
        rank=30,
        examples=(
            'parler handoff --for bob --summary "rotation is done" --next "wire the UI"',
            'parler handoff --goal "new login" --decision "use PKCE" --next "wire the UI"',
            'parler handoff --for bob --next "review and merge" --bundle 12 --transcript 20',
        ),
        gives_receipt=True,
    ),
    "handoff accept": Handler(
        _id_argument,
        _accept,
        section="Talk",
        rank=31,
        examples=("parler handoff accept 7 --room auth-redesign",),
        gives_receipt=True,
    ),
    "handoff decline": Handler(
        _reason_arguments,
        _decline,
        section="Talk",
        rank=32,
        examples=('parler handoff decline 7 --reason "no access to the web repository"',),
        gives_receipt=True,
    ),
    "handoff withdraw": Handler(
        _reason_arguments,
        _withdraw,
        section="Talk",
        rank=33,
        examples=("parler handoff withdraw 7",),
        gives_receipt=True,
    ),
    "handoff show": Handler(
        _show_arguments,
        _show,
        section="Talk",
        rank=34,
        examples=("parler handoff show", "parler handoff show 7 --room auth-redesign"),
    ),
}
