"""An act: words and work that wait for whoever reads them, while those who met change what they wait for.

The model is plain: each of them has taken so many steps; a message that waits for a reader's steps is shown to everyone
who took as many, once, and to nobody else; a task that is shown to several apart is done by one of them, once. Above:
`world`. Below: `acts`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.events import TaskCompleted
from parlerd.operations import types as t
from tests.sim.acts import Act
from tests.sim.broken import Broken
from tests.sim.people import KNOCK_S, Agent
from tests.sim.stored import facts_of

STEPS: Final = 3
"""How many steps one of them takes at most."""
WHISPERS: Final = 2
"""How many messages each of them leaves."""
LATE: Final = ("claim_lost", "task_over", "task_not_offered", "task_not_yours")


class Whispering(Act):
    """Some of those who met leave words for each other in the room where they met."""

    names = "whispers"

    async def play(self) -> None:
        agents = list(self.stage.agents)
        self.taken = {agent.name: 0 for agent in agents}
        """How many steps each took."""
        self.left: dict[str, tuple[str, int]] = {}
        """Who left which words, and for how many steps."""
        self.done: list[str] = []
        """Who was told that it ended the task."""
        self.withdrawn: set[str] = set()
        """Words that their author took back before anybody can have taken that many steps."""
        author, *walkers = self.random.sample(agents, k=min(3, len(agents)))
        if not walkers:
            return
        await self._leave(author, "work", 1, kind="task")
        async with trio.open_nursery() as walking:
            for walker in walkers:
                walking.start_soon(self._walk, walker)
                walking.start_soon(self._whisper, walker)

    async def _walk(self, walker: Agent) -> None:
        for number in range(self.random.randint(1, STEPS)):
            await trio.sleep(self.random.expovariate(0.5))
            step = t.SetState(
                key="steps",
                value=1,
                increment=True,
                scope=walker.name,
                room=self.stage.room,
                idempotency_key=f"{walker.name}-step-{number}",
            )
            await walker.may("state.set", step, t.StateWritten)
            self.taken[walker.name] += 1
            self.count("steps")
        await self._work(walker)

    async def _whisper(self, walker: Agent) -> None:
        for number in range(WHISPERS):
            await trio.sleep(self.random.expovariate(0.5))
            await self._leave(walker, f"{walker.name} whispers {number}", self.random.randint(1, STEPS + 1))
        if self.random.random() < 0.5:
            never = f"{walker.name} whispers nothing"
            id = await self._leave(walker, never, STEPS + 2)
            back = t.WithdrawMessage(id=id, room=self.stage.room, idempotency_key=f"{walker.name}-back")
            await walker.may("message.withdraw", back, t.Withdrawn)
            self.count("whispers taken back")

    async def _leave(self, author: Agent, words: str, steps: int, *, kind: str = "whisper") -> str:
        self.left[words] = author.name, steps
        send = t.Send(
            text=words,
            kind=kind,
            room=self.stage.room,
            enabled=f"state[self].steps >= {steps}",
            idempotency_key=words.replace(" ", "-"),
        )
        sent = await author.may("message.send", send, t.Sent)
        assert isinstance(sent, t.Sent)
        self.count("whispers")
        return sent.id

    async def _work(self, worker: Agent) -> None:
        """Do the task, or find that somebody else did."""
        until, number = trio.current_time() + KNOCK_S, 0
        while not self.done:
            if trio.current_time() > until:
                raise Broken(f"{worker.name} took a step, and nobody does the task that waits for one")
            number += 1
            await self._try(worker, f"{worker.name}-works-{number}", wait_ms=5_000)
        await self._try(worker, f"{worker.name}-works-late")

    async def _try(self, worker: Agent, key: str, *, wait_ms: int = 0) -> None:
        """Take the task, if it is offered, and do it."""
        claim = t.ClaimTask(room=self.stage.room, wait_ms=wait_ms, idempotency_key=key)
        held = await worker.may("task.claim", claim, t.TaskHeld, *LATE)
        if isinstance(held, ParlerError) or held.id is None or held.fence is None:
            return
        complete = t.CompleteTask(
            id=held.id, fence=held.fence, text="worked", room=self.stage.room, idempotency_key=f"{key}-done"
        )
        ended = await worker.may("task.complete", complete, t.TaskHeld, *LATE)
        if isinstance(ended, t.TaskHeld) or ended.details.get("holder") == worker.name:
            self.done.append(worker.name)
            self.count("whispered tasks")

    # -- what has to hold ----------------------------------------------------------------------------------

    def check(self) -> None:
        if not self.left:
            return
        if len(self.done) != 1:
            raise Broken(f"{self.done} did a task that is one")
        for agent in self.stage.agents:
            if agent.name in self.stage.record.left:
                continue
            shown = [text for _, text in self.stage.record.shown[agent.name] if text in self.left]
            expected = {
                words
                for words, (author, steps) in self.left.items()
                if author != agent.name and self.taken[agent.name] >= steps
            }
            # Nobody is shown a task any more that was over before they took a step.
            missing = expected - set(shown) - {"work"}
            if missing or set(shown) - expected or len(shown) != len(set(shown)):
                raise Broken(f"{agent.name} took {self.taken[agent.name]} steps, and was shown {shown}, not {expected}")
        facts = [header.event for header in facts_of(self.stage.relay.store, self.stage.room)]
        outcomes = {event.outcome for event in facts if isinstance(event, TaskCompleted)}
        if outcomes != {"done"}:
            raise Broken(f"the task is {outcomes} at the relay")
