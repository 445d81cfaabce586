"""Messages as one reader sees them, read through the index: pages, the newest messages, a reader's own numbers.

The stores over SQL inherit this, and add how rows are found. Rows that contradict the index or each other are damage
(`judging`), and a page never leaves a message out without a word. Reading rests on facts being
append-only: whatever stands in a log up to a head that was read never changes, so the queries of one read need no
transaction around them.

Not here: SQL (each store), and the arithmetic of numbers (`numbering`). Above: `sqlite`, `postgres`. Below: `judging`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.events import Header, MessagePosted
from parlerd.core.model import AgentId, MessageId, Position, RoomId, Seq, Shown, View
from parlerd.core.visibility import can_see
from parlerd.store.judging import Judged
from parlerd.store.numbering import Numbering, line_of, public_place
from parlerd.store.port import Head, Page, StoredMessage
from parlerd.store.staging import fact_digest, is_unaltered

FIRST: Final = Position(0)

Found = tuple[int, Any, Any, Any, Any, Any, Any, Any]
"""A message as a scan gives it: position, counts of public and of private messages there, header, body, signature,
salt, digest. Where the data is damaged the values may have other types, except the position, by which the scan goes."""


class Wanted(NamedTuple):
    """What a scan looks for in a room: the messages in `spans` for everyone, and after `after` those for the reader
    alone. It need find no more than one message beyond `limit` or beyond `max_bytes` of bodies."""

    room: RoomId
    reader: AgentId
    spans: Sequence[tuple[int, int]]
    after: Position
    head: Position
    limit: int
    max_bytes: int
    skip_own: bool = False
    newest_first: bool = False
    filter: tuple[Sequence[str], str] | None = None
    """The names of which a message must be found under one, empty for any message, and its kind, empty for any kind."""


class Paged(Judged):
    """The part of a `Store` that shows a room's messages to a reader."""

    # -- what a store adds -----------------------------------------------------------------------------------

    @abstractmethod
    def head(self, room: RoomId) -> Head: ...

    @abstractmethod
    def shown_at(self, room: RoomId, position: Position) -> Shown: ...

    @abstractmethod
    def erased(self, room: RoomId, after: Position, upto: Position) -> set[Position]: ...

    @abstractmethod
    def message(self, room: RoomId, position: Position) -> Header | None: ...

    @abstractmethod
    def find_message(self, message: MessageId) -> tuple[RoomId, Position] | None: ...

    @abstractmethod
    def _numbering(self, room: RoomId, view: View, places: Sequence[Position]) -> Numbering:
        """The reader's numbers in a room up to its head. They will be asked for at `places` and at the head."""

    def _shown_with(self, numbering: Numbering, room: RoomId, position: Position) -> Shown:
        """`shown_at`, for a store that has read some of it with the numbers of a reader."""
        return self.shown_at(room, position)

    @abstractmethod
    def _scan(self, wanted: Wanted) -> AbstractContextManager[Iterable[Found]]:
        """The rows of what is wanted, in the order of the read. A message may come more than once in a row."""

    # -- reading ---------------------------------------------------------------------------------------------

    def page(
        self,
        room: RoomId,
        view: View,
        after: Position,
        *,
        limit: int,
        max_bytes: int,
        skip_own: bool,
        kind: str | None = None,
        names: Sequence[str] = (),
    ) -> Page:
        is_filtered = kind is not None or bool(names)
        numbering = self._numbering(room, view, (after,))
        head = numbering.head
        start = max(FIRST, min(after, head))
        found: list[Found] = []
        more = False
        # Most polls find nothing new. Counting is then cheaper than a scan that passes over the reader's own messages.
        if not skip_own or numbering.unread(start):
            wanted = Wanted(room, view.reader, _spans(numbering, start), start, head, limit, max_bytes, skip_own)
            if is_filtered:
                wanted = wanted._replace(filter=(names, kind or ""))
            found, more = self._gather(wanted)
        messages = self._messages(room, view, numbering, found)
        if not is_filtered:
            self._expect(numbering, start, found[-1][0] if more else head, messages, skip_own=skip_own)
        if more or not skip_own or is_filtered:
            end = Position(found[-1][0]) if found else start
        else:
            end = head
        end_seq = messages[-1].seq if found and end == found[-1][0] else numbering.seq_at(end)
        return Page(messages, end, end_seq, self._shown_with(numbering, room, end), more)

    def tail(self, room: RoomId, view: View, *, limit: int, max_bytes: int) -> Page:
        numbering = self._numbering(room, view, ())
        head = numbering.head
        spans = _spans(numbering, FIRST)[::-1]
        found, more = self._gather(Wanted(room, view.reader, spans, FIRST, head, limit, max_bytes, newest_first=True))
        messages = self._messages(room, view, numbering, found[::-1])
        self._expect(numbering, found[-1][0] - 1 if more else 0, head, messages, skip_own=False)
        end = Position(found[0][0]) if found else head
        end_seq = messages[-1].seq if messages else numbering.seq_at(end)
        return Page(messages, end, end_seq, self._shown_with(numbering, room, end), more)

    def seq_at(self, room: RoomId, view: View, position: Position) -> Seq:
        return self._numbering(room, view, (position,)).seq_at(position)

    def position_of(self, room: RoomId, view: View, seq: Seq) -> Position:
        return self._numbering(room, view, ()).position_of(seq)

    def unread(self, room: RoomId, view: View, after: Position) -> int:
        return self._numbering(room, view, (after,)).unread(after)

    def line_at(self, room: RoomId, number: int) -> bytes | None:
        head = self.head(room).position
        return line_of(number, head, lambda position: self.shown_at(room, position)) if head else None

    def public_position(self, room: RoomId, number: int) -> Position | None:
        place = public_place(number, self.head(room).position, lambda position: self.shown_at(room, position))
        return None if place is None or self.message(room, place) is None else place

    # -- judging what was read -------------------------------------------------------------------------------

    def _gather(self, wanted: Wanted) -> tuple[list[Found], bool]:
        """The messages that a scan finds within both bounds, in order and each once, and whether more follow. Rows are
        taken one by one, so that a scan may read none beyond the bounds."""
        found: list[Found] = []
        size = 0
        with self._scan(wanted) as rows:
            for row in rows:
                if found and row[0] == found[-1][0]:
                    continue
                size += len(row[4]) if isinstance(row[4], bytes) else 0
                if len(found) == wanted.limit or (found and size > wanted.max_bytes):
                    return found, True
                found.append(row)
        return found, False

    def _messages(self, room: RoomId, view: View, numbering: Numbering, rows: Sequence[Found]) -> list[StoredMessage]:
        messages = [self._stored_message(room, view, numbering, row) for row in rows]
        if all(message.body is not None for message in messages):
            return messages
        erased = self.erased(room, Position(rows[0][0] - 1), Position(rows[-1][0]))
        return [
            msgspec.structs.replace(message, is_erased=True) if message.header.position in erased else message
            for message in messages
        ]

    def _stored_message(self, room: RoomId, view: View, numbering: Numbering, row: Found) -> StoredMessage:
        position, public, private, stored, body, signature, salt, digest = row
        # A value of another type means damage: the index names a fact that is not there, or a bit of the data flipped.
        if not (
            isinstance(stored, bytes)
            and isinstance(body, bytes | None)
            and isinstance(signature, bytes | None)
            and isinstance(salt, bytes)
            and isinstance(public, int)
            and isinstance(private, int)
        ):
            raise self._found_damage()
        try:
            header = self._header(stored)
        except Refused as error:
            if fact_digest(salt, stored) != digest:
                # The digest is wrong, so these bytes are damage and not the fact of a newer Parler.
                raise self._found_damage() from error
            raise
        event = header.event
        if not isinstance(event, MessagePosted):
            raise self._index_damage()
        if header.by.actor != view.reader and not can_see(view, position=position, visibility=event.visibility):
            # The index says that this is for a reader for whom it is not.
            raise self._index_damage()
        unaltered = is_unaltered(salt, stored, digest, header, body)
        seq = numbering.seq(position, public, private)
        return StoredMessage(room, seq, header, body, signature, unaltered=unaltered)

    def _expect(
        self, numbering: Numbering, after: int, upto: int, found: Sequence[StoredMessage], *, skip_own: bool
    ) -> None:
        """Raise `store_corrupt` unless a scan of (after, upto] found as many messages as the index counts there, each
        with a number of its own. Otherwise a row that damage hides would be left out without a word."""
        counted = numbering.held(after, upto)
        if skip_own:
            counted -= numbering.own_at(upto) - numbering.own_at(after)
        numbers = [numbering.seq_at(after), *(message.seq for message in found), numbering.seq_at(upto) + 1]
        is_numbered = all(low < high for low, high in pairwise(numbers))
        if counted != len(found) or not is_numbered:
            raise self._index_damage()


def _spans(numbering: Numbering, after: Position) -> list[tuple[int, int]]:
    """The reader's spans of public messages after a position."""
    return [(max(low, after), high) for low, high in numbering.spans if high > after]
