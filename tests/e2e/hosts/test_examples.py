"""The patterns of `examples`, where one of the agents is a real Claude Code and does what its model calls.

Every other agent stays what it is in the example: a window without a host. The model is scripted call by call: it calls
what the example has its agent call, and the example goes on with the text that the model was given.
"""

from __future__ import annotations

import importlib
import queue
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from examples import agents
from tests.e2e.hosts.drivers import ClaudeCode
from tests.e2e.hosts.seat import Seat, Talk, seated
from tests.e2e.test_examples import state
from tests.support.dialects.blocks import Block, calls
from tests.support.processes import Somebody, Variables, put_program, skip_where_nobody_may_decide
from tests.support.reader import error_in

pytestmark = pytest.mark.e2e

BOARD: Final = ["e2e4", "e7e5", "g1f3", "b8c6", "f1b5", "a7a6"]
PATTERNS: Final[dict[str, tuple[str, str, dict[str, Any]]]] = {
    "turn_based": ("black", "white", {"board": BOARD, "turn": 6, "player": "white"}),
    "fan_out": ("worker-1", "coordinator", {"tasks_total": 5, "tasks_done": 5, "posted": True}),
    "consensus": ("deputy", "chair", {"votes_for": 2, "votes_against": 1, "outcome": "approved", "phase": "decided"}),
    "pipeline": ("processing", "ingestion", {"data": ["1. apple", "2. fig", "3. pear"], "stage": "done"}),
    "dark_room": ("player", "narrator", {"wood": 2, "turn": 3, "narrator.embarked": True, "narrator.compass": True}),
}
"""Each pattern: which of its agents is the host, and what it leaves, as which agent sees that."""


class Claude(ClaudeCode):
    """Claude Code as an agent of this name, whose person lets it write to the state and act unasked."""

    def __init__(self, name: str) -> None:
        self._name = name

    def variables(self, url: str) -> Variables:
        return {**super().variables(url), "PARLER_AGENT": self._name}

    def words(self, prompt: str) -> Sequence[str]:
        return ("--allowedTools", "mcp__parler", *super().words(prompt))


class HostAgent(agents.Agent):
    """An agent of an example whose calls a real host makes."""

    def __init__(self, name: str, seat: Seat) -> None:
        self.name = name
        self._calls: queue.Queue[Block | None] = queue.Queue()
        self._texts: queue.Queue[str] = queue.Queue()
        self._stack = ExitStack()
        self._run = self._stack.enter_context(seat.runs(self._talk()))

    def _talk(self) -> Talk:
        while (block := self._calls.get()) is not None:
            self._texts.put((yield block))

    def call(self, tool: str, **arguments: Any) -> str:
        self._calls.put(calls(tool, **arguments))
        text = self._run.gets(self._texts)
        if error_in(text) is not None:
            raise agents.Refused(text)
        return text

    def close(self) -> None:
        self._calls.put(None)
        with self._stack:
            self._run.ends()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_real_host_plays_its_part(
    pattern: str, somebody: Somebody, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_where_nobody_may_decide(["session", "open", "--no-approval"])
    name, who, left = PATTERNS[pattern]
    put_program(tmp_path)
    for variable, value in somebody.environment().items():
        monkeypatch.setenv(variable, f"{tmp_path}:{value}" if variable == "PATH" else value)
    example = importlib.import_module(f"examples.{pattern}")
    agent = agents.Agent
    with seated(somebody, Claude(name)) as seat:
        seat.may_be_refused = True
        monkeypatch.setattr(agents, "Agent", lambda each: HostAgent(each, seat) if each == name else agent(each))
        monkeypatch.setattr("sys.argv", [pattern])
        example.main()
        assert len(seat.heard) > 2
    assert state(somebody, who).items() >= left.items()
