"""What system packages are made from, as the programs of their systems read it where they are here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs.package import systems
from configs.package.about import about
from configs.package.files import put

REQUIREMENTS = "trio==1 --hash=sha256:00\n"
UNIT = "parler-relay.service"
BESIDE = "parler-relay-database.conf"
WHEEL = f"parlerd-{about().version}-py3-none-any.whl"


def checked(*words: str | Path, without: str) -> str:
    """What a program says that finds nothing wrong; the test is skipped where it is not here."""
    if shutil.which(str(words[0])) is None:
        pytest.skip(without)
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


def test_the_image_is_built_as_builders_of_images_ask(tmp_path: Path) -> None:
    put(tmp_path, systems.relay(about(), WHEEL, REQUIREMENTS))
    hadolint = Path(sys.executable).parent / "hadolint"
    checked(hadolint, tmp_path / "Dockerfile", without="hadolint has a program for this machine in no package")
    text = (tmp_path / "Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in text
    assert "\nHEALTHCHECK " in text
    # What the image has in it is the relay's own list, which stands beside the recipe.
    assert f"\nCOPY relay/requirements.txt {WHEEL} /tmp/\n" in text
    assert (tmp_path / "requirements.txt").read_text() == REQUIREMENTS


@pytest.mark.parametrize("name", ["compose.yaml", "compose.postgres.yaml"])
def test_compose_takes_its_file_and_nothing_that_it_does_not_know(tmp_path: Path, name: str) -> None:
    put(tmp_path / "relay", systems.relay(about(), WHEEL, REQUIREMENTS))
    file = tmp_path / "relay" / name
    said = checked("docker-compose", "-f", file, "config", without="docker-compose is not here")
    assert "read_only: true" in said
    file.write_text(file.read_text().replace("read_only:", "read_onli:"))
    with pytest.raises(AssertionError, match="read_onli"):
        checked("docker-compose", "-f", file, "config", without="docker-compose is not here")


def test_no_password_is_in_the_file_of_a_server_and_its_relays(tmp_path: Path) -> None:
    put(tmp_path / "relay", systems.relay(about(), WHEEL, REQUIREMENTS))
    file = tmp_path / "relay" / "compose.postgres.yaml"
    # Every password is read where it is needed: from a file of the folder that the first lines make.
    said = checked("docker-compose", "-f", file, "config", without="docker-compose is not here")
    for name in ("postgres", "owner", "relay"):
        assert f"file: {tmp_path}/relay/secrets/{name}\n" in said
    for place in ("./roles.sql", "relay/secrets/$name", "relay/compose.postgres.yaml"):
        assert place in file.read_text()
    # The server answers on this machine alone.
    assert "- 127.0.0.1:5432:5432/tcp" in said


def unit_in(folder: Path) -> Path:
    """The unit and the file that belongs beside it, with a program that is here."""
    texts = systems.relay(about(), WHEEL, REQUIREMENTS)
    program = folder / "parler"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit, beside = (texts[name].replace("/usr/bin/parler ", f"{program} ") for name in (UNIT, BESIDE))
    assert unit != texts[UNIT]
    assert beside != texts[BESIDE]
    put(folder, {UNIT: unit, f"{UNIT}.d/database.conf": beside})
    return folder / UNIT


def test_the_unit_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = unit_in(tmp_path)
    (tmp_path / f"{UNIT}.d" / "database.conf").unlink()
    said = checked("systemd-analyze", "verify", unit, without="systemd is not here")
    assert "parler-relay" not in said


def test_the_unit_of_a_relay_over_a_database_is_one_that_systemd_reads(tmp_path: Path) -> None:
    unit = unit_in(tmp_path)
    said = checked("systemd-analyze", "verify", unit, without="systemd is not here")
    assert "parler-relay" not in said
    beside = tmp_path / f"{UNIT}.d" / "database.conf"
    beside.write_text(beside.read_text().replace("ExecStart=\n", ""))
    with pytest.raises(AssertionError, match="more than one ExecStart"):
        checked("systemd-analyze", "verify", unit, without="systemd is not here")


def test_the_formula_is_ruby_with_the_checksum_of_the_archive(tmp_path: Path) -> None:
    text = systems.formula(about(), "ab" * 32)
    put(tmp_path, {"parlerd.rb": text})
    assert f'sha256 "{"ab" * 32}"' in text
    checked("ruby", "-c", tmp_path / "parlerd.rb", without="ruby is not here")


def test_the_folder_for_debian_is_read_by_its_own_tools(tmp_path: Path) -> None:
    put(tmp_path, systems.debian(about(), WHEEL))
    said = checked("dpkg-parsechangelog", "-l", tmp_path / "debian/changelog", without="dpkg's tools are not here")
    assert f"Version: {about().version}-1\n" in said
    assert (tmp_path / "debian" / "rules").stat().st_mode & 0o111
    assert WHEEL in (tmp_path / "debian" / "rules").read_text()
