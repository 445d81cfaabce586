"""How many bytes of a PostgreSQL server's disk a message takes with its words, one that a reader was told, and a room
that nobody writes in; and what a home of 1,000,000 rooms and 100,000 daemons would take by these rows.

Messages of 100 characters and rooms are made by a daemon, and its facts are stored in a database as a relay stores
them. A reader's marks are those of a message that was told, read and acknowledged by itself, as happens where people
say something once a minute. What tables and indexes take is what the server says of them; what its write-ahead log
takes is how far that went on.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

import psycopg

from benchmarks import common
from parlerd.connections.websocket import PING_SECONDS
from parlerd.core.model import AgentId, Millis, Position, RoomId, Stage
from parlerd.operations import types as t
from parlerd.store.port import START, Append, MarkDelivery, MoveCursor, Write
from parlerd.store.postgres import PostgresStore
from parlerd.store.postgres.connections import READERS
from parlerd.store.sqlite import SqliteStore
from tests.support.postgres import serving, with_tables
from tests.tools.postgres.server import versions

CHARACTERS: Final = 100
UNDER_WAY: Final = 50
FLOORS: Final = {"message": 2_300.0, "room": 11_000.0}
"""Source: the specification of many relays, Sizes."""
READER: Final = AgentId(f"U{'A' * 55}")
STAGES: Final[tuple[Stage, ...]] = ("pushed", "read", "acknowledged")
ROOMS: Final = 1_000_000
DAEMONS: Final = 100_000
RELAYS: Final = 20
A_MINUTE: Final = 1
"""Messages of each daemon."""
READ_BY: Final = 4
"""Others in a room."""
CONNECTIONS: Final = READERS + 3
"""Of a relay: those that read, one that writes, one that says that the relay lives, one that asks for shards."""
GB: Final = 1e9
TABLES: Final = """
    SELECT relname::text, pg_total_relation_size(oid) FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 2 DESC"""
LOG: Final = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, messages=5_000, rooms=300, batch=10)
    report = common.Report("postgres_disk", given.place)
    with common.empty_home(given.place) as made:
        common.start(made)
        with common.RawConnection(made, as_name="ann") as author:
            rooms = [
                author.call("session.open", t.OpenSession(context="benchmark", topic=f"bench {number}")).room
                for number in range(given.rooms)
            ]
            say = t.Send(text="x" * CHARACTERS, room=rooms[0])
            for _ in range(0, given.messages, UNDER_WAY):
                author.send(b"".join(author.pack("message.send", say) for _ in range(UNDER_WAY)))
                for _ in range(UNDER_WAY):
                    author.hear()
        made.end(keep=True)
        with (
            closing(SqliteStore(made.home.database, backups=made.home.backups)) as source,
            serving(versions()[-1]) as running,
            running.database(with_tables) as database,
            closing(PostgresStore(database.relay)) as target,
            closing(psycopg.connect(database.superuser, autocommit=True)) as server,
        ):
            empty = _sizes(server)
            for room in rooms[1:]:
                _copy(source, target, room, given.batch)
            opened, begun = _sizes(server), _log(server)
            _copy(source, target, rooms[0], given.batch)
            written, ended = _sizes(server), _log(server)
            _mark(target, rooms[0], given.messages)
            marked, noted = _sizes(server), _log(server)
    quiet = (sum(opened.values()) - sum(empty.values())) / (given.rooms - 1)
    message = (sum(written.values()) - sum(opened.values())) / given.messages
    report.add(common.spread("bytes of a room that was opened", "bytes", [quiet], floor=FLOORS["room"]))
    report.add(
        common.spread(f"bytes a message of {CHARACTERS} characters", "bytes", [message], floor=FLOORS["message"])
    )
    report.add(
        common.spread(
            f"bytes of write-ahead log a message, {given.batch} a commit", "bytes", [(ended - begun) / given.messages]
        )
    )
    mark, mark_log = (sum(marked.values()) - sum(written.values())) / given.messages, (noted - ended) / given.messages
    report.add(common.spread("bytes a message and reader that was told, read and acknowledged it", "bytes", [mark]))
    report.add(common.spread("bytes of write-ahead log of these marks", "bytes", [mark_log]))
    report.growth.append(_home(quiet, message, (ended - begun) / given.messages, mark, mark_log))
    shares = {table: round((size - opened[table]) / given.messages) for table, size in written.items()}
    report.growth.append({"what": "bytes a message, by table", **{k: v for k, v in shares.items() if v}})
    report.print()


def _home(room: float, message: float, message_log: float, mark: float, mark_log: float) -> common.Json:
    """What a large home takes, by the bytes of one room, of one message with its log, and of a reader's marks of one
    with their log."""
    a_day = DAEMONS * A_MINUTE * 60 * 24
    return {
        "what": f"{ROOMS:,} rooms, and {DAEMONS:,} daemons at {RELAYS} relays, which each say {A_MINUTE} message a "
        f"minute to {READ_BY} others",
        "GB of quiet rooms": round(ROOMS * room / GB, 1),
        "messages a second": round(DAEMONS * A_MINUTE / 60),
        "GB of messages a day": round(a_day * message / GB),
        "GB of their write-ahead log a day": round(a_day * message_log / GB),
        "GB of marks a day": round(a_day * READ_BY * mark / GB),
        "GB of the write-ahead log of marks a day": round(a_day * READ_BY * mark_log / GB),
        "cursors a second": round(DAEMONS * A_MINUTE * READ_BY / 60),
        "links of a relay": DAEMONS // RELAYS,
        "pings a second of a relay whose links say nothing, at most": round(DAEMONS / RELAYS / PING_SECONDS),
        "connections to the database": RELAYS * CONNECTIONS,
    }


def _mark(target: PostgresStore, room: RoomId, messages: int) -> None:
    """Note of each message that one reader was told it, read it and acknowledged it, as a relay does."""
    for upto in range(1, messages + 1):
        at, after = Position(upto), Position(upto - 1)
        told: list[Write] = [MarkDelivery(room, READER, stage, at, Millis(upto), after) for stage in STAGES]
        for writes in (told[:1], [told[1], MoveCursor(room, READER, at), told[2]]):
            (outcome,) = target.transact([writes])
            if outcome.error is not None:
                raise outcome.error


def _copy(source: SqliteStore, target: PostgresStore, room: RoomId, batch: int) -> None:
    """Store the facts of a room once more, so many in a commit."""
    after = START
    while facts := source.whole_facts(room, after, batch):
        (outcome,) = target.transact([[Append(room, after, facts, own_lines=True)]])
        if outcome.error is not None:
            raise outcome.error
        after = facts[-1].header.position


def _sizes(server: psycopg.Connection[tuple[Any, ...]]) -> dict[str, int]:
    return dict(server.execute(TABLES).fetchall())


def _log(server: psycopg.Connection[tuple[Any, ...]]) -> int:
    row = server.execute(LOG).fetchone()
    assert row is not None
    return int(row[0])


if __name__ == "__main__":
    main()
