"""The search through what rooms remember: bounded candidates, checked literally, in an order of our own.

    for each room: the index, newest first, page by page  ->  may the reader see it?  ->  do the words stand there?
    nothing has every word                                ->  each word alone, and rare words count more
    a query without letters and digits                    ->  the newest facts, one after the other

All bounds count rows and bytes and not time, so the same facts give the same answer on a slow machine. A common word
among a million facts finds its 200 newest; ranking all of them would take a second, and the rank that an index gives
tells of texts that the reader may not see.

Not here: which rooms are searched (`memory`), how a text is judged (`core.recall`). Above: `memory`. Below: the store.
Invariant: what a reader may not see changes neither what it finds nor in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from parlerd.core.model import AgentId, Millis, Position, RoomId, View
from parlerd.core.recall import Query, Word, Words, holds, score, searched, words_of
from parlerd.core.rewinds import RewindsState
from parlerd.core.visibility import can_see
from parlerd.store.port import Remembered, Store

PAGE: Final = 200
"""Rows that are read at a time."""
KEPT: Final = 200
"""Facts of one room that are compared with each other."""
MAX_ROWS: Final = 2_000
"""Rows of one room that are looked at for one query: those that only look alike are passed over."""
MAX_PLAIN: Final = 5_000
"""The same for a query that no index can answer."""
_END: Final = Position(2**32 - 1)
"""A position beyond every fact."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of bodies of one room that are looked at for one query."""


@dataclass(frozen=True, slots=True)
class Place:
    """A room that is searched, as the reader sees it. `exact` is where the fact stands whose key is the whole query."""

    room: RoomId
    view: View
    rewinds: RewindsState
    exact: Position | None


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A fact that has the words, or some of them. `text` is what was compared."""

    room: RoomId
    found: Remembered
    words: Words
    text: str

    @property
    def at(self) -> Millis:
        return self.found.header.at

    @property
    def author(self) -> AgentId:
        return self.found.header.by.actor


class Hit(NamedTuple):
    candidate: Candidate
    score: float


@dataclass(slots=True)
class Found:
    """The best first. `partly`: no fact has every word. `cut`: only the newest facts were looked through."""

    hits: list[Hit] = field(default_factory=list)
    partly: bool = False
    cut: bool = False


def search(store: Store, places: Sequence[Place], query: Query) -> Found:
    """What these rooms remember that answers the query."""
    found = Found()
    candidates: list[Candidate] = []
    for place in places:
        candidates += _exact(store, place)
    known = {(each.room, each.found.header.position) for each in candidates}
    for place in places:
        walked = _walk(store, place, query.words, found)
        candidates += [each for each in walked if (each.room, each.found.header.position) not in known]
    weights = [1.0] * len(query.words)
    if not candidates and len(query.words) > 1:
        candidates, weights = _each_alone(store, places, query.words, found)
        found.partly = bool(candidates)
    candidates.sort(key=lambda each: (-each.at, each.room, -each.found.header.position))
    scored = [Hit(each, score(query, each.words, each.text, weights, rank)) for rank, each in enumerate(candidates)]
    found.hits = sorted(scored, key=lambda hit: -hit.score)
    return found


def _exact(store: Store, place: Place) -> list[Candidate]:
    """The fact whose key is the query. Its position is read from its end: it is the newest before the next one."""
    if place.exact is None:
        return []
    rows = store.remembered(place.room, (), Position(place.exact + 1), 1)
    return [each for row in rows if row.header.position == place.exact and (each := _candidate(place, row))]


def _each_alone(
    store: Store, places: Sequence[Place], words: Sequence[Word], found: Found
) -> tuple[list[Candidate], list[float]]:
    """The facts that have some word, and how much each word counts: the fewer of them have it, the more."""
    merged: dict[tuple[RoomId, Position], Candidate] = {}
    weights: list[float] = []
    for word in words:
        alone = [each for place in places for each in _walk(store, place, (word,), found)] if word.is_indexed else []
        weights.append(1 / (1 + len(alone)))
        merged |= {(each.room, each.found.header.position): each for each in alone}
    return list(merged.values()), weights


def _walk(store: Store, place: Place, words: Sequence[Word], found: Found) -> list[Candidate]:
    """The newest facts of a room that have these words."""
    indexed = [word for word in words if word.is_indexed]
    most = MAX_ROWS if indexed else MAX_PLAIN
    kept: list[Candidate] = []
    looked = size = 0
    before = _END
    # Span by span, so that what the reader may not see counts for nothing.
    for after, upto in reversed(place.view.spans):
        before = before if upto is None else min(before, Position(upto + 1))
        while True:
            rows = store.remembered(place.room, indexed, before, PAGE)
            inside = [row for row in rows if row.header.position > after]
            for row in inside:
                size += len(row.body)
                candidate = _candidate(place, row)
                if candidate is not None and holds(candidate.text, words):
                    kept.append(candidate)
            looked += len(inside)
            if len(inside) < PAGE:
                break
            if len(kept) >= KEPT or looked >= most or size >= MAX_BYTES:
                found.cut = True
                return kept[:KEPT]
            before = rows[-1].header.position
    return kept


def _candidate(place: Place, row: Remembered) -> Candidate | None:
    """A row as something to compare; None for what the reader may not see, and for what the room's home lost."""
    position = row.header.position
    if not can_see(place.view, position=position, visibility=None) or place.rewinds.is_lost(position):
        return None
    words = words_of(row.body)
    return None if words is None else Candidate(place.room, row, words, searched(words))
