"""Fan-out, fan-in once more, by agents that speak only HTTP: one posts tasks, two workers take them.

Nobody here has a key, a window or a session: there is a base URL, and each agent is given a token when it comes in. The
program needs a home that lets programs in: `parler serve-http --open`.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from examples.agents import together

PARTS = ["the parser", "the store", "the relay", "the pages", "the tests"]


class Program:
    """One agent in one room. A call that is refused raises `LookupError` with the code."""

    def __init__(self, url: str, room: str, name: str, role: str) -> None:
        self.name = name
        self._http = HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._headers = {"Content-Type": "application/json"}
        self._room = room
        token = self.asks("POST /agents", {"id": name, "role": role})["token"]
        self._headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        self._http.close()

    def asks(self, line: str, body: object = None, **query: Any) -> Any:
        """A call in the room, and the JSON of its answer."""
        method, _, path = line.partition(" ")
        target = f"/rooms/{self._room}{path}{'?' * bool(query)}{urlencode(query)}"
        self._http.request(method, target, None if body is None else json.dumps(body), self._headers)
        with self._http.getresponse() as answer:
            told = json.loads(answer.read())
        if answer.status >= 400:
            raise LookupError(told["error"])
        return told

    def waits(self, condition: str) -> None:
        """Return when an expression is true. Nobody asks again and again: each call sleeps until something changes."""
        while not self.asks("GET /wait", condition=condition, timeout=50_000)["triggered"]:
            pass

    def says(self, text: str) -> None:
        print(f"{self.name:>11}: {text}", flush=True)


def coordinate(program: Program) -> None:
    writes = [{"key": "tasks_total", "value": len(PARTS)}, {"key": "tasks_done", "value": 0}]
    program.asks("PUT /state/batch", {"writes": writes})
    for part in PARTS:
        program.asks("POST /messages", {"kind": "task", "body": f"review {part}"})
    program.asks("PUT /state", {"key": "posted", "value": True})
    program.waits("state._shared.tasks_done == state._shared.tasks_total")
    results = [each for each in program.asks("GET /messages") if each["kind"] == "result"]
    for result in sorted(results, key=lambda each: str(each["body"]["part"])):
        program.says(f"{result['body']['part']} was reviewed by {result['from']}")
    left = program.asks("POST /eval", {"expr": "messages.unclaimed"})["value"]
    program.says(f"{len(results)} results, {left} tasks are left")


def work(program: Program) -> None:
    program.waits("has(state._shared.posted)")
    while tasks := program.asks("GET /messages", unclaimed="true", kind="task"):
        task = tasks[0]
        try:
            program.asks(f"POST /messages/{task['id']}/claim", {})
        except LookupError:
            continue  # the other one was first
        part = task["body"].removeprefix("review ")
        result = {"kind": "result", "reply_to": task["id"], "body": {"part": part}}
        program.asks("POST /messages", result)
        program.asks("PUT /state", {"key": "tasks_done", "value": 1, "increment": True})


def main() -> None:
    url = sys.argv[1]
    room = f"review-{time.time_ns()}"
    http = HTTPConnection(urlsplit(url).netloc, timeout=60)
    http.request("POST", "/rooms", json.dumps({"id": room}), {"Content-Type": "application/json"})
    with http.getresponse() as answer:
        told = answer.read().decode()
        if answer.status != 201:
            sys.exit(told)
    http.close()
    roles = {"coordinator": "coordinator", "worker-1": "worker", "worker-2": "worker"}
    programs = [Program(url, room, name, role) for name, role in roles.items()]
    coordinator, *workers = programs
    together(partial(coordinate, coordinator), *(partial(work, each) for each in workers))
    for program in programs:
        program.close()


if __name__ == "__main__":
    main()
