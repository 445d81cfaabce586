"""A database with the tables and two roles, and stores over it or three facts in a room of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from parlerd.store.postgres import PostgresStore
from tests.support.invariants import given
from tests.support.postgres import Database, Postgres, with_tables
from tests.support.postgres_tables import TABLES, facts


def with_facts(database: Database) -> None:
    """The tables, and the rows that the invariants are tried on."""
    with_tables(database)
    with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
        for statement in (*facts(), *given(TABLES)):
            connection.execute(statement.encode())


@pytest.fixture
def prepared(postgres: Postgres) -> Iterator[Database]:
    """A database with tables and without rows, of this test alone."""
    with postgres.database(with_tables) as made:
        yield made


@pytest.fixture
def store(prepared: Database) -> Iterator[PostgresStore]:
    """A relay's store over it."""
    with closing(PostgresStore(prepared.relay)) as made:
        yield made


@pytest.fixture
def other(prepared: Database) -> Iterator[PostgresStore]:
    """The store of another relay over it."""
    with closing(PostgresStore(prepared.relay)) as made:
        yield made


@pytest.fixture
def stored(postgres: Postgres) -> Iterator[Database]:
    """A database with tables and facts, of this test alone."""
    with postgres.database(with_facts) as made:
        yield made


@pytest.fixture(scope="session")
def untouched(postgres: Postgres) -> Iterator[Database]:
    """A database with tables and facts, which every test leaves as it was."""
    with postgres.database(with_facts) as made:
        yield made


@pytest.fixture
def owner(untouched: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """The owner's connection, in a transaction that is undone."""
    with closing(psycopg.connect(untouched.owner)) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def relay(untouched: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A relay's connection, in a transaction that is undone."""
    with closing(psycopg.connect(untouched.relay)) as connection:
        yield connection
        connection.rollback()
