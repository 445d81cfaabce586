"""How much each person of another home keeps here in total: a bound on what stays, beside those on what comes in.

    the relay starts -> what is stored is counted, a little at a time -> what is stored after that is added

A home stores nothing about this: the sums follow from the facts. Until a log was counted, what it holds is not held
against anybody; counting goes by itself and takes seconds for 100,000 messages. Nothing erases here, so a person who is
at the bound stays there until whoever runs the relay raises it.

Not here: rates (`quota`). Above: `admitting`, which asks before it takes words in. Below: the library. Invariant: what
counts for a person is what facts of their agents bear, whoever owns the room: nobody fills up what another may keep.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.model import Position, PrincipalId
from parlerd.engine.library import Library

CHUNK: Final = 500
"""Facts that are counted in one go, about 4 ms: the reading thread serves others in between."""


class Kept:
    """One per home. `limit` is in bytes; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._bytes: Counter[PrincipalId] = Counter()
        """Of each person."""

    def of(self, person: PrincipalId) -> int:
        """How many bytes a person keeps here, as far as they were counted."""
        return self._bytes[person]

    def is_over(self, person: PrincipalId, size: int) -> bool:
        """Whether a person may not keep so many more bytes. What is under way at the same time is not looked at, and
        bounded by the door."""
        return bool(self._limit) and self._bytes[person] + size > self._limit

    def refusal(self) -> Refused:
        """The error for one who may not."""
        return Refused("too_many_bytes", limit=self._limit)

    def add(self, person: PrincipalId, size: int) -> None:
        """So many bytes of a person were stored."""
        self._bytes[person] += size

    async def count(self, library: Library) -> None:
        """Count what is stored. Call this once, at the start; what is stored meanwhile is added as ever."""
        if not self._limit:
            return
        # Up to where each log goes now. What follows is added when it is stored.
        for room, upto in (await library.logs()).items():
            after = Position(0)
            while after < upto:
                end = Position(min(upto, after + CHUNK))
                self._bytes.update(await library.written(room, after, end))
                after = end
