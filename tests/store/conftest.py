"""A folder, a store in it, and raw SQL on its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from parlerd.store.sqlite import SqliteStore

Raw = Callable[..., list[tuple[object, ...]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "parler.db"


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def store(path: Path, backups: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path, backups=backups)
    yield made
    made.close()


@pytest.fixture
def raw(path: Path) -> Raw:
    """Runs one statement on the file behind the store's back."""

    def run(sql: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(sql, parameters).fetchall()

    return run
