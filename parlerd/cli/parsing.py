"""Arguments: one small argparse parser for the command that was named, and no other.

Building a tree of forty parsers costs more than most commands take, so the command is found in a table first and only
its own parser is made. A parser here never exits or prints: it raises `UsageError` or `HelpWanted`, and `main`
answers.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final, NoReturn

GLOBAL_FLAGS: Final = frozenset({"--json"})
GLOBAL_VALUES: Final = frozenset({"--as", "--home"})


class UsageError(Exception):
    """The command line does not fit. `usage` says what would."""

    def __init__(self, message: str, usage: str = "", path: str = "parler") -> None:
        super().__init__(message)
        self.message = message
        self.usage = usage
        self.path = path


class HelpWanted(Exception):
    """`--help`: print this and exit 0."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of exiting, and takes no abbreviations.

    `describe` is asked for help alone: a summary may cost the import of the registry.
    """

    def __init__(self, prog: str, describe: Callable[[], str]) -> None:
        self._describe = describe
        super().__init__(
            prog=prog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        common = self.add_argument_group("everywhere")
        common.add_argument("-h", "--help", action=_Help, help="show this and exit")
        common.add_argument("--json", action="store_true", help="print one JSON document and nothing else on stdout")
        common.add_argument("--as", dest="as_name", metavar="NAME", help="act as this agent (default: $PARLER_AGENT)")
        common.add_argument("--home", metavar="DIR", help="the home to use (default: $PARLER_HOME, else ~/.parler)")

    def format_help(self) -> str:
        self.description = self._describe()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage().strip(), self.prog)


class _Help(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> NoReturn:
        raise HelpWanted(parser.format_help())


def split_globals(argv: list[str]) -> tuple[list[str], list[str]]:
    """The options that stand before the command, and the rest. `parler --json rooms` means `parler rooms --json`."""
    index = 0
    while index < len(argv):
        word = argv[index]
        if word in GLOBAL_FLAGS or ("=" in word and word.partition("=")[0] in GLOBAL_VALUES):
            index += 1
        elif word in GLOBAL_VALUES:
            index += 2
        else:
            break
    return argv[:index], argv[index:]


def seconds(text: str) -> int:
    """A span in seconds as milliseconds."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return round(value * 1000)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def unicode_text(text: str) -> str:
    """`text` if its bytes were UTF-8: an argument that was not cannot be stored as text."""
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise argparse.ArgumentTypeError("it is not valid UTF-8")
    return text
