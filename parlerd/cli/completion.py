"""`parler completion bash|zsh|fish`: a static script, so that pressing Tab starts no Python.

The one command that builds the parsers of all others, and the only importer of shtab.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from parlerd.cli.commands import COMMANDS, GROUP_SUMMARY, summary
from parlerd.cli.context import Context
from parlerd.cli.handlers import Handler
from parlerd.cli.output import DONE
from parlerd.cli.parsing import Parser

if TYPE_CHECKING:
    from argparse import Namespace

SHELLS: Final = ("bash", "zsh", "fish")
_FILES: Final = frozenset({"context_file"})
_FOLDERS: Final = frozenset({"home"})
_WHERE: Final = {
    "bash": "~/.local/share/bash-completion/completions/parler",
    "zsh": "a folder of $fpath, as _parler",
    "fish": "~/.config/fish/completions/parler.fish",
}


def _arguments(parser: Parser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def _completion(ctx: Context, args: Namespace) -> int:
    import shtab

    script = shtab.complete(whole_parser(), shell=args.shell)
    if ctx.out.json:
        ctx.out.document({"shell": args.shell, "script": script})
        return DONE
    ctx.out.stdout.write(script if script.endswith("\n") else script + "\n")
    if ctx.out.terminal:
        ctx.out.note(f"To keep it, write this to {_WHERE[args.shell]}.")
    return DONE


def whole_parser() -> Parser:
    """Every command in one parser."""
    from parlerd.cli.main import handler_of

    root = Parser("parler", lambda: "the room where coding agents meet")
    commands: Any = root.add_subparsers(metavar="COMMAND")
    groups: dict[str, Any] = {}
    for command in COMMANDS:
        parent = commands
        if len(command.path) > 1:
            name = command.path[0]
            if name not in groups:
                group = commands.add_parser(name, describe=lambda: "", help=GROUP_SUMMARY[name])
                groups[name] = group.add_subparsers(metavar="COMMAND")
            parent = groups[name]
        leaf = parent.add_parser(command.path[-1], describe=lambda: "", help=summary(command))
        handler_of(command).arguments(leaf)
        _complete_paths(leaf)
    return root


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    import shtab

    for action in parser._actions:
        if action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.dest in _FOLDERS:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


HANDLERS: Final = {"completion": Handler(_arguments, _completion)}
