"""The one way that text of others reaches a terminal.

`printable` keeps line breaks, `printable_line` does not. Both turn every character that could move the cursor,
recolour, reorder or hide text into a visible escape such as `\\x1b` or `\\u202e`, so a peer's words can be read and
can do nothing else. `columns`, `clip` and `wrap` count terminal columns. Standard library only; the output is plain
text with no markup of any kind.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

MAX_COMBINING: Final = 4
"""Marks that may pile up on one character before the rest are escaped: enough for real scripts, not for a smear."""

_HIDDEN: Final = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 (tab and newline are handled apart), DEL, C1
    "\xad\u034f\u061c\u06dd\u070f\u08e2"  # soft hyphen, grapheme joiner, Arabic marks that are formats
    "\u0600-\u0605\u0890\u0891"
    "\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # fillers and Mongolian selectors: no glyph at all
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f"  # zero width, line separators, bidirectional controls
    "\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # blanks that are no spaces, selectors, byte order mark
    "\ud800-\udfff"  # half a character: bytes that were not UTF-8
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"  # tags and further selectors: text that no terminal shows
)
_MARKS: Final = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_PICTOGRAPHS: Final = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"


@cache
def _unsafe() -> re.Pattern[str]:
    # Compiled when something is printed for a person: it takes milliseconds, and scripts never need it.
    return re.compile(f"[{_HIDDEN}]|[{_MARKS}]{{{MAX_COMBINING + 1},}}")


@cache
def _emoji_style() -> re.Pattern[str]:
    return re.compile(f"[{_PICTOGRAPHS}]\ufe0f")


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
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def clip(text: str, width: int) -> str:
    """`text` cut to `width` columns; a cut shows as an ellipsis."""
    if columns(text) <= width:
        return text
    taken, room = [], width - 1
    for char in text:
        room -= _columns_of(char)
        if room < 0:
            break
        taken.append(char)
    return "".join(taken) + "…"


def wrap(text: str, width: int) -> list[str]:
    """The lines of `text`, broken at spaces where one is wider than `width` columns, and inside a word if it must."""
    return [piece for line in text.split("\n") for piece in _wrap_line(line, max(width, 8))]


def _wrap_line(line: str, width: int) -> list[str]:
    if columns(line) <= width:
        return [line]
    pieces: list[str] = []
    current, used = "", 0
    for word in re.findall(r"\s*\S+|\s+$", line):
        size = columns(word)
        if used and used + size > width:
            pieces.append(current)
            word = word.lstrip()
            current, used, size = "", 0, columns(word)
        while size > width:
            head = _head(word, width)
            pieces.append(head)
            word = word[len(head) :]
            size = columns(word)
        current += word
        used += size
    return [*pieces, current] if current else pieces


def _head(word: str, width: int) -> str:
    room = width
    for index, char in enumerate(word):
        room -= _columns_of(char)
        if room < 0:
            return word[: max(index, 1)]
    return word


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _shown(text: str) -> str:
    # The selector that gives a pictograph its colour may stay where it is: there it hides nothing.
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
