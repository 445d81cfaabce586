"""`parler serve`, `claim`, `renew`, `release`, `complete` and `task`.

Not here: who gets which task (the engine). Above: `commands`. Below: `context`, `render`. Invariant: with `--json` each
of them prints one object with `id`, `lease_until`, `fence` and `message`, but `serve` without `--watch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler
from parlerd.cli.messages import given_text, say_warning
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError, seconds, unicode_text, whole
from parlerd.cli.render import counted, show_messages, to_the_second
from parlerd.cli.session import CLEAR, SEALED
from parlerd.core.model import DEFAULT_LEASE_MS, MAX_LEASE_MS, MIN_LEASE_MS
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.cli.output import Span

RENEWALS: Final = 3
"""How often `serve --watch` renews a claim within one lease, so that a daemon that restarts meanwhile loses none."""
_OVER: Final = ("claim_lost", "task_over", "no_such_task")
"""Why a task is held no more."""


def _place_arguments(parser: Parser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--service", type=unicode_text, metavar="NAME", help="the queue that the task is in")
    where.add_argument("--room", metavar="ROOM", help="the room, by its id or name (default: the active session)")


def _lease_argument(parser: Parser) -> None:
    parser.add_argument(
        "--lease", type=_lease, metavar="S", help="hold it for S seconds: 15 to 3600 (default 300), and renewed longer"
    )


def _lease(text: str) -> int:
    import argparse

    lease_ms = seconds(text)
    if not MIN_LEASE_MS <= lease_ms <= MAX_LEASE_MS:
        raise argparse.ArgumentTypeError(f"{text} is no lease: a lease is 15 to 3600 seconds")
    return lease_ms


def _task_argument(parser: Parser) -> None:
    parser.add_argument("id", type=unicode_text, metavar="ID", help="the task: its id, or your own number of it")


def _key_argument(parser: Parser) -> None:
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


# -- serve -------------------------------------------------------------------------------------------------


def _serve_arguments(parser: Parser) -> None:
    parser.add_argument(
        "name", type=unicode_text, metavar="NAME", help="the queue; NAME@HOME for one in a certain home"
    )
    parser.add_argument(
        "--watch", action="store_true", help="stay, claim one task after another, and hold each until it is ended"
    )
    parser.add_argument(
        "--clear",
        action="store_true",
        help="let the relay that a new queue opens on read it (default: the relay cannot)",
    )
    _lease_argument(parser)


def _serve(ctx: Context, args: Namespace) -> int:
    served = ctx.call_again("queue.serve", t.Serve(service=args.name, clear=args.clear), t.Served)
    if args.watch:
        return _work(ctx, args, served)
    if ctx.out.json:
        ctx.out.document(served)
        return DONE
    where: Span = (f"'{served.name}'", "name")
    if served.opened:
        ctx.out.say(("The queue ", "good"), where, " is open, and you are its first worker.")
        if served.sealed or args.clear:
            ctx.out.say(SEALED if served.sealed else CLEAR)
    elif served.status == "already_serving":
        ctx.out.say("You are a worker of ", where, " already.")
    else:
        ctx.out.say(("You are a worker of ", "good"), where, " now.")
    waits = f"{counted(served.open, 'task')} wait{'s' if served.open == 1 else ''} there. " if served.open else ""
    ctx.out.note(f"{waits}To take one: parler claim --service {args.name} --wait 60")
    return DONE


def _work(ctx: Context, args: Namespace, served: t.Served) -> int:
    """Claim one task after another and show each, until interrupted. A task that is shown is held until somebody ends
    it: whoever reads the output does the work."""
    ctx.out.stream()
    while True:
        key = new_key()

        def ask(wait_ms: int, key: str = key) -> t.ClaimTask:
            return t.ClaimTask(room=served.room, wait_ms=wait_ms, lease_ms=args.lease, idempotency_key=key)

        with ctx.out.progress(f"Waiting for a task in '{served.name}'"):
            held = ctx.wait_for("task.claim", ask, t.TaskHeld, deadline=None, until=lambda held: held.id is not None)
        if ctx.out.json:
            ctx.out.item(held)
        else:
            _show_claimed(ctx, held)
        ctx.out.flush()
        _hold(ctx, held, args.lease or DEFAULT_LEASE_MS)


def _hold(ctx: Context, held: t.TaskHeld, lease_ms: int) -> None:
    """Renew a claim until the task is held no more."""
    from parlerd.core.errors import ParlerError

    task = held.id or ""

    def ask(wait_ms: int) -> t.RenewTask:
        return t.RenewTask(id=task, room=held.room, lease_ms=lease_ms, wait_ms=wait_ms)

    is_held = True
    while is_held:
        deadline = ctx.monotonic() + lease_ms / RENEWALS / 1000
        try:
            now = ctx.wait_for("task.renew", ask, t.TaskHeld, deadline=deadline, until=lambda _: True)
        except ParlerError as error:
            if error.code not in _OVER:
                raise
            return
        is_held = now.lease_until is not None


# -- claim -------------------------------------------------------------------------------------------------


def _claim_arguments(parser: Parser) -> None:
    parser.add_argument(
        "id",
        nargs="?",
        type=unicode_text,
        metavar="ID",
        help="the task: its id, or your own number of it (default: the oldest that you can have)",
    )
    _place_arguments(parser)
    parser.add_argument("--wait", type=seconds, default=0, metavar="S", help="wait up to S seconds for a task")
    _lease_argument(parser)
    _key_argument(parser)


def _claim(ctx: Context, args: Namespace) -> int:
    key = args.key or new_key()

    def ask(wait_ms: int) -> t.ClaimTask:
        return t.ClaimTask(
            id=args.id,
            service=args.service,
            room=args.room,
            wait_ms=wait_ms,
            lease_ms=args.lease,
            idempotency_key=key,
        )

    deadline = ctx.monotonic() + args.wait / 1000
    with ctx.out.progress("Waiting for a task"):
        held = ctx.wait_for("task.claim", ask, t.TaskHeld, deadline=deadline, until=lambda held: held.id is not None)
    if ctx.out.json:
        ctx.out.document(held)
        return DONE
    if held.id is None:
        ctx.out.say(f"There is nothing to claim in '{held.name}'.")
        return DONE
    _show_claimed(ctx, held)
    return DONE


def _show_claimed(ctx: Context, held: t.TaskHeld) -> None:
    out = ctx.out
    until = "" if held.lease_until is None else f" until {to_the_second(held.lease_until, ctx.now())}"
    again = " already" if held.status == "already_yours" else ""
    out.say((f"You hold this task{again}", "good"), f" in '{held.name}'{until}.")
    if held.message is not None:
        show_messages(out, [held.message], ctx.now(), you=None)
    out.note(f"To end it: parler complete {held.id} --fence {held.fence} --result TEXT")


# -- renew, release ----------------------------------------------------------------------------------------


def _renew_arguments(parser: Parser) -> None:
    _task_argument(parser)
    _place_arguments(parser)
    _lease_argument(parser)


def _renew(ctx: Context, args: Namespace) -> int:
    params = t.RenewTask(id=args.id, service=args.service, room=args.room, lease_ms=args.lease)
    held = ctx.call_again("task.renew", params, t.TaskHeld)
    if ctx.out.json:
        ctx.out.document(held)
    elif held.lease_until is not None:
        ctx.out.say(("You hold it", "good"), f" until {to_the_second(held.lease_until, ctx.now())}.")
    return DONE


def _release_arguments(parser: Parser) -> None:
    _task_argument(parser)
    _place_arguments(parser)
    _key_argument(parser)


def _release(ctx: Context, args: Namespace) -> int:
    params = t.ReleaseTask(id=args.id, service=args.service, room=args.room, idempotency_key=args.key or new_key())
    held = ctx.call_again("task.release", params, t.TaskHeld)
    if ctx.out.json:
        ctx.out.document(held)
    else:
        said = f"another worker of '{held.name}' can take it"
        if held.status != "open":
            said = f"its time was over, so it is {held.status}"
        ctx.out.say(("Given back", "good"), f": {said}.")
    return DONE


# -- complete, task ----------------------------------------------------------------------------------------


def _complete_arguments(parser: Parser) -> None:
    _task_argument(parser)
    parser.add_argument(
        "--fence", type=whole, default=0, metavar="N", help="the number of your claim, which the claim printed"
    )
    parser.add_argument(
        "--result", default="", type=unicode_text, metavar="T", help="what came of it; - reads stdin (default: done)"
    )
    _result_argument(parser)
    _place_arguments(parser)
    _key_argument(parser)


def _result_argument(parser: Parser) -> None:
    parser.add_argument(
        "--blob",
        type=unicode_text,
        metavar="BLOB",
        help="a file or code of the same room that goes along: its id, or the message that brings it",
    )


def _complete(ctx: Context, args: Namespace) -> int:
    result = given_text(ctx, ["-"], what="the result", path="parler complete") if args.result == "-" else args.result
    params = t.CompleteTask(
        id=args.id,
        fence=args.fence,
        text=result,
        blob=args.blob,
        service=args.service,
        room=args.room,
        idempotency_key=args.key or new_key(),
    )
    return _say_status(ctx, ctx.call_again("task.complete", params, t.TaskHeld))


def _task_arguments(parser: Parser) -> None:
    parser.add_argument("status", choices=_STATUSES, metavar="STATUS", help=f"one of: {', '.join(_STATUSES)}")
    parser.add_argument(
        "--task",
        type=unicode_text,
        metavar="ID",
        help="the task: its id, or your own number of it (default: the one that you hold)",
    )
    parser.add_argument("--note", default="", type=unicode_text, metavar="T", help="words beside it")
    _result_argument(parser)
    _place_arguments(parser)
    _key_argument(parser)


def _task(ctx: Context, args: Namespace) -> int:
    if args.status not in _STATUSES:
        raise UsageError(f"STATUS is one of: {', '.join(_STATUSES)}", path="parler task")
    params = t.SayOfTask(
        status=args.status,
        id=args.task,
        text=args.note,
        blob=args.blob,
        service=args.service,
        room=args.room,
        idempotency_key=args.key or new_key(),
    )
    return _say_status(ctx, ctx.call_again("task.say", params, t.TaskHeld))


_STATUSES: Final = ("accepted", "working", "awaiting", "done", "failed", "cancelled")
_ENDED: Final = {"done": "Done", "failed": "Ended as failed", "cancelled": "Cancelled"}


def _say_status(ctx: Context, held: t.TaskHeld) -> int:
    if ctx.out.json:
        ctx.out.document(held)
        return DONE
    if held.lease_until is None:
        said = _ENDED.get(held.status, held.status)
        ctx.out.say((said, "good"), f" in '{held.name}': whoever asked for it is told.")
    else:
        until = to_the_second(held.lease_until, ctx.now())
        ctx.out.say((f"Noted: {held.status}", "good"), f". You hold it until {until}.")
    say_warning(ctx, held.warning)
    return DONE


HANDLERS: Final = {
    "serve": Handler(
        _serve_arguments,
        _serve,
        section="Talk",
        rank=35,
        examples=("parler serve review", "parler --json serve review --watch"),
    ),
    "claim": Handler(
        _claim_arguments,
        _claim,
        section="Talk",
        rank=36,
        examples=("parler claim --service review --wait 60", "parler claim 7 --lease 900"),
        gives_receipt=True,
    ),
    "renew": Handler(
        _renew_arguments, _renew, section="Talk", rank=37, examples=("parler renew 7 --lease 900",), gives_receipt=True
    ),
    "release": Handler(
        _release_arguments, _release, section="Talk", rank=38, examples=("parler release 7",), gives_receipt=True
    ),
    "complete": Handler(
        _complete_arguments,
        _complete,
        section="Talk",
        rank=39,
        examples=(
            'parler complete 7 --fence 12 --result "approved, two remarks"',
            'parler complete 7 --result "the report" --blob 9',
        ),
        gives_receipt=True,
    ),
    "task": Handler(
        _task_arguments,
        _task,
        section="Talk",
        rank=49,
        examples=('parler task working --note "reading the diff"', "parler task failed --task 7"),
        gives_receipt=True,
    ),
}
