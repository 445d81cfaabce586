"""The homes that every scenario runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import FarDriver
from tests.support.homes import FileHome, Home, MemoryHome


@pytest.fixture(params=["memory", "sqlite", "far"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home nobody has used."""
    match request.param:
        case "memory":
            return MemoryHome()
        case "far":
            return MemoryHome(FarDriver)
        case _:
            return FileHome(tmp_path)
