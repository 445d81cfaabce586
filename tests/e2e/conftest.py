"""What the tests with real processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import processes
from tests.support.processes import Somebody
from tests.support.team import Team, people


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    """Somebody with an empty HOME; whatever they started is ended with the test."""
    with processes.somebody(monkeypatch) as one:
        yield one


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """Three people with empty HOMEs, the first of whom runs a relay."""
    with people(monkeypatch) as team:
        yield team
