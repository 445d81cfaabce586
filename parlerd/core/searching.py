"""Looks through files for what is recognised as a secret, and says in which files something is, and never what.

    pieces of a file --> overlapping windows --> the shapes of `scrub` --> (path, kind)

A file of any size is read piece by piece, and a secret that stands across two pieces is found. Text in one byte a sign
is taken as it is, and so are programs and pictures: a shape is made of ASCII, whatever stands around it.

Not here: which files, how they are read, and how long that may take, which `goes_on` says. Above: `parlerd.git`, the
engine and the command, which share files. Below: `scrub`. Invariants: what is found names no secret, also where a path
holds one; what was not looked through is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from parlerd.core.model import SecretKind
from parlerd.core.scrub import kinds_in, scrub

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes that are looked through for one push, or of one file: two seconds or three (measured)."""
PIECE: Final = 256 * 1024
"""Bytes of a file that are looked through at a time."""
MAX_S: Final = 2.0
"""How long a search may take, in seconds: whoever shares something waits for it."""
MAX_FOUND: Final = 200
"""Places that are named; more are counted."""
OVERLAP: Final = 16 * 1024
"""What of a piece is looked at again with the next: the longest shape is shorter."""
MAX_PATH: Final = 1024
"""Characters of a path that are said."""


class Secret(msgspec.Struct, frozen=True, order=True):
    """That a file holds something of this kind. `path` is the file as its author calls it."""

    path: str
    kind: SecretKind


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a search."""

    found: tuple[Secret, ...] = ()
    more: int = 0
    """Places beyond those that are named."""
    is_whole: bool = True
    """Whether everything was looked through."""


def in_time(clock: Callable[[], float]) -> Callable[[], bool]:
    """Whether a search that begins now may still go on, by a clock that shows seconds."""
    end = clock() + MAX_S
    return lambda: clock() < end


class Search:
    """One search. `goes_on` says before each piece whether there is time for it."""

    def __init__(self, goes_on: Callable[[], bool] = lambda: True) -> None:
        self._goes_on = goes_on
        self._found: set[Secret] = set()
        self._left = MAX_BYTES
        self._is_whole = True

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be looked through."""
        return self._left <= 0 or not self._goes_on()

    def cut(self) -> None:
        """Something is not looked through at all."""
        self._is_whole = False

    def file(self, path: str, pieces: Iterable[bytes]) -> None:
        """Look through one file. The rest of `pieces` is not asked for once the search is over."""
        # A file's name may be no text.
        path = path.encode("utf-8", "replace").decode()
        kinds = kinds_in(path)
        kept = ""
        for piece in pieces:
            if self.is_over:
                self.cut()
                break
            text = kept + piece[: self._left].decode("latin-1")
            if len(piece) > self._left:
                self.cut()
            self._left -= len(piece)
            kinds |= kinds_in(text)
            kept = text[-OVERLAP:]
        if kinds:
            shown = scrub(path)[0][:MAX_PATH]
            self._found.update(Secret(shown, kind) for kind in kinds)

    def result(self) -> Searched:
        """What was found, by path."""
        found = sorted(self._found)
        return Searched(found=tuple(found[:MAX_FOUND]), more=max(0, len(found) - MAX_FOUND), is_whole=self._is_whole)
