"""What is asked about several rooms at once, for a store that is at hand: each of them is asked after the other.

A store over a network answers each of these in a few ways there and back, however many rooms they are about. Above:
`sqlite`, `memory`. Below: the questions about one room, which the store has.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping

from parlerd.core.errors import Refused
from parlerd.core.events import Header
from parlerd.core.model import Position, RoomId
from parlerd.store.port import START, Head, Held


class OneByOne:
    """The part of a `Store` that is about several rooms."""

    @abstractmethod
    def head(self, room: RoomId) -> Head: ...

    @abstractmethod
    def facts(self, room: RoomId, after: Position, limit: int) -> list[Header]: ...

    @abstractmethod
    def held(self, room: RoomId, after: Position = START, upto: Position | None = None) -> Held: ...

    def heads(self, rooms: Iterable[RoomId]) -> dict[RoomId, Head]:
        found = {room: self.head(room) for room in rooms}
        return {room: head for room, head in found.items() if head.position}

    def openings(self, rooms: Iterable[RoomId]) -> dict[RoomId, Header]:
        return {room: opening for room in rooms if (opening := self._opening(room)) is not None}

    def _opening(self, room: RoomId) -> Header | None:
        try:
            facts = self.facts(room, START, 1)
        except Refused:
            return None
        return facts[0] if facts else None

    def grown(self, after: Mapping[RoomId, Position]) -> dict[RoomId, tuple[Held, Position]]:
        ends = {room: self.head(room).position for room in after}
        return {room: (self.held(room, low, ends[room]), ends[room]) for room, low in after.items()}
