"""`parler bring` with real processes: the program that it starts, and nobody else, is in the session.

The program stands in for Codex: it reads the entry that `parler connect` wrote, starts what the entry says, and asks
for what is new, as a model would that was told to.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, Final

import pytest

from tests.support.processes import PARLER, PATIENCE_S, Somebody, skip_where_nobody_may_decide, until

pytestmark = pytest.mark.e2e

RECAP: Final = "Chose PKCE.\nLeft: rotation of the tokens."
PROGRAM: Final = r"""
import json, os, subprocess, sys, tomllib
said = {"words": sys.argv[1:], "pid": os.getpid(), "environment": dict(os.environ), "terminal": os.isatty(1)}
with open(os.path.expanduser("~/.codex/config.toml"), "rb") as file:
    entry = tomllib.load(file)["mcp_servers"]["parler"]
# What the strictest host passes on to its servers.
environment = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
server = subprocess.Popen(
    [entry["command"], *entry["args"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
)
def tell(**message):
    server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    server.stdin.flush()
def ask(id, method, **params):
    tell(id=id, method=method, params=params)
    for line in server.stdout:
        answer = json.loads(line)
        if answer.get("id") == id and "method" not in answer:
            return answer["result"]
client = {"name": "codex-mcp-client", "version": "1"}
ask(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=client)
tell(method="notifications/initialized")
thread = {"threadId": "thread-%d" % os.getpid()}
heard = ask(2, "tools/call", name="parler_recv", arguments={}, _meta=thread)
said["heard"] = heard["content"][0]["text"]
with open(os.path.expanduser("~/said.json.new"), "w") as file:
    json.dump(said, file)
os.rename(os.path.expanduser("~/said.json.new"), os.path.expanduser("~/said.json"))
print("the program says this")
server.stdin.close()
server.wait()
sys.exit(5 if "status 5" in sys.argv[-1] else 0)
"""


@pytest.fixture
def user(somebody: Somebody) -> Somebody:
    """Somebody who has that program, connected, and a session."""
    folder = somebody.user / "bin"
    folder.mkdir()
    program = folder / "codex"
    program.write_text(f"#!{sys.executable} -IS\n{PROGRAM}", encoding="utf-8")
    program.chmod(0o755)
    assert [host["status"] for host in somebody.asks("connect", "codex", variables=path_of(somebody))["hosts"]] == [
        "added"
    ]
    somebody.runs("session", "open", "--topic", "auth", "--context", RECAP)
    return somebody


def path_of(user: Somebody) -> dict[str, str]:
    return {"PATH": f"{user.user / 'bin'}:{os.environ['PATH']}"}


def said_by(user: Somebody) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((user.user / "said.json").read_text(encoding="utf-8"))
    return said


def roster(user: Somebody) -> dict[str, str]:
    return {member["name"]: member["host"] for member in user.asks("roster")["members"]}


def test_the_program_comes_up_in_the_session_with_no_key_in_its_words_or_its_environment(user: Somebody) -> None:
    skip_where_nobody_may_decide(["bring"])
    key = user.asks("session", "list")["sessions"][0]["keys"][0]["key"]
    consent = user.asks("connect", "codex", "--allow", "--yes", variables=path_of(user))
    assert [host["status"] for host in consent["allowed"]] == ["added"]
    ran = user.runs("bring", "codex", "--headless", "--json", "Plan the rest.", variables=path_of(user))
    said = said_by(user)
    assert "Left: rotation of the tokens." in said["heard"]
    assert key
    everything = json.dumps([said["words"], said["environment"], ran.document])
    assert key not in everything
    assert "PARLER" not in "".join(said["environment"])
    document = ran.document
    assert (document["host"], set(document)) == ("codex", {"host", "command", "room", "agent"})
    assert "the program says this" in ran.stderr
    (agent,) = [member for member in user.asks("roster")["members"] if member["host"] == "codex"]
    assert agent["id"] == document["agent"]
    assert user.asks("approvals")["requests"] == []


def test_the_same_program_started_by_hand_is_not_in_it(user: Somebody) -> None:
    skip_where_nobody_may_decide(["bring"])
    # Started by the very shell that starts `parler bring` a moment later, and before it.
    subprocess.run(
        [str(user.user / "bin" / "codex"), "by hand"], env=user.environment(**path_of(user)), check=True, timeout=60
    )
    assert "no_active_session" in said_by(user)["heard"]
    assert list(roster(user).values()) == ["cli"]


def test_in_a_terminal_the_command_becomes_the_program_and_ends_with_its_status(user: Somebody) -> None:
    skip_where_nobody_may_decide(["bring"])
    ours, theirs = os.openpty()
    try:
        child = subprocess.Popen(
            [*PARLER, "bring", "codex", "End with status 5"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=user.environment(**path_of(user), TERM="xterm", COLUMNS="80"),
        )
        user.children.append(child)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # what Linux says where the other end is closed
            while piece := os.read(ours, 65536):
                shown += piece
        status = child.wait(PATIENCE_S)
    finally:
        os.close(ours)
    text = shown.decode()
    assert status == 5, text
    said = said_by(user)
    assert said["pid"] == child.pid, "it is the same process"
    assert said["terminal"]
    assert said["words"][0] == "--no-daemon"
    assert "Left: rotation of the tokens." in said["heard"]
    before, _, after = text.partition("the program says this")
    assert after.strip() == ""
    assert str(user.user / "bin" / "codex") in before, "the command was shown before it was run"
    until(lambda: "codex" in roster(user).values(), "codex in the roster")


def test_what_an_agent_runs_brings_nobody(user: Somebody) -> None:
    user.runs("connect", "codex", "--allow", "--yes", variables=path_of(user))
    marked = {**path_of(user), "CLAUDECODE": "1"}
    user.fails("bring", "codex", "--headless", code="needs_person", variables=marked)
    assert not (user.user / "said.json").exists()
    assert "codex" not in roster(user).values()
