"""Messages that wait for a condition or a timer, or go with a timer: posting and taking them back.

    message.send --> signed here by its author --> the room's line --> message_gated
                                             `--> another home: `link.gate` --> its room's line

An author signs such a message once, and has no say in when it is shown. So it is decided where the room lives, at once
or not at all: it never waits for a link. In a sealed room its words are encrypted when it is written, under the epoch
that is in force then; the condition and the timer are not, because the room's home goes by them.

Not here: who is shown it when (`core.gated`). Above: `sending`, the engine. Below: a room's line. Invariant: what a
home takes in its author signed, with the condition and the timer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.envelope import (
    SEALED,
    SIGNED,
    Envelope,
    GatePart,
    GateTimer,
    Part,
    decode_envelope,
    encode_envelope,
    root_chain,
)
from parlerd.core.errors import Refused
from parlerd.core.expressions import Expression
from parlerd.core.gated import encode_signed
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import answered, is_requester, present, resolve, view_of, with_keys
from parlerd.core.model import AgentId, By, MessageId, Millis, ReplyTarget, RoomId, Seq, Shown, drawn_key
from parlerd.core.refusals import refusal
from parlerd.core.room import Room
from parlerd.core.sealing import check_gate
from parlerd.core.timers import TimerSpec, started
from parlerd.core.visibility import audience, can_see
from parlerd.core.words import MAX_BYTES, TASK, UNGATED, author_door
from parlerd.engine import entries_shown as shown
from parlerd.engine.authors import LocalAuthor, request_digest
from parlerd.engine.callers import Caller
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.deciding import reply_target
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.reachable import require_member, require_speaker, room_within
from parlerd.engine.reading import Reading, handle_of
from parlerd.engine.sight import Sight
from parlerd.engine.state_inputs import require_readable, timer_of
from parlerd.engine.submissions import Settled
from parlerd.identity.signatures import verify
from parlerd.operations import types as t

TRIES: Final = 3
"""How often a message is sealed for a room whose epochs begin meanwhile."""


def is_gated(params: t.Send) -> bool:
    """Whether a message is asked for that does not simply stay where it is posted. A task that may be claimed for some
    time is a message like any other."""
    timer = params.timer
    is_open_for = params.kind == TASK and timer is not None and timer.effect == "delete" and timer.ticks is None
    return params.enabled is not None or (timer is not None and not is_open_for)


class Gating:
    """Posts gated messages, for agents here and for those of other homes, and takes them back."""

    def __init__(self, desk: Desk, author: LocalAuthor, sight: Sight, reading: Reading) -> None:
        self._desk = desk
        self._author = author
        self._sight = sight
        self._reading = reading
        self.answers: Final[Mapping[str, Answer]] = {
            "message.gated": self._about,
            "message.withdraw": self._withdraw,
        }

    # -- for agents of this home ---------------------------------------------------------------------------

    async def send(
        self,
        caller: Caller,
        me: AgentRecord,
        actor: RoomHandle,
        params: t.Send,
        parts: tuple[Part, ...],
        to: tuple[str, ...],
    ) -> t.Sent:
        """Post a message that is asked for in this form, with these words. Raises `Refused`."""
        if params.kind in UNGATED:
            said = "A message of this kind does something at once, so it waits for nothing."
            raise Refused("invalid_param", said, param="kind")
        now = self._desk.clock.now()
        enabled = None if params.enabled is None else self._sight.parse(params.enabled, "message")
        timer = None if params.timer is None else timer_of(params.timer)
        if timer is not None:
            started(timer, now)
        room = await actor.quiet()
        require_readable(room, me.id, enabled)
        id, key = MessageId(self._desk.random.new("m")), params.idempotency_key
        if key is not None:
            # Whoever asks again, also after the answer was lost, is told the same id.
            id = _id_of(actor.room, me.id, actor.told_key(key))
        key = key or drawn_key(id)
        seen = await self._reading.seen(actor.room, me.id)
        by = self._desk.by(caller, me)
        gate = GatePart(params.enabled or "", _told(timer))

        async def posted(room: Room) -> tuple[Settled, Envelope]:
            told = actor.told_key(key)
            composed = await self._envelope(room, by, params, (*parts, gate), to, id, told, seen, now)
            envelope = await actor.told(composed, me.id)
            body = encode_envelope(envelope)
            signature = self._author.gate(me.id, body)
            await self._desk.quotas.take(me.id, bytes=len(body))
            command = self._command(actor, envelope, enabled, body, signature)
            return await actor.submit(command, by), envelope

        try:
            settled, envelope = await self._posted(actor, room, posted)
        except Refused as error:
            error.details.setdefault("key", key)
            raise
        header = await self._gated_by(actor, settled)
        if not isinstance(header.event, e.MessageGated):
            raise Refused("idempotency_conflict", key=key)
        readers, seq = envelope.visibility, await self._seq(actor, me.id, id)
        return t.Sent(
            room=actor.room,
            id=id,
            seq=seq,
            at=header.at,
            replayed=settled.decision.replay is not None,
            idempotency_key=key,
            name=room.state.name,
            readers=None if readers is None else [handle_of(room.state, who) for who in readers if who != me.id],
            gated=seq is None,
        )

    async def _posted(
        self, actor: RoomHandle, room: Room, posted: Callable[[Room], Awaitable[tuple[Settled, Envelope]]]
    ) -> tuple[Settled, Envelope]:
        """What `posted` gives; where an epoch of a sealed room began meanwhile, it seals the message again."""
        for _ in range(TRIES - 1):
            try:
                return await posted(room)
            except Refused as error:
                if error.code != "stale_epoch" or error.details.get("what") == "rewound":
                    raise
            room = await actor.quiet()
        return await posted(room)

    async def _envelope(
        self,
        room: Room,
        by: By,
        params: t.Send,
        parts: tuple[Part, ...],
        to: tuple[str, ...],
        id: MessageId,
        key: str,
        seen: Shown,
        now: Millis,
    ) -> Envelope:
        members = room.state.members
        replied = None if params.reply_to is None else await self._replied(room, by.actor, params.reply_to)
        named = tuple(resolve(members, who) for who in params.visible_to) or None
        if named is None and replied is not None:
            named = answered(members, replied)
        readers = audience(by.actor, named, None if replied is None else replied.visibility)
        if room.state.is_sealed and readers is not None:
            readers = with_keys(members, room.state.epochs.roster, named or (), readers)
        return Envelope(
            v=SIGNED,
            id=id,
            room=room.state.room,
            key=key,
            kind=params.kind,
            chain=root_chain(id) if replied is None else replied.chain,
            hops=0 if replied is None else replied.hops + 1,
            authored_at=now,
            counter=0,
            previous=b"",
            shown=seen.number,
            line=seen.line,
            nonce=self._desk.random.bytes(16),
            host=by.host,
            via=by.via,
            parts=parts,
            to=tuple(dict.fromkeys(resolve(members, who) for who in to)),
            visibility=readers,
            reply_to=None if replied is None else replied.id,
        )

    async def _replied(self, room: Room, author: AgentId, named: str) -> ReplyTarget:
        id = await self._reading.message_id(room, author, named)
        traced = await self._desk.library.trace(id)
        target = None if traced is None or traced.room != room.state.room else reply_target(traced.header)
        view = view_of(present(room.state.members, author))
        if target is None or not can_see(view, position=target.position, visibility=target.visibility):
            raise Refused("no_such_message", id=id)
        return target

    async def _seq(self, actor: RoomHandle, reader: AgentId, id: MessageId) -> Seq | None:
        """The author's own number of a message that was shown at once."""
        traced = await self._desk.library.trace(id)
        if traced is None or traced.room != actor.room:
            return None
        room = await actor.quiet()
        return await self._desk.library.seq_at(room, room.view(reader), traced.header.position)

    def _command(
        self, actor: RoomHandle, envelope: Envelope, enabled: Expression | None, body: bytes, signature: bytes
    ) -> c.GateMessage:
        gate = check_gate(envelope)
        return c.GateMessage(
            operation="message.send",
            idempotency_key=envelope.key,
            input=request_digest(envelope),
            envelope=envelope,
            enabled=enabled,
            timer=_asked(gate.timer),
            signed=encode_signed(body, signature),
            presence=self._desk.watching.of(actor.room),
        )

    # -- for agents of other homes -------------------------------------------------------------------------

    @handles("link.gate")
    async def gate(self, caller: Caller, params: t.GateAtRoom) -> t.GatedAtRoom:
        desk, principal = self._desk, caller.facts.authority.principal
        agent = require_speaker(desk, caller, params.agent)
        actor = await room_within(desk, caller, params.room)
        room = await actor.quiet()
        require_member(room, agent, principal)
        if is_requester(present(room.state.members, agent)):
            raise Refused("not_a_worker")
        size = len(params.body)
        if desk.kept.is_over(principal, size):
            raise desk.kept.refusal()
        await desk.quotas.take(agent, bytes=size, person=principal)
        envelope = _signed_by(agent, params.body, params.signature)
        source = check_gate(envelope).enabled
        enabled = self._sight.parse(source, "message") if source else None
        require_readable(room, agent, enabled)
        command = self._command(actor, envelope, enabled, params.body, params.signature)
        # At the host and through the door that the author signed, as any message; of a sealed one members read both.
        door = "link" if envelope.v == SEALED else author_door(envelope.via)
        by = By(agent, principal, caller.facts.session, envelope.host, door)
        settled = await actor.submit(command, by)
        header = await self._gated_by(actor, settled)
        if not isinstance(header.event, e.MessageGated):
            raise Refused("idempotency_conflict", key=envelope.key)
        replayed = settled.decision.replay is not None
        if not replayed:
            desk.kept.add(principal, size)
        seq = await self._seq(actor, agent, header.event.id)
        return t.GatedAtRoom(at=header.at, replayed=replayed, seq=seq or 0)

    async def _gated_by(self, actor: RoomHandle, settled: Settled) -> e.Header:
        """The first fact of a request, now or when the same was asked before."""
        facts = settled.facts or await self._desk.library.facts_of(actor.room, settled, 1)
        return facts[0]

    # -- what waits ----------------------------------------------------------------------------------------

    async def about(self, by: By, caller: Caller, handle: RoomHandle, id: MessageId) -> t.GatedEntry | None:
        """What a message of this author waits for, wherever its room lives; None for one that waits for nothing, and
        where the room's home does not answer."""
        request = Request("message.gated", t.AboutGated(id=id), by, caller)
        try:
            answer = await handle.ask(request.question, partial(self._asked_about, request))
        except Refused:
            return None
        assert isinstance(answer, t.GatedIs)
        return answer.gated

    async def _asked_about(self, request: Request, handle: RoomHandle) -> t.Result:
        assert isinstance(request.params, t.AboutGated)
        return await self._about(handle, request, request.params)

    async def _about(self, handle: RoomHandle, request: Request, params: t.AboutGated) -> t.GatedIs:
        room, _ = await self._sight.of(handle, request.by.actor)
        entry = room.gated.entry(params.id)
        if entry is None or entry.gate is None or entry.by != request.by.actor:
            raise refusal("no_such_gated", {"id": params.id})
        shown_to = [handle_of(room.state, agent) for agent in entry.gate.readers if agent != entry.by]
        told = t.GatedEntry(
            enabled=msgspec.UNSET if entry.enabled is None else entry.enabled.source,
            timer=msgspec.UNSET if entry.timer is None else shown.timer(entry.timer, entry.ticks),
            shown_to=None if entry.gate.is_public else shown_to,
        )
        return t.GatedIs(id=params.id, gated=told, room=handle.room)

    # -- taking back ---------------------------------------------------------------------------------------

    async def _withdraw(self, handle: RoomHandle, request: Request, params: t.WithdrawMessage) -> t.Withdrawn:
        command = c.WithdrawMessage(
            operation=request.name,
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            id=MessageId(params.id),
        )
        settled = await handle.submit(command, request.by)
        return t.Withdrawn(
            id=params.id,
            replayed=settled.decision.replay is not None,
            idempotency_key=params.idempotency_key or "",
            room=handle.room,
        )


