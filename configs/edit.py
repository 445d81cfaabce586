"""What the editors of the three languages share: a host's rules, the refusal, places in a text, and how files look.

Pure. Not here: any language (`jsonc`, `toml`, `yaml`) and what is checked after an edit (`document`, which stands
above all of them). Invariant: a refusal says where and why, and never what stands there: that may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NoReturn, Protocol

from configs.model import Format, Host, KeyPath

MAX_BYTES: Final = 64 * 1024**2
"""Size of a file; a larger file is neither read nor written. Source: hosts reference, F11."""
MAX_DEPTH: Final = 200
"""Levels of tables and lists that a file may have; none of the hosts' own files has ten."""

Reason = Literal[
    "unreadable",
    "not_an_object",
    "wrong_type",
    "duplicate_key",
    "too_deep",
    "too_large",
    "encoding",
    "host_cannot_read",
    "unverified",
]

_BREAK: Final = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a host's own reading of its file succeed."""

    format: Format
    comments: bool
    trailing_commas: bool
    bom: bool
    lists: tuple[KeyPath, ...] = ()
    """Of YAML: lists of tables with a `name` inside, to be read and changed as tables by that name."""

    @classmethod
    def of(cls, host: Host) -> Rules:
        """The rules that a host's declaration gives."""
        lists = (host.key_path,) if host.listed else ()
        return cls(host.format, host.format != "json", host.trailing_commas, host.bom, lists)

    @classmethod
    def loose(cls, path: Path) -> Rules:
        """Rules for looking alone, by the name of the file: whether its host could read the file is not asked."""
        formats: dict[str, Format] = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
        return cls(formats.get(path.suffix, "jsonc"), comments=True, trailing_commas=True, bom=True)


class EditRefused(Exception):
    """An edit that is not made, so that the text stays as it is.

    `str()` is a plain sentence without anything of the text; `line` and `column` count from 1.
    """

    def __init__(self, reason: Reason, sentence: str, line: int | None = None, column: int | None = None) -> None:
        super().__init__(sentence)
        self.reason: Reason = reason
        self.line = line
        self.column = column


def unverified() -> EditRefused:
    """The refusal of an edit whose result would not certainly be what was asked for."""
    sentence = "The file is written in a way that cannot be edited without a risk to what is in it."
    return EditRefused("unverified", sentence)


@dataclass(frozen=True, slots=True)
class Splice:
    """Characters `start` to `end` of a text give way to `text`."""

    start: int
    end: int
    text: str = ""


class Parsed(Protocol):
    """A text that its language reads, and the splices that would change it. Nothing here checks what they give.

    Paths that are handed in lead through tables that are there, except where a method says otherwise.
    """

    @property
    def text(self) -> str: ...

    @property
    def value(self) -> Any:
        """What it says, as plain dicts, lists and scalars."""

    @property
    def has_root(self) -> bool:
        """False when the outermost table has yet to be written."""

    def comments(self) -> list[tuple[int, int]]:
        """Where comments stand, in order."""

    def place(self, path: KeyPath) -> None:
        """Raise `EditRefused(duplicate_key)` when a key on this path is there twice."""

    def set(self, path: KeyPath, value: Any) -> list[Splice]:
        """One key gets this value; it and the last tables on the way may be absent."""

    def unset(self, path: KeyPath, levels: int) -> list[Splice]:
        """One key, which is there, goes, and with it up to `levels` of the tables around it that hold nothing else."""

    def add(self, path: KeyPath, value: Any) -> list[Splice]:
        """The list at `path`, which may be absent, gets one more element."""

    def drop(self, path: KeyPath, index: int, levels: int) -> list[Splice]:
        """One element goes, and up to `levels` of what is then empty: the list, then the tables around it."""


def position(text: str, at: int) -> tuple[int, int]:
    """Line and column of a place in a text, both from 1."""
    line, start = 1, 0
    for match in _BREAK.finditer(text, 0, at):
        line, start = line + 1, match.end()
    return line, at - start + 1


def refuse(reason: Reason, sentence: str, text: str, at: int) -> NoReturn:
    """Raise with the line and column of a place. `sentence` has `{where}` for them."""
    line, column = position(text, at)
    raise EditRefused(reason, sentence.format(where=f"line {line}, column {column}"), line, column)


def refuse_twice(text: str, first: int, second: int) -> NoReturn:
    """Raise for a key that is there twice."""
    (one, _), (two, column) = position(text, first), position(text, second)
    raise EditRefused(
        "duplicate_key",
        f"The same key is in lines {one} and {two}, and programs disagree which one counts.",
        two,
        column,
    )


def spliced(text: str, splices: Sequence[Splice]) -> str:
    """The text after splices that do not overlap; those at one place keep their order."""
    parts: list[str] = []
    at = 0
    for each in sorted(splices, key=lambda splice: splice.start):
        parts += [text[at : each.start], each.text]
        at = each.end
    return "".join([*parts, text[at:]])


def line_break(text: str) -> str:
    """What most lines of a text end with."""
    windows = text.count("\r\n")
    bare = text.count("\n") - windows
    old = text.count("\r") - windows
    if old > max(windows, bare):
        return "\r"
    return "\r\n" if windows > bare else "\n"


def indentation(text: str, at: int) -> tuple[str, bool]:
    """The blanks that begin the line of a place, and whether nothing else stands before the place."""
    start = max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1
    end = start
    while end < len(text) and text[end] in " \t":
        end += 1
    return text[start:end], end >= at


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same to the last type: 1, 1.0 and true are three."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


def too_deep(value: Any) -> bool:
    """Whether a value has more than `MAX_DEPTH` levels, found without a call for each."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        tables = [each for each in level if isinstance(each, (dict, list))]
        if not tables:
            return False
        level = [inner for each in tables for inner in (each.values() if isinstance(each, dict) else each)]
    return True
