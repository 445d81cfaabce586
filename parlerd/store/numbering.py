"""A reader's own numbers: from the counts of public and private messages to `Seq`, and back.

This is plain arithmetic over the answers of an index. Both stores use it, so their numbers cannot differ. It rests on
one observation: within a room the count of public messages grows with the position, so a reader's spans of positions
are at the same time spans of public counts. How many public messages a reader may see up to a position therefore
follows from the public count at that position. What a mirror leaves out (`View.gaps`) is added to the numbers of
what follows, and is no message of the log.

The numbers of the public line (`core.public_line`) are the room's own, and follow from the same counts.

Not here: where the counts come from (each store), and who may see what (`core.visibility`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from parlerd.core.model import Position, Seq, Shown, View


class Tally(NamedTuple):
    """Counts up to a position: the room's public messages, those of them that the reader wrote, the private messages
    that the reader may see, and those of them that the reader wrote."""

    public: int
    own_public: int
    private: int
    own_private: int


NOTHING: Final = Tally(0, 0, 0, 0)
_NONE: Final[Mapping[int, Tally]] = {}


class Numbering:
    """The numbers of one reader in one room, up to `head`. `ask` gives the tally of a position, and is asked at most
    once for each position, and not for those of `known`."""

    __slots__ = ("_ask", "_gaps", "_known", "_own", "_public", "head", "spans")

    def __init__(
        self, view: View, head: Position, ask: Callable[[int], Tally], known: Mapping[int, Tally] = _NONE
    ) -> None:
        self.head = head
        """The end of the log when the numbering was made. Positions beyond it count as the head."""
        self._ask = ask
        self._gaps = view.gaps
        # The tallies that were asked for already, by position.
        self._known: dict[int, Tally] = {0: NOTHING, **known}
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

    def seq(self, position: int, public: int, private: int) -> Seq:
        """The reader's number at `position`, where the log has `public` public messages up to there and the reader
        `private` private ones."""
        return Seq(_within(self._public, public) + private + self._left_out(position))

    def seq_at(self, position: int) -> Seq:
        """How many messages up to and at `position` the reader may see, those that the log leaves out among them."""
        tally = self._tally(position)
        return self.seq(min(position, self.head), tally.public, tally.private)

    def held(self, after: int, upto: int) -> int:
        """How many messages in (`after`, `upto`] the reader may see, of those that the log holds."""
        numbered = self.seq_at(upto) - self.seq_at(after)
        return numbered - self._left_out(min(upto, self.head)) + self._left_out(after)

    def own_at(self, position: int) -> int:
        """How many of the messages up to and at `position` the reader wrote."""
        tally = self._tally(position)
        return _within(self._own, tally.own_public) + tally.own_private

    def unread(self, after: int) -> int:
        """How many visible messages by others follow `after`, of those that the log holds."""
        return self.held(after, self.head) - (self.own_at(self.head) - self.own_at(after))

    def position_of(self, seq: int) -> Position:
        """The position of the reader's message number `seq`: 0 for 0, and the head for a number beyond the last. A
        message that the log leaves out counts as being where the log leaves it out.

        This is a binary search over the facts that the reader does not see. In a room where the reader sees every fact
        the search ends at once.
        """
        if seq <= 0:
            return Position(0)
        total = self.seq_at(self.head)
        if seq > total:
            return self.head
        # Each message that the log holds takes a position of its own, and those left out together take one.
        left_out = self._left_out(self.head)
        low, high = max(1, seq - left_out), min(int(self.head), seq + self.head - total + left_out)
        while low < high:
            middle = (low + high) // 2
            if self.seq_at(middle) >= seq:
                high = middle
            else:
                low = middle + 1
        return Position(low)

    def _left_out(self, position: int) -> int:
        return sum(count for place, count in self._gaps if place <= position)

    def _tally(self, position: int) -> Tally:
        position = max(0, min(position, self.head))
        known = self._known.get(position)
        if known is None:
            known = self._known[position] = self._ask(position)
        return known


def shown_of(before: bytes, last: tuple[int, bytes] | None, place: tuple[int, int, bytes] | None) -> Shown:
    """The public messages of a room up to some position, and the line there.

    `before` is the line that the room begins with, `last` the count and the line of the newest public message of the
    log, and `place` the newest place of a mirror: its public number, the log's count there, its line.
    """
    counted, line = last or (0, before)
    if place is None:
        return Shown(counted, line)
    public, then, line_then = place
    return Shown(public, line_then) if counted == then else Shown(public + counted - then, line)


def line_of(number: int, head: int, shown_at: Callable[[Position], Shown]) -> bytes | None:
    """The public line at a room's public message of this number; None where the log does not know it."""
    newest, line = shown_at(Position(head))
    if number == newest:
        return line
    if not 0 < number < newest:
        return None if number else shown_at(Position(0)).line
    found = shown_at(place_of(number, head, shown_at))
    return found.line if found.number == number else None


def place_of(number: int, head: int, shown_at: Callable[[Position], Shown]) -> Position:
    """The first position at which a room has so many public messages; the head where it never has.

    A binary search, because the number grows with the position. It begins where the message is if the log leaves none
    out: then it goes over the facts that are no public messages, and ends at once where there are few.
    """
    low, high = number, head - (shown_at(Position(head)).number - number)
    if low > high or shown_at(Position(low - 1)).number >= number or shown_at(Position(high)).number < number:
        low, high = 0, head
    while low < high:
        middle = (low + high) // 2
        if shown_at(Position(middle)).number >= number:
            high = middle
        else:
            low = middle + 1
    return Position(low)


def public_place(number: int, head: int, shown_at: Callable[[Position], Shown]) -> Position | None:
    """Where a room's public message of this number stands. A log may know that there was one and leave it out: then the
    fact at that place is no message, and whoever asks looks."""
    place = place_of(number, head, shown_at)
    return place if number > 0 and place > 0 and shown_at(place).number == number else None


def _within(spans: list[tuple[int, int]], count: int) -> int:
    return sum(min(count, high) - low for low, high in spans if count > low)
