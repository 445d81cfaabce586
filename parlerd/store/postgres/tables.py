"""The tables that a batch writes: their columns, and the statement that writes many rows of one at once.

A statement takes one array for each column, so it has the same text for any number of rows. The arrays are packed here
and not by the driver, which takes several times as long for them (measured). Not here: which rows (`writing`). Below:
`indexing`, for what its tables are; `agents`, for the numbers of agents.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Final, Literal, NamedTuple, get_type_hints

import psycopg
from psycopg import pq
from psycopg.adapt import Dumper
from psycopg.types.numeric import Int8BinaryDumper

from parlerd.core.model import AgentId
from parlerd.store.indexing import Projection
from parlerd.store.statements import on_conflict

Kind = Literal["text", "bigint", "bytea", "agent"]
"""What a column holds. The id of an agent is written as its number."""
_SQL_TYPES: Final[Mapping[Kind, str]] = {"text": "text", "bigint": "bigint", "bytea": "bytea", "agent": "bigint"}
_OIDS: Final = {"text": (25, 1009), "bigint": (20, 1016), "bytea": (17, 1001)}
"""The types of elements and of arrays. Source: PostgreSQL, pg_type.dat."""


class Table(NamedTuple):
    """A table, its columns in the order of the rows, and what each holds."""

    name: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    key: tuple[str, ...] = ()
    conflict: str = ""
    """The end of the statement: which of the `new` rows are left out, and what becomes of one whose key is taken."""

    def ids(self, rows: Iterable[tuple[Any, ...]]) -> set[AgentId]:
        """The agents in some rows."""
        places = [place for place, kind in enumerate(self.kinds) if kind == "agent"]
        return {row[place] for row in rows for place in places} if places else set()

    def of_key(self) -> Table:
        """The columns of the key alone."""
        places = [self.columns.index(column) for column in self.key]
        return Table(self.name, self.key, tuple(self.kinds[place] for place in places), self.key)


def _table(name: str, conflict: str = "", /, **columns: Kind) -> Table:
    return Table(name, tuple(columns), tuple(columns.values()), conflict=conflict)


HEADS: Final = _table("heads", room="text", shard="bigint", position="bigint", at="bigint", chain="bytea")
FACTS: Final = _table(
    "facts",
    room="text",
    position="bigint",
    type="text",
    v="bigint",
    at="bigint",
    header="bytea",
    salt="bytea",
    digest="bytea",
    chain="bytea",
)
BODIES: Final = _table("bodies", room="text", position="bigint", body="bytea", signature="bytea")
OWN_LINES: Final = _table(
    "own_lines",
    room="text",
    position="bigint",
    thread="bytea",
    number="bigint",
    line="bytea",
    token="text",  # noqa: S106 - no secret
    agent="agent",
    wall="bigint",
)
# A cursor only goes on. A row that would stay the same is not written.
CURSORS: Final = _table(
    "cursors",
    "ON CONFLICT (room, reader) DO UPDATE SET delivered = greatest(cursors.delivered, excluded.delivered),"
    " acknowledged = greatest(cursors.acknowledged, excluded.acknowledged)"
    " WHERE excluded.delivered > cursors.delivered OR excluded.acknowledged > cursors.acknowledged",
    room="text",
    reader="agent",
    delivered="bigint",
    acknowledged="bigint",
)
# A mark that is covered whole by a stored one says nothing new; the first time stands.
DELIVERIES: Final = _table(
    "deliveries",
    "WHERE NOT EXISTS (SELECT FROM deliveries d WHERE d.room = new.room AND d.reader = new.reader"
    " AND d.stage = new.stage AND d.upto >= new.upto AND d.after <= new.after) ON CONFLICT DO NOTHING",
    room="text",
    reader="agent",
    stage="text",
    upto="bigint",
    after="bigint",
    at="bigint",
)
# What is proven stays.
SIGHTS: Final = _table(
    "sights",
    "ON CONFLICT (room, position, reader) DO UPDATE SET verdict = excluded.verdict, reason = excluded.reason,"
    " host = excluded.host, at = excluded.at, again = excluded.again, evidence = excluded.evidence"
    " WHERE sights.verdict NOT IN ('shown', 'quoted')",
    room="text",
    reader="agent",
    position="bigint",
    verdict="text",
    reason="text",
    host="text",
    at="bigint",
    again="bigint",
    evidence="text",
)
SNAPSHOTS: Final = _table(
    "snapshots",
    "ON CONFLICT (room) DO UPDATE SET fold_version = excluded.fold_version, position = excluded.position,"
    " data = excluded.data, digest = excluded.digest",
    room="text",
    fold_version="bigint",
    position="bigint",
    data="bytea",
    digest="bytea",
)
PLACES: Final = _table("places", room="text", position="bigint")
"""No table of its own: places of facts, for statements that take some."""


@cache
def of_index(projection: Projection[Any]) -> Table:
    """The table of an index. A column that holds the id of an agent, by its type, holds its number here."""
    hints = get_type_hints(projection.row)
    kinds = tuple(_kind(hint) for hint in hints.values())
    return Table(projection.table, tuple(hints), kinds, projection.key, on_conflict(projection))


def _kind(hint: Any) -> Kind:
    if hint is AgentId:
        return "agent"
    plain = getattr(hint, "__supertype__", hint)
    return "text" if plain is str else "bigint" if plain is int else "bytea"


@cache
def insertion(table: Table) -> str:
    """The statement that inserts rows."""
    columns = ", ".join(table.columns)
    return f"INSERT INTO {table.name} ({columns}) SELECT * FROM {unnested(table, 'new')} {table.conflict}"  # noqa: S608 - our own names


@cache
def removal(table: Table) -> str:
    """The statement that removes the rows with these keys."""
    same = " AND ".join(f"old.{column} = gone.{column}" for column in table.columns)
    return f"DELETE FROM {table.name} old USING {unnested(table, 'gone')} WHERE {same}"  # noqa: S608 - our own names


@cache
def unnested(table: Table, name: str) -> str:
    """The rows that a statement is given, as a table with this name."""
    arrays = ", ".join(f"%s::{_SQL_TYPES[kind]}[]" for kind in table.kinds)
    return f"unnest({arrays}) AS {name} ({', '.join(table.columns)})"


def arrays(table: Table, rows: Sequence[tuple[Any, ...]], numbers: Mapping[AgentId, int]) -> list[Array]:
    """Rows as a statement takes them. `numbers` has the number of each agent in them, and none for the empty id."""
    return [
        Numbers([numbers[id] if id else 0 for id in values]) if kind == "agent" else _ARRAYS[kind](values)
        for kind, values in zip(table.kinds, zip(*rows, strict=True), strict=True)
    ]


class Array:
    """The values of a column, of one kind."""

    __slots__ = ("values",)

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = values


class Texts(Array):
    __slots__ = ()


class Numbers(Array):
    __slots__ = ()


class Blobs(Array):
    """Bytes, or None."""

    __slots__ = ()


_ARRAYS: Final[Mapping[str, type[Array]]] = {"text": Texts, "bigint": Numbers, "bytea": Blobs}
_HEAD: Final = struct.Struct("!5i")
_SIZE: Final = struct.Struct("!i")
_NULL: Final = _SIZE.pack(-1)


def _head(kind: str, length: int, *, has_null: bool = False) -> bytes:
    """The beginning of an array of one dimension. Source: PostgreSQL, `array_recv`."""
    return _HEAD.pack(1, has_null, _OIDS[kind][0], length, 1)


class _TextsDumper(Dumper):
    format = pq.Format.BINARY
    oid = _OIDS["text"][1]

    def dump(self, obj: Texts) -> bytes:
        pack = _SIZE.pack
        parts = [_head("text", len(obj.values))]
        for value in obj.values:
            encoded = value.encode()
            parts += (pack(len(encoded)), encoded)
        return b"".join(parts)


class _NumbersDumper(Dumper):
    format = pq.Format.BINARY
    oid = _OIDS["bigint"][1]

    def dump(self, obj: Numbers) -> bytes:
        values = obj.values
        sized = chain.from_iterable((8, value) for value in values)
        return _head("bigint", len(values)) + struct.pack("!" + "iq" * len(values), *sized)


class _BlobsDumper(Dumper):
    format = pq.Format.BINARY
    oid = _OIDS["bytea"][1]

    def dump(self, obj: Blobs) -> bytes:
        pack = _SIZE.pack
        parts = [_head("bytea", len(obj.values), has_null=None in obj.values)]
        for value in obj.values:
            parts += (_NULL,) if value is None else (pack(len(value)), value)
        return b"".join(parts)


def teach(connection: psycopg.Connection[Any]) -> None:
    """Let a connection take arrays, and integers that always have one type, so that a statement has one plan."""
    connection.adapters.register_dumper(int, Int8BinaryDumper)
    for kind, dumper in ((Texts, _TextsDumper), (Numbers, _NumbersDumper), (Blobs, _BlobsDumper)):
        connection.adapters.register_dumper(kind, dumper)
