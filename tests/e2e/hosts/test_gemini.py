"""The real Gemini CLI: it starts Parler in a folder that it was told to trust, and in no other."""

from __future__ import annotations

import json

import pytest

from tests.e2e.hosts.sandbox import Sandbox
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

BEFORE = """\
{
    // my theme
    "ui": { "theme": "GitHub" },
    "privacy": { "usageStatisticsEnabled": false }, /* no statistics */
    "mcpServers": {
        // broken since May
        "weather": { "command": "/nonexistent/weather-server", "args": ["--city", "Zürich"] }
    }
}
"""


@pytest.fixture
def gemini(somebody: Somebody) -> Sandbox:
    sandbox = Sandbox(somebody, "gemini")
    sandbox.connect(BEFORE)
    return sandbox


def line_of_parler(listed: str) -> str:
    (line,) = [line for line in listed.splitlines() if " parler: " in line]
    return line


@pytest.mark.proves("gemini", "connected")
def test_it_connects_in_a_folder_that_it_trusts(gemini: Sandbox) -> None:
    line = line_of_parler(gemini.asks("mcp", "list", variables={"GEMINI_CLI_TRUST_WORKSPACE": "true"}))
    assert line.startswith("✓")
    assert line.endswith("(stdio) - Connected")


def test_it_does_not_start_us_in_a_folder_that_it_does_not_trust(gemini: Sandbox) -> None:
    line = line_of_parler(gemini.asks("mcp", "list"))
    assert line.endswith("(stdio) - Disabled")


@pytest.mark.proves("gemini", "restored")
def test_taking_us_out_after_it_rewrote_its_file_keeps_everything_else(gemini: Sandbox) -> None:
    gemini.asks("mcp", "add", "-s", "user", "clock", "/nonexistent/clock")
    rewritten = gemini.file.read_text()
    assert "clock" in rewritten
    after = gemini.remove().decode()
    assert "parler" not in after
    # Line for line: what is missing is ours alone, and the comments are where the host left them.
    kept = iter(rewritten.splitlines())
    assert all(line.rstrip(",") in (each.rstrip(",") for each in kept) for line in after.splitlines())
    assert "// my theme" in after
    assert "// broken since May" in after
    servers = json.loads("".join(line.split("//")[0].split("/*")[0] for line in after.splitlines()))["mcpServers"]
    assert set(servers) == {"weather", "clock"}
