"""The hosts whose records the person lets Parler watch."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from configs.hosts import HOSTS
from configs.keep import kept, remember
from configs.sight import EXPLANATION, allow, can_be_watched, forget, watched
from parlerd.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_nothing_is_watched_before_the_person_says_so_and_each_host_can_be_taken_out(home: Home) -> None:
    assert watched(home) == frozenset()
    forget(home, {"codex"})
    assert not home.root.exists()
    allow(home, {"codex", "claude-code"})
    forget(home, {"codex"})
    assert watched(home) == {"claude-code"}
    assert stat.S_IMODE((home.connect / "sight").stat().st_mode) == 0o600


def test_it_is_another_choice_than_that_of_entries_to_put_back(home: Home) -> None:
    remember(home, {"codex"})
    assert watched(home) == frozenset()
    allow(home, {"claude-code"})
    assert kept(home) == {"codex"}


def test_a_choice_that_cannot_be_read_watches_nothing(home: Home) -> None:
    allow(home, {"codex"})
    (home.connect / "sight").write_bytes(b"\xff\xfe")
    assert watched(home) == frozenset()


def test_only_hosts_that_were_measured_can_be_watched() -> None:
    assert {host.id for host in can_be_watched(HOSTS)} == {host.id for host in HOSTS if host.sight is not None}
    assert can_be_watched(HOSTS)


def test_a_person_is_told_what_the_files_hold_and_what_is_kept() -> None:
    said = " ".join(EXPLANATION)
    for words in ("your prompts", "no text and no path", "the author of a message is told"):
        assert words in said
