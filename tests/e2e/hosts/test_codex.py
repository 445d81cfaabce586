"""The real Codex, without a login or a model: its program server starts Parler, calls it, and shows its form."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.hosts.sandbox import Sandbox, without_parler
from tests.support.processes import Somebody
from tests.support.reader import key_in

pytestmark = pytest.mark.e2e

BEFORE = """\
# My settings. Do not touch!
model = "gpt-5"   # the usual

[analytics]
enabled = false

[mcp_servers.weather]  # off while it is broken
command = "/nonexistent/weather-server"
args = ["--city", "Zürich"]
enabled = false
"""


@pytest.fixture
def codex(somebody: Somebody) -> Sandbox:
    sandbox = Sandbox(somebody, "codex")
    sandbox.connect(BEFORE)
    return sandbox


class AppServer:
    """A talk with `codex app-server`: requests, and a person who answers the forms that come back."""

    def __init__(self, child: subprocess.Popen[str], person: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._child = child
        self._person = person
        self._next = 0
        client = {"name": "test", "title": "Test", "version": "1"}
        self.asks("initialize", clientInfo=client, capabilities={"experimentalApi": True})
        self._send({"method": "initialized"})

    def asks(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a request; forms that come before it are answered."""
        self._next += 1
        self._send({"id": self._next, "method": method, "params": params})
        found = self._reads(lambda each: each.get("id") == self._next and "method" not in each)
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    def waits(self, method: str, **params: Any) -> None:
        """Until it tells of that."""
        self._reads(lambda each: each.get("method") == method and params.items() <= each["params"].items())

    def _send(self, message: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(message) + "\n")
        self._child.stdin.flush()

    def _reads(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            message: dict[str, Any] = json.loads(line)
            if message.get("method") == "mcpServer/elicitation/request":
                self._send({"id": message["id"], "result": self._person(message["params"])})
            elif wanted(message):
                return message
        raise AssertionError("it ended")


@pytest.mark.proves("codex", "restored")
def test_it_reads_our_entry_beside_those_that_were_there(codex: Sandbox) -> None:
    # It also warns on the same channel when its home is a temporary folder.
    listed = codex.asks("mcp", "list", "--json")
    servers = {server["name"]: server for server in json.loads(listed[listed.index("[\n") :])}
    assert set(servers) == {"parler", "weather"}
    assert servers["parler"]["enabled"] is True
    assert servers["parler"]["transport"]["type"] == "stdio"
    assert (servers["parler"]["startup_timeout_sec"], servers["parler"]["tool_timeout_sec"]) == (20.0, 120.0)
    kept = tomllib.loads(codex.file.read_text())
    restored = codex.remove().decode()
    assert tomllib.loads(restored) == without_parler(kept, "mcp_servers")
    assert restored == BEFORE


@pytest.mark.proves("codex", "connected", "tools", "call", "form")
def test_it_starts_us_lists_our_tools_and_a_person_admits_somebody_through_its_form(codex: Sandbox) -> None:
    shown: list[dict[str, Any]] = []
    codes: list[str] = []

    def person(form: dict[str, Any]) -> dict[str, Any]:
        shown.append(form)
        return {"action": "accept", "content": {"code": codes[0]}, "_meta": None}

    with codex.talking("app-server") as child:
        server = AppServer(child, person)
        status = {each["name"]: each for each in server.asks("mcpServerStatus/list")["data"]}["parler"]
        assert status["toolsError"] is None
        assert status["serverInfo"]["name"] == "parler"
        assert {"parler_open_session", "parler_send", "parler_recv", "parler_approve"} <= set(status["tools"])

        thread = server.asks("thread/start", cwd=str(codex.folder))["thread"]["id"]
        server.waits("mcpServer/startupStatus/updated", name="parler", status="ready")

        def call(tool: str, **arguments: Any) -> str:
            result = server.asks(
                "mcpServer/tool/call", threadId=thread, server="parler", tool=tool, arguments=arguments
            )
            assert result["isError"] is False, result
            (block,) = result["content"]
            text: str = block["text"]
            return text

        key = key_in(call("parler_open_session", topic="auth"))
        knock = codex.somebody.asks("session", "join", key, "--as", "bob", expect=4)
        codes.append(knock["code"])
        assert "bob" in call("parler_approve")
        assert [form["serverName"] for form in shown] == ["parler"]
        assert knock["code"] not in json.dumps(shown), "the form shows the code that it asks for"

        assert codex.somebody.asks("session", "join", key, "--as", "bob")["status"] == "joined"
        codex.somebody.asks("send", "from the shell", "--as", "bob")
        assert "from the shell" in call("parler_recv", wait_secs=20)
