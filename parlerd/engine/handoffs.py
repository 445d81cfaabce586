"""Offering the turn, answering an offer, and what became of each offer.

Not here: who may answer what (`core.handoff`), how the message of an offer or an answer is stored (`sending`). Above:
the engine's face. Invariant: an offer and an answer are messages like any other, so that they are read, acknowledged
and traced as such.
"""

from __future__ import annotations

from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core.envelope import HandoffAnswerPart, HandoffPart, Part, Transcript, blob_of, turn_of
from parlerd.core.errors import Refused
from parlerd.core.handoff import Offer
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, MessageId, Millis, Position, RoomId, label
from parlerd.core.room import Room, RoomState
from parlerd.core.visibility import can_see
from parlerd.core.words import HANDOFF, answer_kind, check_handoff, check_text
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.files import Files
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.lookup import room_of
from parlerd.engine.reading import Reading, handle_of, number_of, silence_of
from parlerd.engine.sending import Sending
from parlerd.engine.transcripts import transcript
from parlerd.operations import types as t
from parlerd.store.port import StoredMessage

ANYONE: Final = "anyone"
"""Said instead of naming nobody; a reserved word, so no agent has this name."""
MAX_SHOWN: Final = 20
"""Offers in one list."""


class Handoffs:
    """The handlers of `handoff.give`, `handoff.accept`, `handoff.decline`, `handoff.withdraw` and `handoff.show`."""

    def __init__(self, desk: Desk, sending: Sending, reading: Reading, files: Files) -> None:
        self._desk = desk
        self._files = files
        self._sending = sending
        self._reading = reading

    @handles("handoff.give")
    async def give(self, caller: Caller, params: t.GiveHandoff) -> t.GivenHandoff:
        me = await self._desk.me(caller)
        target = "" if params.for_ in ("", ANYONE) else str(label(params.for_))
        actor, room = await room_of(self._desk, me, params.room)
        told = None
        if params.transcript:
            told = await transcript(self._desk.library, room, me.id, target, params.transcript)
        # Readers are told a name, also where an id was given.
        named = handle_of(room.state, AgentId(target))
        part = HandoffPart(
            next=params.next,
            summary=params.summary,
            target=named,
            goal=params.goal,
            state=params.state,
            decisions=params.decisions,
            failed=params.failed,
            questions=params.questions,
            files=params.files,
            refs=params.refs,
            ttl_ms=Millis(params.ttl_ms or 0),
            transcript=told,
        )
        size = check_handoff(part)
        parts: tuple[Part, ...] = (part,)
        if params.bundle is not None:
            parts = (part, await self._files.again(me, actor, params.bundle, code=True))
        turn, ttl_ms = turn_of(parts)
        command = c.PostMessage(
            operation="handoff.give",
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=HANDOFF,
            taker=target,
            turn=turn,
            ttl_ms=ttl_ms,
            blob=blob_of(parts),
        )
        sent = await (await self._sending.post(caller, me, actor, command, parts, size)).result()
        # The room as it is now: who was in it before the message was stored may have left meanwhile.
        room = actor.aggregate
        offer = room.state.offers.get(MessageId(sent.id))
        return t.GivenHandoff(
            id=sent.id,
            room=sent.room,
            name=room.state.name,
            for_=named or None,
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            seq=sent.seq,
            queued=sent.queued,
            warning=sent.warning,
            others=sum(member.present and member.agent != me.id for member in room.state.members.values()),
            transcript=_sent_transcript(told) if params.transcript and not sent.replayed else msgspec.UNSET,
            expires=0 if offer is None else offer.expires_at,
        )

    @handles("handoff.accept")
    async def accept(self, caller: Caller, params: t.AcceptHandoff) -> t.AnsweredHandoff:
        return await self._answer(caller, params, HandoffAnswerPart("accepted"))

    @handles("handoff.decline")
    async def decline(self, caller: Caller, params: t.DeclineHandoff) -> t.AnsweredHandoff:
        return await self._answer(caller, params, HandoffAnswerPart("declined", params.reason))

    @handles("handoff.withdraw")
    async def withdraw(self, caller: Caller, params: t.WithdrawHandoff) -> t.AnsweredHandoff:
        return await self._answer(caller, params, HandoffAnswerPart("withdrawn", params.reason))

    async def _answer(
        self, caller: Caller, params: t.AcceptHandoff | t.DeclineHandoff | t.WithdrawHandoff, part: HandoffAnswerPart
    ) -> t.AnsweredHandoff:
        size = check_text(part.reason, "reason")
        me = await self._desk.me(caller)
        actor, room = await room_of(self._desk, me, params.room or await self._room_with(me, params.id))
        if await actor.catch_up():
            room = await actor.quiet()
        offered = await self._reading.message_id(room, me.id, params.id)
        command = c.PostMessage(
            operation=_OPERATIONS[part.answer],
            idempotency_key=params.idempotency_key,
            input=input_digest(params),
            kind=answer_kind(part.answer),
            reply_to=offered,
            turn=part.answer,
        )
        try:
            sent = await (await self._sending.post(caller, me, actor, command, (part,), size)).result()
        except Refused as error:
            if error.code == "handoff_taken" and "agent" in error.details:
                # The home of a room elsewhere says who, and not in a sentence.
                raise Refused(error.code, f"{error.details['agent']} has this turn.", **error.details) from None
            raise
        state = actor.aggregate.state
        offer = state.offers.get(offered)
        giver = "" if offer is None else handle_of(state, offer.giver)
        numbers = await self._desk.library.replied_to(actor.room, actor.aggregate.view(me.id), {offered})
        return t.AnsweredHandoff(
            id=sent.id,
            seq=sent.seq or 0,
            handoff=offered,
            offer_seq=numbers.get(offered, 0),
            room=sent.room,
            name=state.name,
            status=part.answer,
            giver=giver,
            holder=handle_of(state, me.id) if part.answer == "accepted" else giver,
            replayed=sent.replayed,
            idempotency_key=sent.idempotency_key,
            warning=sent.warning,
        )

    async def _room_with(self, me: AgentRecord, id: str) -> RoomId | None:
        """The room of an offer that is named by its id, which is another message nowhere. None for a number, which
        counts in the active session, and for an id of no room that the agent is in."""
        if number_of(id) is not None:
            return None
        traced = await self._desk.library.trace(MessageId(id))
        return None if traced is None or traced.room not in await self._desk.library.my_rooms(me.id) else traced.room

    @handles("handoff.show")
    async def show(self, caller: Caller, params: t.ShowHandoffs) -> t.HandoffList:
        me = await self._desk.me(caller)
        actor, room = await room_of(self._desk, me, params.room)
        if await actor.catch_up():
            room = await actor.quiet()
        state, now = room.state, self._reading.now_in(room.state)
        view = room.view(me.id)
        found = [offer for offer in state.offers if can_see(view, position=offer.position, visibility=offer.visibility)]
        messages: list[t.Message] = []
        if params.id is not None:
            asked = await self._reading.message_id(room, me.id, params.id)
            found = [offer for offer in found if offer.id == asked]
            if not found:
                raise Refused("no_such_handoff", id=params.id)
            messages = await self._trail(room, me, found[0])
        # The open ones first, and of each sort the newest.
        found.sort(key=lambda offer: (not state.offers.is_open(offer, now), -offer.position))
        numbers = await self._desk.library.replied_to(state.room, view, {offer.id for offer in found[:MAX_SHOWN]})
        return t.HandoffList(
            room=state.room,
            name=state.name,
            you=handle_of(state, me.id),
            handoffs=[entry_of(state, me.id, offer, now, numbers.get(offer.id, 0)) for offer in found[:MAX_SHOWN]],
            more=max(0, len(found) - MAX_SHOWN),
            messages=messages,
            notice=silence_of(actor, self._desk.clock.now(), "newer answers may be missing."),
        )

    async def _trail(self, room: Room, me: AgentRecord, offer: Offer) -> list[t.Message]:
        """The offer and the answers to it, as this reader is shown them."""
        library, view = self._desk.library, room.view(me.id)
        places = [offer.position, *(answer.position for answer in room.state.offers.answers(offer))]
        stored: list[StoredMessage] = []
        for place in places:
            if (message := await library.message_at(room, view, place)) is not None:
                stored.append(message)
        spans = [(Position(place - 1), place) for place in places]
        await self._reading.mark(room.state.room, me.id, spans, needed=False)
        return await self._reading.render(room.state, view, stored)


