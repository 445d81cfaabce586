"""The files that the daemon's watcher looks at: what it leans on holds of a real home and of the one by hand.

Codex is installed; a test connects it, loses its entry as an editor would, and has it put back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from configs.connect import connect
from configs.disk import Disk
from configs.hosts import find_host
from configs.keep import remember
from configs.patch import SETTLE_S
from configs.watch import Files, HostFiles
from tests.support.hand_files import HandFiles
from tests.support.person import Person

CODEX = find_host("codex")


@dataclass
class Kept:
    """Files, and what happens to them."""

    files: Files
    settings: Path
    """Where Codex keeps its settings."""
    connects: Callable[[], object]
    loses: Callable[[], object]
    """Codex is connected, and loses its entry."""
    keeps: Callable[[], object]


def by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    files = HandFiles(tmp_path)
    return Kept(
        files,
        tmp_path / "codex" / "settings",
        lambda: files.connect("codex"),
        lambda: files.lost.update(codex="lost"),
        lambda: files.keeping.add("codex"),
    )


def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    ann = Person(tmp_path)
    monkeypatch.setenv("HOME", str(ann.home))
    monkeypatch.setenv("PATH", ann.env["PATH"])
    pause = Disk.pause
    monkeypatch.setattr(Disk, "pause", lambda self, seconds: None if seconds == SETTLE_S else pause(self, seconds))
    settings = ann.write(".codex/config.toml", "")
    return Kept(
        HostFiles(ann.parler),
        settings,
        # The daemon looks with its own interpreter.
        lambda: list(connect(replace(ann.place, python=sys.executable), [CODEX], chosen=True)),
        lambda: ann.write(".codex/config.toml", ""),
        lambda: remember(ann.parler, ["codex"]),
    )


@pytest.fixture(params=[by_hand, real])
def kept(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    made: Kept = request.param(tmp_path, monkeypatch)
    return made


def test_where_nothing_is_connected_nothing_is_watched_or_lost(kept: Kept) -> None:
    assert not kept.files.is_connected()
    assert kept.files.paths() == []
    assert kept.files.drift() == []
    assert kept.files.newcomers() == []


def test_the_file_of_a_host_that_is_connected_is_watched_and_the_ledger_with_it(kept: Kept) -> None:
    kept.connects()
    assert kept.files.is_connected()
    assert [path.name for path in kept.files.paths()] == [kept.settings.name, "ledger.json"]
    assert kept.settings in kept.files.paths()
    assert kept.files.drift() == []


def test_an_entry_that_is_gone_is_lost_from_its_file_until_it_is_put_back(kept: Kept) -> None:
    kept.connects()
    kept.loses()
    (lost,) = kept.files.drift()
    assert (lost.host.id, lost.kind, lost.path) == ("codex", "lost", kept.settings)
    put = kept.files.put_back(lost)
    assert (put.host.id, put.path, put.status) == ("codex", kept.settings, "added")
    assert kept.files.drift() == []


def test_the_hosts_whose_entries_are_put_back_are_those_that_somebody_chose(kept: Kept) -> None:
    kept.connects()
    assert kept.files.kept() == frozenset()
    kept.keeps()
    assert kept.files.kept() == {"codex"}
