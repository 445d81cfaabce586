"""Settings of the test run that every folder shares, and the check that operations do what the registry says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.support import truth

if TYPE_CHECKING:  # most tests need no database, and its driver takes a tenth of a second
    from tests.support.postgres import Database, Postgres

# A property is tried, not timed: a machine that is busy for a moment is not a failure.
settings.register_profile("parler", deadline=None)
settings.load_profile("parler")

# What is started here inherits these. In the background of a shell, Ctrl-C ends nobody; a terminal without a name draws
# nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["TERM"] = "xterm-256color"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--declared", action="store_true", help="end with what operations declare and no test led to")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "postgres" in metafunc.fixturenames:
        from tests.support.postgres import majors

        # The store is tried with each version; what is above the store meets the same store.
        found = majors() if _is_about_the_store(metafunc.definition.path) else majors()[:1]
        ids = [f"postgres-{version.major if version else 'missing'}" for version in found]
        metafunc.parametrize("postgres", found, indirect=True, scope="session", ids=ids)


def _is_about_the_store(file: Path) -> bool:
    return "store" in file.parts or file.name == "test_store.py" or "tools" in file.parts


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    """A PostgreSQL server of this process, for each version that is installed."""
    from tests.support.postgres import serving

    with serving(request.param) as running:
        yield running


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    """An empty database of this test."""
    with postgres.database() as made:
        yield made


@pytest.fixture(autouse=True)
def _the_registry_tells_the_truth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with truth.watching(monkeypatch) as seen:
        yield
    assert seen.lies() == [], "declare it in the operation's entry (parlerd/operations/families)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if skipped := [report.longrepr for report in terminalreporter.getreports("skipped")]:
        from tests.support.postgres import told

        for line in told(skipped):
            terminalreporter.write_line(line)
    if config.getoption("--declared"):
        terminalreporter.section("declared, and no test led to it")
        terminalreporter.write_line("\n".join(truth.unseen()) or "nothing")
