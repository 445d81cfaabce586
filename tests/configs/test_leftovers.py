"""Entries for one folder alone that start Parler: named, harmless unless they start another, taken out with ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from configs.connect import connect
from configs.hosts import find_host
from configs.leftovers import leftovers
from configs.project import entries
from configs.remove import remove
from tests.support.person import Person

CLAUDE: Final = find_host("claude-code")
ADDED: Final = {"type": "stdio", "command": "parler", "args": ["mcp"], "env": {"PARLER_SESSION_KEY": "A3KE7DJR"}}
"""What `claude mcp add parler -e PARLER_SESSION_KEY=A3KE7DJR -- parler mcp` writes."""


def written(ann: Person, entry: Any, folder: str = "/srv/shop") -> str:
    document = {
        "numStartups": 3,
        "projects": {folder: {"allowedTools": [], "mcpServers": {"other": {"command": "x"}, "parler": entry}}},
    }
    text = json.dumps(document, indent=2)
    ann.write(".claude.json", text)
    return text


def shim_of(ann: Person, home: Path | None = None) -> dict[str, Any]:
    root = home or ann.parler.root
    return {"command": str(ann.python), "args": ["-I", "-S", f"{root}/run/shim.py", "--host", "x", "--home", str(root)]}


def test_the_line_that_was_handed_over_is_known_and_no_stranger_in_the_repository(ann: Person) -> None:
    folder = ann.home / "shop"
    (folder / ".git").mkdir(parents=True)
    written(ann, ADDED, str(folder))
    (found,) = leftovers(ann.place)
    assert (found.folder, found.problem) == (str(folder), "")
    assert "claude mcp remove -s local parler" in found.fix
    assert entries(folder, ann.env) == []


@pytest.mark.parametrize(
    "entry", [{"command": "x"}, {"command": "npx", "args": ["mcp"]}, "parler mcp", {"command": "parler"}, None]
)
def test_what_starts_something_else_is_none_of_ours(ann: Person, entry: Any) -> None:
    before = written(ann, entry)
    assert leftovers(ann.place) == []
    list(remove(ann.place, [CLAUDE]))
    assert ann.path(".claude.json").read_text() == before


def test_a_file_that_cannot_be_read_has_none(ann: Person) -> None:
    for text in ("{", '{"projects": ["parler"]}', '{"projects": {"/x": {"mcpServers": ["parler"]}}}'):
        ann.write(".claude.json", text)
        assert leftovers(ann.place) == []


def test_ours_goes_with_the_rest_and_nothing_else_does(ann: Person) -> None:
    before = written(ann, ADDED)
    (added,) = connect(ann.place, [CLAUDE], chosen=True)
    assert any("/srv/shop alone" in note for note in added.notes)
    assert [each.status for each in remove(ann.place, [CLAUDE], dry_run=True)] == ["removed", "removed"]
    whole, alone = remove(ann.place, [CLAUDE])
    assert (whole.status, alone.status) == ("removed", "removed")
    assert "/srv/shop" in alone.reason
    left = json.loads(before)
    del left["projects"]["/srv/shop"]["mcpServers"]["parler"]
    assert ann.path(".claude.json").read_text() == json.dumps(left, indent=2)
    assert leftovers(ann.place) == []


def test_it_goes_where_nothing_was_connected_too(ann: Person) -> None:
    written(ann, shim_of(ann))
    statuses = [each.status for each in remove(ann.place, [CLAUDE])]
    assert statuses[-1] == "removed"
    assert b"parler" not in ann.path(".claude.json").read_bytes()


def test_one_that_starts_the_parler_of_another_home_or_nothing_is_a_problem_and_stays(ann: Person) -> None:
    for entry, problem in (
        (shim_of(ann, Path("/other/home")), "another home"),
        ({**ADDED, "env": {"PARLER_HOME": "/other/home"}}, "another home"),
        ({**ADDED, "args": ["mcp", "--home", "/other/home"]}, "another home"),
        ({**ADDED, "command": "/gone/parler"}, "/gone/parler"),
    ):
        before = written(ann, entry)
        (found,) = leftovers(ann.place)
        assert problem in found.problem
        list(remove(ann.place, [CLAUDE]))
        assert ann.path(".claude.json").read_text() == before
    written(ann, {**ADDED, "env": {"PARLER_HOME": str(ann.parler.root)}})
    (fine,) = leftovers(ann.place)
    assert fine.problem == ""
