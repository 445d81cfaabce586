"""Receipts: what the home of a room signs of one fact, for whoever may know of the fact.

    receipt.get, receipt.list --> the room that is meant --> a room of this home   answered here
                                                        `--> another               `link.ask` --> answered there

Of what an agent asked of a queue elsewhere, and of which this home has no copy, that queue's home is asked
(`requested`).

The receipt of a message is given to its readers and its author, and that of anything else to the agent that did it: to
hand it on is theirs. The person is given what any of their agents is. An agent lists what it did itself. The home of
the room signs a receipt, with the key by which it is known, each time that it is asked for, and always the same bytes.

Not here: the text (`core.receipts`) and the signature (`identity.notes`). Above: the engine's face. Below: the library.
Invariant: whoever may not know of a fact is told that there is no receipt, as of a fact that never was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec
import trio

from parlerd.core import events as e
from parlerd.core import receipts
from parlerd.core.envelope import decode_envelope
from parlerd.core.errors import Refused
from parlerd.core.handoff import Offer
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import view_of
from parlerd.core.model import AgentId, MessageId, Position, PrincipalId, RoomId
from parlerd.core.receipts import Also, NotAReceipt, Opening, Receipt, Step, opens
from parlerd.core.room import Room
from parlerd.core.visibility import can_see
from parlerd.engine.callers import Caller
from parlerd.engine.cards import Cards
from parlerd.engine.crossing import Answer, Request
from parlerd.engine.cursors import PART, cursor_of, told_place
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, Question, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.lookup import room_of
from parlerd.engine.observers import observed_room, observers
from parlerd.engine.reading import Reading, handle_of, number_of
from parlerd.engine.requested import Ask, ask_queues
from parlerd.identity.notes import check_note
from parlerd.identity.proofs import bears
from parlerd.operations import types as t
from parlerd.store.port import Receipted

MAX_ALSO: Final = 128
"""Facts of one request that its receipt tells of: as many as a batch may write."""


class _Known(NamedTuple):
    """What this home knows itself of a fact that another home receipts: who did it, for whom, and of a message the
    SHA-256 of its envelope."""

    actor: AgentId
    principal: PrincipalId
    envelope: bytes = b""


class Receipts:
    """The handler of `receipt.get`, and what answers it at the home of a room."""

    def __init__(self, desk: Desk, reading: Reading) -> None:
        self._desk = desk
        self._reading = reading
        self.answers: Final[Mapping[str, Answer]] = {"receipt.get": self._answer, "receipt.list": self._list}

    @handles("receipt.get")
    async def get(self, caller: Caller, params: t.GetReceipt) -> t.ReceiptGiven:
        desk = self._desk
        me = await desk.me(caller)
        if params.id.startswith("f_"):
            handle, room, inside = await observed_room(desk, caller, me, params.room)
            mine = [record for record in inside if _number(room, record.id, params.id) is not None]
            if not mine:
                raise Refused("no_such_receipt")
            asking = mine[0]
            return await self._given(caller, params, handle, params.id, asking, _Known(asking.id, asking.principal))
        found = await self._of_message(caller, me, params)
        if found is not None:
            return await self._given(caller, params, *found)
        asked: Ask[t.ReceiptGiven] = partial(self._of_request, caller, params)
        return await ask_queues(desk, caller, me, params.room, asked, unknown="no_such_receipt")

    async def _given(
        self,
        caller: Caller,
        params: t.GetReceipt,
        handle: RoomHandle,
        id: str,
        asking: AgentRecord,
        known: _Known,
    ) -> t.ReceiptGiven:
        """The receipt that a room's home gives one agent, checked against what is known here."""
        given = await self._asked(caller, params, handle, id, asking)
        if handle.home_name == LOCAL:
            return msgspec.structs.replace(given, room=handle.room, fact=id)
        return await _checked(given, handle, id, known)

    async def _of_request(
        self, caller: Caller, params: t.GetReceipt, handle: RoomHandle, asking: AgentRecord
    ) -> t.ReceiptGiven:
        """The receipt of what this agent asked of a queue elsewhere. What is known here of it is the agent's own
        signature, which has to be there: the words alone would be the home's."""
        given = await self._asked(caller, params, handle, params.id, asking)
        known = _Known(asking.id, asking.principal)
        opening = given.opening
        if opening is not None and opening.body is not None:
            if not _is_own(opening.body, opening.signature or b"", handle, params.id, asking):
                raise Refused("relay_failed", home=handle.home_name)
            known = known._replace(envelope=hashlib.sha256(opening.body).digest())
        return await _checked(given, handle, params.id, known)

    async def _asked(
        self, caller: Caller, params: t.GetReceipt, handle: RoomHandle, id: str, asking: AgentRecord
    ) -> t.ReceiptGiven:
        """What a room's home answers to one agent."""
        asked = t.GetReceipt(room=handle.room, id=id, proof=params.proof)
        request = Request("receipt.get", asked, self._desk.by(caller, asking), caller)
        here: Callable[[RoomHandle], Awaitable[t.Result]] = partial(self._here, request)
        given = await handle.ask(Question(request.name, asked, request.by), here)
        assert isinstance(given, t.ReceiptGiven)
        return given

    @handles("receipt.keys")
    async def keys(self, caller: Caller, params: t.ListReceiptKeys) -> t.ReceiptKeys:
        """This home, and the relays that the person added."""
        desk = self._desk
        await trio.lowlevel.checkpoint()
        own = t.ReceiptKey(id=desk.keys.id, name=LOCAL)
        return t.ReceiptKeys(
            keys=[own, *(t.ReceiptKey(id=home.id, name=home.name) for home in desk.home_book.listed())]
        )

    async def _of_message(
        self, caller: Caller, me: AgentRecord, params: t.GetReceipt
    ) -> tuple[RoomHandle, str, AgentRecord, _Known] | None:
        """The room of a message, its id, the agent of this caller that asks, which is the first that may see it, and
        what is known of the message here; None where no such message is here."""
        desk, id = self._desk, MessageId(params.id)
        if number_of(params.id) is not None:
            _, room = await room_of(desk, me, params.room)
            try:
                id = await self._reading.message_id(room, me.id, params.id)
            except Refused as error:
                raise Refused("no_such_receipt") if error.code == "no_such_message" else error from None
        found = await desk.library.trace(id)
        if found is None:
            return None
        handle = await desk.rooms.get(found.room)
        room = await handle.quiet()
        for record in observers(desk, caller, me):
            if _may_know(room, record.id, found.header):
                event, by = found.header.event, found.header.by
                envelope = event.envelope if isinstance(event, e.MessagePosted) else b""
                return handle, id, record, _Known(by.actor, by.principal, envelope)
        raise Refused("no_such_receipt")

    async def _here(self, request: Request, handle: RoomHandle) -> t.Result:
        assert isinstance(request.params, t.GetReceipt)
        return await self._answer(handle, request, request.params)

    async def _answer(self, handle: RoomHandle, request: Request, params: t.GetReceipt) -> t.ReceiptGiven:
        """What the home of a room gives an agent. Raises `Refused(no_such_receipt)`."""
        desk, asking = self._desk, request.by
        room = await handle.quiet()
        position = await self._place(room, asking.actor, params.id)
        found = None if position is None else await desk.library.receipted(handle.room, position)
        if found is None or not found.unaltered:
            raise Refused("no_such_receipt")
        room = await handle.quiet()
        if asking.actor != found.header.by.actor and not _may_know(room, asking.actor, found.header):
            raise Refused("no_such_receipt")
        receipt = await self._receipt(room, asking.actor, params.id, found)
        opening: t.ReceiptOpening | None = None
        is_erased = found.body is None and found.header.body is not None
        if not is_erased:
            opening = t.ReceiptOpening(salt=found.salt, event=found.event, body=found.body, signature=found.signature)
        text = receipts.text(receipt)
        given = t.ReceiptGiven(room=handle.room, fact=receipt.fact, receipt=desk.keys.sign_note(text), opening=opening)
        member = room.state.members.get(receipt.actor)
        if not params.proof or member is None:
            return given
        proof = await Cards(desk.library, desk.keys.id).proof_of(room, member)
        return msgspec.structs.replace(given, author=proof)

    async def _list(self, handle: RoomHandle, request: Request, params: t.ListReceipts) -> t.ReceiptList:
        """What an agent did in a room of this home."""
        desk, agent = self._desk, request.by.actor
        room = await handle.quiet()
        key, name = desk.keys.cursor_key(), room.state.room
        upto = room.position
        if params.before is not None:
            upto = told_place(key, name, agent, params.before, upto, param="before")
        found, end = await desk.library.done_by(name, agent, upto, params.limit)
        return t.ReceiptList(
            room=name,
            receipts=[_entry(name, each) for each in found],
            before=cursor_of(key, name, agent, end, desk.random.bytes(PART)) if end else "",
        )

    async def _place(self, room: Room, agent: AgentId, id: str) -> Position | None:
        """Where the fact stands that is called so: a message, or something else that this agent did."""
        library, state = self._desk.library, room.state
        if id.startswith("f_"):
            number = _number(room, agent, id)
            line = receipts.first_line(state.room, agent, receipts.MYSELF)
            return None if number is None else await library.place_in_line(state.room, line, number)
        traced = await library.trace(MessageId(id))
        return None if traced is None or traced.room != state.room else traced.header.position

    async def _receipt(self, room: Room, reader: AgentId, id: str, found: Receipted) -> Receipt:
        header, state = found.header, room.state
        event, by = header.event, header.by
        is_public = isinstance(event, e.MessagePosted) and event.visibility is None
        # The line counts what is public, so whoever only asks a queue for work would learn how much others ask for.
        member = state.members.get(reader)
        is_shown = (
            is_public and member is not None and can_see(view_of(member), position=header.position, visibility=None)
        )
        line = await self._desk.library.shown_at(state.room, header.position) if is_shown else None
        steps, stage = await self._steps(room, reader, header)
        return Receipt(
            home=self._desk.keys.id,
            room=state.room,
            fact=id,
            kind=str(type(event).__struct_config__.tag),
            digest=found.digest,
            content=_content(found),
            operation=header.operation,
            at=header.at,
            actor=by.actor,
            handle=handle_of(state, by.actor),
            via=by.via,
            principal=by.principal,
            authority=header.authority,
            token=by.token,
            verified=event.verified if isinstance(event, e.MessagePosted) else "",
            numbered=found.numbered,
            key=b"" if header.key is None else receipts.key_digest(header.key),
            line=line,
            also=await self._also(state.room, found),
            steps=steps,
            stage=stage,
        )

    async def _also(self, room: RoomId, first: Receipted) -> tuple[Also, ...]:
        """The other facts of the same request."""
        if isinstance(first.header.event, e.MessagePosted):
            return ()
        asked = first.header

        def is_same(header: e.Header) -> bool:
            return not header.operation and (header.by, header.at, header.authority) == (
                asked.by,
                asked.at,
                asked.authority,
            )

        found = await self._desk.library.following(room, asked.position, MAX_ALSO, is_same)
        return tuple(
            Also(str(type(each.header.event).__struct_config__.tag), each.digest, _content(each)) for each in found
        )

    async def _steps(self, room: Room, reader: AgentId, header: e.Header) -> tuple[tuple[Step, ...], str]:
        """What became of the hand-off that a message is a part of, as far as the reader may see, and where it stands:
        `forgotten` where the room keeps nothing of the hand-off any more."""
        offer = _offer_of(room, header)
        if offer is None:
            is_step = isinstance(header.event, e.MessagePosted) and bool(header.event.turn)
            return (), "forgotten" if is_step else "stored"
        offers = room.state.offers
        status, _ = offers.standing(offer, max(room.last_at, self._reading.now_in(room.state)))
        steps: list[Step] = []
        for id in (offer.id, *(answer.message for answer in offers.answers(offer))):
            traced = await self._desk.library.trace(id)
            if traced is None or not _may_know(room, reader, traced.header):
                continue
            found = await self._desk.library.receipted(traced.room, traced.header.position)
            if found is not None:
                at, by = found.header.at, found.header.by
                steps.append(Step(found.header.operation, id, found.digest, at, by.actor))
        return tuple(steps), "complete" if status == "accepted" else status


