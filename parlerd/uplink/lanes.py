"""The messages of one agent for one room elsewhere: in order, several under way at a time, each once.

    offered --> sent straight ------------> answered: in the room
       |            | no answer in time, or the link broke
       `----------> kept in the outbox ---> sent again, in order -> answered: in the room, or refused for good

An envelope is composed when it is sent, on the end of its thread: the one that was sent before it, or the newest that
the room's home acknowledged. When the home refuses one, those behind it in its thread name an envelope that is in no
room, and the home refuses them too; they are composed again, in their order.

Not here: how an envelope is made (`composing`), rows (`outbox`). Above: `remote_room` offers, `link` says when there is
a connection. Invariants: within an author's thread the order of the messages in the room is the order in which they
were offered; a message that was answered `queued` is in the outbox; nothing is sent straight while something of this
agent waits in the outbox for this room.
"""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final, Protocol

import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.decision import Decision
from parlerd.core.envelope import Envelope, root_chain
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.messages import Thread, audience_key
from parlerd.core.model import AgentId, By, HomeId, MessageId, Millis, Position, RoomId, Seq
from parlerd.core.room import Room
from parlerd.core.words import check_body
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Draft
from parlerd.engine.desk import Desk
from parlerd.engine.handles import MirrorRoom, taken_out
from parlerd.engine.submissions import Settled, Submission
from parlerd.identity.signatures import verify
from parlerd.operations import types as t
from parlerd.uplink.composing import Composed, Composer
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

    async def landed(self, message: MessageId, seconds: float) -> e.Header | None:
        """The message as the mirror has it, once it has; None when it does not have it in time."""
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

    def spawn(self, work: Callable[..., Any], *args: Any) -> None:
        """Run a task until the daemon ends."""
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
    late_at: float = inf
    """When it is kept if no answer came, on the loop's clock; `inf` for one that was kept or looked at already."""
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
        return self.sent is not None and not self.is_answered

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
        self._wake = trio.Event()
        """Wakes the lane's task: something was offered or answered, or the link went."""
        self._turn = trio.Lock()
        """Held by whoever sends or takes out messages."""
        self._is_running = False
        self._is_watching = False
        """Whether a task looks for messages that are not answered in time."""
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

    async def offer(self, post: Post) -> None:
        """Take a message in: it is sent straight when nothing of this agent waits, and else kept. Called in the order
        in which messages were asked for, one after the other. Raises `Refused(outbox_full)` and `StoreError`."""
        async with self._turn:
            calls = self._link.calls
            straight = calls is not None and not any(each.is_kept for each in self._posts)
            if not straight:
                await self._keep(post)
            self._posts.append(post)
            if straight:
                post.late_at = trio.current_time() + ANSWER_S
                if not self._is_watching:
                    self._is_watching = True
                    self._link.spawn(self._watch)
            if calls is not None and straight and self._may_send:
                # At once, so that what several agents of this home say stands in the room in the order of asking.
                await self._send(calls, post)
        self.go_on()

    @property
    def _may_send(self) -> bool:
        """Whether the newest message may be sent: nothing before it still has to be."""
        *before, _ = self._posts
        is_first = all(each.is_under_way for each in before)
        return is_first and not self._is_held and self._not_before <= trio.current_time() and len(before) < WINDOW

    async def _keep(self, post: Post) -> None:
        """Keep a message in the outbox, and tell whoever waits that it is queued."""
        if self._link.is_removed:
            # It would leave when the relay is added again.
            raise taken_out(self._link.name)
        now = self._desk.clock.now()
        await self._outbox.put(row_of(self._link.home, self.room, post.command, post.by, post.draft, now))
        post.is_kept = True
        self._answer(post, Settled(Decision(), queued=True))

    async def _watch(self) -> None:
        """Keep what is late, until nothing is under way that is not kept. One task does this for all messages."""
        try:
            while watched := [post for post in self._posts if not post.is_kept and post.late_at < inf]:
                await trio.sleep_until(min(post.late_at for post in watched))
                for post in watched:
                    if post.late_at <= trio.current_time():
                        post.late_at = inf
                        await self._keep_unanswered(post)
        finally:
            self._is_watching = False

    async def _keep_unanswered(self, post: Post) -> None:
        """A message that was sent straight and is not answered in time waits in the outbox, and its author no longer
        waits for it."""
        if post.done.is_set() or post.is_taken or post.is_kept:
            return
        try:
            await self._keep(post)
        except ParlerError as error:
            # It cannot be kept, so its author goes on waiting for the answer, or hears that the link broke.
            log.warning("a message for %s could not be kept: %s", self.room, error.code)
        else:
            if post.done.is_set() or post.is_taken:
                # It was answered while it was being kept.
                await self._outbox.drop(post.id)

    # -- sending -------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """There may be something to do."""
        self._wake.set()
        if not self._is_running and self._posts and self._link.calls is not None:
            self._is_running = True
            self._link.spawn(self._run)

    async def _run(self) -> None:
        try:
            while self._posts and self._link.calls is not None:
                self._wake = trio.Event()
                try:
                    async with self._turn:
                        await self._step()
                except ParlerError as error:
                    log.warning("messages for %s wait: %s", self.room, error.code)
                    self._pause(error)
                with trio.move_on_at(self._not_before if self._not_before > trio.current_time() else inf):
                    await self._wake.wait()
        except Exception:
            # A mistake of ours: whoever waits hears so, and what is kept is sent when something is offered next.
            for post in [post for post in self._posts if not post.is_kept]:
                self._remove(post)
                self._fail(post, ParlerError("internal"))
            raise
        finally:
            self._is_running = False
        if self._posts:
            await self._link_went()
        else:
            # At once: a message that is offered while this waits for its turn is under way on a link that is there.
            self._begin_anew()

    async def _link_went(self) -> None:
        """Nothing is under way any more. What was sent straight and has no answer waits in the outbox from now on."""
        async with self._turn:
            self._begin_anew()
            for post in list(self._posts):
                post.again()
                if not post.is_kept:
                    try:
                        await self._keep(post)
                    except ParlerError as error:
                        self._remove(post)
                        self._fail(post, error)
        self.go_on()

    def _begin_anew(self) -> None:
        """Nothing is under way: the next envelope follows the newest that was acknowledged."""
        self._ends, self._is_held = dict(self._acknowledged), False

    async def _step(self) -> None:
        """Deal with what was answered, and send what may be sent."""
        for post in list(self._posts):
            if post.is_answered and await self._dealt_with(post):
                self._remove(post)
        if self._is_held and self._under_way:
            return
        if self._is_held:
            self._begin_anew()
        if self._not_before > trio.current_time():
            return
        for post in list(self._posts):
            calls = self._link.calls
            if calls is None or self._under_way >= WINDOW:
                return
            if post.sent is None and not post.is_answered:
                await self._send(calls, post)
            if post.error is not None:
                # It was refused here. What comes after it waits until that was dealt with.
                self._wake.set()
                return

    @property
    def _under_way(self) -> int:
        return sum(1 for post in self._posts if post.is_under_way)

    def _remove(self, post: Post) -> None:
        with suppress(ValueError):
            self._posts.remove(post)

    async def _send(self, calls: Calls, post: Post) -> None:
        try:
            actor = await mirror_of(self._desk, self.room)
            if self._epoch != (epoch := actor.aggregate.state.epoch):
                self._epoch = epoch
                self._ends.clear()
                self._acknowledged.clear()
            composed = await self._composer.compose(actor, post.command, post.by, post.draft, self._ends)
            if not isinstance(composed, Composed):
                # It was made before: the mirror has it already.
                post.is_taken = True
                self._remove(post)
                await self._outbox.drop(post.id)
                self._link.spawn(self._accepted, post, await self._known(actor, composed.replay or Position(0)))
                return
            pending = calls.begin(
                "link.post",
                t.PostEnvelope(
                    room=self.room,
                    agent=self.agent,
                    id=composed.id,
                    body=composed.body,
                    signature=composed.signature,
                    operation="handoff.give" if post.command.operation == "handoff.give" else "message.send",
                ),
            )
        except ParlerError as error:
            post.error = error
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
        if post.sent is composed:
            post.answer, post.error = answer, None if error is None else refused(error)
        self._wake.set()

    # -- answers -------------------------------------------------------------------------------------------

    async def _dealt_with(self, post: Post) -> bool:
        """Whether this answer ends the message's way. Otherwise it is sent again."""
        error, sent = post.error, post.sent
        if post.answer is not None:
            post.is_taken = True
            if sent is not None and not post.answer.replayed:
                self._acknowledged[sent.audience] = sent.thread
            await self._outbox.drop(post.id)
            self._link.spawn(self._accepted, post, post.answer)
            return True
        assert error is not None
        if self._link.calls is None:
            return False
        if error.code == "envelope_refused" and error.details.get("what") in COMPOSE_AGAIN and post.tries < TRIES:
            # Those behind the first that was refused are refused because of it.
            post.tries += post is self._posts[0]
            if post.tries > 1:
                await self._find_ends()
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
        if post.is_kept:
            await self._outbox.refuse(post.id, error.code)
            self._link.tell_refused(self.room, self.agent)
        self._fail(post, error)
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

    async def _find_ends(self) -> None:
        """The home knows a newer message of this agent than this home does. Only the agent itself can have sent it, so
        its signature is worth as much as the memory that was lost."""
        calls = self._link.calls
        if calls is None:
            return
        page = await calls.begin("link.pull", t.PullHistory(room=self.room, agent=self.agent, limit=100)).result()
        for message in page.messages:
            envelope = None if message.agent != self.agent else own_envelope(self.agent, self.room, message)
            if envelope is None:
                continue
            audience = audience_key(envelope.visibility)
            known = self._acknowledged.get(audience, Thread())
            if envelope.counter > known.counter:
                self._acknowledged[audience] = Thread(envelope.counter, hashlib.sha256(message.body).digest())

    def _pause(self, error: ParlerError) -> None:
        wait = PAUSE_S if error.retry_after_ms is None else error.retry_after_ms / 1000
        self._not_before = trio.current_time() + wait

    async def _accepted(self, post: Post, posted: t.Posted) -> None:
        """Tell whoever waits, once the mirror holds the message."""
        if post.submission is None:
            post.done.set()
            return
        header = await self._landed.landed(MessageId(posted.id), LAND_S) or _told(post, posted, post.sent)
        replay = header.position if posted.replayed else None
        self._answer(post, Settled(Decision(replay=replay), (header,), await self._number_here(posted, header)))

    async def _number_here(self, posted: t.Posted, header: e.Header) -> Seq:
        """The author's own number of a message that its home answered with the home's. They differ once the room was
        rewound."""
        room = (await mirror_of(self._desk, self.room)).aggregate
        member = room.state.members.get(self.agent)
        if member is None or not member.shifts:
            return Seq(posted.seq)
        if not header.position:
            return Seq(posted.seq + member.shifts[-1][1])
        return await self._desk.library.seq_at(room, room.view(self.agent), header.position)

    def _answer(self, post: Post, settled: Settled) -> None:
        submission, post.submission = post.submission, None
        if not settled.queued:
            post.done.set()
        if submission is not None:
            submission.command = post.command
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


def own_envelope(agent: AgentId, room: RoomId, message: t.LinkMessage) -> Envelope | None:
    """The envelope of a message that another home says to be this agent's, if the agent signed it for this room."""
    try:
        envelope = check_body(message.body)
    except Refused:
        return None
    is_signed = envelope.room == room and verify(agent, "parler/message", message.body, message.signature)
    return envelope if is_signed else None


def _told(post: Post, posted: t.Posted, sent: Composed | None) -> e.Header:
    """The fact of a message that its home took, before the mirror has it: for the answer to its author alone."""
    command = post.command
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
