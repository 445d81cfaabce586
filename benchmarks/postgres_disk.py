"""How many bytes of a PostgreSQL server's disk a message takes with its words, and a room that nobody writes in.

Messages of 100 characters and rooms are made by a daemon, and its facts are stored in a database as a relay stores
them. What tables and indexes take is what the server says of them; what its write-ahead log takes is how far that went
on.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, Final

import psycopg

from benchmarks import common
from parlerd.core.model import RoomId
from parlerd.operations import types as t
from parlerd.store.port import START, Append
from parlerd.store.postgres import PostgresStore
from parlerd.store.sqlite import SqliteStore
from tests.support.postgres import serving, with_tables
from tests.tools.postgres.server import versions

CHARACTERS: Final = 100
UNDER_WAY: Final = 50
FLOORS: Final = {"message": 2_300.0, "room": 11_000.0}
"""Source: the specification of many relays, Sizes."""
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
    shares = {table: round((size - opened[table]) / given.messages) for table, size in written.items()}
    report.growth.append({"what": "bytes a message, by table", **{k: v for k, v in shares.items() if v}})
    report.print()


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
