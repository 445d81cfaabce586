"""The wheel and the source distribution, and the check that no other distribution's files are touched by them.

Built by hatchling, in a copy of the sources that git knows, so that what lies about in a checkout reaches nobody.
Above: `__main__`, tests that need another version. Invariants: two builds give the same bytes; what is installed stands
below one name that is ours alone (`front`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from configs.package import bom
from configs.package.about import ROOT, about, with_version
from configs.package.files import EPOCH, as_json, put

TOP: Final = "_parler"
"""The one name that a wheel of ours puts into an environment, beside its metadata."""
BUILD_S: Final = 120.0
"""For one of the two. It takes two seconds."""
NOTHING: Final[Mapping[str, str]] = {}
_WHEEL: Final = "[tool.hatch.build.targets.wheel]\n"
_SOURCES: Final = ("parlerd", "mcp_server", "relay", "configs")
_BESIDE: Final = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", "CHANGELOG.md")


class NotBuilt(Exception):
    """A package could not be made, or is not as it has to be; why."""


@contextmanager
def staged(version: str = "", more: Mapping[str, str] = NOTHING) -> Iterator[Path]:
    """A copy of the sources, with the bill of materials that the wheel has in it. To try an upgrade with, it can be of
    another version and have `more` files."""
    with tempfile.TemporaryDirectory(prefix="parler-package-") as folder:
        root = Path(folder)
        for name in _tracked():
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        if version:
            file = root / "parlerd" / "__init__.py"
            file.write_text(with_version(file.read_text(encoding="utf-8"), version), encoding="utf-8")
        put(root, more)
        found = about(root)
        materials = bom.document(found, bom.parts(root, found.name))
        (root / f"{found.name}.cdx.json").write_text(as_json(materials), encoding="utf-8")
        (root / "requirements.txt").write_text(requirements(root), encoding="utf-8")
        # Only here: who installs from a checkout has no such file.
        settings = root / "pyproject.toml"
        text = settings.read_text(encoding="utf-8")
        settings.write_text(text.replace(_WHEEL, f'{_WHEEL}sbom-files = ["{found.name}.cdx.json"]\n'), encoding="utf-8")
        yield root


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution of the sources in `root`. Raises `NotBuilt`."""
    found = about(root)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    command = [sys.executable, "-I", "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out.resolve())]
    ran = subprocess.run(
        command,
        cwd=root,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if ran.returncode:
        raise NotBuilt(f"hatchling failed:\n{ran.stdout}")
    wheel = out / f"{found.name}-{found.version}-py3-none-any.whl"
    if strange := strangers(wheel):
        raise NotBuilt(f"{wheel.name} would put into an environment what others may have too: {', '.join(strange)}")
    return wheel, out / f"{found.name}-{found.version}.tar.gz"


def strangers(wheel: Path) -> list[str]:
    """What a wheel would install beside our one name and its own metadata; nothing, in order."""
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}
    name, version = wheel.name.split("-")[:2]
    return sorted(tops - {TOP, f"{name}-{version}.dist-info"})


def requirements(root: Path, extra: str = "") -> str:
    """What the lock fixes, as pip reads it, each file with its checksum; with that of an extra, if one is named. Raises
    `NotBuilt`."""
    command = [sys.executable, "-I", "-m", "uv", "export", "--project", str(root), "--frozen", "--no-dev", "--quiet"]
    ran = subprocess.run(
        [
            *command,
            *(["--extra", extra] if extra else []),
            "--no-emit-project",
            "--no-header",
            "--no-annotate",
            "--offline",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )
    if ran.returncode:
        raise NotBuilt(f"uv cannot say what the lock fixes:\n{ran.stderr}")
    return ran.stdout


def _tracked() -> list[str]:
    """The files that are built from, by what git knows."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_SOURCES, *_BESIDE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        raise NotBuilt("The packages are built from a checkout: git does not know this folder.")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
