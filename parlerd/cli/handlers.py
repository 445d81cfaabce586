"""What a command module offers: for each of its commands, how to parse and run it, and how help speaks of it.

A module says this in its `HANDLERS`, by the words of each command. `table`, which finds a command without importing
any, is made from these (`python -m parlerd.cli.tabling`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse

    from parlerd.cli.context import Context
    from parlerd.cli.parsing import Parser


class Handler(NamedTuple):
    """`arguments` adds to the parser; `run` gives the exit code, or raises `ParlerError`, `UsageError` or `OSError`."""

    arguments: Callable[[Parser], None]
    run: Callable[[Context, argparse.Namespace], int]
    section: str
    """The title in `parler help` under which the command stands; `tabling.TITLES` has all of them."""
    rank: int
    """Where in the section: a command with a smaller rank stands earlier."""
    examples: tuple[str, ...]
    """Lines to type. The first is the most common use."""
    summary: str = ""
    """What the command does. It is empty for a command that runs an operation: the operation has a summary."""
    operation: str = ""
    """The operation whose summary it is, where that is another than the one that names this command."""
    gives_receipt: bool = False
    """Whether there is a receipt of what the command does, which comes along with `--receipt`."""


def no_arguments(parser: Parser) -> None:
    """For a command that takes only what every command takes."""


def room_argument(parser: Parser) -> None:
    """`--room`, as every command that works in a room takes it."""
    parser.add_argument("--room", metavar="ROOM", help="a room's id or name (default: the active session)")


def wide_argument(parser: Parser) -> None:
    """`--wide`, for a command whose output leaves out what rarely matters."""
    parser.add_argument("--wide", action="store_true", help="with ids, and what else rarely matters")


def list_arguments(parser: Parser) -> None:
    """What a list of rooms takes."""
    parser.add_argument("--all", action="store_true", help="what is closed too")
    wide_argument(parser)


def place_arguments(parser: Parser) -> None:
    """Where a relay listens and what it is called, for the commands that make one."""
    from parlerd.cli.parsing import port

    parser.add_argument(
        "--bind", metavar="ADDR", help="listen at this address of this machine (default: the one that others reach)"
    )
    parser.add_argument("--port", type=port, metavar="N", help="listen at this port (default 7777)")
    parser.add_argument("--name", metavar="NAME", help="what the relay is called (default team)")
