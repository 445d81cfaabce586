"""What Parler knows of an agent host stands in the host's own file; other code names no host, or says why it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from configs.hosts import HOSTS

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = ("parlerd", "mcp_server", "configs", "docs", "benchmarks", "relay")
WORDS: Final = frozenset({"code", "cursor", "continue"})
"""Ids, aliases and names that are also words of Parler's own texts; such a host is found by its folder alone."""
ALLOWED: Final = {
    "configs/shapes.py": "editors made of VS Code's code, in whose folders several hosts keep their files",
    "docs/delivery.py": "what was measured of each host's records, on the page about how far a message got",
    "docs/picture.py": "the agents in the README's picture",
    "benchmarks/hook.py": "the hook that is measured",
    "parlerd/cli/bring.py": "examples of command lines",
    "parlerd/cli/connect.py": "examples of command lines",
    "parlerd/cli/doctor.py": "examples of command lines",
    "parlerd/cli/hook.py": "examples of command lines",
    "parlerd/cli/program.py": "examples of command lines",
    "parlerd/cli/table.py": "the same examples, generated",
    "parlerd/cli/demo_story.py": "the two parts that the demo plays",
    "parlerd/controller.py": "the name of the file that holds a host's token, which is in homes already",
    "parlerd/engine/opening.py": "the line that adds Parler to a host, for somebody who has no Parler yet",
    "parlerd/operations/samples.py": "the names of agents in examples of answers",
    "parlerd/operations/families/bringing.py": "a host in an example",
    "parlerd/operations/families/rooms.py": "the names of agents in examples",
    "parlerd/operations/families/sessions.py": "the names of agents in examples, and of a command in one",
    "mcp_server/opencode.py": "one bell: how a host's server is asked",
    "mcp_server/qwen.py": "one bell: how a host's inbox is asked",
    "mcp_server/ringing.py": "which bell belongs to which host, and one bell",
    "mcp_server/tools/results.py": "the line that adds Parler to a host, for somebody who has no Parler yet",
}
"""Files that name a host in their code, and why."""


def names() -> list[str]:
    """What a host is called: its id, aliases and name. A folder of a host has one of these in its name."""
    called = {name for host in HOSTS for name in (host.id, host.id.capitalize(), *host.aliases, host.name)}
    called -= WORDS | {word.capitalize() for word in WORDS}
    return sorted(called, key=len, reverse=True)


NAMED: Final = re.compile(rf"(?<![\w])(?:{'|'.join(map(re.escape, names()))})(?![\w])|\.cursor\b|Cursor's|\"cursor\"")


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of a file with their lines, docstrings left out: prose may name whom it speaks of."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


@cache
def found() -> dict[str, list[str]]:
    """The strings that name a host, by the file in which they stand."""
    there: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (ROOT / "configs/hosts") in path.parents:
                continue
            told = [f"{line}: {text[:80]!r}" for line, text in literals(path) if NAMED.search(text)]
            if told:
                there[path.relative_to(ROOT).as_posix()] = told
    return there


def test_code_outside_a_hosts_own_file_names_no_host() -> None:
    assert {path: told for path, told in found().items() if path not in ALLOWED} == {}


def test_every_exception_is_still_one() -> None:
    assert sorted(set(ALLOWED) - set(found())) == []


@pytest.mark.parametrize("text", ["claude-code", "~/.codex/config.toml", "Qwen Code does", "gemini", "~/.cursor/x"])
def test_a_hosts_name_is_noticed(text: str) -> None:
    assert NAMED.search(text)


@pytest.mark.parametrize("text", ["the code that is shown", "cursor", "amplifier", "PARLER_CODE"])
def test_a_word_of_our_own_is_no_hosts_name(text: str) -> None:
    assert not NAMED.search(text)
