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
from collections.abc import Iterable, Iterator
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
    text = text.replace("\r\n", "\n")
    found: list[Piece] = []
    readable: list[str] = []
    loose = {match.start() for match in LOOSE.finditer(text)}
    start = 0

    def read_so_far() -> None:
        if said := "".join(readable):
            found.append(Piece(said))
        readable.clear()

    for match in _UNSAFE.finditer(text):
        readable.append(text[start : match.start()])
        start = match.end()
        run = match.group()
        if run[0] not in kinds():
            readable.append(run[:MAX_MARKS])
            read_so_far()
            found += _boxes((char, "mark") for char in run[MAX_MARKS:])
            continue
        boxed: list[tuple[str, str]] = []
        for at, char in enumerate(run, match.start()):
            if char in JOINERS and at not in loose:
                # It shapes what stands before it, and hides nothing.
                if boxed:
                    read_so_far()
                    found += _boxes(boxed)
                    boxed.clear()
                readable.append(char)
            else:
                boxed.append((char, kinds()[char]))
        if boxed:
            read_so_far()
            found += _boxes(boxed)
    readable.append(text[start:])
    read_so_far()
    return found


def _boxes(hidden: Iterable[tuple[str, str]]) -> Iterator[Piece]:
    """Boxes for characters that stand one behind the other."""
    run: list[Piece] = []
    number = 0
    for char, kind in hidden:
        number += 1
        if number <= MAX_BOXES:
            run.append(Piece(f"U+{ord(char):04X}", kind))
    yield from run
    if number > MAX_BOXES:
        yield Piece(f"+{number - MAX_BOXES} hidden", "more")


def fitting(found: list[Piece], most: int) -> tuple[list[Piece], int]:
    """The first of some pieces, as far as `most` bytes of a page hold them, and how many characters are left out."""
    kept: list[Piece] = []
    for number, piece in enumerate(found):
        size = len(_written(piece).encode())
        if size <= most:
            kept.append(piece)
            most -= size
            continue
        left = sum(len(each.text) for each in found[number:])
        if not piece.kind:
            # No character takes more than six bytes of a page.
            kept.append(Piece(piece.text[: most // 6]))
            left -= most // 6
        return kept, left
    return kept, 0


def foreign(text: str | list[Piece]) -> Markup:
    """A text of others in a page: escaped, its hidden characters in boxes, and its direction its own."""
    found = pieces(text) if isinstance(text, str) else text
    return Markup('<bdi class="peer" dir="auto">{}</bdi>').format(Markup("").join(map(_written, found)))


def _written(piece: Piece) -> Markup:
    # A box is isolated, so that the letters of its name are no reason for the direction of a text.
    if piece.kind:
        return Markup('<bdi class="box" title="{}">{}</bdi>').format(piece.kind, piece.text)
    return escape(piece.text)
