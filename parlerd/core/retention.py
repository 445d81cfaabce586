"""How much of a room's words is kept: which of the oldest go, and which have gone.

    what a room holds, and its limits  -->  `going`: so many of the oldest  -->  PruneBodies  -->  BodiesErased

Words alone go. The facts, their digests, and the numbers of readers stay, so a log of which the words went can still
be verified and read on. A limit has two heights. Above the lower one the words go that every member has read; above the
upper one the words go as well that somebody has not read, because otherwise a reader that never comes would leave a
room without a limit.

What the room needs stays at any height, and counts like all else: the recap while the room is open, what is remembered,
offers of the turn that can be taken, and tasks that are not over.

In a mirror the same fact says which words the room's home let go, as that home told.

Not here: counting what a room holds, who has read what, and when somebody looks (the engine); what a mirror lets go
because of its own bounds, which is no fact. Above: `room`. Below: the states of other facets. Invariants: the oldest go
first, and no more than a limit asks for; no message within the spans of this state has words, but in a mirror those
that the home had lost.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from math import inf
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.claims import ClaimsState
from parlerd.core.decision import Decision
from parlerd.core.facets import Facet, applies, decides, nobody, touches
from parlerd.core.handoff import Offers
from parlerd.core.lifecycle import LifecycleState
from parlerd.core.memory import MemoryState
from parlerd.core.model import By, Ids, Millis, Position, WordsOf

UNREAD: Final = 2
"""How many times a limit a room may hold for the sake of members that have not read it."""


class Span(NamedTuple):
    """The positions from the first to the last."""

    first: Position
    last: Position


class RetentionState(msgspec.Struct):
    """What was erased here because it was too much: the spans in which it stood, in order and with a gap between two,
    how many messages that were, and their bytes."""

    spans: list[Span] = []
    messages: int = 0
    bytes: int = 0

    def covers(self, position: Position) -> bool:
        """Whether words at this position that were erased on purpose were erased because they were too much."""
        before = bisect_right(self.spans, position, key=_first)
        return bool(before) and position <= self.spans[before - 1].last

    def holds(self, span: Span) -> bool:
        """Whether the words of all messages within a span are known to be gone."""
        before = bisect_right(self.spans, span.first, key=_first)
        return bool(before) and span.last <= self.spans[before - 1].last


class Limit(NamedTuple):
    """How many messages of a room have words, how many bytes these are, and how old the oldest may be: words from
    before the moment `since` are too much."""

    messages: float = inf
    bytes: float = inf
    since: Millis = Millis(0)

    def is_exceeded(self, messages: int, bytes: int, oldest: Millis) -> bool:
        """Whether a room that holds so much, the oldest from that moment, holds too much."""
        return messages > self.messages or bytes > self.bytes or oldest < self.since


def going(
    old: Sequence[WordsOf], messages: int, bytes: int, *, limit: Limit, utmost: Limit, read: Position
) -> Sequence[WordsOf]:
    """Which of the oldest words of a room are too much, where it holds so many messages and bytes in all. `old` is in
    the order of the log. What follows the position `read` somebody has not read: it goes above `utmost` alone."""
    for number, each in enumerate(old):
        bound = limit if each.position <= read else utmost
        if not bound.is_exceeded(messages, bytes, each.at):
            return old[:number]
        messages, bytes = messages - 1, bytes - each.size
    return old


class Retention(Facet[RetentionState]):
    """Lets the words go that are too much, and keeps which went."""

    __slots__ = ("_claims", "_lifecycle", "_memory", "_offers", "_opening")

    def __init__(
        self,
        state: RetentionState,
        lifecycle: LifecycleState,
        memory: MemoryState,
        offers: Offers,
        claims: ClaimsState,
    ) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._memory = memory
        self._offers = offers
        self._claims = claims

    def _prune(self, command: c.PruneBodies, by: By, now: Millis, ids: Ids) -> Decision:
        erased = [each for each in command.old if not self._is_needed(each, now)]
        if not erased:
            return Decision(answer="needed")
        event = e.BodiesErased(
            spans=tuple(self._spans(command, {each.position for each in erased})),
            messages=len(erased),
            bytes=sum(each.size for each in erased),
        )
        positions = tuple(each.position for each in erased)
        return Decision((event,), authority="home", answer="erased", erases=positions)

    def _is_needed(self, old: WordsOf, now: Millis) -> bool:
        """Whether these words stay however much there is."""
        if old.opening and not self._lifecycle.closed:
            return True
        if old.memory is not None and not old.memory.forgets:
            entry = self._memory.keys.get(old.memory.key)
            # Only an older version of a key is not what the room remembers.
            return entry is None or old.position in entry.positions[-1:]
        if old.id in self._claims.tasks:
            return True
        offer = self._offers.get(old.id)
        return offer is not None and self._offers.is_open(offer, now)

    def _spans(self, command: c.PruneBodies, erased: set[Position]) -> list[Span]:
        """The spans of what is erased now, as wide as nothing between them and what was erased before has words: so a
        room of which all old words went has one span, whatever else stands in its log."""
        spans: list[Span] = []
        before = command.after
        for number, old in enumerate(command.old):
            at = old.position
            if at in erased:
                end = self._end_before(at)
                first = Position(end + 1) if end >= before else at
                if spans and spans[-1].last == before:
                    first = spans.pop().first
                spans.append(Span(first, at))
                following = command.old[number + 1].position if number + 1 < len(command.old) else None
                begin = self._begin_after(at)
                if begin is not None and following is not None and begin <= following:
                    spans[-1] = Span(first, Position(begin - 1))
            before = at
        return spans

    def _end_before(self, position: Position) -> Position:
        """Where the newest span ends that lies before a position; 0 where none does."""
        before = bisect_right(self.state.spans, position, key=_first)
        return self.state.spans[before - 1].last if before else Position(0)

    def _begin_after(self, position: Position) -> Position | None:
        """Where the next span begins that lies after a position."""
        before = bisect_right(self.state.spans, position, key=_first)
        return self.state.spans[before].first if before < len(self.state.spans) else None

    def _erased(self, event: e.BodiesErased, header: e.Header) -> None:
        state = self.state
        state.spans = merged([*state.spans, *(Span(*span) for span in event.spans)])
        state.messages += event.messages
        state.bytes += event.bytes

    DECIDES = (decides(c.PruneBodies, _prune),)
    APPLIES = (applies(e.BodiesErased, _erased),)
    # Nobody waits for words to go.
    TOUCHES = (touches(e.BodiesErased, nobody),)


def merged(spans: Sequence[Span]) -> list[Span]:
    """The same positions in as few spans as can be, in order."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.first <= found[-1].last + 1:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def _first(span: Span) -> Position:
    return span.first
