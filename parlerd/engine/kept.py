"""How much each person of another home keeps here in total: a bound on what stays, beside those on what comes in.

    the relay starts -> what is stored is counted, a little at a time -> what is stored after that is added

A home stores nothing about this: the sums follow from the facts. Until a log was counted, what it holds is not held
against anybody; counting goes by itself and takes seconds for 100,000 messages. Nothing erases here, so a person who is
at the bound stays there until whoever runs the relay raises it.

Where several relays share the rooms, the sums are rows (`ports.SharedCounts`), to which each relay adds every `SHARE_S`
what it stored and freed, and which each of them reads then. Of those that count everything at their starts one corrects
the sums. So what several relays store within a second for one person at the bound may be that much too much.

Not here: rates (`quota`). Above: `admitting`, which asks before it takes words in. Below: the library. Invariant: what
counts for a person is what facts of their agents bear, whoever owns the room: nobody fills up what another may keep.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import trio

from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import Position, PrincipalId
from parlerd.engine.library import Library
from parlerd.engine.ports import SharedCounts
from parlerd.store.counts import KeptBytes

log = logging.getLogger(__name__)

CHUNK: Final = 500
"""Facts that are counted in one go, about 4 ms: the reading thread serves others in between."""


SHARE_S: Final = 1.0
"""How often a relay tells the others of one store what it stored."""


class Kept:
    """One per home. `limit` is in bytes; 0 is no limit. `counts` are there where other processes share the store:
    `share` with them then."""

    def __init__(self, limit: int, counts: SharedCounts | None = None) -> None:
        self._limit = limit
        self._counts = counts
        self._changes: Counter[PrincipalId] = Counter()
        """What was stored and freed here, and not told yet."""
        self._mark = 0.0
        """Of which moment the sums are that were last read."""
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
        if self._counts is not None:
            self._changes[person] += size

    async def count(self, library: Library) -> None:
        """Count what is stored. Call this once, at the start; what is stored meanwhile is added as ever. Raises
        `StoreError`."""
        if not self._limit:
            return
        if self._counts is None:
            await self._count(library, self._bytes)
            return
        before, counted = await self._tell(self._counts, since=0.0), Counter[PrincipalId]()
        await self._count(library, counted)
        people = {*before.bytes, *counted}
        changes = {person: counted[person] - before.bytes.get(person, 0) for person in people}
        await self._counts.correct({person: size for person, size in changes.items() if size}, before.counting)

    async def share(self) -> None:
        """Tell the other processes what changes here, and hear what changes there, until cancelled."""
        if self._counts is None or not self._limit:
            return
        while True:
            try:
                await self._tell(self._counts, since=self._mark)
            except StoreError as error:
                log.warning("what people keep is not told to other relays now: %s", error.code)
            await trio.sleep(SHARE_S)

    async def _tell(self, counts: SharedCounts, *, since: float) -> KeptBytes:
        changes, self._changes = self._changes, Counter()
        try:
            found = await counts.keep({person: size for person, size in changes.items() if size}, since)
        except BaseException:
            # Whether it was added is not known, where the answer was lost; the next count of everything tells.
            self._changes.update(changes)
            raise
        for person, size in found.bytes.items():
            # What was stored since is not in the sum yet.
            self._bytes[person] = size + self._changes[person]
        self._mark = found.mark
        return found

    async def _count(self, library: Library, total: Counter[PrincipalId]) -> None:
        """Add what is stored, of each person."""
        # Up to where each log goes now. What follows is added when it is stored.
        for room, upto in (await library.logs()).items():
            after = Position(0)
            while after < upto:
                end = Position(min(upto, after + CHUNK))
                total.update(await library.written(room, after, end))
                after = end