def _entry(room: RoomId, found: Receipted) -> t.ReceiptEntry:
    header, numbered = found.header, found.numbered
    thread = receipts.first_line(room, header.by.actor, receipts.audience_of(header))
    return t.ReceiptEntry(
        fact=receipts.name_of(header, thread, numbered.number if numbered else 0),
        operation=header.operation,
        at=header.at,
        number=numbered.number if numbered else None,
    )


def _number(room: Room, agent: AgentId, id: str) -> int | None:
    """The number of what this agent did in a room that is no message, if this is what it is called."""
    return receipts.number_in(id, receipts.first_line(room.state.room, agent, receipts.MYSELF))


async def _with_key(handle: RoomHandle, opening: t.ReceiptOpening | None, known: _Known) -> t.ReceiptOpening | None:
    """What opens the content, with the key of a sealed message as this home has it, whatever the other home says."""
    if opening is None:
        return None
    key = None
    if known.envelope and opening.body is not None:
        key = await handle.message_key(opening.body, known.actor)
    return msgspec.structs.replace(opening, key=msgspec.UNSET if key is None else key)


async def _checked(given: t.ReceiptGiven, handle: RoomHandle, id: str, known: _Known) -> t.ReceiptGiven:
    """The receipt that another home gave, checked against what is known here, with the key that opens a message. Raises
    `Refused(relay_failed)`."""
    _require_its(given, handle, id, known)
    opening = await _with_key(handle, given.opening, known)
    return msgspec.structs.replace(given, room=handle.room, fact=id, opening=opening)


