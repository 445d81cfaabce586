"""What several tests of settings files begin with."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.disk import Disk
from configs.patch import SETTLE_S
from tests.support.person import Person


@pytest.fixture
def ann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person at work in a home of her own. A file that a test just wrote is not given time to settle."""
    real = Disk.pause
    # A lock is waited for all the same.
    monkeypatch.setattr(Disk, "pause", lambda self, seconds: None if seconds == SETTLE_S else real(self, seconds))
    person = Person(tmp_path)
    monkeypatch.chdir(person.home)
    return person
