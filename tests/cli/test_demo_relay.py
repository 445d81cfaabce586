"""The demo's throw-away relay: it comes back at its address as the same one, and ends with its directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from parlerd import process
from parlerd.cli.demo_relay import DemoRelay
from parlerd.core.errors import ParlerError


def test_a_relay_that_was_killed_comes_back_as_the_same_one_and_leaves_nothing(tmp_path: Path) -> None:
    relay = DemoRelay(tmp_path)
    try:
        first = relay.start()
        assert first.join_line.startswith("wss://127.0.0.1:")
        secret = relay.secret()
        relay.kill()
        assert not process.is_alive(first.pid)
        again = relay.start()
        assert again.pid != first.pid
        assert (again.join_line, relay.secret()) == (first.join_line, secret)
    finally:
        relay.end(keep=False)
    assert not process.is_alive(again.pid)
    assert list(tmp_path.iterdir()) == []


def test_a_relay_that_cannot_serve_says_why_and_can_be_ended(tmp_path: Path) -> None:
    relay = DemoRelay(tmp_path)
    relay.home.root.mkdir(mode=0o700, parents=True)
    relay.home.root.parent.chmod(0o700)
    relay.home.settings.write_text('[relay]\nlinks = "many"\n')
    with pytest.raises(ParlerError) as refused:
        relay.start()
    assert refused.value.code == "invalid_settings"
    relay.end(keep=True)
    assert relay.home.log.exists()
