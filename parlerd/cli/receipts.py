"""`parler receipt show`, `export`, `list`, `verify` and `keys`, and `parler audit`.

`verify` asks nobody when the keys that it is to trust are named; else it asks this machine's daemon which homes are
known here. Above: `commands`. Below: `context`, `identity.receipt_checks`. Invariant: a check that finds something
wrong exits 1.
"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler, no_arguments, room_argument
from parlerd.cli.output import DONE, FAILED, moment, to_json
from parlerd.cli.parsing import Parser, UsageError, positive, unicode_text
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.identity.receipt_checks import Checked, Gap

_SECTION: Final = "Look around"
_SAID: Final = {
    "valid": "",
    "not_a_receipt": "This is no receipt, or a byte of it is not as it was written.",
    "unknown_key": "The home that this receipt names is not one that you trust: name its key with --key.",
    "bad_signature": "The home that this receipt names did not sign this text.",
    "digest_mismatch": "What is beside the receipt is not what the receipt is of.",
    "key_mismatch": "The key beside the receipt does not open the message.",
    "chain_gap": "",
    "author_mismatch": "The home says that its author signed this, and that is not so.",
}
_WRONG: Final = {
    "chain": "is not the one that was stored: its digest or the chain's does not match",
    "signature": "is not what its author signed",
    "own_line": "does not go on from the one before it in its author's own line",
}


def _show_arguments(parser: Parser) -> None:
    parser.add_argument(
        "id", type=unicode_text, metavar="ID", help="a message's id or number, or the fact that a write named"
    )
    room_argument(parser)


def _export(ctx: Context, args: Namespace) -> int:
    params = t.GetReceipt(id=args.id, room=args.room, proof=True)
    # One document in either case: this is for a file, which `receipt verify` reads.
    ctx.out.line(to_json(ctx.call_again("receipt.get", params, t.ReceiptGiven)))
    return DONE


def _show(ctx: Context, args: Namespace) -> int:
    given = ctx.call_again("receipt.get", t.GetReceipt(id=args.id, room=args.room), t.ReceiptGiven)
    if ctx.out.json:
        ctx.out.document(given)
    else:
        # Line by line as it is: a file of this is what `receipt verify` reads.
        for line in given.receipt.removesuffix("\n").split("\n"):
            ctx.out.line(line)
    return DONE


def _list_arguments(parser: Parser) -> None:
    room_argument(parser)
    parser.add_argument(
        "--limit", type=positive, metavar="N", default=50, help="at most N, the newest first (default 50, at most 200)"
    )
    parser.add_argument(
        "--before", type=unicode_text, metavar="PLACE", help="what came before a place that an earlier list ended at"
    )


def _list(ctx: Context, args: Namespace) -> int:
    params = t.ListReceipts(room=args.room, before=args.before, limit=min(args.limit, t.MAX_LISTED))
    found = ctx.call_again("receipt.list", params, t.ReceiptList)
    if ctx.out.json:
        ctx.out.document(found)
        return DONE
    rows = [
        (each.fact, "" if each.number is None else str(each.number), each.operation, moment(each.at))
        for each in found.receipts
    ]
    if rows:
        ctx.out.table(("fact", "number", "operation", "when"), rows)
    elif found.before:
        ctx.out.say("You did nothing of which there is a receipt in the part of the room that was looked through.")
    else:
        ctx.out.say("You did nothing here of which there is a receipt.")
    if found.before:
        ctx.out.note("There is more before these:")
        # A place may begin with a dash, and is no option then.
        ctx.out.note(
            f"parler receipt list --before={found.before}" + (f" --room {quote(args.room)}" if args.room else "")
        )
    return DONE


def _verify_arguments(parser: Parser) -> None:
    parser.add_argument(
        "files", nargs="+", type=unicode_text, metavar="FILE", help="a receipt, or its JSON; - reads standard input"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        type=unicode_text,
        metavar="KEY",
        help="believe this home and no other (default: this one, and the relays that you added)",
    )


def _verify(ctx: Context, args: Namespace) -> int:
    from parlerd.identity.receipt_checks import check, gaps

    trusted = args.key or [each.id for each in _known(ctx)]
    found = [(name, check(_read(ctx, name), trusted)) for name in args.files]
    broken = gaps(each.receipt for _, each in found if each.verdict == "valid" and each.receipt is not None)
    is_fine = not broken and all(each.verdict == "valid" for _, each in found)
    if ctx.out.json:
        ctx.out.document({"receipts": [_entry(name, each) for name, each in found], "gaps": [*map(_gap, broken)]})
        return DONE if is_fine else FAILED
    for name, each in found:
        _tell(ctx, name, each)
    for gap in broken:
        assert gap.receipt.numbered is not None
        what = f"{gap.missing} before it are not here" if gap.missing else "it does not follow the one before it"
        ctx.out.say(("chain_gap", "bad"), f": {gap.receipt.fact} is number {gap.receipt.numbered.number}, and {what}.")
    if is_fine:
        ctx.out.note("Nothing here says that no receipt is missing, or that the home told the truth.")
    return DONE if is_fine else FAILED


def _tell(ctx: Context, name: str, checked: Checked) -> None:
    receipt = checked.receipt
    if checked.verdict != "valid" or receipt is None:
        ctx.out.say((checked.verdict, "bad"), f": {name}: {_SAID[checked.verdict]}", hang=2)
        return
    what = f"did {receipt.operation}" if receipt.operation else "wrote a message"
    ctx.out.say(("valid", "good"), f": {name}: ", (receipt.handle, "name"), f" {what}", hang=2)
    ctx.out.note(f"in {receipt.room}, as {receipt.fact}; {receipt.stage}")
    ctx.out.note(f"agent {receipt.actor}")
    ctx.out.note(f"for the person {receipt.principal}; says the home {receipt.home}")
    if checked.is_proved:
        ctx.out.note("The owner of the room let this agent in, under this name and for this person.")
    if checked.is_authored:
        ctx.out.note("The content is beside it, and its author signed it.")
    elif checked.is_opened:
        ctx.out.note("The content is beside it.")
    else:
        ctx.out.note("The content is not beside it: `parler receipt show ID --json` brings both.")
    if checked.text is not None:
        ctx.out.say("It says:")
        ctx.out.text(checked.text)
    elif checked.is_sealed:
        ctx.out.note("The content is encrypted, and the key that opens it is not beside it.")


def _entry(name: str, checked: Checked) -> dict[str, Any]:
    receipt = checked.receipt
    said = {"file": name, "verdict": checked.verdict, "opened": checked.is_opened, "authored": checked.is_authored}
    said["proved"] = checked.is_proved
    if checked.text is not None:
        said["text"] = checked.text
    if receipt is None:
        return said
    return {
        **said,
        "home": receipt.home,
        "room": receipt.room,
        "fact": receipt.fact,
        "operation": receipt.operation,
        "at": receipt.at,
        "actor": receipt.actor,
        "handle": receipt.handle,
        "principal": receipt.principal,
        "stage": receipt.stage,
        "number": None if receipt.numbered is None else receipt.numbered.number,
        "steps": [
            {"operation": step.operation, "fact": step.fact, "at": step.at, "actor": step.actor}
            for step in receipt.steps
        ],
    }


def _gap(gap: Gap) -> dict[str, Any]:
    number = gap.receipt.numbered
    return {"fact": gap.receipt.fact, "number": number and number.number, "missing": gap.missing}


def _read(ctx: Context, name: str) -> bytes:
    from parlerd.identity.receipt_checks import MAX_BYTES

    if name == "-":
        return ctx.stdin.read(MAX_BYTES + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except ValueError:
        raise UsageError("a file's name has no zero byte", path="parler receipt verify") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", path="parler receipt verify") from error


def _known(ctx: Context) -> list[t.ReceiptKey]:
    return ctx.call_again("receipt.keys", t.ListReceiptKeys(), t.ReceiptKeys).keys


def _keys(ctx: Context, args: Namespace) -> int:
    keys = _known(ctx)
    if ctx.out.json:
        ctx.out.document({"keys": keys})
    else:
        ctx.out.table(("home", "key"), [((each.name, "name"), each.id) for each in keys])
    return DONE


def _audit_arguments(parser: Parser) -> None:
    parser.add_argument("--room", metavar="ROOM", help="a room's id (default: everything)")


def _audit(ctx: Context, args: Namespace) -> int:
    rooms = [args.room] if args.room else ctx.call_again("log.list", t.ListLogs(), t.LogList).rooms
    facts = 0
    with ctx.out.progress("Checking") as progress:
        for number, room in enumerate(rooms, 1):
            upto = -1
            while True:
                part = ctx.call_again("log.audit", t.AuditRoom(room=room, after=max(0, upto)), t.AuditedRoom)
                if part.wrong is not None:
                    return _found(ctx, part)
                progress.update(f"log {number} of {len(rooms)}: {part.upto} of {part.end} facts")
                if part.upto >= part.end or part.upto <= upto:
                    break
                upto = part.upto
            facts += part.upto
    if ctx.out.json:
        ctx.out.document({"ok": True, "logs": len(rooms), "facts": facts, "wrong": None})
    else:
        ctx.out.say(("Sound", "good"), f": {facts} facts in {len(rooms)} logs are what was stored and signed.")
    return DONE


def _found(ctx: Context, part: t.AuditedRoom) -> int:
    if ctx.out.json:
        ctx.out.document({"ok": False, "wrong": {"room": part.room, "fact": part.fact, "what": part.wrong}})
    else:
        assert part.wrong is not None
        ctx.out.say(("Wrong", "bad"), f": in {part.room} the fact {part.fact} {_WRONG[part.wrong]}.", hang=2)
        ctx.out.note("The file was changed from outside: restore the newest backup (docs/operations.md).")
    return FAILED


HANDLERS: Final = {
    "receipt show": Handler(
        _show_arguments,
        _show,
        section=_SECTION,
        rank=200,
        examples=("parler receipt show 12", "parler receipt show m_0123456789abcdefghij --json > receipt.json"),
    ),
    "receipt export": Handler(
        _show_arguments,
        _export,
        section=_SECTION,
        rank=205,
        examples=("parler receipt export 12 > receipt.json",),
        summary="Show a receipt with all that its check can use.",
    ),
    "receipt list": Handler(
        _list_arguments,
        _list,
        section=_SECTION,
        rank=207,
        examples=("parler receipt list", "parler receipt list --room team --limit 10"),
    ),
    "receipt verify": Handler(
        _verify_arguments,
        _verify,
        section=_SECTION,
        rank=210,
        examples=("parler receipt verify receipt.json",),
        summary="Check receipts, without asking anybody.",
    ),
    "receipt keys": Handler(no_arguments, _keys, section=_SECTION, rank=220, examples=("parler receipt keys",)),
    "audit": Handler(
        _audit_arguments,
        _audit,
        section=_SECTION,
        rank=230,
        examples=("parler audit",),
        summary="Check that what this home keeps is what was stored and signed.",
    ),
}
