"""`parler send`, `withdraw`, `recv` and `why`.

Invariant: a page is read, printed, flushed, and only then acknowledged, so that a reader that dies, or whose pipe
breaks, is shown the page again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument, wide_argument
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, json_value, positive, seconds, timer, unicode_text, whole
from parlerd.cli.render import clock, counted, offer_line, show_messages, span_of, to_the_second, within
from parlerd.operations import types as t
from parlerd.text.sight import sentence_of, way_out_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence

    from parlerd.cli.output import Span, Style

QUEUED: Final = "It is stored on this machine, and goes out when the relay answers."
"""Said of a message that is not in its room yet."""


# -- send --------------------------------------------------------------------------------------------------


def _send_arguments(parser: Parser) -> None:
    parser.add_argument(
        "text", nargs="*", default=[], type=unicode_text, metavar="TEXT", help="the message; - or nothing reads stdin"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--room", metavar="ROOM", help="a room's id or name (default: the active session)")
    where.add_argument("--service", type=unicode_text, metavar="NAME", help="ask the workers of this queue for it")
    parser.add_argument(
        "--to",
        action="append",
        default=[],
        metavar="AGENT",
        help="whose attention it wants; without --room an agent outside the active session gets it directly",
    )
    parser.add_argument(
        "--kind", default="text", type=unicode_text, metavar="KIND", help="a word for what it is (default: text)"
    )
    parser.add_argument("--reply-to", metavar="ID", help="the message it answers: its number or its id")
    parser.add_argument(
        "--visible-to", action="append", default=[], metavar="AGENT", help="only these may ever see it; may be repeated"
    )
    parser.add_argument("--data", type=json_value, metavar="JSON", help="structured data beside the text")
    parser.add_argument(
        "--timer",
        type=timer,
        metavar="JSON",
        help='{"ms": 60000}, at, or ticks with tick_on: the words go then, an unclaimed task ends then, and with the'
        " effect enable the message is shown only then",
    )
    parser.add_argument(
        "--enabled",
        type=unicode_text,
        metavar="EXPR",
        help="who may read it, and when: each reader is shown it once this is true for that reader",
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def given_text(ctx: Context, words: Sequence[str], *, what: str, path: str) -> str:
    """The text that a command was given: its words or, for `-` and for none, what stdin holds. Words without quotes
    around them are one text, as `echo` treats them. `what` is what the text is to the command at `path`."""
    text = " ".join(words) if words else None
    if text is None or text == "-":
        if text is None and ctx.stdin.isatty():
            raise UsageError(f"TEXT is missing; give {what}, or - to read it from stdin", path=path)
        text = ctx.read_stdin()
    return text


def _send(ctx: Context, args: Namespace) -> int:
    text = given_text(ctx, args.text, what="the message", path="parler send")
    params = t.Send(
        text=text,
        room=args.room,
        service=args.service,
        to=tuple(args.to),
        kind=args.kind,
        reply_to=args.reply_to,
        visible_to=tuple(args.visible_to),
        data=args.data,
        timer=args.timer,
        enabled=args.enabled,
        idempotency_key=args.key or new_key(),
    )
    sent = ctx.call_again("message.send", params, t.Sent)
    if ctx.out.json:
        ctx.out.document(sent)
    elif sent.queued:
        ctx.out.say(("Not sent yet", "warn"), " to ", (f"'{sent.name or sent.room}'", "name"), f". {QUEUED}")
    elif sent.gated:
        again, room = " before, and not again," if sent.replayed else "", sent.name or sent.room
        ctx.out.say((f"Posted{again}", "good"), " in ", (f"'{room}'", "name"), ", and shown to nobody yet.")
        ctx.out.note("What it waits for, and how to take it back:")
        where = within(sent.room if args.room or args.service or args.to else None)
        ctx.out.paste(f"parler why {sent.id}{where}", beside=True)
        ctx.out.paste(f"parler withdraw {sent.id}{where}", beside=True)
    else:
        again = " before, and not again," if sent.replayed else ""
        number = "" if sent.seq is None else f" as #{sent.seq}"
        ctx.out.say((f"Sent{again}", "good"), f"{number} to ", (f"'{sent.name or sent.room}'", "name"), ".")
        if sent.seq is None:
            # Whoever only asks a queue reads what is for it.
            ctx.out.note("It has no number for you. How far it got, and what comes of it:")
            ctx.out.paste(f"parler why {sent.id}", beside=True)
            ctx.out.paste(f"parler recv --room {sent.room} --wait 60", beside=True)
    if not ctx.out.json:
        if sent.opened_queue is True:
            ctx.out.say("That queue is new, and nobody else works for it yet.")
        if sent.opened is True:
            ctx.out.say("That room is new, and for the two of you alone.")
        if isinstance(sent.awaits, str):
            ctx.out.say(
                (sent.awaits, "name"), " is not in it yet. The message waits there; its person may be asked first."
            )
            if sent.needs_both is True:
                ctx.out.say((sent.awaits, "name"), " reads this once both machines were connected.")
        if isinstance(sent.join_code, str):
            ctx.out.say("The other person may be asked for this code, so tell it to them:")
            ctx.out.paste("CODE: ", (sent.join_code, "good"))
    say_warning(ctx, sent.warning)
    return DONE


def say_warning(ctx: Context, warning: object) -> None:
    """Say what was taken out of somebody's words, if anything was."""
    if isinstance(warning, str) and not ctx.out.json:
        ctx.out.say((warning, "warn"))


