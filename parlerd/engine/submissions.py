"""Commands on their way through a room's line: what was asked, what became of it, and those that are decided together.

Only shapes and who is told; the line itself is `actor`, and what is decided stands in `deciding`. Invariant: a
submission is finished once, with either `settled` or `error` set, and never before its batch is answered.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import ParlerError
from parlerd.core.model import By, MessageId, Position, RoomId, Seq
from parlerd.core.receipts import FactRef
from parlerd.engine.armed import Armed
from parlerd.engine.authors import Words
from parlerd.store.port import BuryRoom, DropRenewal, EraseBodies, MarkDelivery, NewFact, Past, UsedKey

NOTHING: Final = Past()


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a command: its decision, the facts that were committed for it, and the author's seq after them.

    `queued` says that a message is stored on this machine and not yet in its room, because the room's home does not
    answer. It has an id, which the submission's command names, and neither facts nor a number. Where the same request
    was queued before, the decision is a replay. `receipt` names the fact of which the author may have a receipt."""

    decision: Decision
    facts: tuple[e.Header, ...] = ()
    seq: Seq = Seq(0)
    queued: bool = False
    receipt: FactRef | None = None


class Step(NamedTuple):
    """What a room's line settled for a call: the fact of which there is a receipt, or where the same request led to one
    before."""

    room: RoomId
    receipt: FactRef | None
    replay: Position | None


class Trail(NamedTuple):
    """What was settled for a call, which runs in `task`. A task that the call began, such as the link to a home that it
    added, has the call's context for as long as it lives, and what is settled there is none of the call's."""

    task: trio.lowlevel.Task
    steps: list[Step]


TRAIL: Final[ContextVar[Trail | None]] = ContextVar("trail", default=None)
"""What was settled for the call that is under way (`trail`)."""

PLACED: Final[ContextVar[Callable[[], None] | None]] = ContextVar("placed", default=None)
"""What a message of the call that is under way does once it has its place in a room's line, for whoever makes several
calls whose messages are to be decided in the order in which they were asked for."""


class Line(Protocol):
    """The line that a submission stands in."""

    @property
    def room(self) -> RoomId: ...

    def move(self) -> None:
        """Begin the next batch, if it is its turn."""
        ...

    def withdraw(self, submission: Submission) -> None:
        """Take a command out, if it still waits."""
        ...


@dataclass(slots=True, eq=False)
class Submission:
    """A command with its place in a room's line. The line moves when somebody asks what became of the command, so
    commands that were placed one after the other, before anybody asked, are decided and committed together."""

    line: Line
    command: c.Command
    by: By
    words: Words | None
    settled: Settled | None = None
    error: ParlerError | None = None
    done: bool = False
    _then: list[Callable[[], None]] = field(default_factory=list)

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the line move, and call `then`, which must not raise, once it is known what became of this command: at
        once if it is known."""
        if self.done:
            then()
        else:
            self._then.append(then)
            self.line.move()

    async def result(self) -> Settled:
        """Let the line move, and wait until it is known what became of this command. Raises `ParlerError`.

        A caller that is cancelled takes its command out of the line, if it still waits there. A command that is with
        its batch already happens, and a retry with the same idempotency key is its replay.
        """
        if not self.done:
            known = trio.Event()
            self.when_done(known.set)
            try:
                await known.wait()
            except trio.Cancelled:
                self.line.withdraw(self)
                raise
        settled, trail = self.outcome(), TRAIL.get()
        if trail is not None and trail.task is trio.lowlevel.current_task():
            trail.steps.append(Step(self.line.room, settled.receipt, settled.decision.replay))
        return settled

    def outcome(self) -> Settled:
        """What became of the command, once it is done. Raises `ParlerError`."""
        if self.error is not None:
            raise self.error
        assert self.settled is not None
        return self.settled

    def finish(self) -> None:
        """What became of the command stands in `settled` or `error`: tell whoever asked."""
        self.done = True
        waiting, self._then = self._then, []
        for then in waiting:
            then()


@dataclass(slots=True, eq=False)
class Batch:
    """Commands that are decided together, and what they leave when the batch is committed."""

    submissions: list[Submission]
    again: bool = False
    """Whether these commands were decided before, over a log that had moved on."""
    past: Past = NOTHING
    """What the store knows that the decisions need: earlier uses of the commands' keys, messages that they name."""
    lines: dict[int, bytes] = field(default_factory=dict)
    """The public line at numbers that authors elsewhere name."""
    facts: list[NewFact] = field(default_factory=list)
    done: dict[UsedKey, Settled] = field(default_factory=dict)
    """What was done in this batch for each idempotency key."""
    posted: dict[MessageId, e.Header] = field(default_factory=dict)
    """The messages of this batch, for those that reply to them."""
    acted: list[MarkDelivery] = field(default_factory=list)
    """That an author acted on the message to which it replies, or a worker on the task that it claimed: the last rung
    of the ladder."""
    ended: list[DropRenewal] = field(default_factory=list)
    """The renewals of claims that ended."""
    erases: list[EraseBodies] = field(default_factory=list)
    """Words that are taken away for good with these facts."""
    buries: list[BuryRoom] = field(default_factory=list)
    """Rooms that are deleted with these facts."""
    marks: dict[Armed, MarkDelivery] = field(default_factory=dict)
    """The delivery ranges that this batch writes for readers that wait."""