def _require_its(given: t.ReceiptGiven, handle: RoomHandle, id: str, known: _Known) -> None:
    """Refuse what another home gave for a receipt and is none of its own, of this fact, or says otherwise than is known
    here. Raises `Refused(relay_failed)`."""
    state = handle.aggregate.state
    try:
        said, verdict = check_note(given.receipt, {state.home})
    except NotAReceipt:
        raise Refused("relay_failed", home=handle.home_name) from None
    opening = given.opening
    is_opened = opening is None or opens(Opening(opening.salt, opening.event, opening.body), said.content)
    words = None if opening is None else opening.body
    is_same = (said.actor, said.principal) == (known.actor, known.principal) and (
        not known.envelope or words is None or hashlib.sha256(words).digest() == known.envelope
    )
    if verdict != "valid" or (said.room, said.fact) != (state.room, id) or not is_opened or not is_same:
        raise Refused("relay_failed", home=handle.home_name)


def _is_own(words: bytes, signature: bytes, handle: RoomHandle, id: str, author: AgentRecord) -> bool:
    """Whether this agent signed these words as the message of this id in this room."""
    try:
        envelope = decode_envelope(words)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    state = handle.aggregate.state
    is_that = (envelope.id, envelope.room) == (id, state.room)
    return is_that and bears(author.id, state.home, words, signature) is not None


def _offer_of(room: Room, header: e.Header) -> Offer | None:
    """The offer that a message made, or answered."""
    event = header.event
    if not isinstance(event, e.MessagePosted) or not event.turn:
        return None
    offered = event.id if event.turn == "offered" else event.reply_to
    return None if offered is None else room.state.offers.get(offered)


def _may_know(room: Room, agent: AgentId, header: e.Header) -> bool:
    """Whether an agent may see a message of the room: it is there, and is the author or a reader."""
    member = room.state.members.get(agent)
    if member is None or not member.present or not isinstance(header.event, e.MessagePosted):
        return False
    return header.by.actor == agent or can_see(
        room.view(agent), position=header.position, visibility=header.event.visibility
    )


def _content(found: Receipted) -> bytes:
    return receipts.content_of(found.salt, found.event, found.header.body)
