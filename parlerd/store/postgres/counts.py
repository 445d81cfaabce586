"""What the relays of a database count together: `store.counts` over one connection.

    newest_links   a number for each daemon, raised by each of its links
    budgets        what is left of each, at a moment of the server's clock
    kept           the bytes of each person; how often everything was counted stands in `meta`

Not here: which budgets there are, and who asks. Above: `relay.database`. Below: `connections`. Invariants: the rows of
a transaction are locked in the order of their names, so no two wait for each other; time is the server's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar

import psycopg

from parlerd.core.model import PrincipalId
from parlerd.store.counts import FORGOTTEN_AFTER_S, Ask, Drawn, KeptBytes, drawn_of
from parlerd.store.postgres.connections import Connection, Server

T = TypeVar("T")

COUNTING: Final = "kept_counts"
"""The name in `meta` of how often everything was counted that people keep."""
LATE_S: Final = 15
"""So long before its mark a change may have been made that was not to be seen then: a transaction takes no longer."""
_CLAIM: Final = """
    INSERT INTO newest_links (principal, number) VALUES (%s, 1)
        ON CONFLICT (principal) DO UPDATE SET number = newest_links.number + 1
 RETURNING number
"""
_NEWEST: Final = "SELECT principal, number FROM newest_links WHERE principal = ANY (%s)"
# Locks the rows, in the order in which they are given, with what came back since.
_LEFT: Final = """
    INSERT INTO budgets AS b (name, amount, at)
    SELECT name, burst, clock_timestamp()
      FROM unnest(%s::text[], %s::float8[], %s::float8[]) WITH ORDINALITY AS asked (name, rate, burst, number)
     ORDER BY number
        ON CONFLICT (name) DO UPDATE
       SET amount = least(excluded.amount, b.amount
             + greatest(0, extract(epoch FROM clock_timestamp() - b.at))
             * (SELECT rate FROM unnest(%s::text[], %s::float8[]) AS asked (name, rate) WHERE asked.name = b.name)),
           at = greatest(b.at, clock_timestamp())
 RETURNING name, amount
"""
_CHANGE: Final = """
    UPDATE budgets SET amount = least(given.burst, amount + given.more)
      FROM unnest(%s::text[], %s::float8[], %s::float8[]) AS given (name, more, burst)
     WHERE budgets.name = given.name
"""
_KEEP: Final = """
    INSERT INTO kept AS k (principal, bytes, changed)
    SELECT principal, more, clock_timestamp() FROM unnest(%s::text[], %s::bigint[]) AS given (principal, more)
     ORDER BY principal
        ON CONFLICT (principal) DO UPDATE SET bytes = k.bytes + excluded.bytes, changed = clock_timestamp()
"""
_CHANGED: Final = "SELECT principal, bytes FROM kept WHERE changed >= to_timestamp(%s)"
_MOMENT: Final = """
    SELECT extract(epoch FROM clock_timestamp())::float8,
           coalesce((SELECT value FROM meta WHERE key = %s)::bigint, 0)
"""
_COUNTED: Final = """
    INSERT INTO meta AS m (key, value) VALUES (%s, %s)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE m.value = %s
"""


class Counts:
    """The counts of the database at `url`, whose tables are there. One thread at a time may use it. Every method raises
    `StoreError`."""

    def __init__(self, url: str) -> None:
        self._server = Server(url)

    def claim(self, principal: PrincipalId) -> int:
        """The number of a link that begins now."""

        def work(connection: Connection) -> int:
            (number,) = connection.execute(_CLAIM, (principal,)).fetchone() or (0,)
            return int(number)

        return self._do(work)

    def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]:
        """The greatest number of each of these daemons that has one."""
        return dict(self._do(lambda connection: connection.execute(_NEWEST, (list(principals),)).fetchall()))

    def draw(self, asks: Sequence[Ask]) -> Drawn:
        """Draw from budgets, from all or from none."""

        def work(connection: Connection) -> Drawn:
            left = _locked(connection, asks)
            drawn = drawn_of(asks, left)
            if not drawn.wait_s:
                _change(connection, asks, [-amount for amount in drawn.amounts])
            return drawn

        return self._do(work)

    def give(self, asks: Sequence[Ask]) -> None:
        """Give back `most` of each."""

        def work(connection: Connection) -> None:
            _locked(connection, asks)
            _change(connection, asks, [ask.most for ask in asks])

        self._do(work)

    def forget(self, names: Sequence[str]) -> None:
        """Let these budgets be whole again."""

        def work(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM budgets WHERE name IN"
                " (SELECT name FROM budgets WHERE name = ANY (%s) ORDER BY name FOR UPDATE)",
                (list(names),),
            )

        self._do(work)

    def forget_old(self) -> None:
        """Forget the budgets from which nothing was drawn for so long that they are whole."""

        def work(connection: Connection) -> None:
            # One that is drawn from now is left for the next time.
            connection.execute(
                "DELETE FROM budgets WHERE name IN (SELECT name FROM budgets"
                " WHERE at < clock_timestamp() - make_interval(secs => %s) FOR UPDATE SKIP LOCKED)",
                (FORGOTTEN_AFTER_S,),
            )

        self._do(work)

    def keep(self, changes: Mapping[PrincipalId, int], since: float) -> KeptBytes:
        """Add to what people keep, and say for whom that changed."""

        def work(connection: Connection) -> KeptBytes:
            mark, counting = connection.execute(_MOMENT, (COUNTING,)).fetchone() or (0.0, 0)
            _keep(connection, changes)
            rows = connection.execute(_CHANGED, (max(0.0, since - LATE_S),)).fetchall()
            return KeptBytes(dict(rows), float(mark), int(counting))

        return self._do(work)

    def correct(self, changes: Mapping[PrincipalId, int], counting: int) -> bool:
        """Add what a count of everything found to be missing, unless another count was done meanwhile."""

        def work(connection: Connection) -> bool:
            counted = connection.execute(_COUNTED, (COUNTING, str(counting + 1), str(counting)))
            if not counted.rowcount:
                return False
            _keep(connection, changes)
            return True

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


def _locked(connection: Connection, asks: Sequence[Ask]) -> list[float]:
    """What is left of each of these budgets now; nobody else draws from them until the transaction ends."""
    ordered = sorted(asks, key=lambda ask: ask.name)
    names, rates = [ask.name for ask in ordered], [ask.rate for ask in ordered]
    found: dict[str, float] = dict(
        connection.execute(_LEFT, (names, rates, [ask.burst for ask in ordered], names, rates)).fetchall()
    )
    return [found[ask.name] for ask in asks]


def _change(connection: Connection, asks: Sequence[Ask], more: Sequence[float]) -> None:
    connection.execute(_CHANGE, ([ask.name for ask in asks], list(more), [ask.burst for ask in asks]))


def _keep(connection: Connection, changes: Mapping[PrincipalId, int]) -> None:
    if changes:
        connection.execute(_KEEP, (list(changes), list(changes.values())))
