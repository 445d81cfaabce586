"""Every row of a store carried over to a store of the other kind, as it stands: every digest, chain and line stays.

    a file        ->  a database    by the owner of its tables, whose rules are off until all is there
    a database    ->  a file        into a new one, whose rules are made again once all is there

The record is copied and what is kept beside it; what is derived from facts, and caches, are made anew where they came
to. Then every fact is looked at there. Rows of rooms that were deleted stay behind, but for the mark that they were.
Not here: which of the two is used from then on (`relay.moving`). Below: both stores' tables. Invariants: nothing of the
store that is copied changes; of the other all is there, or nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psycopg

from parlerd.core.errors import StoreError
from parlerd.core.model import AgentId, Position, RoomId
from parlerd.core.shards import shard_of
from parlerd.store.port import Store
from parlerd.store.postgres.agents import Agents
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.postgres.tables import (
    BODIES,
    CURSORS,
    DELIVERIES,
    FACTS,
    HEADS,
    OWN_LINES,
    SIGHTS,
    Table,
    arrays,
    insertion,
)

Row = tuple[Any, ...]
Note = Callable[[str, int], None]
"""Hears how many rows of which table are copied now."""

CHUNK: Final = 500
"""Rows in one statement."""
TOMBSTONES: Final = Table("tombstones", ("room", "at"), ("text", "bigint"))
ERASED: Final = Table("erased_bodies", ("room", "position"), ("text", "bigint"))
LEASES: Final = Table(
    "leases",
    ('"window"', "agent", "host", "workspace", "slot", "taken_at"),
    ("text", "text", "text", "text", "bigint", "bigint"),
)
OUTBOX: Final = Table(
    "outbox",
    ("message", "home", "room", "agent", "key", "at", "request", "refused"),
    ("text", "text", "text", "text", "text", "bigint", "bytea", "text"),
)
RENEWALS: Final = Table("renewals", ("room", "task", "fence", "until"), ("text", "text", "bigint", "bigint"))
COPIED: Final = (TOMBSTONES, FACTS, BODIES, ERASED, OWN_LINES, CURSORS, DELIVERIES, LEASES, OUTBOX, RENEWALS, SIGHTS)
"""What is copied, in this order."""
_NUMBERED: Final = (FACTS, BODIES, ERASED, OWN_LINES)
"""What a file keeps by the number of a log and the position in one id."""
_ORDER: Final = {"outbox": "number", "leases": "taken_at", "deliveries": "room, reader, stage, upto, after DESC, at"}
"""A mark that another one covers comes before that one, because behind it the mark would say nothing new."""


def heads_of(store: Store) -> dict[RoomId, tuple[Position, bytes]]:
    """Where each log ends: its position, and the chain digest there."""
    found = {room: store.head(room) for room in store.rooms()}
    return {room: (head.position, head.chain) for room, head in found.items()}


def check(store: Store, heads: dict[RoomId, tuple[Position, bytes]], note: Note) -> None:
    """Raise `StoreError(store_corrupt)` unless a store holds exactly these logs, and each of its facts is what its
    digest says, in its room's chain and in its actor's line."""
    if heads_of(store) != heads:
        raise StoreError("store_corrupt", "The copy does not hold the logs that were copied.")
    for number, room in enumerate(sorted(heads), 1):
        if store.verify_chain(room) is not None or store.first_unlined(room) is not None:
            raise StoreError("store_corrupt", "A log of the copy is not what was copied.", room=room)
        note("checked", number)
    if problems := store.check():
        raise StoreError("store_corrupt", f"The copy is not whole: {problems[0]}")


def heads_in_database(url: str) -> dict[RoomId, tuple[Position, bytes]]:
    """The same of the database at `url`, whatever its indexes say. Raises `StoreError`."""
    server = Server(url)
    try:
        rows = server.rows("SELECT room, position, chain FROM heads")
    finally:
        server.close()
    return {RoomId(room): (Position(position), bytes(chain)) for room, position, chain in rows}


# -- a file into a database --------------------------------------------------------------------------------


def into_database(file: Path, owner: str, meta: dict[str, str], note: Note) -> None:
    """Copy the rows of a store in `file`, which nobody uses now, into the empty tables of the database whose owner's
    URL is `owner`; with these rows of `meta`. Raises `StoreError`."""
    server = Server(owner)
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as source:
            connection = server.writer
            with connection.transaction(), connection.unhurried():
                connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                _copy_into_database(source, connection, Agents(server), note)
                connection.cursor().executemany(
                    "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                    list(meta.items()),
                )
    except psycopg.Error as error:
        raise server.meaning(error) from None
    except sqlite3.Error as error:
        raise _unreadable(file) from error
    finally:
        server.close()


def _copy_into_database(source: sqlite3.Connection, connection: Connection, agents: Agents, note: Note) -> None:
    tables = [*COPIED, HEADS]
    connection.execute("LOCK TABLE heads IN EXCLUSIVE MODE")
    if connection.execute("SELECT FROM heads LIMIT 1").fetchone() is not None:
        raise StoreError(
            "invalid_settings", "The database holds rooms already.", hint="Name an empty one: CREATE DATABASE ..."
        )
    for table in tables:
        connection.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
    for table in COPIED:
        _insert(connection, table, _rows_of_file(source, table), agents, note)
    _insert(connection, HEADS, _heads_of_file(source), agents, note)
    for table in tables:
        connection.execute(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")


def _insert(connection: Connection, table: Table, rows: Iterator[Row], agents: Agents, note: Note) -> None:
    done = 0
    for chunk in _chunks(rows):
        numbers = agents.numbers(connection, table.ids(chunk))
        connection.execute(insertion(table), arrays(table, chunk, numbers))
        note(table.name, done := done + len(chunk))


def _rows_of_file(source: sqlite3.Connection, table: Table) -> Iterator[Row]:
    """The rows of a table in a file, with the columns that the database has."""
    if table in _NUMBERED:
        position = "t.id & 4294967295"
        columns = ", ".join({"room": "l.room", "position": position}.get(each, f"t.{each}") for each in table.columns)
        # A room that was deleted may have rows left that nobody reads.
        living = "NOT EXISTS (SELECT 1 FROM tombstones d WHERE d.room = l.room)"
        query = (
            f"SELECT {columns} FROM {table.name} t JOIN logs l ON l.number = t.id >> 32 WHERE {living} ORDER BY t.id"  # noqa: S608 - our own names
        )
    else:
        order = _ORDER.get(table.name, "1")
        query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {order}"  # noqa: S608 - our own names
    yield from source.execute(query)


def _heads_of_file(source: sqlite3.Connection) -> Iterator[Row]:
    rows = source.execute(
        "SELECT l.room, f.id & 4294967295, f.at, f.chain FROM facts f JOIN logs l ON l.number = f.id >> 32"
        " WHERE f.id = (SELECT max(n.id) FROM facts n WHERE n.id >> 32 = l.number)"
        "   AND NOT EXISTS (SELECT 1 FROM tombstones d WHERE d.room = l.room) ORDER BY l.room"
    )
    for room, position, at, chain in rows:
        yield room, shard_of(room), position, at, chain


# -- a database into a file --------------------------------------------------------------------------------


def into_file(url: str, file: Path, note: Note) -> None:
    """Copy the rows of the database at `url`, in one state of it, into a store in `file` that was just made and that
    nobody uses. Raises `StoreError`."""
    server = Server(url)
    try:
        with closing(sqlite3.connect(file, isolation_level=None)) as target:
            connection = server.writer
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                with connection.unhurried():
                    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                    _copy_into_file(connection, target, note)
    except psycopg.Error as error:
        raise server.meaning(error) from None
    except sqlite3.Error as error:
        raise _unreadable(file) from error
    finally:
        server.close()


def _copy_into_file(connection: Connection, target: sqlite3.Connection, note: Note) -> None:
    target.execute("BEGIN IMMEDIATE")
    # Those of a view are what it is made of.
    rules = target.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        " AND tbl_name NOT IN (SELECT name FROM sqlite_master WHERE type = 'view')"
    ).fetchall()
    for name, _ in rules:
        target.execute(f'DROP TRIGGER "{name}"')
    agents = dict(connection.execute("SELECT number, id FROM agents")) | {0: ""}
    logs = {
        room: number
        for number, (room,) in enumerate(connection.execute('SELECT room FROM heads ORDER BY room COLLATE "C"'), 1)
    }
    target.executemany("INSERT INTO logs (number, room) VALUES (?, ?)", [(n, room) for room, n in logs.items()])
    for table in COPIED:
        _store(target, table, _rows_of_database(connection, table, agents), logs, note)
    for _, rule in rules:
        target.execute(rule)
    target.execute("COMMIT")


def _store(target: sqlite3.Connection, table: Table, rows: Iterator[Row], logs: dict[RoomId, int], note: Note) -> None:
    columns = table.columns
    if table in _NUMBERED:
        columns = ("id", *columns[2:])
        rows = ((logs[room] << 32 | position, *rest) for room, position, *rest in rows if room in logs)
    places = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - our own names
    done = 0
    for chunk in _chunks(rows):
        target.executemany(statement, chunk)
        note(table.name, done := done + len(chunk))


def _rows_of_database(connection: Connection, table: Table, agents: dict[int, AgentId]) -> Iterator[Row]:
    order = "room, position" if table in _NUMBERED else _ORDER.get(table.name, "1")
    query = f"SELECT {', '.join(table.columns)} FROM {table.name} ORDER BY {order}"  # noqa: S608 - our own names
    named = [place for place, kind in enumerate(table.kinds) if kind == "agent"]
    with connection.cursor(name="moving", binary=True) as cursor:
        cursor.itersize = CHUNK
        for row in cursor.execute(query.encode()):
            yield tuple(agents[each] if place in named else each for place, each in enumerate(row))


def _unreadable(file: Path) -> StoreError:
    return StoreError(
        "store_failed", f"{file} cannot be copied.", hint="See whether the disk has space, and try again."
    )


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    every = iter(rows)
    while chunk := list(islice(every, CHUNK)):
        yield chunk
