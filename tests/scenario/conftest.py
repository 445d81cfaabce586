"""The homes that every scenario runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.support.engine import FarDriver
from tests.support.homes import Home, MemoryHome, RelayedHome, database_home, file_home
from tests.support.postgres import Postgres, majors, serving, with_tables
from tests.tools.postgres.server import Version

KINDS: Final = ("memory", "sqlite", "far", "relay", "two homes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "home" in metafunc.fixturenames and not _says_which(metafunc):
        servers = majors()
        ids = [f"postgres-{version.major if version else 'missing'}" for version in servers]
        metafunc.parametrize("home", [*KINDS, *servers], indirect=True, ids=[*KINDS, *ids])


def _says_which(metafunc: pytest.Metafunc) -> bool:
    """Whether a test is for certain homes alone."""
    marks = metafunc.definition.iter_markers("parametrize")
    return any("home" in str(mark.args[0]).split(",") for mark in marks)


@pytest.fixture(scope="session")
def server() -> Iterator[Callable[[Version | None], Postgres]]:
    """The PostgreSQL server of this process of each version, started when it is first asked for."""
    running: dict[Version | None, Postgres] = {}
    with ExitStack() as stack:

        def of(version: Version | None) -> Postgres:
            if version not in running:
                running[version] = stack.enter_context(serving(version))
            return running[version]

        yield of


@pytest.fixture
def home(
    request: pytest.FixtureRequest, tmp_path: Path, server: Callable[[Version | None], Postgres]
) -> Iterator[Home]:
    """A home nobody has used."""
    match request.param:
        case "memory":
            yield MemoryHome()
        case "far":
            yield MemoryHome(FarDriver)
        case "relay":
            yield RelayedHome(tmp_path)
        case "two homes":
            yield RelayedHome(tmp_path, homes=2)
        case "sqlite":
            yield file_home(tmp_path)
        case version:
            with server(version).database(with_tables) as database:
                yield database_home(tmp_path, database.relay)
