"""The SQL that writes rows: made from what a projection says of its table, for the writer and for upgrades alike.

Not here: queries, which each store writes for itself. Above: `sqlite`, `upgrade`. Below: `indexing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from parlerd.core.model import RoomId
from parlerd.store.indexing import Projection


@cache
def insertion(table: str, width: int, rows: int, conflict: str) -> str:
    """The statement that inserts this many rows of this many columns."""
    row = f"({', '.join('?' * width)})"
    # FAIL and not ABORT: whoever gets an error rolls back, and SQLite keeps no journal of its own for the statement.
    return f"INSERT OR FAIL INTO {table} VALUES {', '.join([row] * rows)} {conflict}"  # noqa: S608 - our own names


@cache
def on_conflict(projection: Projection[Any]) -> str:
    """What the statement that inserts rows of an index says of a key that is there."""
    if projection.on_conflict == "refuse":
        return ""
    if projection.on_conflict == "keep":
        return "ON CONFLICT DO NOTHING"
    others = [column for column in projection.columns if column not in projection.key]
    changes = ", ".join(f"{column} = excluded.{column}" for column in others)
    return f"ON CONFLICT ({', '.join(projection.key)}) DO UPDATE SET {changes}"


def stored(
    projection: Projection[Any], rows: Sequence[tuple[Any, ...]], logs: Mapping[RoomId, int]
) -> Sequence[tuple[Any, ...]]:
    """Rows of an index as its table has them: where the table goes by the number of a room's log, with that."""
    if not projection.by_log:
        return rows
    place = projection.columns.index("log")
    return [(*row[:place], logs[row[place]], *row[place + 1 :]) for row in rows]
