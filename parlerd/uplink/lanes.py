"""The messages of one agent for one room elsewhere: in order, several under way at a time, each once.

    offered --> sent straight ------------> answered: in the room
       |            | no answer in time, or the link broke
       `----------> kept in the outbox ---> sent again, in order -> answered: in the room, or refused for good

An envelope is composed when it is sent, on the end of its thread: the one that was sent before it, or the newest that
the room's home acknowledged. When the home refuses one, those behind it in its thread name an envelope that is in no
room, and the home refuses them too; they are composed again, in their order.

A message that is sent straight and taken passes no task: it leaves in the call that offers it, and its author is
answered in the call that takes it into the mirror. The lane's task runs while something else has to be done: to keep
a message, to send one later, to deal with a refusal.

Not here: how an envelope is made (`composing`), rows (`outbox`). Above: `asking.line` offers, `link` says when there is
a connection. Invariants: within an author's thread the order of the messages in the room is the order in which they
were offered; a message that was answered `queued` is in the outbox; nothing is sent straight while something of this
agent waits in the outbox for this room; the answer to an offer of the turn never waits in the outbox.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final, Protocol, cast

import msgspec
import trio

from parlerd.connections.calls import coded
from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.claims import ENDING_KINDS
from parlerd.core.decision import Decision
from parlerd.core.envelope import operation_of, root_chain
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.membership import shift_after, shifts_of
from parlerd.core.messages import GUARD, Thread
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, Position, RoomId, Seq
from parlerd.core.receipts import FactRef
from parlerd.core.room import Room
from parlerd.core.sealing import outline
from parlerd.core.words import LATE
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Draft
from parlerd.engine.desk import Desk
from parlerd.engine.handles import MirrorRoom, taken_out
from parlerd.engine.submissions import Settled, Submission
from parlerd.operations import types as t
from parlerd.uplink.composing import Composed, Composer, Decided
from parlerd.uplink.outbox import Outbox, row_of

log = logging.getLogger(__name__)

ANSWER_S: Final = 5.0
"""How long a message that was sent straight may stay without an answer. Source: relay spec, Offline."""
LAND_S: Final = 5.0
"""How long an answer waits until the mirror holds the message. The answer of the room's home is enough after that."""
WINDOW: Final = 32
"""Messages of one lane that may be under way."""
TRIES: Final = 4
"""How often an envelope is composed anew that the home refuses although nothing before it is under way."""
PAUSE_S: Final = 1.0
"""How long a lane waits after a refusal that may pass, where the home does not say."""
COMPOSE_AGAIN: Final = frozenset({"previous", "counter"})
"""What of an envelope does not fit when another came or did not come before it."""
MAX_COUNTER: Final = 2**52
"""No counter that this home gave out is as great, up to the year 2112, and there is room behind it: counters are below
2**53."""
LATE_NOW_OR_THEN: Final = frozenset({"claim_lost", "idempotency_conflict"})
"""What a home says of a result that comes too late, or that was posted as a late one before."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
"""The hash of an envelope, as a refusal spells it."""


class Pending(Protocol):
    """A call under way."""

    async def result(self, seconds: float | None = None) -> Any:
        """Its answer. Raises `ParlerError`."""
        ...

    def when_done(self, then: Callable[[Any, ParlerError | None], None]) -> None:
        """Call `then` with its answer, or with why there is none."""
        ...


class Calls(Protocol):
    """A link's connection, as far as a lane uses it."""

    def begin(self, op: str, params: t.Params) -> Pending:
        """Give a call its place among what is sent. Raises `ParlerError`."""
        ...


class Landed(Protocol):
    """Where own messages come in again."""

    async def contradict(self, room: RoomId, what: str) -> None:
        """The room's home contradicted itself."""
        ...

    def when_landed(self, message: MessageId, then: Callable[[e.Header], None]) -> None:
        """Call `then`, which must not raise, with the message as the mirror has it, once it has come in on this link:
        at once if it has."""
        ...

    def no_longer(self, message: MessageId) -> None:
        """Nobody waits for this message to come in any more."""
        ...


