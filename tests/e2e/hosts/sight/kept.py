"""What a long run keeps on disk, so that a run which was ended goes on where it was: a file for each host, a line for
each case that was played.

Not here: who plays (`__main__`), what is true of a message (`truth`). Invariant: a line is written as a whole when its
case is over, and a last line that was written in part is as if it were not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.e2e.hosts.sight.truth import Outcome


class Played(NamedTuple):
    """One case with one host: of which release, with which texts, how long it took, and what became of the messages.
    `failed` says why it did not get to where it wanted; then there are no outcomes."""

    program: str
    release: str
    case: str
    seed: int
    took_s: float
    outcomes: list[Outcome]
    failed: str = ""


class Kept:
    """The folder. Without one, nothing is kept beyond this process."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self.played: list[Played] = []
        """Of all runs that kept their files here, in the order of each host; of a case that failed and went through
        later, the later one alone."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.glob("*.jsonl")):
                for each in _read(path.read_text(encoding="utf-8").splitlines()):
                    self._take(each)

    def add(self, played: Played) -> None:
        """Keep one more."""
        self._take(played)
        if self._folder is not None:
            with (self._folder / f"{played.program}.jsonl").open("ab") as file:
                # In front as well, because the last run may have been ended in the middle of a line.
                file.write(b"\n" + msgspec.json.encode(played) + b"\n")

    def has(self, program: str, release: str, case: str, seed: int) -> bool:
        """Whether this case of this release went through."""
        asked = (program, release, case, seed)
        return any(each[:4] == asked and not each.failed for each in self.played)

    def _take(self, played: Played) -> None:
        self.played = [each for each in self.played if not (each.failed and each[:4] == played[:4])]
        self.played.append(played)


def _read(lines: Iterable[str]) -> Iterable[Played]:
    for line in lines:
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=Played)
