"""`parler remember`, `recall` and `forget`.

Not here: what is found in which order (the engine). Above: `commands`. Below: `context`, `render`. Invariant: with
`--json` each of the three prints `facts`, so a script reads all of them alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler
from parlerd.cli.messages import QUEUED, given_text, say_warning
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, positive, unicode_text, whole
from parlerd.cli.render import span_of
from parlerd.operations import types as t
from parlerd.text.verdicts import said_of

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.cli.output import Span

_PRIVATE: Final = "your private memory"


def _where_arguments(parser: Parser, what: str) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--room", metavar="ROOM", help="a room's id or name (default: the active session, else your private memory)"
    )
    where.add_argument("--private", action="store_true", help=what)


# -- remember ----------------------------------------------------------------------------------------------


def _remember_arguments(parser: Parser) -> None:
    parser.add_argument(
        "text", nargs="*", default=[], type=unicode_text, metavar="TEXT", help="the fact; - or nothing reads stdin"
    )
    _where_arguments(parser, "keep it for the acting agent alone")
    parser.add_argument(
        "--key", type=unicode_text, metavar="KEY", help="its name in the room; writing again updates it"
    )
    parser.add_argument(
        "--if-version", type=whole, metavar="N", help="only while the key is at version N; 0: while it has none"
    )
    parser.add_argument("--once", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _remember(ctx: Context, args: Namespace) -> int:
    text = given_text(ctx, args.text, what="the fact", path="parler remember")
    if not text:
        raise UsageError("the fact is empty", path="parler remember")
    params = t.Remember(
        text=text,
        key=args.key,
        if_version=args.if_version,
        room=args.room,
        private=args.private,
        idempotency_key=args.once or new_key(),
    )
    kept = ctx.call_again("memory.remember", params, t.Remembered)
    if ctx.out.json:
        ctx.out.document(kept)
        return DONE
    [fact] = kept.facts
    if kept.queued:
        ctx.out.say(("Not remembered yet", "warn"), " in ", _place(fact), f". {QUEUED}")
    else:
        again = " before, and not again," if kept.replayed else ""
        named: list[Span] = [" as ", (fact.key, "bold"), f" version {fact.version}"] if fact.key else []
        ctx.out.say((f"Remembered{again}", "good"), *named, " in ", _place(fact), ".")
    say_warning(ctx, kept.warning)
    return DONE


# -- recall ------------------------------------------------------------------------------------------------


def _recall_arguments(parser: Parser) -> None:
    parser.add_argument(
        "query",
        nargs="+",
        type=unicode_text,
        metavar="QUERY",
        help="words of the fact, found as they are typed, or its key; dep* finds what begins so",
    )
    parser.add_argument(
        "--room", metavar="ROOM", help="a room's id or name (default: your private memory and every room you are in)"
    )
    parser.add_argument(
        "--limit", type=positive, default=10, metavar="N", help="facts that are shown (default 10, at most 100)"
    )


def _recall(ctx: Context, args: Namespace) -> int:
    params = t.Recall(query=" ".join(args.query), room=args.room, limit=args.limit)
    found = ctx.call_again("memory.recall", params, t.Recalled)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    if found.facts and found.partly:
        out.say(("No fact has every word. These have some of them:", "warn"))
    for fact in found.facts:
        out.say(*_head(fact, ctx.now()), hang=2)
        out.text(fact.text)
    if not found.facts:
        out.say("Nothing that is remembered has these words.")
    if found.more:
        out.note(f"{found.more} more were found. To see more of them: --limit {len(found.facts) + found.more}")
    if found.cut:
        out.note("Only the newest facts were looked through: another word narrows the search down.")
    if found.notice:
        out.say((found.notice, "warn"))
    return DONE


def _head(fact: t.Fact, now: float) -> list[Span]:
    head: list[Span] = [(fact.key, "bold"), (f" v{fact.version}", "dim")] if fact.key else [("fact", "bold")]
    facts: list[Span] = [(fact.author.name, "name")]
    if fact.at is not None:
        facts.append((f"{span_of(max(0.0, now - fact.at / 1000))} ago", "dim"))
    facts.append(_place(fact))
    if doubt := said_of(fact.verified):
        facts.append((doubt, "warn" if fact.verified == "home" else "bad"))
    if not fact.key:
        # Nothing else names it for `parler forget`.
        facts.append((fact.id, "dim"))
    for each in facts:
        head += [(" · ", "dim"), each]
    return head


def _place(fact: t.Fact) -> Span:
    return (f"'{fact.name or fact.room}'", "name") if fact.room else (_PRIVATE, "name")


# -- forget ------------------------------------------------------------------------------------------------


def _forget_arguments(parser: Parser) -> None:
    parser.add_argument(
        "id", nargs="?", type=unicode_text, metavar="ID", help="the fact: its id, or your number of its message"
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="the fact with this key")
    _where_arguments(parser, "in the acting agent's private memory")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--once", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _forget(ctx: Context, args: Namespace) -> int:
    if (args.id is None) is (args.key is None):
        raise UsageError("give the fact's ID, or --key KEY", path="parler forget")
    named = args.key if args.key is not None else args.id
    if not args.yes and ctx.stdin.isatty():
        # A person may have typed the wrong key. A script or an agent means what it says.
        ctx.agree(f"Take the words of {named} away for good, every version of them?")
    params = t.Forget(
        id=args.id, key=args.key, room=args.room, private=args.private, idempotency_key=args.once or new_key()
    )
    gone = ctx.call_again("memory.forget", params, t.Forgotten)
    if ctx.out.json:
        ctx.out.document(gone)
        return DONE
    [fact] = gone.facts
    if gone.queued:
        ctx.out.say(("Not forgotten yet", "warn"), " in ", _place(fact), f". {QUEUED}")
    else:
        ctx.out.say(("Forgotten", "good"), ": ", (fact.key or fact.id, "bold"), " in ", _place(fact), ".")
    return DONE


HANDLERS: Final = {
    "remember": Handler(
        _remember_arguments,
        _remember,
        section="Talk",
        rank=41,
        examples=(
            'parler remember --room team "deploy strategy is blue-green"',
            "parler remember --key deploy-strategy blue-green",
        ),
        gives_receipt=True,
    ),
    "recall": Handler(
        _recall_arguments,
        _recall,
        section="Talk",
        rank=42,
        examples=("parler recall deploy", "parler recall --room team deploy"),
    ),
    "forget": Handler(
        _forget_arguments,
        _forget,
        section="Talk",
        rank=43,
        examples=("parler forget --key deploy-strategy",),
        gives_receipt=True,
    ),
}