class Links(Protocol):
    """The link that a lane sends over."""

    home: HomeId
    is_removed: bool
    """Whether the person forgot this relay."""

    @property
    def name(self) -> str:
        """What people call the relay."""
        ...

    @property
    def calls(self) -> Calls | None:
        """The connection, while there is one over which rooms are followed."""
        ...

    async def told_all(self, room: RoomId) -> None:
        """Wait until this link told all that is there of a room, for a moment at most."""
        ...

    async def told_upto(self, room: RoomId, number: int) -> None:
        """Wait until this link told a room up to its public message of this number, for a moment at most."""
        ...

    def spawn(self, work: Callable[..., Any], *args: Any) -> bool:
        """Run a task until the daemon ends. False once the daemon ends: then the task does not begin."""
        ...

    def tell_refused(self, row_room: RoomId, agent: AgentId) -> None:
        """A queued message was refused for good: its author is to hear of it."""
        ...


@dataclass(slots=True, eq=False)
class Post:
    """One message on its way."""

    command: c.PostMessage
    by: By
    draft: Draft
    submission: Submission | None = None
    """Who waits for the answer; None once that was told `queued`, or after a restart."""
    is_kept: bool = False
    """Whether the outbox holds it."""
    sent: Composed | None = None
    """The envelope that is under way."""
    answer: t.Posted | None = None
    error: ParlerError | None = None
    """What the home answered to the envelope under way."""
    is_taken: bool = False
    """Whether the home has the message, as far as is known here. The mirror may hear of it later."""
    is_straight: bool = False
    """Whether it was offered while it could be sent at once. Any other is kept first."""
    late_at: float = inf
    """When the next step is not waited for any longer, on the loop's clock: the answer of the room's home (then it is
    kept), and after that the mirror (then its author is answered without). `inf` for one that nobody waits for."""
    tries: int = 0
    done: trio.Event = field(default_factory=trio.Event)

    @property
    def id(self) -> MessageId:
        assert self.command.id is not None
        return self.command.id

    @property
    def is_answered(self) -> bool:
        return self.answer is not None or self.error is not None

    @property
    def is_under_way(self) -> bool:
        return self.sent is not None and self.answer is None and self.error is None

    @property
    def is_to_be_kept(self) -> bool:
        """Whether it waits for its place in the outbox."""
        return not (self.is_straight or self.is_kept or self.is_now_or_never)

    @property
    def is_now_or_never(self) -> bool:
        """Whether it is done at once or refused: the answer to an offer, which another may give meanwhile, what is said
        of a task, which another may hold meanwhile, and what is for a version of the room's memory (`if_version`),
        which another may write."""
        memory = self.command.memory
        is_for_version = memory is not None and memory.if_version is not None
        return is_for_version or answers_offer(self.command)

    @property
    def is_given_up(self) -> bool:
        """Whether its author was told that it was not done, so that it must not leave any more."""
        return self.is_now_or_never and self.submission is None

    def again(self) -> None:
        """Compose and send it once more."""
        self.sent = self.answer = self.error = None


