"""The one way that text of others reaches a page.

    "rm -rf ~ #" + U+202E + "<b>"  -->  rm -rf ~ # [U+202E] &lt;b&gt;

A text is taken apart into pieces: what can be read, and boxes that name what cannot. A box stands for a character that
hides, reorders or steers others, or for marks that pile up. So a peer's words can be read and can do nothing else. What
a page has is made of the pieces, escaped and isolated; what the script shows is the same pieces, as text.

Above: the templates, `showing`. Below: `parlerd.text`, whose table of characters the fence and the terminal use too.
Invariants: no character of the table is on a page, and none of a text is markup; for any text the time and the size are
in proportion to its length.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup, escape

from parlerd.text.codepoints import HIDDEN, JOINERS, LOOSE, MARKS, kinds

MAX_MARKS: Final = 4
"""Marks that may pile up on one character before the rest are boxed: enough for real scripts, not for a smear."""
MAX_BOXES: Final = 6
"""Boxes one after the other that are named; those behind them are counted."""
_UNSAFE: Final = re.compile(f"[{HIDDEN}]+|[{MARKS}]{{{MAX_MARKS + 1},}}")


class Piece(NamedTuple):
    """A part of a text: as it is, or a box with the name of what stands there. `kind` is why it is boxed, and empty for
    what is not."""

    text: str
    kind: str = ""


def pieces(text: str) -> list[Piece]:
    """A text in pieces. Line breaks and tabs stay."""
    return [piece for piece, _ in _read(text.replace("\r\n", "\n"))]


def fitting(text: str, most: int) -> tuple[list[Piece], int]:
    """The first pieces of a text, as far as `most` bytes of a page hold them, and how many characters are left out. No
    more of the text is looked at."""
    text = text.replace("\r\n", "\n")
    kept: list[Piece] = []
    at = 0
    # No character takes less than a byte of a page.
    for piece, end in _read(text[: most + 1]):
        size = len(_written(piece).encode())
        if size > most:
            if not piece.kind and (part := _part(piece.text, most)):
                kept.append(Piece(part))
                at += len(part)
            break
        kept.append(piece)
        most -= size
        at = end
    return kept, len(text) - at


def _part(text: str, most: int) -> str:
    """The beginning of a readable text that takes at most so many bytes of a page."""
    size = bisect_right(range(len(text)), most, key=lambda count: len(str(escape(text[:count])).encode()))
    return text[: max(0, size - 1)]


def _read(text: str) -> Iterator[tuple[Piece, int]]:
    """The pieces of a text, each with where it ends there."""
    loose = {match.start() for match in LOOSE.finditer(text)}
    start = 0  # from where on nothing was told yet
    for match in _UNSAFE.finditer(text):
        run = match.group()
        if run[0] in kinds():
            # A joiner that shapes what stands before it hides nothing.
            boxed = [at for at, char in enumerate(run, match.start()) if char not in JOINERS or at in loose]
        else:
            boxed = list(range(match.start() + MAX_MARKS, match.end()))
        for first, last in _together(boxed):
            if start < first:
                yield Piece(text[start:first]), first
            yield from _boxes(text, first, last)
            start = last
    if start < len(text):
        yield Piece(text[start:]), len(text)


def _together(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Places in order, as spans of those that stand one behind the other."""
    begin = 0
    for number in range(1, len(places) + 1):
        if number == len(places) or places[number] != places[number - 1] + 1:
            yield places[begin], places[number - 1] + 1
            begin = number


def _boxes(text: str, first: int, last: int) -> Iterator[tuple[Piece, int]]:
    """Boxes for characters that stand one behind the other."""
    for at in range(first, min(last, first + MAX_BOXES)):
        yield Piece(f"U+{ord(text[at]):04X}", kinds().get(text[at], "mark")), at + 1
    if last - first > MAX_BOXES:
        yield Piece(f"+{last - first - MAX_BOXES} hidden", "more"), last


def foreign(text: str | list[Piece]) -> Markup:
    """A text of others in a page: escaped, its hidden characters in boxes, and its direction its own."""
    found = pieces(text) if isinstance(text, str) else text
    return Markup(f'<bdi class="peer" dir="auto">{"".join(map(_written, found))}</bdi>')  # noqa: S704 - all escaped


def _written(piece: Piece) -> str:
    # A box is isolated, so that the letters of its name are no reason for the direction of a text. Both of its words
    # are ours and need no escape.
    if piece.kind:
        return f'<bdi class="box" title="{piece.kind}">{piece.text}</bdi>'
    return str(escape(piece.text))
