"""The plugin's files, against each other and against the registry; the published schemas are a program's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from configs.package import listing, plugins
from configs.package.about import about
from configs.package.files import as_json, put
from parlerd.operations.tools import TOOLS

FILES = plugins.plugin(about())


def lint(path: Path) -> subprocess.CompletedProcess[str]:
    """What `skillsaw` says: it has the schemas of Agent Plugins, of skills and of the MCP registry in it."""
    program = "from skillsaw.__main__ import main; main()"
    return subprocess.run(
        [sys.executable, "-I", "-c", program, "lint", "--strict", str(path)],
        cwd=path if path.is_dir() else path.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_manifest_says_the_same_of_parler() -> None:
    found = [json.loads(FILES[name]) for name in ("plugin.json", ".claude-plugin/plugin.json", "gemini-extension.json")]
    for document in found:
        assert (document["name"], document["version"]) == ("parler", about().version)
        assert document["description"] == about().description


@pytest.mark.parametrize("name", ["mcp.json", ".claude-plugin/plugin.json", "gemini-extension.json"])
def test_every_program_starts_the_same_file_of_the_folder(name: str) -> None:
    (entry,) = json.loads(FILES[name])["mcpServers"].values()
    assert re.sub(r"^(\./|\$\{\w+\}/)", "", entry["command"]) == plugins.STARTER


def test_the_folder_fits_the_published_schemas(tmp_path: Path) -> None:
    put(tmp_path, FILES)
    ran = lint(tmp_path)
    assert ran.returncode == 0, ran.stdout
    assert "agent-plugin" in ran.stdout


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("plugin.json", '"license"', '"licence"'),
        ("mcp.json", '"type": "stdio"', '"type": "pipe"'),
        ("mcp.json", "1.0.0/mcp", "2.0.0/mcp"),
        ("skills/parler/SKILL.md", "name: parler", "name: other"),
    ],
)
def test_a_folder_that_does_not_is_noticed(file: str, old: str, new: str, tmp_path: Path) -> None:
    assert old in FILES[file]
    put(tmp_path, {**FILES, file: FILES[file].replace(old, new)})
    assert lint(tmp_path).returncode != 0


def test_the_skill_names_tools_that_there_are_and_is_short() -> None:
    text = FILES["skills/parler/SKILL.md"]
    assert set(re.findall(r"parler_\w+", text)) <= set(TOOLS)
    for argument, tool in (("topic", "parler_open_session"), ("context", "parler_open_session")):
        assert argument in {each.name for each in TOOLS[tool].arguments}
    assert {"wait_secs"} <= {each.name for each in TOOLS["parler_recv"].arguments}
    assert {"next", "state", "questions"} <= {each.name for each in TOOLS["parler_handoff"].arguments}
    assert len(text) < 3_500, "each conversation that opens it pays for it"


def test_the_entry_of_the_registry_fits_its_schema(tmp_path: Path) -> None:
    file = tmp_path / "server.json"
    document = listing.server(about())
    file.write_text(as_json(document))
    ran = lint(tmp_path)
    assert ran.returncode == 0, ran.stdout
    file.write_text(as_json({**document, "packages": [{"registryType": "pypi", "identifier": "parlerd"}]}))
    assert lint(tmp_path).returncode != 0


def test_the_bundle_starts_what_the_plugin_starts() -> None:
    files = listing.bundle(about())
    manifest = json.loads(files["manifest.json"])
    assert files[manifest["server"]["entry_point"]] == FILES[plugins.STARTER]
    assert [tool["name"] for tool in manifest["tools"]] == list(TOOLS)
