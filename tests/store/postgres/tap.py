"""The invariants as assertions of pgTAP, `invariants.sql`, made of the named list.

    python -m tests.store.postgres.tap

writes the file anew, with the error that a real server gives for each attempt; a test compares. Whoever has pgTAP in a
schema `tap` of a database with the rows of `tests/support/postgres_tables` can run the file there. It has two parts,
each with a plan of its own: as the owner of the tables, and as a relay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

import psycopg

from parlerd.store.postgres.roles import DOORS, RIGHTS
from tests.store.postgres.conftest import with_facts
from tests.support.invariants import REFUSED
from tests.support.postgres import OWNER, RELAY, Database, serving
from tests.support.postgres_tables import IN_POSTGRES, PLANTED, TABLES
from tests.tools.postgres.server import versions

FILE: Final = Path(__file__).with_name("invariants.sql")
ATTEMPTS: Final = {name: attempt(TABLES) for name, attempt in REFUSED.items()} | dict(IN_POSTGRES)
_HEAD: Final = """\
-- The invariants of a PostgreSQL store, as assertions of pgTAP. `python -m tests.store.postgres.tap` makes this file.
"""


class Result(NamedTuple):
    """One line of TAP: whether an assertion held, and what it says."""

    held: bool
    name: str


def script(database: Database) -> str:
    """The file, with the errors that this database gives. It has to have the rows that the list is tried on."""
    return (
        _HEAD
        + "".join(_part(OWNER, [*_structure(), *_attempts(database.owner)]))
        + "".join(_part(RELAY, [*_attempts(database.relay)]))
    )


def read(tap: str) -> list[Result]:
    """The results in a text of TAP, which may have several plans. Raises `ValueError` where one was not kept."""
    results: list[Result] = []
    numbers: list[int] = []
    planned = 0
    for line in [*tap.splitlines(), "1..0"]:
        if (plan := re.fullmatch(r"1\.\.(\d+)", line)) is not None:
            if numbers != list(range(1, planned + 1)):
                raise ValueError(f"{planned} assertions were planned, and {len(numbers)} were made")
            numbers, planned = [], int(plan[1])
        elif (said := re.match(r"(not )?ok (\d+)(?: - (.*))?$", line)) is not None:
            numbers.append(int(said[2]))
            results.append(Result(said[1] is None, said[3] or ""))
    return results


def _part(role: str, assertions: list[str]) -> Iterator[str]:
    yield f"\nBEGIN;\nSET LOCAL search_path = public, tap;\nSET LOCAL ROLE {role};\nSET CONSTRAINTS ALL IMMEDIATE;\n"
    yield f"SELECT plan({len(assertions)});\n"
    yield from (f"SELECT {assertion};\n" for assertion in assertions)
    yield "SELECT * FROM finish();\nROLLBACK;\n"


def _structure() -> Iterator[str]:
    for table, trigger in PLANTED:
        yield f"has_trigger('public', '{table}', '{trigger}', '{table} has the trigger {trigger}')"
    for table, rights in RIGHTS.items():
        named = ", ".join(f"'{right}'" for right in rights.split(", "))
        yield f"table_privs_are('public', '{table}', '{RELAY}', ARRAY[{named}], 'a relay has {rights} on {table}')"
        yield f"hasnt_fk('public', '{table}', '{table} has no foreign key')"
        yield f"table_owner_is('public', '{table}', '{OWNER}', '{table} is the owner''s')"
    for door in DOORS:
        yield f"is_definer('public', '{door}', '{door} runs as the owner')"
    yield f"isnt_superuser('{RELAY}', 'a relay is no superuser')"


def _attempts(url: str) -> Iterator[str]:
    with closing(psycopg.connect(url)) as connection:
        for name, attempt in ATTEMPTS.items():
            said = name.replace("'", "''")
            yield f"throws_ok($${attempt}$$, '{_error(connection, attempt)}', NULL, '{said}')"


def _error(connection: psycopg.Connection[tuple[object, ...]], attempt: str) -> str:
    try:
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        connection.execute(attempt.encode())
    except psycopg.Error as error:
        return error.sqlstate or ""
    finally:
        connection.rollback()
    raise ValueError(f"nothing refuses this: {attempt}")


if __name__ == "__main__":
    with serving(versions()[0]) as running, running.database(with_facts) as made:
        FILE.write_text(script(made), encoding="utf-8")
