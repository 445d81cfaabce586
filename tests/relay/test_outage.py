"""What fails for a while is logged when it begins and when it ends, however often it is asked meanwhile."""

from __future__ import annotations

import logging

import pytest

from parlerd.core.errors import StoreError
from relay.outage import Outage


def test_each_outage_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    outage, other = Outage("who lives"), Outage("who is where")
    with caplog.at_level(logging.INFO, "relay"):
        outage.answered()
        for code in ("store_unreachable", "store_failed"):
            for _ in range(3):
                outage.failed(StoreError(code))
            other.failed(StoreError(code))
            for _ in range(3):
                outage.answered()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "who lives is not known now: store_unreachable"),
        ("WARNING", "who is where is not known now: store_unreachable"),
        ("INFO", "who lives is known again"),
        ("WARNING", "who lives is not known now: store_failed"),
        ("INFO", "who lives is known again"),
    ]
