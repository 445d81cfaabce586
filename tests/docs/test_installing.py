"""The installing page and the README's table: what they tell somebody to type is what there is, and has its test."""

from __future__ import annotations

from typing import Final

import pytest

from configs.hosts import HOSTS
from configs.model import Host
from configs.package.about import about
from configs.package.listing import name_of
from tests.support.pages import ROOT, rows

PAGE: Final = ROOT / "docs" / "installing.md"
TESTS: Final = {
    "uv": "e2e/packages/test_python",
    "pipx": "e2e/packages/test_python",
    "pip": "e2e/packages/test_python",
    "a checkout": "e2e/packages/test_python",
    "Docker": "e2e/packages/test_relay",
    "Docker, with [PostgreSQL](scale.md) and two relays": "e2e/packages/test_relay_database",
    "systemd": "e2e/packages/test_relay",
    "systemd, with [PostgreSQL](scale.md)": "e2e/packages/test_relay_database",
    "one user": "e2e/test_team",
    "Claude Code's plugins": "e2e/hosts/test_plugins",
    "Codex' plugins": "e2e/hosts/test_plugins",
    "Gemini CLI's extensions": "e2e/hosts/test_plugins",
    "Claude Desktop": "e2e/packages/test_listed",
    "the MCP registry": "e2e/packages/test_listed",
    "a server for a team": "e2e/packages/test_relay",
    "Homebrew, Debian": "e2e/packages/test_systems",
    **{host.name: "e2e/hosts/test_plugins" for host in HOSTS if host.plugins is not None and host.plugins.adds},
}
"""The test that types the lines of a row."""
HEADS: Final = {"with", "program", "where people look"}


def table() -> dict[str, list[str]]:
    return {row[0].strip("`"): row[1:] for row in rows(PAGE) if row[0] not in HEADS}


def readme() -> dict[str, str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Other ways\n")[2].partition("\n## ")[0]
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {first.strip("`"): rest for first, rest in cells if first not in HEADS}


def test_every_row_has_a_test_that_types_it() -> None:
    named = {*table(), *readme()}
    assert named == set(TESTS)
    missing = [name for name in named if not (ROOT / "tests" / f"{TESTS[name]}.py").exists()]
    assert missing == []


@pytest.mark.parametrize("host", [host for host in HOSTS if host.plugins is not None], ids=lambda host: host.id)
def test_the_page_has_the_commands_that_a_host_names(host: Host) -> None:
    assert host.plugins is not None
    adds, removes = table()[host.name]
    assert adds == "<br>".join(f"`{line}`" for line in host.plugins.adds)
    assert removes == "<br>".join(f"`{line}`" for line in host.plugins.removes)


def test_the_readme_says_what_the_page_says() -> None:
    short = readme()
    for name in ("uv", "pipx", "pip"):
        assert short[name] == table()[name][0]
    for name, cell in short.items():
        for host in HOSTS:
            if name.startswith(host.name) and host.plugins is not None:
                assert cell == ", then ".join(f"`{line}`" for line in host.plugins.adds)
    assert short["the MCP registry"] == f"`{name_of(about())}`"
