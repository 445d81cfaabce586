"""How many ways to the server and back a transaction takes, by what the driver says that it sends and hears."""

from __future__ import annotations

import tempfile
from itertools import groupby

from psycopg import pq

from parlerd.store.port import Write
from parlerd.store.postgres import PostgresStore
from tests.support.facts import ANN, BEN, CAT, append, message, opened


def ways(store: PostgresStore, *jobs: list[Write]) -> int:
    """How often the writing connection said something and then heard an answer, in one transaction of these jobs."""
    connection = store._server.writer.pgconn
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        connection.trace(file.fileno())
        connection.set_trace_flags(pq.Trace.SUPPRESS_TIMESTAMPS)
        outcomes = store.transact(jobs)
        connection.untrace()
        file.seek(0)
        sides = [side for line in file if (side := line.partition("\t")[0]) in ("F", "B")]
    assert [outcome.error for outcome in outcomes] == [None] * len(jobs)
    return [side for side, _ in groupby(sides)].count("F")


def said(store: PostgresStore, *places: int) -> int:
    return ways(store, [append(*(message(place, (ANN, BEN)[place % 2]) for place in places))])


def test_a_commit_takes_three_ways_to_the_server(store: PostgresStore) -> None:
    store.transact([[append(opened(), message(2, ANN), message(3, BEN))]])
    # Locks and what they find; the rows; and the commit, apart.
    assert said(store, 4) == 3
    assert said(store, *range(5, 40)) == 3


def test_what_is_not_remembered_of_a_room_takes_one_way_more(store: PostgresStore) -> None:
    store.transact([[append(opened(), message(2, ANN), message(3, BEN))]])
    store._writer._rooms.clear()
    assert said(store, 4) == 4
    assert ways(store, [append(message(5, CAT))]) == 5, "an agent whose number nobody asked for yet"
