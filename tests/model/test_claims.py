"""Claims of tasks against a small, slow, obvious model.

The model keeps one record for each task and looks through all of them each time. It knows nothing of facts, and ends a
lease in the moment in which time has passed it, whether somebody looks or not.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from parlerd.core import events as e
from parlerd.core.claims import Renewal
from parlerd.core.errors import Refused
from parlerd.core.model import MessageId, Millis
from parlerd.core.words import LATE
from tests.support.core import OWNER, Agent, RoomDriver, agent, opened

WORKERS = [OWNER, agent("ben"), agent("cat")]


@dataclass
class Job:
    """A task, who may do it, and who does until when."""

    author: Agent
    only: str = ""
    closes: int = 0
    """When nobody can claim it any more; 0 for never."""
    worker: Agent | None = None
    until: int = 0
    claims: int = 0
    """How often it was claimed: the number of the claim, as far as the model is concerned."""
    over: str = ""
    by: Agent | None = None
    """Who ended it."""

    def holder(self, now: int) -> Agent | None:
        return self.worker if self.worker is not None and now < self.until and not self.over else None

    def is_for(self, who: Agent) -> bool:
        return self.only in ("", who.name)

    def is_closed(self, now: int) -> bool:
        return self.holder(now) is None and 0 < self.closes <= now


class Work(RuleBasedStateMachine):
    tasks: Bundle[MessageId] = Bundle("tasks")

    @initialize()
    def begin(self) -> None:
        self.room: RoomDriver = opened(ttl_ms=10**9)
        self.room.admit(*WORKERS[1:])
        self.jobs: dict[MessageId, Job] = {}
        self.fences: dict[MessageId, list[int]] = {}

    @property
    def now(self) -> int:
        return max(self.room.now, self.room.aggregate.last_at)

    def heard(self, act: object) -> str:
        assert callable(act)
        try:
            answer: str = act()
        except Refused as error:
            return error.code
        return answer

    @rule(
        target=tasks,
        author=st.sampled_from(WORKERS),
        only=st.sampled_from(["", "", "ben", "cat"]),
        open_ms=st.sampled_from([0, 0, 10_000, 50_000]),
    )
    def post(self, author: Agent, only: str, open_ms: int) -> MessageId:
        id = self.room.task(author, to=(only,) if only else (), open_ms=open_ms)
        self.jobs[id] = Job(author, only, self.now + open_ms if open_ms else 0)
        self.fences[id] = []
        return id

    @rule(ms=st.integers(1, 40_000))
    def wait(self, ms: int) -> None:
        self.room.now += ms

    @rule()
    def look(self) -> None:
        due = {id for id, job in self.jobs.items() if job.worker and not job.over and self.now >= job.until}
        closed = [id for id, job in self.jobs.items() if not job.over and job.is_closed(self.now)]
        events = self.room.look_at_tasks()
        assert {event.task for event in events if isinstance(event, e.TaskLapsed)} == due
        assert [event.task for event in events if isinstance(event, e.TaskCompleted)] == closed
        for id in due:
            self.jobs[id].worker = None
        for id in closed:
            self.jobs[id].over, self.jobs[id].by = "cancelled", self.jobs[id].author

    @rule(who=st.sampled_from(WORKERS), lease_ms=st.sampled_from([15_000, 30_000]))
    def claim_next(self, who: Agent, lease_ms: int) -> None:
        wanted = [id for id, job in self.jobs.items() if self._is_free(job, who)]
        answer, task = self.room.claim(who, lease_ms=lease_ms)
        if not wanted:
            assert (answer, task) == ("none", None)
            return
        assert task is not None
        assert (answer, task.id) == ("claimed", wanted[0])
        self._got(wanted[0], who, lease_ms)

    @rule(who=st.sampled_from(WORKERS), id=tasks)
    def claim(self, who: Agent, id: MessageId) -> None:
        job = self.jobs[id]
        holder = job.holder(self.now)
        if job.over:
            expected = "task_over"
        elif not job.is_for(who):
            expected = "task_not_yours"
        elif job.is_closed(self.now):
            expected = "task_over"
        elif holder is None:
            expected = "claimed"
        else:
            expected = "already_yours" if holder is who else "already_claimed"
        assert self.heard(lambda: self.room.claim(who, id, lease_ms=20_000)[0]) == expected
        if expected == "claimed":
            self._got(id, who, 20_000)

    @rule(id=tasks, ms=st.integers(1, 60_000))
    def renew(self, id: MessageId, ms: int) -> None:
        job = self.jobs[id]
        if job.holder(self.now) is None:
            return
        until = self.now + ms
        self.room.aggregate.claims.renew(id, Renewal(self.room.aggregate.claims.state.tasks[id].fence, Millis(until)))
        job.until = max(job.until, until)

    @rule(who=st.sampled_from(WORKERS), id=tasks)
    def release(self, who: Agent, id: MessageId) -> None:
        job = self.jobs[id]
        expected = "released" if job.holder(self.now) is who else "task_over" if job.by is who else "claim_lost"
        assert self.heard(lambda: self.room.release(who, id).answer) == expected
        if expected == "released":
            job.worker = None

    @rule(
        who=st.sampled_from(WORKERS),
        id=tasks,
        said=st.sampled_from(["done", "failed", "cancelled"]),
        which=st.sampled_from(["none", "newest", "first"]),
    )
    def end(self, who: Agent, id: MessageId, said: str, which: str) -> None:
        job, fences = self.jobs[id], self.fences[id]
        fence = 0 if which == "none" or not fences else fences[-1] if which == "newest" else fences[0]
        is_newest = fence in (0, fences[-1] if fences else 0)
        takes_back = said == "cancelled" and who is job.author and job.holder(self.now) is None and not job.over
        if (job.holder(self.now) is who and is_newest) or takes_back:
            self.room.say(who, said, id, fence=fence)  # type: ignore[arg-type] # one of the three that are drawn
            job.over, job.by = said, who
        elif job.by is who and is_newest:
            assert self.heard(lambda: self.room.say(who, "done", id, fence=fence).answer) == "task_over"
        else:
            decision = self.room.say(who, said, id, fence=fence)  # type: ignore[arg-type] # as above
            posted = decision.events[0]
            assert isinstance(posted, e.MessagePosted)
            assert (decision.answer, posted.kind) == ("claim_lost", LATE)
            if any(isinstance(event, e.TaskLapsed) for event in decision.events):
                assert self.now >= job.until
                job.worker = None

    def _is_free(self, job: Job, who: Agent) -> bool:
        is_open = job.holder(self.now) is None and not job.is_closed(self.now)
        return not job.over and job.is_for(who) and is_open

    def _got(self, id: MessageId, who: Agent, lease_ms: int) -> None:
        job, fence = self.jobs[id], self.room.aggregate.claims.state.tasks[id].fence
        assert all(fence > before for before in self.fences[id]), "a number came twice"
        self.fences[id].append(fence)
        job.worker, job.until, job.claims = who, self.now + lease_ms, job.claims + 1

    @invariant()
    def everybody_holds_what_the_model_says(self) -> None:
        claims = self.room.aggregate.claims
        for who in WORKERS:
            held = {task.id for task in claims.held_by(who.id, Millis(self.now))}
            assert held == {id for id, job in self.jobs.items() if job.holder(self.now) is who}
            open = [task.id for task in claims.open_to(who.id, Millis(self.now))]
            assert open == [id for id, job in self.jobs.items() if self._is_free(job, who)]

    @invariant()
    def the_next_moment_is_the_end_of_the_first_lease_or_of_the_time_of_a_task_that_nobody_holds(self) -> None:
        jobs = [job for job in self.jobs.values() if not job.over]
        ends = [job.until for job in jobs if job.worker is not None]
        ends += [job.closes for job in jobs if job.worker is None and job.closes]
        after = Millis(self.now)
        expected = max(min(ends), after + 1) if ends else None
        assert self.room.aggregate.claims.next_deadline(after) == expected

    def teardown(self) -> None:
        if hasattr(self, "room"):
            self.room.verify()


TestWork = Work.TestCase
TestWork.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
