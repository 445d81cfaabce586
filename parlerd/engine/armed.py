"""Readers that wait with everything read: what a commit will show them is recorded in that very commit.

A page's delivery range must be durable before the page leaves (decision 15). For a reader that waits this would be a
second commit between the message and its wake, and most of the wait. A reader that is armed has its range written
with the message instead. Like any range it is written before the page leaves: a reader that goes away in that instant
is recorded as shown what was on its way.

Above: the handlers that wait. Below: the room's task (`actor`), which asks each armed reader what to write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from parlerd.core import events as e
from parlerd.core.model import AgentId, Millis, Position, RoomId, Stage
from parlerd.store.port import MarkDelivery, NewFact

MAX_MARKS: Final = 64
"""Ranges that one commit writes for those who wait: the sender waits for them too. Readers past it write their own."""


@dataclass(slots=True, eq=False)
class Armed:
    """A reader with nothing unread up to `after`. `marked` is where the range ends that a commit wrote for it, once
    one did."""

    reader: AgentId
    stage: Stage
    after: Position
    limit: int
    max_bytes: int
    sees: Callable[[e.Header], bool]
    marked: Position = Position(0)

    def mark(self, room: RoomId, facts: Sequence[NewFact], at: Millis) -> MarkDelivery | None:
        """The range to write for these facts, or None if they show it nothing, or more than one page holds."""
        seen = [fact for fact in facts if isinstance(fact.header.event, e.MessagePosted) and self.sees(fact.header)]
        size = sum(len(fact.body or b"") for fact in seen)
        if not seen or len(seen) > self.limit or size > self.max_bytes:
            return None
        return MarkDelivery(room, self.reader, self.stage, upto=facts[-1].header.position, at=at, after=self.after)

    def covers(self, positions: Sequence[Position]) -> bool:
        """Whether the range that was written holds all of these."""
        return all(self.after < position <= self.marked for position in positions)
