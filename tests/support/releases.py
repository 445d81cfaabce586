"""Another release of this program as an installation of its own: a copy of the code, changed in places.

The copy has an interpreter that finds it, so that every program which one of its programs starts is of this release
too. Not here: the same code under another version number (`other_release`), which costs less. Invariant: each change
fits exactly one place of the code as it is.
"""

from __future__ import annotations

import shutil
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import parlerd
from tests.support.processes import ROOT

_PACKAGES: Final = ("parlerd", "relay", "mcp_server", "configs")


class Change(NamedTuple):
    """In a file of the code, one text in the place of another that stands there once."""

    file: str
    old: str
    new: str


class Release:
    """An installation in `folder`, which must not be there yet."""

    def __init__(self, folder: Path, *changes: Change, version: str = parlerd.__version__) -> None:
        venv.EnvBuilder(symlinks=True).create(folder)
        self.python = folder / "bin" / "python"
        """Its interpreter."""
        self.code = folder / "code"
        """Its code."""
        for name in _PACKAGES:
            shutil.copytree(ROOT / name, self.code / name)
        shutil.copytree(ROOT / "configs/package/front/_parler", self.code / "_parler")
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "release.pth").write_text(f"{self.code}\n{sysconfig.get_path('purelib')}\n")
        number = Change("parlerd/__init__.py", f'"{parlerd.__version__}"', f'"{version}"')
        for change in (number, *changes):
            file = self.code / change.file
            text = file.read_text(encoding="utf-8")
            assert text.count(change.old) == 1, f"{change.old!r} stands {text.count(change.old)} times in {change.file}"
            file.write_text(text.replace(change.old, change.new), encoding="utf-8")

    def adds(self, file: str, text: str) -> None:
        """One more file of its code."""
        path = self.code / file
        assert not path.exists()
        path.write_text(text, encoding="utf-8")

    @property
    def parler(self) -> Sequence[str]:
        """The start of a command line of `parler`."""
        return [str(self.python), "-I", "-m", "_parler", "parler"]
