"""What is wrong with the tables, and the index made anew from the facts.

Above: `store`. Below: `connections`, `writing`, and the checks that all stores over SQL share. Invariant: the index is
made anew as a whole or not at all, while no relay writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from parlerd.core.events import decode_header, is_remembered
from parlerd.core.model import Position, RoomId
from parlerd.store.batching import Batch, noted
from parlerd.store.checking import (
    COUNTS,
    ERASED_BODY,
    MISCOUNTED_KINDS,
    MISCOUNTED_MESSAGES,
    MISSING_FACTS,
    NO_WORDS,
    STRAY_BODY,
    UNKNOWN_TYPE,
    wrong_lines,
    wrong_snapshots,
)
from parlerd.store.indexing import Counts, derive, line_before
from parlerd.store.postgres import deleting
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.postgres.tables import Numbers
from parlerd.store.postgres.writing import Writer

_CHUNK: Final = 1_000
"""How many facts or rows are read at a time."""


def of_facts(server: Server) -> list[str]:
    """What is wrong with the record."""
    return [sentence.format(*row) for sentence, query in _FACTS for row in server.slowly(query)]


def of_index(server: Server) -> list[str]:
    """What is wrong with what was derived from it. Raises `msgspec.DecodeError` for a damaged header."""
    wrong = [sentence.format(*row) for sentence, query in (*_INDEX, *COUNTS) for row in server.slowly(query)]
    return wrong + wrong_lines(_lines(server), lambda room: _line_before(server, room))


def of_snapshots(server: Server) -> list[str]:
    """Which snapshots are not what was stored."""
    rooms = [room for (room,) in server.rows("SELECT room FROM snapshots ORDER BY room")]
    query = "SELECT room, data, digest FROM snapshots WHERE room = %s"
    return wrong_snapshots(row for room in rooms for row in server.rows(query, (room,)))


def _lines(server: Server) -> Iterator[Any]:
    for (room,) in server.rows("SELECT room FROM heads ORDER BY room"):
        after = 0
        while rows := server.rows(_LINES, {"room": room, "after": after, "limit": _CHUNK}):
            yield from rows
            after = rows[-1][1]


def _line_before(server: Server, room: RoomId) -> bytes:
    row = server.row("SELECT header FROM facts WHERE room = %s AND position = 1", (room,))
    return line_before(room, None if row is None else decode_header(row[0]).event)


def rebuild(connection: Connection, writer: Writer) -> None:
    """Make every row of the index anew, in the transaction that the connection has begun."""
    with connection.unhurried():
        _rebuild(connection, writer)


def _rebuild(connection: Connection, writer: Writer) -> None:
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    # Nobody else writes from here on.
    connection.execute("SELECT forget_index()")
    for (room,) in connection.execute(_WITH_FACTS).fetchall():
        counts = Counts()
        after = 0
        while rows := connection.execute(_HEADERS, (room, after, _CHUNK), binary=True).fetchall():
            batch = Batch()
            headers = [decode_header(stored) for _, stored in rows]
            for header in headers:
                derive(batch.index, room, header, counts)
            remembered = [header for header in headers if is_remembered(header.event)]
            bodies: dict[Position, bytes] = dict(
                connection.execute(
                    _BODIES, (room, Numbers([header.position for header in remembered])), binary=True
                ).fetchall()
                if remembered
                else ()
            )
            batch.noted += noted(room, remembered, bodies)
            writer.write_index(connection, batch)
            after = rows[-1][0]
    deleting.hide(connection)
    # What is looked at when a transaction commits is looked at here, where it may take its time.
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


# A room that was deleted holds the ids of its messages and keys until it is cleared, and its rows are found by these.
_WITH_FACTS: Final = """
    SELECT room FROM heads
     UNION
    SELECT t.room FROM tombstones t JOIN facts f ON f.room = t.room AND f.position = 1 ORDER BY room"""
_HEADERS: Final = "SELECT position, header FROM facts WHERE room = %s AND position > %s ORDER BY position LIMIT %s"
_BODIES: Final = "SELECT position, body FROM bodies WHERE room = %s AND position = ANY (%s)"
_LINES: Final = """
    SELECT room, position, line, header FROM (
        SELECT m.room, m.position, m.line, f.header
          FROM public_messages m JOIN facts f ON f.room = m.room AND f.position = m.position
         WHERE m.room = %(room)s AND m.position > %(after)s
         UNION ALL
        SELECT room, position, line, NULL FROM mirror_places WHERE room = %(room)s AND position > %(after)s) placed
     ORDER BY position LIMIT %(limit)s"""
WITHOUT_FACT: Final = """
    SELECT 1 FROM messages m
     WHERE NOT EXISTS (SELECT FROM facts f WHERE f.room = m.room AND f.position = m.position)
       AND NOT EXISTS (SELECT FROM tombstones t WHERE t.room = m.room) LIMIT 1"""
NOTE_DAMAGE: Final = "INSERT INTO meta VALUES ('remake_index', '') ON CONFLICT DO NOTHING"
"""Notes that the index was found damaged, so that it is made anew when the store is opened next."""
IS_NOTED: Final = "SELECT 1 FROM meta WHERE key = 'remake_index'"
FORGET_DAMAGE: Final = "DELETE FROM meta WHERE key = 'remake_index'"
_FACTS: Final = (
    (
        "Room {0} has facts, and neither a head nor a tombstone.",
        "SELECT f.room FROM facts f WHERE f.position = 1 AND NOT EXISTS (SELECT FROM heads h WHERE h.room = f.room)"
        " AND NOT EXISTS (SELECT FROM tombstones t WHERE t.room = f.room)",
    ),
    (
        "Room {0} has a head that is not its last fact.",
        "SELECT h.room FROM heads h LEFT JOIN facts f ON f.room = h.room AND f.position = h.position"
        " WHERE f.chain IS DISTINCT FROM h.chain"
        " OR EXISTS (SELECT FROM facts n WHERE n.room = h.room AND n.position > h.position)",
    ),
    (MISSING_FACTS, "SELECT room, count(*), max(position) FROM facts GROUP BY room HAVING count(*) <> max(position)"),
    (
        UNKNOWN_TYPE,
        "SELECT DISTINCT f.room, f.type, f.v FROM facts f LEFT JOIN fact_types t ON t.type = f.type AND t.v >= f.v"
        " WHERE t.type IS NULL",
    ),
    (
        STRAY_BODY,
        "SELECT b.room, b.position FROM bodies b LEFT JOIN facts f ON f.room = b.room AND f.position = b.position"
        " WHERE f.room IS NULL",
    ),
    (
        ERASED_BODY,
        "SELECT x.room, x.position FROM erased_bodies x JOIN bodies b ON b.room = x.room AND b.position = x.position",
    ),
)
_INDEX: Final = (
    (
        NO_WORDS,
        "SELECT r.room, r.position FROM remembered r"
        " LEFT JOIN bodies b ON b.room = r.room AND b.position = r.position WHERE b.room IS NULL",
    ),
    (
        MISCOUNTED_KINDS,
        "SELECT h.room, coalesce(p.n, 0), coalesce(k.n, 0) FROM heads h"
        " LEFT JOIN (SELECT room, count(*) AS n FROM public_messages GROUP BY room) p ON p.room = h.room"
        " LEFT JOIN (SELECT room, count(*) AS n FROM filtered_messages WHERE audience = '' AND addressee = ''"
        " GROUP BY room) k ON k.room = h.room"
        " WHERE coalesce(p.n, 0) <> coalesce(k.n, 0)",
    ),
    (
        MISCOUNTED_MESSAGES,
        "SELECT f.room, f.n, coalesce(m.n, 0)"
        " FROM (SELECT room, count(*) AS n FROM facts WHERE type = 'message_posted' GROUP BY room) f"
        " JOIN heads h ON h.room = f.room"
        " LEFT JOIN (SELECT room, count(*) AS n FROM messages GROUP BY room) m ON m.room = f.room"
        " WHERE f.n <> coalesce(m.n, 0)",
    ),
)
