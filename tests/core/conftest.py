"""What several tests of the core begin with."""

from __future__ import annotations

import pytest

from tests.support.core import BEN, OWNER, HomeDriver


@pytest.fixture
def home() -> HomeDriver:
    """A home with two agents in one workspace."""
    home = HomeDriver()
    home.create(OWNER, host="claude-code", workspace="/w/a")
    home.create(BEN, host="codex", workspace="/w/a", slot=1)
    return home
