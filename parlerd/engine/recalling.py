"""The search through what rooms remember: bounded candidates, checked literally, in an order of our own.

    for each room: the index, newest first, page by page  ->  may the reader see it?  ->  do the words stand there?
    nothing has every word                                ->  each word alone, and rare words count more
    a query without letters and digits                    ->  the newest facts, one after the other

Rows and bytes are bounded by number, so that the same facts mostly give the same answer on a slow machine; only words
that are common and never stand together run into the bound of time. For these the index is looked through block by
block of positions, because the store bounds the cost of several terms within a block alone. A common word among a
million facts finds its 100 newest; ranking all of them would take a second, and the rank that an index gives tells of
texts that the reader may not see.

Not here: which rooms are searched (`memory`), how a text is judged (`core.recall`). Above: `memory`. Below: the store.
Invariant: what a reader may not see changes neither what it finds nor in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from parlerd.core.memory import MemoryState
from parlerd.core.model import Millis, Position, RoomId, View
from parlerd.core.recall import Query, Term, Word, Words, asked, holds, score, searched, words_of
from parlerd.core.rewinds import RewindsState
from parlerd.core.visibility import can_see
from parlerd.store.port import BLOCKS, Remembered, Store

PAGE: Final = 100
"""Rows that are read at a time."""
KEPT: Final = 100
"""Facts of one room that are compared with each other: a fact costs 18 us, so these are 2 ms (measured)."""
MAX_ROWS: Final = 2_000
"""Rows of one room that are looked at for one query: those that only look alike are passed over."""
KEYS_BYTES: Final = 320
"""Bytes of the keys that whoever joins is told: a line."""
MAX_PLAIN: Final = 5_000
"""The same for a query that no index can answer."""
_WHOLE: Final = 32
"""The bits of a block that every position lies in."""
SECONDS: Final = 0.02
"""After this time no further block is looked through, and none is to take more than half of it, so a search for words
takes half as much again at most. Source: recall is to take less than 50 ms in a million facts."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Bytes of bodies of one room that are looked at for one query."""


@dataclass(frozen=True, slots=True)
class Place:
    """A room that is searched, as the reader sees it, up to its newest fact at `head`. `exact` is where the fact stands
    whose key is the whole query."""

    room: RoomId
    head: Position
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
    def position(self) -> Position:
        return self.found.header.position

    @property
    def at(self) -> Millis:
        return self.found.header.at


class Hit(NamedTuple):
    candidate: Candidate
    score: float


class Found(NamedTuple):
    """The best first. `partly`: no fact has every word. `cut`: only the newest facts were looked through."""

    hits: list[Hit]
    partly: bool
    cut: bool


class Keys(NamedTuple):
    """The keys of a room's memory that somebody is told: the newest, and how many others there are."""

    shown: list[str]
    more: int


def keys_of(state: MemoryState, view: View) -> Keys:
    """The keys under which something is remembered that this reader may see, the newest first, as many as fit on a
    line."""
    seen = [
        (entry.positions[-1], key)
        for key, entry in state.keys.items()
        if entry.is_there and can_see(view, position=entry.positions[-1], visibility=None)
    ]
    shown: list[str] = []
    left = KEYS_BYTES
    for _, key in sorted(seen, reverse=True):
        left -= len(key) + 2
        if left < 0:
            break
        shown.append(key)
    return Keys(shown, len(seen) - len(shown))


def search(store: Store, places: Sequence[Place], query: Query, clock: Callable[[], float]) -> Found:
    """What these rooms remember that answers the query. `clock` gives seconds; with it the search ends in time."""
    return _Search(store, places, clock).answer(query)


