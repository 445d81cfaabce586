"""The invariants as pgTAP sees them: the file is run by a real server, and what it prints is read."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from tests.store.postgres.tap import FILE, Result, read, script
from tests.support.postgres import Database, go_without
from tests.tools.postgres.installing import MAJOR


@pytest.fixture
def tapped(stored: Database) -> Database:
    """A database with pgTAP in a schema of its own."""
    library = stored.server.version.pgtap
    if library is None:
        reason = "pgTAP is not installed here: python -m tests.tools.postgres install"
        # Where nothing may be left out, it is there for the version that Debian has.
        if stored.server.version.major == MAJOR:
            go_without(reason)
        pytest.skip(reason)
    with closing(psycopg.connect(stored.superuser, autocommit=True)) as connection:
        connection.execute("CREATE SCHEMA tap; SET search_path = tap")
        connection.execute(library.read_bytes())
        connection.execute("GRANT USAGE ON SCHEMA tap TO PUBLIC")
    return stored


def _run(database: Database) -> list[Result]:
    """What the assertions of the file say."""
    printed: list[str] = []
    with closing(psycopg.connect(database.superuser, autocommit=True)) as connection:
        cursor = connection.execute(FILE.read_bytes())
        while True:
            if cursor.description is not None:
                printed += [str(row[0]) for row in cursor.fetchall()]
            if not cursor.nextset():
                return read("\n".join(printed))


def test_every_assertion_holds(tapped: Database) -> None:
    results = _run(tapped)
    assert len(results) > 300
    assert [result.name for result in results if not result.held] == []


@pytest.mark.parametrize(
    ("table", "trigger", "fails"),
    [
        ("facts", "facts_never_change", ["a fact is never changed", "nor by an upsert"]),
        ("cursors", "cursors_never_go_back", ["nobody's cursor goes back", "nor what was delivered to it"]),
        ("erased_bodies", "erased_bodies_stay_while_their_room_does", ["the mark of an erased body stays"]),
    ],
)
def test_an_assertion_whose_trigger_is_gone_fails(table: str, trigger: str, fails: list[str], tapped: Database) -> None:
    with closing(psycopg.connect(tapped.owner, autocommit=True)) as connection:
        connection.execute(sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), sql.Identifier(table)))
    failed = {result.name for result in _run(tapped) if not result.held}
    assert {f"{table} has the trigger {trigger}", *fails} <= failed


def test_a_right_too_much_fails(tapped: Database) -> None:
    with closing(psycopg.connect(tapped.owner, autocommit=True)) as connection:
        connection.execute("GRANT DELETE ON bodies TO parler")
    failed = [result.name for result in _run(tapped) if not result.held]
    assert failed == ["a relay has SELECT, INSERT on bodies", "a body goes only with its mark"]


def test_the_file_is_made_of_the_list(stored: Database) -> None:
    assert FILE.read_text(encoding="utf-8") == script(stored), "run: python -m tests.store.postgres.tap"


@pytest.mark.parametrize(
    ("tap", "results"),
    [
        ("1..2\nok 1 - a\n# beside\nnot ok 2 - b\n", [Result(True, "a"), Result(False, "b")]),
        ("1..1\nok 1\n1..1\nok 1 - c", [Result(True, ""), Result(True, "c")]),
    ],
)
def test_tap_is_read(tap: str, results: list[Result]) -> None:
    assert read(tap) == results


@pytest.mark.parametrize("tap", ["1..2\nok 1 - a\n", "1..1\n1..1\nok 1", "1..1\nok 2 - a", "1..1\nok 1\nok 2"])
def test_a_plan_that_was_not_kept_is_noticed(tap: str) -> None:
    with pytest.raises(ValueError, match="were planned"):
        read(tap)
