"""What a command module offers: for each of its commands, how to parse it and how to run it."""

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
