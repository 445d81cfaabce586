"""What several tests of commands begin with."""

from __future__ import annotations

import pytest

from configs.drift import Drift


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> list[Drift]:
    """What commands find changed in the settings of hosts: what a test puts into this list."""
    found: list[Drift] = []
    monkeypatch.setattr("configs.drift.drift", lambda _place: found)
    return found
