"""How agents of other homes come into rooms of this one, and how an owner elsewhere decides who does: the handlers of
`link.find`, `link.knock`, `link.withdraw`, `link.exchange`, `link.sealing_key`, `link.check_code`, `link.decide`,
`link.mint`, `link.revoke`, `link.kick`, `link.role` and `link.transfer`.

A knock is signed by the agent that knocks, and a decision by the owner's person or, where the room lets it, by the
owner: this home can delay either and make up neither. The code that a person types for a knock is this home's, because
the two who compare it are on two machines.

Not here: opening rooms and speaking in them (`admitting`). Above: the engine. Below: `reachable`, `authors.Admission`,
the rooms' own lines. Invariant: whoever has no key learns nothing of a room, at the speed that the throttle allows, and
one person's guesses delay nobody else.
"""

from __future__ import annotations

import msgspec

from parlerd.core import commands as c
from parlerd.core.approvals import UNDECIDED, Request, standing_request, waiting
from parlerd.core.errors import Refused
from parlerd.core.exchange import JOINER_STEPS, Step
from parlerd.core.model import AgentId, By, KeyId, Millis, RequestId, RoomId, role_name
from parlerd.core.room import Room
from parlerd.core.statements import (
    DecisionStatement,
    JoinCard,
    KnockStatement,
    SealingKey,
    Transfer,
    check,
    decode_opened,
)
from parlerd.engine.admitting import new_key
from parlerd.engine.authors import Admission, Attested, Words
from parlerd.engine.callers import Caller
from parlerd.engine.cards import OPENED_AT, Cards
from parlerd.engine.desk import Desk
from parlerd.engine.epochs import keep_epoch, told_epoch
from parlerd.engine.handling import handles
from parlerd.engine.library import Signed
from parlerd.engine.reachable import NOBODY, came_under, eyes, owned_within, require_attached, room_within, stamp
from parlerd.engine.reading import handle_of
from parlerd.engine.throttle import NO_GUESS, Guess
from parlerd.identity import codes
from parlerd.operations import types as t


