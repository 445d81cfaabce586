"""Records that are written anew where lines are appended elsewhere: all entries are read at each change, and judged
from the first one on.

A document of Cline is replaced whole; rows of a database (`rows`) are changed in place. So there is no place up to
which such a record was read, and what counts is the order of its entries as they stand now.

Not here: what an entry means (`core.judge`), finding and opening files (`trail`). Above: `trail`. Below: `core`.
Invariants: a record is read only while something is waited for; a document is decoded only where it holds, or held
before, a marker that is waited for; of what was read nothing is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from parlerd.core.judge import Answer, Judge, decoded, named_in
from parlerd.core.records import Record, Summary, at, one
from parlerd.core.sight import Found, Reason

MAX_DOCUMENT: Final = 32 * 1024 * 1024
"""Bytes of a document that is read whole. To decode as many takes a tenth of a second."""


class Unreadable(Exception):
    """The record cannot be read, for this reason. `answers` are known to stand in it all the same."""

    def __init__(self, reason: Reason, answers: Sequence[Answer] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answers = answers


class Source(Protocol):
    """Where the entries are."""

    def entries(self, descriptor: int, size: int, answers: Sequence[Answer]) -> Iterable[Any] | None:
        """The entries as they are now, in their order; `None` where they cannot be read at this moment, and may be
        later. None at all where they say nothing of these answers. Raises `Unreadable`."""
        ...


class Snapshots:
    """One record of this sort."""

    def __init__(self, record: Record, evidence: str, source: Source) -> None:
        self._record = record
        self._evidence = evidence
        self._source = source
        self._standing: list[Answer] = []
        """Answers whose result stood in the record when it was last read."""

    @property
    def is_waiting(self) -> bool:
        """Whether some result stands here for which a reply is waited for."""
        return any(answer.left for answer in self._standing)

    def has(self, answer: Answer) -> bool:
        """Whether the result of this answer stood here when it was last read."""
        return answer in self._standing

    def look(self, descriptor: int, size: int, answers: Sequence[Answer]) -> list[Found]:
        """What the record proves now. `descriptor` and `size` are of the file."""
        try:
            entries = self._source.entries(descriptor, size, answers)
        except Unreadable as error:
            self._standing += [answer for answer in error.answers if answer not in self._standing]
            return self.unreadable(error.reason)
        if entries is None:
            return []
        judge = Judge(self._record, self._evidence)
        found: list[Found] = []
        stood: set[Answer] = set()
        for entry in entries:
            found += judge.entry(entry, answers)
            stood.update(answer for answer in answers if judge.has(answer))
        told = {each.marker for each in found}
        for answer in self._standing:
            if answer not in stood:
                # It was taken out before a reply followed.
                name = f"{self._evidence}: {self._record.results[0].name}"
                found += [
                    Found(marker=marker, verdict="not_shown", reason="rolled_back", evidence=name)
                    for marker in answer.left
                    if marker not in told
                ]
        self._standing = [answer for answer in answers if judge.has(answer)]
        return found

    def unreadable(self, reason: Reason) -> list[Found]:
        """Whatever stood here stays without proof."""
        standing, self._standing = self._standing, []
        return [
            Found(marker=marker, verdict="unknown", reason=reason, evidence=self._evidence)
            for answer in standing
            for marker in answer.left
        ]


class Document:
    """A `Source` in one JSON document, which is replaced whole. `summary` reads what stands beside it, where the
    description names something; `None` where nothing stands there. It raises `Unreadable`."""

    def __init__(self, record: Record, summary: Callable[[], bytes | None] = lambda: None) -> None:
        self._record = record
        self._summary = summary
        self._held = False
        """Whether something that is waited for stood in it when it was last read."""

    def entries(self, descriptor: int, size: int, answers: Sequence[Answer]) -> Iterable[Any] | None:
        if size > MAX_DOCUMENT:
            raise Unreadable("too_long")
        try:
            data = os.pread(descriptor, MAX_DOCUMENT + 1, 0)
        except OSError:
            raise Unreadable("record_unreadable") from None
        holding = list(named_in(data, answers))
        if not holding and not self._held:
            return None
        document = decoded(data)
        if document is None:
            return None  # somebody is writing it, and half a document says nothing
        self._held = bool(holding)
        if not holding:
            return ()  # what stood there was taken out
        if self._record.version and one(document, self._record.version) not in self._record.versions:
            raise Unreadable("version", holding)
        entries = next(iter(at(document, self._record.list)), None)
        if not isinstance(entries, list):
            raise Unreadable("record_unreadable")
        return entries if self._record.summary is None else self._summed_up(self._record.summary, entries, holding)

    def _summed_up(self, summary: Summary, entries: list[Any], holding: Sequence[Answer]) -> list[Any] | None:
        """The entries with their summary. It is read after them, because a host writes it before it asks with it."""
        try:
            data = self._summary()
        except Unreadable as error:
            raise Unreadable(error.reason, holding) from None
        if data is None:
            return entries
        found = decoded(data)
        last = one(found, summary.last)
        for index, entry in enumerate(entries):
            if isinstance(last, str) and last == f"{summary.mark}{one(entry, summary.id)}":
                return [*entries[: index + 1], found, *entries[index + 1 :]]
        # One of the two is being written.
        return None
