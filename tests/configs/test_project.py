"""What a repository brings in our name is found, and nothing outside it is taken for its own."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs import project
from configs.hosts import HOSTS
from configs.project import MAX_BYTES, _matches

OURS = {"command": "x", "args": []}
FILES = [(host.id, *file) for host in HOSTS for file in host.project_files]


def entries(directory: Path, env: dict[str, str]) -> list[Path]:
    return [each.file for each in project.entries(directory, env)]


def hooks(directory: Path, env: dict[str, str]) -> list[Path]:
    return [each.file for each in project.hooks(directory, env)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def env(home: Path) -> dict[str, str]:
    return {"HOME": str(home)}


@pytest.fixture
def repository(home: Path) -> Path:
    folder = home / "code" / "shop"
    (folder / ".git").mkdir(parents=True)
    return folder


def write(path: Path, document: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def nested(keys: tuple[str, ...], name: str) -> Any:
    value: Any = {name: OURS}
    for key in reversed(keys):
        value = {key: value}
    return value


@pytest.mark.parametrize(("host", "name", "keys"), FILES)
def test_an_entry_of_our_name_in_any_file_that_hosts_read_is_found(
    repository: Path, env: dict[str, str], host: str, name: str, keys: tuple[str, ...]
) -> None:
    def content(server: str) -> object:
        return f'[mcp_servers.{server}]\ncommand = "x"\n' if name.endswith(".toml") else nested(keys, server)

    path = write(repository / name, content("another"))
    assert entries(repository, env) == []
    write(path, content("parler"))
    assert entries(repository, env) == [path]
    assert [each.host.id for each in project.entries(repository, env)] == [host]


def test_comments_and_trailing_commas_hide_nothing(repository: Path, env: dict[str, str]) -> None:
    path = write(repository / ".vscode/mcp.json", '// a\n{"servers": {/* b */ "parler": {"command": "x"},},}')
    assert entries(repository, env) == [path]


def test_the_folders_above_count_up_to_the_root_of_the_work_tree(repository: Path, env: dict[str, str]) -> None:
    inside = repository / "src" / "deep"
    inside.mkdir(parents=True)
    path = write(repository / ".mcp.json", nested(("mcpServers",), "parler"))
    write(repository.parent / ".mcp.json", nested(("mcpServers",), "parler"))
    assert entries(inside, env) == [path]


def test_the_users_own_files_are_not_taken_for_a_repositorys(home: Path, env: dict[str, str]) -> None:
    write(home / ".gemini/settings.json", nested(("mcpServers",), "parler"))
    folder = home / "no-repository"
    folder.mkdir()
    assert entries(home, env) == []
    assert entries(folder, env) == []


def test_an_entry_for_one_folder_in_the_users_own_file_is_found_there_alone(
    repository: Path, home: Path, env: dict[str, str]
) -> None:
    own = write(home / ".claude.json", {"projects": {str(repository): {"mcpServers": {"parler": OURS}}}})
    assert entries(repository, env) == [own]
    assert entries(home, env) == []
    write(own, {"projects": [], "mcpServers": {"parler": OURS}})
    assert entries(repository, env) == []


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"mcpServers": []}', '{"mcpServers": 3}', "[" * 100_000])
def test_a_file_that_is_broken_is_passed_over(repository: Path, env: dict[str, str], content: str) -> None:
    write(repository / ".mcp.json", content)
    write(repository / ".claude/settings.json", content)
    assert entries(repository, env) == []
    assert hooks(repository, env) == []


def test_what_is_no_file_of_a_sensible_size_is_not_read(repository: Path, env: dict[str, str]) -> None:
    os.mkfifo(repository / ".mcp.json")
    write(repository / "opencode.json", json.dumps(nested(("mcp",), "parler")) + " " * MAX_BYTES)
    assert entries(repository, env) == []


@pytest.mark.parametrize("event", ["Elicitation", "ElicitationResult"])
@pytest.mark.parametrize("matcher", [None, "", "*", "parler", "par.*", "other|parler", "(unclosed", 3])
def test_a_hook_that_may_answer_our_forms_is_found(
    repository: Path, env: dict[str, str], event: str, matcher: object
) -> None:
    group = {"hooks": [{"type": "command", "command": "yes"}]} | ({} if matcher is None else {"matcher": matcher})
    path = write(repository / ".claude/settings.local.json", {"hooks": {event: [group]}})
    assert hooks(repository, env) == [path]


@pytest.mark.parametrize(
    "configured",
    [
        {"Elicitation": [{"matcher": "github", "hooks": [{"type": "command", "command": "x"}]}]},
        {"Elicitation": [{"matcher": "parler", "hooks": []}]},
        {"Stop": [{"hooks": [{"type": "command", "command": "x"}]}]},
        {"Elicitation": "x"},
        [],
    ],
)
def test_a_hook_that_decides_nothing_of_ours_is_not_named(
    repository: Path, env: dict[str, str], configured: object
) -> None:
    write(repository / ".claude/settings.json", {"hooks": configured})
    assert hooks(repository, env) == []


@pytest.mark.parametrize(
    ("matcher", "chosen"),
    [
        ("^parler$", True),
        ("^par.*ler$", True),
        ("^.*$", True),
        (".*", True),
        ("arle", True),
        ("r$", True),
        ("^parle", True),
        ("parl.*rler", False),
        ("^arler", False),
        ("parle$", False),
        ("^par.*lers$", False),
        ("github|^gitlab$", False),
        ("gitlab|[p]arler", True),
        ("(p|q)", True),
    ],
)
def test_a_simple_matcher_is_read_as_its_host_reads_it(
    repository: Path, env: dict[str, str], matcher: str, chosen: bool
) -> None:
    group = {"matcher": matcher, "hooks": [{"type": "command", "command": "x"}]}
    path = write(repository / ".claude/settings.json", {"hooks": {"Elicitation": [group]}})
    assert hooks(repository, env) == ([path] if chosen else [])


@pytest.mark.parametrize("pattern", ["(.*)*" * 36 + "x", "(a|a)" * 39 + "$", "(" * 100 + ".*" * 40, ".*" * 90 + "x"])
def test_a_matcher_of_a_repository_is_never_run_as_a_pattern(
    repository: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    asked: list[str] = []
    for name in ("search", "match", "fullmatch", "compile"):
        monkeypatch.setattr(re, name, lambda found, *_: asked.append(str(found)))
    group = {"matcher": pattern, "hooks": [{"type": "command", "command": "x"}]}
    write(repository / ".claude/settings.json", {"hooks": {"Elicitation": [group]}})
    hooks(repository, env)
    assert pattern not in asked


@given(st.text(st.sampled_from("parle.*^$|x"), max_size=12))
def test_what_a_host_would_find_is_found(matcher: str) -> None:
    try:
        expected = re.search(matcher, "parler") is not None
    except re.error:
        expected = True
    assert expected <= _matches({"matcher": matcher})


def test_the_users_own_hooks_are_named_too(home: Path, env: dict[str, str]) -> None:
    group = {"hooks": [{"type": "command", "command": "yes"}]}
    usual = write(home / ".claude/settings.json", {"hooks": {"Elicitation": [group]}})
    assert hooks(home, env) == [usual]
    moved = write(home / "elsewhere/settings.json", {"hooks": {"Elicitation": [group]}})
    assert hooks(home, {**env, "CLAUDE_CONFIG_DIR": str(home / "elsewhere")}) == [moved]
