"""Progressive disclosure: a dark room in which a player finds out, turn after turn, what can be done.

The narrator owns the fire and the compass, and lets the player touch them by its actions alone. Two clocks run: the
fire burns out after milliseconds, and the compass appears after turns. What can be done appears and disappears with
them, and nobody cleans up.
"""

from __future__ import annotations

import sys
from functools import partial

from examples.agents import Agent, refused, session, together

FIRE = {"scope": "narrator", "key": "fire_lit", "value": True}
LIT = "has(state.narrator.fire_lit)"
ENOUGH = 10
"""Wood that it takes to leave."""


def tell(agent: Agent, burns_ms: int) -> None:
    """The narrator prepares the room, and ends the story."""
    for_an_hour = {"ms": 3_600_000, "effect": "delete"}
    agent.batch({**FIRE, "timer": for_an_hour}, {"key": "wood", "value": 5}, {"key": "turn", "value": 0})
    # Two turns from now, there is a compass.
    compass = {"ticks": 2, "tick_on": "state._shared.turn", "effect": "enable"}
    agent.write("compass", True, scope="narrator", timer=compass)
    agent.register(
        id="stoke_fire",
        scope="narrator",
        description="Put wood on the fire, which burns for a while then.",
        enabled=LIT,
        writes=[
            {"key": "wood", "value": -1, "increment": True},
            {**FIRE, "timer": {"ms": burns_ms, "effect": "delete"}},
        ],
        **{"if": "state._shared.wood > 0"},
    )
    agent.register(
        id="light_fire",
        scope="narrator",
        description="Light the fire again.",
        enabled=f"!{LIT}",
        writes=[{"key": "wood", "value": -1, "increment": True}, {**FIRE, "timer": for_an_hour}],
        **{"if": "state._shared.wood > 0"},
    )
    agent.register(
        id="gather_wood",
        scope="narrator",
        description="Bring wood from outside. You are tired until the next turn.",
        enabled=LIT,
        writes=[{"key": "wood", "value": 3, "increment": True}],
        on_invoke={"timer": {"ticks": 1, "tick_on": "state._shared.turn", "effect": "enable"}},
    )
    agent.register(
        id="rest",
        scope="narrator",
        description="Sit by the fire for a turn.",
        writes=[{"key": "turn", "value": 1, "increment": True}],
    )
    agent.register(
        id="embark",
        scope="narrator",
        description="Follow the compass.",
        enabled="has(state.narrator.compass)",
        writes=[
            {"key": "wood", "value": -ENOUGH, "increment": True},
            {"scope": "narrator", "key": "embarked", "value": True},
        ],
        **{"if": f"state._shared.wood >= {ENOUGH}"},
    )
    agent.write("ready", True)
    agent.wait("has(state.narrator.embarked)")
    agent.says(f"the player left after {agent.value('state._shared.turn')} turns")


def play(agent: Agent) -> None:
    agent.wait("has(state._shared.ready)")
    look(agent)
    # The fire is not the player's: only the narrator's actions reach it.
    with refused("scope_denied"):
        agent.write("fire_lit", True, scope="narrator")
    with refused("action_owned"):
        agent.register(id="stoke_fire", writes=[])
    agent.invoke("stoke_fire")
    agent.says("I stoke the fire, and watch how it burns down")
    agent.wait(f"!{LIT}")
    look(agent)
    agent.invoke("light_fire")
    while not agent.value("has(actions.embark) && actions.embark.available"):
        agent.invoke("gather_wood")
        with refused("action_cooldown"):
            agent.invoke("gather_wood")
        if agent.value("has(actions.embark) && !actions.embark.available"):
            with refused("precondition_failed"):
                agent.invoke("embark")
        agent.invoke("rest")
        look(agent)
    agent.invoke("embark")


def look(agent: Agent) -> None:
    """Say what there is to do now, and what cannot be done yet."""
    there = agent.value("actions.filter(a, actions[a].available)")
    not_yet = agent.value("actions.filter(a, !actions[a].available)")
    wood = agent.value("state._shared.wood")
    agent.says(f"wood {wood}; I can {', '.join(there)}" + (f"; not yet {', '.join(not_yet)}" if not_yet else ""))


def main(burns_ms: int = 3_000) -> None:
    """`burns_ms` is how long a stoked fire burns."""
    with session("dark-room", "narrator", "player") as (narrator, player):
        together(partial(tell, narrator, burns_ms), partial(play, player))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
