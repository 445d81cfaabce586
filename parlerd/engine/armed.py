"""Readers that wait with everything read: what a commit will show them is recorded in that very commit.

The delivery range of a page must be durable before the page leaves (decision 15). For a reader that waits this would
be a second commit between a message and the reader's wake, and would take most of that time. Therefore a reader that
waits is armed: the commit that stores a message writes the reader's range, too. A reader that goes away in that instant
is on record as shown a page that was still on its way; this is true of every range, because each is written first.

Above: the handlers that wait. Below: the room's actor, which asks each armed reader what to write. Invariant: a range
covers nothing but facts of the batch that wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from parlerd.core import events as e
from parlerd.core.model import AgentId, Millis, Position, RoomId, Stage
from parlerd.store.port import MarkDelivery, NewFact

MAX_MARKS: Final = 64
"""Ranges that one commit writes for readers that wait, because the sender waits for them as well. Readers past this
number write their own."""


@dataclass(slots=True, eq=False)
class Armed:
    """A reader that waits, with nothing unread up to the position `after`, for a page of at most `limit` messages and
    `max_bytes` bytes at the given `stage`. `sees` says whether the reader may see a message. `marked` is where the
    range ends that a commit wrote for this reader, or 0 while none did."""

    reader: AgentId
    stage: Stage
    after: Position
    limit: int
    max_bytes: int
    sees: Callable[[e.Header], bool]
    marked: Position = Position(0)

    def mark(self, room: RoomId, facts: Sequence[NewFact], at: Millis) -> MarkDelivery | None:
        """The range to write for these facts; None if they show this reader nothing, or more than a page holds."""
        # What follows is not for a reader that was put out with the same commit.
        facts = list(takewhile(lambda fact: not self._goes_with(fact.header.event), facts))
        seen = [fact for fact in facts if isinstance(fact.header.event, e.MessagePosted) and self.sees(fact.header)]
        size = sum(len(fact.body or b"") for fact in seen)
        if not seen or len(seen) > self.limit or size > self.max_bytes:
            return None
        return MarkDelivery(room, self.reader, self.stage, upto=facts[-1].header.position, at=at, after=self.after)

    def _goes_with(self, event: e.Event) -> bool:
        return isinstance(event, e.MemberLeft) and event.agent == self.reader

    def covers(self, positions: Sequence[Position]) -> bool:
        """Whether the range that a commit wrote holds all of these positions."""
        return all(self.after < position <= self.marked for position in positions)
