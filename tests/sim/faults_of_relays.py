"""Planted faults of several relays over one store: mistakes that show where a room changes hands, or an answer of the
store is lost. `faults` says how they are played; this module enters them in its list.

What a database alone shows is tested with one: heads that are locked in any order, and commits that do not wait for the
disk, in `tests/store/postgres/test_writing.py`; what waits for a relay that takes nothing, in
`tests/relay/test_lanes.py`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from parlerd.core.claims import Claims, Task
from parlerd.core.errors import ParlerError
from parlerd.core.model import AgentId, Millis, Position, RoomId
from parlerd.engine.actor import RoomActor
from parlerd.engine.driver import Job, Settle
from parlerd.engine.fanout import Followed, News
from parlerd.engine.submissions import Batch
from parlerd.engine.tending import Tending
from parlerd.store.memory import MemoryStore
from parlerd.store.port import Cursor, JobOutcome
from relay.beats import Beats
from relay.routing import Routing
from tests.sim.faults import Patch, fault
from tests.sim.server import SharedStore
from tests.sim.working import Working
from tests.sim.world import Plan, Simulation


def _several(seed: int) -> Simulation:
    """A story of three relays."""
    return Simulation(seed, Plan(relays=1.0, kills=4))


def _at_work(seed: int) -> Simulation:
    """A story of three relays, in which somebody claims tasks."""
    return Simulation(seed, Plan(relays=1.0, kills=6, homes=(3,), acts=(Working,), act=1.0))


@fault("passes-what-is-not-there", "a place in a room moves past a row that is not there yet", _several)
def _(patch: Patch) -> None:
    tell = News.tell

    def passing(self: News, followed: Followed, outlet: Any) -> Any:
        marks = tell(self, followed, outlet)
        followed.at = Position(followed.at + 1)
        return marks

    patch.setattr(News, "tell", passing)


@fault("two-transactions-at-once", "a room that hears nothing of its transaction begins another", _several)
def _(patch: Patch) -> None:
    decide = RoomActor._decide

    def impatient(self: RoomActor[Any], batch: Batch) -> None:
        driver: Any = self._context.driver
        hand_over, jobs = driver.hand_over, list[Job]()

        def noting(job: Job, settled: Settle) -> None:
            jobs.append(job)
            hand_over(job, settled)

        async def again() -> None:
            await trio.sleep(0.2)
            if jobs and self._batch is batch:
                with suppress(ParlerError):
                    hand_over(jobs[0], lambda *_: None)

        driver.hand_over = noting
        try:
            decide(self, batch)
        finally:
            del driver.hand_over
        trio.lowlevel.spawn_system_task(again)

    patch.setattr(RoomActor, "_decide", impatient)


@fault("follow-answered-early", "a room counts as followed although its relay does not have the stream", _several)
def _(patch: Patch) -> None:
    async def as_if_followed(self: Routing, error: ParlerError, end: Any) -> None:
        await trio.sleep_forever()

    patch.setattr(Routing, "_spread", as_if_followed)


@fault("lost-answer-is-no", "a commit of which the answer was lost is told as if nothing had happened", _several)
def _(patch: Patch) -> None:
    async def never(self: RoomActor[Any], outcome: JobOutcome) -> bool:
        await trio.lowlevel.checkpoint()
        return False

    patch.setattr(RoomActor, "_has_happened", never)


@fault("decides-after-its-term", "a relay that could not say that it lives decides on", _several)
def _(patch: Patch) -> None:
    patch.setattr(Beats, "may_decide", lambda self: not self._is_over)


@fault("fired-twice", "the end of a claim that is a fact already is a fact again", _at_work)
def _(patch: Patch) -> None:
    due, ended = Claims.due, dict[Any, Task]()

    def again(self: Claims, now: Millis) -> list[Task]:
        found = due(self, now)
        before = [task for id, task in ended.items() if id in self.state.tasks and not found]
        ended.update({task.id: task for task in found})
        return found + before

    patch.setattr(Claims, "due", again)


@fault(
    "claim-ends-in-a-take-over", "a claim ends before its worker could come to the relay that has the room", _at_work
)
def _(patch: Patch) -> None:
    patch.setattr(Tending, "begin_grace", lambda self: setattr(self, "_grace_until", Millis(0)))


@fault("cursor-goes-back", "what was read last counts, wherever it was read before", _several)
def _(patch: Patch) -> None:
    advance = MemoryStore._advance

    def set_to(self: MemoryStore, room: RoomId, reader: AgentId, delivered: Position, acknowledged: Position) -> None:
        if isinstance(self, SharedStore):
            self._cursors[room, reader] = Cursor(max(delivered, acknowledged), acknowledged)
        else:
            advance(self, room, reader, delivered, acknowledged)

    patch.setattr(MemoryStore, "_advance", set_to)
