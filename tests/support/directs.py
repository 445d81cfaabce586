"""Direct rooms on a relay that it can read, as earlier versions opened them: rooms that exist stay as they are.

Verified by `tests/uplink/test_sealed_directs.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from parlerd.engine import admitting, pair_rooms


@contextmanager
def of_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a while both ends open direct rooms as an earlier version does."""
    with monkeypatch.context() as patched:
        patched.setattr(pair_rooms, "is_to_be_sealed", lambda desk, home: False)
        patched.setattr(admitting, "require_sealed", lambda command: None)
        yield
