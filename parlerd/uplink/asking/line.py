"""The line of what is asked here of a room that lives elsewhere: messages one after the other, all else by itself.

    a message -> the mirror decides -> its author's lane (`lanes`), or what became of the same request before

Not here: how a message is sent (`lanes`), everything else (`errands`). Above: `remote_room`. Below: those, `composing`.
Invariants: messages of one agent keep the order of calls; the answer to an offer of the turn never waits for a link,
and holds no message up.
"""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, By, MessageId, Position, RoomId
from parlerd.core.receipts import FactRef
from parlerd.engine.authors import Draft, Words
from parlerd.engine.handles import taken_out
from parlerd.engine.submissions import Settled, Submission
from parlerd.uplink.asking import errands
from parlerd.uplink.asking.room_home import RoomHome, may_be_told
from parlerd.uplink.composing import Composer, Decided
from parlerd.uplink.lanes import ANSWER_S, Post, answers_offer, said_as

MAX_WAITING: Final = 4096
"""Commands that may wait for one room; more are refused with `room_busy`."""


class RoomLine:
    """The line of one room."""

    def __init__(self, home: RoomHome, composer: Composer) -> None:
        self._home = home
        self._composer = composer
        self._waiting: deque[Submission] = deque()
        """What was asked and is not begun, in the order of calls."""
        self._is_held_up = False
        """Whether what waits goes on later: the mirror catches up, or the store is asked about the newest request."""
        self._is_moving = False
        """Whether `move` is at work."""

    @property
    def room(self) -> RoomId:
        """The id of the room."""
        return self._home.room

    def place(self, command: c.Command, by: By, words: Words | None = None) -> Submission:
        """Give a command its place in the line. Raises `Refused`."""
        home = self._home
        if home.link.is_removed:
            raise taken_out(home.name)
        if len(self._waiting) >= MAX_WAITING:
            raise Refused("room_busy", retry_after_ms=100)
        home.actor.used_at = trio.current_time()
        if isinstance(command, c.PostMessage) and command.idempotency_key is not None and not command.fresh:
            command = msgspec.structs.replace(command, id=_id_of(home.room, by.actor, self._as_told(command)))
        submission = Submission(self, command, by, words)
        self._waiting.append(submission)
        return submission

    def move(self) -> None:
        """Begin what waits: messages one after the other, everything else by itself. A message takes no task where
        nothing has to be waited for."""
        if self._is_moving:
            return
        self._is_moving = True
        try:
            while self._waiting and not self._is_held_up:
                self._begin(self._waiting.popleft())
        finally:
            self._is_moving = False

    def withdraw(self, submission: Submission) -> None:
        """Take a command out, if it still waits."""
        if submission in self._waiting:
            self._waiting.remove(submission)

    def _as_told(self, command: c.PostMessage) -> c.PostMessage:
        """A request as it goes on from here: the room's home, its mirror and the outbox know it by the hidden key."""
        home = self._home
        key = command.idempotency_key
        if key is None:
            return command
        if home.is_sealed and command.memory is not None and not may_be_told(key):
            # The home is told neither that a message belongs to the memory nor, with that, which of two requests with
            # one key it is.
            key = f"{command.operation} {key}"
        return msgspec.structs.replace(command, idempotency_key=home.hidden(key))

    def _begin(self, submission: Submission) -> None:
        home = self._home
        if not isinstance(submission.command, c.PostMessage):
            self._finish_by(partial(errands.run, home), submission)
        elif answers_offer(submission.command):
            self._finish_by(self._answer_offer, submission)
        elif home.link.may_catch_up(home.room):
            self._is_held_up = self._finish_by(self._offer_caught_up, submission)
        else:
            self._offer(submission, self._as_told(submission.command))

    async def _answer_offer(self, submission: Submission) -> None:
        """The answer to an offer of the turn: another may give one meanwhile, so it never waits for a link, and
        messages that do are not held up."""
        home = self._home
        assert isinstance(submission.command, c.PostMessage)
        await home.link.ready()
        await home.link.told_all(home.room)
        self._offer(submission, self._as_told(submission.command))

    async def _offer_caught_up(self, submission: Submission) -> None:
        """A message that is said on a mirror which is about to hear what was said meanwhile."""
        home = self._home
        assert isinstance(submission.command, c.PostMessage)
        try:
            await home.link.catch_up(home.room)
        except BaseException:
            self._is_held_up = False
            # What waits behind this one begins all the same, or hears why it does not.
            self.move()
            raise
        self._is_held_up = False
        self._offer(submission, self._as_told(submission.command))
        self.move()

    def _finish_by(self, work: Callable[[Submission], Awaitable[None]], submission: Submission) -> bool:
        """Let a task do something for a submission; whether the task begins, which it does unless the daemon ends."""
        begins = self._home.link.spawn(self._finishing, submission, work)
        if not begins:
            _fail(submission, Refused("draining"))
        return begins

    async def _finishing(self, submission: Submission, work: Callable[[Submission], Awaitable[None]]) -> None:
        """Do something for a submission; an error is its outcome."""
        try:
            await work(submission)
        except ParlerError as error:
            _fail(submission, error)
        except BaseException:
            _fail(submission, ParlerError("internal"))
            raise

    def _offer(self, submission: Submission, command: c.PostMessage) -> None:
        """Ask the mirror whether a message may be posted; what it says goes on in `_decided`."""
        home = self._home
        by, draft = submission.by, submission.words
        assert isinstance(draft, Draft)
        if by.actor in home.link.mirrors.copied:
            _fail(submission, Refused("key_used_elsewhere", agent=by.actor))
            return
        under_way = home.link.lane(home.room, by.actor).find(command.idempotency_key or "", command.operation)
        if under_way is not None:
            self._finish_by(partial(self._same, under_way), submission)
            return
        if command.id is None:
            command = msgspec.structs.replace(command, id=MessageId(home.desk.random.new("m")))
        self._is_held_up = self._is_held_up or not answers_offer(command)
        self._composer.decide(home.actor, command, by, draft, partial(self._decided, submission, command))

    def _decided(
        self, submission: Submission, command: c.PostMessage, decided: Decided | None, error: BaseException | None
    ) -> None:
        """The mirror said what becomes of a message: it goes into its author's lane, or was posted before."""
        home = self._home
        if not answers_offer(command):
            self._is_held_up = False
        by, draft = submission.by, submission.words
        assert isinstance(draft, Draft)
        if decided is None:
            _fail(submission, error if isinstance(error, ParlerError) else ParlerError("internal"))
        elif decided.replay is not None:
            self._finish_by(partial(self._replayed, decided.replay), submission)
        else:
            home.link.lane(home.room, by.actor).offer(Post(command, by, draft, submission), decided)
        self.move()

    async def _replayed(self, position: Position, submission: Submission) -> None:
        submission.settled = await self._posted(submission.by.actor, position)
        submission.finish()

    async def _same(self, under_way: Post, submission: Submission) -> None:
        """The same request a second time, while the first is under way: it is the first one's replay."""
        home = self._home
        if under_way.command.input != submission.command.input:
            raise Refused("idempotency_conflict", key=submission.command.idempotency_key)
        with trio.move_on_after(ANSWER_S):
            await under_way.done.wait()
        if under_way.done.is_set() and under_way.error is not None:
            raise under_way.error
        submission.command = said_as(under_way.command, submission.command)
        traced = await home.desk.library.trace(under_way.id)
        if traced is None and under_way.is_now_or_never:
            raise Refused("home_unreachable", home=home.name)
        if traced is None:
            submission.settled = Settled(Decision(replay=Position(0)), queued=True)
        else:
            submission.settled = await self._posted(submission.by.actor, traced.header.position)
        submission.finish()

    async def _posted(self, agent: AgentId, position: Position) -> Settled:
        """What became of a request that was made before, as the mirror has it."""
        home = self._home
        room = home.mirror
        [header] = await home.desk.library.few_facts(home.room, Position(position - 1), 1)
        seq = await home.desk.library.seq_at(room, room.view(agent), position)
        receipt = FactRef(header.event.id) if isinstance(header.event, e.MessagePosted) else None
        return Settled(Decision(replay=position), (header,), seq, receipt=receipt)


def _id_of(room: RoomId, agent: AgentId, command: c.PostMessage) -> MessageId:
    """The id of a message that its author may ask for again. A daemon that was killed may have sent the message, and
    the one after it does not know that: both tell the author the same id."""
    asked = msgspec.msgpack.encode((room, agent, command.operation, command.idempotency_key))
    return MessageId(f"m_{base64.b32encode(hashlib.sha256(asked).digest()).decode().lower()[:26]}")


def _fail(submission: Submission, error: ParlerError) -> None:
    submission.error = error
    submission.finish()
