"""The real droid of Factory: it connects."""

from __future__ import annotations

import json

import pytest

from tests.e2e.hosts.sandbox import OTHER, Sandbox, without_parler
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

BEFORE = json.dumps({"mcpServers": {"weather": {"type": "stdio", **OTHER, "disabled": True}}}, indent=2) + "\n"


@pytest.mark.proves("droid", "connected", "restored")
def test_it_connects_and_taking_us_out_leaves_the_rest(somebody: Somebody) -> None:
    droid = Sandbox(somebody, "droid")
    droid.connect(BEFORE)
    (line,) = [line for line in droid.asks("mcp", "list").splitlines() if line.strip().startswith("parler ")]
    assert line.split() == ["parler", "stdio", "connected", "[user]"]
    kept = json.loads(droid.file.read_bytes())
    assert json.loads(droid.remove()) == without_parler(kept, "mcpServers")
