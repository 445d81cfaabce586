"""Files come out the same in every build."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from configs.package.files import digest, filled, put, tarred, zipped

FILES = {"b.txt": "bee\n", "bin/run": "#!/bin/sh\n", "a/ü.txt": "ä\n"}


def test_an_archive_depends_on_its_files_alone() -> None:
    turned = dict(reversed(FILES.items()))
    assert zipped(FILES) == zipped(turned)
    assert tarred("top", FILES) == tarred("top", turned)
    assert zipped(FILES) != zipped({**FILES, "b.txt": "bees\n"})


def test_a_program_can_be_run_after_it_was_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(zipped(FILES))) as archive:
        modes = {entry.filename: entry.external_attr >> 16 & 0o777 for entry in archive.infolist()}
        assert archive.read("a/ü.txt").decode() == "ä\n"
    assert modes == {"b.txt": 0o644, "bin/run": 0o755, "a/ü.txt": 0o644}
    with tarfile.open(fileobj=io.BytesIO(tarred("top", FILES))) as packed:
        assert {entry.name: entry.mode for entry in packed} == {f"top/{name}": mode for name, mode in modes.items()}
    put(tmp_path, FILES)
    assert {name: (tmp_path / name).stat().st_mode & 0o777 for name in FILES} == modes


def test_a_template_wants_each_of_its_values_and_no_other() -> None:
    assert "parler-relay:1.2" in filled("compose.yaml", version="1.2")
    with pytest.raises(KeyError):
        filled("compose.yaml")
    with pytest.raises(KeyError, match="has no place for name"):
        filled("compose.yaml", version="1.2", name="x")


def test_a_checksum_is_the_one_that_others_compute(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