def _sent_transcript(told: Transcript | None) -> t.SentTranscript:
    if told is None:
        return t.SentTranscript(count=0, quoted=False)
    return t.SentTranscript(count=told.count, quoted=bool(told.quoted), left_out=told.left_out)


_OPERATIONS: Final = {
    "accepted": "handoff.accept",
    "declined": "handoff.decline",
    "withdrawn": "handoff.withdraw",
}


def entry_of(state: RoomState, reader: AgentId, offer: Offer, now: Millis, seq: int) -> t.HandoffEntry:
    """An offer as this reader is shown it, with its own number of the message."""
    offers = state.offers
    status, final = offers.standing(offer, now)
    declined = [answer for answer in offers.answers(offer) if answer.turn == "declined" and answer is not final]
    ended: Millis | msgspec.UnsetType = msgspec.UNSET
    if final is not None:
        ended = final.at
    elif status == "expired":
        ended = offer.expires_at
    holder = final.by if final is not None and status == "accepted" else offer.giver
    return t.HandoffEntry(
        id=offer.id,
        seq=seq,
        giver=handle_of(state, offer.giver),
        for_=(handle_of(state, offer.to) if offer.to else offer.role) or None,
        status=status,
        holder=handle_of(state, holder),
        at=offer.at,
        expires=offer.expires_at,
        ended=ended,
        to_you=offers.is_for(offer, reader),
        yours=offer.giver == reader,
        declined=[handle_of(state, answer.by) for answer in declined] or msgspec.UNSET,
    )
