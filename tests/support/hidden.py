"""Which character of a text hides, said character by character: slow, obvious, and what the quick ways are compared
with."""

from __future__ import annotations

import re
from functools import cache

from parlerd.text.codepoints import BIDIRECTIONAL, CONTROL, HIDDEN, INVISIBLE, JOINERS, JOINING, PICTOGRAPHS


def kind_of(char: str, before: str = "") -> str | None:
    """What kind of hidden character this is behind `before`, of which two characters count; None for one that can be
    seen."""
    for kind, inside in (("control", CONTROL), ("bidirectional", BIDIRECTIONAL), ("invisible", INVISIBLE)):
        if _is(char, inside):
            return kind
    if not _is(char, JOINERS):
        return None
    last = before[-1:]
    coloured = last == "\ufe0f" and _is(before[-2:-1], PICTOGRAPHS)
    letter = _is(last, JOINING) and not _is(last, HIDDEN)
    shapes = {
        "\u200c": letter,
        "\u200d": letter or coloured or _is(last, PICTOGRAPHS),
        "\ufe0e": _is(last, PICTOGRAPHS),
        "\ufe0f": _is(last, PICTOGRAPHS),
    }
    return None if shapes[char] else "invisible"


def shown(text: str, at: int) -> str:
    """What is shown for one character of a text."""
    char = text[at]
    if char == "\r" and text[at + 1 : at + 2] == "\n":
        return ""  # the line ends either way
    return char if kind_of(char, text[max(at - 2, 0) : at]) is None else f"\\u{{{ord(char):x}}}"


def _is(char: str, inside: str) -> bool:
    return _class(inside).fullmatch(char) is not None


@cache
def _class(inside: str) -> re.Pattern[str]:
    return re.compile(f"[{inside}]")
