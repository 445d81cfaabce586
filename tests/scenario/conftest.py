"""The homes that every scenario runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.homes import FileHome, Home, MemoryHome


@pytest.fixture(params=["memory", "sqlite"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home nobody has used."""
    return MemoryHome() if request.param == "memory" else FileHome(tmp_path)
