"""The index of this folder, `README.md`, made of the docstrings of its modules and of who imports them.

    python -m tests.support.index

writes it anew; a test compares (tests/arch/test_support.py).
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
SUPPORT: Final = ROOT / "tests" / "support"
README: Final = SUPPORT / "README.md"
HEAD: Final = """\
# What tests share

`python -m tests.support.index` makes this page of the first sentence of each module, of who imports it, and of the
suite that it names after *Verified by*. A fake stands in for something real, so that suite asks the same of both.

| module | what it is | who uses it | verified by |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Entry:
    """One module of this folder. Paths are relative to the root."""

    path: str
    sentence: str
    users: tuple[str, ...]
    """The files outside this folder that import it, or that import a module of this folder which does."""
    suites: tuple[str, ...]


@cache
def imports(path: Path) -> frozenset[str]:
    """The dotted names that a file imports, those of a module's parts among them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def entries() -> list[Entry]:
    """Every module of this folder but this one, which no test uses for anything else."""
    modules = {
        path: path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in sorted(SUPPORT.rglob("*.py"))
        if path != Path(__file__).resolve()
    }
    others = [path for folder in ("tests", "benchmarks", "docs") for path in sorted((ROOT / folder).rglob("*.py"))]
    found = []
    for path, name in modules.items():
        names = {name}
        while more := {other for at, other in modules.items() if imports(at) & names} - names:
            names |= more
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first, said = (" ".join(part.split()) for part in (text.partition("\n\n")[0], text))
        found.append(
            Entry(
                path.relative_to(ROOT).as_posix(),
                re.split(r"(?<=\.) (?=[A-Z`])", first)[0].rstrip("."),
                tuple(at.relative_to(ROOT).as_posix() for at in others if at not in modules and imports(at) & names),
                tuple(re.findall(r"`(tests/[\w/]+(?:\.py)?)`", said.partition("Verified by")[2])),
            )
        )
    return found


def page(index: list[Entry]) -> str:
    """The page of this index as it should be."""
    rows = []
    for entry in index:
        users = sorted({user.removeprefix("tests/").rpartition("/")[0] or "conftest" for user in entry.users})
        suites = ", ".join(f"`{suite.removeprefix('tests/')}`" for suite in entry.suites)
        module = entry.path.removeprefix("tests/support/")
        rows.append(f"| `{module}` | {entry.sentence} | {', '.join(users)} | {suites} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    README.write_text(page(entries()), encoding="utf-8")
