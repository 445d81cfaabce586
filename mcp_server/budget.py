"""How much of a result reaches a model: a host's own ceiling, in what that host counts, and the smaller page of several
messages.

Not here: what is said (`tools.results`), which host has which ceiling (`configs.hosts`). Below:
`parlerd.operations.traits`. Invariant: a text that `fits` says fits is shown whole by the host that was measured.
"""

from __future__ import annotations

import json
from typing import Final

from parlerd.operations.traits import UNMEASURED, HostTraits

PAGE: Final = 8_000
"""Bytes that several messages take together at most, whatever the host lets through: what a model reads is paid for.
Source: MCP spec, How much."""
RESERVE: Final = 700
"""Of the ceiling, for what stands around the peer text: the first line, how to go on, the notice."""


class Budget:
    """The sizes that one host's answers keep to. `page` and `error` are in the host's own unit."""

    __slots__ = ("_lines", "_unit", "error", "page")

    def __init__(self, traits: HostTraits = UNMEASURED) -> None:
        self._unit = traits.unit
        self._lines = traits.lines
        self.page = traits.page
        self.error = traits.error or traits.page

    def size(self, text: str) -> int:
        """How much of the ceiling a text takes, its lines included where the host counts them."""
        if self._unit == "bytes":
            size = len(text.encode("utf-8", "surrogatepass"))
        else:
            # Hosts written in JavaScript count UTF-16 units: a character beyond the first plane counts twice.
            shown = text if self._unit == "characters" else json.dumps(text, ensure_ascii=False)
            size = len(shown) if shown.isascii() else len(shown.encode("utf-16-le", "surrogatepass")) // 2
        if self._lines:
            # Each line takes its share of the page, so a text with too many lines does not fit either.
            size = max(size, (text.count("\n") + 1) * self.page // self._lines)
        return size

    def prefix(self, text: str, room: int) -> int:
        """How many characters from the front of `text` take at most `room`."""
        low, high = 0, min(len(text), max(room, 0))
        if high == len(text) and self.size(text) <= room:
            return high
        while low < high:
            middle = (low + high + 1) // 2
            if self.size(text[:middle]) <= room:
                low = middle
            else:
                high = middle - 1
        return low
