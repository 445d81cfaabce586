"""Pipeline: three agents, each with one stage. Each waits for its stage, works, and opens the next one.

The last stage is already waiting when the first one begins, and nobody needs to know who else is there: only the name
of the stage is agreed on. A stage that would open the next one too early is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from examples.agents import Agent, Refused, session, together

STAGES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "ingestion": (lambda lines: [line.strip() for line in lines], "processing"),
    "processing": (lambda lines: sorted(set(lines)), "output"),
    "output": (lambda lines: [f"{number}. {line}" for number, line in enumerate(lines, 1)], "done"),
}
RAW = [" pear", "apple ", "pear", " fig "]


def stage(agent: Agent) -> None:
    work, then = STAGES[agent.name]
    mine = f'has(state._shared.stage) && state._shared.stage == "{agent.name}"'
    if agent.name == "output":
        try:
            agent.write("stage", then, **{"if": mine})
        except Refused as error:
            agent.says(f"too early ({error.code}), so I wait")
    agent.wait(mine)
    data = work(agent.value("state._shared.data"))
    agent.batch({"key": "data", "value": data}, {"key": "stage", "value": then}, only_if=mine)
    agent.says(f"{data}, now {then}")


def main() -> None:
    with session("pipeline", *STAGES) as agents:
        ingestion, *rest = agents
        output = rest[-1]
        together(partial(begin, ingestion, output), *(partial(stage, agent) for agent in rest))


def begin(agent: Agent, last: Agent) -> None:
    """The first stage waits until the last one has seen that it cannot begin, and brings what is to be done."""
    agent.wait(f'agents["{last.name}"].status == "waiting"')
    agent.batch({"key": "data", "value": RAW}, {"key": "stage", "value": agent.name})
    stage(agent)


if __name__ == "__main__":
    main()
