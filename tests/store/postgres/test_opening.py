"""Opening a PostgreSQL database: which servers are refused, and the tables made and brought up to date."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest

import parlerd
from parlerd.core.errors import StoreError
from parlerd.core.events import CURRENT_V
from parlerd.store.postgres import opening
from parlerd.store.postgres.connections import Server
from parlerd.store.postgres.opening import bring_up_to_date, check_server, shipped_rules, shipped_steps
from tests.support.postgres import Database, Postgres
from tests.tools.postgres.server import throwaway

STEPS = {
    1: "CREATE TABLE meta (key text PRIMARY KEY, value text); CREATE TABLE fact_types (type text PRIMARY KEY, v int)"
}
"""The least that a schema has."""


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    with closing(Server(database.owner)) as made:
        yield made


def refused(act: Callable[[], object]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        act()
    assert caught.value.hint
    return caught.value


# -- servers -----------------------------------------------------------------------------------------------


def test_a_server_that_is_good_enough_is_taken(server: Server) -> None:
    check_server(server.writer)


def test_a_server_that_is_too_old_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "OLDEST_SERVER", 99)
    error = refused(lambda: check_server(server.writer))
    assert error.code == "invalid_settings"
    assert "99 or newer is needed" in error.message


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_would_lose_what_was_acknowledged_is_refused(postgres: Postgres, setting: str) -> None:
    settings = {setting: "off"}
    with throwaway(postgres.server.version, settings=settings) as careless, closing(Server(careless.url())) as server:
        error = refused(lambda: check_server(server.writer))
    assert error.code == "invalid_settings"
    assert f"{setting} off" in error.message
    assert f"{setting} = on" in error.hint


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres, database: Database) -> None:
    postgres.run("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' LOCALE_PROVIDER libc TEMPLATE template0")
    try:
        with closing(Server(postgres.server.url("narrow"))) as server:
            error = refused(lambda: check_server(server.writer))
    finally:
        postgres.run("DROP DATABASE narrow WITH (FORCE)")
    assert error.code == "invalid_settings"
    assert "LATIN1" in error.message


# -- tables ------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_every_table_and_the_kinds_of_facts(server: Server) -> None:
    for _ in range(2):
        bring_up_to_date(server.writer, shipped_steps(), shipped_rules())
        assert dict(server.rows("SELECT type, v FROM fact_types")) == dict(CURRENT_V)
        found = dict(server.rows("SELECT key, value FROM meta WHERE key IN ('schema', 'written_by')"))
        assert found == {"schema": str(max(shipped_steps())), "written_by": parlerd.__version__}


def test_no_key_that_is_text_depends_on_the_collation_of_the_system(server: Server) -> None:
    bring_up_to_date(server.writer, shipped_steps(), shipped_rules())
    loose = server.rows(
        "SELECT c.relname, a.attname FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indrelid JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)"
        " JOIN pg_collation l ON l.oid = a.attcollation"
        " WHERE c.relnamespace = current_schema()::regnamespace AND l.collname <> 'C'"
    )
    assert loose == []


def test_an_older_database_is_brought_up_to_date_in_one_go(server: Server) -> None:
    bring_up_to_date(server.writer, STEPS, [])
    later = {**STEPS, 2: "CREATE TABLE two (n int)", 3: "CREATE TABLE three (n int)"}
    with pytest.raises(psycopg.errors.SyntaxError):
        bring_up_to_date(server.writer, {**later, 3: "CREATE NOTHING"}, [])
    assert server.row("SELECT value FROM meta WHERE key = 'schema'") == ("1",)
    assert server.row("SELECT to_regclass('two')") == (None,)
    bring_up_to_date(server.writer, later, ["INSERT INTO three VALUES (3)"])
    assert server.row("SELECT value FROM meta WHERE key = 'schema'") == ("3",)
    assert server.row("SELECT n FROM three") == (3,)


def test_a_newer_database_is_refused_and_left_alone(server: Server) -> None:
    bring_up_to_date(server.writer, {**STEPS, 2: "CREATE TABLE two (n int)"}, [])
    server.writer.execute("UPDATE meta SET value = '99.1' WHERE key = 'written_by'")
    error = refused(lambda: bring_up_to_date(server.writer, STEPS, ["DROP TABLE two"]))
    assert error.code == "newer_store"
    assert error.details["needs"] == "99.1"
    assert server.row("SELECT count(*) FROM two") == (0,)


@pytest.mark.parametrize("table", ["CREATE TABLE meta (name text)", "CREATE TABLE accounts (n int)"])
def test_a_database_of_something_else_is_refused_and_left_alone(server: Server, table: str) -> None:
    server.writer.execute(table)
    error = refused(lambda: bring_up_to_date(server.writer, shipped_steps(), shipped_rules()))
    assert error.code == "invalid_settings"
    assert server.row("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()") == (1,)


def test_two_that_make_the_tables_at_once_both_find_them_made(database: Database) -> None:
    together, wrong = threading.Barrier(2), []

    def make() -> None:
        with closing(Server(database.owner)) as server:
            connection = server.writer
            together.wait(60)
            try:
                bring_up_to_date(connection, shipped_steps(), shipped_rules())
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
