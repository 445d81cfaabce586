"""Rows as statements of arrays: what the packing of this package says is what the server reads."""

from __future__ import annotations

from parlerd.core.model import AgentId
from parlerd.store.indexing import PROJECTIONS
from parlerd.store.postgres import PostgresStore
from parlerd.store.postgres.tables import (
    BODIES,
    CURSORS,
    DELIVERIES,
    FACTS,
    HEADS,
    OWN_LINES,
    SNAPSHOTS,
    Array,
    Blobs,
    Numbers,
    Texts,
    arrays,
    of_index,
)
from tests.support.facts import ANN, BEN


def test_the_server_reads_each_array_as_it_was_meant(store: PostgresStore) -> None:
    found: list[tuple[Array, str]] = [
        (Texts(["", "word", "two words", "ü€😀", "{'\"},\\"]), "text"),
        (Numbers([0, 1, -1, 2**63 - 1, -(2**63)]), "bigint"),
        (Blobs([b"", b"\0\xff", None, bytes(1_000)]), "bytea"),
        (Blobs([b"all", b"there"]), "bytea"),
        (Texts([]), "text"),
        (Numbers([]), "bigint"),
        (Blobs([]), "bytea"),
    ]
    for array, kind in found:
        assert [value for (value,) in store._server.rows(f"SELECT unnest(%s::{kind}[])", (array,))] == array.values


def test_an_agent_is_written_as_its_number_and_nobody_as_none() -> None:
    row = ("r", 1, b"t" * 32, 1, b"l" * 32)
    packed = arrays(OWN_LINES, [(*row, "token", ANN, 7), (*row, "", AgentId(""), 0)], {ANN: 12})
    (agents,) = [array.values for column, array in zip(OWN_LINES.columns, packed, strict=True) if column == "agent"]
    assert agents == [12, 0]
    assert OWN_LINES.ids([(*row, "token", ANN, 7), (*row, "token", BEN, 7)]) == {ANN, BEN}


def test_each_table_has_the_columns_that_are_written_to_it(store: PostgresStore) -> None:
    written = [FACTS, BODIES, OWN_LINES, HEADS, CURSORS, DELIVERIES, SNAPSHOTS, *map(of_index, PROJECTIONS)]
    columns = "SELECT attname, atttypid::regtype::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    for table in written:
        found = dict(store._server.rows(columns, (table.name,)))
        assert set(table.columns) == set(found)
        # What is narrower in the database is checked there.
        kinds = {"agent": "bigint"}
        assert {
            (column, kinds.get(kind, kind), found[column])
            for column, kind in zip(table.columns, table.kinds, strict=True)
            if found[column] not in (kinds.get(kind, kind), "integer")
        } == set()


def test_the_key_of_each_index_is_the_key_of_its_table(store: PostgresStore) -> None:
    key = (
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " WHERE i.indrelid = %s::regclass AND i.indisprimary"
    )
    for projection in PROJECTIONS:
        assert {column for (column,) in store._server.rows(key, (projection.table,))} == set(projection.key)
