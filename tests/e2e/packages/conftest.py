"""What the tests of packages share: the packages, built once for all of them, and an empty machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.packaged import NEWER, Machine, built


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all processes of this run of tests share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture
def packages(shared: Path) -> Path:
    """Every package of this version."""
    return built(shared)


@pytest.fixture
def newer(shared: Path) -> Path:
    """Every package of a version to come, with another schema of the database."""
    return built(shared, NEWER)


@pytest.fixture
def machine(tmp_path: Path, shared: Path) -> Iterator[Machine]:
    """An empty machine. What was started on it ends with the test."""
    one = Machine(tmp_path, shared)
    yield one
    one.end()
