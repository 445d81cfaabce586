"""Hosts whose settings nothing else here looks at: Parler goes in beside what was there, the program reads its file,
and taking Parler out leaves the rest, also when the program has written into the file meanwhile."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import pytest

from tests.e2e.hosts.programs import find
from tests.e2e.hosts.sandbox import OTHER, Sandbox
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

SERVERS: Final = json.dumps({"mcpServers": {"weather": OTHER}}, indent=2) + "\n"
KILO: Final = """\
{
  // the big one
  "model": "anthropic/claude",
  "mcp": {
    "weather": { "type": "local", "command": ["/nonexistent/weather-server"], "enabled": false }, // broken
  },
}
"""
GROK: Final = """\
# My settings.
[models]
default = "grok-4.6"  # the usual

[mcp_servers.weather]  # off while it is broken
command = "/nonexistent/weather-server"
enabled = false
"""


@pytest.mark.parametrize(
    ("program", "before", "words", "shown"),
    [
        pytest.param(
            program, before, words, shown, marks=pytest.mark.proves(find(program).host, "restored"), id=program
        )
        for program, before, words, shown in (
            ("copilot", SERVERS, ("mcp", "list"), "parler (local)"),
            ("cline", SERVERS, ("version",), ""),
            ("kilo", KILO, ("mcp", "list"), "parler"),
            ("grok", GROK, ("mcp", "list"), "parler"),
            ("kimi", SERVERS, ("doctor",), ""),
        )
    ],
)
def test_it_reads_our_entry_beside_another_and_taking_us_out_leaves_that(
    somebody: Somebody, program: str, before: str, words: Sequence[str], shown: str
) -> None:
    host = Sandbox(somebody, program)
    host.connect(before)
    assert shown in host.asks(*words)
    kept = host.file.read_text(encoding="utf-8")
    assert "parler" in kept
    after = host.remove().decode()
    assert "parler" not in after
    # Line for line: what is missing is ours alone, and what the host wrote is where it left that.
    lines = iter(kept.splitlines())
    assert all(line.rstrip(",") in (each.rstrip(",") for each in lines) for line in after.splitlines())
    assert "weather" in after
