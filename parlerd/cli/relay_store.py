"""`parler relay migrate`, `move` and `accept-restore`: the database of a relay, and how a command is told which it is.

A URL on the command line holds no password (`relay.store_url`). Not here: the relay itself (`relay`), and what is done
to a database, which its own program does. Invariant: whatever may hold a password is passed on by a file or a pipe.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from parlerd.cli import team
from parlerd.cli.context import Context, decode_text
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError
from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from argparse import Namespace


def arguments(parser: Parser, what: str, name: str = "store") -> None:
    """The two ways to name a database."""
    parser.add_argument(f"--{name}", metavar="URL", help=f"{what}; the URL holds no password")
    parser.add_argument(
        f"--{name}-file", metavar="FILE", help="the same with the URL in a file that only you can read (- is stdin)"
    )


def wanted(ctx: Context, args: Namespace, name: str = "store") -> str | None:
    """The URL of the database that `arguments` of this name ask for; None where none is. Raises `ParlerError`,
    `UsageError`."""
    from relay import store_url

    url, file = getattr(args, name), getattr(args, f"{name}_file")
    if url is not None and file is not None:
        raise UsageError(f"--{name} and --{name}-file say the same: give one", path="parler relay")
    if file is not None:
        return store_url.parse(_private_text(ctx, file), may_hold_password=True)
    return None if url is None else store_url.parse(url, may_hold_password=False)


def _private_text(ctx: Context, name: str) -> str:
    """What stands in a file that nobody else can read, or on stdin for `-`. Raises `ParlerError` and `UsageError`."""
    from relay.store_url import MAX_URL

    if name == "-":
        return decode_text(ctx.stdin.read(4 * MAX_URL), "stdin")
    try:
        with open(name, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ParlerError(
                    "invalid_param",
                    f"Other users can read {name}, and it may hold a password.",
                    hint=f"chmod 600 {name}",
                    param="store-file",
                )
            data = file.read(4 * MAX_URL)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}", path="parler relay") from error
    return decode_text(data, name)


def _migrate_arguments(parser: Parser) -> None:
    arguments(parser, "the database, as the role that owns its tables")
    parser.add_argument("--role", metavar="ROLE", help="the role that the relay uses (default: the one of its own URL)")


def _migrate(ctx: Context, args: Namespace) -> int:
    from relay import store_url

    team.require_person()
    url = wanted(ctx, args)
    if url is None:
        raise UsageError("name the database: --store URL, or --store-file FILE", path="parler relay migrate")
    role = args.role or _own_role(ctx)
    with ctx.out.progress("Making the tables"):
        _have_done(ctx, ["--migrate", role], url)
    if ctx.out.json:
        ctx.out.document({"store": store_url.shown(url), "role": role})
    else:
        ctx.out.say(f"The tables are there and up to date, and the role {role} may use them: {store_url.shown(url)}")
    return DONE


def _have_done(ctx: Context, words: list[str], given: str) -> None:
    """Let the relay's program do something, and say what it says meanwhile. Raises `ParlerError`, with what it said."""
    import subprocess

    from parlerd.client.launch import failure_in

    # What is given may hold a password, and what a program is started with is no secret.
    with subprocess.Popen(
        [*team.service_of(ctx).command, *words],
        env=dict(ctx.env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdin.write(given.encode())
        program.stdin.close()
        last = ""
        for line in program.stdout:
            last = line.decode("utf-8", "replace").strip()
            if not last.startswith("relay: "):
                ctx.out.note(last)
    if program.returncode:
        raise failure_in(last, program="relay") or ParlerError("internal")


def _own_role(ctx: Context) -> str:
    """The role of the relay's own URL. Raises `ParlerError(invalid_param)`."""
    from relay import store_url

    home = team.relay_of(ctx)
    role = store_url.role(store_url.load(home)) if store_url.file_of(home).exists() else ""
    if not role:
        raise ParlerError(
            "invalid_param", "It is not said which role the relay uses.", hint="Name it: --role ROLE", param="role"
        )
    return role


FILE: Final = "sqlite"
"""How a person names the file of the relay's folder."""


def _move_arguments(parser: Parser) -> None:
    parser.add_argument("--from", dest="source", metavar="STORE", help="where the rooms are now: sqlite, or postgresql")
    parser.add_argument("--to", metavar="STORE", help="where they are to be: sqlite, or the URL of a database")
    parser.add_argument(
        "--to-file", metavar="FILE", help="the URL in a file that only you can read, where it has a password"
    )
    arguments(parser, "the same database as the role that owns its tables", "owner")


def _move(ctx: Context, args: Namespace) -> int:
    import json

    from relay import place as places
    from relay import store_url

    team.require_person()
    to = None if args.to == FILE else wanted(ctx, args, "to")
    if to is None and args.to != FILE:
        raise UsageError("say where the rooms are to be: --to URL, or --to sqlite", path="parler relay move")
    owner = wanted(ctx, args, "owner")
    if (to is None) is not (owner is None):
        said = "to make tables, name the database as their owner as well: --owner URL"
        raise UsageError(said if owner is None else "for a file, no owner is named", path="parler relay move")
    running = team.status(ctx)
    place = places.load(team.relay_of(ctx))
    if place is None:
        raise ParlerError("relay_not_running", "No relay was made in this home.", hint=f"Make one: {team.MAKE}")
    now = FILE if place.store == "file" else store_url.SCHEME
    if args.source is not None and args.source.partition(":")[0] not in (now, now.removesuffix("ql")):
        raise ParlerError("invalid_param", f"The rooms of this relay are in {now}.", param="from")
    if running is not None:
        raise ParlerError("already_running", "The relay runs.", hint="Stop it first: parler relay stop")
    _have_done(ctx, ["--move"], json.dumps({"url": to or "", "owner": owner or ""}))
    shown = FILE if to is None else store_url.shown(to)
    if ctx.out.json:
        ctx.out.document({"from": now, "to": shown})
    else:
        ctx.out.say(f"The rooms of the relay are in {shown} now. Start it: parler relay start")
    return DONE


def _accept_arguments(parser: Parser) -> None:
    parser.add_argument("--yes", action="store_true", help="without asking")


def _accept(ctx: Context, args: Namespace) -> int:
    from relay import place as places

    team.require_person()
    running = team.status(ctx)
    home = team.relay_of(ctx)
    place = places.load(home)
    if place is None:
        raise ParlerError("relay_not_running", "No relay was made in this home.", hint=f"Make one: {team.MAKE}")
    if place.store == "file":
        raise ParlerError(
            "invalid_param",
            "The rooms of this relay are in a file of its folder, and no database is to be accepted.",
            hint="A file that was brought back is served as it is: parler relay start",
        )
    if running is not None:
        raise ParlerError(
            "already_running",
            "The relay runs, so its database is in a state that it takes.",
            hint="There is nothing to accept. To look at it: parler relay status",
        )
    if not args.yes:
        ctx.agree(
            "The relay will serve its database in the state in which it is. What people said after that state is on "
            "their machines alone. A room that lost something goes on once its owner runs: parler room rewind ROOM. A "
            "room that the database does not hold at all is an archive on everybody's machines."
        )
    places.accept_restore(home)
    if ctx.out.json:
        ctx.out.document({"accepted": True})
    else:
        ctx.out.say("The next start of the relay takes the database as it is: parler relay start")
    return DONE


HANDLERS: Final = {
    "relay migrate": Handler(
        _migrate_arguments,
        _migrate,
        section="Sessions across machines",
        rank=93,
        summary="Make the tables of a relay's database, as their owner.",
        examples=("parler relay migrate --store postgresql://owner@db/parler --role parler",),
    ),
    "relay move": Handler(
        _move_arguments,
        _move,
        section="Sessions across machines",
        rank=94,
        summary="Move the relay's rooms into a database, or back.",
        examples=(
            "parler relay move --to postgresql://parler@db/p --owner postgresql://boss@db/p",
            "parler relay move --to sqlite",
        ),
    ),
    "relay accept-restore": Handler(
        _accept_arguments,
        _accept,
        section="Sessions across machines",
        rank=95,
        summary="Take the database as it is, after a restore.",
        examples=("parler relay accept-restore",),
    ),
}
