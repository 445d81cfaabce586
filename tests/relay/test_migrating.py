"""The tables of a relay's database, made by their owner, and the relay's program that does so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.store.postgres import PostgresStore
from relay import migrating
from tests.support.postgres import OWNER, RELAY, Database


def test_the_owner_makes_the_tables_once_and_the_relays_role_opens_them(database: Database) -> None:
    with pytest.raises(ParlerError):
        PostgresStore(database.relay)
    for _ in range(2):
        migrating.migrate(database.owner, RELAY)
        PostgresStore(database.relay).close()


def test_a_role_that_would_own_what_it_uses_is_refused_and_so_is_what_is_no_url(database: Database) -> None:
    with pytest.raises(ParlerError) as error:
        migrating.migrate(database.owner, OWNER)
    assert error.value.code == "invalid_settings"
    with pytest.raises(ParlerError) as error:
        migrating.migrate("mysql://db/parler", RELAY)
    assert error.value.code == "invalid_param"


@pytest.mark.e2e
def test_the_program_takes_the_url_from_its_stdin_and_says_a_failure_in_its_last_line(
    database: Database, tmp_path: Path
) -> None:
    def run(url: str, role: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-m", "_parler", "relay", "--home", str(tmp_path / "home"), "--migrate", role],
            input=url,
            capture_output=True,
            text=True,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            cwd="/",
            check=False,
        )

    done = run(database.owner, RELAY)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    failed = run(database.owner, "nobody_of_this_name")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("relay: invalid_settings: ")
    assert not (tmp_path / "home").exists()
