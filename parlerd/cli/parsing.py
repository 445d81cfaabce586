"""Arguments: one small argparse parser for the command that was named, and no other.

A tree of forty parsers would take longer to build than most commands take to run. So `main` finds the command in a
table first, and only the parser of this command is made. Not here: the arguments of a command, which its module adds.
Invariant: a parser never exits or prints. It raises `UsageError` or `HelpWanted`, and `main` answers.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from parlerd.operations.types import TimerAsked

GLOBAL_FLAGS: Final = frozenset({"--json"})
GLOBAL_VALUES: Final = frozenset({"--as", "--home"})
PATHS: Final = frozenset({"FILE", "DIR"})
"""The names of arguments that are files or folders. Only these may hold bytes that are not UTF-8."""
MAX_NUMBER: Final = 2**53
"""The largest number of any argument: every reader of JSON takes it whole."""
MAX_DEPTH: Final = 64
"""How many levels of JSON a message may have. Source: what the daemon takes of `data`."""


class UsageError(Exception):
    """The command line does not fit. `usage` says what would fit, and `path` names the command."""

    def __init__(self, message: str, usage: str = "", path: str = "parler") -> None:
        super().__init__(message)
        self.message = message
        self.usage = usage
        self.path = path


class NotJson(argparse.ArgumentTypeError):
    """The text is no JSON."""


class HelpWanted(Exception):
    """The person asked for `--help`. The message is the help; `main` prints it and exits 0."""


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises instead of exiting, and takes no abbreviations.

    `describe` is called only for help, because a summary may need the import of the registry.
    """

    def __init__(self, prog: str, describe: Callable[[], str]) -> None:
        self._describe = describe
        self.alternates = False
        """Whether options may stand between the first word of a command and the further ones, where argparse would take
        no word after such an option."""
        super().__init__(
            prog=prog,
            allow_abbrev=False,
            add_help=False,
            formatter_class=_Formatter,
        )
        common = self.add_argument_group("everywhere")
        common.add_argument("-h", "--help", action=_Help, help="show this and exit")
        common.add_argument("--json", action="store_true", help="print one JSON document and nothing else on stdout")
        common.add_argument("--as", dest="as_name", metavar="NAME", help="act as this agent (default: $PARLER_AGENT)")
        common.add_argument("--home", metavar="DIR", help="the home to use (default: $PARLER_HOME, else ~/.parler)")

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """The arguments, checked to be UTF-8 unless they name a file. Raises `UsageError` and `HelpWanted`."""
        if any("\0" in word for word in words):
            raise UsageError("an argument holds a zero byte", self.format_usage().strip(), self.prog)
        for word in words[: words.index("--")] if "--" in words else words:
            if word.startswith("-") and word.endswith("=--"):
                # argparse takes such a value for the end of the options, and gives an empty list in its place.
                self.error(f"argument {word.partition('=')[0]}: `--` is no value")
        args = self.parse_intermixed_args(words) if self.alternates else self.parse_args(words)
        for action in self.actions:
            found: Any = getattr(args, action.dest, None)
            several = isinstance(found, list) and (action.nargs is not None or action.default == [])
            for each in found if several else (found,):
                name = "/".join(action.option_strings) or str(action.metavar or action.dest)
                if isinstance(each, str) and action.metavar not in PATHS and not is_text(each):
                    self.error(f"argument {name}: it is not valid UTF-8")
        return args

    @property
    def actions(self) -> Sequence[argparse.Action]:
        """The options and arguments of this command."""
        return self._actions

    def format_help(self) -> str:
        self.description = self._describe()
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, self.format_usage().strip(), self.prog)


def help_width() -> int:
    """How many columns the terminal has in which help is read. `shutil` could tell too, but is slow to import."""
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 80


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """The formatter of help. argparse also makes one for each argument that is added, so making one must be cheap."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=help_width() - 2)


class _Help(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest=argparse.SUPPRESS, default=argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> NoReturn:
        raise HelpWanted(parser.format_help())


def split_globals(argv: list[str]) -> tuple[list[str], list[str]]:
    """The options that stand before the command, and the other words. `parler --json rooms` means `parler rooms
    --json`."""
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
    return _number(text, 1)


def whole(text: str) -> int:
    """A whole number from 0."""
    return _number(text, 0)


def port(text: str) -> int:
    """The number of a TCP port."""
    number = _number(text, 1)
    if number > 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: a port is 1 to 65535")
    return number


def _number(text: str, least: int) -> int:
    # The length is checked first, because Python refuses to read thousands of digits, with an error of its own.
    if not text.isascii() or not text.isdigit() or len(text.lstrip("0")) > len(str(MAX_NUMBER)):
        raise argparse.ArgumentTypeError(f"{_short(text)} is not a whole number from {least}")
    if not least <= int(text) <= MAX_NUMBER:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from {least}, up to {MAX_NUMBER}")
    return int(text)


def timer(text: str) -> TimerAsked:
    """A timer, as JSON."""
    import msgspec

    from parlerd.operations.types import TimerAsked

    try:
        return msgspec.json.decode(text, type=TimerAsked)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f'{error}; a timer is as {{"ms": 60000, "effect": "delete"}}') from None


def json_value(text: str) -> Any:
    """JSON that a message can carry: numbers of 64 bits, text that is UTF-8, at most `MAX_DEPTH` levels. Raises
    `NotJson`, and `ArgumentTypeError` for JSON that no message can carry."""
    import json

    if not is_text(text):
        raise argparse.ArgumentTypeError("it is not valid UTF-8")
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_int=_integer, parse_float=_float)
    except RecursionError:
        raise argparse.ArgumentTypeError(_TOO_DEEP) from None
    except ValueError as error:
        raise NotJson(f"the text is not JSON: {error}") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise argparse.ArgumentTypeError(_TOO_DEEP)
        texts = [each for each in level if isinstance(each, str)]
        texts += [name for each in level if isinstance(each, dict) for name in each]
        if not all(map(is_text, texts)):
            raise argparse.ArgumentTypeError("it has half a character, such as \\ud800, which no text can hold")
        lists = [each for each in level if isinstance(each, list)]
        lists += [list(each.values()) for each in level if isinstance(each, dict)]
        level = [inner for each in lists for inner in each]
    return value


_TOO_DEEP: Final = f"it has more than {MAX_DEPTH} levels"


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"the text is not JSON: {name} is no number there")


def _integer(digits: str) -> int:
    # The sign and twenty digits hold every number of 64 bits.
    value = int(digits) if len(digits) <= 20 else None
    if value is None or not -(2**63) <= value < 2**64:
        raise argparse.ArgumentTypeError(f"the number {_short(digits)} has more than 64 bits; write it as text")
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise argparse.ArgumentTypeError(f"the number {_short(digits)} is too large; write it as text")
    return value


def _short(text: str) -> str:
    """A word as an error shows it: whole, unless it is very long."""
    return repr(text if len(text) <= 40 else text[:32] + "...")


def is_text(text: str) -> bool:
    """Whether `text` has no half characters, which stand for bytes that are not UTF-8 or for half of a pair."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def unicode_text(text: str) -> str:
    """`text` if its bytes were UTF-8. Other bytes cannot be stored as text."""
    if not is_text(text):
        raise argparse.ArgumentTypeError("it is not valid UTF-8")
    return text