class Lane:
    """One agent's messages for one room."""

    def __init__(
        self,
        room: RoomId,
        agent: AgentId,
        *,
        desk: Desk,
        link: Links,
        outbox: Outbox,
        composer: Composer,
        landed: Landed,
    ) -> None:
        self.room = room
        self.agent = agent
        self._desk = desk
        self._link = link
        self._outbox = outbox
        self._composer = composer
        self._landed = landed
        self._posts: deque[Post] = deque()
        """What is not done yet, in the order in which it was offered."""
        self._ends: dict[str, Thread] = {}
        """Where threads of this agent end that are ahead of the mirror: what is under way or was acknowledged."""
        self._acknowledged: dict[str, Thread] = {}
        """The same without what is under way."""
        self._epoch = 0
        """The epoch of the room that these ends are of: after a rewind the room's threads end elsewhere."""
        self._is_held = False
        """Whether nothing is sent until everything under way was answered."""
        self._landing: dict[Post, t.Posted] = {}
        """What the home has and the mirror does not have yet, with the home's answer, for authors that wait. By post
        and not by id: what was given up and asked for again is another post with the same id."""
        self._wake = trio.Event()
        """Wakes the lane's task from a pause: something was offered or answered, or the link went."""
        self._is_running = False
        """Whether the lane's task is there."""
        self._is_watching = False
        """Whether a task looks for messages that are late."""
        self._not_before = 0.0
        """When the next attempt may begin, after a refusal that may pass; on the loop's clock."""

    def __len__(self) -> int:
        return len(self._posts)

    def find(self, key: str, operation: str) -> Post | None:
        """The message under way that was asked for with this idempotency key."""
        found = (post for post in self._posts if post.command.idempotency_key == key)
        return next((post for post in found if post.command.operation == operation), None)

    async def emptied(self, seconds: float) -> bool:
        """Whether everything that was offered so far is in the room or was refused for good, now or within so many
        seconds."""
        with trio.move_on_after(seconds):
            for post in list(self._posts):
                await post.done.wait()
            return True
        return False

    def restore(self, post: Post) -> None:
        """Put a row of the outbox in its place, after a restart."""
        self._posts.append(post)

    # -- offering ------------------------------------------------------------------------------------------

    def offer(self, post: Post, decided: Decided) -> None:
        """Take a message in that the mirror just `decided`: it is sent straight when nothing of this agent waits, and
        else kept. Called in the order in which messages were asked for. What becomes of it is its submission's."""
        calls = self._link.calls
        post.is_straight = calls is not None and not any(each.is_kept for each in self._posts)
        may_send = post.is_straight and self._may_send
        self._posts.append(post)
        if post.is_straight or post.is_now_or_never:
            self._watch_for(post, ANSWER_S)
        if calls is not None and may_send:
            # At once, so that what several agents of this home say stands in the room in the order of asking.
            self._send(calls, post, decided)
        if not post.is_under_way:
            self.go_on()

    @property
    def _may_send(self) -> bool:
        """Whether one more message may be sent: nothing before it still has to be."""
        is_next = all(each.is_under_way for each in self._posts)
        return is_next and not self._is_held and not self._is_pausing and len(self._posts) < WINDOW

    @property
    def _is_pausing(self) -> bool:
        return self._not_before > trio.current_time()

    async def _keep(self, post: Post) -> None:
        """Keep a message in the outbox, and tell whoever waits that it is queued: unless its way ended meanwhile."""
        if self._link.is_removed:
            # It would leave when the relay is added again.
            raise taken_out(self._link.name)
        now = self._desk.clock.now()
        await self._outbox.put(row_of(self._link.home, self.room, post.command, post.by, post.draft, now))
        post.is_kept = True
        if post.is_taken or post.done.is_set():
            await self._outbox.drop(post.id)
        else:
            self._answer(post, Settled(Decision(), queued=True))

    def _watch_for(self, post: Post, seconds: float) -> None:
        """The next step of this message may take so long."""
        post.late_at = trio.current_time() + seconds
        if not self._is_watching:
            self._is_watching = True
            self._link.spawn(self._watch)

    async def _watch(self) -> None:
        """See to what is late, until nothing is waited for. One task does this for all messages."""
        try:
            while watched := [post for post in self._waited_for if post.late_at < inf]:
                await trio.sleep_until(min(post.late_at for post in watched))
                for post in watched:
                    if post.late_at > trio.current_time():
                        continue
                    post.late_at = inf
                    if post in self._landing:
                        self._landed_late(post)
                    else:
                        await self._keep_unanswered(post)
        finally:
            self._is_watching = False

    @property
    def _waited_for(self) -> list[Post]:
        return [*self._posts, *self._landing]

    async def _keep_unanswered(self, post: Post) -> None:
        """A message that was sent straight and is not answered in time waits in the outbox, and its author no longer
        waits for it."""
        if post.done.is_set() or post.is_taken or post.is_kept:
            return
        if post.is_now_or_never:
            self._give_up(post, was_sent=post.sent is not None)
            return
        try:
            await self._keep(post)
        except ParlerError as error:
            # It cannot be kept, so its author goes on waiting for the answer, or hears that the link broke.
            log.warning("a message for %s could not be kept: %s", self.room, error.code)

    def _give_up(self, post: Post, *, was_sent: bool) -> None:
        """Tell whoever waits that a message is not done that cannot be kept. One that `was_sent` may be done all the
        same: its author hears so who asks again."""
        error = Refused("home_unreachable" if was_sent else "offline", home=self._link.name)
        if not post.is_under_way:
            self._remove(post)
            self._fail(post, error)
        elif post.submission is not None:
            submission, post.submission = post.submission, None
            submission.error = error
            submission.finish()

    # -- sending -------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """There may be something to do that takes a task."""
        self._wake.set()
        if not self._is_running and self._has_work:
            self._is_running = True
            if not self._link.spawn(self._run):
                self._fail_all()

    def _fail_all(self) -> None:
        """The daemon ends, and so does every wait for what is not kept."""
        for post in [post for post in self._posts if not post.is_kept]:
            self._remove(post)
            self._fail(post, Refused("draining"))

    @property
    def _has_work(self) -> bool:
        """Whether there is more to do than to wait for answers."""
        if self._link.calls is None:
            return any(not post.is_kept or post.sent is not None or post.is_answered for post in self._posts)
        others = [post for post in self._posts if not post.is_under_way]
        if any(post.is_answered or post.is_to_be_kept for post in others):
            return True
        under_way = len(self._posts) - len(others)
        return bool(others) and under_way < (1 if self._is_held else WINDOW)

    async def _run(self) -> None:
        try:
            while self._has_work:
                self._wake = trio.Event()
                try:
                    await (self._keep_all() if self._link.calls is None else self._step())
                except ParlerError as error:
                    log.warning("messages for %s wait: %s", self.room, error.code)
                    self._pause(error)
                if self._is_pausing and self._link.calls is not None:
                    with trio.move_on_at(self._not_before):
                        await self._wake.wait()
                else:
                    await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            self._fail_all()
            raise
        except Exception:
            # A mistake of ours: whoever waits hears so, and what is kept is sent when something is offered next.
            for post in [post for post in self._posts if not post.is_kept]:
                self._remove(post)
                self._fail(post, ParlerError("internal"))
            raise
        finally:
            self._is_running = False

    async def _keep_all(self) -> None:
        """The link went, so nothing is under way any more. What has no answer waits in the outbox from now on."""
        self._begin_anew()
        for post in list(self._posts):
            was_sent = post.sent is not None
            post.again()
            if post.is_now_or_never:
                self._give_up(post, was_sent=was_sent)
            elif not post.is_kept:
                await self._keep_or_fail(post)

    async def _keep_or_fail(self, post: Post) -> None:
        try:
            await self._keep(post)
        except ParlerError as error:
            self._remove(post)
            self._fail(post, error)

    def _begin_anew(self) -> None:
        """Nothing is under way: the next envelope follows the newest that was acknowledged."""
        self._ends, self._is_held = dict(self._acknowledged), False

    async def _step(self) -> None:
        """Keep what is to be kept, deal with what was answered, and send what may be sent."""
        for post in list(self._posts):
            if post.is_to_be_kept:
                await self._keep_or_fail(post)
            elif post.is_answered and not post.is_taken and await self._dealt_with(post):
                self._remove(post)
        if self._is_held and self._under_way:
            return
        if self._is_held:
            self._begin_anew()
        if self._is_pausing:
            return
        for post in list(self._posts):
            if self._link.calls is None or self._under_way >= WINDOW or post.is_to_be_kept:
                return
            if post.sent is None and post.is_given_up:
                self._remove(post)
            elif post.sent is None and not post.is_answered:
                await self._send_later(post)
            if post.error is not None:
                # It was refused here. What comes after it waits until that was dealt with.
                return

    @property
    def _under_way(self) -> int:
        return sum(1 for post in self._posts if post.is_under_way)

    def _remove(self, post: Post) -> None:
        with suppress(ValueError):
            self._posts.remove(post)
        if not self._posts:
            self._begin_anew()

    async def _send_later(self, post: Post) -> None:
        """Send a message that could not leave when it was offered: the mirror says anew what becomes of it."""
        try:
            actor = await mirror_of(self._desk, self.room)
            decided = await self._composer.decided(actor, post.command, post.by, post.draft)
            if decided.event is None:
                # It was made before: the mirror has it already.
                post.is_taken = True
                await self._outbox.drop(post.id)
                self._remove(post)
                self._answer_by(self._repeated, post, await self._known(actor, decided.replay or Position(0)))
                return
        except ParlerError as error:
            post.error = error
            return
        calls = self._link.calls
        if calls is not None:
            self._send(calls, post, decided)

    def _send(self, calls: Calls, post: Post, decided: Decided) -> None:
        """Sign a message that the mirror just decided, and send it. An error is the message's answer."""
        assert decided.event is not None
        if self._epoch != (epoch := decided.actor.aggregate.state.epoch):
            self._epoch = epoch
            self._ends.clear()
            self._acknowledged.clear()
        try:
            composed = self._composer.sign(decided, post.command, post.by, post.draft, self._ends)
            pending = calls.begin(
                "link.post",
                t.PostEnvelope(
                    room=self.room,
                    agent=self.agent,
                    id=composed.id,
                    body=composed.body,
                    signature=composed.signature,
                    operation=_operation(post, is_sealed=decided.actor.aggregate.state.is_sealed),
                    said=post.command.said,
                    fence=post.command.fence,
                ),
            )
        except Exception as error:
            post.error = coded(error, "a message")
            return
        post.sent = composed
        self._ends[composed.audience] = composed.thread
        pending.when_done(partial(self._hear, post, composed))

    async def _known(self, actor: RoomActor[Room], position: Position) -> t.Posted:
        """What the room's home would answer to a message that the mirror has."""
        room, library = actor.aggregate, self._desk.library
        [header] = await library.few_facts(self.room, Position(position - 1), 1)
        assert isinstance(header.event, e.MessagePosted)
        seq = await library.seq_at(room, room.view(self.agent), position)
        return t.Posted(id=header.event.id, seq=seq, at=header.at, replayed=True)

    def _hear(self, post: Post, composed: Composed, answer: t.Posted | None, error: ParlerError | None) -> None:
        """The answer to one envelope came, or none will."""
        if post.sent is not composed:
            return
        post.answer, post.error = answer, None if error is None else refused(error)
        if answer is not None and not post.is_kept:
            self._take(post, answer)
        self.go_on()

    # -- answers -------------------------------------------------------------------------------------------

    def _take(self, post: Post, answer: t.Posted) -> None:
        """The home has a message: this ends its way."""
        post.is_taken = True
        if post.sent is not None and not answer.replayed:
            self._acknowledged[post.sent.audience] = post.sent.thread
        self._remove(post)
        if post.submission is None:
            post.done.set()
        elif answer.replayed:
            self._answer_by(self._repeated, post, answer)
        elif not answer.seq:
            # Its author, a requester, is not shown it, and so the mirror may never be told of it.
            self._answer_by(self._numbered, post, answer, _told(post, answer), None)
        else:
            self._landing[post] = answer
            self._watch_for(post, LAND_S)
            self._landed.when_landed(MessageId(answer.id), partial(self._landed_in_time, post))

    async def _dealt_with(self, post: Post) -> bool:
        """Whether this answer ends the message's way. Otherwise it is sent again."""
        error, sent = post.error, post.sent
        if post.answer is not None:
            # Whoever waits to leave goes when this message's way has ended. A row that were still on the disk would be
            # sent again after a crash, to a room that takes nothing more of its author.
            await self._outbox.drop(post.id)
            self._take(post, post.answer)
            return True
        assert error is not None
        if self._link.calls is None:
            return False
        if error.code in LATE_NOW_OR_THEN and post.command.said and post.command.kind in ENDING_KINDS:
            # The claim had ended, of which nobody told the mirror, now or when the same was asked for before. What the
            # worker says is kept as what it is.
            post.command = msgspec.structs.replace(post.command, kind=LATE)
            post.again()
            self._is_held = True
            return False
        if error.code == "invalid_param" and post.is_now_or_never:
            # It has no such operation.
            error = Refused("relay_older")
        if error.code == "envelope_refused" and error.details.get("what") in COMPOSE_AGAIN and post.tries < TRIES:
            # Those behind the first that was refused are refused because of it.
            post.tries += post is self._posts[0]
            if sent is not None:
                self._note_end(sent, error.details)
            post.again()
            self._is_held = True
            return False
        if error.code == "envelope_refused" and error.details.get("what") == GUARD:
            # Something came in between that may be of the memory: what is remembered is compared once more.
            if post.tries >= TRIES and post.is_now_or_never:
                self._fail(post, Refused("room_busy", retry_after_ms=int(PAUSE_S * 1000)))
                return True
            if post.tries >= TRIES:
                self._pause(error)
                post.tries = 0
            post.tries += 1
            number = error.details.get("number")
            await self._link.told_upto(self.room, number if type(number) is int else 0)
            post.again()
            self._is_held = True
            return False
        if error.code == "envelope_refused" and sent is not None and await self._is_rewound_since(sent):
            post.again()
            self._is_held = True
            return False
        if error.code == "envelope_refused":
            error = await self._meaning(error)
        if error.spec.retryable:
            post.again()
            self._is_held = True
            self._pause(error)
            return False
        if post is not self._posts[0]:
            # The home did not have what comes before it, which may be what was missing.
            post.again()
            self._is_held = True
            return False
        if post.is_kept and error.code == "no_such_room" and await self._is_there(post):
            await self._outbox.drop(post.id)
            post.is_taken = True
            post.done.set()
            return True
        if post.is_kept:
            await self._outbox.refuse(post.id, error.code)
            self._link.tell_refused(self.room, self.agent)
        self._fail(post, error)
        return True

    async def _is_there(self, post: Post) -> bool:
        """Whether the room's home has a message whose author is out of the room by now. It may have been sent before,
        and the answer lost; whoever is out is told no more of the room, so the mirror does not hold it. Raises what may
        pass."""
        calls = self._link.calls
        if calls is None:
            raise Refused("home_unreachable", home=self._link.name)
        try:
            params = t.PostedAtRoom(room=self.room, agent=self.agent, id=post.id)
            await calls.begin("link.posted", params).result(ANSWER_S)
        except ParlerError as error:
            if error.spec.retryable:
                raise
            # Also of a home that is older than this question.
            return False
        return True

    async def _is_rewound_since(self, sent: Composed) -> bool:
        """Whether the room was rewound after an envelope was composed, which speaks of what the home lost."""
        await self._link.told_all(self.room)
        state = (await mirror_of(self._desk, self.room)).aggregate.state
        return state.alarm is None and state.epoch > sent.epoch

    async def _meaning(self, error: ParlerError) -> Refused:
        """What it means that the home refuses an envelope which was composed as the home's own rules say: that it
        denies the line that it showed us itself, or that its rules are others."""
        what = error.details.get("what", "")
        state = (await mirror_of(self._desk, self.room)).aggregate.state
        if state.alarm is not None:
            return Refused(state.alarm, what=state.contradicted)
        if what == "line":
            await self._landed.contradict(self.room, "line")
            return Refused("relay_equivocation", what="line")
        return Refused("relay_refused", what=what)

    def _note_end(self, sent: Composed, told: Mapping[str, Any]) -> None:
        """The home told where the thread of an envelope ends there, which is its newest word. That is ahead of what is
        known here when an answer was lost, or when the memory of this home was. A home that lies about it gets an
        envelope that no mirror takes, or refuses it."""
        counter, digest = told.get("counter"), told.get("envelope")
        if type(counter) is int and 0 < counter < MAX_COUNTER and isinstance(digest, str) and _DIGEST.fullmatch(digest):
            self._acknowledged[sent.audience] = Thread(counter, bytes.fromhex(digest))

    def _pause(self, error: ParlerError) -> None:
        wait = PAUSE_S if error.retry_after_ms is None else error.retry_after_ms / 1000
        self._not_before = trio.current_time() + wait

    def _landed_in_time(self, post: Post, header: e.Header) -> None:
        """The mirror holds the message: its author may read on."""
        answer = self._landing.pop(post, None)
        if answer is None:
            return
        handle = self._desk.rooms.open_actor(self.room)
        if handle is not None and not handle.aggregate.state.epoch:
            self._answer(
                post, Settled(Decision(answer=_late(answer)), (header,), Seq(answer.seq), receipt=_receipt(answer))
            )
        else:
            self._answer_by(self._numbered, post, answer, header, None)

    def _landed_late(self, post: Post) -> None:
        """The mirror does not hold the message in time. The answer of the room's home is enough."""
        answer = self._landing.pop(post)
        self._landed.no_longer(MessageId(answer.id))
        self._answer_by(self._numbered, post, answer, _told(post, answer), None)

    def _answer_by(self, work: Callable[..., Awaitable[None]], post: Post, *about: Any) -> None:
        """Let a task answer the author of a message that its home has."""
        if not self._link.spawn(work, post, *about):
            # Whoever asks again, with the same key, finds the message.
            self._fail(post, Refused("draining"))

    async def _repeated(self, post: Post, answer: t.Posted) -> None:
        """The home had the message before, and so may the mirror."""
        traced = await self._desk.library.trace(MessageId(answer.id))
        header = _told(post, answer) if traced is None else traced.header
        await self._numbered(post, answer, header, header.position)

    async def _numbered(self, post: Post, answer: t.Posted, header: e.Header, replay: Position | None) -> None:
        """Answer with the author's own number of a message that its home answered with the home's. They differ once the
        room was rewound."""
        room, seq = (await mirror_of(self._desk, self.room)).aggregate, Seq(answer.seq)
        if self.agent in room.state.members and room.state.epoch and answer.seq:
            if header.position:
                seq = await self._desk.library.seq_at(room, room.view(self.agent), header.position)
            else:
                shifts = shifts_of(room.state.membership, self.agent)
                seq = Seq(seq + shift_after(shifts, room.newest_seq(self.agent)))
        decision = Decision(replay=replay, answer=_late(answer))
        self._answer(post, Settled(decision, (header,), seq, receipt=_receipt(answer)))

    def _answer(self, post: Post, settled: Settled) -> None:
        submission, post.submission = post.submission, None
        if not settled.queued:
            post.done.set()
        if submission is not None:
            submission.command = said_as(post.command, submission.command)
            submission.settled = settled
            submission.finish()

    def _fail(self, post: Post, error: ParlerError) -> None:
        submission, post.submission = post.submission, None
        # Who asks for the same while this is under way hears the same.
        post.error = error
        post.done.set()
        if submission is not None:
            submission.error = error
            submission.finish()


