"""The one way that text of others reaches a terminal.

`printable` keeps line breaks, and `printable_line` does not. Both turn every character that could move the cursor,
recolour, reorder or hide text into a visible escape such as `\\x1b` or `\\u202e`. So a peer's words can be read and can
do nothing else. `columns`, `clip` and `wrap` count terminal columns by the tables of `wcwidth`, and never cut what a
terminal draws as one character. The output is plain text without markup.

Above: `output`. Below: `parlerd.text`, whose table of characters the fence for models uses too. Invariant: for any text
the time is in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

MAX_COMBINING: Final = 4
"""Marks that may pile up on one character before the rest are escaped: enough for real scripts, not for a smear."""


def is_plain(text: str) -> bool:
    """Whether each character is one column and joins with no other: Latin letters, punctuation, lines of a frame."""
    return (text.isascii() and text.isprintable()) or _plain().fullmatch(text) is not None


@cache
def _plain() -> re.Pattern[str]:
    return re.compile("[ -~\xa0-\xac\xae-\u02ff\u2010-\u2027\u2500-\u257f]*")


@cache
def _unsafe() -> re.Pattern[str]:
    # Made when something other than ASCII is printed: the table and its pattern take milliseconds.
    from parlerd.text.codepoints import HIDDEN, MARKS

    return re.compile(f"[{HIDDEN}]|[{MARKS}]{{{MAX_COMBINING + 1},}}")


@cache
def _emoji_style() -> re.Pattern[str]:
    from parlerd.text.codepoints import PICTOGRAPHS

    return re.compile(f"[{PICTOGRAPHS}]\ufe0f")


def printable(text: str) -> str:
    """`text` safe to print, its line breaks kept and tabs as four spaces. Nothing is cut."""
    text = text.replace("\r\n", "\n").expandtabs(4)
    return text if text.isascii() and text.replace("\n", "").isprintable() else _shown(text)


def printable_line(text: str, width: int | None = None) -> str:
    """`text` on one line, safe to print, and at most `width` columns wide (the end becomes an ellipsis)."""
    line = printable(text).replace("\n", "\\n")
    return line if width is None else clip(line, width)


def columns(text: str) -> int:
    """How many terminal columns `text` takes when nothing in it is unsafe."""
    return len(text) if is_plain(text) else sum(map(_columns_of, _clusters(text)))


def clip(text: str, width: int) -> str:
    """`text` cut to `width` columns; a cut shows as an ellipsis."""
    if columns(text) <= width:
        return text
    taken, room = [], width - 1
    for cluster in _clusters(text):
        room -= _columns_of(cluster)
        if room < 0:
            break
        taken.append(cluster)
    return "".join(taken) + "…"


def wrap(text: str, width: int) -> list[str]:
    """The lines of `text`, broken at spaces where one is wider than `width` columns, and inside a word if it must."""
    return [piece for line in text.split("\n") for piece in _wrap_line(line, max(width, 8))]


def _wrap_line(line: str, width: int) -> list[str]:
    if columns(line) <= width:
        return [line]
    pieces: list[str] = []
    current: list[str] = []
    used = 0
    for word in re.findall(r"\s*\S+|\s+$", line):
        size = columns(word)
        if used and used + size > width:
            pieces.append("".join(current))
            word = word.lstrip()
            current, used, size = [], 0, columns(word)
        if size <= width:
            current.append(word)
            used += size
            continue
        # The word is wider than a line: it is broken wherever a line is full, in one walk over its characters.
        for cluster in _clusters(word):
            wide = _columns_of(cluster)
            if used and used + wide > width:
                pieces.append("".join(current))
                current, used = [], 0
            current.append(cluster)
            used += wide
    return [*pieces, "".join(current)] if current else pieces


def _clusters(text: str) -> Iterable[str]:
    """The pieces of a text that a terminal draws as one character: a letter with its marks, a flag, a syllable."""
    if is_plain(text):
        return text
    # Imported where the tables are needed: most commands print plain text alone, and loading them takes 10 ms.
    from wcwidth import iter_graphemes

    return iter_graphemes(text)


def _columns_of(cluster: str) -> int:
    if len(cluster) == 1 and is_plain(cluster):
        return 1
    from wcwidth import wcswidth

    # wcswidth gives -1 for control characters, which text that was made safe does not hold.
    return max(wcswidth(cluster), 0)


def _shown(text: str) -> str:
    # A selector behind a pictograph gives it its colour and hides nothing, so it stays.
    parts, start = [], 0
    for match in _emoji_style().finditer(text):
        parts += [_unsafe().sub(_escape, text[start : match.start()]), match.group()]
        start = match.end()
    return "".join((*parts, _unsafe().sub(_escape, text[start:])))


def _escape(match: re.Match[str]) -> str:
    found = match.group()
    if len(found) == 1:
        return _escaped(found)
    return found[:MAX_COMBINING] + "".join(map(_escaped, found[MAX_COMBINING:]))


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
