"""`parler connect --print [HOST...]`: the MCP entry for an agent host, to paste into its config. Writes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from configs.hosts import HOSTS, find_host
from configs.model import Host, Shim, System, UnknownHost, candidates
from configs.snippet import snippet
from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser, UsageError
from parlerd.cli.render import GATE_NOTE

if TYPE_CHECKING:
    from argparse import Namespace


def _arguments(parser: Parser) -> None:
    names = ", ".join(host.id for host in HOSTS)
    parser.add_argument("hosts", nargs="*", metavar="HOST", help=f"one or more of: {names} (default: all)")
    parser.add_argument("--print", required=True, action="store_true", help="print the snippet; change nothing")


def _connect(ctx: Context, args: Namespace) -> int:
    try:
        chosen = [find_host(name) for name in args.hosts] or list(HOSTS)
    except UnknownHost as error:
        raise UsageError(str(error), path="parler connect") from error
    found = [(host, _path(ctx, host), snippet(host, _shim(ctx, host))) for host in chosen]
    out = ctx.out
    if out.json:
        out.document(
            {
                "hosts": [
                    {"host": host.id, "path": str(path), "format": host.format, "snippet": text}
                    for host, path, text in found
                ]
            }
        )
        return DONE
    if len(found) == 1:
        host, path, text = found[0]
        out.note((host.name, "name"), f": merge this into {path}")
        out.stdout.write(text)
    else:
        for host, path, text in found:
            out.say((host.name, "name"), f": merge into {path}")
            out.stdout.write(text + "\n")
    if not ctx.home.shim.exists():
        out.note(("Before the first use: ", "warn"), "`parler daemon start` puts the shim where these point.")
    out.note((GATE_NOTE, "dim"))
    return DONE


def _path(ctx: Context, host: Host) -> Path:
    """The file that is there, else the one the host would make."""
    found = candidates(host, system(), ctx.env)
    return next((path for path in found if path.exists()), found[0])


def _shim(ctx: Context, host: Host) -> Shim:
    return Shim(python=sys.executable, shim=str(ctx.home.shim), host=host.id, home=str(ctx.home.root))


def system() -> System:
    """Which of the systems that hosts' files are listed for this is."""
    return "macos" if sys.platform == "darwin" else "linux"


HANDLERS: Final = {"connect": Handler(_arguments, _connect)}
