"""`parler push`, `apply`, `send-file` and `fetch`.

git runs here, in the person's own shell and with what this shell may do. Not here: what git is allowed (`parlerd.git`),
bytes to the daemon and back (`transfer`). Above: `commands`. Below: `context`, `render`. Invariants: nothing is written
to a path or a name that whoever shared it chose; what was left out of a push is said, and never called a success.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.context import Context, new_key
from parlerd.cli.handlers import Handler, room_argument
from parlerd.cli.messages import QUEUED, say_warning
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, unicode_text
from parlerd.cli.render import counted, size_of
from parlerd.core.errors import Refused
from parlerd.core.words import MAX_NAME
from parlerd.operations import types as t

if TYPE_CHECKING:
    from argparse import Namespace

    from parlerd.cli.output import Span
    from parlerd.core.searching import Searched
    from parlerd.git.pushing import Bundled

REF: Final = 16
"""Digits of a blob's id that name the ref of what was applied, and the file of what was fetched without a name."""
_SHOWN: Final = 10
"""Paths that are listed for a person; the document has more."""
_WHY: Final = {
    "uncommitted": "not committed",
    "ignored": "ignored",
    "nested": "a repository of its own",
    "too_large": "too large",
    "submodule": "a submodule",
    "lfs": "kept by LFS elsewhere",
    "unreadable": "cannot be read",
}


def _sharing_arguments(parser: Parser) -> None:
    room_argument(parser)
    parser.add_argument("--note", default="", type=unicode_text, metavar="TEXT", help="what to say of it")
    parser.add_argument(
        "--to", action="append", default=[], metavar="AGENT", help="whose attention it wants; may be repeated"
    )
    parser.add_argument(
        "--visible-to",
        action="append",
        default=[],
        metavar="AGENT",
        help="only these may ever have it; may be repeated",
    )
    parser.add_argument("--key", type=unicode_text, metavar="KEY", help="idempotency key (default: random)")


def _blob_argument(parser: Parser) -> None:
    parser.add_argument(
        "blob", type=unicode_text, metavar="BLOB", help="its id, or the number of the message that brings it"
    )
    parser.add_argument("--room", metavar="ROOM", help="a room's id or name (default: every room you are in)")


# -- push --------------------------------------------------------------------------------------------------


def _push_arguments(parser: Parser) -> None:
    parser.add_argument(
        "ref",
        nargs="?",
        default="HEAD",
        type=unicode_text,
        metavar="REF",
        help="a branch, tag or commit (default: HEAD)",
    )
    parser.add_argument("--base", default="", type=unicode_text, metavar="REF", help="what the others have already")
    parser.add_argument(
        "--worktree", action="store_true", help="take uncommitted changes along, as a commit of their own"
    )
    _sharing_arguments(parser)


def _push(ctx: Context, args: Namespace) -> int:
    from parlerd.git.pushing import bundled
    from parlerd.git.repository import find
    from parlerd.git.running import Runner

    repository = find(os.getcwd(), Runner())
    with bundled(repository, args.ref, args.base, changes=args.worktree) as made:
        secrets = made.search()
        _say_secrets(ctx, secrets)
        shared = _share(ctx, args, made.path, f"the code of {made.ref}", made)
    if ctx.out.json:
        ctx.out.document(
            {
                **_document(shared),
                "refs": [{"ref": made.ref, "tip": made.tip}],
                "base": made.base or None,
                "complete": not made.left_out,
                "left_out": [{"path": each.path, "why": each.why} for each in made.left_out],
                "more_left_out": made.more,
                **_secrets(secrets),
            }
        )
        return DONE
    what = f"{made.ref} at {made.tip[:12]}, {size_of(made.size)}"
    _say_shared(ctx, shared, what, is_whole=not made.left_out)
    ctx.out.say("Others take it into a repository of theirs with:")
    ctx.out.paste(f"parler apply {shared.blob}")
    _say_left_out(ctx, made)
    return DONE


