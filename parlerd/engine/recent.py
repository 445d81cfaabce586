"""The newest facts of an open room, in memory: a reader that waits for a message gets it without a read of the store.

This is a cache of what was just committed. Whatever does not follow from these facts for certain is left to the store.
Above: `library`, which asks here first. Invariant: a page from here is the page that the store would give.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from parlerd.core import events as e
from parlerd.core.model import Position, Seq, View
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.store.port import Head, NewFact, Page, StoredMessage

MAX_FACTS: Final = 128
MAX_BYTES: Final = 256 * 1024
"""Bytes of bodies that are kept for one room. A body that alone is larger is not kept."""


class Recent:
    """The facts up to the room's head, without a gap, as many as the bounds allow."""

    __slots__ = ("_bytes", "_facts", "_head")

    def __init__(self) -> None:
        self._facts: deque[NewFact] = deque()
        """Oldest first, each one position after the one before it."""
        self._bytes = 0
        """The sum of their bodies."""
        self._head: Head | None = None
        """Where the log ends that these are the end of; None while nothing was committed since the room was opened."""

    def add(self, facts: Sequence[NewFact], head: Head) -> None:
        """Take in what a commit appended; `head` is where it left the log."""
        if self._facts and self._facts[-1].header.position + 1 != facts[0].header.position:
            self.clear()
        self._head = head
        for fact in facts:
            self._facts.append(fact)
            self._bytes += _size(fact)
        while self._bytes > MAX_BYTES or len(self._facts) > MAX_FACTS:
            self._bytes -= _size(self._facts.popleft())

    def forget(self, positions: Sequence[Position]) -> None:
        """The words at these positions were erased. Where some of them are here, forget everything."""
        if self._facts and any(position >= self._facts[0].header.position for position in positions):
            self.clear()

    def clear(self) -> None:
        """Forget everything, because the store may hold something else than what is here."""
        self._facts.clear()
        self._bytes = 0
        self._head = None

    def page(
        self,
        room: Room,
        view: View,
        after: Position,
        *,
        limit: int,
        max_bytes: int,
        skip_own: bool,
        kind: str | None = None,
        names: Sequence[str] = (),
    ) -> Page | None:
        """What `Store.page` gives for these parameters, or None when that does not follow from the facts here.

        It follows for a page that ends at the newest fact, and for a reader who is in the room now.
        """
        head = self._head
        if head is None or not self._covers(room, view, after, head):
            return None
        found: list[StoredMessage] = []
        size = 0
        newest = room.newest_seq(view.reader)
        for number, fact in enumerate(self._visible(view, after)):
            event = fact.header.event
            assert isinstance(event, e.MessagePosted)
            if (
                not (skip_own and fact.header.by.actor == view.reader)
                and (kind is None or event.kind == kind)
                and not (names and set(names).isdisjoint(e.found_under(event)))
            ):
                seq = Seq(newest - number - _left_out(view, fact.header.position))
                found.append(StoredMessage(room.state.room, seq, fact.header, fact.body, fact.signature))
                size += len(fact.body or b"")
        if len(found) > limit or (len(found) > 1 and size > max_bytes):
            return None
        if (not skip_own or kind is not None or names) and (
            found[0].header.position if found else after
        ) != head.position:
            # Such a page ends at its last message, and the public line is known here only for the head.
            return None
        found.reverse()
        return Page(found, head.position, newest, room.state.shown, more=False)

    def after(self, after: Position, upto: Position) -> list[NewFact] | None:
        """The facts in (after, upto], or None when not all of them are here."""
        head = self._head
        if head is None or upto > head.position or after < head.position - len(self._facts):
            return None
        first = after + len(self._facts) - head.position
        return list(islice(self._facts, first, first + max(0, upto - after)))

    def seq_at(self, room: Room, view: View, position: Position) -> Seq | None:
        """How many messages up to a position this reader may see, or None when that is not known here."""
        head = self._head
        if head is None or not self._covers(room, view, position, head):
            return None
        follow = sum(1 for _ in self._visible(view, position)) + _left_out(view, position)
        return Seq(room.newest_seq(view.reader) - follow)

    def unread(self, room: Room, view: View, after: Position) -> int | None:
        """How many messages by others this reader may see after a position, or None when that is not known here."""
        head = self._head
        if head is None or not self._covers(room, view, after, head):
            return None
        return sum(fact.header.by.actor != view.reader for fact in self._visible(view, after))

    def _covers(self, room: Room, view: View, after: Position, head: Head) -> bool:
        """Whether every fact after `after` is here, and the room is not ahead of them."""
        if room.position != head.position or not view.spans or view.spans[-1][1] is not None:
            return False
        return after >= head.position - len(self._facts) and after <= head.position

    def _visible(self, view: View, after: Position) -> Iterator[NewFact]:
        """The messages after a position that the reader may see, the newest first."""
        for fact in reversed(self._facts):
            position, event = fact.header.position, fact.header.event
            if position <= after:
                return
            if isinstance(event, e.MessagePosted) and can_see(view, position=position, visibility=event.visibility):
                yield fact


def _left_out(view: View, after: Position) -> int:
    """How many messages of the reader the log leaves out after a position."""
    return sum(count for place, count in view.gaps if place > after)


def _size(fact: NewFact) -> int:
    return len(fact.body or b"")
