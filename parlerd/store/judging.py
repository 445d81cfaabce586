"""What was read from a store over SQL, judged: rows become what the port gives, or are damage.

The stores over SQL inherit this. Not here: SQL (each store), pages (`paging`). Above: `paging`, `sqlite`, `postgres`.
Invariant: what cannot have been written so is never given out as if it had been.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from parlerd.core.errors import StoreError
from parlerd.core.events import Header, MessagePosted, decode_header
from parlerd.core.model import Position, PrincipalId, Prior, RoomId, Shown
from parlerd.store.lines import LineRow, Stored, first_broken, receipted
from parlerd.store.numbering import shown_of
from parlerd.store.peeking import principal_in
from parlerd.store.port import Receipted, Remembered, Snapshot
from parlerd.store.staging import NO_CHAIN, is_intact, is_unaltered


class Judged(ABC):
    """The part of a `Store` that judges rows."""

    @abstractmethod
    def _found_damage(self) -> StoreError:
        """Note that the facts are damaged. Gives the error to raise."""

    @abstractmethod
    def _index_damage(self) -> StoreError:
        """Note that the index contradicts itself or the facts, so that it is made anew when the store is opened next.
        Gives the error to raise."""

    def _header(self, stored: bytes) -> Header:
        try:
            return decode_header(stored)
        except StoreError as error:
            raise self._found_damage() from error

    def _message_at(self, stored: bytes | None) -> Header | None:
        """The header of a message; None where there is no fact, or one that is no message."""
        header = None if stored is None else self._header(stored)
        return header if header is not None and isinstance(header.event, MessagePosted) else None

    def _prior(self, stored: bytes) -> Prior:
        """The earlier use of an idempotency key, from the fact that it led to."""
        header = self._header(stored)
        return Prior(header.position, header.input or b"")

    def _shown(self, before: bytes, row: tuple[Any, ...]) -> Shown:
        """The public messages and the public line, from the newest public message and the newest place of a mirror, as
        far as there are any; the room begins with the line `before`."""
        number, line, public, counted, place = row
        # A value of another type means damage.
        last_is_sound = isinstance(number, int | None) and isinstance(line, bytes | None)
        place_is_sound = isinstance(public, int | None) and isinstance(counted, int | None)
        if not (last_is_sound and place_is_sound and isinstance(place, bytes | None)):
            raise self._index_damage()
        last = None if number is None or line is None else (number, line)
        return shown_of(
            before, last, None if public is None or counted is None or place is None else (public, counted, place)
        )

    def _written(self, rows: Iterable[tuple[bytes, int]]) -> dict[PrincipalId, int]:
        """How much each person wrote, from the header and the size of the body of each fact."""
        found: Counter[PrincipalId] = Counter()
        try:
            for header, size in rows:
                found[principal_in(header)] += size
        except msgspec.DecodeError as error:
            raise self._found_damage() from error
        return dict(found)

    def _remembered(self, rows: Iterable[tuple[bytes, bytes, bytes, bytes]]) -> list[Remembered]:
        """Messages that remember something, from header, body, salt and digest of each."""
        return [
            Remembered(header := self._header(stored), body, is_unaltered(salt, stored, digest, header, body))
            for stored, body, salt, digest in rows
        ]

    def _receipted(self, row: tuple[Any, ...] | None) -> Receipted | None:
        """A fact for its receipt, from its header, salt and digest, its body and signature, its thread and number, and
        the line at the number before."""
        if row is None:
            return None
        header, salt, digest, body, signature, thread, number, before = row
        words = None if body is None else (body, signature)
        try:
            return receipted(header, salt, digest, words, None if thread is None else (thread, number), before)
        except (StoreError, msgspec.DecodeError) as error:
            raise self._found_damage() from error

    def _first_unlined(self, room: RoomId, rows: Iterable[tuple[Any, ...]], stray: Position | None) -> Position | None:
        """`Store.first_unlined`, from each fact's position, header and digest with the columns of its own line, and the
        first row of an own line without a fact. Rows are taken one by one: a log may be larger than the memory."""
        try:
            broken = first_broken(
                room,
                (
                    Stored(position, header, digest, None if row[0] is None else LineRow(position, *row))
                    for position, header, digest, *row in rows
                ),
            )
        except StoreError as error:
            if error.code != "store_corrupt":
                raise
            raise self._found_damage() from error
        return min((place for place in (stray, broken) if place is not None), default=None)


def first_unchained(rows: Iterable[tuple[Any, ...]]) -> Position | None:
    """`Store.verify_chain`, from position, header, salt, digest, chain and body of each fact of a log."""
    expected, previous = 1, NO_CHAIN
    for position, header, salt, digest, link, body in rows:
        if position != expected or not is_intact(previous, salt, header, digest, link, body):
            return Position(expected)
        expected, previous = expected + 1, link
    return None


def whole_snapshot(row: tuple[Any, ...] | None) -> Snapshot | None:
    """A snapshot from its row, the digest last. It is a cache: where it is damaged, the room is folded from its
    facts."""
    if row is None or hashlib.sha256(row[2]).digest() != row[3]:
        return None
    return Snapshot(*row[:3])
