"""One room's line: what waits is decided in memory, committed as a batch, and only then answered and told.

A room has one batch under way. What its decisions need of the past is gathered, it is decided, committed by the driver,
and settled in the call that the driver makes on the loop: no task runs a batch, because each turn of the loop costs as
much as deciding a message. What is asked meanwhile waits, and becomes the next batch. The room's task mends a batch
that failed and keeps the last snapshot.

    free        nothing is under way; memory is what the store holds
    under way   a batch is gathered for, or decided and at the writer: then memory is ahead of the store
    failed      the batch did not happen, or nobody knows: the task looks, and folds the room again where it must
    dead        not even that was possible; whoever asks next opens the room anew

A batch keeps its commands until it is answered. What becomes of it when its commit fails:

    stale_position   another writer was faster, or what the batch needs of the past is behind what memory holds: the
                     room is folded again and the commands are decided again, once; their callers hear nothing of it
    store_unknown    the log tells: the chain digest at the batch's end is there, or it is not; while the log cannot be
                     read, it is asked again, and only then is every caller told that nobody knows. A commit that
                     happens after that is found by whoever asks again, by the next one that appends or looks at
                     the room, and once `LATE_S` went by by the room's task, which looks once then
    anything else    it did not happen: every caller gets the error, and a retry with the same key is safe

Refusals are answered with their batch too, because they rest on what the batch decided before them.

Above: `rooms`, which opens and closes actors, and the handlers. Below: `deciding` for one command, a driver for the
store. Invariant: nothing is answered or published before the facts behind it are stored.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, repeat
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.core.model import By, Position, RoomId
from parlerd.engine.armed import MAX_MARKS, Armed
from parlerd.engine.authors import Author, EnvelopeSigner, Finished, Words
from parlerd.engine.deciding import Aggregate, Decider
from parlerd.engine.driver import Driver
from parlerd.engine.ports import AllRooms, Clock, Ownership, Randomness
from parlerd.engine.recent import Recent
from parlerd.engine.submissions import Batch, Settled, Submission
from parlerd.store.port import Append, JobOutcome, MarkDelivery, NewFact, Past, PutSnapshot, Store, Write, has_happened

log = logging.getLogger(__name__)

MAX_WAITING: Final = 4096
"""Commands that may wait for one room; more are refused with `room_busy`."""
MAX_BATCH: Final = 128
"""Commands in one batch. Past 50 rows an fsync is paid for; a batch of all that waits would keep clients and room
waiting for each other (measured with 160 in flight, best of three: 64 gave 4,540 a second, 128 gave 4,750)."""
SNAPSHOT_EVERY: Final = 5_000
"""Facts between snapshots. Source: decision 4."""

KNOWN_WITHIN_S: Final = 12.0
"""How long a batch whose answer was lost waits to be known while the log cannot be read. A server that starts anew
after a crash takes some seconds."""
LATE_S: Final = 60.0
"""For how long a commit of which the log shows nothing may still come to be stored: a server ends each statement, and
notices that a client is gone, within ten seconds, and a commit waits for a standby."""
_LOOK_AGAIN_S: Final = (0.1, 0.2, 0.5, 1.0)
"""Between two looks whether such a batch happened; the last one again and again."""
_MISSED_PAGE: Final = 1_000
"""Facts that are read at once of those that another writer stored."""

A = TypeVar("A", bound=Aggregate)
Publish = Callable[[RoomId, Sequence[e.Header]], None]
"""Tells whoever waits that these facts of a room are stored now."""


@dataclass(frozen=True, slots=True)
class ActorParts:
    """What every actor shares: the store from the loop's side, the clock, fresh ids, both ways to a signed envelope (of
    an author in this home, and of one elsewhere), who tells those that wait, whether the token of an id holds now, and
    by which right this process decides in a room.
    """

    driver: Driver
    clock: Clock
    random: Randomness
    author: Author
    admission: EnvelopeSigner[Finished]
    publish: Publish
    holds: Callable[[str], bool]
    owns: Ownership = field(default_factory=AllRooms)


class _Failure(NamedTuple):
    """Why the batch under way cannot be answered as it was decided; and its outcome, where the store gave one."""

    error: ParlerError
    outcome: JobOutcome | None = None


class RoomActor(Generic[A]):
    """The only writer of one room. `load` folds the room from the store, in the reader's thread, and says whether it is
    frozen."""

    def __init__(
        self,
        room: RoomId,
        aggregate: A,
        context: ActorParts,
        load: Callable[[Store], tuple[A, bool]],
        *,
        frozen: bool = False,
    ) -> None:
        self.room = room
        """Its id."""
        self.aggregate = aggregate
        """The room in memory. It may be ahead of the store: a read takes what `quiet` returns."""
        self.frozen = frozen
        """Whether the log holds facts of a newer Parler: the room is read and takes no more commands."""
        self.dead = False
        """Whether memory could not be made to agree with the store again. The room's task ends then."""
        self.used_at = trio.current_time()
        """When somebody last asked for the room, on the loop's clock: rooms that nobody uses are closed."""
        self._context = context
        """What all rooms share."""
        self._load = load
        """Folds the room anew, after a batch that failed."""
        self._decider = Decider(
            room,
            clock=context.clock,
            ids=context.random,
            author=context.author,
            admission=context.admission,
            holds=context.holds,
        )
        """Decides one command after the other over `aggregate`."""
        self._waiting: deque[Submission] = deque()
        """The line: commands that are in no batch yet, oldest first."""
        self._batch: Batch | None = None
        """The batch that is under way, from when its past is gathered until it may be answered; None while the room is
        free."""
        self._failure: _Failure | None = None
        """Why the batch under way failed: the task is to mend that."""
        self._free = trio.Event()
        """Set when the room becomes free. Made anew when a batch begins, and not when it is decided again."""
        self._readers = 0
        """Tasks that wait in `quiet`. While there are any, no batch begins when the one under way ends."""
        self._wake = trio.Event()
        """Wakes the room's task: something is to be mended, or the room is closing and may have nothing left to do."""
        self._closing = False
        """Whether new commands are refused, and the task ends once what waits was done."""
        self._given_up = ""
        """Why the room takes nothing more, where it is about to be deleted or to be another relay's: the code that who
        asks hears. It keeps no snapshot then."""
        self._ended = trio.Event()
        """Set when the room's task ended."""
        self._doubt_until = 0.0
        """Until when, on the loop's clock, a batch may come to be stored of which the log showed nothing; 0 where there
        is none."""
        self._snapshot_at = aggregate.position
        """The position of the newest snapshot that was asked for."""
        self._armed: set[Armed] = set()
        """Readers that wait with everything read: the next batch writes the delivery ranges of those it concerns."""
        self._recent = Recent()
        """The newest stored facts, for readers that would otherwise ask the store for what was just written."""

    # -- from the outside ----------------------------------------------------------------------------------

    async def submit(self, command: c.Command, by: By, words: Words | None = None) -> Settled:
        """Run a command; returns once it is durable. Raises `ParlerError`."""
        return await self.place(command, by, words).result()

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        """Give a command its place in the room's line, in the order of calls. Nothing happens until somebody asks the
        submission for its outcome. Raises `Refused`."""
        if self.frozen:
            raise Refused("newer_log")
        if self._given_up:
            # Whoever asks again is told what became of the room.
            raise Refused(self._given_up, retry_after_ms=100)
        if self._closing:
            raise Refused("draining")
        if len(self._waiting) >= MAX_WAITING:
            raise Refused("room_busy", retry_after_ms=100)
        self.used_at = trio.current_time()
        submission = Submission(self, command, by, words)
        self._waiting.append(submission)
        return submission

    def move(self) -> None:
        """Begin the next batch, if the room is free. Whoever waits to look at the room goes first, because a room that
        is always busy would never be quiet."""
        while self._waiting and self._batch is None and not self._readers:
            self._free = trio.Event()
            self._begin(Batch([self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]))

    def withdraw(self, submission: Submission) -> None:
        """Take a command out of the line, if it is in no batch yet."""
        with suppress(ValueError):
            self._waiting.remove(submission)
        if self._closing and self.idle:
            # Nothing else would wake the task, which waits for what was in line.
            self._wake.set()

    async def quiet(self) -> A:
        """The aggregate when nothing of it is ahead of the store: what a read may show. Raises `StoreError`."""
        self.used_at = trio.current_time()
        is_sure = not self._doubt_until
        while self._batch is not None or not is_sure:
            if self._batch is None:
                is_sure = True
                await self._look_for_late()
                continue
            self._readers += 1
            try:
                await self._free.wait()
            finally:
                self._readers -= 1
                if not self._readers:
                    # In the next turn of the loop: the task that waited looks at the room in this one.
                    trio.lowlevel.current_trio_token().run_sync_soon(self.move)
        if self.dead:
            # Memory holds facts that never happened; whoever asks again gets the room opened anew.
            raise StoreError("store_failed")
        return self.aggregate

    @property
    def idle(self) -> bool:
        """Whether no command waits or is under way."""
        return not self._waiting and self._batch is None

    @property
    def recent(self) -> Recent | None:
        """What memory knows of the newest facts; None while a batch is under way, because memory is ahead then."""
        return None if self._batch is not None or self.dead else self._recent

    @contextmanager
    def arm(self, armed: Armed) -> Iterator[None]:
        """Let the next commit write the delivery range of a reader that is about to wait. Only while the room is
        idle: a batch under way was decided without the reader."""
        if self.idle and len(self._armed) < MAX_MARKS:
            self._armed.add(armed)
        try:
            yield
        finally:
            self._armed.discard(armed)

    def close(self) -> None:
        """Finish what waits, write a snapshot, end."""
        self._closing = True
        # Also what has its place and nobody asked about: nobody may ever do so.
        self.move()
        self._wake.set()

    async def take_in(self) -> None:
        """Take in what other processes stored in this room: all that was there when this was called, unless the room
        was busy again at once, which finds it out by itself. Raises `StoreError`."""
        await self.quiet()
        await self._take_in_missed()

    async def _take_in_missed(self) -> None:
        at = self.aggregate.position
        missed = await self._context.driver.read(
            lambda store: [
                (header, store.body(self.room, header.position) if self.aggregate.reads_body(header) else None)
                for header in _facts_after(store, self.room, at)
            ]
        )
        if missed and self._batch is None and not self.dead and self.aggregate.position == at:
            for header, stored in missed:
                self.aggregate.apply(header, None if stored is None else stored[0])
            self._recent.clear()
            self._context.publish(self.room, [header for header, _ in missed])

    async def give_up(self, code: str = "room_busy") -> None:
        """Take nothing more, and finish what waits, before the room is deleted, or is another relay's (`room_moved`).
        Who asks meanwhile hears the code."""
        self._given_up = code
        self.close()
        await self._ended.wait()

    # -- a batch -------------------------------------------------------------------------------------------

    def _begin(self, batch: Batch) -> None:
        """Gather what the batch's decisions need of the past, and decide it: in this call, where nothing is needed or
        the store is at hand."""
        self._batch = batch
        keys, messages, lines = self._decider.wanted(self.aggregate, batch)
        if keys or messages or lines:
            self._context.driver.ask(
                lambda store: store.past(self.room, keys, messages, lines), partial(self._gathered, batch)
            )
        else:
            self._decide(batch)

    def _gathered(self, batch: Batch, past: Past | None, error: BaseException | None) -> None:
        if past is not None and past.reaches > self.aggregate.position:
            # Another writer's, or a commit that happened after its answer had been lost and after the log was looked
            # at. A replay of one of these appends nothing, so nothing else would show that memory is behind the log.
            self._failed(_Failure(StoreError("stale_position")))
            return
        if past is not None:
            self._decider.heard(batch, past)
            self._decide(batch)
            return
        # Nothing was decided: memory is what the store holds.
        for submission in batch.submissions:
            submission.error = error if isinstance(error, ParlerError) else ParlerError("internal")
        self._conclude(batch)

    def _decide(self, batch: Batch) -> None:
        """Decide a batch and hand it to the writer."""
        expected, wall = self.aggregate.position, self._context.clock.now()
        try:
            for submission in batch.submissions:
                self._decider.decide(self.aggregate, submission, batch)
            if batch.facts:
                batch.marks = self._marks(batch.facts)
                tenure = self._context.owns.tenure(self.room)
                job: list[Write] = [
                    Append(self.room, expected, batch.facts, self.aggregate.gives_receipts, wall, tenure),
                    *batch.marks.values(),
                    *batch.acted,
                    *batch.ended,
                    *batch.erases,
                    *batch.buries,
                ]
                self._context.driver.hand_over(job, partial(self._committed, batch))
        except ParlerError as error:
            self._failed(_Failure(error))
        except Exception as error:
            # The log names the error's place and type only: the text of an exception may hold what someone wrote.
            place = "".join(traceback.format_tb(error.__traceback__))
            log.error("room %s: a batch could not be decided: %s\n%s", self.room, type(error).__name__, place)
            self._failed(_Failure(ParlerError("internal")))
        else:
            if not batch.facts:
                # Everything was refused or is a replay: there is nothing to store.
                self._conclude(batch)

    def _committed(self, batch: Batch, outcome: JobOutcome | None, error: BaseException | None) -> None:
        """The batch came back from the writer."""
        if outcome is None or error is not None:
            self._failed(_Failure(error if isinstance(error, ParlerError) else ParlerError("internal"), outcome))
        else:
            self._stored(batch, outcome)

    def _stored(self, batch: Batch, outcome: JobOutcome) -> None:
        """The batch happened: memory is what the store holds, and whoever is concerned may hear."""
        for armed, mark in batch.marks.items():
            armed.marked = mark.upto
        self._recent.add(batch.facts, outcome.heads[self.room])
        for submission in batch.submissions if outcome.numbers else ():
            settled = submission.settled
            if settled is not None and settled.facts:
                receipt = outcome.numbers.get((self.room, settled.facts[0].position))
                submission.settled = replace(settled, receipt=receipt)
        for erased in batch.erases:
            # Memory may have these words as well.
            self._recent.forget(erased.positions)
        if self._snapshot_due:
            self._snapshot_soon()
        self._conclude(batch)

    def _conclude(self, batch: Batch) -> None:
        """The room is free, because memory is what the store holds: wake whoever waits for what happened, answer the
        batch's callers, and go on."""
        self._batch = self._failure = None
        self._free.set()
        if len(self._waiting) >= MAX_BATCH:
            # Under load the writer is not kept waiting while the loop answers.
            self.move()
        if batch.facts:
            self._context.publish(self.room, [fact.header for fact in batch.facts])
        for submission in batch.submissions:
            submission.finish()
        if self._closing and not self._waiting:
            self._wake.set()
        self.move()

    def _failed(self, failure: _Failure) -> None:
        """Memory may hold what never happened: nothing more is decided until the task has mended that."""
        self._failure = failure
        self._wake.set()

    def _marks(self, facts: list[NewFact]) -> dict[Armed, MarkDelivery]:
        """The delivery ranges that a batch writes, for readers that wait. A reader is armed for one batch."""
        marks: dict[Armed, MarkDelivery] = {}
        for armed in self._armed:
            mark = armed.mark(self.room, facts, facts[-1].header.at)
            if mark is not None:
                marks[armed] = mark
        self._armed.clear()
        return marks

    # -- the task ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the room until it is closed: its batches run without this task, which mends one that failed."""
        while True:
            self._wake = trio.Event()
            if self._batch is not None and self._failure is not None:
                with trio.CancelScope(shield=True):
                    await self._mend(self._batch, self._failure)
            elif self._closing and self.idle:
                break
            else:
                with trio.move_on_at(self._doubt_until or inf):
                    await self._wake.wait()
                if self._doubt_until and trio.current_time() >= self._doubt_until:
                    await self._look_for_late()
        if self.aggregate.position > self._snapshot_at and not (self.dead or self._given_up):
            with trio.CancelScope(shield=True):
                await self._snapshot()
        self._ended.set()

    async def _mend(self, batch: Batch, failure: _Failure) -> None:
        """The batch failed: find out what became of it, make memory agree with the store, and decide the commands again
        or tell every caller. Who was refused hears the error as well, because the refusal may rest on facts that never
        happened."""
        error, outcome = failure
        if error.code == "store_unknown" and outcome is not None:
            happened = await self._has_happened(outcome)
            if happened:
                self._stored(batch, outcome)
                return
            self._doubt_until = trio.current_time() + LATE_S
            if happened is False:
                error = StoreError("store_failed")
        decided_over = Position(self.aggregate.position - len(batch.facts))
        missed: list[e.Header] = []
        failed = list(batch.submissions)
        untried: list[Submission] = []
        self._recent.clear()
        try:
            if error.code == "room_moved":
                # Another relay decides here now, and what memory holds of the room is worth nothing any more.
                raise error
            self.aggregate, self.frozen = await self._context.driver.read(self._load)
            if error.code == "stale_position":
                missed = await self._context.driver.read(lambda store: _facts_after(store, self.room, decided_over))
        except Exception as unread:
            # Not even the store's log can be read: whoever asks next opens the room anew.
            if unread is not error:
                log.warning("room %s: could not be folded again: %s", self.room, type(unread).__name__)
            self.dead = self._closing = True
            untried += self._waiting
            self._waiting.clear()
        self._snapshot_at = min(self._snapshot_at, self.aggregate.position)
        is_decided_again = error.code == "stale_position" and not (batch.again or self.frozen or self.dead)
        for submission in failed:
            submission.settled, submission.error = None, None if is_decided_again else error
        for submission in untried:
            # They were in no batch, so nothing of them can have been stored.
            submission.error = StoreError("store_unreachable") if error.code == "store_unknown" else error
        if missed:
            # Another writer's facts: whoever waits for them here has to hear of them, too.
            self._context.publish(self.room, missed)
        if is_decided_again:
            self._failure = None
            self._begin(Batch(failed, again=True))
        else:
            self._conclude(Batch(failed + untried))

    async def _look_for_late(self) -> None:
        """Take in what was stored of a batch after the log was asked about it. The look behind the time for which that
        may be so is the last one."""
        is_last = trio.current_time() >= self._doubt_until
        try:
            if self._batch is None and not self.dead:
                await self._take_in_missed()
        except ParlerError as unread:
            log.warning("room %s: whether it was stored late is not known: %s", self.room, unread.code)
            is_last = False
            self._doubt_until = max(self._doubt_until, trio.current_time() + LATE_S)
        if is_last:
            self._doubt_until = 0.0

    async def _has_happened(self, outcome: JobOutcome) -> bool | None:
        """Whether the log holds what a batch appended whose answer was lost; None where the log could not be read for
        as long as a caller can wait. A store over a network may have to be reached again first."""
        with trio.move_on_after(KNOWN_WITHIN_S):
            for pause in chain(_LOOK_AGAIN_S, repeat(_LOOK_AGAIN_S[-1])):
                try:
                    return await self._context.driver.read(lambda store: has_happened(store, outcome))
                except Exception as unread:
                    log.warning("room %s: whether it was stored is not known: %s", self.room, type(unread).__name__)
                    if not (isinstance(unread, ParlerError) and unread.spec.retryable):
                        break
                await trio.sleep(pause)
        return None

    # -- snapshots -----------------------------------------------------------------------------------------

    @property
    def _snapshot_due(self) -> bool:
        return self.aggregate.position - self._snapshot_at >= SNAPSHOT_EVERY

    def _snapshot_soon(self) -> None:
        """Cache the folded state, behind what waits at the writer. To lose a snapshot costs a replay, so a failure here
        is no one's error."""
        snapshot = self._folded()
        self._snapshot_at = snapshot.position

        def settled(_: JobOutcome | None, error: BaseException | None) -> None:
            if error is not None:
                log.warning("room %s: no snapshot: %s", self.room, getattr(error, "code", type(error).__name__))

        with suppress(StoreError):
            self._context.driver.hand_over([snapshot], settled)

    async def _snapshot(self) -> None:
        """The last snapshot, of a room that closes."""
        try:
            await self._context.driver.commit([self._folded()])
        except StoreError as error:
            log.warning("room %s: no snapshot: %s", self.room, error.code)

    def _folded(self) -> PutSnapshot:
        aggregate = self.aggregate
        return PutSnapshot(self.room, aggregate.fold_version, aggregate.position, aggregate.snapshot())


def _facts_after(store: Store, room: RoomId, position: Position) -> list[e.Header]:
    """The facts of a log after a position, as far as this version knows them."""
    found: list[e.Header] = []
    with suppress(Refused):
        while page := store.facts(room, position, _MISSED_PAGE):
            found += page
            position = page[-1].position
    return found
