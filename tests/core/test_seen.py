"""How present an agent is where nobody says it."""

from __future__ import annotations

from parlerd.core.model import Millis
from parlerd.core.seen import NOBODY_SEEN, SeenAgent
from tests.support.core import BEN, OWNER


def test_whom_nobody_sees_is_offline_waits_for_nothing_and_was_never_there() -> None:
    assert [NOBODY_SEEN.of(who.id) for who in (BEN, OWNER)] == [SeenAgent("offline", None, Millis(0))] * 2
