"""One room's line: what waits is decided in memory, committed as a batch, and only then answered and told.

No task runs a batch: it begins in `kick` and ends in the call that the writer makes on the loop, because each turn of
the loop costs as much as deciding a message. The room's task mends what failed and keeps the last snapshot.

While a batch is at the writer the next is collected; under load it is decided at once, over what that commit will
leave, so that loop and writer work at the same time. If a commit fails, so does the one decided over it: what is in
memory is thrown away and folded again from the store, and every caller of both gets the error; a retry with the same
idempotency key is safe. Refusals are answered with their batch too: they saw what it, and the one before, decided.

Below: `Room` or `Home` for the rules, a driver for the store. Above: `rooms`, which opens and closes actors.
"""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import Envelope, Part, encode_envelope
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import AgentId, By, Ids, MessageId, Millis, Position, ReplyTarget, RoomId, Seq, Verified
from parlerd.engine.armed import MAX_MARKS, Armed
from parlerd.engine.driver import Driver
from parlerd.engine.ports import Clock, Keys, Randomness
from parlerd.engine.recent import Recent
from parlerd.identity.signatures import verify
from parlerd.store.port import Append, MarkDelivery, NewFact, Outcome, PutSnapshot, Write

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4096
"""Commands that may wait for one room; more are refused with `room_busy`."""
MAX_BATCH: Final = 128
"""Commands in one batch. Past 50 rows an fsync is paid for; a batch of all that waits would keep clients and room
waiting for each other (measured with 160 in flight, best of three: 64 gave 4,540 a second, 128 gave 4,750)."""
AHEAD: Final = 48
"""Commands that must wait for a batch to be decided while another is at the writer. Fewer go together after it: they
would pay for an fsync of their own."""
SNAPSHOT_EVERY: Final = 5_000
"""Facts between snapshots. Source: decision 4."""
FOLD_PAGE: Final = 5_000


class Aggregate(Protocol):
    """What an actor runs: `Room` or `Home`."""

    fold_version: int

    @property
    def position(self) -> Position: ...

    @property
    def last_at(self) -> Millis: ...

    def decide(self, command: c.Command, *, by: By, now: Millis, ids: Ids) -> Decision: ...

    def apply(self, header: e.Header) -> None: ...

    def snapshot(self) -> bytes: ...


A = TypeVar("A", bound=Aggregate)


@dataclass(frozen=True, slots=True)
class Content:
    """What goes into a body: a message's parts, or (for a delegation) bytes that are already signed."""

    parts: tuple[Part, ...] = ()
    seen: bytes = b""
    raw: bytes | None = None
    signature: bytes | None = None


@dataclass(frozen=True, slots=True)
class Settled(Generic[A]):
    """What became of a command: its decision, the facts that were committed for it, and the author's seq after them."""

    decision: Decision
    facts: tuple[e.Header, ...] = ()
    seq: Seq = Seq(0)


