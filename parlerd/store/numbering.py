"""A reader's own numbers: from the counts of public and private messages to `Seq`, and back.

This is plain arithmetic over the answers of an index. Both stores use it, so their numbers cannot differ. It rests on
one observation: within a room the count of public messages grows with the position, so a reader's spans of positions
are at the same time spans of public counts. How many public messages a reader may see up to a position therefore
follows from the public count at that position.

Not here: where the counts come from (each store), and who may see what (`core.visibility`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from parlerd.core.model import Position, Seq, View


class Tally(NamedTuple):
    """Counts up to a position: the room's public messages, those of them that the reader wrote, the private messages
    that the reader may see, and those of them that the reader wrote."""

    public: int
    own_public: int
    private: int
    own_private: int


NOTHING: Final = Tally(0, 0, 0, 0)


class Numbering:
    """The numbers of one reader in one room, up to `head`. `ask` gives the tally of a position, and is asked at most
    once for each position."""

    __slots__ = ("_ask", "_known", "_own", "_public", "head", "spans")

    def __init__(self, view: View, head: Position, ask: Callable[[int], Tally]) -> None:
        self.head = head
        """The end of the log when the numbering was made. Positions beyond it count as the head."""
        self._ask = ask
        # The tallies that were asked for already, by position.
        self._known: dict[int, Tally] = {0: NOTHING}
        # The reader's spans of positions, with the head as the end of an open one; then the same spans as counts of the
        # room's public messages, and as counts of the reader's own among these.
        self.spans = [
            (after, head if upto is None else min(upto, head))
            for after, upto in view.spans
            if after < head and (upto is None or after < upto)
        ]
        edges = [(self._tally(after), self._tally(upto)) for after, upto in self.spans]
        self._public = [(low.public, high.public) for low, high in edges]
        self._own = [(low.own_public, high.own_public) for low, high in edges]

    def seq(self, public: int, private: int) -> Seq:
        """The reader's number where the room has `public` public messages and the reader `private` private ones."""
        return Seq(_within(self._public, public) + private)

    def seq_at(self, position: int) -> Seq:
        """How many messages up to and at `position` the reader may see."""
        tally = self._tally(position)
        return self.seq(tally.public, tally.private)

    def own_at(self, position: int) -> int:
        """How many of the messages up to and at `position` the reader wrote."""
        tally = self._tally(position)
        return _within(self._own, tally.own_public) + tally.own_private

    def unread(self, after: int) -> int:
        """How many visible messages by others follow `after`."""
        return (self.seq_at(self.head) - self.seq_at(after)) - (self.own_at(self.head) - self.own_at(after))

    def position_of(self, seq: int) -> Position:
        """The position of the reader's message number `seq`: 0 for 0, and the head for a number beyond the last.

        This is a binary search over the facts that the reader does not see. In a room where the reader sees every fact
        the search ends at once.
        """
        if seq <= 0:
            return Position(0)
        total = self.seq_at(self.head)
        if seq > total:
            return self.head
        low, high = seq, seq + self.head - total
        while low < high:
            middle = (low + high) // 2
            if self.seq_at(middle) >= seq:
                high = middle
            else:
                low = middle + 1
        return Position(low)

    def _tally(self, position: int) -> Tally:
        position = max(0, min(position, self.head))
        known = self._known.get(position)
        if known is None:
            known = self._known[position] = self._ask(position)
        return known


def _within(spans: list[tuple[int, int]], count: int) -> int:
    return sum(min(count, high) - low for low, high in spans if count > low)
