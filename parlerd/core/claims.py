"""Messages as work: which tasks of a room are open, who holds which, and until when.

    open --> held by one worker --> over: done, failed or cancelled
     ^            |
     `------------'   the worker released the task, or its lease ended

A message of the kind `task` is a task. A claim gives a task to one worker for the time of a lease. Each claim has a
number, the fence: the position of the claim in its room's log. So a later claim of the same task has a greater fence,
and what a worker says with an older one comes too late. What a worker says of a task is a message that replies to the
task, of one of the kinds in `KIND_OF`; `messages` posts it and asks here what follows for the task.

A lease ends by time. The fact that says so (`TaskLapsed`) is decided when the room's home looks because the moment
came; until then the task is overdue, and every rule here treats it as open. A renewal is no fact, because it would come
three times in each lease: the engine keeps a row for it, and hands the rows to this facet.

A task may have a time for which it is open. That time goes on while somebody holds the task, and takes nothing from the
holder. Once it has ended while nobody holds the task, the room's home decides that the task is over, as if its author
had taken it back: logs and mirrors of every version know that fact.

Not here: the words, who may see a message (`visibility`), and when somebody looks at what is due (the engine). Above:
`messages`, `room`. Below: the states of other facets. Invariants: a task has one holder at most; a task that is over
stays over; a fence never comes twice; what is kept is bounded by `MAX_TASKS` and `KEPT_OVER`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Final, Literal, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.decision import Decision, replayed
from parlerd.core.errors import Refused
from parlerd.core.facets import Facet, applies, decides, touches
from parlerd.core.lifecycle import LifecycleState, require_open, require_sound
from parlerd.core.membership import MembershipState, is_requester, present
from parlerd.core.model import INVOCATION, AgentId, By, Ids, MessageId, Millis, Position, TaskOutcome
from parlerd.core.seen import Presences
from parlerd.core.topics import Topic
from parlerd.core.words import KIND_OF, LATE, TASK, Said

MAX_TASKS: Final = 4_096
"""Tasks of one room that are not over: each is about 250 bytes of every snapshot."""
KEPT_TASKS: Final = 4 * MAX_TASKS
"""The same in a mirror, whose home may allow more, and in a log that was written before tasks could be claimed."""
KEPT_OVER: Final = 1_024
"""Tasks that are over and of which the room still knows who ended them: a late worker is told."""

RAN_OUT: Final = "Nobody had this task when the time was over that its author gave it."

Progress = Literal["accepted", "working", "awaiting"]
TaskState = Literal["open", "claimed", "accepted", "working", "awaiting", "done", "failed", "cancelled"]

SAID_BY: Final[Mapping[str, Said]] = {kind: said for said, kind in KIND_OF.items()}
ENDS: Final[Mapping[str, TaskOutcome]] = {"done": "done", "failed": "failed", "cancelled": "cancelled"}
"""What ends a task, among all that is said of it."""
ENDING_KINDS: Final = frozenset(KIND_OF[said] for said in KIND_OF if said in ENDS)
"""Messages with which a task ends."""
_GOES_ON: Final[Mapping[str, Progress]] = {"accepted": "accepted", "working": "working", "awaiting": "awaiting"}
QUIET_KINDS: Final = frozenset({INVOCATION, *(KIND_OF[said] for said in _GOES_ON.values())})
"""Messages that say how a task goes on, or that an action was invoked. They wake nobody. Source: rooms spec, Loops."""


class Task(msgspec.Struct, frozen=True, array_like=True):
    """One task, by its message. `to`, `role` and `visibility` are those of the message. `worker` holds the task or,
    where the task is over, ended it; it is empty for an open task. `until`, `fence` and `lease_ms` are those of the
    newest claim as the log has them: renewals are not in here. `open_until` is until when the task may be claimed, 0
    where its author set no time; a task that is over has it when nobody took the task in that time. `among` are those
    who alone may claim it now, None for all for whom it is."""

    id: MessageId
    position: Position
    author: AgentId
    to: tuple[AgentId, ...] = ()
    role: str = ""
    visibility: tuple[AgentId, ...] | None = None
    state: TaskState = "open"
    worker: AgentId = AgentId("")
    until: Millis = Millis(0)
    fence: Position = Position(0)
    lease_ms: Millis = Millis(0)
    open_until: Millis = Millis(0)
    among: tuple[AgentId, ...] | None = None

    @property
    def is_held(self) -> bool:
        """Whether a worker has it, by the log."""
        return bool(self.worker)

    @property
    def is_for_all(self) -> bool:
        """Whether every worker of the room may take it."""
        return not self.to and not self.role and self.visibility is None and self.among is None

    @property
    def waits_for_all(self) -> bool:
        """Whether nobody has it, and every worker of the room may take it."""
        return self.is_for_all and not self.is_held


class ClaimsState(msgspec.Struct):
    """The tasks of a room that are not over, in the order in which they were posted, and those that were over last.
    `is_told` says that the room's home, which is elsewhere, says when a lease ends: this log is a mirror."""

    tasks: dict[MessageId, Task] = {}
    over: dict[MessageId, Task] = {}
    is_told: bool = False


