"""What a daemon keeps to that an agent's process starts, whatever the settings file says by then."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd.floor import held
from parlerd.paths import Home
from parlerd.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.root.mkdir()
    return home


def test_a_daemon_that_an_agent_starts_serves_no_weaker_policy_than_the_last_one(home: Home) -> None:
    """Security spec A1. The person's own start takes the file as it is."""
    strict, weak = Settings(approval_minimum="terminal"), Settings(approval_default=False, key_max_uses=7)
    assert held(home, strict, below_agent=True) == strict
    kept = held(home, weak, below_agent=True)
    assert (kept.approval_default, kept.approval_minimum, kept.key_max_uses) == (True, "terminal", 7)
    assert home.floor.stat().st_mode & 0o777 == 0o600
    assert held(home, weak, below_agent=False) == weak
    assert held(home, weak, below_agent=True) == weak


def test_what_was_served_last_and_cannot_be_read_holds_nobody_back(home: Home) -> None:
    for damaged in (b"", b"{", b'{"default":1}', b"\xff"):
        home.floor.write_bytes(damaged)
        assert held(home, Settings(approval_default=False), below_agent=True) == Settings(approval_default=False)
    home.floor.unlink()
    home.floor.symlink_to(home.root / "elsewhere")
    assert held(home, Settings(), below_agent=True) == Settings()
    assert not (home.root / "elsewhere").exists()
