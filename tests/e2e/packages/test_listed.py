"""What the bundle for Claude Desktop and the entry of the MCP registry tell a program to start, started so.

Neither program is here: the test reads the file as its format says, on a machine that has `uv` and no Parler.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.hosts import programs
from tests.support.packaged import Machine, needs_index

pytestmark = pytest.mark.e2e


@pytest.fixture
def offered(machine: Machine, packages: Path, tmp_path: Path) -> Machine:
    """A machine with `uv`, which finds Parler where the index will have it."""
    needs_index()
    links = tmp_path / "links"
    links.mkdir()
    (wheel,) = packages.glob("*.whl")
    shutil.copy(wheel, links)
    for name in ("uv", "uvx"):
        (machine.bin / name).symlink_to(Path(sys.executable).parent / name)
    machine.variables = {"UV_FIND_LINKS": str(links)}
    return machine


@pytest.fixture
def unpacked(packages: Path, tmp_path: Path) -> Path:
    """The bundle, checked and unpacked by its format's own program, or without the check where that is not here."""
    (bundle,) = packages.glob("*.mcpb")
    folder = tmp_path / "unpacked"
    if programs.missing("mcpb") is None:
        mcpb = programs.command("mcpb")
        subprocess.run([*mcpb, "unpack", str(bundle), str(folder)], check=True, capture_output=True)
        subprocess.run([*mcpb, "validate", str(folder / "manifest.json")], check=True, capture_output=True)
    else:
        shutil.unpack_archive(bundle, folder, "zip")
        (folder / "bin" / "parler-mcp").chmod(0o755)
    return folder


def test_the_bundle_is_one_that_its_own_program_takes(unpacked: Path) -> None:
    if reason := programs.missing("mcpb"):
        pytest.skip(reason)
    manifest = unpacked / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"entry_point"', '"entrypoint"'))
    ran = subprocess.run([*programs.command("mcpb"), "validate", str(manifest)], capture_output=True, check=False)
    assert ran.returncode != 0


def test_a_machine_with_the_bundle_and_uv_gets_parler_and_two_windows_talk(offered: Machine, unpacked: Path) -> None:
    server = json.loads((unpacked / "manifest.json").read_text())["server"]["mcp_config"]
    command = [word.replace("${__dirname}", str(unpacked)) for word in (server["command"], *server["args"])]
    parler = [offered.home / ".local" / "bin" / "parler"]
    assert not parler[0].exists()
    offered.two_windows_talk(parler, *command)
    assert parler[0].exists(), "uv installed it, and the bundle starts what is there from now on"
    offered.runs(*parler, "daemon", "stop")
    offered.runs("uv", "tool", "uninstall", "parlerd")
    assert offered.left() == set()


def test_a_machine_with_neither_says_what_to_install(machine: Machine, unpacked: Path) -> None:
    ran = machine.runs(unpacked / "bin" / "parler-mcp", expect=1)
    assert "uv tool install parlerd (or pipx install parlerd)" in ran.stderr


def test_what_is_called_parler_and_is_not_ours_is_not_started(machine: Machine, unpacked: Path) -> None:
    programs = machine.home / ".local" / "bin"
    programs.mkdir(parents=True)
    (programs / "parler").write_text("#!/bin/sh\necho 'parler-tts 1.0'\n")
    (programs / "parler").chmod(0o755)
    assert "Parler is not installed" in machine.runs(unpacked / "bin" / "parler-mcp", expect=1).stderr


def test_a_client_of_the_registry_starts_the_package_as_the_entry_says(offered: Machine, packages: Path) -> None:
    (package,) = json.loads((packages / "server.json").read_text())["packages"]
    assert (package["registryType"], package["runtimeHint"], package["transport"]) == ("pypi", "uvx", {"type": "stdio"})
    words = [argument["value"] for argument in package["packageArguments"]]
    command = [package["runtimeHint"], f"{package['identifier']}@{package['version']}", *words]
    with offered.window(*command, agent="ann") as ann:
        assert ann.server["name"] == "parler"
    named = f"{package['identifier']}=={package['version']}"
    offered.two_windows_talk([package["runtimeHint"], "--from", named, "parler"], *command)
