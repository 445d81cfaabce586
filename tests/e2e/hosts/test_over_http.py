"""Two agents that are given a base URL and a token each, and nothing else: a plain loop, and a model in a real host
that has a shell and no Parler. Each finds out from the server alone what there is to do; they come in, talk, share
state and hand over the turn; and each keeps a receipt that a program without Parler checks."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from tests.cli.test_receipts import program_of_the_page
from tests.e2e.hosts.sandbox import Sandbox
from tests.e2e.test_http import Program
from tests.support.dialects.blocks import Block, Request
from tests.support.model_server import Script, calls, says, scripted_model
from tests.support.processes import Somebody, skip_where_nobody_may_decide

pytestmark = pytest.mark.e2e

SETTINGS: Final = {"model": "anthropic/claude-sonnet-4-5", "permission": {"*": "allow"}}
NEXT: Final = "look at the login, and say what you think of it"


class Loop(Program):
    """A loop without a model: it follows what the server describes."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(url, token)
        status, described = self.asks("GET /openapi.json")
        assert status == 200
        self._calls = {
            each["operationId"]: (method.upper(), path)
            for path, methods in described["paths"].items()
            for method, each in methods.items()
        }

    def does(self, operation: str, body: dict[str, Any] | None = None, query: str = "", **path: str) -> Any:
        """An operation by its name, and the JSON of its answer."""
        method, target = self._calls[operation]
        status, answer = self.asks(f"{method} {target.format(**path)}{query}", body)
        assert status in (200, 201), (operation, answer)
        return answer

    def becomes(self, token: str) -> None:
        self._headers["Authorization"] = f"Bearer {token}"


def build(url: str, token: str, kept: dict[str, Any]) -> None:
    """The loop: comes in, says what it does, waits for the other one, hands over the turn, and keeps the receipt."""
    with Loop(url, token) as loop:
        joined = loop.does("join.begin", {"name": "builder"})
        loop.becomes(joined["token"])
        (room,) = [each["room"] for each in loop.does("rooms.list")["rooms"]]
        may = {row["operation"]: row for row in loop.does("room.affordances", room=room)["affordances"]}
        assert may["state.set"]["allowed"]
        loop.does("state.set", {"key": "phase", "value": "building"}, room=room)
        loop.does("message.send", {"text": "the login is built"}, room=room)
        there = "has(agents.reviewer)"
        while not loop.does("state.wait", query=f"?condition={quote(there)}&wait_ms=50000", room=room)["triggered"]:
            pass
        gave = loop.does("handoff.give", {"next": NEXT, "for": "reviewer"}, room=room)
        said = quote("has(state._shared.verdict)")
        while not loop.does("state.wait", query=f"?condition={said}&wait_ms=50000", room=room)["triggered"]:
            pass
        kept["verdict"] = loop.does("state.get", query="?key=verdict", room=room)["value"]
        kept["messages"] = [each["text"] for each in loop.does("message.recv", room=room)["messages"]]
        kept["receipt"] = loop.does("receipt.get", room=room, id=gave["receipt"]["fact"])
        kept["shown"] = loop.does("message.disclosures", room=room)["messages"]


def review(url: str, token: str, verify: Sequence[str]) -> Callable[[Request], Script]:
    """The model: what it calls follows from what the server told it, and from nothing else."""

    def shell(command: str) -> Sequence[Block]:
        return [calls("bash", command=command, description="ask the server")]

    def curl(line: str, bearer: str, body: Any = None) -> Sequence[Block]:
        method, _, path = line.partition(" ")
        words = ["curl", "-sS", "-X", method, f"{url}{path}", "-H", f"Authorization: Bearer {bearer}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        return shell(shlex.join(words))

    def script(request: Request) -> Script:
        request = yield shell(f"curl -sS {url}/llms.txt")
        page = request.results[-1]
        join = _line(page, "Join a room as a new agent")
        request = yield curl(join, token, {"name": "reviewer", "role": "reviewer"})
        me = json.loads(request.results[-1])
        bearer, room = me["token"], me["room"]
        read = _line(page, "Read what is new for you in a room").replace("{room}", room)
        while True:
            request = yield curl(f"{read}?wait_ms=20000", bearer)
            if NEXT in request.results[-1]:
                break
        request = yield curl(_line(page, "may do").replace("{room}", room), bearer)
        step = json.loads(request.results[-1])["next"][0]
        request = yield curl(f"{step['method']} {step['path']}", bearer, step.get("body", {}))
        took = json.loads(request.results[-1])
        write = _line(page, "Write one key").replace("{room}", room)
        request = yield curl(_line(page, "Post to a room").replace("{room}", room), bearer, {"text": "looked at it"})
        request = yield curl(write, bearer, {"key": "verdict", "value": "it holds"})
        receipt = _line(page, "receipt of a message").replace("{room}", room).replace("{id}", took["receipt"]["fact"])
        path = shlex.join(["curl", "-sS", f"{url}{receipt.partition(' ')[2]}", "-H", f"Authorization: Bearer {bearer}"])
        request = yield shell(f"{path} > receipt.json && {shlex.join(verify)}")
        yield [says(f"verdict: {request.results[-1]}")]

    return script


def _line(page: str, words: str) -> str:
    """The call whose line on the page says this."""
    found = re.search(rf"^- ((?:GET|POST|PUT) /v1\S*) \(.*{re.escape(words)}", page, re.M)
    assert found is not None, (words, page)
    return found[1]


def test_a_loop_and_a_model_find_each_other_with_a_base_url_and_a_token(somebody: Somebody, tmp_path: Path) -> None:
    skip_where_nobody_may_decide(["token", "mint"])
    host = Sandbox(somebody, "opencode")
    somebody.opens("alice", topic="team")
    url = somebody.runs("serve-http", "--json").document["url"]
    minted = [
        somebody.runs("--as", "alice", "token", "mint", "--join", "--room", "team", "--json").document["token"]
        for _ in range(2)
    ]
    home = somebody.runs("receipt", "keys", "--json").document["keys"][0]["id"]
    verify = [sys.executable, "-I", str(program_of_the_page(tmp_path)), "receipt.json", home]
    kept: dict[str, Any] = {}
    builder = threading.Thread(target=build, args=(url, minted[0], kept))
    builder.start()
    with scripted_model() as model:
        model.play(review(url, minted[1], verify))
        provider = {"anthropic": {"options": {"baseURL": f"{model.url}/v1", "apiKey": "of-no-use"}}}
        host.has(json.dumps({**SETTINGS, "provider": provider}))
        prompt = f"You have {url} and a token. Help there."
        said = host.asks("run", prompt, variables={"OPENCODE_DISABLE_MODELS_FETCH": "1"})
    builder.join(120)
    if model.failures:
        raise model.failures[0]
    assert not builder.is_alive()
    assert kept["verdict"] == "it holds"
    assert "looked at it" in kept["messages"]
    assert "verdict: valid" in said
    # The model saw the words of the other one, and no tool of ours.
    assert not [name for name in model.offered() if "parler" in name]
    path = tmp_path / "receipt.json"
    path.write_text(json.dumps(kept["receipt"]))
    ran = subprocess.run([*verify[:-2], str(path), home], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip()) == (0, "valid")
    trail = [line.split()[2] for line in kept["receipt"]["receipt"].splitlines() if line.startswith("step ")]
    assert trail == ["handoff.give", "handoff.accept"]
    assert "stage complete" in kept["receipt"]["receipt"]
    assert any("reviewer" in [each["name"] for each in message["shown"]] for message in kept["shown"])
