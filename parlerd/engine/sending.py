"""Posting a message, and the answer once it is stored.

Not here: what may be said (`core.words`) and posted (the room's rules), how a batch is decided (`actor`). Above:
the engine's face. Below: a room's line. Invariant: the idempotency key travels with every answer and every failure, so
that a retry can be the same request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import (
    DataPart,
    HandoffAnswerPart,
    HandoffPart,
    Part,
    TaskPart,
    TextPart,
    Transcript,
    due_of,
    turn_of,
)
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import is_requester
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId, Seq, Shown, drawn_key
from parlerd.core.public_line import first_line
from parlerd.core.scrub import listed, scrub, scrub_capsule, scrub_value
from parlerd.core.timers import started
from parlerd.core.words import CAPSULE_LISTS, CAPSULE_TEXTS, TASK, check_data, check_text
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.directs import Acquaintance, Directs, addressed, are_in_session, unknown
from parlerd.engine.gating import Gating, is_gated
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.knocks import shows_code
from parlerd.engine.library import Library, Numbered
from parlerd.engine.lookup import room_of
from parlerd.engine.queues import Queues
from parlerd.engine.reading import Reading, handle_of, key_change_of
from parlerd.engine.state_inputs import timer_of
from parlerd.engine.submissions import PLACED, Submission
from parlerd.engine.trail import awaits_receipt, named
from parlerd.operations import types as t

R = TypeVar("R", bound=t.Result)


@dataclass(slots=True, eq=False)
class Posting(Generic[R]):
    """A message in its room's line. `answer` says what its author is answered, from the message and the author's number
    of it, or from None for a message that waits on this machine (`Settled.queued`)."""

    library: Library
    author: AgentId
    actor: RoomHandle
    submission: Submission
    answer: Callable[[Posting[R], e.Header | None, Seq], R]
    removed: str = ""
    """What was taken out of the words before they leave for another home, for their author."""
    posted: Numbered | None = None
    """For a request that was made before: the message that it led to then."""
    error: ParlerError | None = None
    """Why that message could not be looked up."""

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the room's line move, and call `then` (which must not raise) once `outcome` is known."""
        self.submission.when_done(partial(self._settled, then))

    @property
    def replayed(self) -> bool:
        """Whether the message was posted before, by the same request. Known with the outcome."""
        settled = self.submission.settled
        return settled is not None and settled.decision.replay is not None

    def outcome(self) -> R:
        """What its author is answered, once it is known. Raises `ParlerError`."""
        try:
            if self.error is not None:
                raise self.error
            settled = self.submission.outcome()
        except ParlerError as error:
            error.details.setdefault("key", self.submission.command.idempotency_key)
            raise
        if settled.queued:
            return self.answer(self, None, Seq(0))
        header, seq, receipt = self.posted or Numbered(settled.facts[0], settled.seq, settled.receipt)
        answer = self.answer(self, header, seq)
        if receipt is not None and awaits_receipt(answer):
            answer = msgspec.structs.replace(answer, receipt=named(receipt))
        return answer

    async def result(self) -> R:
        """The same, waiting for it."""
        if (placed := PLACED.get()) is not None:
            placed()
        with suppress(ParlerError):
            await self.submission.result()
        if self._earlier is not None:
            known = trio.Event()
            self.when_done(known.set)
            await known.wait()
        return self.outcome()

    @property
    def _earlier(self) -> Position | None:
        """Where the message stands that an earlier use of the idempotency key led to, if it is not at hand."""
        settled = self.submission.settled
        return None if settled is None or settled.facts or settled.queued else settled.decision.replay

    def _settled(self, then: Callable[[], None]) -> None:
        """What became of the command is known; what it was a repetition of may have to be looked up."""
        earlier = self._earlier
        if earlier is None:
            then()
            return
        try:
            view = self.actor.aggregate.view(self.author)
        except ParlerError as error:
            self.error = error
            then()
            return
        self.library.ask_posted(self.actor.room, view, earlier, partial(self._looked_up, then))

    def _looked_up(self, then: Callable[[], None], posted: Numbered | None, error: BaseException | None) -> None:
        self.posted = posted
        if error is not None:
            self.error = error if isinstance(error, ParlerError) else ParlerError("internal")
        elif posted is None:
            self.error = Refused("idempotency_expired")
        then()


