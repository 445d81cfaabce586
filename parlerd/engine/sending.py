"""Posting a message, and the answer once it is stored.

Not here: what may be posted (`inputs` for its shape, the room for its rules), how a batch is decided (`actor`). Above:
the engine's face. Below: a room's line. Invariant: the idempotency key travels with every answer and every failure, so
that a retry can be the same request.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import DataPart, Part, TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import MessageId, RoomId, drawn_key
from parlerd.core.room import Room
from parlerd.core.words import check_data, check_text
from parlerd.engine.actor import RoomActor
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import room_of
from parlerd.engine.reading import Reading, handle_of
from parlerd.engine.submissions import Settled, Submission
from parlerd.operations import types as t


@dataclass(frozen=True, slots=True)
class Posting:
    """A message in its room's line."""

    sending: Sending
    me: AgentRecord
    actor: RoomActor[Room]
    submission: Submission

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the room's line move, and call `then` (which must not raise) once `outcome` is known."""
        self.submission.when_done(then)

    def outcome(self) -> t.Sent:
        """As `message.send` answers, once it is known. Raises `ParlerError`."""
        return self.sending.sent(self)

    async def result(self) -> t.Sent:
        """The same, waiting for it."""
        with suppress(ParlerError):
            await self.submission.result()
        return self.outcome()


class Sending:
    """The handler of `message.send`, and how any message gets into its room's line."""

    def __init__(self, desk: Desk, reading: Reading) -> None:
        self._desk = desk
        self._reading = reading

    async def send(self, caller: Caller, params: t.Send) -> t.Sent:
        me = await self._desk.me(caller)
        actor = await self._writable(me, params.room)
        return await self._post_text(caller, me, actor, params).result()

    def begin_send(self, caller: Caller, params: t.Send) -> Posting | None:
        """`send`, as far as its place in the room's line: for pipelined clients, which need no task each for that.

        None when it takes more than that (the agent is not leased yet, the room is closed up or named by its name).
        """
        me = self._desk.seats.known(caller)
        actor = None if me is None else self._open_room(me, params.room)
        if me is None or actor is None:
            return None
        return self._post_text(caller, me, actor, params)

    def _post_text(self, caller: Caller, me: AgentRecord, actor: RoomActor[Room], params: t.Send) -> Posting:
        size = check_text(params.text, "text")
        if not params.text and params.data is None:
            raise Refused("invalid_param", "The text is empty.", param="text")
        parts: list[Part] = [TextPart(params.text)]
        if params.data is not None:
            size += check_data(params.data)
            parts.append(DataPart(params.data))
        command = c.PostMessage(
            operation="message.send",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=params.kind,
            to=params.to,
            visibility=params.visible_to or None,
            reply_to=None
            if params.reply_to is None
            else self._reading.message_id(actor.aggregate, me.id, params.reply_to),
        )
        return self.post(caller, me, actor, command, tuple(parts), size)

    def post(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomActor[Room],
        command: c.PostMessage,
        parts: tuple[Part, ...],
        size: int,
    ) -> Posting:
        """Put a message of so many bytes in the room's line. The key travels with a failure too, so that a retry can be
        the same request: its author's, or else one that is drawn here."""
        if command.idempotency_key is None:
            id = MessageId(self._desk.random.new("m"))
            command = msgspec.structs.replace(command, id=id, idempotency_key=drawn_key(id), fresh=True)
        try:
            self._desk.quotas.take(me.id, bytes=size)
            draft = Draft(parts=parts, seen=self._reading.seen(actor.room, me.id))
            submission = actor.place(command, self._desk.by(caller, me), draft)
        except ParlerError as error:
            error.details.setdefault("key", command.idempotency_key)
            raise
        return Posting(self, me, actor, submission)

    def sent(self, posting: Posting) -> t.Sent:
        """What became of a message that was in line."""
        actor, command = posting.actor, posting.submission.command
        try:
            settled = posting.submission.outcome()
            header = self._committed(actor, settled)
        except ParlerError as error:
            error.details.setdefault("key", command.idempotency_key)
            raise
        event = header.event
        assert isinstance(event, e.MessagePosted)
        seq = settled.seq
        if not seq:
            seq = self._reading.seq_at(actor.aggregate, actor.aggregate.view(posting.me.id), header.position)
        return t.Sent(
            room=actor.room,
            id=event.id,
            seq=seq,
            at=header.at,
            replayed=settled.decision.replay is not None,
            idempotency_key=command.idempotency_key or "",
            name=actor.aggregate.state.name,
            readers=None
            if event.visibility is None
            else [handle_of(actor.aggregate.state, who) for who in event.visibility if who != posting.me.id],
        )

    async def _writable(self, me: AgentRecord, wanted: str | None) -> RoomActor[Room]:
        """The room to write to. Unlike a read it does not wait for the batch in flight: the room's task orders
        writes."""
        actor = self._open_room(me, wanted)
        if actor is None:
            actor, _ = await room_of(self._desk, me, wanted)
        return actor

    def _open_room(self, me: AgentRecord, wanted: str | None) -> RoomActor[Room] | None:
        """The room a member means by an id or by nothing, if it is open now."""
        if wanted is None:
            wanted = self._desk.rooms.home.aggregate.state.active.get(me.id)
        actor = None if wanted is None else self._desk.rooms.open_actor(RoomId(wanted))
        if actor is None:
            return None
        member = actor.aggregate.state.members.get(me.id)
        return actor if member is not None and member.present else None

    def _committed(self, actor: RoomActor[Room], settled: Settled) -> e.Header:
        """The fact a request led to: the new one, or on a replay the one that was committed then."""
        if settled.facts:
            return settled.facts[0]
        assert settled.decision.replay is not None
        header = self._desk.driver.store.message(actor.room, settled.decision.replay)
        if header is None:
            raise Refused("idempotency_expired")
        return header
