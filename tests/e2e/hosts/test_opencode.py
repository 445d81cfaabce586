"""The real OpenCode: it connects from either of the two layouts that its file can have, and its model calls a tool."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.hosts.sandbox import Sandbox
from tests.support.model_server import calls, model_server, says
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

BEFORE = """\
{
\t"$schema": "https://opencode.ai/config.json",
\t// the big one
\t"model": "anthropic/claude",
\t"mcp": {
\t\t"weather": { "type": "local", "command": ["/nonexistent/weather-server"], "enabled": false, }, // broken
\t},
}
"""
SECOND = """\
{
  "$schema": "https://opencode.ai/config.json",
  "mcp": {
    "servers": {
      // broken
      "weather": { "type": "local", "command": ["/nonexistent/weather-server"], "disabled": true }
    }
  }
}
"""


@pytest.mark.proves("opencode", "connected", "restored")
@pytest.mark.parametrize("before", [BEFORE, SECOND], ids=["first-layout", "second-layout"])
def test_it_connects_and_taking_us_out_gives_back_every_byte(somebody: Somebody, before: str) -> None:
    opencode = Sandbox(somebody, "opencode")
    opencode.connect(before)
    listed = re.sub(r"\x1b\[[0-9;]*m", "", opencode.asks("mcp", "list"))
    assert "✓ parler connected" in listed
    assert opencode.remove().decode() == before


@pytest.mark.proves("opencode", "tools", "call")
def test_its_model_is_offered_our_tools_and_calls_one(somebody: Somebody) -> None:
    opencode = Sandbox(somebody, "opencode")
    with model_server([calls("parler_parler_open_session", topic="auth")], [says("bye")]) as model:
        provider = {"anthropic": {"options": {"baseURL": f"{model.url}/v1", "apiKey": "of-no-use"}}}
        settings = {"provider": provider, "model": "anthropic/claude-sonnet-4-5", "permission": {"*": "allow"}}
        opencode.connect(json.dumps({**settings, "mcp": {}}, indent=2))
        opencode.asks("run", "go on", variables={"OPENCODE_DISABLE_MODELS_FETCH": "1"})
    assert {"parler_parler_send", "parler_parler_recv", "parler_parler_approve"} <= set(model.offered())
    (opened,) = model.tool_results(1)
    assert "your active session now" in opened
    assert somebody.asks("daemon", "status")["rooms"] == 1