def _signed_by(agent: AgentId, body: bytes, signature: bytes) -> Envelope:
    """What an author elsewhere signed as a gated message. Raises `Refused(envelope_refused)`."""
    if len(body) > MAX_BYTES:
        # Before the signature, whose check reads all of it.
        raise Refused("text_too_long", f"The envelope has {len(body)} bytes; it holds {MAX_BYTES}.")
    if not verify(agent, "parler/gated", body, signature):
        raise Refused("envelope_refused", what="signature")
    try:
        return decode_envelope(body)
    # msgspec raises UnicodeDecodeError for text that is not UTF-8, and RecursionError for nesting without end.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused("envelope_refused", what="format") from None


def _id_of(room: RoomId, author: AgentId, key: str) -> MessageId:
    asked = msgspec.msgpack.encode((room, author, "gated", key))
    return MessageId(f"m_{hashlib.sha256(asked).hexdigest()[:24]}")


def _told(timer: TimerSpec | None) -> GateTimer | None:
    if timer is None:
        return None
    return GateTimer(timer.effect, Millis(timer.ms or 0), Millis(timer.at or 0), timer.ticks or 0, timer.watch)


def _asked(timer: GateTimer | None) -> TimerSpec | None:
    if timer is None:
        return None
    return TimerSpec(
        effect=timer.effect,
        ms=timer.ms or None,
        at=timer.at or None,
        ticks=timer.ticks or None,
        watch=timer.watch,
    )
