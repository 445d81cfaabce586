"""The calls that change files: each on a real file system, and what happens where a system lacks one."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from configs.disk import DISK, Disk, locked, make_private


@pytest.fixture
def without_renameat2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.disk._renameat2", lambda one, other, flags: False)


class Impatient(Disk):
    """Counts how long it was made to wait."""

    def __init__(self) -> None:
        self.waited = 0.0

    def pause(self, seconds: float) -> None:
        self.waited += seconds


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
def test_two_files_swap_their_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    assert DISK.exchange(one, other)
    assert (one.read_text(), other.read_text()) == ("2", "1")


@pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")
def test_a_swap_with_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    with pytest.raises(FileNotFoundError):
        DISK.exchange(tmp_path / "one", tmp_path / "other")


@pytest.mark.usefixtures("without_renameat2")
def test_a_system_that_cannot_swap_says_so_and_changes_nothing(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    assert not DISK.exchange(one, other)
    assert (one.read_text(), other.read_text()) == ("1", "2")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_the_call_is_no_error(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("configs.disk.sys.platform", "linux")
    monkeypatch.setattr("ctypes.get_errno", lambda: code)
    assert not DISK.exchange(tmp_path / "missing", tmp_path / "missing too")


def test_a_move_to_a_free_name_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    DISK.move(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_move_never_takes_a_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "b").write_text("theirs")
    with pytest.raises(FileExistsError):
        DISK.move(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "theirs"


@pytest.mark.usefixtures("without_renameat2")
def test_without_the_call_a_move_is_a_link_and_still_takes_no_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    (tmp_path / "b").write_text("theirs")
    with pytest.raises(FileExistsError):
        DISK.move(tmp_path / "a", tmp_path / "b")
    DISK.move(tmp_path / "a", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


@pytest.mark.usefixtures("without_renameat2")
def test_without_links_a_move_looks_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("configs.disk.os.link", no_links)
    (tmp_path / "a").write_text("mine")
    (tmp_path / "b").write_text("theirs")
    with pytest.raises(FileExistsError):
        DISK.move(tmp_path / "a", tmp_path / "b")
    DISK.move(tmp_path / "a", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_reading_follows_no_link_and_waits_for_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="symbolic links"):
        DISK.read(tmp_path / "link", 10)
    with pytest.raises(OSError, match="regular"):
        DISK.read(tmp_path / "pipe", 10)
    assert DISK.read(tmp_path / "missing", 10) is None
    assert DISK.read(tmp_path / "file" / "below", 10) is None


def test_reading_stops_above_the_limit(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    found = DISK.read(tmp_path / "file", 5)
    assert found is not None
    assert found.data == b"12345"
    with pytest.raises(OSError, match="large"):
        DISK.read(tmp_path / "file", 4)


def test_a_new_file_is_made_only_where_there_is_none(tmp_path: Path) -> None:
    descriptor = DISK.create(tmp_path / "a", 0o600)
    DISK.write(descriptor, b"x" * 100_000)
    DISK.sync(descriptor)
    os.close(descriptor)
    assert (tmp_path / "a").stat().st_size == 100_000
    with pytest.raises(FileExistsError):
        DISK.create(tmp_path / "a", 0o600)


def test_a_file_takes_on_mode_and_attributes_of_another(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.touch()
    old.chmod(0o640)
    has_attributes = True
    try:
        os.setxattr(old, "user.note", b"kept")
    except OSError:
        has_attributes = False
    descriptor = DISK.create(tmp_path / "new", 0o600)
    DISK.dress(descriptor, old, old.stat())
    os.close(descriptor)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    if has_attributes:
        assert os.getxattr(tmp_path / "new", "user.note") == b"kept"


def test_a_folder_with_something_in_it_is_not_removed(tmp_path: Path) -> None:
    DISK.make_folder(tmp_path / "a")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    (tmp_path / "a" / "theirs").touch()
    DISK.remove_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()
    (tmp_path / "a" / "theirs").unlink()
    DISK.remove_folder(tmp_path / "a")
    DISK.remove_folder(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_what_is_gone_need_not_be_removed(tmp_path: Path) -> None:
    DISK.unlink(tmp_path / "missing")
    assert DISK.about(tmp_path / "missing") is None


def test_private_folders_are_private_from_the_root_down(tmp_path: Path) -> None:
    made = make_private(tmp_path / "deep" / "home", "connect", "locks")
    assert made == tmp_path / "deep" / "home" / "connect" / "locks"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (made, made.parent, made.parent.parent)} == {0o700}


def test_a_lock_waits_for_its_holder_and_no_longer_than_it_may(tmp_path: Path) -> None:
    disk = Impatient()
    with (
        locked(tmp_path / "lock", wait_s=1, disk=disk),
        pytest.raises(TimeoutError),
        locked(tmp_path / "lock", wait_s=1, disk=disk),
    ):
        pytest.fail("two hold it")
    assert 1 <= disk.waited < 1.2
    with locked(tmp_path / "lock", wait_s=0, disk=disk):
        pass


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    hold = (
        "import os, sys; from pathlib import Path; from configs.disk import locked\n"
        "with locked(Path(sys.argv[1]), wait_s=0): os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", hold, str(tmp_path / "lock")], timeout=60)
    assert killed.returncode == -9
    with locked(tmp_path / "lock", wait_s=0):
        pass
