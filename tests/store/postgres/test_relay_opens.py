"""What a relay says of a database that it finds, whose tables are made by their owner and not by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import Position, RoomId
from parlerd.store.port import MoveCursor, Write
from parlerd.store.postgres import PostgresStore
from parlerd.store.postgres.opening import COMMAND, shipped_steps
from parlerd.store.postgres.roles import prepare
from tests.support.facts import ANN, append, message, opened
from tests.support.postgres import OWNER, RELAY, Database, Postgres, with_tables

NEWEST = max(shipped_steps())


@pytest.fixture
def made(postgres: Postgres) -> Iterator[Database]:
    """A database with tables and without rows, of this test alone."""
    with postgres.database(with_tables) as database:
        yield database


def _as_owner(database: Database, statement: str) -> None:
    with closing(psycopg.connect(database.owner, autocommit=True)) as connection:
        connection.execute(statement.encode())


def _refused(url: str) -> StoreError:
    with pytest.raises(StoreError) as refused:
        PostgresStore(url)
    return refused.value


def test_tables_that_their_owner_made_are_opened(made: Database) -> None:
    store = PostgresStore(made.relay)
    assert store.rooms() == []
    store.close()


def test_a_database_without_tables_says_who_makes_them(database: Database) -> None:
    error = _refused(database.relay)
    assert (error.code, error.message) == ("invalid_settings", "The database has no tables yet.")
    assert COMMAND in error.hint
    with closing(psycopg.connect(database.owner)) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.mark.parametrize("role", [OWNER, "postgres"])
def test_a_role_that_could_switch_the_rules_off_is_refused_whatever_is_there(
    role: str, made: Database, database: Database
) -> None:
    for one in (made, database):
        error = _refused(one.server.url(one.name, role))
        assert error.code == "invalid_settings"
        assert repr(role) in error.message
        assert COMMAND in error.hint


@pytest.mark.parametrize(
    "statement",
    [
        f"DROP TRIGGER schema_only_goes_on ON meta; UPDATE meta SET value = '{NEWEST - 1}' WHERE key = 'schema'",
        "DELETE FROM fact_types WHERE type = 'message_posted'",
        "UPDATE fact_types SET v = 1 WHERE type = 'room_named'",
    ],
)
def test_tables_of_an_older_parler_are_for_their_owner_to_bring_up_to_date(statement: str, made: Database) -> None:
    """Also where it is only that they know a kind of fact less."""
    _as_owner(made, "UPDATE fact_types SET v = v")
    _as_owner(made, statement)
    error = _refused(made.relay)
    assert (error.code, COMMAND in error.hint) == ("invalid_settings", True)


def test_functions_of_an_older_parler_are_for_their_owner_to_bring_up_to_date(made: Database) -> None:
    _as_owner(made, "DROP FUNCTION shut_room")
    error = _refused(made.relay)
    assert (error.code, COMMAND in error.hint) == ("invalid_settings", True)
    prepare(made.owner, RELAY)
    PostgresStore(made.relay).close()


def test_tables_of_a_newer_parler_are_left_alone(made: Database) -> None:
    _as_owner(made, f"UPDATE meta SET value = '{NEWEST + 1}' WHERE key = 'schema'")
    _as_owner(made, "UPDATE meta SET value = '9.9.9' WHERE key = 'written_by'")
    assert _refused(made.relay).code == "newer_store"
    with pytest.raises(StoreError, match="newer_store") as refused:
        prepare(made.owner, RELAY)
    assert refused.value.details["needs"] == "9.9.9"


def test_tables_of_somebody_else_are_left_alone(database: Database) -> None:
    _as_owner(database, "CREATE TABLE customers (id int)")
    with pytest.raises(StoreError, match="not Parler's"):
        prepare(database.owner, RELAY)
    assert "not Parler's" in _refused(database.relay).message


def test_an_upgrade_happens_whole_or_not_at_all(made: Database) -> None:
    steps = {**shipped_steps(), NEWEST + 1: "ALTER TABLE rooms ADD COLUMN extra text"}
    with pytest.raises(StoreError):
        prepare(made.owner, RELAY, steps=steps | {NEWEST + 2: "SELECT * FROM there_is_no_such_table"})
    PostgresStore(made.relay).close()
    prepare(made.owner, RELAY, steps=steps)
    assert _refused(made.relay).code == "newer_store"


def test_rules_that_somebody_took_away_are_put_back_by_their_owner(made: Database) -> None:
    """Whichever schema the tables are of: a version may change a rule and no table."""
    _as_owner(made, "DROP TRIGGER facts_never_change ON facts")
    prepare(made.owner, RELAY)
    with pytest.raises(psycopg.IntegrityError, match="a fact is never changed"):
        _as_owner(made, "UPDATE facts SET at = 1")


def test_a_relay_goes_on_writing_while_the_owner_prepares_again(made: Database) -> None:
    """Neither waits for the other in a circle."""
    done, wrong = threading.Event(), []

    def prepares() -> None:
        try:
            for _ in range(5):
                prepare(made.owner, RELAY)
        except BaseException as error:
            wrong.append(error)
        finally:
            done.set()

    rooms = [RoomId(f"r_{number}") for number in range(4)]
    with closing(PostgresStore(made.relay)) as store:
        thread = threading.Thread(target=prepares)
        thread.start()
        position = 0
        while not done.is_set() or position < 2:
            position += 1
            jobs: list[list[Write]] = [
                [
                    append(opened(room) if position == 1 else message(position, room=room), room=room, own_lines=True),
                    MoveCursor(room, ANN, Position(position)),
                ]
                for room in rooms
            ]
            assert [outcome.error for outcome in store.transact(jobs)] == [None] * len(rooms)
        thread.join()
        assert wrong == []
        assert [store.head(room).position for room in rooms] == [position] * len(rooms)


def test_a_commit_is_durable_whatever_a_role_sets_for_itself(made: Database) -> None:
    with closing(psycopg.connect(made.superuser, autocommit=True)) as connection:
        connection.execute(f"ALTER ROLE {RELAY} IN DATABASE {made.name} SET synchronous_commit = off".encode())
    with closing(psycopg.connect(made.relay)) as connection:
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)
    store = PostgresStore(made.relay)
    assert store._server.row("SHOW synchronous_commit") == ("on",)
    assert store._server.writer.execute("SHOW synchronous_commit").fetchone() == ("on",)
    store.close()