# -- withdraw ----------------------------------------------------------------------------------------------


def _withdraw_arguments(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the id that `parler send` printed")
    room_argument(parser)
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _withdraw(ctx: Context, args: Namespace) -> int:
    params = t.WithdrawMessage(id=args.id, room=args.room, idempotency_key=args.key or new_key())
    taken = ctx.call_again("message.withdraw", params, t.Withdrawn)
    if ctx.out.json:
        ctx.out.document(taken)
    else:
        again = " before" if taken.replayed else ""
        ctx.out.say((f"Taken back{again}", "good"), f": {taken.id} is shown to nobody else.")
    return DONE


# -- recv --------------------------------------------------------------------------------------------------


def _recv_arguments(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--room", metavar="ROOM", help="a room's id or name (default: the active session)")
    where.add_argument("--all-rooms", action="store_true", help="every room you are in")
    parser.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="messages in one page (default 50, at most 500)"
    )
    waiting = parser.add_mutually_exclusive_group()
    waiting.add_argument("--wait", type=seconds, default=0, metavar="S", help="wait up to S seconds for something new")
    waiting.add_argument("--watch", action="store_true", help="go on with whatever comes, until interrupted")
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--since", type=whole, metavar="SEQ", help="what follows SEQ; acknowledges nothing")
    place.add_argument("--all", action="store_true", help="from the beginning; acknowledges nothing")
    parser.add_argument("--no-ack", action="store_true", help="show messages and leave them unread")
    parser.add_argument(
        "--take", action="store_true", help="acknowledge although a live window acts under the same name"
    )
    wide_argument(parser)
    parser.add_argument("--mentions", action="store_true", help="only what is addressed to you")
    parser.add_argument("--kind", type=unicode_text, metavar="KIND", help="only messages of this kind")
    parser.add_argument(
        "--unclaimed", action="store_true", help="the open tasks that you could claim; acknowledges nothing"
    )


def _recv(ctx: Context, args: Namespace) -> int:
    if args.unclaimed and (args.watch or args.since is not None or args.all or args.kind or args.mentions):
        raise UsageError("--unclaimed shows every open task, and goes with no other choice", path="parler recv")
    if args.all_rooms and args.since is not None:
        raise UsageError("--since counts in one room; name it with --room", path="parler recv")
    if args.watch:
        return _watch(ctx, args)
    deadline = ctx.monotonic() + args.wait / 1000
    page = _read(ctx, _params(args), deadline)
    if ctx.out.json:
        ctx.out.document(page)
    else:
        _show(ctx, page, args)
        if isinstance(page, t.Received) and not page.messages and not _narrows(args):
            _say_elsewhere(ctx, page.room)
    ctx.out.flush()
    _acknowledge(ctx, page, args)
    return DONE


def _say_elsewhere(ctx: Context, room: str) -> None:
    """Say what waits in other rooms: a direct message, say, to an agent that goes on in a session."""
    listed = ctx.call_again("rooms.list", t.ListRooms(), t.RoomList)
    waiting = sum(each.unread for each in listed.rooms if listed.you in each.agents and each.room != room)
    if waiting:
        ctx.out.note(f"{counted(waiting, 'message')} wait{'s' if waiting == 1 else ''} in other rooms. To read all:")
        ctx.out.paste("parler recv --all-rooms", beside=True)


def _watch(ctx: Context, args: Namespace) -> int:
    """Show page after page until interrupted. A look back (`--since`, `--all`, `--no-ack`) acknowledges nothing, so
    each of its reads begins after what the one before showed."""
    ctx.out.stream()
    params = _params(args)
    while True:
        page = _read(ctx, params, None)
        if ctx.out.json:
            ctx.out.item(page)
        else:
            _show(ctx, page, args)
        ctx.out.flush()
        acknowledged = _acknowledge(ctx, page, args)
        if not acknowledged:
            params = _behind(params, page)


def _behind(params: t.Recv, page: t.Received | t.ReceivedAll) -> t.Recv:
    """The parameters that read what follows `page`, when it was not acknowledged and would be shown again."""
    import msgspec

    if isinstance(page, t.ReceivedAll):
        raise UsageError(
            "--watch --all-rooms acknowledges what it shows; use --room for a look back", path="parler recv"
        )
    if not page.messages:
        return params
    return msgspec.structs.replace(params, since=page.messages[-1].seq, all=False)


def _params(args: Namespace) -> t.Recv:
    return t.Recv(
        room=args.room,
        all_rooms=args.all_rooms,
        limit=min(args.limit, t.MAX_PAGE),
        since=args.since,
        all=args.all,
        peek=args.no_ack,
        take=args.take,
        mentions=args.mentions,
        kind=args.kind,
        unclaimed=args.unclaimed,
    )


def _read(ctx: Context, params: t.Recv, deadline: float | None) -> t.Received | t.ReceivedAll:
    """The next page that holds something, or an empty one at the deadline. A daemon that restarts is waited for."""
    import msgspec

    def ask(wait_ms: int) -> t.Recv:
        return msgspec.structs.replace(params, wait_ms=wait_ms)

    def shows_something(page: t.Received | t.ReceivedAll) -> bool:
        return any(each.messages for each in _pages(page))

    with ctx.out.progress("Waiting for messages"):
        if params.all_rooms:
            return ctx.wait_for("message.recv_all", ask, t.ReceivedAll, deadline=deadline, until=shows_something)
        return ctx.wait_for("message.recv", ask, t.Received, deadline=deadline, until=shows_something)


def _pages(page: t.Received | t.ReceivedAll) -> Sequence[t.Received]:
    return page.rooms if isinstance(page, t.ReceivedAll) else (page,)


def _show(ctx: Context, page: t.Received | t.ReceivedAll, args: Namespace) -> None:
    out = ctx.out
    pages = _pages(page)
    shown = [each for each in pages if each.messages]
    for each in shown:
        if len(pages) > 1:
            out.say((f"'{each.name}'", "name"), (f"  {each.room}", "dim") if args.wide else "")
        room = (each.name or each.room) if args.all_rooms else args.room
        show_messages(out, each.messages, ctx.now(), you=each.you, wide=args.wide, room=room)
        if each.more and not args.watch:
            again = f"add --since {each.messages[-1].seq}" if _looks_back(args) else "run the same command again"
            out.note(f"More follows in '{each.name}'. To read it, {again}.")
    if not shown:
        out.note("There is nothing new.")
    for each in pages:
        if each.notice:
            out.note(each.notice)


def _looks_back(args: Namespace) -> bool:
    return args.since is not None or args.all or args.no_ack or args.unclaimed


def _narrows(args: Namespace) -> bool:
    """Whether only a part of what waits was asked for, or what was read before."""
    return _looks_back(args) or args.mentions or args.kind is not None


def _acknowledge(ctx: Context, page: t.Received | t.ReceivedAll, args: Namespace) -> bool:
    """Acknowledge what was printed, unless this was a look back. Gives whether the next read will begin after it."""
    if _looks_back(args):
        return False
    for each in _pages(page):
        if each.messages and each.acknowledges and each.cursor:
            ctx.call_again("message.commit", t.Commit(room=each.room, cursor=each.cursor), t.Committed)
    return all(each.acknowledges for each in _pages(page))


# -- why ---------------------------------------------------------------------------------------------------


def _disclosures_arguments(parser: Parser) -> None:
    parser.add_argument("--after", type=whole, metavar="N", help="what follows your number N (default: the newest)")
    room_argument(parser)


def _disclosures(ctx: Context, args: Namespace) -> int:
    params = t.ListDisclosures(room=args.room, after=args.after)
    found = ctx.call_again("message.disclosures", params, t.Disclosures)
    out = ctx.out
    if out.json:
        out.document(found)
        return DONE
    for message in found.messages:
        out.say((f"#{message.seq}", "bold"), " of ", (message.author, "name"), f", {clock(message.at, ctx.now())}:")
        for each in message.shown:
            out.say("  ", (each.name, "name"), f" {clock(each.at, ctx.now())}", hang=2)
            if isinstance(each.sight, t.SightSaid):
                _say_sight(ctx, each.sight)
        if not message.shown:
            out.say(("  shown to nobody yet", "dim"))
    if not found.messages:
        out.say(f"None of the messages that were looked at in '{found.name}' is yours.")
    if found.away:
        out.note("The home of this room does not answer: who of other machines was shown something is not known.")
    if found.more:
        out.note("There are more after these:")
        out.paste(f"parler disclosures --room {found.room} --after {found.upto}", beside=True)
    return DONE


def _why_arguments(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the message: your own number of it, or its id")
    room_argument(parser)
    wide_argument(parser)


def _why(ctx: Context, args: Namespace) -> int:
    found = ctx.call_again("message.why", t.Why(id=args.id, room=args.room), t.WhyResult)
    out = ctx.out
    if out.json:
        out.document(_with_rungs(found))
        return DONE
    if isinstance(found.queued, t.QueuedHere):
        _say_queued(ctx, found.queued)
        return DONE
    if isinstance(found.handoff, t.HandoffEntry):
        out.say(*offer_line(found.handoff, ctx.now()), hang=2)
    if isinstance(found.task, t.TaskEntry):
        out.say(*_task_line(found.task, ctx.now()))
    if isinstance(found.gated, t.GatedEntry):
        out.say(*_gated_line(found.gated, ctx.now(), is_task=isinstance(found.task, t.TaskEntry)))
        if not found.readers:
            return DONE
    if found.erased is True:
        out.say(_ERASED)
    if found.away is True:
        out.note("The home of this room does not answer: only what is known here is said.")
    if not found.readers:
        is_task = isinstance(found.task, t.TaskEntry)
        out.say("No worker is there now." if is_task else "Nobody but its author may see this message.")
        return DONE
    for reader in found.readers:
        out.say((reader.name, "name"), f": {_ladder(reader.rungs, ctx.now())}", hang=2)
        if isinstance(reader.sight, t.SightSaid):
            _say_sight(ctx, reader.sight)
        if isinstance(reader.stopped, str):
            since = f" since {clock(reader.stopped_since, ctx.now())}" if reader.stopped_since else ""
            out.say(("  stopped: ", "dim"), (reader.stopped + since, "warn"), hang=2)
        if isinstance(reader.held, int):
            why = f"{counted(reader.held, 'turn')} of the two began by themselves in this conversation"
            command = f"parler room continue {found.room}"
            if not reader.held:
                why = "you let no agent's message begin a turn in this room"
                command = f"parler room turns {found.room} default"
            out.say(("  wakes nobody: ", "dim"), (why, "warn"), hang=2)
            out.say("  To let them go on:")
            out.paste(command)
        if args.wide:
            out.say(("  id ", "dim"), reader.agent)
    return DONE


_ERASED: Final = "The words of this message were erased by retention or a timer."


def _gated_line(gated: t.GatedEntry, now: float, *, is_task: bool) -> list[Span]:
    """What a message waits for, in a line."""
    said: list[Span] = []
    timer = gated.timer
    if isinstance(gated.enabled, str):
        what = (
            "It is offered while this is true for a worker: " if is_task else "It is shown to whom this is true for: "
        )
        said += [what, (gated.enabled, "name"), ". "]
    if isinstance(timer, t.TimerShown):
        what = "It goes" if timer.effect == "delete" else "Nobody is shown it before its timer runs out"
        when = f"after {timer.ticks_left} more writes of {timer.tick_on}"
        if isinstance(timer.at, int):
            when = to_the_second(timer.at, now)
        said.append(f"{what}: {when}. ")
    shown_to = "everyone" if gated.shown_to is None else ", ".join(gated.shown_to)
    said.append(f"Shown to {shown_to}." if shown_to else ("Nobody was shown it yet.", "warn"))
    return said


def _task_line(task: t.TaskEntry, now: float) -> list[Span]:
    """How a task stands, in a line."""
    if task.holder is not None and task.lease_until is not None:
        until = to_the_second(task.lease_until, now)
        return [("The task is held by ", "plain"), (task.holder, "name"), f" until {until}: {task.state}."]
    open_until = to_the_second(task.open_until, now) if isinstance(task.open_until, int) else ""
    if open_until and task.state != "open":
        return [f"The task is {task.state}: nobody had it when its timer ran out, {open_until}."]
    if isinstance(task.ended_by, str):
        return [f"The task is {task.state}, as ", (task.ended_by, "name"), " said."]
    for_now = f" It can be claimed until {open_until}." if open_until else ""
    return [("The task is open: ", "plain"), f"nobody holds it.{for_now}"]


def _say_queued(ctx: Context, queued: t.QueuedHere) -> None:
    since = f"queued here since {to_the_second(queued.since, ctx.now())}"
    if queued.refused:
        ctx.out.say((f"Refused by {queued.home}", "bad"), f" ({queued.refused}), and not sent again: {since}.")
    else:
        ctx.out.say((since[0].upper() + since[1:], "warn"), f", goes out when the link to {queued.home} is up.")


def _with_rungs(found: t.WhyResult) -> dict[str, Any]:
    """The document with each reader's whole ladder: the rung `shown` follows from what the host's record says."""
    document: dict[str, Any] = msgspec.to_builtins(found)
    for said, reader in zip(document["readers"], found.readers, strict=True):
        said["stages"] = [{"stage": rung, "at": at} for rung, at in reader.rungs]
    return document


def _say_sight(ctx: Context, sight: t.SightSaid) -> None:
    """What the record of a reader's host says, with when Parler came to know it, and what its reader can do."""
    said = sentence_of(sight.verdict, sight.reason, sight.host, sight.again, elsewhere=sight.elsewhere)
    style: Style = "plain" if sight.verdict in ("shown", "quoted", "pending") else "warn"
    ctx.out.say(("  model: ", "dim"), (said, style), f" ({to_the_second(sight.at, ctx.now())})", hang=2)
    if sight.evidence:
        ctx.out.say(("  by ", "dim"), sight.evidence, hang=2)
    if way_out := way_out_of(sight.verdict, sight.again):
        ctx.out.say(f"  {way_out}", hang=2)


def _ladder(rungs: Sequence[tuple[str, int]], now: float) -> str:
    """How far a message got: when it was stored, and how long after that it reached each further rung."""
    if not rungs:
        return "not stored for it"
    (first, began), *rest = rungs
    steps = [f"{first} {to_the_second(began, now)}"]
    for rung, at in rest:
        took = (at - began) / 1000
        steps.append(f"{rung} " + ("at once" if took < 1 else f"after {span_of(took)}"))
    return ", ".join(steps)


HANDLERS: Final = {
    "send": Handler(
        _send_arguments,
        _send,
        section="Talk",
        rank=10,
        examples=(
            'parler send --room auth-redesign "on it, taking token rotation"',
            "git diff | parler send --room auth-redesign --kind review -",
            'parler send --service review "review PR #42"',
        ),
        gives_receipt=True,
    ),
    "withdraw": Handler(
        _withdraw_arguments,
        _withdraw,
        section="Talk",
        rank=55,
        examples=("parler withdraw m_0123456789abcdefghij",),
        gives_receipt=True,
    ),
    "recv": Handler(
        _recv_arguments,
        _recv,
        section="Talk",
        rank=20,
        examples=(
            "parler recv",
            "parler --as bob recv --room auth-redesign --wait 60",
            "parler recv --all --wide",
        ),
    ),
    "disclosures": Handler(
        _disclosures_arguments,
        _disclosures,
        section="Talk",
        rank=52,
        examples=("parler disclosures", "parler disclosures --after 0 --room auth-redesign"),
    ),
    "why": Handler(_why_arguments, _why, section="Talk", rank=50, examples=("parler why 7 --room auth-redesign",)),
}
