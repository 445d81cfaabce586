"""The homes that every scenario runs in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.engine import FarDriver
from tests.support.homes import FileHome, Home, MemoryHome, RelayedHome

RELAYED = ("relay", "two homes")
NOT_RELAYED = {
    "test_two_agents_share_a_session_from_one_key_with_a_persons_approval": (
        "`message.why` does not know yet what readers of other homes have read"
    ),
}
"""Stories that do not hold to the last line where agents have homes of their own, and why."""


@pytest.fixture(params=["memory", "sqlite", "far", "relay", "two homes"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """A home nobody has used."""
    if request.param in RELAYED and request.function.__name__ in NOT_RELAYED:
        request.applymarker(pytest.mark.xfail(strict=True, reason=NOT_RELAYED[request.function.__name__]))
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