def _say_secrets(ctx: Context, searched: Searched) -> None:
    """Tell a person, before it goes, what in something looks like a secret."""
    if ctx.out.json:
        return
    count = len(searched.found) + searched.more
    if count:
        places = counted(count, "place")
        ctx.out.say((f"What looks like a secret goes along, in {places}:", "warn"))
    for each in searched.found[:_SHOWN]:
        ctx.out.say("  ", each.path, (f" ({each.kind})", "dim"), hang=2)
    if count > _SHOWN:
        ctx.out.note(f"and {count - _SHOWN} more; --json lists {len(searched.found)} of them.")
    if count:
        ctx.out.note("Whoever may see the message can have it, also who comes in later: change it where it was issued.")
    if not searched.is_whole:
        ctx.out.note("Not everything was looked through for secrets: there is too much of it.")


def _secrets(searched: Searched) -> dict[str, Any]:
    return {
        "secrets": [{"path": each.path, "kind": each.kind} for each in searched.found],
        "more_secrets": searched.more,
        "secrets_complete": searched.is_whole,
    }


def _say_left_out(ctx: Context, made: Bundled) -> None:
    count = len(made.left_out) + made.more
    if not count:
        return
    ctx.out.say((f"It is not everything: {counted(count, 'path')} {'is' if count == 1 else 'are'} left out.", "warn"))
    for each in made.left_out[:_SHOWN]:
        ctx.out.say("  ", each.path, (f" ({_WHY[each.why]})", "dim"), hang=2)
    if count > _SHOWN:
        ctx.out.note(f"and {count - _SHOWN} more; --json lists {len(made.left_out)} of them.")
    if any(each.why == "uncommitted" for each in made.left_out):
        ctx.out.note("To take uncommitted changes along: parler push --worktree")


# -- send-file ---------------------------------------------------------------------------------------------


def _send_arguments(parser: Parser) -> None:
    parser.add_argument("path", metavar="FILE", help="the file; only its name and its bytes are shared")
    _sharing_arguments(parser)


def _send_file(ctx: Context, args: Namespace) -> int:
    from parlerd.cli.transfer import searched

    secrets = searched(args.path)
    _say_secrets(ctx, secrets)
    shared = _share(ctx, args, args.path, os.path.basename(args.path), None)
    if ctx.out.json:
        ctx.out.document({**_document(shared), **_secrets(secrets)})
        return DONE
    _say_shared(ctx, shared, f"{os.path.basename(args.path)}, {size_of(shared.size)}", is_whole=True)
    ctx.out.say("Others fetch it with:")
    ctx.out.paste(f"parler fetch {shared.blob}")
    return DONE


def _share(ctx: Context, args: Namespace, path: str, shown: str, made: Bundled | None) -> t.SharedBlob:
    """Bring a file to the room's home, and post the message that brings it to the others."""
    from parlerd.cli.transfer import upload

    uploaded = upload(ctx, path, args.room, shown)
    name = os.path.basename(path) if made is None else made.ref
    params = t.ShareBlob(
        blob=uploaded.blob,
        size=uploaded.size,
        name=os.fsencode(name)[:MAX_NAME].decode("utf-8", "ignore"),
        tip="" if made is None else made.tip,
        base="" if made is None else made.base,
        left_out=0 if made is None else len(made.left_out) + made.more,
        text=args.note,
        room=uploaded.room,
        to=tuple(args.to),
        visible_to=tuple(args.visible_to),
        idempotency_key=args.key or new_key(),
    )
    return ctx.call_again("blob.share", params, t.SharedBlob)


def _document(shared: t.SharedBlob) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(shared)
    return found


def _say_shared(ctx: Context, shared: t.SharedBlob, what: str, *, is_whole: bool) -> None:
    place: Span = (f"'{shared.name or shared.room}'", "name")
    if shared.queued:
        ctx.out.say(("Not shared yet", "warn"), " with ", place, f": {what}. {QUEUED}")
    else:
        again = " before, and not again," if shared.replayed else ""
        done: Span = (f"Shared{again}", "good") if is_whole else (f"Shared in part{again}", "warn")
        ctx.out.say(done, f" as #{shared.seq} with ", place, f": {what}.")
    say_warning(ctx, shared.warning)


