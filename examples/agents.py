"""What the examples share: agents at windows of their own, all in one session.

An `Agent` does what an agent host does for its model: it starts `parler mcp`, calls tools in JSON-RPC on stdin, and
reads the text of each answer on stdout. It needs nothing but the standard library. Every agent of an example runs in a
thread of its own and knows only what Parler tells it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

WAIT_SECS = 45
"""How long one wait goes on before the agent waits again: a host without a name gives a call 50 seconds."""


class Refused(Exception):
    """Parler refused a call. `code` says why, and `text` is all that the model is told."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code = text.partition(":")[0]


class Agent:
    """One agent. A call that is refused raises `Refused`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._count = 0
        self._server = subprocess.Popen(
            ["parler", "mcp", "--host", "example"],
            env={**os.environ, "PARLER_AGENT": name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        about = {"name": "example", "version": "1"}
        self._ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=about)
        self._write({"method": "notifications/initialized"})

    def close(self) -> None:
        """Close the window. What the agent holds and has read stays as it is."""
        self._server.communicate()

    # -- tools -------------------------------------------------------------------------------------------------

    def call(self, tool: str, **arguments: Any) -> str:
        """What a tool answers, as a model reads it."""
        result = self._ask("tools/call", name=tool, arguments=arguments)
        text: str = result["content"][0]["text"]
        if result.get("isError"):
            raise Refused(text)
        return text

    def write(self, key: str, value: Any, **more: Any) -> None:
        """Set a key of the state."""
        self.call("parler_state", action="set", key=key, value=value, **more)

    def batch(self, *writes: dict[str, Any], only_if: str = "true") -> None:
        """Write several keys together, or none of them."""
        self.call("parler_state", action="batch", writes=list(writes), **{"if": only_if})

    def view(self, name: str, expr: str) -> None:
        """Give an expression a name."""
        self.call("parler_state", action="set", scope="_view", key=name, expr=expr)

    def value(self, expr: str) -> Any:
        """What an expression is worth to this agent."""
        return _value(self.call("parler_state", action="eval", expr=expr))

    def wait(self, expr: str) -> None:
        """Return when an expression is true. Nobody asks again and again: each call sleeps until something changes."""
        while not self.call("parler_state", action="wait", expr=expr, wait_secs=WAIT_SECS).startswith("It is true"):
            pass

    def register(self, **action: Any) -> None:
        """Give writes a name, by which others make them."""
        self.call("parler_act", action="register", define=action)

    def invoke(self, action: str, **params: Any) -> None:
        """Make the writes of an action."""
        self.call("parler_act", action="invoke", id=action, params=params)

    def says(self, text: str) -> None:
        """Print a line of the example."""
        print(f"{self.name:>11}: {text}", flush=True)

    # -- MCP ---------------------------------------------------------------------------------------------------

    def _ask(self, method: str, **params: Any) -> Any:
        self._count += 1
        self._write({"id": self._count, "method": method, "params": params})
        assert self._server.stdout is not None
        for line in self._server.stdout:
            message = json.loads(line)
            # Between a request and its answer there may be notifications, which have no id.
            if message.get("id") == self._count:
                if "error" in message:
                    raise RuntimeError(message["error"]["message"])
                return message["result"]
        raise RuntimeError("parler mcp ended")

    def _write(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self._server.stdin.flush()


def _value(text: str) -> Any:
    """The JSON in an answer to `eval`: a number or true in its first line, and what somebody wrote in a fence."""
    fenced = re.search(r"^\[peer [^\n]*\]\n(.*?)\n\[end ", text, re.DOTALL | re.MULTILINE)
    plain = text.partition("\n")[0].removeprefix("It is worth:")
    return json.loads(fenced[1] if fenced else plain)


@contextmanager
def refused(code: str) -> Iterator[None]:
    """Try what Parler has to refuse with this code. A program ends where it does not."""
    try:
        yield
    except Refused as error:
        if error.code != code:
            raise
    else:
        raise RuntimeError(f"this was possible, and had to be refused with {code}")


@contextmanager
def session(topic: str, *names: str) -> Iterator[list[Agent]]:
    """A session of these agents, the first of whom opens it. It asks nobody who may come in: who runs an example is the
    person of all its agents."""
    opened = json.loads(_parler("--as", names[0], "session", "open", "--topic", topic, "--no-approval", "--json"))
    with ExitStack() as windows:
        agents = []
        for name in names:
            agent = Agent(name)
            windows.callback(agent.close)
            agents.append(agent)
        for agent in agents[1:]:
            agent.call("parler_join_session", key=opened["key"])
        yield agents
    _parler("--as", names[0], "session", "close", "--room", opened["room"])


def _parler(*words: str) -> str:
    return subprocess.run(["parler", *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def together(*parts: Callable[[], None]) -> None:
    """Let agents act at the same time, and return when all of them are done. Raises what the first of them raised."""
    failed: list[BaseException] = []

    def run(part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:
            failed.append(error)

    # Daemon threads: an agent that waits for one that failed would keep the program for ever.
    threads = [threading.Thread(target=run, args=(part,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    while not failed and any(thread.is_alive() for thread in threads):
        for thread in threads:
            thread.join(0.1)
    if failed:
        raise failed[0]
