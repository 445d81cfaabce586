"""The hosts whose entries are put back: remembered, forgotten, and private."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from configs.disk import Disk
from configs.keep import forget, kept, remember
from parlerd.core.errors import ParlerError
from parlerd.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_nothing_is_kept_before_somebody_says_so_and_asking_creates_nothing(home: Home) -> None:
    assert kept(home) == frozenset()
    forget(home, {"codex"})
    assert not home.root.exists()


def test_what_is_remembered_adds_up_and_is_forgotten_one_by_one(home: Home) -> None:
    remember(home, {"codex", "zed"})
    remember(home, {"gemini"})
    assert kept(home) == {"codex", "gemini", "zed"}
    forget(home, {"codex", "cursor"})
    assert kept(home) == {"gemini", "zed"}


def test_only_the_person_can_read_it(home: Home) -> None:
    remember(home, {"codex"})
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.connect.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(home.connect.stat().st_mode) == 0o700


def test_a_choice_that_cannot_be_read_keeps_nothing(home: Home) -> None:
    remember(home, {"codex"})
    (home.connect / "keep").write_bytes(b"\xff\xfe")
    assert kept(home) == frozenset()


def test_a_home_that_cannot_be_written_is_an_error_with_a_code(home: Home) -> None:
    home.root.write_text("a file where the home should be")
    with pytest.raises(ParlerError) as caught:
        remember(home, {"codex"})
    assert caught.value.code == "home_not_writable"


def test_a_writer_that_never_lets_go_is_not_waited_for_without_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(home, {"codex"})
    monkeypatch.setattr(Disk, "pause", lambda self, seconds: None)
    descriptor = os.open(home.connect / "keep.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(ParlerError, match="home_not_writable"):
            remember(home, {"zed"})
    finally:
        os.close(descriptor)
    assert kept(home) == {"codex"}