class Sending:
    """The handler of `message.send`, and how any message gets into its room's line."""

    def __init__(self, desk: Desk, reading: Reading, queues: Queues, directs: Directs, gating: Gating) -> None:
        self._desk = desk
        self._gating = gating
        self._reading = reading
        self._queues = queues
        self._directs = directs

    @handles("message.send")
    async def send(self, caller: Caller, params: t.Send) -> t.Sent:
        me = await self._desk.me(caller)
        if params.service is not None:
            task = self._for_queue(params)
            now = self._desk.clock.now()
            if _is_past(_parts(task, now)[0], now) and await self._queues.find(me, params.service) is None:
                raise Refused("invalid_timer", "That moment is past.", what="at")
            actor, opened = await self._queues.to_ask(caller, me, params.service)
            sent = await self._send(caller, me, actor, task, params.to)
            return msgspec.structs.replace(sent, opened_queue=opened or msgspec.UNSET)
        if params.room is None and params.to:
            return await self._send_to(caller, me, params)
        actor = await self._writable(me, params.room)
        return await self._send(caller, me, actor, params, params.to)

    async def _send_to(self, caller: Caller, me: AgentRecord, params: t.Send) -> t.Sent:
        """Send to the named in the active session, or directly. The key travels with a failure, as it does of any
        message."""
        try:
            # Before a room is opened for it: a refused message leaves none.
            input_digest(params)
            other = await self._directs.meant(caller, me, params.to)
            if other is not None:
                return await self._send_directly(caller, me, other, params)
            try:
                return await self._send(caller, me, await self._writable(me, None), params, params.to)
            except Refused as error:
                raise unknown(error) if error.code == "no_such_agent" else error from None
        except ParlerError as error:
            drawn = drawn_key(MessageId(self._desk.random.new("m")))
            error.details.setdefault("key", params.idempotency_key or drawn)
            raise

    async def _send_directly(self, caller: Caller, me: AgentRecord, other: Acquaintance, params: t.Send) -> t.Sent:
        _parts(params, self._desk.clock.now())
        if params.visible_to:
            raise Refused("invalid_param", "Nobody but you two sees a direct message.", param="visible_to")
        direct = await self._directs.between(caller, me, other, is_answer=params.reply_to is not None)
        sent = await self._send(caller, me, direct.handle, params, ())
        awaits = other.name if direct.is_awaited else msgspec.UNSET
        code: str | msgspec.UnsetType = msgspec.UNSET
        if direct.is_awaited and shows_code(self._desk, caller):
            code = await self._directs.rooms.code_of(direct.handle) or msgspec.UNSET
        return msgspec.structs.replace(
            sent,
            opened=direct.is_new or msgspec.UNSET,
            awaits=awaits,
            needs_both=direct.needs_both or msgspec.UNSET,
            join_code=code,
        )

    async def _send(
        self, caller: Caller, me: AgentRecord, actor: RoomHandle, params: t.Send, to: tuple[str, ...]
    ) -> t.Sent:
        now = self._desk.clock.now()
        if is_gated(params):
            parts, _ = _words(params)
            clean, _ = _cleaned(parts, leaves=actor.home_name != LOCAL)
            return await self._gating.send(caller, me, actor, params, clean, addressed(actor.aggregate, to))
        parts, size = _parts(params, now)
        reply_to = None
        if params.reply_to is not None:
            reply_to = await self._reading.message_id(actor.aggregate, me.id, params.reply_to)
        command = _command(params, parts, reply_to, addressed(actor.aggregate, to), now)
        return await (await self.post(caller, me, actor, command, parts, size)).result()

    def _for_queue(self, params: t.Send) -> t.Send:
        """What a queue is asked for, as the task that it is. Raises `Refused(invalid_param)` for what is no task."""
        if params.room is not None:
            raise Refused("invalid_param", "A message goes to one room: name a room or a queue.", param="service")
        if params.kind not in ("text", TASK):
            raise Refused("invalid_param", "What is sent to a queue is a task, and has no other kind.", param="kind")
        if params.enabled is not None:
            raise Refused("invalid_param", "What is sent to a queue waits for its workers alone.", param="enabled")
        if params.timer is not None and (params.timer.effect == "enable" or params.timer.ticks is not None):
            said = "The timer of what is sent to a queue runs for ms, or until at, and has the effect delete."
            raise Refused("invalid_timer", said, what="effect" if params.timer.effect == "enable" else "ticks")
        return msgspec.structs.replace(params, kind=TASK)

    def begin_send(self, caller: Caller, params: t.Send) -> Posting[t.Sent] | None:
        """`send`, as far as its place in the room's line: for pipelined clients, which need no task each for that.

        None when it takes more than that: the agent is not leased yet, the room is closed up or named by its name, it
        may be a direct message, or a store has to be asked that is not at hand.
        """
        if params.service is not None or is_gated(params):
            return None
        me = self._desk.seats.known(caller)
        actor = None if me is None else self._open_room(me, params.room)
        if me is None or actor is None:
            return None
        if params.room is None and not are_in_session(actor.aggregate, me.id, params.to):
            return None
        now = self._desk.clock.now()
        parts, size = _parts(params, now)
        reply_to = None
        if params.reply_to is not None:
            reply_to = self._reading.message_id_now(actor.aggregate, me.id, params.reply_to)
            if reply_to is None:
                return None
        seen = self._reading.seen_now(actor.room, me.id)
        if seen is None:
            return None
        command = self._keyed(_command(params, parts, reply_to, addressed(actor.aggregate, params.to), now), actor)
        with _told_key(command):
            if not self._desk.quotas.take_now(me.id, bytes=size):
                return None
        return self._place(caller, me, actor, command, parts, seen)

    async def post(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomHandle,
        command: c.PostMessage,
        parts: tuple[Part, ...],
        size: int,
    ) -> Posting[t.Sent]:
        """Put a message of so many bytes in the room's line."""
        seen = await self._reading.seen(actor.room, me.id)
        command = self._keyed(command, actor)
        with _told_key(command):
            await self._desk.quotas.take(me.id, bytes=size)
        # Looked up again: while the store was asked, a room that nobody used may have been closed up.
        actor = await self._desk.rooms.get(actor.room)
        return self._place(caller, me, actor, command, parts, seen)

    def _keyed(self, command: c.PostMessage, actor: RoomHandle) -> c.PostMessage:
        """The message's id is drawn here, where the request is made, so that it is known before the room has the
        message. The key is its author's, or else one that follows from the id."""
        id = MessageId(self._desk.random.new("m"))
        command = msgspec.structs.replace(command, id=id, presence=self._desk.watching.of(actor.room))
        if command.idempotency_key is None:
            command = msgspec.structs.replace(command, idempotency_key=drawn_key(id), fresh=True)
        return command

    def _place(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomHandle,
        command: c.PostMessage,
        parts: tuple[Part, ...],
        seen: Shown,
    ) -> Posting[t.Sent]:
        parts, removed = _cleaned(parts, leaves=actor.home_name != LOCAL)
        state = actor.aggregate.state
        if (member := state.members.get(me.id)) is not None and is_requester(member):
            # It was shown nothing that is public, wherever its cursor stands.
            seen = Shown(0, first_line(state.room, state.home))
        with _told_key(command):
            submission = actor.place(command, self._desk.by(caller, me), Draft(parts, seen))
        return Posting(self._desk.library, me.id, actor, submission, _sent, removed=listed(removed))

    async def _writable(self, me: AgentRecord, wanted: str | None) -> RoomHandle:
        """The room to write to. Unlike a read it does not wait for the batch in flight: the room's line orders
        writes."""
        actor = self._open_room(me, wanted)
        if actor is None:
            actor, _ = await room_of(self._desk, me, wanted)
        return actor

    def _open_room(self, me: AgentRecord, wanted: str | None) -> RoomHandle | None:
        """The room a member means by an id or by nothing, if it is open now."""
        if wanted is None:
            wanted = self._desk.rooms.home.aggregate.state.active.get(me.id)
        actor = None if wanted is None else self._desk.rooms.open_actor(RoomId(wanted))
        if actor is None:
            return None
        member = actor.aggregate.state.members.get(me.id)
        return actor if member is not None and member.present else None