class _Search:
    """One search."""

    def __init__(self, store: Store, places: Sequence[Place], clock: Callable[[], float]) -> None:
        self._store = store
        self._places = places
        self._clock = clock
        self._until = clock() + SECONDS
        self._is_cut = False

    def answer(self, query: Query) -> Found:
        candidates = [each for place in self._places for each in self._exact(place)]
        known = {(each.room, each.position) for each in candidates}
        for place in self._places:
            candidates += [each for each in self._walk(place, query.words) if (each.room, each.position) not in known]
        weights = [1.0] * len(query.words)
        partly = not candidates and len(query.words) > 1
        if partly:
            candidates, weights = self._each_alone(query.words)
        candidates.sort(key=lambda each: (-each.at, each.room, -each.position))
        scored = [Hit(each, score(query, each.words, each.text, weights, rank)) for rank, each in enumerate(candidates)]
        return Found(sorted(scored, key=lambda hit: -hit.score), partly and bool(candidates), self._is_cut)

    def _exact(self, place: Place) -> list[Candidate]:
        """The fact whose key is the query."""
        if place.exact is None:
            return []
        rows = self._store.remembered(place.room, (), Position(place.exact - 1), Position(place.exact + 1), 1)
        return [each for row in rows if (each := _candidate(place, row))]

    def _each_alone(self, words: Sequence[Word]) -> tuple[list[Candidate], list[float]]:
        """The facts that have some word, and how much each word counts: the fewer of them have it, the more."""
        merged: dict[tuple[RoomId, Position], Candidate] = {}
        weights: list[float] = []
        for word in words:
            found = [each for place in self._places for each in self._walk(place, (word,))] if asked([word]) else []
            weights.append(1 / (1 + len(found)))
            merged |= {(each.room, each.position): each for each in found}
        return list(merged.values()), weights

    def _occurs(self, place: Place, term: Term) -> bool:
        """Whether any fact has a term, of those that may be among what the reader sees: for a term that is nowhere this
        costs less than going through the blocks."""
        begin = min((begin for begin, _ in place.view.spans), default=place.head)
        return bool(self._store.remembered(place.room, (term,), Position(begin), Position(place.head + 1), 1))

    def _walk(self, place: Place, words: Sequence[Word]) -> list[Candidate]:
        """The newest facts of a room that have these words: span by span of what the reader may see, so that the rest
        counts for nothing. With several terms each span is looked through block by block. The blocks are narrow until
        one shows that a wide one takes no more than half of `SECONDS`."""
        terms = asked(words)
        most = MAX_ROWS if terms else MAX_PLAIN
        if terms and any(self._store.newest_unindexed(place.room) > begin for begin, _ in place.view.spans):
            self._is_cut = True
        if len(terms) > 1 and not all(self._occurs(place, term) for term in terms):
            return []
        bits = BLOCKS[0] if len(terms) > 1 else _WHOLE
        kept: list[Candidate] = []
        looked = size = 0
        for begin, upto in reversed(place.view.spans):
            high = place.head + 1 if upto is None else min(place.head, upto) + 1
            while high > begin + 1:
                low = max(begin, ((high - 1) >> bits << bits) - 1)
                began = self._clock()
                rows = self._store.remembered(place.room, terms, Position(low), Position(high), PAGE)
                size += sum(len(row.body) for row in rows)
                looked += len(rows)
                found = [each for row in rows if (each := _candidate(place, row)) is not None]
                kept += [each for each in found if holds(each.text, words)]
                is_whole = len(rows) < PAGE
                now = self._clock()
                if is_whole and len(terms) > 1:
                    wide = (now - began) / (high - low - 1) * 2 ** BLOCKS[-1]
                    bits = BLOCKS[-1] if wide <= SECONDS / 2 else BLOCKS[0]
                high = low + 1 if is_whole else rows[-1].header.position
                is_over = len(kept) >= KEPT or looked >= most or size >= MAX_BYTES or now > self._until
                if is_over and high > begin + 1:
                    self._is_cut = True
                    return kept[:KEPT]
        return kept[:KEPT]


def _candidate(place: Place, row: Remembered) -> Candidate | None:
    """A row as something to compare; None for what the reader may not see, and for what the room's home lost."""
    position = row.header.position
    if not can_see(place.view, position=position, visibility=None):
        return None
    if place.rewinds.rewound and place.rewinds.is_lost(position):
        return None
    words = words_of(row.body)
    return None if words is None else Candidate(place.room, row, words, searched(words))
