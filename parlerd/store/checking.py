"""What is wrong with a store's own structures: the checks that all stores over SQL make alike, and when the
index is made anew.

Not here: checks that depend on how a store keeps its rows (each store). Above: `sqlite`, `postgres`. Below: `peeking`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Final

from parlerd.core.model import Position, RoomId
from parlerd.core.public_line import next_line
from parlerd.store.peeking import envelope_in
from parlerd.store.port import Store

log = logging.getLogger(__name__)

MISSING_FACTS: Final = "Room {0} has {1} facts and its last is number {2}: some are missing."
UNKNOWN_TYPE: Final = "Room {0} holds facts of type {1}, version {2}, which this Parler does not know."
STRAY_BODY: Final = "Room {0} has a body at {1} without its fact."
ERASED_BODY: Final = "Room {0} has a body at {1} that was erased."
NO_WORDS: Final = "Room {0} remembers a message at {1} that has no words."
MISCOUNTED_KINDS: Final = "Room {0} has {1} public messages and {2} by kind."
MISCOUNTED_MESSAGES: Final = "Room {0} has {1} messages and {2} in the index."
COUNTS: Final = (
    (
        "Room {0} counts its public messages wrongly at {1}.",
        "SELECT room, min(position) FROM (SELECT room, position, number, own,"
        " row_number() OVER (PARTITION BY room ORDER BY position) AS n,"
        " row_number() OVER (PARTITION BY room, author ORDER BY position) AS o FROM public_messages) AS counted"
        " WHERE number <> n OR own <> o GROUP BY room",
    ),
    (
        "Room {0} counts its private messages wrongly at {1}.",
        "SELECT room, min(position) FROM (SELECT room, position, number, own,"
        " row_number() OVER (PARTITION BY room, reader ORDER BY position) AS n,"
        " sum(CASE WHEN author = reader THEN 1 ELSE 0 END) OVER (PARTITION BY room, reader ORDER BY position) AS o"
        " FROM private_messages) AS counted"
        " WHERE number <> n OR own <> o GROUP BY room",
    ),
)
"""Checks of the counts in the index: a sentence, and the SQL that gives what to say in it."""


def wrong_lines(
    rows: Iterable[tuple[RoomId, Position, bytes, bytes | None]], line_before: Callable[[RoomId], bytes]
) -> list[str]:
    """The rooms whose public line does not follow from their facts, each with the first place where it does not.

    `rows` are the public messages of each room, in order, each with the line that is stored and its header, and among
    them the places of mirrors, which have no header. Raises `msgspec.DecodeError`.
    """
    wrong: dict[RoomId, Position] = {}
    last, line = RoomId(""), b""
    for room, position, stored, header in rows:
        if room != last:
            last, line = room, line_before(room)
        line = stored if header is None else next_line(line, envelope_in(header))
        if stored != line:
            wrong.setdefault(room, position)
    return [f"Room {room} has a wrong public line at {position}." for room, position in wrong.items()]


def wrong_snapshots(rows: Iterable[tuple[RoomId, bytes, bytes]]) -> list[str]:
    """The snapshots, of a room, data and digest, that are not what was stored."""
    return [
        f"The snapshot of room {room} is not what was stored; the room is folded without it."
        for room, data, digest in rows
        if hashlib.sha256(data).digest() != digest
    ]


def remade(store: Store, rooms: Iterable[RoomId], *, lacks_facts: bool) -> bool:
    """Make the index anew that was found damaged, and say whether that was done: only if the facts are whole and all
    there. Otherwise the new index would leave out lost messages, and nothing would show that they are lost."""
    if lacks_facts or any(store.verify_chain(room) is not None for room in rooms):
        log.error("the index is damaged, and so are the facts that it could be remade from")
        return False
    store.rebuild_index()
    log.warning("the index was damaged and has been remade from the facts")
    return True
