"""Who may do what in a database: the owner of the tables, and the role of a relay, which owns nothing.

    prepare      as the owner, before the first start and after each upgrade: the tables, and what a relay may do
    admit        what a relay may do, for one more role
    check_doors  as a relay, whether the owner let it in with this Parler's functions
    check_role   as a relay, at its start: whether its role is one that the rules of the tables hold for

Whoever owns a table can switch its triggers off, and a superuser passes every check. So a relay's role that could do
either is refused, with the reason, and so is one role for both. Taking away from the record is left to functions of
the owner's (`schema/invariants.sql`). Not here: which tables there are (`schema`, `opening`). Above: `store` and the
relay's commands. Below: `connections`, `opening`. Invariant: what a role had before and may not have is taken from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg
from psycopg import sql

from parlerd.core.errors import StoreError
from parlerd.store.postgres.connections import Server
from parlerd.store.postgres.opening import (
    COMMAND,
    bring_up_to_date,
    check_server,
    not_ready,
    shipped_rules,
    shipped_steps,
)

Connection = psycopg.Connection[tuple[Any, ...]]
_READ: Final = "SELECT"
_ADD: Final = "SELECT, INSERT"
_MOVE: Final = "SELECT, INSERT, UPDATE"
_DERIVED: Final = "SELECT, INSERT, DELETE"
_KEPT: Final = "SELECT, INSERT, UPDATE, DELETE"

RIGHTS: Final[Mapping[str, str]] = {
    "meta": _KEPT,
    "fact_types": _READ,
    # The record.
    "agents": _ADD,
    "tombstones": _READ,
    "heads": _MOVE,
    "facts": _ADD,
    "bodies": _ADD,
    "erased_bodies": _READ,
    "own_lines": _ADD,
    "cursors": _MOVE,
    "deliveries": _ADD,
    # By which facts are refused.
    "tokens": _ADD,
    "token_access": _ADD,
    "token_rooms": _ADD,
    "revoked_tokens": _ADD,
    # What follows from facts, and may go when those of a deleted room do.
    "messages": _DERIVED,
    "public_messages": _DERIVED,
    "mirror_places": _DERIVED,
    "private_messages": _DERIVED,
    "filtered_messages": _DERIVED,
    "idempotency": _DERIVED,
    "room_keys": _DERIVED,
    "state_writes": _DERIVED,
    "rooms": _KEPT,
    "memberships": _KEPT,
    "deadlines": _KEPT,
    "remembered": _KEPT,
    # What comes and goes.
    "leases": _KEPT,
    "snapshots": _KEPT,
    "outbox": _KEPT,
    "renewals": _KEPT,
    "sights": _KEPT,
    "relays": _KEPT,
    "shards": "SELECT, UPDATE",
    "newest_links": _MOVE,
    "budgets": _KEPT,
    "kept": _MOVE,
}
"""What a relay may do with each table. There is no DELETE on the record, and no TRUNCATE on anything."""
DOORS: Final = ("erase_bodies", "bury_room", "shut_room", "clear_facts", "clear_marks", "forget_marks", "forget_index")
"""The owner's functions that take away."""

_UNFIT: Final = """
SELECT CASE
       WHEN r.rolsuper THEN 'is a superuser, for whom no rule of the database holds'
       WHEN r.rolcreaterole THEN 'may make roles, and so make itself the owner of the tables'
       WHEN EXISTS (SELECT FROM pg_roles m
                     WHERE (m.rolsuper OR m.rolcreaterole) AND pg_has_role(r.oid, m.oid, 'MEMBER'))
       THEN 'may act as a role for which no rule of the database holds'
       WHEN EXISTS (SELECT FROM pg_class c
                     WHERE c.relnamespace = current_schema()::regnamespace AND pg_has_role(r.oid, c.relowner, 'MEMBER'))
       THEN 'owns the tables, or may act as the role that does, and could switch their rules off'
       WHEN pg_has_role(r.oid, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'MEMBER')
       THEN 'owns the database, or may act as the role that does, and could take the tables away'
       WHEN pg_has_role(r.oid, 'pg_write_server_files', 'MEMBER')
         OR pg_has_role(r.oid, 'pg_execute_server_program', 'MEMBER')
       THEN 'may write files of the server, or run programs there'
       WHEN has_schema_privilege(r.oid, current_schema(), 'CREATE')
       THEN 'may make tables and functions beside those of the store'
       WHEN has_parameter_privilege(r.oid, 'session_replication_role', 'SET')
       THEN 'may switch the rules of the tables off for itself (session_replication_role)'
       WHEN EXISTS (SELECT FROM pg_class c
                     WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY (%(record)s)
                       AND has_table_privilege(r.oid, c.oid, 'DELETE, TRUNCATE, REFERENCES, TRIGGER'))
       THEN 'may take away from the record'
       WHEN EXISTS (SELECT FROM pg_class c
                     WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
                       AND has_table_privilege(r.oid, c.oid, 'TRIGGER'))
       THEN 'may put triggers on tables, which run as the owner where the owner takes away'
       END
  FROM pg_roles r WHERE r.rolname = %(role)s"""