# -- apply and fetch ---------------------------------------------------------------------------------------


def _apply_arguments(parser: Parser) -> None:
    _blob_argument(parser)
    parser.add_argument("--force", action="store_true", help="replace a ref of this name that holds another commit")


def _apply(ctx: Context, args: Namespace) -> int:
    from parlerd.cli.transfer import download
    from parlerd.git.applying import apply
    from parlerd.git.repository import find
    from parlerd.git.running import Runner

    repository = find(os.getcwd(), Runner())
    found = ctx.call_again("blob.find", t.FindBlob(blob=args.blob, room=args.room), t.FoundBlob)
    if not isinstance(found.brings.tip, str):
        raise Refused("bundle_refused", "That is a file, and no code: fetch it with parler fetch.", what="kind")
    with tempfile.NamedTemporaryFile(prefix="parler-bundle-") as file:
        download(ctx, found, file)
        applied = apply(repository, file.name, found.brings.blob[:REF], tip=found.brings.tip, force=args.force)
    if ctx.out.json:
        ctx.out.document({"ref": applied.ref, "tip": applied.tip, "blob": found.brings.blob, "new": applied.is_new})
        return DONE
    done: Span = ("Taken in", "good") if applied.is_new else ("Taken in before", "good")
    ctx.out.say(
        done, ": ", (found.brings.name, "name"), f" at {applied.tip[:12]}, from ", (found.author.name, "name"), "."
    )
    ctx.out.say("Nothing of your branches and files was changed. To look at it, or to merge it:")
    ctx.out.paste(f"git log {applied.ref}")
    ctx.out.paste(f"git merge {applied.ref}")
    if isinstance(found.brings.left_out, int):
        count = counted(found.brings.left_out, "path")
        ctx.out.say((f"Its author left {count} out, so it may not be everything.", "warn"))
    return DONE


def _fetch_arguments(parser: Parser) -> None:
    _blob_argument(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it: a file, or a folder (default: a new file here)"
    )
    parser.add_argument("--force", action="store_true", help="replace the file that is there")


def _fetch(ctx: Context, args: Namespace) -> int:
    from parlerd.cli.transfer import download_to

    found = ctx.call_again("blob.find", t.FindBlob(blob=args.blob, room=args.room), t.FoundBlob)
    own = f"parler-{found.brings.blob[:REF]}"
    target = args.output or own
    if os.path.isdir(target):
        target = os.path.join(target, own)
    download_to(ctx, found, target, force=args.force)
    if ctx.out.json:
        brings = found.brings
        with open(target, "rb") as file:
            # The id is of what the room's home keeps, which is ciphertext in a sealed session.
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        ctx.out.document({"blob": brings.blob, "size": brings.size, "sha256": digest, "path": target})
        return DONE
    ctx.out.say(("Fetched", "good"), f" {size_of(found.brings.size)} from ", (found.author.name, "name"), " to:")
    ctx.out.paste(target)
    if found.brings.name:
        ctx.out.say("Its author calls it ", (found.brings.name, "name"), ".")
    return DONE


HANDLERS: Final = {
    "push": Handler(
        _push_arguments,
        _push,
        section="Talk",
        rank=45,
        summary="Share commits of this repository with a room, as a bundle.",
        examples=("parler push", "parler push --base main --worktree", "parler push feature --note 'the login form'"),
        gives_receipt=True,
    ),
    "apply": Handler(
        _apply_arguments,
        _apply,
        section="Talk",
        rank=46,
        summary="Take shared commits into this repository, under a ref of their own.",
        examples=("parler apply 12",),
    ),
    "send-file": Handler(
        _send_arguments,
        _send_file,
        section="Talk",
        rank=47,
        summary="Share a file with a room.",
        examples=("parler send-file report.pdf", "parler send-file report.pdf --room auth-redesign"),
    ),
    "fetch": Handler(
        _fetch_arguments,
        _fetch,
        section="Talk",
        rank=48,
        summary="Fetch a shared file.",
        examples=("parler fetch 12 -o report.pdf",),
    ),
}
