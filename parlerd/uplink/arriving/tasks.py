"""How the tasks of a room stand, as its home says.

Above: `items`. Below: `hearing`. Pure. Invariant: the state of a task that the mirror does not hold changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from parlerd.core import events as e
from parlerd.core.claims import ENDS
from parlerd.core.model import AgentId, By, MessageId, Millis, Position
from parlerd.operations import types as t
from parlerd.uplink.arriving.hearing import Hearing


def hear_tasks(hearing: Hearing, told: Sequence[t.TaskAtRoom]) -> None:
    """Take in how tasks stand. The room's home says so, and nobody signs it; a task that the mirror does not hold,
    and a worker that it does not know, change nothing."""
    mirror = hearing.mirror
    for entry in told:
        known = mirror.claims.get(MessageId(entry.task))
        worker = mirror.state.members.get(AgentId(entry.worker))
        if known is None or known.id in mirror.state.claims.over:
            continue
        fence, by = Position(entry.fence), hearing.owner
        if worker is not None:
            by = By(worker.agent, worker.principal, "", "", "link")
        outcome = ENDS.get(entry.state)
        if outcome is not None and worker is not None:
            # What nobody took in its time is over by no claim, in the moment that is told.
            by_claim = Position(0) if entry.until else fence
            over = e.TaskCompleted(task=known.id, worker=worker.agent, outcome=outcome, fence=by_claim)
            hearing.add((over,), by, max(hearing.now, Millis(entry.until)))
        elif outcome is None and worker is not None and fence and (known.worker, known.fence) != (worker.agent, fence):
            claimed = e.TaskClaimed(
                task=known.id,
                worker=worker.agent,
                until=Millis(entry.until),
                lease_ms=Millis(entry.lease_ms),
                fence=fence,
            )
            hearing.add((claimed,), by, hearing.now)
        elif outcome is None and not entry.worker and known.is_held:
            hearing.add((e.TaskReleased(task=known.id, fence=known.fence),), by, hearing.now)
        among = None if entry.among is None else tuple(AgentId(agent) for agent in entry.among)
        if outcome is None and among != known.among:
            hearing.add((e.TaskOffered(task=known.id, among=among),), hearing.owner, hearing.now)
