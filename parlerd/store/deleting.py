"""A room that was deleted, taken out of the SQLite file a little at a time.

    bury    the tombstone, and the few rows by which a reader comes to the room: from then on there is no room
    clear   newest facts first, each with its body and every index row that follows from it; then the marks of readers
            and what waited to be sent; then the words of the search index are merged; the first fact goes last

So the first fact says that something is left, and whoever is killed in between goes on where the file stands. The
newest facts go first, because a log that only became shorter is still a log without gaps for every check. Rows of the
indexes are found by the facts that they were made of (`indexing.rows_made_of`), and not by a search: a step costs what
its facts cost, however large the home is.

Not here: who may delete what (`parlerd.engine.deleting`). Above: `sqlite`. Below: `indexing`, `searching`. Invariant:
nothing of a room is taken unless its tombstone stands, which the triggers of the file hold too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, Literal

from parlerd.core.model import Millis, RoomId
from parlerd.store import searching
from parlerd.store.indexing import PROJECTIONS, Projection, rows_made_of
from parlerd.store.statements import stored

Left = Literal["facts", "words", "nothing"]
"""What is left of a deleted room: facts or marks, only words in the search index that are being merged, or nothing."""
LOG: Final = 2**32
"""How many ids each log has. The id of a fact or a body is the number of its log times this, plus its position."""
DELETED: Final = "SELECT 1 FROM tombstones WHERE room = ?"
UNCLEARED: Final = """
    SELECT t.room FROM tombstones t JOIN logs l ON l.room = t.room JOIN facts f ON f.id = (l.number << 32 | 1)
     ORDER BY t.at, t.room"""


def bury(writer: sqlite3.Connection, room: RoomId, at: Millis) -> None:
    """Let there be no such room any more."""
    writer.execute("INSERT INTO tombstones (room, at) VALUES (?, ?) ON CONFLICT (room) DO NOTHING", (room, at))
    for table in _HIDDEN:
        writer.execute(f"DELETE FROM {table} WHERE room = ?", (room,))  # noqa: S608 - our own names


def hide(writer: sqlite3.Connection) -> None:
    """Let nothing lead to the rooms that are deleted and not cleared yet, after the index was made anew."""
    for table in _HIDDEN:
        writer.execute(f"DELETE FROM {table} WHERE room IN (SELECT room FROM tombstones)")  # noqa: S608 - our own names


def clear(writer: sqlite3.Connection, room: RoomId, limit: int, *, merging: bool) -> Left:
    """Take away a little of what is left of a deleted room, and say what is left then. `merging` says whether the step
    before left `words`."""
    found = writer.execute(
        "SELECT l.number FROM tombstones t JOIN logs l ON l.room = t.room WHERE t.room = ?", (room,)
    ).fetchone()
    if found is None:
        return "nothing"
    first = found[0] * LOG + 1
    facts = writer.execute(
        "SELECT id, header FROM facts WHERE id > ? AND id < ? ORDER BY id DESC LIMIT ?", (first, first - 1 + LOG, limit)
    ).fetchall()
    if facts:
        _take(writer, room, found[0], facts)
    elif not _take_marks(writer, room, limit):
        if not searching.merge(writer, begins=not merging):
            return "words"
        _take(writer, room, found[0], writer.execute("SELECT id, header FROM facts WHERE id = ?", (first,)).fetchall())
        return "nothing"
    return "facts"


def _take(writer: sqlite3.Connection, room: RoomId, number: int, facts: Iterable[tuple[int, bytes]]) -> None:
    """Take away facts, with their bodies and the rows of every index that were made of them."""
    facts = list(facts)
    rows = rows_made_of(room, [header for _, header in facts])
    ids = [(id,) for id, _ in facts]
    for projection, made in zip(PROJECTIONS, rows.tables, strict=True):
        if made:
            writer.executemany(_removal(projection), _keys(projection, stored(projection, made, {room: number})))
    searching.take_out(writer, [id for (id,) in ids])
    for table in ("bodies", "erased_bodies", "own_lines", "facts"):
        writer.executemany(f"DELETE FROM {table} WHERE id = ?", ids)  # noqa: S608 - our own names


def _removal(projection: Projection[Any]) -> str:
    columns = " AND ".join(f"{column} = ?" for column in _key_columns(projection))
    return f"DELETE FROM {projection.table} WHERE {columns}"  # noqa: S608 - our own names


def _key_columns(projection: Projection[Any]) -> list[str]:
    return ["log" if projection.by_log and column == "room" else column for column in projection.key]


def _keys(projection: Projection[Any], rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    places = [projection.columns.index(column) for column in _key_columns(projection)]
    return [tuple(row[place] for place in places) for row in rows]


def _take_marks(writer: sqlite3.Connection, room: RoomId, limit: int) -> bool:
    """Take away marks of readers and what waited to be sent, at most `limit` of each; whether there were any."""
    taken = 0
    for table, key, its in _MARKS:
        chosen = f"SELECT {key} FROM {table} WHERE {its} LIMIT ?"  # noqa: S608 - our own names
        taken += writer.execute(f"DELETE FROM {table} WHERE ({key}) IN ({chosen})", (room, limit)).rowcount  # noqa: S608
    return taken > 0


_HIDDEN: Final = ("rooms", "snapshots", "deadlines")
"""The tables by which a reader comes to a room."""
_MARKS: Final = (
    ("marks", "of, stage, upto, after", "of IN (SELECT number FROM marked WHERE room = ?)"),
    ("marked", "number", "room = ? AND NOT EXISTS (SELECT 1 FROM marks WHERE of = number)"),
    ("cursors", "room, reader", "room = ?"),
    ("outbox", "number", "room = ?"),
    ("renewals", "room, task", "room = ?"),
    ("sights", "room, position, reader", "room = ?"),
    ("epoch_secrets", "room, number, requester", "room = ?"),
    ("made_records", "room, number, record", "room = ?"),
    ("file_seals", "room, agent, digest", "room = ?"),
    ("key_exchanges", "room, share, role", "room = ?"),
    ("key_tries", "room, ref, principal", "room = ?"),
)
"""The tables of what is kept of a room beside its facts, each with its key and how the rows of a room are found."""
