"""The real Qwen Code: it connects, and adds a key of its own to the file."""

from __future__ import annotations

import re

import pytest

from tests.e2e.hosts.sandbox import Sandbox
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

BEFORE = """\
{
  // my theme
  "ui": { "theme": "GitHub" },
  "mcpServers": {
    // broken since May
    "weather": { "command": "/nonexistent/weather-server", "args": [] }
  }
}
"""


@pytest.mark.proves("qwen", "connected", "restored")
def test_it_connects_and_taking_us_out_after_it_rewrote_its_file_leaves_what_it_wrote(somebody: Somebody) -> None:
    qwen = Sandbox(somebody, "qwen")
    qwen.connect(BEFORE)
    listed = re.sub(r"\x1b\[[0-9;]*m", "", qwen.asks("mcp", "list"))
    (line,) = [line for line in listed.splitlines() if " parler: " in line]
    assert line.startswith("✓")
    assert line.endswith("(stdio) - Connected")
    assert '"$version"' in qwen.file.read_text(), "it was to have written something of its own"
    after = qwen.remove().decode()
    assert "parler" not in after
    assert all(text in after for text in ("// my theme", "// broken since May", '"weather"', '"$version"'))
