"""`parler demo`, `version` and `mcp`: commands that are programs of their own, or about this install."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parlerd import __version__
from parlerd.cli.context import Context, unreachable
from parlerd.cli.handlers import Handler, no_arguments
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser
from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from argparse import Namespace

PACKAGED_SHIM: Final = Path(__file__).resolve().parents[2] / "mcp_server" / "shim.py"
"""The shim of this install. This package runs the shim and never imports it."""


def _version(ctx: Context, _args: Namespace) -> int:
    from parlerd.operations import types as t
    from parlerd.wire.messages import PROTOCOL

    daemon: dict[str, object] = {"running": False, "version": None}
    try:
        info = ctx.call("daemon.status", t.DaemonStatus(), t.DaemonInfo, start=False)
        daemon = {"running": True, "version": info.version}
    except ParlerError as error:
        if not unreachable(error):
            daemon = {"running": True, "version": None, "error": error.code}
    python = ".".join(map(str, sys.version_info[:3]))
    if ctx.out.json:
        ctx.out.document({"version": __version__, "protocol": PROTOCOL, "python": python, "daemon": daemon})
        return DONE
    running = f"daemon {daemon['version'] or daemon.get('error')}" if daemon["running"] else "no daemon running"
    ctx.out.say(f"parler {__version__}", (f"  protocol {PROTOCOL}, Python {python}, {running}", "dim"))
    return DONE


def _mcp_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--host", default="", metavar="NAME", help="the agent host that starts it (default: what it says it is)"
    )


def _mcp(ctx: Context, args: Namespace) -> int:
    """Become the shim: the same process then runs on the standard library alone, with nothing of this program left in
    its memory."""
    command = [sys.executable, "-I", "-S", str(PACKAGED_SHIM), "--home", str(ctx.home.root)]
    if args.host:
        command += ["--host", args.host]
    environment = dict(ctx.env)
    if ctx.as_name:
        environment["PARLER_AGENT"] = ctx.as_name
    os.execve(sys.executable, command, environment)  # noqa: S606 - there is no shell to keep


def _demo_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--context-file", metavar="FILE", help="the recap to open with (default: this repository's own)"
    )
    parser.add_argument(
        "--team", action="store_true", help="the second act: two people on two homes, and a relay between them"
    )
    parser.add_argument("--keep", action="store_true", help="leave the throw-away home for a look")
    parser.add_argument("--no-next", action="store_true", help="do not say what to do next: the installer does")


def _demo(ctx: Context, args: Namespace) -> int:
    from parlerd.cli.demo import run

    return run(ctx, args)


HANDLERS: Final = {
    "demo": Handler(
        _demo_arguments,
        _demo,
        section="Begin",
        rank=20,
        summary="Show the main job, end to end, in a throw-away home.",
        examples=("parler demo", "parler demo --team"),
    ),
    "version": Handler(
        no_arguments,
        _version,
        section="This install",
        rank=80,
        summary="Show the version of this install and of the daemon.",
        examples=("parler version --json",),
    ),
    "mcp": Handler(
        _mcp_arguments,
        _mcp,
        section="Started by agent hosts",
        rank=10,
        summary="Run the MCP server on stdin and stdout, as agent hosts do.",
        examples=("parler mcp --host claude-code",),
    ),
}
