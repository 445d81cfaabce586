"""Which relays serve a database, whose database it is, and which state it is in.

    home, log id    rows of `meta`: the key of the relay that made the database, and the name of its log
    relays          a row for each relay that runs, with the time at which it last said so, by the server's clock
    mark            the server, the database and how far its write-ahead log was flushed: a database that was copied or
                    brought back from a backup has another one, or an earlier one

There is no lock that outlives a transaction: a process that is stopped would keep it. Not here: when a relay beats and
what it does when it cannot (`relay.beats`), rooms (`store`). Above: `relay.database`. Below: `connections`. Invariants:
a row is taken and given up in one transaction, under a lock on the table; a relay whose row was taken is told so by its
next beat.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import psycopg

from parlerd.core.errors import StoreError
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.relays import Mark, Row

T = TypeVar("T")

DEAD_AFTER_S: Final = 10
"""After so long without a beat a relay is dead to the others. Source: spec, one owner a room."""

_MARK: Final = """
    SELECT (SELECT system_identifier FROM pg_control_system())::text,
           (SELECT oid FROM pg_database WHERE datname = current_database())::bigint,
           (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint,
           coalesce((SELECT value FROM meta WHERE key = 'log_id'), '')
"""


class Relays:
    """The relays of the database at `url`, whose tables are there. It has one connection of its own, so that a beat
    waits for nothing else. One thread at a time may use it. Every method raises `StoreError`."""

    def __init__(self, url: str) -> None:
        self._server = Server(url)

    def claim(self, home: str, log_id: str) -> None:
        """Make a new database the one of the relay whose key is `home`, with this name of its log. One that is that
        relay's already stays as it is. Raises `StoreError(store_of_another_relay)`."""

        def work(connection: Connection) -> str:
            connection.cursor().executemany(
                "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO NOTHING",
                [("home", home), ("log_id", log_id)],
            )
            (found,) = connection.execute("SELECT value FROM meta WHERE key = 'home'").fetchone() or ("",)
            return str(found)

        if self._do(work) != home:
            raise StoreError("store_of_another_relay", database=self._server.name)

    def mark(self) -> Mark:
        """Which state the database is in."""
        return self._do(_mark)

    def join(self, row: Row) -> None:
        """Put in the row of a relay that begins, in place of what an earlier process of it left. Rows of the dead go.
        Raises `StoreError(store_in_use)` while another relay lives."""

        def work(connection: Connection) -> tuple[str, str] | None:
            connection.execute("LOCK TABLE relays IN SHARE ROW EXCLUSIVE MODE")
            connection.execute(
                "DELETE FROM relays WHERE relay = %s OR beat < clock_timestamp() - make_interval(secs => %s)",
                (row.relay, DEAD_AFTER_S),
            )
            living = connection.execute("SELECT address, version FROM relays ORDER BY relay LIMIT 1").fetchone()
            if living is None:
                connection.execute(
                    "INSERT INTO relays VALUES (%s, %s, %s, %s, clock_timestamp())",
                    (row.relay, row.incarnation, row.address, row.version),
                )
            return living

        living = self._do(work)
        if living is not None:
            address, version = living
            raise StoreError(
                "store_in_use",
                f"Another relay serves this database now{f': {address}' if address else ''}.",
                retry_after_ms=DEAD_AFTER_S * 1000,
                address=address,
                version=version,
            )

    def beat(self, row: Row) -> tuple[bool, Mark]:
        """Say that a relay lives. Gives whether its row was still there, and which state the database is in."""

        def work(connection: Connection) -> tuple[bool, Mark]:
            beaten = connection.execute(
                "UPDATE relays SET beat = clock_timestamp(), address = %s WHERE relay = %s AND incarnation = %s",
                (row.address, row.relay, row.incarnation),
            )
            return beaten.rowcount == 1, _mark(connection)

        return self._do(work)

    def leave(self, row: Row) -> None:
        """Take the row of a relay that ends away, so that another need not wait."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM relays WHERE relay = %s AND incarnation = %s", (row.relay, row.incarnation))

        self._do(work)

    def close(self) -> None:
        self._server.close()

    def _do(self, work: Callable[[Connection], T]) -> T:
        """`work` in a transaction of its own."""
        connection = self._server.writer
        try:
            with connection.transaction():
                return work(connection)
        except psycopg.Error as error:
            raise self._server.meaning(error) from None


def _mark(connection: Connection) -> Mark:
    system, database, position, log = connection.execute(_MARK).fetchone() or ("", 0, 0, "")
    return Mark(str(system), int(database), str(log), int(position))