@contextmanager
def _told_key(command: c.PostMessage) -> Iterator[None]:
    """Let the key travel with a failure too, so that a retry can be the same request."""
    try:
        yield
    except ParlerError as error:
        error.details.setdefault("key", command.idempotency_key)
        raise


def _sent(posting: Posting[t.Sent], header: e.Header | None, seq: Seq) -> t.Sent:
    """What `message.send` answers. Of a message that waits on this machine nobody knows the number yet."""
    command = posting.submission.command
    assert isinstance(command, c.PostMessage)
    said: e.MessagePosted | c.PostMessage = command
    if header is not None:
        assert isinstance(header.event, e.MessagePosted)
        said = header.event
    return t.Sent(
        room=posting.actor.room,
        id=said.id or "",
        seq=None if header is None else seq or None,
        at=None if header is None else header.at,
        replayed=posting.replayed,
        idempotency_key=command.idempotency_key or "",
        name=posting.actor.aggregate.state.name,
        readers=None if said.visibility is None else _others(posting, said.visibility),
        queued=header is None,
        warning=_warning(posting, command),
    )


def _warning(posting: Posting[t.Sent], command: c.PostMessage) -> str | msgspec.UnsetType:
    """What was taken out of the words, for their author: what leaves here is told so in a room elsewhere. And who of a
    sealed room cannot read it yet, or could who is out."""
    when = "before it left this machine" if posting.actor.home_name != LOCAL else "of the hand-off"
    taken_out = f"Taken out {when}: {posting.removed}" if posting.removed else ""
    return " ".join(filter(None, (taken_out, key_change_of(posting.actor.aggregate)))) or msgspec.UNSET


