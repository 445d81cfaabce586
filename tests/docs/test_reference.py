"""The pages that are made from the code say what the code says."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from docs import expressions
from docs.render import OTHER_DOCUMENTS, pages
from parlerd.cli.commands import COMMANDS
from parlerd.core import gates
from parlerd.core.errors import ERRORS
from parlerd.core.expressions import DEPTHS, TYPES
from parlerd.operations.tools import TOOLS
from tests.support.cli import Shell
from tests.support.fake_client import FakeDaemon
from tests.support.pages import ROOT, rows


@pytest.mark.parametrize("name", sorted(pages()))
def test_a_generated_page_is_what_would_be_generated_now(name: str) -> None:
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run: python docs/render.py"


def test_every_error_code_has_a_row_with_its_sentence() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(ROOT / "docs" / "errors.md")}
    assert {code: spec.message for code, spec in ERRORS.items()}.items() <= documented.items()


def test_every_tool_has_a_section_with_a_row_for_each_argument() -> None:
    sections = (ROOT / "docs" / "mcp.md").read_text(encoding="utf-8").split("### ")
    described = {section.split("\n", 1)[0]: section for section in sections[1:]}
    assert set(described) == set(TOOLS)
    for name, tool in TOOLS.items():
        assert all(f"| `{argument.name}` |" in described[name] for argument in tool.arguments)


@pytest.mark.parametrize(
    ("examples", "names"),
    [
        (expressions.ROOTS, DEPTHS),
        (expressions.OPERATORS, gates.OPERATORS),
        (expressions.FUNCTIONS, gates.FUNCTIONS),
        (expressions.MACROS, gates.MACROS),
        (expressions.TYPE_VALUES, TYPES),
    ],
    ids=["roots", "operators", "functions", "macros", "types"],
)
def test_everything_that_an_expression_can_name_has_an_example_that_uses_it(
    examples: Mapping[str, Any], names: Collection[str]
) -> None:
    assert set(examples) == set(names)
    if examples is expressions.TYPE_VALUES:
        assert all(
            expressions.worth(f"type({value}) == {name}") is True for name, value in expressions.TYPE_VALUES.items()
        )
        return
    spelled = {"neg": "-", "?:": "?"}
    assert [name for name, (example, _) in examples.items() if spelled.get(name, name) not in example] == []


def test_the_refusals_on_the_page_of_expressions_are_of_every_kind() -> None:
    codes = {expressions.refused(source, place).code for source, place in expressions.BROKEN}
    assert codes == {"expression_invalid", "expression_failed", "expression_budget"}


def test_a_document_described_by_hand_is_of_a_command() -> None:
    assert set(OTHER_DOCUMENTS) <= {" ".join(command.path) for command in COMMANDS}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("connect --list codex", "connect"),
        ("doctor", "doctor"),
        ("version", "version"),
        ("help", "help"),
        ("completion bash", "completion"),
    ],
)
def test_a_document_described_by_hand_has_the_fields_it_is_said_to_have(tmp_path: Path, line: str, name: str) -> None:
    document = Shell(tmp_path, FakeDaemon(down=True)).run(*line.split(), "--json").document
    assert OTHER_DOCUMENTS[name].startswith(f"`{_outline(document)[:-1]}")


def _outline(value: object) -> str:
    """A document in the notation of the pages, as far as the page goes: names of fields, lists by their first entry."""
    if isinstance(value, list):
        return f"[{_outline(value[0]) if value and isinstance(value[0], dict) else '...'}]"
    assert isinstance(value, dict)
    if set(value) == {"name", "ok", "detail", "fix"}:
        return "check"
    fields = (
        json.dumps(key) + (f":{_outline(it)}" if isinstance(it, dict | list) else "") for key, it in value.items()
    )
    return "{" + ",".join(fields) + "}"
