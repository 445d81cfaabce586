"""The wheel and the source archive: the same bytes each time, one from the other, and nothing that is not ours."""

from __future__ import annotations

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from configs.package import wheels
from configs.package.about import about
from configs.package.files import EPOCH
from configs.package.listing import marker


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    out = tmp_path_factory.mktemp("wheels")
    with wheels.staged() as root:
        return wheels.build(root, out)


def test_two_builds_give_the_same_bytes_and_a_wheel_of_the_source_archive_too(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, source = made
    with wheels.staged() as root:
        again = wheels.build(root, tmp_path / "again")
    assert [path.read_bytes() for path in again] == [wheel.read_bytes(), source.read_bytes()]
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("parlerd-*")
    command = [sys.executable, "-I", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=unpacked, env={"SOURCE_DATE_EPOCH": str(EPOCH)}, check=True, capture_output=True)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_the_wheel_has_the_programs_and_none_of_what_makes_packages(made: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(made[0]) as archive:
        names = set(archive.namelist())
        scripts = archive.read(f"parlerd-{about().version}.dist-info/entry_points.txt").decode()
    assert wheels.strangers(made[0]) == []
    assert {"_parler/__init__.py", "_parler/__main__.py", "_parler/py.typed", "_parler/parlerd/py.typed"} <= names
    assert {"_parler/mcp_server/shim.py", "_parler/configs/hosts/codex.py", "_parler/relay/__main__.py"} <= names
    assert f"parlerd-{about().version}.dist-info/sboms/parlerd.cdx.json" in names
    assert [name for name in names if "configs/package" in name or "__pycache__" in name] == []
    assert "parler = _parler:parler" in scripts


def test_its_metadata_say_what_the_registries_ask_for(made: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(made[0]) as archive:
        text = archive.read(f"parlerd-{about().version}.dist-info/METADATA").decode()
    said = email.message_from_string(text)
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("parlerd", about().version, "Apache-2.0")
    assert said["Requires-Python"] == ">=3.11"
    assert {"Typing :: Typed", "Operating System :: MacOS"} <= set(said.get_all("Classifier", []))
    assert set(said.get_all("Requires-Dist", [])) >= {"trio>=0.30"}
    assert marker(about()) in str(said.get_payload()), "the MCP registry looks for it in the README"


def test_the_archive_has_a_checksum_for_all_that_is_installed_with_it(made: tuple[Path, Path]) -> None:
    with tarfile.open(made[1]) as archive:
        top = made[1].name.removesuffix(".tar.gz")
        file = archive.extractfile(f"{top}/requirements.txt")
        assert file is not None
        lines = [line for line in file.read().decode().splitlines() if not line.startswith(" ")]
        names = archive.getnames()
    assert len(lines) > 30
    assert all("==" in line and line.endswith("\\") for line in lines)
    assert f"{top}/configs/package/__main__.py" in names


def test_a_wheel_that_would_take_a_plain_name_is_not_made(tmp_path: Path) -> None:
    with wheels.staged() as root:
        settings = root / "pyproject.toml"
        settings.write_text(settings.read_text().replace('relay = "_parler/relay"\n', ""))
        with pytest.raises(wheels.NotBuilt, match="what others may have too: relay"):
            wheels.build(root, tmp_path)
