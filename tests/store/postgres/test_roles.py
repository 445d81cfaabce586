"""Who may do what in a database: a relay's role owns nothing, and whoever could pass over the rules is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from parlerd.core.errors import StoreError
from parlerd.store.postgres.connections import Connection
from parlerd.store.postgres.roles import DOORS, RIGHTS, check_role, prepare
from tests.support.postgres import OWNER, RELAY, Database, Postgres

Run = Callable[[str], None]


@pytest.fixture
def role(postgres: Postgres, stored: Database) -> Iterator[str]:
    """A role of this test that a relay may use."""
    name = f'a "{stored.name}" role'
    postgres.run("CREATE ROLE {} LOGIN", name)
    prepare(stored.owner, name)
    yield name
    with closing(psycopg.connect(stored.superuser, autocommit=True)) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
    postgres.run("DROP ROLE {}", name)


@pytest.fixture
def run(stored: Database, role: str) -> Run:
    """Runs a statement as the superuser; `{}` stands for the role."""

    def run(statement: str) -> None:
        with closing(psycopg.connect(stored.superuser, autocommit=True)) as connection:
            connection.execute(statement.format(sql.Identifier(role).as_string(connection)).encode())

    return run


def _check(stored: Database, role: str) -> None:
    with closing(Connection.connect(stored.server.url(stored.name, role))) as connection:
        check_role(connection)


def _refusal(stored: Database, role: str) -> str:
    with pytest.raises(StoreError) as refused:
        _check(stored, role)
    assert refused.value.code == "invalid_settings"
    assert "role of its own" in refused.value.hint
    return refused.value.message


def test_a_role_that_was_let_in_is_a_relays(stored: Database, role: str) -> None:
    _check(stored, role)
    _check(stored, RELAY)


def test_one_role_for_both_is_refused(stored: Database) -> None:
    """Whoever makes the tables can switch their rules off, so a relay needs another role."""
    assert "owns the tables" in _refusal(stored, OWNER)
    with pytest.raises(StoreError, match="owns the tables"):
        prepare(stored.owner, OWNER)


def test_a_superuser_is_refused(stored: Database) -> None:
    assert "superuser" in _refusal(stored, "postgres")
    with pytest.raises(StoreError, match="superuser"):
        prepare(stored.owner, "postgres")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("ALTER ROLE {} CREATEROLE", "may make roles"),
        (f"GRANT {OWNER} TO {{}}", "owns the tables, or may act"),
        ("GRANT pg_write_server_files TO {}", "files of the server"),
        ("GRANT pg_execute_server_program TO {}", "programs there"),
        ("GRANT CREATE ON SCHEMA public TO {}", "beside those of the store"),
        ("GRANT SET ON PARAMETER session_replication_role TO {}", "session_replication_role"),
        ("GRANT DELETE ON facts TO {}", "take away from the record"),
        ("GRANT TRUNCATE ON cursors TO {}", "take away from the record"),
        ("GRANT TRIGGER ON heads TO {}", "take away from the record"),
        ("GRANT pg_write_all_data TO {}", "take away from the record"),
    ],
)
def test_a_role_that_could_pass_over_the_rules_is_refused(
    given: str, reason: str, stored: Database, role: str, run: Run
) -> None:
    run(given)
    assert reason in _refusal(stored, role)


def test_the_owner_of_the_database_alone_is_refused_too(postgres: Postgres, stored: Database, role: str) -> None:
    postgres.run("ALTER DATABASE {} OWNER TO {}", stored.name, role)
    assert "owns the database" in _refusal(stored, role)
    postgres.run("ALTER DATABASE {} OWNER TO {}", stored.name, OWNER)


def test_what_a_role_may_not_have_is_taken_from_it(stored: Database, role: str, run: Run) -> None:
    run("GRANT ALL ON ALL TABLES IN SCHEMA public TO {}")
    assert "take away" in _refusal(stored, role)
    prepare(stored.owner, role)
    _check(stored, role)


def test_a_relay_may_do_what_the_list_says_and_nothing_else(stored: Database, role: str) -> None:
    with closing(psycopg.connect(stored.superuser)) as connection:
        tables = connection.execute(
            "SELECT c.relname::text, string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type)"
            "  FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee"
            " WHERE c.relnamespace = 'public'::regnamespace AND r.rolname = %s GROUP BY 1",
            (role,),
        ).fetchall()
        doors = connection.execute(
            "SELECT p.proname::text FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a"
            "  JOIN pg_roles r ON r.oid = a.grantee"
            " WHERE p.pronamespace = 'public'::regnamespace AND r.rolname = %s ORDER BY 1",
            (role,),
        ).fetchall()
    assert dict(tables) == {table: ", ".join(sorted(rights.split(", "))) for table, rights in RIGHTS.items()}
    assert [name for (name,) in doors] == sorted(DOORS)


def test_every_table_is_in_the_list(stored: Database) -> None:
    with closing(psycopg.connect(stored.owner)) as connection:
        tables = connection.execute("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert {name for (name,) in tables} == set(RIGHTS)


@pytest.mark.parametrize("door", DOORS)
def test_nobody_else_may_take_away(door: str, postgres: Postgres, stored: Database) -> None:
    """Not even with every right on the tables."""
    with closing(psycopg.connect(stored.superuser)) as connection:
        kinds = connection.execute(
            "SELECT prosecdef, has_function_privilege('pg_monitor', oid, 'EXECUTE') FROM pg_proc WHERE proname = %s",
            (door,),
        ).fetchall()
    assert kinds == [(True, False)]


def test_preparing_again_changes_nothing(stored: Database, role: str) -> None:
    prepare(stored.owner, role)
    with closing(psycopg.connect(stored.owner)) as connection:
        assert connection.execute("SELECT count(*) FROM facts").fetchone() == (3,)


def test_a_role_that_is_not_there_is_named(stored: Database) -> None:
    with pytest.raises(StoreError, match="There is no role 'nobody_here'"):
        prepare(stored.owner, "nobody_here")


def test_whoever_does_not_own_the_tables_lets_nobody_in(stored: Database, role: str) -> None:
    with pytest.raises(StoreError):
        prepare(stored.relay, role)


def test_a_role_is_looked_at_where_there_are_no_tables_yet(database: Database) -> None:
    _check(database, RELAY)
    assert "superuser" in _refusal(database, "postgres")
    assert "owns the database" in _refusal(database, OWNER)
