"""Who imports whom: the contracts of pyproject.toml hold, and leave nothing out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from mcp_server.stdio import COPIES

ROOT: Final = Path(__file__).resolve().parents[2]
SHIM: Final = tuple(name for name in COPIES if name.endswith(".py"))


def contracts() -> list[dict[str, Any]]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    found: list[dict[str, Any]] = tool["importlinter"]["contracts"]
    return found


def test_every_contract_holds() -> None:
    # In a process of its own: the tool configures logging, and that turns off the loggers other tests listen to.
    check = "import sys, importlinter.cli as c; sys.exit(c.lint_imports(config_filename=sys.argv[1], no_cache=True))"
    found = subprocess.run(
        [sys.executable, "-c", check, str(ROOT / "pyproject.toml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_contract_says_why() -> None:
    for contract in contracts():
        rule, _, reason = contract["name"].partition(": ")
        assert rule
        assert reason, contract["id"]


def test_every_package_and_module_of_the_daemon_stands_on_a_line() -> None:
    (layers,) = (contract["layers"] for contract in contracts() if contract["id"] == "layers")
    placed = {name for line in layers for name in re.split(r"\s*\|\s*", line)}
    existing = {"mcp_server", "relay", "configs"}
    existing |= {f"parlerd.{path.parent.name}" for path in (ROOT / "parlerd").glob("*/__init__.py")}
    existing |= {f"parlerd.{path.stem}" for path in (ROOT / "parlerd").glob("*.py") if path.stem != "__init__"}
    assert placed == existing


@pytest.mark.parametrize("name", SHIM)
def test_what_an_agent_host_starts_imports_the_standard_library_alone(name: str) -> None:
    imported = set()
    for node in ast.walk(ast.parse((ROOT / "mcp_server" / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a copy beside other files has no package"
            imported.add(node.module or "")
    assert imported
    beside = {name.removesuffix(".py").replace("/", ".") for name in COPIES}
    imported -= {f"mcp_server.{each}" for each in beside}
    outside = (
        {module.partition(".")[0] for module in imported} - sys.stdlib_module_names - set(sys.builtin_module_names)
    )
    assert outside <= {"_frozen_importlib_external"}  # the interpreter's own import system, loaded before any program


def test_every_file_of_the_stdio_folder_is_copied_and_the_program_last() -> None:
    package = ROOT / "mcp_server"
    there = {f"stdio/{path.name}" for path in (package / "stdio").glob("*.py") if path.name != "__init__.py"}
    assert sorted(COPIES) == sorted({*there, "shim.py", "static.json"})
    assert COPIES[-1] == "shim.py"
