"""How a room is told to a link: its card and what changes on it, as one person's agents may know them.

    opening, title, members        to who is in, and to the owner's person; who waits in a sealed room for a record, or
                                   knocks, is told of its own agents alone
    keys, requests, sealing keys   to the owner's person
    the epoch of a sealed room     to those whom it holds, and to the owner's person
    their own requests             to agents that are in or knock, with the terms of the keys that they knocked with

How a member came in is shown by the very bytes that were signed, which are the bodies of facts. `moves` is told to
those who are told the members, and `asks` to the owner's person, so neither counts what its receiver may not see.

Not here: when a card is sent (`following`). Above: `following`. Below: the core's room, the library. Invariant: of two
rooms that differ in nothing that these eyes may see, the cards are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from parlerd.core.approvals import KeyState, Request, waiting
from parlerd.core.epoch_record import decode_turned
from parlerd.core.membership import Member
from parlerd.core.model import AgentId, HomeId, Position
from parlerd.core.room import Room
from parlerd.core.statements import decode_opened
from parlerd.engine.epochs import epoch_at
from parlerd.engine.library import Library, Signed
from parlerd.engine.reachable import Eyes
from parlerd.operations import types as t

OPENED_AT: Final = 1
"""Where a room's opening stands in its log."""
PIECE: Final = 100
"""Members, keys and requests in one card: what is signed about each is some hundred bytes."""
_NOTHING: Final = Signed()

Bodies = Mapping[int, Signed]


class Stood(NamedTuple):
    """How a member stood at some moment: whether it was in."""

    member: Member
    present: bool


class KeyTold(NamedTuple):
    """The key that an agent told for a sealed room, by where the fact stands."""

    agent: AgentId
    position: Position


Entry = Stood | KeyState | Request | KeyTold
"""What a card lists."""


