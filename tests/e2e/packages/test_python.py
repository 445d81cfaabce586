"""The lines of the installing page for the program, typed as they stand on an empty machine.

What Parler runs on comes from the package index; Parler itself comes from a folder, where the index will have it, or
from a repository.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

import parlerd
from configs.package.about import with_version
from configs.package.files import put
from tests.support.packaged import NEWER, NEWER_SCHEMA, Machine, needs_index
from tests.support.pages import ROOT, rows

pytestmark = pytest.mark.e2e

PAGE: Final = ROOT / "docs" / "installing.md"
TOOLS: Final = ("uv", "pipx", "pip")
CHECKOUT: Final = "a checkout"
PARLER: Final = {"uv": ".local/bin/parler", "pipx": ".local/bin/parler", "pip": "parler-env/bin/parler"}
"""Where each of them puts the program, in HOME."""

KEPT_BY_TOOLS: Final = (".local/state/pipx/log/", ".local/share/pipx/venvs/.parlerd.lock")
"""What a tool keeps of what it once did: its own log, and a lock."""


def ways() -> dict[str, list[str]]:
    """The lines of each tool: to install, to upgrade, to go back to an older version, to take out."""
    return {
        row[0].strip("`"): [cell.strip("`") for cell in row[1:5]]
        for row in rows(PAGE)
        if row[0].strip("`") in (*TOOLS, CHECKOUT)
    }


class Installing:
    """A machine with one of the tools, and the folder from which it gets Parler."""

    def __init__(self, tool: str, machine: Machine, packages: Path, newer: Path, folder: Path) -> None:
        needs_index()
        self.machine, self._newer = machine, newer
        self.folder = machine.home
        """Where the lines are typed."""
        self.install, self.upgrade, self.back, self.out = ways()[tool]
        self.links = folder / "links"
        self.links.mkdir()
        self._offer(packages)
        programs = Path(sys.executable).parent
        for name in ("uv", "pipx"):
            (machine.bin / name).symlink_to(programs / name)
        machine.variables = {"UV_FIND_LINKS": str(self.links), "PIP_FIND_LINKS": str(self.links)}
        self.parler = machine.home / PARLER[tool]

    def types(self, line: str) -> None:
        """What a person types in a shell."""
        self.machine.runs("sh", "-euc", line.replace("VERSION", parlerd.__version__), cwd=self.folder)

    def comes_out(self) -> None:
        """Let the version to come be there."""
        self._offer(self._newer)

    def version(self) -> str:
        return self.machine.runs(self.parler, "--version").stdout.split()[1]

    def _offer(self, packages: Path) -> None:
        (wheel,) = packages.glob("*.whl")
        shutil.copy(wheel, self.links)


class FromCheckout(Installing):
    """A machine with a checkout of a repository in which a newer version comes."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        needs_index()
        self.machine, self._origin, self.folder = machine, folder / "origin", folder / "checkout"
        self.install, self.upgrade, self.back, self.out = ways()[CHECKOUT]
        (machine.bin / "uv").symlink_to(Path(sys.executable).parent / "uv")
        self.parler = machine.home / ".local/bin/parler"
        shutil.copytree(ROOT, self._origin, ignore=shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache"))
        self._git("init", "-q", "-b", "main")
        self._commit("this version")
        self._git("tag", f"v{parlerd.__version__}")
        machine.runs("git", "clone", "-q", self._origin, self.folder)

    def comes_out(self) -> None:
        file = self._origin / "parlerd" / "__init__.py"
        file.write_text(with_version(file.read_text(), NEWER))
        put(self._origin, NEWER_SCHEMA)
        self._commit("a newer version")

    def _commit(self, subject: str) -> None:
        self._git("add", "-A")
        self._git("-c", "user.name=ann", "-c", "user.email=ann@example.org", "commit", "-qm", subject)

    def _git(self, *words: str) -> None:
        self.machine.runs("git", "-C", self._origin, *words)


@pytest.fixture(params=(*TOOLS, CHECKOUT))
def installing(
    request: pytest.FixtureRequest, machine: Machine, packages: Path, newer: Path, tmp_path: Path
) -> Installing:
    if request.param == CHECKOUT:
        return FromCheckout(machine, tmp_path)
    return Installing(request.param, machine, packages, newer, tmp_path)


def test_what_is_installed_lets_two_agents_talk_survives_an_upgrade_and_a_way_back_and_leaves_only_its_home(
    installing: Installing,
) -> None:
    machine, parler = installing.machine, [installing.parler]
    installing.types(installing.install)
    assert installing.version() == parlerd.__version__
    machine.two_agents_talk(parler)
    with machine.window(*parler, "mcp", agent="ann") as window:
        assert "auth" in window.call("parler_rooms")

        # An upgrade: the next command puts the new daemon in the place of the old one, which had an older schema.
        installing.comes_out()
        installing.types(installing.upgrade)
        assert installing.version() == NEWER
        machine.still_talks(parler, text="after the upgrade")
        assert machine.asks(parler, "daemon", "status")["version"] == NEWER
        (backup,) = (machine.home / ".parler" / "backups").iterdir()
        assert "auth" in window.call("parler_rooms"), "the window that was open goes on"

        # Back again: the older version says that it cannot read the newer database, and what to do.
        machine.runs(*parler, "daemon", "stop")
        installing.types(installing.back)
        assert installing.version() == parlerd.__version__
        refused = machine.asks(parler, "rooms", expect=1)["error"]
        assert refused["code"] == "newer_store"
        assert NEWER in refused["message"] + refused["hint"]
        for file in (machine.home / ".parler").glob("parler.db*"):
            file.unlink()
        shutil.copy(backup, machine.home / ".parler" / "parler.db")
        machine.still_talks(parler, text="after the way back")
        assert "auth" in window.call("parler_rooms"), "the window that was open goes on"
    machine.runs(*parler, "connect", "--remove")
    machine.runs(*parler, "daemon", "stop")
    installing.types(installing.out)
    assert not installing.parler.exists()
    assert (machine.home / ".parler" / "parler.db").exists()
    assert {name for name in machine.left() if not name.startswith(KEPT_BY_TOOLS)} == set()
    assert machine.processes() == []


def test_the_source_archive_installs_with_the_checksums_that_it_brings(
    machine: Machine, packages: Path, tmp_path: Path
) -> None:
    """As the formula for Homebrew does."""
    needs_index()
    (archive,) = packages.glob("parlerd-*.tar.gz")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    (unpacked,) = tmp_path.glob("parlerd-*")
    environment = tmp_path / "environment"
    uv: list[str | Path] = [Path(sys.executable).parent / "uv"]
    machine.runs(*uv, "venv", "--quiet", environment)
    pip: list[str | Path] = [*uv, "pip", "install", "--quiet", "--python", environment, "--no-deps"]
    machine.runs(*pip, "--only-binary=:all:", "--require-hashes", "-r", unpacked / "requirements.txt")
    machine.runs(*pip, archive)
    machine.two_agents_talk([environment / "bin" / "parler"])
