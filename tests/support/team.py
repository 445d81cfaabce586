"""A team of several people, each with a machine of their own: empty HOMEs, and a relay that the first of them runs.

Everything is real and on the loopback. Not here: one person's home and its processes (`processes`), windows of agent
hosts (`mcp_windows`).
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from configs.hosts import recognised
from parlerd import process
from tests.support.processes import Somebody, somebody


def skip_below_an_agent_host() -> None:
    """Skip where what only a person may do is refused: a test that runs below an agent host is nobody's person."""
    if host := process.surroundings_of(os.getpid(), recognised()).agent_host:
        pytest.skip(f"these tests run below {host}: use a terminal outside of it")


class Team:
    """Ann, who runs a relay on the loopback, and two others."""

    def __init__(self, ann: Somebody, ben: Somebody, cara: Somebody) -> None:
        self.ann, self.ben, self.cara = ann, ben, cara
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = str(sock.getsockname()[1])
        words = ("connect", "--team", "--bind", "127.0.0.1", "--port", self.port)
        self.relay: dict[str, Any] = ann.asks(*words)["relay"]

    def joins(self, one: Somebody) -> Any:
        file = self.relay["join_secret_file"]
        return one.asks("connect", "--relay", self.relay["join_line"], "--join-secret-file", file)

    def relay_pid(self) -> int:
        return int(self.ann.asks("relay", "status")["pid"])


def texts(page: Any) -> list[str]:
    return [message["text"] for message in page["messages"]]


def enters(team: Team, one: Somebody, name: str, opened: Any) -> None:
    """Knock from another machine, and be let in by Ann, who types the code."""
    waits = one.asks("--as", name, "session", "join", opened["key"], "--no-wait", expect=4)
    assert waits["status"] == "pending"
    assert waits["messages"] == []
    team.ann.asks("session", "approve", name, "--code", waits["code"])


@contextlib.contextmanager
def people(patch: pytest.MonkeyPatch) -> Iterator[Team]:
    """The team, with its relay running. Whatever any of them started is ended afterwards."""
    skip_below_an_agent_host()
    with contextlib.ExitStack() as stack:
        yield Team(*(stack.enter_context(somebody(patch)) for _ in range(3)))
