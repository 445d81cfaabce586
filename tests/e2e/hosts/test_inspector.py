"""The protocol's own inspector in front of the entry that `parler connect` prints."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.e2e.hosts.sandbox import Sandbox
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e


LISTS_ROOMS: Final = ("--method", "tools/call", "--tool-name", "parler_rooms", "--tool-arg", "action=list")


@pytest.fixture
def inspector(somebody: Somebody) -> Sandbox:
    sandbox = Sandbox(somebody, "inspector")
    somebody.asks("daemon", "start")
    return sandbox


def asked(inspector: Sandbox, *words: str, expect: int = 0) -> Any:
    said = inspector.asks("--cli", *inspector.entry_command(), "--format", "json", *words, expect=None)
    lines = [line for line in said.splitlines() if line.startswith("{")]
    document = json.loads(lines[-1])
    assert ("error" in document) == bool(expect), said
    return document.get("result", document)


def only_text(result: Any) -> str:
    """The text of a result that has nothing else."""
    assert "structuredContent" not in result
    (block,) = result["content"]
    text: str = block["text"]
    return text


@pytest.mark.proves("inspector", "connected", "tools")
def test_every_tool_is_portable_by_its_strict_check(inspector: Sandbox) -> None:
    tools = asked(inspector, "--method", "tools/list", "--strict")["tools"]
    assert {"parler_open_session", "parler_approve"} <= {tool["name"] for tool in tools}


@pytest.mark.proves("inspector", "call")
@pytest.mark.parametrize("era", ["legacy", "auto"])
def test_a_tool_can_be_called_in_the_era_that_we_speak(inspector: Sandbox, era: str) -> None:
    result = asked(inspector, "--protocol-era", era, *LISTS_ROOMS)
    assert "You are in no room." in only_text(result)
    assert result["isError"] is False


def test_the_newer_era_is_not_offered_unless_it_was_set(inspector: Sandbox) -> None:
    refused = asked(inspector, "--protocol-era", "modern", "--method", "tools/list", expect=1)
    assert "did not offer pinned protocol version" in refused["error"]["message"]


@pytest.mark.parametrize("era", ["modern", "auto", "legacy"])
def test_with_the_newer_era_set_a_tool_can_be_called_in_each(somebody: Somebody, era: str) -> None:
    somebody.home.root.mkdir(mode=0o700)
    somebody.home.settings.write_text('[mcp]\nera = "modern"\n')
    somebody.home.settings.chmod(0o600)
    inspector = Sandbox(somebody, "inspector")
    somebody.asks("daemon", "start")
    assert "You are in no room." in only_text(asked(inspector, "--protocol-era", era, *LISTS_ROOMS))
