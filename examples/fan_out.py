"""Fan-out, fan-in: one agent posts tasks, three workers take them, and the first one waits for all results.

A task is a message that exactly one agent can claim; its result goes back to whoever asked. How many are done is a
number that all workers increment.
"""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

from examples.agents import Agent, session, together

PARTS = ["the parser", "the store", "the relay", "the pages", "the tests"]


def coordinate(agent: Agent) -> None:
    agent.batch({"key": "tasks_total", "value": len(PARTS)}, {"key": "tasks_done", "value": 0})
    for part in PARTS:
        agent.call("parler_send", kind="task", text=f"review {part}")
    agent.write("posted", True)
    agent.wait("state._shared.tasks_done == state._shared.tasks_total")
    results = re.findall(r"^reviewed (.*) as (\S+)$", agent.call("parler_recv"), re.MULTILINE)
    for part, worker in sorted(results):
        agent.says(f"{part} was reviewed by {worker}")
    agent.says(f"{len(results)} results, {agent.value('messages.unclaimed')} tasks are left")


def work(agent: Agent) -> None:
    agent.wait("has(state._shared.posted)")
    while (task := claim(agent)) is not None:
        text, end = task
        part = text.removeprefix("review ")
        agent.call("parler_act", **{**end, "text": f"reviewed {part} as {agent.name}"})
        agent.write("tasks_done", 1, increment=True)


def claim(agent: Agent) -> tuple[str, dict[str, Any]] | None:
    """The text of the oldest task that nobody has, and the call that ends it; None when there is none."""
    answer = agent.call("parler_act", action="claim")
    found = re.search(r"; task\]\n(.*?)\n\[end .*End it: parler_act (\{.*?\})$", answer, re.DOTALL | re.MULTILINE)
    return (found[1], json.loads(found[2])) if found else None


def main() -> None:
    with session("review", "coordinator", "worker-1", "worker-2", "worker-3") as (coordinator, *workers):
        together(partial(coordinate, coordinator), *(partial(work, each) for each in workers))


if __name__ == "__main__":
    main()
