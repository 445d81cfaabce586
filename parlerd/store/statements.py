"""The SQL that writes rows, made from what a projection says of its table. The writer and the upgrades use the same.

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
    # With ABORT, SQLite would keep a journal for each statement so that it can undo it. FAIL leaves that out: whoever
    # gets an error rolls the whole transaction back.
    return f"INSERT OR FAIL INTO {table} VALUES {', '.join([row] * rows)} {conflict}"  # noqa: S608 - our own names


@cache
def on_conflict(projection: Projection[Any]) -> str:
    """The end of the statement that inserts rows of an index: what becomes of a row whose key is taken."""
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
    """Rows of an index as its table holds them: a table that is `by_log` holds the number of the room's log in place of
    the room's id."""
    if not projection.by_log:
        return rows
    place = projection.columns.index("log")
    return [(*row[:place], logs[row[place]], *row[place + 1 :]) for row in rows]
