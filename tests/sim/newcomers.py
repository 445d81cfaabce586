"""Who comes when the others have met: somebody knocks in the storm, and the person of the room's owner says yes or no.

Above: `world`. Below: `people`. What has to hold of it: nobody is in who was not let in, and whoever knocks hears what
was decided (`promises`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from tests.sim.broken import Broken
from tests.sim.people import Agent

LOOK_S: Final = 2.0
"""How often a person looks who knocks."""
MOOT: Final = frozenset({"no_such_request", "already_decided"})
"""What a person hears who says again what was decided: the answer was lost."""


@dataclass
class Newcomer:
    """Somebody who comes when the others have met."""

    agent: Agent
    admit: bool
    """What the room's person will say."""
    decided: bool = False
    """Whether the person said it."""
    done: bool = False
    """Whether the newcomer knows."""
    is_in: bool = False

    async def live(self, session_key: str, others: Sequence[str], things: int) -> None:
        """Knock, and do so many things once inside, among these others."""
        self.is_in = await self.agent.knock(session_key)
        self.done = True
        if self.is_in:
            self.agent.others = list(others)
            await self.agent.live(things)


async def decide(owner: Agent, newcomers: Sequence[Newcomer]) -> None:
    """Say yes or no to each of these who knocks, as the person of the room's owner, until each of them knows."""
    while undecided := [each for each in newcomers if not each.done]:
        await trio.sleep(LOOK_S)
        waiting = await owner.ask(lambda party: party.requests(owner.room))
        for request in waiting:
            for each in undecided:
                if request.name == each.agent.name:
                    await _decide(owner, request.agent, each)


async def _decide(owner: Agent, agent: str, newcomer: Newcomer) -> None:
    params = t.DecideJoin(agent=agent, room=owner.room)
    newcomer.decided = True
    try:
        await owner.ask(lambda party: party.call(f"session.{'approve' if newcomer.admit else 'deny'}", params))
    except ParlerError as error:
        if not error.spec.retryable and error.code not in MOOT:
            raise Broken(f"{owner.name} could not decide: {error.code}") from error