class Cards:
    """Makes the cards of a home's rooms."""

    def __init__(self, library: Library, home: HomeId) -> None:
        self._library = library
        self._home = home

    async def whole(
        self,
        room: Room,
        eyes: Eyes,
        stood: Sequence[Stood],
        *,
        moves: int,
        asks: int,
        closed: bool,
        at: Position,
        epoch: int = 0,
    ) -> list[t.Card]:
        """A room with its members as they stood when there had been so many `moves`, at this place of its log, with all
        that owned it by then, the epoch in force there, or the one with the number `epoch`, which is told already,
        where that is later, and whether it was `closed`;
        keys and requests as they are now, and at least as they were after so many `asks`. Of a large room it comes in
        pieces, of which the first is the `whole`."""
        state = room.state
        first = t.Card(
            whole=True,
            home=self._home,
            opened_at=state.opened_at,
            closed=closed,
            moves=moves if eyes.are_inside else 0,
            asks=asks if eyes.owns else 0,
        )
        opened = (await self._library.bodies(state.room, [OPENED_AT])).get(OPENED_AT, _NOTHING)
        if opened.body:
            opening, title = decode_opened(opened.body)
            first = msgspec.structs.replace(
                first,
                opening=opening,
                opening_signature=opened.signature,
                title=title if eyes.are_inside else b"",
                transfers=await self.transfers(room, at),
                epoch=await epoch_at(self._library, room, at, told=epoch) if eyes.are_inside else None,
                owner_line=await self.owner_line(room, at) if eyes.are_inside else None,
            )
        # Who owned the room comes first: what came by their word can be shown only once they are known.
        owners = {owner.agent for owner in state.lifecycle.owners}
        known = [each for each in stood if eyes.are_inside or each.member.agent in eyes.own]
        members = sorted(known, key=lambda each: each.member.agent not in owners)
        return await self._pieces(room, eyes, first, [*members, *_asked(room, eyes)])

    async def asked(self, room: Room, eyes: Eyes, *, moves: int, asks: int) -> list[t.Card]:
        """All that these eyes may know of keys and requests, as they are now, and at least as they were after so many
        `asks`."""
        return await self._pieces(room, eyes, self._part(eyes, moves, asks), _asked(room, eyes))

    async def part(self, room: Room, eyes: Eyes, entries: Sequence[Entry], *, moves: int, asks: int) -> t.Card:
        """What changed on a card, when there had been so many `moves` and `asks`."""
        return await self._filled(room, eyes, self._part(eyes, moves, asks), entries)

    async def proof_of(self, room: Room, member: Member) -> t.AuthorProof:
        """What was signed about how a member came in."""
        stood = Stood(member, member.present)
        wanted = [OPENED_AT, *_signed_at(room, stood)]
        bodies = await self._library.bodies(room.state.room, sorted(set(wanted)))
        opened = bodies.get(OPENED_AT, _NOTHING)
        entry = _member_entry(room, stood, bodies)
        return t.AuthorProof(
            opening=decode_opened(opened.body)[0] if opened.body else b"",
            opening_signature=opened.signature,
            handovers=await self.transfers(room, room.position),
            decision=entry.proof,
            decision_signature=entry.proof_signature,
            knock=entry.knock,
            knock_signature=entry.knock_signature,
            terms=entry.terms,
            terms_signature=entry.terms_signature,
            grant=entry.grant,
            grant_signature=entry.grant_signature,
            granted_as=entry.granted_as,
        )

    async def owner_line(self, room: Room, upto: Position, *, after: int = 0) -> t.OwnerLineEntry | None:
        """The newest line of the owner's that stands up to and at this place of the log, for whoever has nothing of the
        owner's home that was signed later than `after`."""
        state = room.state.epochs
        if not 0 < state.lined <= upto or state.heard <= after:
            return None
        kept = (await self._library.bodies(room.state.room, [state.lined])).get(state.lined, _NOTHING)
        return t.OwnerLineEntry(statement=kept.body, signature=kept.signature)

    async def transfers(self, room: Room, upto: Position) -> list[t.TransferEntry]:
        """How the room changed hands up to and at this place of its log, each time."""
        owners = [owner for owner in room.state.lifecycle.owners[1:] if owner.position <= upto]
        turned = dict(room.state.epochs.turned)
        # Whoever takes a sealed room over is named by the record in force, which a newcomer was told nothing of.
        naming = {each.position: turned[each.record] for each in owners if each.taken and each.record in turned}
        at = sorted({*(owner.position for owner in owners), *naming.values()})
        bodies = await self._library.bodies(room.state.room, at) if at else {}
        found: list[t.TransferEntry] = []
        for owner in owners:
            signed = bodies.get(owner.position, _NOTHING)
            named = bodies.get(naming.get(Position(owner.position), 0), _NOTHING)
            found.append(
                t.TransferEntry(
                    statement=signed.body,
                    signature=signed.signature,
                    record=decode_turned(named.body)[0] if named.body else b"",
                    record_signature=named.signature,
                )
            )
        return found

    def _part(self, eyes: Eyes, moves: int, asks: int) -> t.Card:
        return t.Card(
            whole=False,
            home=self._home,
            moves=moves if eyes.are_inside else 0,
            asks=asks if eyes.owns else 0,
        )

    async def _pieces(self, room: Room, eyes: Eyes, first: t.Card, entries: Sequence[Entry]) -> list[t.Card]:
        pieces = [entries[begin : begin + PIECE] for begin in range(0, len(entries), PIECE)] or [[]]
        return [
            await self._filled(room, eyes, first if number == 0 else self._part(eyes, first.moves, first.asks), piece)
            for number, piece in enumerate(pieces)
        ]

    async def _filled(self, room: Room, eyes: Eyes, card: t.Card, entries: Sequence[Entry]) -> t.Card:
        wanted = [position for entry in entries for position in _signed_at(room, entry)]
        bodies = await self._library.bodies(room.state.room, sorted(set(wanted)))
        return msgspec.structs.replace(
            card,
            members=[_member_entry(room, each, bodies) for each in entries if isinstance(each, Stood)],
            keys=[_key_entry(each, eyes, bodies) for each in entries if isinstance(each, KeyState)],
            requests=[_request_entry(room, each, bodies) for each in entries if isinstance(each, Request)],
            sealing_keys=[
                t.SealingKeyEntry(statement=bodies[each.position].body, signature=bodies[each.position].signature)
                for each in entries
                if isinstance(each, KeyTold)
            ],
        )


