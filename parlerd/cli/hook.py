"""`parler hook HOST EVENT`: what agent hosts run at their events. The process becomes `mcp_server/stdio/hook.py`.

A host's settings name the copy of that program in the home, which starts in a fifth of the time; this command is for
people. Whatever is on the command line, a host must get JSON and exit status 0, so this command refuses nothing.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.parsing import Parser
from parlerd.cli.program import PACKAGED_SHIM

if TYPE_CHECKING:
    from argparse import Namespace


def _arguments(parser: Parser) -> None:
    parser.add_argument("host", nargs="?", default="", metavar="HOST", help="the agent host that runs it")
    parser.add_argument("event", nargs="?", default="", metavar="EVENT", help="the host's own name of the event")


def _hook(ctx: Context, args: Namespace) -> int:
    shim = [sys.executable, "-I", "-S", str(PACKAGED_SHIM)]
    command = [*shim, "hook", args.host, args.event, "--home", str(ctx.home.root)]
    os.execve(sys.executable, command, dict(ctx.env))  # noqa: S606 - there is no shell to keep


HANDLERS: Final = {
    "hook": Handler(
        _arguments,
        _hook,
        section="Started by agent hosts",
        rank=20,
        summary="Tell an agent host how much waits (`connect --wake`).",
        examples=("parler hook claude-code Stop",),
    ),
}
