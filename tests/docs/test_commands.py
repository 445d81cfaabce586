"""Every command that a page or an error tells somebody to run is one that this version has."""

from __future__ import annotations

import ast
import contextlib
import re
import shlex
from pathlib import Path
from typing import Final

import pytest

from parlerd.cli.commands import COMMANDS, GROUPS
from parlerd.cli.main import find_command, handler_of, parser_of
from parlerd.cli.parsing import GLOBAL_VALUES, HelpWanted, UsageError, split_globals
from parlerd.core.errors import ERRORS
from parlerd.operations.registry import OPERATIONS
from tests.support.pages import PAGES, ROOT, shell_lines, spans

ON_PAGES: Final = sorted(
    {(page.relative_to(ROOT).as_posix(), shlex.join(words[1:]))
     for page in PAGES for words in shell_lines(page) if words[0] == "parler"}
)  # fmt: skip


def option_names(words: list[str]) -> list[str]:
    return [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]


def complaint(mention: str) -> str:
    """What is wrong with a command as it is mentioned in passing: its name, or an option that it does not have."""
    early, words = split_globals(mention.split()[1:])
    if not words or (words[0] in GROUPS and len(words) == 1):
        return ""
    if words[0].startswith("--"):
        return "" if words[0] in ("--version", "--help", *GLOBAL_VALUES) else f"no option {words[0]}"
    try:
        command, rest = find_command(words)
    except UsageError as error:
        return str(error)
    known = {name for action in parser_of(command, handler_of(command))._actions for name in action.option_strings}
    return next((f"no option {name}" for name in option_names([*early, *rest]) if name not in known), "")


@pytest.mark.parametrize(("page", "line"), ON_PAGES)
def test_a_command_to_copy_from_a_page_fits_its_parser(page: str, line: str) -> None:
    early, words = split_globals(shlex.split(line))
    command, rest = find_command(words)
    with contextlib.suppress(HelpWanted):
        parser_of(command, handler_of(command)).parse_args([*early, *rest])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_that_a_page_mentions_exists_with_its_options(page: Path) -> None:
    wrong = {span: said for span in spans(page) if span.startswith("parler ") and (said := complaint(span))}
    assert wrong == {}


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_a_command_that_an_error_tells_to_run_exists_with_its_options(code: str) -> None:
    text = f"{ERRORS[code].message} {ERRORS[code].hint}"
    wrong = {span: said for span in re.findall(r"`(parler[^`]*)`", text) if (said := complaint(span))}
    assert wrong == {}


def said_in(source: Path) -> set[str]:
    """The commands that a source file's strings name: those in backticks, and those followed by an option."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= set(re.findall(r"`(parler [a-z][^`.\n]*)`", node.value))
            found |= set(re.findall(r"\bparler(?: [a-z]+){1,2}(?: --[a-z-]+)+", node.value))
    return found


SOURCES: Final = sorted(path for name in ("parlerd", "configs", "mcp_server") for path in (ROOT / name).rglob("*.py"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_command_that_a_fix_or_a_hint_names_exists_with_its_options(source: Path) -> None:
    assert {mention: said for mention in said_in(source) if (said := complaint(mention))} == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert complaint("parler conect")
    assert complaint("parler session opne")
    assert complaint("parler send --rom x")
    assert not complaint("parler session approve bob --room x")


def test_every_command_has_its_place_in_the_reference() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    missing = [command.path for command in COMMANDS if f"# parler {' '.join(command.path)}\n" not in page]
    assert missing == []


def test_every_command_of_the_registry_is_on_a_page_for_people() -> None:
    """The commands of the main job are shown in use, not only listed."""
    shown = {tuple(words[: len(path)]) for page in PAGES for words in _shown(page) for path in _paths()}
    for name in ("session.open", "session.join", "session.approve", "message.send", "message.recv", "handoff.give"):
        assert tuple(OPERATIONS[name].command.split()[1:]) in shown


def _shown(page: Path) -> list[list[str]]:
    return [split_globals(words[1:])[1] for words in shell_lines(page) if words[0] == "parler"]


def _paths() -> list[tuple[str, ...]]:
    return [command.path for command in COMMANDS]
