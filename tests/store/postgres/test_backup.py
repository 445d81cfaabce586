"""A copy that the server's own tools made is the same store, with the same rules."""

from __future__ import annotations

import subprocess
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from parlerd.core.model import Position
from parlerd.store.postgres import PostgresStore
from tests.support.facts import ROOM, append, message, opened
from tests.support.postgres import OWNER, Database, Postgres, with_tables


def _tool(database: Database, name: str, *words: str | Path) -> None:
    subprocess.run([database.server.version.programs / name, *words], check=True, capture_output=True)


def test_a_dump_is_restored_with_what_was_stored_and_with_every_rule(postgres: Postgres, tmp_path: Path) -> None:
    dump = tmp_path / "parler.dump"
    with postgres.database(with_tables) as made, postgres.database() as empty:
        with closing(PostgresStore(made.relay)) as store:
            (outcome,) = store.transact([[append(opened(), message(2), message(3), own_lines=True)]])
            assert outcome.error is None
            head, facts = store.head(ROOM), store.whole_facts(ROOM, Position(0), 9)
        _tool(made, "pg_dump", "--format=custom", f"--file={dump}", made.owner)
        _tool(empty, "pg_restore", "--exit-on-error", f"--dbname={empty.superuser}", dump)
        with closing(PostgresStore(empty.relay)) as store:
            assert (store.head(ROOM), store.whole_facts(ROOM, Position(0), 9)) == (head, facts)
            assert (store.verify_chain(ROOM), store.first_unlined(ROOM), store.check()) == (None, None, [])
            (outcome,) = store.transact([[append(message(4))]])
            assert outcome.error is None
        with closing(psycopg.connect(empty.owner, autocommit=True)) as connection:
            with pytest.raises(psycopg.IntegrityError, match="a fact is never changed"):
                connection.execute("UPDATE facts SET at = 1")
            rules = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
            restored = connection.execute(rules).fetchone()
        with closing(psycopg.connect(made.owner)) as connection:
            assert connection.execute(rules).fetchone() == restored
            assert connection.execute(
                "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'facts'"
            ).fetchone() == (OWNER,)
