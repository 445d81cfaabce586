"""What every package says of Parler, read from where it stands: `pyproject.toml`, the version, the lock.

Not here: what a package looks like. Above: everything that makes one. Invariant: nothing of it is written down twice.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
_VERSION: Final = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
_CONTRACT: Final = re.compile(r'^CONTRACTS: Final = \(.*"([^"]+)",?\)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class About:
    """One version of Parler.

    `name` is the distribution's, as the Python package index has it. `namespace` is the domain below which the MCP
    registry lists it, and `contract` the day of the HTTP contract. `needs` are the requirements of what is installed,
    and `extra_needs` those of what can be installed with it by an extra.
    """

    name: str
    version: str
    description: str
    licence: str
    keywords: tuple[str, ...]
    python: str
    namespace: str
    contract: str
    needs: tuple[str, ...]
    extra_needs: tuple[str, ...]

    @property
    def short(self) -> str:
        """The description up to its first colon, for a list with one line for each entry."""
        return f"{self.description.partition(':')[0]}."


def about(root: Path = ROOT) -> About:
    """What the sources in `root` say of themselves."""
    data = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project: dict[str, Any] = data["project"]
    return About(
        name=project["name"],
        version=_only(_VERSION, root / "parlerd" / "__init__.py"),
        description=project["description"],
        licence=project["license"],
        keywords=tuple(project["keywords"]),
        python=project["requires-python"],
        namespace=data["tool"]["parler"]["namespace"],
        contract=_only(_CONTRACT, root / "parlerd" / "operations" / "contracts.py"),
        needs=tuple(project["dependencies"]),
        extra_needs=tuple(line for extra in project["optional-dependencies"].values() for line in extra),
    )


def with_version(text: str, version: str) -> str:
    """The text of `parlerd/__init__.py` with another version in it."""
    return _VERSION.sub(f'__version__ = "{version}"', text)


def _only(pattern: re.Pattern[str], file: Path) -> str:
    (found,) = pattern.findall(file.read_text(encoding="utf-8"))
    return str(found)
