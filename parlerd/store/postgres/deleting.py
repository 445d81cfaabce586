"""Words that are erased, and a room that was deleted, taken out of the database a little at a time.

    erase   the bodies of messages, each with a mark that this was meant
    shut    the tombstone of a room that was never opened
    bury    the tombstone; the head goes, so there is no log for any reader, and with it what else leads to the room
    clear   newest facts first, each with its body and every index row that follows from it; then the marks of readers
            and what waited to be sent; the first fact goes last, so it says that something is left

What is taken from the record is taken by functions of the database (`schema/invariants.sql`), because a relay's role
may not do so itself. Rows of the indexes are found by the facts that they were made of, so a step costs what its facts
cost.

Not here: who may delete what (`parlerd.engine.deleting`). Above: `writing`. Below: `tables`, `agents`, `searching`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from parlerd.core.model import Millis, Position, RoomId
from parlerd.store.indexing import PROJECTIONS, rows_made_of
from parlerd.store.postgres import searching
from parlerd.store.postgres.agents import Agents
from parlerd.store.postgres.connections import Connection
from parlerd.store.postgres.tables import PLACES, arrays, of_index, removal


def erase(connection: Connection, erased: Sequence[tuple[RoomId, Position]]) -> None:
    """Take away the bodies of the messages among these facts."""
    if erased:
        searching.drop(connection, erased)
        connection.execute("SELECT erase_bodies(%s, %s)", arrays(PLACES, sorted(set(erased)), {}))


def bury(connection: Connection, room: RoomId, at: Millis) -> None:
    """Let there be no such room any more."""
    connection.execute("SELECT bury_room(%s, %s)", (room, at))
    for table in _HIDDEN:
        connection.execute(f"DELETE FROM {table} WHERE room = %s", (room,))  # noqa: S608 - our own names


def shut(connection: Connection, room: RoomId, at: Millis) -> None:
    """Let a room that nobody opened be one that nobody can open."""
    connection.execute("SELECT shut_room(%s, %s)", (room, at))


def hide(connection: Connection) -> None:
    """Let nothing lead to the rooms that are deleted and not cleared yet, after the index was made anew."""
    for table in _HIDDEN:
        connection.execute(f"DELETE FROM {table} WHERE room IN (SELECT room FROM tombstones)")  # noqa: S608 - our own names


def clear(connection: Connection, room: RoomId, limit: int, agents: Agents) -> None:
    """Take away a little of what is left of a deleted room."""
    if connection.execute("SELECT 1 FROM tombstones WHERE room = %s", (room,)).fetchone() is None:
        return
    facts = connection.execute(_NEWEST, (room, limit), binary=True).fetchall()
    if not facts and not _take_marks(connection, room, limit):
        facts = connection.execute(_FIRST, (room,), binary=True).fetchall()
    if facts:
        _take(connection, room, [(Position(position), header) for position, header in facts], agents)


def _take(connection: Connection, room: RoomId, facts: Sequence[tuple[Position, bytes]], agents: Agents) -> None:
    """Take away the newest facts, with their bodies and the rows of every index that were made of them."""
    rows = rows_made_of(room, [header for _, header in facts])
    for projection, made in zip(PROJECTIONS, rows.tables, strict=True):
        if made:
            table = of_index(projection).of_key()
            keys = list({projection.key_of(row): None for row in made})
            numbers = agents.numbers(connection, table.ids(keys))
            connection.execute(removal(table), arrays(table, keys, numbers))
    searching.drop(connection, [(room, position) for position, _ in facts])
    connection.execute("SELECT clear_facts(%s, %s)", (room, min(position for position, _ in facts)))


def _take_marks(connection: Connection, room: RoomId, limit: int) -> bool:
    """Take away marks of readers and what waited to be sent, at most `limit` of each; whether there were any."""
    row = connection.execute("SELECT clear_marks(%s, %s)", (room, limit)).fetchone()
    taken = int(row[0]) if row is not None else 0
    for statement in (_TAKE_OUTBOX, _TAKE_RENEWALS, _TAKE_SIGHTS):
        taken += connection.execute(statement, (room, limit)).rowcount
    return taken > 0


_HIDDEN: Final = ("rooms", "snapshots", "deadlines")
"""The tables by which a reader comes to a room."""
_NEWEST: Final = """
    SELECT position, header FROM facts WHERE room = %s AND position > 1 ORDER BY position DESC LIMIT %s"""
_FIRST: Final = "SELECT position, header FROM facts WHERE room = %s AND position = 1"
_TAKE_OUTBOX: Final = """
    DELETE FROM outbox WHERE number = ANY (ARRAY (SELECT number FROM outbox WHERE room = %s LIMIT %s))"""
_TAKE_RENEWALS: Final = """
    DELETE FROM renewals WHERE ctid = ANY (ARRAY (SELECT ctid FROM renewals WHERE room = %s LIMIT %s))"""
_TAKE_SIGHTS: Final = """
    DELETE FROM sights WHERE ctid = ANY (ARRAY (SELECT ctid FROM sights WHERE room = %s LIMIT %s))"""
UNCLEARED: Final = """
    SELECT t.room FROM tombstones t JOIN facts f ON f.room = t.room AND f.position = 1 ORDER BY t.at, t.room"""
