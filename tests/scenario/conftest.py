"""The homes that every scenario runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import FarDriver
from tests.support.homes import FileHome, Home, MemoryHome, RelayedHome


@pytest.fixture(params=["memory", "sqlite", "far", "relay", "two homes"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home nobody has used."""
    match request.param:
        case "memory":
            return MemoryHome()
        case "far":
            return MemoryHome(FarDriver)
        case "relay":
            return RelayedHome(tmp_path)
        case "two homes":
            return RelayedHome(tmp_path, homes=2)
        case _:
            return FileHome(tmp_path)