@dataclass(slots=True, eq=False)
class Submission(Generic[A]):
    """A command on its way."""

    command: c.Command
    by: By
    content: Content | None
    settled: Settled[A] | None = None
    error: ParlerError | None = None
    done: bool = False
    _then: list[Callable[[], None]] = field(default_factory=list)

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then`, which must not raise, once it is known what became of this: at once if it is known."""
        if self.done:
            then()
        else:
            self._then.append(then)

    def finish(self) -> None:
        """What became of it stands in `settled` or `error`."""
        self.done = True
        waiting, self._then = self._then, []
        for then in waiting:
            then()

    def outcome(self) -> Settled[A]:
        """What became of it, once it is done. Raises `ParlerError`."""
        if self.error is not None:
            raise self.error
        assert self.settled is not None
        return self.settled


@dataclass(slots=True, eq=False)
class _Batch(Generic[A]):
    """Commands that were decided together, and what they will leave. `by_key` holds what was done for each key."""

    submissions: list[Submission[A]]
    facts: list[NewFact] = field(default_factory=list)
    by_key: dict[tuple[AgentId, str, str], Settled[A]] = field(default_factory=dict)
    replies: list[MarkDelivery] = field(default_factory=list)
    marks: dict[Armed, MarkDelivery] = field(default_factory=dict)


Publish = Callable[[RoomId, Sequence[e.Header]], None]


@dataclass(frozen=True, slots=True)
class Context:
    """What every actor shares."""

    driver: Driver
    clock: Clock
    random: Randomness
    keys: Keys
    publish: Publish


class RoomActor(Generic[A]):
    """The only writer of one room. `aggregate` may be ahead of the store until `quiet()` returns."""

    def __init__(
        self, room: RoomId, aggregate: A, context: Context, load: Callable[[], A], *, frozen: bool = False
    ) -> None:
        self.room = room
        self.aggregate = aggregate
        self.frozen = frozen
        self.dead = False
        self.used_at = trio.current_time()
        self._context = context
        self._load = load
        self._waiting: deque[Submission[A]] = deque()
        self._at_writer: deque[_Batch[A]] = deque()
        self._lost: list[Submission[A]] = []
        self._error: ParlerError | None = None
        self._applied_at = trio.current_time()
        self._wake = trio.Event()
        self._settled = trio.Event()
        self._readers = 0
        self._snapshot_at = aggregate.position
        self._closing = False
        self._armed: set[Armed] = set()
        self._recent = Recent()
        self._proven: set[AgentId] = set()

    # -- from the outside ----------------------------------------------------------------------------------

    async def submit(self, command: c.Command, by: By, content: Content | None = None) -> Settled[A]:
        """Run a command; returns once it is durable. Raises `ParlerError`."""
        submission = self.enqueue(command, by, content)
        self.kick()
        return await self.settle(submission)

    def enqueue(self, command: c.Command, by: By, content: Content | None = None) -> Submission[A]:
        """Put a command in line, in the order of calls; `kick` must follow. Raises `Refused`."""
        if self.frozen:
            raise Refused("newer_log")
        if self._closing:
            raise Refused("draining")
        if len(self._waiting) >= MAX_WAITING:
            raise Refused("room_busy", retry_after_ms=100)
        self.used_at = trio.current_time()
        submission: Submission[A] = Submission(command, by, content)
        self._waiting.append(submission)
        return submission

    def kick(self) -> None:
        """Begin the next batch, if it is its turn. Whoever waits to look at the room goes first, for a room that is
        always busy would never be quiet."""
        while self._waiting and self._error is None and not self._readers and self._has_turn():
            self._serve([self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))])

    def _has_turn(self) -> bool:
        if not self._at_writer:
            return True
        # A snapshot is of what is stored, so it waits for a moment at which nothing is ahead of the store.
        return len(self._at_writer) == 1 and len(self._waiting) >= AHEAD and not self._snapshot_due

    async def settle(self, submission: Submission[A]) -> Settled[A]:
        """What became of a command in line, once it is durable. Raises `ParlerError`."""
        if not submission.done:
            done = trio.Event()
            submission.when_done(done.set)
            try:
                await done.wait()
            except trio.Cancelled:
                # Still waiting: it never happens. Already with the writer: it happens, and a retry replays it.
                if submission in self._waiting:
                    self._waiting.remove(submission)
                raise
        return submission.outcome()

    async def quiet(self) -> A:
        """The aggregate when nothing of it is ahead of the store: what a read may show. Raises `StoreError`."""
        self.used_at = trio.current_time()
        while self._ahead:
            self._readers += 1
            try:
                await self._settled.wait()
            finally:
                self._readers -= 1
                if not self._readers:
                    # In the next turn: whoever waited looks at the room in this one.
                    trio.lowlevel.current_trio_token().run_sync_soon(self.kick)
        if self.dead:
            # It holds facts that never happened; whoever asks again gets the room opened anew.
            raise StoreError("store_failed")
        return self.aggregate

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._ahead

    @contextmanager
    def arm(self, armed: Armed) -> Iterator[None]:
        """Let the next commit write the delivery range of a reader that is about to wait. Only while the room is
        idle: a batch under way was decided without it."""
        if self.idle and len(self._armed) < MAX_MARKS:
            self._armed.add(armed)
        try:
            yield
        finally:
            self._armed.discard(armed)

    def close(self) -> None:
        """Finish what waits, write a snapshot, end."""
        self._closing = True
        self._wake.set()

    @property
    def recent(self) -> Recent | None:
        """What memory knows of the newest facts; None while a batch is on its way, for then memory is ahead."""
        return None if self._ahead or self.dead else self._recent

    @property
    def _ahead(self) -> bool:
        """Whether memory holds what the store does not, or not yet."""
        return bool(self._at_writer) or self._error is not None

    @property
    def _snapshot_due(self) -> bool:
        return self.aggregate.position - self._snapshot_at >= SNAPSHOT_EVERY

    # -- the task ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the room until it is closed: its batches run without this task, which mends one that failed."""
        while True:
            self._wake = trio.Event()
            if self._error is not None and not self._at_writer:
                with trio.CancelScope(shield=True):
                    await self._recover(self._error)
            elif self._closing and self.idle:
                break
            else:
                await self._wake.wait()
        if self.aggregate.position > self._snapshot_at and not self.dead:
            with trio.CancelScope(shield=True):
                await self._snapshot()

    def _serve(self, submissions: list[Submission[A]]) -> None:
        batch = _Batch(submissions)
        expected = self.aggregate.position
        if not self._at_writer:
            self._settled = trio.Event()
        try:
            for submission in submissions:
                self._decide(submission, batch)
            if not batch.facts and not self._at_writer:
                self._settled.set()
                self._answer(submissions)
                return
            batch.marks = self._marks(batch.facts)
            # Without a fact it still says what it was decided over, and shares the fate of that.
            job: list[Write] = [Append(self.room, expected, batch.facts), *batch.marks.values(), *batch.replies]
            self._context.driver.hand_over(job, partial(self._committed, batch))
            self._at_writer.append(batch)
        except ParlerError as error:
            self._lose(submissions, error)
        except Exception as error:
            # By place and type only: the text of an exception may hold what someone wrote.
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("room %s: a batch could not be decided: %s\n%s", self.room, type(error).__name__, place)
            self._lose(submissions, ParlerError("internal"))

    def _committed(self, batch: _Batch[A], outcome: Outcome | None, error: BaseException | None) -> None:
        """A batch came back from the writer: the oldest that is there."""
        self._at_writer.popleft()
        if outcome is None or error is not None:
            self._lose(batch.submissions, error if isinstance(error, ParlerError) else ParlerError("internal"))
            return
        for armed, mark in batch.marks.items():
            armed.marked = mark.upto
        if batch.facts:
            self._recent.add(batch.facts, outcome.heads[self.room])
        if not self._ahead:
            if self._snapshot_due:
                self._snapshot_soon()
            self._settled.set()
        elif not self._at_writer:
            self._wake.set()
        if len(self._waiting) >= MAX_BATCH:
            # Under load the writer is not kept waiting while the loop answers.
            self.kick()
        self._answer(batch.submissions, batch.facts)
        self.kick()

    def _answer(self, submissions: list[Submission[A]], facts: Sequence[NewFact] = ()) -> None:
        """Wake who waits for what happened, and answer."""
        if facts:
            self._context.publish(self.room, [fact.header for fact in facts])
        for submission in submissions:
            submission.finish()
        if self._closing and not self._waiting:
            self._wake.set()

    def _lose(self, submissions: list[Submission[A]], error: ParlerError) -> None:
        """Memory is ahead of the store for good: nothing more is decided, and once nothing is at the writer the task
        folds the room again."""
        self._lost += submissions
        self._error = self._error or error
        if not self._at_writer:
            self._wake.set()

    def _marks(self, facts: list[NewFact]) -> dict[Armed, MarkDelivery]:
        """The delivery ranges this batch writes, for readers that wait; each is armed for one batch."""
        marks: dict[Armed, MarkDelivery] = {}
        for armed in self._armed if facts else ():
            mark = armed.mark(self.room, facts, facts[-1].header.at)
            if mark is not None:
                marks[armed] = mark
        self._armed.clear()
        return marks

    def _room_time(self) -> Millis:
        """What the clock shows, and never less than the room's last fact and the time that passed since: a clock that
        was set back stops nothing. Source: decision 6."""
        wall, last = self._context.clock.now(), self.aggregate.last_at
        if wall >= last:
            return wall
        passed = trio.current_time() - self._applied_at
        return Millis(last + int(passed * 1000))

    def _decide(self, submission: Submission[A], batch: _Batch[A]) -> None:
        """Decide one command and take its events into memory; its facts join the batch."""
        command, by = submission.command, submission.by
        scope = (by.actor, command.operation, command.key or "")
        try:
            if command.key is not None and not (isinstance(command, c.PostMessage) and command.fresh):
                earlier = next((part.by_key[scope] for part in (*self._at_writer, batch) if scope in part.by_key), None)
                if earlier is not None:
                    # The same request twice before a commit: the second is the first's replay, or a conflict.
                    if earlier.facts[0].input != command.input:
                        raise Refused("idempotency_conflict", key=command.key)
                    submission.settled = Settled(Decision(replay=earlier.facts[0].position), earlier.facts, earlier.seq)
                    return
                prior = self._context.driver.store.prior(self.room, by.actor, command.operation, command.key)
                if prior is not None:
                    command = msgspec.structs.replace(command, prior=prior)
            if isinstance(command, c.PostMessage) and command.reply_to is not None:
                command = msgspec.structs.replace(command, reply=self._reply_target(command.reply_to, batch))
            now = self._room_time()
            decision = self.aggregate.decide(command, by=by, now=now, ids=self._context.random)
        except StoreError:
            raise
        except ParlerError as error:
            submission.error = error
            return
        headers: list[e.Header] = []
        posted = False
        for event in decision.events:
            try:
                fact = self._seal(event, decision, submission, now, first=not headers)
            except ParlerError as error:
                if headers:
                    raise
                # Nothing of it is in memory yet (its author's key is lost): it fails alone.
                submission.error = error
                return
            self.aggregate.apply(fact.header)
            self._applied_at = trio.current_time()
            batch.facts.append(fact)
            headers.append(fact.header)
            posted = posted or isinstance(event, e.MessagePosted)
        if posted and isinstance(command, c.PostMessage) and command.reply is not None:
            # The last rung of the ladder: the author acted on what it replies to.
            upto = command.reply.position
            mark = MarkDelivery(self.room, by.actor, "acted", upto=upto, at=now, after=Position(upto - 1))
            batch.replies.append(mark)
        submission.settled = Settled(decision, tuple(headers), decision.seq)
        if command.key is not None and headers:
            batch.by_key[scope] = submission.settled

    def _reply_target(self, message: MessageId, batch: _Batch[A]) -> ReplyTarget | None:
        """What is replied to, what is not stored yet included."""
        header: e.Header | None = None
        for part in (*self._at_writer, batch):
            for fact in part.facts:
                if isinstance(fact.header.event, e.MessagePosted) and fact.header.event.id == message:
                    header = fact.header
        if header is None:
            found = self._context.driver.store.find_message(message)
            if found is None or found[0] != self.room:
                return None
            header = self._context.driver.store.message(*found)
        if header is None or not isinstance(header.event, e.MessagePosted):
            return None
        event = header.event
        return ReplyTarget(
            id=event.id,
            position=header.position,
            author=header.by.actor,
            visibility=event.visibility,
            chain=event.chain,
            hops=event.hops,
        )

    def _seal(
        self, event: e.Event, decision: Decision, submission: Submission[A], now: Millis, *, first: bool
    ) -> NewFact:
        """A fact ready to store: position, time, author, and for a message the signed envelope."""
        command, content = submission.command, submission.content
        body: bytes | None = None
        signature: bytes | None = None
        if isinstance(event, e.MessagePosted) and content is not None:
            author = submission.by.actor
            body = self._envelope(event, command, content, author, decision.previous, now)
            signature = self._context.keys.sign(author, "parler/message", body)
            verified = self._verdict(author, body, signature)
            event = msgspec.structs.replace(event, envelope=hashlib.sha256(body).digest(), verified=verified)
        elif isinstance(event, e.DelegationIssued) and content is not None:
            body, signature = content.raw, content.signature
        header = e.Header(
            position=Position(self.aggregate.position + 1),
            at=now,
            by=submission.by,
            authority=decision.authority,
            event=event,
            operation=command.operation if first else "",
            key=command.key if first else None,
            input=command.input if first else None,
            body=_digest(event, body),
        )
        return NewFact(header, body, signature)

    def _envelope(
        self,
        event: e.MessagePosted,
        command: c.Command,
        content: Content,
        author: AgentId,
        previous: bytes,
        now: Millis,
    ) -> bytes:
        return encode_envelope(
            Envelope(
                v=1,
                room=self.room,
                key=command.key or "",
                kind=event.kind,
                chain=event.chain,
                hops=event.hops,
                authored_at=now,
                counter=event.counter,
                previous=previous,
                seen=content.seen,
                nonce=self._context.random.bytes(16),
                parts=content.parts,
                to=event.to,
                role=event.role,
                visibility=event.visibility,
                reply_to=event.reply_to,
            )
        )

    def _verdict(self, author: AgentId, body: bytes, signature: bytes) -> Verified:
        """What a check of the signature says. This home made it with a key that it holds in memory, so the first of
        each author is checked, and the others come out alike: a check costs as much as half a message."""
        if author not in self._proven:
            if not verify(author, "parler/message", body, signature):
                return "invalid"
            self._proven.add(author)
        return "valid"

    async def _recover(self, error: ParlerError) -> None:
        """A commit failed: forget what memory took in, and tell every caller."""
        self._recent.clear()
        try:
            self.aggregate = await self._context.driver.read(lambda _: self._load())
        except Exception as unread:
            # The store cannot even be read: whoever asks next opens the room anew.
            log.warning("room %s: could not be folded again: %s", self.room, type(unread).__name__)
            self.dead = self._closing = True
            self._lost += self._waiting
            self._waiting.clear()
        self._snapshot_at = min(self._snapshot_at, self.aggregate.position)
        lost, self._lost, self._error = self._lost, [], None
        for submission in lost:
            # Who was refused as well: it may have been for something that now never happened.
            submission.settled, submission.error = None, error
        self._settled.set()
        self._answer(lost)
        self.kick()

    def _snapshot_soon(self) -> None:
        """Cache the folded state behind what waits at the writer. Losing it costs a replay, so a failure here is no
        one's error."""
        snapshot = self._folded()
        self._snapshot_at = snapshot.position

        def settled(_: Outcome | None, error: BaseException | None) -> None:
            if error is not None:
                log.warning("room %s: no snapshot: %s", self.room, getattr(error, "code", type(error).__name__))

        with suppress(StoreError):
            self._context.driver.hand_over([snapshot], settled)

    async def _snapshot(self) -> None:
        """The last one, of a room that closes."""
        try:
            await self._context.driver.commit([self._folded()])
        except StoreError as error:
            log.warning("room %s: no snapshot: %s", self.room, error.code)

    def _folded(self) -> PutSnapshot:
        aggregate = self.aggregate
        return PutSnapshot(self.room, aggregate.fold_version, aggregate.position, aggregate.snapshot())


def _digest(event: e.Event, body: bytes | None) -> bytes | None:
    if body is None:
        return None
    # A message's envelope is its body, and was hashed when it was sealed.
    return event.envelope if isinstance(event, e.MessagePosted) else hashlib.sha256(body).digest()