def _cleaned(parts: tuple[Part, ...], *, leaves: bool) -> tuple[tuple[Part, ...], dict[str, int]]:
    """The words without what is recognised as secret, and what was taken out: of every message that `leaves` this
    machine, and of a hand-off in any room. The same words give the same, so that a retry is the same request."""
    found: Counter[str] = Counter()

    def text(words: str) -> str:
        clean, removed = scrub(words)
        found.update(removed)
        return clean

    def capsule(words: str) -> str:
        clean, removed = scrub_capsule(words)
        found.update(removed)
        return clean

    def quotation(said: Transcript) -> Transcript:
        quoted = tuple(msgspec.structs.replace(each, text=capsule(each.text)) for each in said.quoted)
        return msgspec.structs.replace(said, quoted=quoted)

    def clean(part: Part) -> Part:
        match part:
            case HandoffPart():
                return msgspec.structs.replace(
                    part,
                    **{name: capsule(getattr(part, name)) for name in CAPSULE_TEXTS},
                    **{name: tuple(map(capsule, getattr(part, name))) for name in CAPSULE_LISTS},
                    transcript=None if part.transcript is None else quotation(part.transcript),
                )
            case HandoffAnswerPart():
                return msgspec.structs.replace(part, reason=capsule(part.reason))
            case TextPart() if leaves:
                return TextPart(text(part.text))
            case DataPart() if leaves:
                data, removed = scrub_value(part.data)
                found.update(removed)
                return DataPart(data)
            case _:
                return part

    return tuple(map(clean, parts)), dict(found)


def _others(posting: Posting[t.Sent], readers: Iterable[str]) -> list[str]:
    """The handles of a message's readers beside its author."""
    state = posting.actor.aggregate.state
    handles = [handle_of(state, AgentId(who)) for who in readers]
    return [handle for handle in handles if handle != handle_of(state, posting.author)]


def _words(params: t.Send) -> tuple[tuple[Part, ...], int]:
    """What a message says, and its size in bytes. Raises `Refused` for what cannot be said."""
    size = check_text(params.text, "text")
    if not params.text and params.data is None:
        raise Refused("invalid_param", "The text is empty.", param="text")
    parts: tuple[Part, ...] = (TextPart(params.text),)
    if params.data is not None:
        size += check_data(params.data)
        parts = (*parts, DataPart(params.data))
    return parts, size


def _parts(params: t.Send, now: Millis) -> tuple[tuple[Part, ...], int]:
    """The same, with until when a task may be claimed."""
    parts, size = _words(params)
    if params.timer is not None:
        parts = (*parts, _open_for(params.timer, now))
    return parts, size


def _open_for(asked: t.TimerAsked, now: Millis) -> TaskPart:
    """For how long a task is open. Raises `Refused(invalid_timer)`."""
    timer = started(timer_of(asked), now)
    # Of a moment that is past the room says so, which knows whether the task was posted before.
    return TaskPart(timer.span) if timer.span else TaskPart(at=timer.due)


def _is_past(parts: tuple[Part, ...], now: Millis) -> bool:
    """Whether the moment is past until which a task was to be open. Such a request can only be a repeat."""
    return 0 < due_of(parts) <= now


def _command(
    params: t.Send, parts: tuple[Part, ...], reply_to: MessageId | None, to: tuple[str, ...], now: Millis
) -> c.PostMessage:
    _, ttl_ms = turn_of(parts)
    return c.PostMessage(
        operation="message.send",
        idempotency_key=params.idempotency_key,
        input=input_digest(params),
        kind=params.kind,
        to=to,
        visibility=params.visible_to or None,
        reply_to=reply_to,
        ttl_ms=ttl_ms,
        due=due_of(parts),
        is_past=_is_past(parts, now),
    )
