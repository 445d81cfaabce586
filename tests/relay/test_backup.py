"""A backup of a relay: everything in one private file, whole or not there, and never over another file."""

from __future__ import annotations

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from parlerd.core.errors import ParlerError
from parlerd.paths import Home, prepare
from parlerd.store.sqlite import SqliteStore
from relay.backup import back_up, forget_unfinished


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "relay", explicit=True)
    prepare(found)
    (found.keys / "relay.seed").write_text("seed")
    (found.root / "service.json").write_text("{}")
    return found


def test_a_backup_holds_the_store_as_it_is_and_what_cannot_be_made_again(home: Home, tmp_path: Path) -> None:
    store = SqliteStore(home.database, backups=home.backups)
    try:
        size = back_up(home, store.copy, tmp_path / "b.tar")
    finally:
        store.close()
    assert size == (tmp_path / "b.tar").stat().st_size
    assert (tmp_path / "b.tar").stat().st_mode & 0o777 == 0o600
    with tarfile.open(tmp_path / "b.tar") as archive:
        assert {member.name for member in archive if member.isfile()} == {
            "parler.db",
            "keys/relay.seed",
        }
        archive.extractall(tmp_path / "out", filter="data")
    with closing(sqlite3.connect(tmp_path / "out/parler.db")) as copied:
        assert copied.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copied.execute("SELECT count(*) FROM sqlite_schema").fetchone() > (5,)
    assert sorted(path.name for path in home.root.iterdir() if path.name.startswith("backup-")) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "out", "relay"]


def test_a_backup_holds_the_files_of_the_rooms_and_no_unfinished_upload(home: Home, tmp_path: Path) -> None:
    shelf = home.blobs / "ab"
    shelf.mkdir(mode=0o700)
    (shelf / ("ab" * 32)).write_bytes(b"file")
    (shelf / f"{'ab' * 32}.U").write_bytes(b"")
    (shelf / f"{'ab' * 32}.U.part").write_bytes(b"half")
    back_up(home, no_copy, tmp_path / "b.tar")
    with tarfile.open(tmp_path / "b.tar") as archive:
        folders = {member.name: member.mode for member in archive if member.isdir() and "blobs" in member.name}
        archive.extractall(tmp_path / "out", filter="data")
    found = {path.name: path for path in (tmp_path / "out" / "blobs").rglob("*") if path.is_file()}
    assert set(found) == {"ab" * 32, f"{'ab' * 32}.U"}
    assert found["ab" * 32].read_bytes() == b"file"
    assert folders == {"blobs": 0o700, "blobs/ab": 0o700}


def no_copy(path: Path) -> None:
    path.write_bytes(b"")


def test_a_file_that_is_there_is_never_replaced(home: Home, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_text("mine")
    with pytest.raises(ParlerError) as refused:
        back_up(home, no_copy, tmp_path / "b.tar")
    assert refused.value.code == "invalid_param"
    assert (tmp_path / "b.tar").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.tar", "relay"]


def test_a_place_that_cannot_be_written_and_a_path_that_is_relative_are_said(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ParlerError) as failed:
        back_up(home, no_copy, tmp_path / "nowhere" / "b.tar")
    assert failed.value.code == "home_not_writable"
    with pytest.raises(ParlerError) as failed:
        back_up(home, no_copy, Path("b.tar"))
    assert failed.value.code == "invalid_param"


def test_half_a_backup_is_not_left(home: Home, tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ParlerError, match="No space left"):
        back_up(home, full, tmp_path / "b.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["relay"]


def test_what_a_killed_relay_left_stands_in_the_way_of_nothing_and_is_removed(home: Home, tmp_path: Path) -> None:
    def killed(path: Path) -> None:
        path.write_bytes(b"half of it")
        raise KeyboardInterrupt

    left = home.root / "backup-left"
    left.mkdir()
    (left / "parler.db").write_text("half of it")
    (tmp_path / ".b.tar.new").write_text("half of it")
    with pytest.raises(KeyboardInterrupt):
        back_up(home, killed, tmp_path / "b.tar")
    back_up(home, no_copy, tmp_path / "b.tar")
    forget_unfinished(home)
    assert not left.exists()
    assert (home.keys / "relay.seed").exists()


def test_a_folder_that_is_not_there_is_said_with_advice_about_the_folder(home: Home, tmp_path: Path) -> None:
    with pytest.raises(ParlerError) as refused:
        back_up(home, no_copy, tmp_path / "nowhere" / "b.tar")
    assert refused.value.code == "home_not_writable"
    assert "folder that is there" in refused.value.hint