class Renewal(NamedTuple):
    """Until when the claim with this fence was renewed."""

    fence: Position
    until: Millis


class Effect(NamedTuple):
    """What a message that is said of a task leads to. `kind` is the kind under which it is posted, `events` follow it,
    and `answer` is `claim_lost` for one that came too late."""

    kind: str
    events: tuple[e.RoomEvent, ...] = ()
    answer: str = ""


class Claims(Facet[ClaimsState]):
    """Gives tasks to workers, and keeps who holds which."""

    __slots__ = (
        "_closes",
        "_closing",
        "_due",
        "_enabled",
        "_free",
        "_held",
        "_lifecycle",
        "_membership",
        "_named",
        "_offered",
        "_renewed",
    )

    def __init__(
        self,
        state: ClaimsState,
        lifecycle: LifecycleState,
        membership: MembershipState,
        enabled: Callable[[AgentId, Millis, Presences], None],
    ) -> None:
        super().__init__(state)
        self._lifecycle = lifecycle
        self._membership = membership
        self._enabled = enabled
        """Raises `Refused` for an agent that is not there at a moment, by its own word."""
        self._renewed: dict[MessageId, Renewal] = {}
        """Renewals of claims, as far as the engine told of them."""
        # What follows from the state, so that a pick does not look through all tasks. A heap may hold what does not
        # count any more; whoever comes to it drops it.
        self._free = [(task.position, task.id) for task in state.tasks.values() if task.waits_for_all]
        """Open tasks that are for every worker, the oldest first."""
        self._offered = {id for _, id in self._free}
        """The tasks in that heap."""
        self._named = {task.id for task in state.tasks.values() if not task.is_for_all}
        """Tasks that are for certain workers, held or not."""
        self._due = [(task.until, task.fence, task.id) for task in state.tasks.values() if task.is_held]
        """When leases end, each with its fence. Of a lease that was renewed only the last end counts."""
        self._closing = [
            (task.open_until, task.id) for task in state.tasks.values() if task.open_until and not task.is_held
        ]
        """When tasks that nobody holds may be claimed no longer. A task comes in again when its holder lets it go."""
        self._closes = {id for _, id in self._closing}
        """The tasks in that heap."""
        self._held: dict[AgentId, set[MessageId]] = {}
        """What each worker holds."""
        for task in state.tasks.values():
            if task.is_held:
                self._held.setdefault(task.worker, set()).add(task.id)
        heapify(self._free)
        heapify(self._due)
        heapify(self._closing)

    # -- asking --------------------------------------------------------------------------------------------

    def get(self, id: MessageId) -> Task | None:
        """The task of this message, be it over or not, as far as the room remembers it."""
        return self.state.tasks.get(id) or self.state.over.get(id)

    def until(self, task: Task) -> Millis:
        """When the lease of a held task ends, renewals counted."""
        renewed = self._renewed.get(task.id)
        return max(task.until, renewed.until) if renewed is not None and renewed.fence == task.fence else task.until

    def holder(self, task: Task, now: Millis) -> AgentId | None:
        """Who holds a task at `now`; nobody where it is open, overdue or over."""
        is_live = task.id in self.state.tasks and task.is_held and (self.state.is_told or now < self.until(task))
        return task.worker if is_live else None

    def held_by(self, worker: AgentId, now: Millis) -> list[Task]:
        """What a worker holds at `now`, the oldest claim first."""
        held = [self.state.tasks[id] for id in self._held.get(worker, ())]
        return sorted((task for task in held if self.holder(task, now)), key=lambda task: task.fence)

    def open_to(self, worker: AgentId, now: Millis) -> list[Task]:
        """Every task that this worker could claim at `now`, the oldest first."""
        return [task for task in self.state.tasks.values() if self.is_open(task, now) and self.is_for(task, worker)]

    def is_open(self, task: Task, now: Millis) -> bool:
        """Whether a task that is not over may be claimed at `now`. In a mirror the room's home says so."""
        is_in_time = self.state.is_told or not task.open_until or now < task.open_until
        return is_in_time and self.holder(task, now) is None

    def is_for(self, task: Task, worker: AgentId) -> bool:
        """Whether a member may take a task: it sees the task, and the task names nobody else."""
        member = self._membership.members.get(worker)
        if member is None or not member.present or is_requester(member) or member.waits:
            return False
        if task.visibility is not None and worker not in task.visibility:
            return False
        if task.among is not None and worker not in task.among:
            return False
        if task.to:
            return worker in task.to
        return not task.role or member.role == task.role

    def due(self, now: Millis) -> list[Task]:
        """The tasks whose leases have ended and that are still held by the log, the oldest lease first. In a mirror
        there are none, because the room's home says so."""
        ended: list[tuple[Millis, Position, MessageId]] = []
        while (first := self._first_due()) is not None and first[0] <= now:
            ended.append(heappop(self._due))
        for each in ended:
            heappush(self._due, each)
        return [self.state.tasks[id] for _, _, id in ended]

    def run_out(self, now: Millis) -> list[Task]:
        """The tasks that nobody has and nobody can claim any more, of which no fact says so yet, the oldest first."""
        found = [task for task in self.due(now) if task.open_until and task.open_until <= now]
        first = self._first_closing()
        if first is not None and first[0] <= now:
            tasks = [self.state.tasks.get(id) for at, id in self._closing if at <= now]
            found += [task for task in tasks if task is not None and not task.is_held]
        return sorted(found, key=lambda task: task.position)

    def _first_closing(self) -> tuple[Millis, MessageId] | None:
        """Which task that nobody holds can be claimed no longer first. Drops what does not count any more."""
        if self.state.is_told:
            return None
        while self._closing:
            task = self.state.tasks.get(self._closing[0][1])
            if task is not None and not task.is_held:
                return self._closing[0]
            self._closes.discard(heappop(self._closing)[1])
        return None

    def _close_later(self, task: Task) -> None:
        if task.open_until and task.id not in self._closes and not self.state.is_told:
            self._closes.add(task.id)
            heappush(self._closing, (task.open_until, task.id))

    def _first_due(self) -> tuple[Millis, Position, MessageId] | None:
        """Which lease ends first. Drops what does not count any more."""
        if self.state.is_told:
            return None
        while self._due:
            until, fence, id = self._due[0]
            task = self.state.tasks.get(id)
            if task is not None and task.is_held and (task.fence, self.until(task)) == (fence, until):
                return self._due[0]
            heappop(self._due)
        return None

    # -- renewing ------------------------------------------------------------------------------------------

    def renew(self, id: MessageId, renewal: Renewal) -> None:
        """Take in a row of a renewal. One of an older claim, or that ends earlier, changes nothing."""
        task = self.state.tasks.get(id)
        if task is None or task.fence != renewal.fence or renewal.until <= self.until(task):
            return
        self._renewed[id] = renewal
        heappush(self._due, (renewal.until, renewal.fence, id))

    # -- deciding ------------------------------------------------------------------------------------------

    def _claim(self, command: c.ClaimTask, by: By, now: Millis, ids: Ids) -> Decision:
        member = present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        require_open(self._lifecycle)
        require_sound(self._lifecycle)
        if is_requester(member):
            raise Refused("not_a_worker")
        self._enabled(by.actor, now, command.presence)
        task = self._next(by.actor, now) if command.task is None else self._wanted(command.task, by.actor, now)
        if task is None:
            return Decision(answer="none")
        if self.holder(task, now) == by.actor:
            return Decision(answer="already_yours")
        event = e.TaskClaimed(
            task=task.id,
            worker=by.actor,
            until=Millis(now + command.lease_ms),
            lease_ms=command.lease_ms,
        )
        return Decision((event,), authority="member", answer="claimed")

    def _wanted(self, id: MessageId, worker: AgentId, now: Millis) -> Task:
        """The task that a worker names, which is its own or nobody's. Raises `Refused`."""
        task = self.get(id)
        if task is None or (task.visibility is not None and worker not in task.visibility):
            raise Refused("no_such_task", id=id)
        if task.id in self.state.over:
            raise self._over(task)
        if task.among is not None and worker not in task.among and self.holder(task, now) != worker:
            raise Refused("task_not_offered", id=id)
        if self.holder(task, now) != worker and not self.is_for(task, worker):
            raise Refused("task_not_yours", id=id)
        if self.holder(task, now) is None and not self.is_open(task, now):
            raise Refused("task_over", RAN_OUT, holder=None, status="cancelled")
        holder = self.holder(task, now)
        if holder is not None and holder != worker:
            handle = self._handle(holder)
            raise Refused("already_claimed", f"{handle} holds this task.", holder=handle, until=self.until(task))
        return task

    def _next(self, worker: AgentId, now: Millis) -> Task | None:
        """The oldest task that this worker can have: one that is open, or whose lease has ended."""
        tasks = self.state.tasks
        while self._free and ((task := tasks.get(self._free[0][1])) is None or not task.waits_for_all):
            self._offered.discard(heappop(self._free)[1])
        found = [tasks[self._free[0][1]]] if self._free else []
        if found and not self.is_open(found[0], now):
            # Its time is over, and the fact that says so is about to come.
            return next(iter(self.open_to(worker, now)), None)
        others = (*self.due(now), *(tasks[id] for id in self._named))
        found += [task for task in others if self.is_open(task, now) and self.is_for(task, worker)]
        return min(found, key=lambda task: task.position, default=None)

    def _release(self, command: c.ReleaseTask, by: By, now: Millis, ids: Ids) -> Decision:
        present(self._membership.members, by.actor)
        earlier = replayed(command)
        if earlier is not None:
            return earlier
        task = self.required(command.task, by.actor, now)
        over = (_run_out(task),) if task.open_until and task.open_until <= now else ()
        return Decision((e.TaskReleased(task=task.id, fence=task.fence), *over), authority="member", answer="released")

    def _renew(self, command: c.RenewTask, by: By, now: Millis, ids: Ids) -> Decision:
        present(self._membership.members, by.actor)
        require_open(self._lifecycle)
        self.required(command.task, by.actor, now)
        return Decision(answer="renewed")

    def _lapse(self, command: c.LapseTasks, by: By, now: Millis, ids: Ids) -> Decision:
        upto = Millis(min(command.upto, now))
        return Decision((*map(_lapsed, self.due(upto)), *map(_run_out, self.run_out(upto))), authority="home")

    def required(self, id: MessageId, worker: AgentId, now: Millis) -> Task:
        """The task that this worker holds. Raises `Refused`: `no_such_task`, `task_over`, or `claim_lost` with who
        holds the task now, if anybody does, and with which fence."""
        task = self.get(id)
        if task is None or (task.visibility is not None and worker not in task.visibility):
            raise Refused("no_such_task", id=id)
        if self.holder(task, now) == worker:
            return task
        if task.id in self.state.over and task.worker == worker:
            raise self._over(task)
        raise self.lost(task, now)

    def lost(self, task: Task, now: Millis) -> Refused:
        """What is said to a worker that does not hold this task, or not any more."""
        holder = self.holder(task, now)
        if task.id in self.state.over and task.open_until:
            return Refused("claim_lost", RAN_OUT, holder=None, fence=0, status=task.state)
        if task.id in self.state.over:
            handle = self._handle(task.worker)
            said = f"{handle} ended this task ({task.state})."
            return Refused("claim_lost", said, holder=handle, fence=task.fence, status=task.state)
        if holder is None:
            said = "Your claim of this task ended, and nobody holds it now."
            return Refused("claim_lost", said, holder=None, fence=0)
        handle = self._handle(holder)
        return Refused("claim_lost", f"{handle} holds this task now.", holder=handle, fence=task.fence)

    def _over(self, task: Task) -> Refused:
        if task.open_until:
            return Refused("task_over", RAN_OUT, holder=None, status=task.state)
        handle = self._handle(task.worker)
        return Refused("task_over", f"{handle} ended this task ({task.state}).", holder=handle, status=task.state)

    def _handle(self, agent: AgentId) -> str:
        member = self._membership.members.get(agent)
        return agent if member is None else member.handle

    # -- what is said of tasks -----------------------------------------------------------------------------

    def require_space(self) -> None:
        """Raise `Refused(too_many_tasks)` where the room has as many tasks that are not over as it may have."""
        if len(self.state.tasks) >= MAX_TASKS:
            raise Refused("too_many_tasks", limit=MAX_TASKS)

    def effect(self, command: c.PostMessage, by: By, now: Millis) -> Effect:
        """What a message leads to that may say something of the task it replies to.

        Raises `Refused` for what is said by way of a task's own operations (`command.said`) and makes no sense:
        `no_such_task`, `task_over` for what this worker ended before, or `claim_lost` for what says only how the task
        goes on. Words with which a worker ends a task too late are posted all the same, as `LATE`. A worker elsewhere
        signs the kind of its words, so its words are refused (`claim_lost`), and it signs them again as what they are:
        whoever asked for the work would take a result for one that counts.
        """
        task = None if command.reply_to is None else self.get(command.reply_to)
        if command.said and command.kind == LATE:
            # The worker's own home knows that these words come too late.
            return Effect(LATE, self._lapses(task, now), answer="claim_lost")
        said = SAID_BY.get(command.kind)
        if said is None or task is None:
            if command.said:
                raise Refused("no_such_task", id=command.reply_to or "")
            return Effect(command.kind)
        is_holder = self.holder(task, now) == by.actor and command.fence in (0, task.fence)
        is_free = task.id in self.state.tasks and self.holder(task, now) is None
        if is_holder or (said == "cancelled" and is_free and task.author == by.actor):
            if (end := ENDS.get(said)) is None:
                return Effect(command.kind)
            over = e.TaskCompleted(task=task.id, worker=by.actor, outcome=end, fence=task.fence)
            return Effect(command.kind, (over,))
        if not command.said:
            return Effect(command.kind)
        if task.id in self.state.over and task.worker == by.actor and command.fence in (0, task.fence):
            raise self._over(task)
        if said in _GOES_ON or command.envelope is not None:
            raise self.lost(task, now)
        return Effect(LATE, self._lapses(task, now), answer="claim_lost")

    def _lapses(self, task: Task | None, now: Millis) -> tuple[e.TaskLapsed, ...]:
        """That the lease of a task ended, where the log does not say so yet."""
        return (_lapsed(task),) if task is not None and task in self.due(now) else ()

    # -- becoming ------------------------------------------------------------------------------------------

    def _posted(self, event: e.MessagePosted, header: e.Header) -> None:
        tasks = self.state.tasks
        if event.kind == TASK:
            open_until = Millis(header.at + event.ttl_ms) if event.ttl_ms else Millis(0)
            task = Task(
                event.id,
                header.position,
                header.by.actor,
                event.to,
                event.role,
                event.visibility,
                open_until=open_until,
            )
            tasks[event.id] = task
            self._close_later(task)
            if task.is_for_all:
                self._offer(task)
            else:
                self._named.add(task.id)
            if len(tasks) > KEPT_TASKS:
                self._forget(next(iter(tasks.values())))
            return
        goes_on = _GOES_ON.get(SAID_BY.get(event.kind, ""))
        told = None if goes_on is None or event.reply_to is None else tasks.get(event.reply_to)
        if goes_on is not None and told is not None and told.worker == header.by.actor:
            tasks[told.id] = msgspec.structs.replace(told, state=goes_on)

    def _offered_to(self, event: e.TaskOffered, header: e.Header) -> None:
        task = self.state.tasks.get(event.task)
        if task is None:
            return
        task = self.state.tasks[task.id] = msgspec.structs.replace(task, among=event.among)
        if not task.is_for_all:
            self._named.add(task.id)
        elif not task.is_held:
            self._named.discard(task.id)
            self._offer(task)

    def _claimed(self, event: e.TaskClaimed, header: e.Header) -> None:
        task = self.state.tasks.get(event.task)
        if task is None:
            return
        self._let_go(task)
        fence = event.fence or header.position
        self.state.tasks[task.id] = msgspec.structs.replace(
            task, state="claimed", worker=event.worker, until=event.until, fence=fence, lease_ms=event.lease_ms
        )
        self._held.setdefault(event.worker, set()).add(task.id)
        heappush(self._due, (event.until, fence, task.id))

    def _released(self, event: e.TaskReleased | e.TaskLapsed, header: e.Header) -> None:
        task = self.state.tasks.get(event.task)
        if task is None or task.fence != event.fence:
            return
        self._let_go(task)
        self.state.tasks[task.id] = msgspec.structs.replace(task, state="open", worker=AgentId(""), until=Millis(0))
        if task.is_for_all:
            self._offer(task)
        self._close_later(task)

    def _completed(self, event: e.TaskCompleted, header: e.Header) -> None:
        task = self.state.tasks.get(event.task)
        if task is None:
            return
        self._forget(task)
        over = self.state.over
        is_run_out = event.fence == 0 and event.worker == task.author and header.at >= task.open_until
        over[task.id] = msgspec.structs.replace(
            task,
            state=event.outcome,
            worker=event.worker,
            until=Millis(0),
            open_until=task.open_until if is_run_out else Millis(0),
        )
        if len(over) > KEPT_OVER:
            del over[next(iter(over))]

    def _closed(self, event: e.RoomClosed, header: e.Header) -> None:
        for task in list(self.state.tasks.values()):
            self._forget(task)

    def _placed(self, event: e.MirrorPlaced, header: e.Header) -> None:
        self.state.is_told = True

    def _rewound(self, event: e.RoomRewound, header: e.Header) -> None:
        """A mirror forgets the tasks that the room's home lost."""
        if event.upto:
            for task in [task for task in self.state.tasks.values() if task.position > event.upto]:
                self._forget(task)

    def _offer(self, task: Task) -> None:
        if task.id not in self._offered:
            self._offered.add(task.id)
            heappush(self._free, (task.position, task.id))

    def _forget(self, task: Task) -> None:
        self._let_go(task)
        self._named.discard(task.id)
        del self.state.tasks[task.id]

    def _let_go(self, task: Task) -> None:
        self._renewed.pop(task.id, None)
        if (held := self._held.get(task.worker)) is not None:
            held.discard(task.id)
            if not held:
                del self._held[task.worker]

    # -- what time changes ---------------------------------------------------------------------------------

    def next_deadline(self, after: Millis) -> Millis | None:
        """When the next lease ends, or a task that nobody holds can be claimed no longer. Of a room that lives
        elsewhere, its home says so."""
        first = [each[0] for each in (self._first_due(), self._first_closing()) if each is not None]
        # What is past already is looked at at once.
        return Millis(max(min(first), after + 1)) if first else None

    def expire(self, after: Millis, now: Millis) -> Iterable[Topic]:
        """Whoever waits for work is woken by the fact that says that a lease ended."""
        return ()

    # -- whom it wakes -------------------------------------------------------------------------------------

    def _new_task(self, event: e.MessagePosted, header: e.Header) -> Iterator[Topic]:
        if event.kind == TASK:
            yield topics.claims(self._lifecycle.room)

    def _moved(
        self, event: e.TaskOffered | e.TaskClaimed | e.TaskReleased | e.TaskCompleted | e.TaskLapsed, header: e.Header
    ) -> Iterator[Topic]:
        yield topics.claims(self._lifecycle.room, event.task)

    DECIDES = (
        decides(c.ClaimTask, _claim),
        decides(c.ReleaseTask, _release),
        decides(c.RenewTask, _renew),
        decides(c.LapseTasks, _lapse),
    )
    APPLIES = (
        applies(e.MessagePosted, _posted),
        applies(e.TaskOffered, _offered_to),
        applies(e.TaskClaimed, _claimed),
        applies(e.TaskReleased, _released),
        applies(e.TaskLapsed, _released),
        applies(e.TaskCompleted, _completed),
        applies(e.RoomClosed, _closed),
        applies(e.MirrorPlaced, _placed),
        applies(e.RoomRewound, _rewound),
    )
    TOUCHES = (
        touches(e.MessagePosted, _new_task),
        touches(e.TaskOffered, _moved),
        touches(e.TaskClaimed, _moved),
        touches(e.TaskReleased, _moved),
        touches(e.TaskLapsed, _moved),
        touches(e.TaskCompleted, _moved),
    )


def _run_out(task: Task) -> e.TaskCompleted:
    """That nobody can claim a task any more, as if its author had taken it back."""
    return e.TaskCompleted(task=task.id, worker=task.author, outcome="cancelled", fence=Position(0))


def _lapsed(task: Task) -> e.TaskLapsed:
    return e.TaskLapsed(task=task.id, worker=task.worker, fence=task.fence)
