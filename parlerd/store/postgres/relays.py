"""Which relays serve a database, whose database it is, and which state it is in.

    home, log id    rows of `meta`: the key of the relay that made the database, and the name of its log
    relays          a row for each relay that runs, with the time at which it last said so, by the server's clock
    shards          who decides in the rooms of which shard, and in which term
    mark            the server, the database and how far its write-ahead log was flushed: a database that was copied or
                    brought back from a backup has another one, or an earlier one

There is no lock that outlives a transaction: a process that is stopped would keep it. Not here: when a relay beats and
what it does when it cannot (`relay.beats`), rooms (`store`). Above: `relay.database`. Below: `connections`. Invariants:
a row is taken and given up in one transaction, under a lock on the table; a relay whose row was taken is told so by its
next beat.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, LiteralString, TypeVar

import psycopg

from parlerd.core.errors import StoreError
from parlerd.store.postgres.connections import Connection, Server
from parlerd.store.relays import DEAD_AFTER_S, Mark, Numbers, Row, Seen, Tenure

T = TypeVar("T")

EPOCH: Final = "join_epoch"
CODES: Final = "codes"
WRITTEN: Final = "kinds"
"""Names in `meta` of what all relays of a database agree upon."""
_MARK: Final = """
    SELECT (SELECT system_identifier FROM pg_control_system())::text,
           (SELECT oid FROM pg_database WHERE datname = current_database())::bigint,
           (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint,
           coalesce((SELECT value FROM meta WHERE key = 'log_id'), '')
"""
_LIVING: Final = """
    SELECT relay, incarnation, address, version, inner_address, kinds FROM relays
     WHERE beat >= clock_timestamp() - make_interval(secs => %s) ORDER BY relay
"""
_WRITTEN: Final = "coalesce((SELECT value::integer FROM meta WHERE key = 'kinds'), 1)"
_TAKE: Final[LiteralString] = f"""
    WITH living AS (SELECT relay, incarnation, kinds FROM relays
                     WHERE beat >= clock_timestamp() - make_interval(secs => %s))
    UPDATE shards SET relay = %s, incarnation = %s, term = term + 1
     WHERE shard = ANY (%s::int[])
       AND NOT EXISTS (SELECT FROM living l
                        WHERE l.relay = shards.relay AND l.incarnation = shards.incarnation)
       AND EXISTS (SELECT FROM living l
                    WHERE l.relay = %s AND l.incarnation = %s AND l.kinds >= {_WRITTEN})
 RETURNING shard, relay, incarnation, term
"""  # noqa: S608 - our own names
_GIVE: Final[LiteralString] = f"""
    UPDATE shards SET relay = taker.relay, incarnation = taker.incarnation, term = shards.term + 1
      FROM (SELECT relay, incarnation FROM relays
             WHERE relay = %s AND beat >= clock_timestamp() - make_interval(secs => %s)
               AND kinds >= {_WRITTEN}) AS taker,
           unnest(%s::int[], %s::bigint[]) AS given (shard, term)
     WHERE shards.shard = given.shard AND shards.term = given.term AND shards.relay = %s AND shards.incarnation = %s
 RETURNING shards.shard, shards.relay, shards.incarnation, shards.term
"""  # noqa: S608 - our own names
_GIVE_UP: Final = """
    UPDATE shards SET relay = '', incarnation = '', term = shards.term + 1
      FROM unnest(%s::int[], %s::bigint[]) AS given (shard, term)
     WHERE shards.shard = given.shard AND shards.term = given.term AND shards.relay = %s AND shards.incarnation = %s
 RETURNING shards.shard, shards.relay, shards.incarnation, shards.term
"""
_NUMBERS: Final = """
    SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = current_user),
           (SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float8
              FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()),
           (SELECT coalesce(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables)
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

    def agree(self, name: str, value: str) -> str:
        """What all relays of this database take for `name`: the value of the one that came first."""

        def work(connection: Connection) -> str:
            connection.execute("INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO NOTHING", (name, value))
            (found,) = connection.execute("SELECT value FROM meta WHERE key = %s", (name,)).fetchone() or (value,)
            return str(found)

        return self._do(work)

    def renew(self, epoch: str) -> None:
        """Let another epoch begin, from which the secret follows that enrols people."""

        def work(connection: Connection) -> None:
            connection.execute("UPDATE meta SET value = %s WHERE key = %s", (epoch, EPOCH))

        self._do(work)

    def mark(self) -> Mark:
        """Which state the database is in."""
        return self._do(_mark)

    def join(self, row: Row) -> None:
        """Put in the row of a relay that begins, in place of what an earlier process of it left. Rows of the dead
        go."""

        def work(connection: Connection) -> None:
            connection.execute("LOCK TABLE relays IN SHARE ROW EXCLUSIVE MODE")
            connection.execute(
                "DELETE FROM relays WHERE relay = %s OR beat < clock_timestamp() - make_interval(secs => %s)",
                (row.relay, DEAD_AFTER_S),
            )
            connection.execute(
                "INSERT INTO relays (relay, incarnation, address, version, beat, inner_address, kinds)"
                " VALUES (%s, %s, %s, %s, clock_timestamp(), %s, %s)",
                (row.relay, row.incarnation, row.address, row.version, row.inner, row.kinds),
            )

        self._do(work)

    def beat(self, row: Row) -> tuple[bool, Mark]:
        """Say that a relay lives. Gives whether its row was still there, and which state the database is in."""

        def work(connection: Connection) -> tuple[bool, Mark]:
            beaten = connection.execute(
                "UPDATE relays SET beat = clock_timestamp(), address = %s, inner_address = %s"
                " WHERE relay = %s AND incarnation = %s",
                (row.address, row.inner, row.relay, row.incarnation),
            )
            return beaten.rowcount == 1, _mark(connection)

        return self._do(work)

    def numbers(self) -> Numbers:
        """How the database is."""

        def work(connection: Connection) -> Numbers:
            connections, oldest_s, dead = connection.execute(_NUMBERS).fetchone() or (0, 0.0, 0)
            return Numbers(int(connections), float(oldest_s), int(dead))

        return self._do(work)

    def leave(self, row: Row) -> None:
        """Take the row of a relay that ends away, so that another need not wait."""

        def work(connection: Connection) -> None:
            connection.execute("DELETE FROM relays WHERE relay = %s AND incarnation = %s", (row.relay, row.incarnation))

        self._do(work)

    # -- who has which shard -----------------------------------------------------------------------------------

    def look(self) -> Seen:
        """Which relays live, and who has each shard, once what changes hands now has."""

        def work(connection: Connection) -> Seen:
            # Whoever takes shards may have concluded that the asking relay is dead, and not be done yet.
            connection.execute("LOCK TABLE shards IN SHARE MODE")
            living = connection.execute(_LIVING, (DEAD_AFTER_S,)).fetchall()
            shards = connection.execute("SELECT shard, relay, incarnation, term FROM shards ORDER BY shard").fetchall()
            (epoch,) = connection.execute("SELECT value FROM meta WHERE key = %s", (EPOCH,)).fetchone() or ("",)
            (written,) = connection.execute(f"SELECT {_WRITTEN}").fetchone() or (1,)
            return Seen([Row(*each) for each in living], [Tenure(*each) for each in shards], str(epoch), int(written))

        return self._do(work)

    def take(self, row: Row, shards: Collection[int]) -> list[Tenure]:
        """Let a relay have those of these shards that nobody has, or a relay that is dead or gone."""
        return self._change(_TAKE, DEAD_AFTER_S, row.relay, row.incarnation, sorted(shards), row.relay, row.incarnation)

    def give(self, row: Row, shards: Mapping[int, int], to: str) -> list[Tenure]:
        """Hand shards, each with the term in which a relay has it, to the relay `to`, or to nobody where that is empty.
        Gives those that were handed over."""
        numbers, terms = list(shards), list(shards.values())
        mine = (numbers, terms, row.relay, row.incarnation)
        return self._change(_GIVE, to, DEAD_AFTER_S, *mine) if to else self._change(_GIVE_UP, *mine)

    def begin(self, kinds: int) -> bool:
        """Let facts of the kinds up to this number be written from now on, if every relay that lives knows them."""

        def work(connection: Connection) -> bool:
            # Nobody joins or takes a shard until this is decided: who comes later sees what was written.
            connection.execute("LOCK TABLE relays, shards IN SHARE ROW EXCLUSIVE MODE")
            living = [Row(*each) for each in connection.execute(_LIVING, (DEAD_AFTER_S,)).fetchall()]
            if any(each.kinds < kinds for each in living):
                return False
            connection.execute(
                "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE"
                " SET value = greatest(meta.value::integer, excluded.value::integer)::text",
                (WRITTEN, str(kinds)),
            )
            return True

        return self._do(work)

    def step_back(self, row: Row) -> None:
        """Say nothing any more of where a relay listens for the others."""
        self.beat(Row(row.relay, row.incarnation, row.address, row.version))

    def _change(self, sql: LiteralString, *values: object) -> list[Tenure]:
        def work(connection: Connection) -> list[Tenure]:
            # Of two at once the second begins when the first is done. A statement that waits for rows looks again at
            # these alone, and not at what it concluded from them. Whoever reads the table, as each append does, does
            # not wait.
            connection.execute("LOCK TABLE shards IN SHARE ROW EXCLUSIVE MODE")
            # Rows come back in whatever order they lie in.
            changed = [Tenure(*each) for each in connection.execute(sql, values).fetchall()]
            return sorted(changed, key=lambda tenure: tenure.shard)

        return self._do(work)

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
