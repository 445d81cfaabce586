"""The demo's throw-away home: whatever serves it ends with it, and nothing else does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from parlerd import process
from parlerd.cli import demo_home
from parlerd.cli.demo_home import DemoHome

DEAF = "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


@contextmanager
def deaf(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers nobody and does not end when it is asked to."""
    command = [sys.executable, "-I", "-S", "-c", DEAF, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        started.stdout.readline()
        try:
            yield started
        finally:
            started.kill()


def test_a_process_is_found_by_a_whole_word_of_its_command_line(tmp_path: Path) -> None:
    word = str(tmp_path)
    with deaf("--home", word) as started:
        assert process.running_with(word) == [started.pid]
        assert process.running_with(word[:-1]) == []
    assert process.running_with(word) == []


def test_what_serves_the_home_and_does_not_answer_is_killed_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_home, "_STOP_SECONDS", 0.0)
    home = DemoHome(tmp_path)
    with deaf("--home", str(home.home.root)) as ours, deaf("--home", str(tmp_path)) as other:
        home.end(keep=False)
        assert ours.wait(60) == -9
        assert other.poll() is None
    assert list(tmp_path.iterdir()) == []


def test_a_home_with_a_path_that_is_too_long_for_a_socket_leaves_nothing_elsewhere(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 100)
    place.mkdir()
    home = DemoHome(place)
    elsewhere = home.home.socket.parent
    assert elsewhere != home.home.run
    try:
        home.start()
        assert home.home.socket.exists()
    finally:
        home.end(keep=False)
    assert list(place.iterdir()) == []
    assert not elsewhere.exists()


def test_a_home_that_is_kept_has_no_process_any_more(tmp_path: Path) -> None:
    home = DemoHome(tmp_path)
    pid = home.start()
    assert home.daemon() == pid
    home.end(keep=True)
    assert not process.is_alive(pid)
    assert home.daemon() == 0
    assert home.home.database.exists()
