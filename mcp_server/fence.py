"""Text of others, marked as data: the only way it reaches a model.

    [peer text 4k0m9t2xqe; 2 invisible characters shown as \\u{...}]
    whatever the other party wrote
    [end 4k0m9t2xqe; cut: characters 0 to 4000 of 9120, ...]

The marker is fresh and random for each text, so nothing inside can close it; facts (author, verification, hidden
characters, how much was cut) stand outside, said by us. A model may still obey what it reads: this marks, it does not
disarm.

Not here: what stands around a fence (`mcp_server.tools.results`). Below: `parlerd.core.model`. Invariant: every string
of a result that another party could have chosen leaves through `Fencer`, as a fence or as a name that `label` would
accept.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable
from typing import Final

_MARKER_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_MARKER_LENGTH: Final = 10
"""50 random bits, drawn after the text was written: an author cannot have guessed it."""

_NAME: Final = re.compile(r"[A-Za-z0-9._@#/:+-]{0,128}\Z")
"""What may stand outside: labels, ids, codes, URLs of homes. No spaces, so no sentence; ASCII alone, so no
look-alike."""

_SUSPECT: Final = re.compile(r"[^\t\n\x20-\x7e]")
_JOINERS: Final = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""They shape emoji and several scripts; kept behind a character that is not ASCII, where they hide nothing."""
_BLANK: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Letters by their category that show nothing."""
_BIDI: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def random_marker() -> str:
    """A marker that no author of a text could know."""
    bits = secrets.randbits(5 * _MARKER_LENGTH)
    return "".join([_MARKER_LETTERS[bits >> 5 * place & 31] for place in range(_MARKER_LENGTH)])


class Fencer:
    """Renders text of others. `marker` makes a fresh marker; tests pass a counted one."""

    __slots__ = ("_marker",)

    def __init__(self, marker: Callable[[], str] = random_marker) -> None:
        self._marker = marker

    def wrap(self, text: str, *, limit: int | None = None, start: int = 0, rest: str = "") -> str:
        """`text` inside a fence, from character `start` on, at most `limit` characters of it.

        What is cut is cut inside, and the closing line says how much and `rest`: how to get it (`{next}` becomes the
        character to go on from). `rest` is our own words, never another party's.
        """
        whole = len(text)
        part = text[start : None if limit is None else start + max(limit, 0)]
        end = min(start, whole) + len(part)
        shown, facts = _reveal(part)
        marker = self._marker()
        while marker in shown:
            marker = self._marker()
        cut = ""
        if start or end < whole:
            cut = f"; cut: characters {min(start, whole)} to {end} of {whole}"
            if end < whole and rest:
                cut += f", {rest.replace('{next}', str(end))}"
        return f"[peer text {marker}{facts}]\n{shown}\n[end {marker}{cut}]"

    def name(self, text: str) -> str:
        """`text` as it is when it can only be a name, else inside a fence."""
        return text if is_name(text) else self.wrap(text)


def is_name(text: str) -> bool:
    """Whether `text` may stand outside a fence: nothing but the characters of labels, ids and codes."""
    return _NAME.match(text) is not None


def _reveal(text: str) -> tuple[str, str]:
    """`text` with every hidden character made visible, and a note of what there was."""
    text = text.replace("\r\n", "\n")
    if _SUSPECT.search(text) is None:
        return text, ""
    counts = {"invisible": 0, "bidirectional": 0, "control": 0}
    pieces: list[str] = []
    previous = ""
    for char in text:
        kind = _hidden(char, previous)
        previous = char
        if kind is None:
            pieces.append(char)
        else:
            counts[kind] += 1
            pieces.append(f"\\u{{{ord(char):x}}}")
    found = [f"{count} {kind}" for kind, count in counts.items() if count]
    if not found:
        return "".join(pieces), ""
    total = sum(counts.values())
    return "".join(pieces), f"; {', '.join(found)} character{'s' if total > 1 else ''} shown as \\u{{...}}"


def _hidden(char: str, previous: str) -> str | None:
    if char in "\t\n" or " " <= char <= "~":
        return None
    if char in _BIDI:
        return "bidirectional"
    if char in _JOINERS:
        return None if previous and not previous.isascii() else "invisible"
    if char in _BLANK or "\ufe00" <= char <= "\ufe0f" or "\U000e0000" <= char <= "\U000e0fff":
        return "invisible"
    category = unicodedata.category(char)
    if category == "Cc":
        return "control"
    # Cf are formats (zero width, tags), Cs half characters, Zl and Zp separators that break lines unseen.
    return "invisible" if category in ("Cf", "Cs", "Zl", "Zp") else None
