"""Files below one folder, and nowhere else."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from parlerd import beneath


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "sub").mkdir(parents=True)
    (tmp_path / "root" / "sub" / "file").write_bytes(b"inside")
    (tmp_path / "outside").write_bytes(b"outside")
    return tmp_path / "root"


def read(root: Path, path: bytes) -> bytes:
    with beneath.folder(root) as top:
        descriptor = beneath.open_regular(top, path)
    with open(descriptor, "rb") as file:
        return file.read()


def test_a_file_below_the_folder_is_opened(root: Path) -> None:
    assert read(root, b"sub/file") == b"inside"
    assert read(root, b"./sub//file") == b"inside"


@pytest.mark.parametrize("path", [b"", b".", b"/etc/passwd", b"../outside", b"sub/../../outside", b"sub/..", b"a\0b"])
def test_a_path_that_leaves_the_folder_is_no_path(root: Path, path: bytes) -> None:
    with pytest.raises(ValueError, match="below a folder"):
        read(root, path)


def test_no_link_is_followed_wherever_it_stands(root: Path) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "way").symlink_to(root.parent)
    (root / "inner").symlink_to(root / "sub")
    for path in (b"link", b"way/outside", b"inner/file"):
        with pytest.raises(OSError, match=r".*"):
            read(root, path)
    (root.parent / "alias").symlink_to(root)
    with pytest.raises(OSError, match=r".*"), beneath.folder(root.parent / "alias"):
        pass


def test_what_is_no_regular_file_is_not_opened_and_holds_nobody_up(root: Path) -> None:
    os.mkfifo(root / "pipe")
    for path in (b"pipe", b"sub"):
        with pytest.raises(OSError, match=r".*"):
            read(root, path)


def test_no_descriptor_stays_open(root: Path) -> None:
    gc.collect()  # what other tests left in cycles is not closed in between
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for path in (b"sub/file", b"sub/missing", b"missing/file", b"sub"):
        with pytest.raises(OSError, match=r".*") if path != b"sub/file" else beneath.folder(root):
            read(root, path)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before