_LACKING: Final = """
    SELECT door FROM unnest(%s::text[]) AS door
     WHERE NOT EXISTS (SELECT FROM pg_proc p
                        WHERE p.pronamespace = current_schema()::regnamespace AND p.proname = door
                          AND has_function_privilege(p.oid, 'EXECUTE'))"""
_SESSION: Final = "SELECT current_user, session_user, current_setting('session_replication_role')"
_RECORD: Final = [table for table, rights in RIGHTS.items() if "DELETE" not in rights]


def prepare(url: str, role: str, *, steps: Mapping[int, str] | None = None) -> None:
    """As the owner, whose `url` it is: make the tables or bring them up to date, and let `role` be a relay's.

    Raises `StoreError`: `invalid_settings` for a server, a database or a role that is not good enough, `newer_store`,
    and a `store_*` code where the server cannot be reached or refuses.
    """
    server = Server(url)
    try:
        check_server(server.writer)
        bring_up_to_date(server.writer, steps or shipped_steps(), shipped_rules())
        admit(server.writer, role)
    except psycopg.Error as error:
        raise server.meaning(error) from None
    finally:
        server.close()


def admit(connection: Connection, role: str) -> None:
    """Let `role` do what a relay has to, and nothing else in this schema. Raises `StoreError(invalid_settings)` for one
    that no rule would hold for, and lets `psycopg.Error` pass."""
    with connection.transaction():
        row = connection.execute("SELECT current_schema(), current_database()").fetchone()
        assert row is not None
        schema, database = map(sql.Identifier, row)
        name = sql.Identifier(role)
        if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
            raise StoreError(
                "invalid_settings",
                f"There is no role {role!r} at the PostgreSQL server.",
                hint="Make one that a relay is to use, with: CREATE ROLE ... LOGIN",
            )
        _run(connection, "REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}", schema, name)
        _run(connection, "REVOKE ALL ON ALL SEQUENCES IN SCHEMA {} FROM {}", schema, name)
        _run(connection, "GRANT CONNECT ON DATABASE {} TO {}", database, name)
        _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", schema, name)
        for table, rights in RIGHTS.items():
            _run(connection, f"GRANT {rights} ON {{}} TO {{}}", sql.Identifier(table), name)
        for door in DOORS:
            _run(connection, "GRANT EXECUTE ON FUNCTION {} TO {}", sql.Identifier(door), name)
        # Whatever else lets it do more: that it owns something, or is in a role that may.
        _refuse_unfit(connection, role)


def check_role(connection: Connection) -> None:
    """Raise `StoreError(invalid_settings)` where the role of this connection is one that the rules of the tables do not
    hold for. A database without tables is no reason: it is refused for that (`opening`)."""
    row = connection.execute(_SESSION).fetchone()
    assert row is not None
    role, came_as, rules = row
    # A session may act as another role than the one it came as, and go back at any time.
    for each in (role, came_as):
        _refuse_unfit(connection, str(each))
    if rules != "origin":
        raise StoreError(
            "invalid_settings",
            f"The rules of the tables are switched off for the role {role!r} (session_replication_role = {rules}).",
            hint="As a superuser: ALTER ROLE ... RESET session_replication_role, and the same for the database.",
            role=role,
        )


def check_doors(connection: Connection) -> None:
    """Raise `StoreError` where the role of this connection may not call what takes away: the tables' owner let it in
    with an older Parler."""
    row = connection.execute(_LACKING, (list(DOORS),)).fetchone()
    if row is not None:
        raise not_ready(f"The database does not let the relay call {row[0]}.")


def _refuse_unfit(connection: Connection, role: str) -> None:
    row = connection.execute(_UNFIT, {"role": role, "record": _RECORD}).fetchone()
    if row is not None and row[0] is not None:
        raise StoreError(
            "invalid_settings",
            f"The role {role!r} {row[0]}.",
            hint="Give the relay a role of its own: CREATE ROLE ... LOGIN, and then, as the owner of the tables, "
            f"{COMMAND}",
            role=role,
        )


def _run(connection: Connection, statement: str, *names: sql.Identifier) -> None:
    # The statements are ours; what others chose goes in as a quoted name.
    connection.execute(sql.SQL(statement).format(*names))
