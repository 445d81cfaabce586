"""What a caller may do is its authority: the name of the door that it came through is recorded and never asked."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
READERS: Final = sorted([*(ROOT / "parlerd/engine").glob("*.py"), *(ROOT / "parlerd/core").glob("*.py")])


def conditions(tree: ast.AST) -> Iterator[ast.AST]:
    """Every expression that something is decided by."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare() | ast.BoolOp():
                yield node
            case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
                yield test
            case ast.Match(subject=subject):
                yield subject
            case ast.Subscript(slice=key):
                yield key
            case ast.Call(func=ast.Attribute(attr="get" | "startswith"), args=arguments):
                yield from arguments
            case ast.comprehension(ifs=tests):
                yield from tests


def asked(source: str) -> list[int]:
    """The lines on which a condition looks at a `via`."""
    return sorted(
        {
            node.lineno
            for condition in conditions(ast.parse(source))
            for node in ast.walk(condition)
            if (isinstance(node, ast.Attribute) and node.attr == "via")
            or (isinstance(node, ast.Name) and node.id == "via")
        }
    )


@pytest.mark.parametrize(
    "condition",
    [
        'a = caller.facts.via == "mcp"',
        'if by.via in ("cli", "mcp"): pass',
        'a = 1 if via != "hook" else 2',
        "match caller.via:\n    case _: pass",
        "a = TABLE[caller.via]",
        "a = TABLE.get(caller.via)",
        "a = caller.via or 2",
        'a = [x for x in y if x.via == "cli"]',
        'a = caller.via.startswith("c") and 1',
    ],
)
def test_the_check_finds_whatever_asks_for_the_door(condition: str) -> None:
    assert asked(condition) == [1]


@pytest.mark.parametrize(
    "recorded", ["By(via=caller.facts.via)", 'f"{caller.facts.via} {process}"', "t.Message(via=by.via)"]
)
def test_the_check_lets_the_door_be_recorded(recorded: str) -> None:
    assert asked(recorded) == []


@pytest.mark.parametrize("path", READERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_is_decided_by_the_door(path: Path) -> None:
    assert asked(path.read_text(encoding="utf-8")) == []
