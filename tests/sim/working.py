"""An act: a queue with workers in two homes, some of whom die at their work, and people of all homes who ask for work.
It is sealed, or the relay can read it.

The model is plain: a claim is one worker's; each task is ended once, by the holder of its newest claim; whoever asked
for work is shown its results, once each, and nothing of what others asked for. What the relay's log says of each task
is walked through as a machine of three states: open, held, over. Above: `world`. Below: `acts`, `newcomers`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.events import TaskClaimed, TaskCompleted, TaskLapsed, TaskReleased
from parlerd.core.model import Millis, RoomId
from parlerd.operations import types as t
from tests.sim import sealed
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.newcomers import Newcomer, decide
from tests.sim.people import KNOCK_S, Agent
from tests.sim.stored import facts_of, state_of

QUEUE: Final = "chores"
TASKS: Final = 2
"""What each of those who ask asks for."""
LEASE_MS: Final = 15_000
LONG_S: Final = 20.0
"""Longer than a lease."""
LATE: Final = ("claim_lost", "task_over")
"""What a worker hears whose claim is over."""


class Working(Act):
    """A queue of one home, with a worker of another."""

    names = "queue"

    async def play(self) -> None:
        first, *others = self.random.sample(list(self.stage.homes), k=len(self.stage.homes))
        self.asked: dict[str, str] = {}
        """Who asked for each task."""
        self.held: dict[tuple[str, int], str] = {}
        """Who was given each claim of a task."""
        self.done: dict[str, tuple[str, int]] = {}
        """Who was told that it ended a task, and with which claim."""
        self.results: dict[str, str] = {}
        """What the result of each task says."""
        owner, worker = self.person(f"{first.name}-owner"), self.person(f"{others[0].name}-worker")
        self.workers = [owner, worker]
        self.askers = [self.person(f"{first.name}-asker{number}") for number in range(2)]
        far = self.person(f"{others[-1].name}-asker")
        self.is_sealed = self.random.random() < 0.75
        served = await owner.want("queue.serve", t.Serve(service=QUEUE, clear=not self.is_sealed), t.Served)
        self.room = served.room
        self.askers.append(far)
        for each in (*self.workers, *self.askers):
            each.room = served.room
        self.people = list(self.askers)
        self.count("sealed queues" if self.is_sealed else "queues")
        async with trio.open_nursery() as everybody:
            for asker in self.askers[:-1]:
                everybody.start_soon(self._ask, asker)
            everybody.start_soon(self._work, owner)
            await self._bring_in(owner, worker)
            everybody.start_soon(self._work, worker)
            await self._bring_in(owner, far, requester=True)
            everybody.start_soon(self._ask, far)

    async def _bring_in(self, owner: Agent, worker: Agent, *, requester: bool = False) -> None:
        invite = t.Invite(service=QUEUE, requester=requester, idempotency_key=f"{QUEUE}-{worker.name}")
        code = (await owner.want("room.invite", invite, t.Invited)).code
        newcomer = Newcomer(worker, admit=True)
        async with trio.open_nursery() as coming:
            coming.start_soon(newcomer.live, code, (), 0)
            coming.start_soon(decide, owner, [newcomer])
        if not newcomer.is_in:
            raise Broken(f"{worker.name} was let into a queue, and is told that it is not")

    async def _ask(self, asker: Agent) -> None:
        for number in range(TASKS):
            await trio.sleep(self.random.expovariate(0.5))
            words = f"chore {number} for {asker.name}"
            send = t.Send(text=words, service=QUEUE, idempotency_key=words.replace(" ", "-"))
            try:
                sent = await asker.want("message.send", send, t.Sent)
            except ParlerError as error:
                # No honest relay leads to that.
                raise Broken(f"{asker.name} cannot ask for work: {error.code}") from error
            self.asked[sent.id] = asker.name
            self.count("chores")

    # -- working -------------------------------------------------------------------------------------------

    async def _work(self, worker: Agent) -> None:
        until, number = trio.current_time() + 3 * KNOCK_S, 0
        while len(self.done) < TASKS * len(self.askers):
            if trio.current_time() > until:
                raise Broken(f"{self.asked.keys() - self.done.keys()} are never done")
            number += 1
            held = await self._claim(worker, number)
            if held is not None:
                await self._do(worker, *held)

    async def _claim(self, worker: Agent, number: int) -> tuple[str, int] | None:
        """Take a task: which, and by which claim."""
        key = f"{worker.name}-claims-{number}"
        claim = t.ClaimTask(room=self.room, wait_ms=5_000, lease_ms=LEASE_MS, idempotency_key=key)
        # The answer may come late, when the lease has ended.
        held = await worker.may("task.claim", claim, t.TaskHeld, *LATE)
        if isinstance(held, ParlerError) or held.id is None or held.fence is None:
            return None
        if self.held.setdefault((held.id, held.fence), worker.name) != worker.name:
            raise Broken(f"{worker.name} and {self.held[held.id, held.fence]} were given one claim")
        self.count("claims")
        return held.id, held.fence

    async def _do(self, worker: Agent, task: str, fence: int) -> None:
        """Do a task, give it back, keep it for long, or die at it and come back with the result."""
        what = self.random.random()
        if what < 0.15:
            release = t.ReleaseTask(id=task, room=self.room, idempotency_key=f"{worker.name}-releases-{fence}")
            await self._said(worker, "task.release", release)
            return
        if what < 0.3:
            await trio.sleep(LEASE_MS / 2_000)
            await self._said(worker, "task.renew", t.RenewTask(id=task, room=self.room, lease_ms=LEASE_MS))
        elif what < 0.6:
            # Nobody is connected as this worker any more.
            await self.stage.places[self.stage.home_of(worker.name).name].hang_up(worker.name)
            self.count("workers that died")
            await trio.sleep(self.random.choice((1.0, LONG_S, 3 * LONG_S)))
        words = f"{worker.name} did {task} by {fence}"
        complete = t.CompleteTask(
            id=task, fence=fence, text=words, room=self.room, idempotency_key=f"{worker.name}-ends-{fence}"
        )
        if not await self._said(worker, "task.complete", complete):
            self.count("late results")
        elif task in self.done:
            raise Broken(f"{task} was ended by {self.done[task][0]}, and again by {worker.name}")
        else:
            self.done[task] = worker.name, fence
            self.results[task] = words

    async def _said(self, worker: Agent, op: str, params: t.Params) -> bool:
        """Say something of a task. Whether the worker still had it."""
        said = await worker.may(op, params, t.TaskHeld, *LATE)
        if isinstance(said, t.TaskHeld):
            return True
        # Whoever is told that it ended the task itself asked for that before, and was not answered.
        return op == "task.complete" and said.code == "task_over" and said.details["holder"] == worker.name

    # -- what has to hold ----------------------------------------------------------------------------------

    def check(self) -> None:
        relay, keys = self.stage.relay.store, self.stage.relay.keys
        if self.is_sealed:
            stores = [home.world.store for home in self.stage.homes]
            sealed.nobody_else_can_read(relay, RoomId(self.room), keys.id, stores)
            sealed.everybody_has_the_words(relay, RoomId(self.room), stores)
            sealed.nothing_stands_in_clear(relay, RoomId(self.room), alone=False)
        for task, asker in self.asked.items():
            worker, fence = self.done[task]
            newest = max((number for id, number in self.held if id == task), default=fence)
            if fence < newest:
                raise Broken(f"{worker} ended {task} by claim {fence}, and claim {newest} is newer")
            self._walk(task)
            shown = [text for _, text in self.record.shown[asker] if f" did {task} " in text]
            if shown != [self.results[task]]:
                raise Broken(f"{asker} was shown {shown} of {task}, whose result is {self.results[task]!r}")
        for each in self.askers:
            own = {self.results[task] for task, who in self.asked.items() if who == each.name}
            if more := {text for _, text in self.record.shown[each.name]} - own:
                raise Broken(f"{each.name} was shown {sorted(more)}, which it did not ask for")
        over = state_of(relay, self.room).claims.over
        for each in self.workers:
            store = self.stage.home_of(each.name).world.store
            if state_of(store, self.room).claims.over.keys() != over.keys():
                raise Broken(f"the home of {each.name} has other tasks that are over than the relay")

    def _walk(self, task: str) -> None:
        """What the relay's log says of a task, one fact after the other."""
        holder, fence, until, is_over = "", 0, Millis(0), False
        handles = {each.agent: each.handle for each in state_of(self.stage.relay.store, self.room).members.values()}
        for header in facts_of(self.stage.relay.store, self.room):
            match header.event:
                case TaskClaimed(task=id, worker=by, until=until_then) if id == task:
                    if is_over or (holder and header.at < until):
                        raise Broken(f"{handles[by]} was given {task}, which {holder or 'nobody'} had")
                    holder, fence, until = handles[by], header.position, until_then
                case TaskReleased(task=id, fence=claim) | TaskLapsed(task=id, fence=claim) if id == task:
                    if claim != fence or not holder:
                        raise Broken(f"{task} was given back by claim {claim}, and claim {fence} has it")
                    holder = ""
                case TaskCompleted(task=id, worker=by, fence=claim) if id == task:
                    if is_over or (handles[by], claim) != (holder, fence):
                        raise Broken(f"{handles[by]} ended {task} by claim {claim}, and {holder} had it")
                    is_over = True
                case _:
                    pass
        if not is_over or self.done[task] != (holder, fence):
            raise Broken(f"{task} was ended by {self.done[task]}, and the relay says by {(holder, fence)}")