class LettingIn:
    """The handlers about keys, knocks and decisions that come over links."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._admission = Admission()

    # -- coming in -------------------------------------------------------------------------------------------

    @handles("link.find")
    async def find(self, caller: Caller, params: t.FindKey) -> t.FoundKey:
        if not params.room:
            key_id, room, guess = await self._key(caller, params.session_key)
            await guess.right()
        else:
            agent = require_attached(self._desk, caller, params.agent)
            key_id, room = await self._direct(caller, RoomId(params.room), agent)
            if room.state.is_sealed and not params.unseals:
                # It would knock as at a room in clear, and tell its agent of a key that nobody typed.
                raise Refused("unsupported_version")
        known = room.state.keys[key_id]
        held = room.state.epochs.roster.get(AgentId(params.agent)) if params.room else None
        bodies = await self._desk.library.bodies(room.state.room, (OPENED_AT, known.position))
        opened, terms = bodies.get(OPENED_AT, Signed()), bodies.get(known.position, Signed())
        return t.FoundKey(
            room=room.state.room,
            opening=decode_opened(opened.body)[0] if opened.body else b"",
            opening_signature=opened.signature,
            ref=known.ref,
            terms=terms.body,
            terms_signature=terms.signature,
            transfers=await Cards(self._desk.library, self._desk.keys.id).transfers(room, room.position),
            counter=0 if held is None else held.counter,
        )

    @handles("link.knock")
    async def knock(self, caller: Caller, params: t.KnockAtRoom) -> t.Knocked:
        if params.share:
            return await self._begin_exchange(caller, params)
        desk = self._desk
        statement = check(params.statement, KnockStatement)
        agent = require_attached(desk, caller, statement.agent)
        guess = NO_GUESS
        if params.session_key:
            key_id, room, guess = await self._key(caller, params.session_key)
        else:
            key_id, room = await self._direct(caller, statement.room, agent)
        by = stamp(caller, agent, statement.host)
        signed = Attested(params.statement, params.signature)
        key = Attested(params.sealing_key, params.sealing_key_signature) if params.sealing_key else None
        epoch = await told_epoch(desk, self._admission, caller, params.epoch)
        command, words = self._admission.knock(
            by, signed, key_id=key_id, wall=desk.clock.now(), role=_role(params.role), sealing_key=key, epoch=epoch
        )
        knocked = await self._ask(caller, params, by, command, words, room, guess)
        if knocked.status == "joined":
            keep_epoch(desk, by.principal, epoch)
        return knocked

    async def _begin_exchange(self, caller: Caller, params: t.KnockAtRoom) -> t.Knocked:
        """Somebody begins to come into a sealed room, of whose key this home is told the route alone."""
        desk = self._desk
        agent = require_attached(desk, caller, check(params.statement, JoinCard).agent)
        key_id, room, guess = await self._key(caller, params.session_key)
        by = stamp(caller, agent)
        command, words = self._admission.begin_exchange(
            by,
            Attested(params.statement, params.signature),
            params.share,
            key_id=key_id,
            route=codes.normalise(params.session_key),
            wall=desk.clock.now(),
            role=_role(params.role),
            sealing_key=Attested(params.sealing_key, params.sealing_key_signature),
        )
        now = desk.clock.now()
        asking = {each.agent for each in waiting(room.state.requests)}
        away = frozenset(each for each in asking if not desk.links.has_agent(each, now))
        command = msgspec.structs.replace(command, away=away)
        return await self._ask(caller, params, by, command, words, room, guess)

    async def _ask(
        self, caller: Caller, params: t.KnockAtRoom, by: By, command: c.Knock, words: Words, room: Room, guess: Guess
    ) -> t.Knocked:
        """Let the room decide about a knock."""
        desk, agent = self._desk, by.actor
        # Whoever came in may leave and knock again: that is stored, and told to everybody there, each time.
        size = len(params.statement) + len(params.sealing_key)
        await desk.quotas.take(agent, bytes=size, person=by.principal)
        actor = await desk.rooms.get(room.state.room)
        try:
            settled = await actor.submit(command, by, words)
        except Refused as error:
            if error.code == "unknown_key":
                desk.throttle.wrong(caller)
            else:
                await guess.right()
            raise
        await guess.right()
        room = await actor.quiet()
        return self._knocked(room, agent, settled.decision.answer)

    @handles("link.withdraw")
    async def withdraw(self, caller: Caller, params: t.WithdrawAtRoom) -> t.Noted:
        agent = require_attached(self._desk, caller, params.agent)
        actor = await room_within(self._desk, caller, params.room)
        if not eyes(self._desk, caller, await actor.quiet()).has(agent):
            raise Refused("no_such_room")
        by, request = stamp(caller, agent), RequestId(params.request)
        await self._desk.quotas.take(agent, bytes=0, person=by.principal)
        await actor.submit(c.WithdrawKnock(operation="link.withdraw", request=request), by)
        await self._desk.codes.forget(request)
        return t.Noted()

    @handles("link.sealing_key")
    async def sealing_key(self, caller: Caller, params: t.SealingKeyAtRoom) -> t.Noted:
        desk = self._desk
        agent = require_attached(desk, caller, check(params.statement, SealingKey).agent)
        actor = await room_within(desk, caller, params.room)
        if not eyes(desk, caller, await actor.quiet()).has(agent):
            raise Refused("no_such_room")
        by = stamp(caller, agent)
        command, words = self._admission.sealing_key(by, Attested(params.statement, params.signature))
        await desk.quotas.take(agent, bytes=len(params.statement), person=by.principal)
        await actor.submit(command, by, words)
        return t.Noted()

    def _knocked(self, room: Room, agent: AgentId, answer: str) -> t.Knocked:
        """What the room said to a knock, as it stands now: it may have been decided on in the same moment."""
        member, request = room.state.members.get(agent), standing_request(room.state.requests, agent)
        if member is not None and member.present:
            return t.Knocked(status="joined" if answer == "joined" else "member", handle=member.handle)
        if request is not None and request.state in UNDECIDED:
            # It is over already, which the agent's home is told as well.
            return t.Knocked(status="pending", request=request.id)
        if request is None or request.state != "pending":
            # Also without a request of its own: a denial covers the person's other agents.
            return t.Knocked(status="denied", request="" if request is None else request.id)
        if request.exchange is not None:
            owner = room.state.owner
            heard = self._desk.links.has_person(room.state.owner_principal)
            since = self._desk.clock.now() if heard else self._desk.presence.of(owner)[1]
            return t.Knocked(status="pending", request=request.id, heard_at=max(0, since))
        return t.Knocked(status="pending", request=request.id, join_code=self._desk.keys.join_code(request.id))

    @handles("link.exchange")
    async def exchange(self, caller: Caller, params: t.ExchangeStep) -> t.ExchangeNoted:
        desk = self._desk
        if params.step in JOINER_STEPS:
            agent = require_attached(desk, caller, params.agent)
            actor = await room_within(desk, caller, params.room)
            if not eyes(desk, caller, await actor.quiet()).has(agent):
                raise Refused("no_such_room")
            by, principal = stamp(caller, agent), None
        else:
            actor, _ = await owned_within(desk, caller, params.room)
            by = stamp(caller, NOBODY)
            principal = by.principal
        if params.text:
            await desk.quotas.take(
                by.actor or (await actor.quiet()).state.owner, bytes=len(params.text), person=by.principal
            )
        command = c.ExchangeKey(
            operation="link.exchange",
            request=RequestId(params.request),
            step=params.step,
            text=params.text,
            principal=principal,
        )
        await actor.submit(command, by)
        request = _request(await actor.quiet(), params.request)
        is_here = desk.links.has_agent(request.agent, desk.clock.now())
        newest: Step = "begun" if request.exchange is None else request.exchange.newest
        return t.ExchangeNoted(is_here=is_here, step=newest)

    async def _key(self, caller: Caller, typed: str) -> tuple[KeyId, Room, Guess]:
        """A key that is good for this link, its room, and what is to be told once the key was right; also one that is
        not good any more, for a link with an agent that is in that room or knocked with the key. Raises
        `Refused(unknown_key)` for every other text alike."""
        desk = self._desk
        try:
            key_id = desk.keys.key_id(typed)
        except Refused:
            await desk.throttle.before(caller)
            raise self._unknown(caller) from None
        name = await desk.library.room_of_key(key_id)
        room = None if name is None else await (await desk.rooms.get(name)).quiet()
        guess = NO_GUESS
        if room is None or not self._has_used(caller, room, key_id):
            guess = await desk.throttle.before(caller)
            if room is None or not self._is_good(caller, room, key_id):
                raise self._unknown(caller)
        return key_id, room, guess

    async def _direct(self, caller: Caller, name: RoomId, agent: AgentId) -> tuple[KeyId, Room]:
        """The direct room of this id, and its key, for an agent that the key's terms name. Raises
        `Refused(unknown_key)` for every other room alike."""
        desk = self._desk
        if not self._is_of_pair(name, agent):
            # Another process, which shares the store, may have stored a moment ago that it is.
            await desk.rooms.home.take_in()
        if self._is_of_pair(name, agent):
            # The pairs say so, so nobody has rooms opened by naming them.
            room = await (await desk.rooms.get(name)).quiet()
            for key in room.state.keys.values():
                if agent in key.preapproved:
                    return key.id, room
        await desk.throttle.before(caller)
        raise self._unknown(caller)

    def _is_of_pair(self, room: RoomId, agent: AgentId) -> bool:
        return room in self._desk.rooms.home.aggregate.pairs.rooms_of(agent).values()

    def _is_good(self, caller: Caller, room: Room, key_id: KeyId) -> bool:
        """Whether a key opens anything to this link's person. One that is used up goes on for whoever came by it, so
        that they may leave and come again; which of the person's agents that is, the room itself says at the knock."""
        key = room.state.keys[key_id]
        state = key.state(self._desk.clock.now())
        principal = caller.facts.authority.principal
        return state == "live" or (
            state == "used_up" and any(came_under(room, agent, principal) for agent in key.users)
        )

    def _has_used(self, caller: Caller, room: Room, key_id: KeyId) -> bool:
        """Whether one of the link's agents is in the room, or knocked with this very key: it is no guesser."""
        looking = eyes(self._desk, caller, room)
        if looking.members or looking.waiting:
            return True
        requests = room.state.requests
        asked = [standing_request(requests, agent) for agent in looking.knocking]
        return any(request is not None and request.key_id == key_id for request in asked)

    def _unknown(self, caller: Caller) -> Refused:
        self._desk.throttle.wrong(caller)
        return Refused("unknown_key")

    # -- deciding --------------------------------------------------------------------------------------------

    @handles("link.check_code")
    async def check_code(self, caller: Caller, params: t.CheckCode) -> t.Noted:
        actor, room = await owned_within(self._desk, caller, params.room)
        request = _request(room, params.request)
        await actor.check_code(request, params.join_code, params.door)
        return t.Noted()

    @handles("link.decide")
    async def decide(self, caller: Caller, params: t.DecideAtRoom) -> t.DecidedAtRoom:
        statement = check(params.statement, DecisionStatement)
        actor, room = await owned_within(self._desk, caller, params.room)
        agent = NOBODY
        if statement.proof == "none":
            # The owner decides for the person, in a room that lets it.
            agent = require_attached(self._desk, caller, room.state.owner)
        by = stamp(caller, agent)
        epoch = await told_epoch(self._desk, self._admission, caller, params.epoch)
        knock = Attested(params.knock, params.knock_signature) if params.knock else None
        command, words = self._admission.decide(
            by, Attested(params.statement, params.signature), epoch, knock, params.granted
        )
        request = _request(room, statement.request)
        if params.join_code is not None:
            await actor.check_code(request, params.join_code, params.door)
        await actor.submit(command, by, words)
        keep_epoch(self._desk, by.principal, epoch)
        await self._desk.codes.forget(request.id)
        room = await actor.quiet()
        return t.DecidedAtRoom(
            agent=request.agent,
            handle=handle_of(room.state, request.agent) if statement.admit else "",
            status="approved" if statement.admit else "denied",
        )

    @handles("link.mint")
    async def mint(self, caller: Caller, params: t.MintAtRoom) -> t.Noted:
        actor, room = await owned_within(self._desk, caller, params.room)
        by = stamp(caller, NOBODY)
        await self._desk.quotas.take(room.state.owner, bytes=len(params.terms), person=by.principal)
        key_id = await new_key(
            self._desk, caller, params.session_key, params.terms, actor.room, is_sealed=room.state.is_sealed
        )
        command, words = self._admission.mint(by, Attested(params.terms, params.terms_signature), mint=key_id)
        await actor.submit(command, by, words)
        return t.Noted()

    @handles("link.kick")
    async def kick(self, caller: Caller, params: t.KickFromRoom) -> t.Noted:
        actor, _ = await owned_within(self._desk, caller, params.room)
        by = stamp(caller, NOBODY)
        epoch = await told_epoch(self._desk, self._admission, caller, params.epoch)
        command, words = self._admission.kick(by, AgentId(params.agent), epoch)
        await actor.submit(command, by, words)
        keep_epoch(self._desk, by.principal, epoch)
        return t.Noted()

    @handles("link.role")
    async def give_role(self, caller: Caller, params: t.RoleInRoom) -> t.Noted:
        actor, _ = await owned_within(self._desk, caller, params.room)
        by = stamp(caller, NOBODY)
        command = c.GiveRole(
            operation="room.role", agent=params.agent, role=params.role, locks=params.lock, principal=by.principal
        )
        await actor.submit(command, by)
        return t.Noted()

    @handles("link.transfer")
    async def transfer(self, caller: Caller, params: t.TransferRoomThere) -> t.Noted:
        desk = self._desk
        taken = check(params.statement, Transfer).taken
        if taken:
            actor = await room_within(desk, caller, params.room)
            room = await actor.quiet()
            looking = eyes(desk, caller, room)
            if not looking.members:
                raise Refused("no_such_room")
            by = stamp(caller, looking.members[0])
        else:
            actor, room = await owned_within(desk, caller, params.room)
            by = stamp(caller, NOBODY)
        command, words = self._admission.transfer(by, Attested(params.statement, params.signature))
        command = msgspec.structs.replace(
            command,
            is_owner_here=desk.links.has_person(room.state.owner_principal),
            away_ms=Millis(desk.settings.relay_takeover_days * 86_400_000),
        )
        await actor.submit(command, by, words)
        return t.Noted()

    @handles("link.revoke")
    async def revoke(self, caller: Caller, params: t.RevokeKeyOfRoom) -> t.Noted:
        actor, room = await owned_within(self._desk, caller, params.room)
        key = next((key for key in room.state.keys.values() if key.ref == params.ref), None)
        if key is None:
            raise Refused("unknown_key")
        by = stamp(caller, NOBODY)
        await actor.submit(c.RevokeKey(operation="session.revoke", revoke=key.id, principal=by.principal), by)
        return t.Noted()


def _request(room: Room, id: str) -> Request:
    request = room.state.requests.get(RequestId(id))
    if request is None:
        raise Refused("no_such_request")
    return request


def _role(text: str) -> str:
    """A role that a newcomer asks for. Raises `Refused(invalid_name)` for one that is none."""
    return role_name(text) if text else ""