def _asked(room: Room, eyes: Eyes) -> list[Entry]:
    """The keys and the requests of a room that these eyes may know of."""
    state = room.state
    if eyes.owns:
        here = {request.agent for request in waiting(state.requests)}
        here.update(member.agent for member in state.members.values() if member.present)
        told = state.epochs.told
        unheld = [KeyTold(agent, told[agent].position) for agent in room.epochs.unheld_keys() if agent in here]
        return [*state.keys.values(), *state.requests.values(), *unheld]
    requests = [each for each in state.requests.values() if eyes.has(each.agent)]
    return [*(state.keys[id] for id in dict.fromkeys(each.key_id for each in requests)), *requests]


def _signed_at(room: Room, entry: Entry) -> Iterable[int]:
    """Where that stands which was signed about an entry."""
    match entry:
        case Stood(member=member):
            # A person's decision stands right before the fact that its agent came in.
            yield member.first - 1 if member.request is not None else member.first
            if member.request is not None:
                # In a sealed room the knock is told once the agent is in.
                yield member.first if room.state.is_sealed else room.state.requests[member.request].position
            if member.request is None and member.key is not None:
                yield room.state.keys[member.key].position
        case KeyState(position=position):
            yield position
        case Request(position=position, decided=decided):
            yield position
            if decided:
                yield decided
        case KeyTold(position=position):
            yield position


def _member_entry(room: Room, stood: Stood, bodies: Bodies) -> t.MemberEntry:
    member = stood.member
    proof = knock = terms = grant = _NOTHING
    if member.request is not None:
        proof = bodies.get(member.first - 1, _NOTHING)
        at = member.first if room.state.is_sealed else room.state.requests[member.request].position
        asked = bodies.get(at, _NOTHING)
        knock, grant = (asked, _NOTHING) if member.given is None else (_NOTHING, asked)
    elif member.given is not None:
        grant = bodies.get(member.first, _NOTHING)
    elif member.key is not None:
        knock = bodies.get(member.first, _NOTHING)
        terms = bodies.get(room.state.keys[member.key].position, _NOTHING)
    return t.MemberEntry(
        agent=member.agent,
        principal=member.principal,
        handle=member.handle,
        host=member.host,
        role=member.role,
        present=stood.present,
        joined_at=member.joined_at,
        locked=member.locked,
        knock=knock.body,
        knock_signature=knock.signature,
        proof=proof.body,
        proof_signature=proof.signature,
        terms=terms.body,
        terms_signature=terms.signature,
        grant=grant.body,
        grant_signature=grant.signature,
        granted_as="" if member.given is None else member.given.name,
    )


def _key_entry(key: KeyState, eyes: Eyes, bodies: Bodies) -> t.KeyEntry:
    terms = bodies.get(key.position, _NOTHING)
    return t.KeyEntry(
        ref=key.ref,
        terms=terms.body,
        terms_signature=terms.signature,
        revoked=key.revoked if eyes.owns else False,
        users=list(key.users) if eyes.owns else [],
    )


def _request_entry(room: Room, request: Request, bodies: Bodies) -> t.RequestEntry:
    asked = bodies.get(request.position, _NOTHING)
    knock, grant = (asked, _NOTHING) if request.given is None else (_NOTHING, asked)
    decision = bodies.get(request.decided, _NOTHING)
    return t.RequestEntry(
        request=request.id,
        ref=room.state.keys[request.key_id].ref if request.given is None else "",
        agent=request.agent,
        principal=request.principal,
        name=request.name,
        host=request.host,
        at=request.at,
        state=request.state,
        knock=knock.body,
        knock_signature=knock.signature,
        decision=decision.body,
        decision_signature=decision.signature,
        grant=grant.body,
        grant_signature=grant.signature,
        role=request.role,
        exchange=_exchange_entry(request),
    )


def _exchange_entry(request: Request) -> t.ExchangeEntry | None:
    known = request.exchange
    if known is None:
        return None
    return t.ExchangeEntry(
        share=known.share,
        answered=known.answered,
        shown=known.shown,
        confirmed=known.confirmed,
        granted=known.granted,
    )
