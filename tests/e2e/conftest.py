"""What the tests with real processes share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import processes
from tests.support.processes import Somebody


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> Iterator[Somebody]:
    """Somebody with an empty HOME; whatever they started is ended with the test."""
    with processes.somebody(monkeypatch) as one:
        yield one
