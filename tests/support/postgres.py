"""PostgreSQL for tests: one server for all of a process, and an empty database for each test.

Tests ask for the fixtures `postgres` and `database` (`tests/conftest.py`). Those of the store run with the oldest and
the newest version that is installed, the others with the oldest alone. Where there is none they skip, and say so.
`PARLER_POSTGRES=0` leaves them out, and with `PARLER_POSTGRES=required`, which CI sets, they fail instead of skipping.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Final, LiteralString, NoReturn

import psycopg
import pytest
from psycopg import sql

from parlerd.store.postgres.roles import prepare
from tests.tools.postgres import server
from tests.tools.postgres.server import NONE, Server, Version

VARIABLE: Final = "PARLER_POSTGRES"
OWNER: Final = "parler_owner"
"""The role that owns what is in a test's database."""
RELAY: Final = "parler"
"""The role of a relay, which owns nothing."""
_MISSING: Final = "no PostgreSQL 15 or newer is installed here: python -m tests.tools.postgres install"
_LEFT_OUT: Final = f"PostgreSQL is left out ({VARIABLE}=0)"


def majors() -> list[Version | None]:
    """The versions with which a test of the store runs, the oldest and the newest; None alone where it runs with
    none."""
    found = [] if os.environ.get(VARIABLE) == "0" else server.versions()
    return [found[0], found[-1]] if len(found) > 1 else [*found] or [None]


def go_without(reason: str) -> NoReturn:
    """Skip this test, or fail it where nothing may be left out."""
    if os.environ.get(VARIABLE) == "required":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def told(skipped: Sequence[object]) -> list[str]:
    """How many tests went without, for each reason: one line each, of what pytest keeps of those that were skipped."""
    counts = [(reason, sum(reason in str(each) for each in skipped)) for reason in (_MISSING, _LEFT_OUT)]
    return [f"{count} tests with PostgreSQL did not run: {reason}" for reason, count in counts if count]


@dataclass(frozen=True)
class Database:
    """A database of one test, and how each role gets to it."""

    name: str
    server: Server

    @property
    def owner(self) -> str:
        return self.server.url(self.name, OWNER)

    @property
    def relay(self) -> str:
        return self.server.url(self.name, RELAY)

    @property
    def superuser(self) -> str:
        return self.server.url(self.name)


@dataclass
class Postgres:
    """A server that runs, with the two roles."""

    server: Server
    _made: int = 0
    _templates: dict[Callable[[Database], None], str] = field(default_factory=dict)

    @contextmanager
    def database(self, prepare: Callable[[Database], None] | None = None) -> Iterator[Database]:
        """A database that is `OWNER`'s, until the context ends. It is empty, or as `prepare` leaves an empty one, which
        is called once for each server."""
        template = None if prepare is None else self._templates.get(prepare)
        if prepare is not None and template is None:
            template = self._create(None)
            prepare(Database(template, self.server))
            self._templates[prepare] = template
        name = self._create(template)
        try:
            yield Database(name, self.server)
        finally:
            self.run("DROP DATABASE {} WITH (FORCE)", name)

    def run(self, statement: LiteralString, *names: str) -> None:
        """Run one statement as the superuser, outside of any database of a test."""
        with closing(psycopg.connect(self.server.url(), autocommit=True)) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _create(self, template: str | None) -> str:
        self._made += 1
        name = f"test_{self._made}"
        self.run("CREATE DATABASE {} OWNER {} TEMPLATE {}", name, OWNER, template or "template1")
        return name


@contextmanager
def serving(
    version: Version | None, *, on_disk: bool = False, settings: Mapping[str, str] = NONE
) -> Iterator[Postgres]:
    """A server of this version with the two roles, until the context ends."""
    if version is None:
        go_without(_LEFT_OUT if os.environ.get(VARIABLE) == "0" else _MISSING)
    with server.throwaway(version, on_disk=on_disk, settings=settings) as running:
        made = Postgres(running)
        for role in (OWNER, RELAY):
            made.run("CREATE ROLE {} LOGIN", role)
        yield made


@cache
def shared() -> Postgres:
    """A server that everybody in this process shares who needs one outside of a fixture, of the newest version that is
    installed. It ends with the process."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(serving(majors()[-1]))


def with_tables(database: Database) -> None:
    """Make the tables of a store, which a relay may use, for `Postgres.database`."""
    prepare(database.owner, RELAY)