def said_as(command: c.PostMessage, asked: c.Command) -> c.PostMessage:
    """A request as its author hears of it: under the idempotency key with which the author asked for it."""
    return msgspec.structs.replace(command, idempotency_key=asked.idempotency_key)


def answers_offer(command: c.PostMessage) -> bool:
    """Whether a message answers an offer of the turn, or says something of a task that its author holds: what another
    may do meanwhile."""
    return command.said or command.turn not in ("", "offered")


def _operation(post: Post, *, is_sealed: bool) -> t.PostedBy:
    """The operation that the author of a message was asked for. Of all but what is said of a task, its parts say so,
    or what the home of a sealed room is told of them: nothing of the memory."""
    parts = post.draft.parts
    said = post.command.operation if post.command.said else operation_of(outline(parts) if is_sealed else parts)
    return cast(t.PostedBy, said)


def _late(answer: t.Posted) -> str:
    """What the room's home decided of a message that says something of a task."""
    return "claim_lost" if answer.late else ""


def refused(error: ParlerError) -> Refused:
    """What a relay answered, as a refusal: to whoever asks it is a rule of the room, wherever the room lives."""
    found = Refused(error.code, error.message, hint=error.hint, retry_after_ms=error.retry_after_ms)
    found.details = error.details
    return found


async def mirror_of(desk: Desk, room: RoomId) -> RoomActor[Room]:
    """What keeps the mirror of a room elsewhere."""
    handle = await desk.rooms.get(room)
    assert isinstance(handle, MirrorRoom)
    return handle.actor


def _told(post: Post, posted: t.Posted) -> e.Header:
    """The fact of a message that its home took, before the mirror has it: for the answer to its author alone."""
    command, sent = post.command, post.sent
    event = e.MessagePosted(
        id=MessageId(posted.id),
        kind=command.kind,
        reply_to=command.reply_to,
        chain=root_chain(MessageId(posted.id)),
        counter=0 if sent is None else sent.thread.counter,
        visibility=None if sent is None else sent.visibility,
    )
    return e.Header(
        position=Position(0),
        at=Millis(posted.at),
        by=post.by,
        authority="member",
        event=event,
        operation=command.operation,
        key=command.idempotency_key,
        input=command.input,
    )


def _receipt(answer: t.Posted) -> FactRef | None:
    """What the room's home calls the message in receipts. A message is called by its id, whatever a home says."""
    return FactRef(answer.id, answer.receipt.number or 0) if answer.receipt else None
