"""A database before the store is used: whether its server is good enough, and its tables, made or brought up to date.

Making them is their owner's, who is not the role of a relay (`roles`); a relay looks whether they are there.
Not here: what the tables mean (`schema/*.sql`), and connections (`connections`). Above: `store`. Invariants: the tables
are made or changed in one transaction, so they are the old ones or the new; a database of a newer schema, or of
something else, is refused and left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psycopg

import parlerd
from parlerd.core.errors import StoreError
from parlerd.core.events import CURRENT_V
from parlerd.store.postgres.connections import Connection

OLDEST_SERVER: Final = 15
"""The first version of PostgreSQL that is good enough. Version 14 got its last fix in November 2026. Source:
PostgreSQL's versioning policy."""
COMMAND: Final = "parler relay migrate"
"""What the owner of a database runs, to make its tables or to bring them up to date."""
_FOLDER: Final = Path(__file__).parent / "schema"


def shipped_steps() -> Mapping[int, str]:
    """The SQL that leads from each schema to the next; the first starts from nothing. A step only adds, because a relay
    of the version before may run beside this one."""
    return {int(path.stem): path.read_text(encoding="utf-8") for path in _FOLDER.glob("*.sql") if path.stem.isdigit()}


def shipped_rules() -> list[str]:
    """The SQL of functions and triggers. Each version of the program puts all of its own in place of those that are
    there, so these have no numbers."""
    paths = sorted(path for path in _FOLDER.glob("*.sql") if not path.stem.isdigit())
    return [path.read_text(encoding="utf-8") for path in paths]


def check_server(connection: Connection) -> None:
    """Raise `StoreError(invalid_settings)` for a server that would not keep what was acknowledged, or that this program
    does not know."""
    version = connection.info.server_version // 10_000
    if version < OLDEST_SERVER:
        raise StoreError(
            "invalid_settings",
            f"PostgreSQL {OLDEST_SERVER} or newer is needed; this server has version {version}.",
            hint="Upgrade the server, or use another one.",
        )
    for setting, why in (
        ("fsync", "a commit may be lost when the server's machine fails"),
        ("full_page_writes", "the database may be damaged when the server's machine fails"),
    ):
        if _shown(connection, setting) != "on":
            raise StoreError(
                "invalid_settings",
                f"The PostgreSQL server runs with {setting} off: {why}.",
                hint=f"Set {setting} = on in postgresql.conf, and restart the server.",
            )
    encoding = _shown(connection, "server_encoding")
    if encoding != "UTF8":
        raise StoreError(
            "invalid_settings",
            f"The database has the encoding {encoding}, which cannot hold every text.",
            hint="Make one with: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        )


def bring_up_to_date(connection: Connection, steps: Mapping[int, str], rules: list[str]) -> None:
    """As the owner: make the tables in the schema that the connection works in, or upgrade them to the newest of
    `steps`, with all of `rules`.

    Raises `StoreError(newer_store)` for newer tables, `StoreError(invalid_settings)` for a schema that holds something
    else, and lets `psycopg.Error` pass, with the database unchanged.
    """
    for attempt in (1, 2):
        try:
            _bring_up_to_date(connection, steps, rules)
            return
        except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
            # Somebody else made the tables at the same time.
            if attempt == 2:
                raise


def _bring_up_to_date(connection: Connection, steps: Mapping[int, str], rules: list[str]) -> None:
    # A step may take as long as its tables are large.
    with connection.transaction(), connection.unhurried():
        connection.execute("SET LOCAL lock_timeout = '60s'")
        if _version(connection):
            # Of two that do this at the same time the second waits here, and finds no step left to do.
            connection.execute("LOCK TABLE meta IN SHARE ROW EXCLUSIVE MODE")
        found = _version(connection)
        newest = max(steps)
        if found > newest:
            raise _newer(connection, found, newest)
        for step in sorted(step for step in steps if step > found):
            connection.execute(steps[step].encode())
        for script in rules:
            connection.execute(script.encode())
        connection.cursor().executemany(
            "INSERT INTO meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [("schema", str(newest)), ("written_by", parlerd.__version__)],
        )
        connection.cursor().executemany(
            "INSERT INTO fact_types VALUES (%s, %s)"
            " ON CONFLICT (type) DO UPDATE SET v = greatest(fact_types.v, excluded.v)",
            list(CURRENT_V.items()),
        )


def check_tables(connection: Connection, newest: int) -> None:
    """As a relay: raise `StoreError` where there are no tables of schema `newest`, with the kinds of facts that this
    program writes. Making them is their owner's."""
    found = _version(connection)
    if found > newest:
        raise _newer(connection, found, newest)
    if not found:
        raise not_ready("The database has no tables yet.")
    known: dict[str, int] = dict(connection.execute("SELECT type, v FROM fact_types").fetchall())
    if found < newest or any(known.get(kind, 0) < v for kind, v in CURRENT_V.items()):
        raise not_ready(f"The tables of the database are of a Parler before {parlerd.__version__}.")


def not_ready(sentence: str) -> StoreError:
    """The error for tables that are their owner's to make or to bring up to date."""
    return StoreError(
        "invalid_settings", sentence, hint=f"As the owner of the database, once: {COMMAND} --store URL --role ROLE"
    )


def _version(connection: Connection) -> int:
    """The schema of the tables; 0 where there are none."""
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()").fetchall()
    if not tables:
        return 0
    if ("meta",) not in tables:
        raise _foreign()
    text = _meta(connection, "schema")
    if text is None or not text.isdigit():
        raise _foreign()
    return int(text)


def _meta(connection: Connection, key: str) -> str | None:
    try:
        row = connection.execute("SELECT value FROM meta WHERE key = %s", (key,)).fetchone()
    except psycopg.errors.UndefinedColumn:
        raise _foreign() from None
    return None if row is None else str(row[0])


def _foreign() -> StoreError:
    return StoreError(
        "invalid_settings",
        "The database holds tables that are not Parler's.",
        hint="Name another database in the URL, an empty one.",
    )


def _newer(connection: Connection, found: int, newest: int) -> StoreError:
    needs = _meta(connection, "written_by") or "a newer version"
    return StoreError(
        "newer_store",
        f"The database has schema {found}, written by Parler {needs}; this is Parler {parlerd.__version__}.",
        hint=f"Upgrade this install to Parler {needs} or newer.",
        schema=found,
        known=newest,
        needs=needs,
    )


def _shown(connection: Connection, setting: str) -> str:
    (value,) = connection.execute("SELECT current_setting(%s)", (setting,)).fetchone() or ("",)
    return str(value)
