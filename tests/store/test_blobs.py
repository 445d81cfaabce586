"""Blobs on a disk: names, modes, and a disk that does not do what it should."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from parlerd.core.errors import StoreError
from parlerd.core.model import AgentId, BlobId, Millis
from parlerd.store.blobs import COUNTED_FOR_S, DiskBlobs

ANN = AgentId("U" + "A" * 55)
NOW = Millis(1_700_000_000_000)
DATA = b"x" * 5000
BLOB = BlobId(hashlib.sha256(DATA).hexdigest())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


def test_every_file_is_its_users_alone_whatever_the_umask(root: Path) -> None:
    before = os.umask(0)
    try:
        blobs = DiskBlobs(root)
        blobs.write(ANN, BLOB, 0, DATA, NOW)
        blobs.finish(ANN, BLOB, len(DATA), NOW)
        blobs.write(ANN, BlobId("00" * 32), 0, b"begun", NOW)
    finally:
        os.umask(before)
    found = [root, *root.rglob("*")]
    assert len(found) == 6
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_an_upload_goes_on_after_a_restart_and_is_compared_whole(root: Path) -> None:
    DiskBlobs(root).write(ANN, BLOB, 0, DATA[:1000], NOW)
    blobs = DiskBlobs(root)
    assert blobs.begin(ANN, BLOB, len(DATA)) == 1000
    blobs.write(ANN, BLOB, 1000, DATA[1000:], NOW)
    DiskBlobs(root).finish(ANN, BLOB, len(DATA), NOW)
    assert DiskBlobs(root).read(BLOB, 0, len(DATA)) == DATA
    assert DiskBlobs(root).used() == len(DATA)


def test_of_a_folder_that_several_relays_share_what_all_of_them_keep_counts_after_a_while(root: Path) -> None:
    clock = [0.0]
    one, other = (DiskBlobs(root, shared=True, now=lambda: clock[0]) for _ in range(2))
    alone = DiskBlobs(root)
    assert [each.used() for each in (one, other, alone)] == [0, 0, 0]
    one.write(ANN, BLOB, 0, DATA, NOW)
    assert one.used() == len(DATA)
    clock[0] += COUNTED_FOR_S
    assert [each.used() for each in (one, other, alone)] == [len(DATA), len(DATA), 0]
    other.write(ANN, BlobId("00" * 32), 0, b"begun", NOW)
    assert other.used() == len(DATA) + 5
    # A file that another takes away while it is counted is none.
    one.finish(ANN, BLOB, len(DATA), NOW)
    assert one.drop(BLOB, Millis(NOW + 1))
    clock[0] += COUNTED_FOR_S
    assert other.used() == 5


def test_a_piece_that_the_disk_does_not_take_is_written_again_later(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = DiskBlobs(root)
    blobs.write(ANN, BLOB, 0, DATA[:1000], NOW)
    real = os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        if at > 1000:
            raise OSError(28, "no space")
        return real(descriptor, bytes(data)[:700], at)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreError) as caught:
        blobs.write(ANN, BLOB, 1000, DATA[1000:], NOW)
    assert caught.value.code == "store_full"
    monkeypatch.setattr(os, "pwrite", real)
    assert blobs.begin(ANN, BLOB, len(DATA)) == 1000
    blobs.write(ANN, BLOB, 1000, DATA[1000:], NOW)
    blobs.finish(ANN, BLOB, len(DATA), NOW)
    assert blobs.read(BLOB, 0, len(DATA)) == DATA


def test_a_link_in_the_place_of_a_file_is_not_followed(root: Path, tmp_path: Path) -> None:
    blobs = DiskBlobs(root)
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (root / BLOB[:2]).mkdir()
    (root / BLOB[:2] / f"{BLOB}.{ANN}.part").symlink_to(outside)
    (root / BLOB[:2] / BLOB).symlink_to(outside)
    with pytest.raises(StoreError):
        blobs.write(ANN, BLOB, 4, DATA, NOW)
    with pytest.raises(StoreError):
        blobs.read(BLOB, 0, 10)
    assert outside.read_bytes() == b"mine"


def test_what_somebody_else_put_there_is_left_alone(root: Path) -> None:
    blobs = DiskBlobs(root)
    (root / "ab").mkdir()
    (root / "ab" / "notes.txt").write_text("mine")
    (root / "ab" / ("ab" * 32)).mkdir()
    assert blobs.idle("ab", NOW) == []
    assert blobs.used() == 0
    assert (root / "ab" / "notes.txt").read_text() == "mine"
