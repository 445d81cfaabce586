"""The real Claude Code shares files and code and does a task: every call is the one that the answer before it named.

The model stands on the loopback. It says nothing of its own where an answer of ours says how to go on, so what an
answer names is what the next tool takes.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from tests.e2e.hosts.sandbox import Sandbox
from tests.support.git import work_in
from tests.support.model_server import Block, Request, calls, model_server, says
from tests.support.processes import Somebody

pytestmark = pytest.mark.e2e

NAMED = re.compile(r"(parler_\w+) (\{.*?\})(?:$|\s)", re.MULTILINE)


def named(answer: str, tool: str, **more: Any) -> Block:
    """The newest call of a tool that an answer names, as the host calls it; `more` fills in what the answer leaves
    open."""
    found = [json.loads(arguments) for name, arguments in NAMED.findall(answer) if name == tool]
    assert found, answer
    return calls(f"mcp__parler__{tool}", **{**found[-1], **more})


def test_a_model_shares_takes_and_works_by_the_calls_that_the_answers_name(somebody: Somebody) -> None:
    claude = Sandbox(somebody, "claude")
    claude.connect("{}")
    work = work_in(somebody.user / "elsewhere")
    tip = work.commit(f="1")
    claude.folder.rmdir()
    mine = work_in(claude.folder)
    mine.commit(g="2")
    opened = somebody.asks("session", "open", "--topic", "code", "--no-approval", "--as", "ann")
    pushed = somebody.asks("push", "--as", "ann", "--note", "the way in", preexec=partial(os.chdir, work.folder))
    (work.folder / "report.md").write_text("the numbers")
    somebody.asks("send-file", "report.md", "--as", "ann", preexec=partial(os.chdir, work.folder))
    somebody.asks("send", "--as", "ann", "--kind", "task", "wire the login form")

    def apply_and_fetch(request: Request) -> Sequence[Block]:
        text = request.results[-1]
        taken = [json.loads(arguments) for name, arguments in NAMED.findall(text) if name == "parler_share"]
        assert [each["action"] for each in taken] == ["apply", "fetch"], text
        return [calls("mcp__parler__parler_share", **taken[0]), calls("mcp__parler__parler_share", **taken[1])]

    def claim(request: Request) -> Sequence[Block]:
        return [calls("mcp__parler__parler_act", action="claim")]

    def complete(request: Request) -> Sequence[Block]:
        return [named(request.results[-1], "parler_act", text="done: src/login.ts")]

    def share(request: Request) -> Sequence[Block]:
        return [
            calls("mcp__parler__parler_share", action="push", note="mine"),
            calls("mcp__parler__parler_share", action="send", path="g"),
        ]

    joins = calls("mcp__parler__parler_join_session", key=opened["key"])
    tools = [f"mcp__parler__parler_{name}" for name in ("join_session", "recv", "share", "act")]
    with model_server([joins], apply_and_fetch, claim, complete, share, [says("bye")]) as model:
        claude.asks("-p", "--allowedTools", *tools, "--", "go on", variables=model.environment)
    assert not model.failures
    said = [text for turn in range(1, len(model.requests)) for text in model.tool_results(turn)]
    assert not [text for text in said if text.startswith(("invalid_param", "internal"))]
    assert mine.refs()[f"refs/parler/{pushed['blob'][:16]}"] == tip
    assert [path.read_text() for path in claude.folder.glob("parler-*")] == ["the numbers"]
    page = somebody.asks("recv", "--as", "ann")
    kinds = [message["kind"] for message in page["messages"]]
    assert kinds == ["result", "code", "file"]
    assert [message["text"] for message in page["messages"]][:2] == ["done: src/login.ts", "mine"]
