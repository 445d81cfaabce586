"""Agents that a home speaks for, because they have a token and no key: how they come in, what signs for them, and what
ends with them; the handlers of `link.grant`, `link.grant_many` and `link.ungrant`.

    a person elsewhere: link.grant --> the grant is checked --> AdmitGranted --> a member T... --> its token holds here
    a person elsewhere: link.grant_many --> a token that joins, with the grant
    HTTP: POST joins               --> AdmitGranted, as often as the grant says --> a member T... --> its own token
    HTTP: POST rooms               --> a room of the person's, within a grant that is for it (`opening`)
    HTTP: POST messages            --> the handlers of every agent           --> HomeAuthor: signed by the home itself
    the member left, or was put out --> its token is revoked, its calls end

A relay has such agents, and a person's own home has none: there every agent has a key. The relay's key signs for an
agent of this kind under a tag of its own (`parler/admitted`) and for nobody else, and it signs nothing else that an
agent would: no knock, no card, no message that is shown later (`needs_key`).

Not here: what follows from a grant (`core.grants`), tokens (`bearers`), how a person asks for one (`granted`). Above:
the engine, and `joins`, by which agents come of a grant that counts them. Below: the rooms' own lines, the home room.
Invariants: nobody is let in but by a grant of the person of the link that brought it; a grant makes an agent of one
name once, so what was ended does not come back by showing it again; once a token that joins is ended, nobody is left in
the room that came with it, and nobody comes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import require_grantable, standing_request
from parlerd.core.envelope import encode_envelope
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.grants import agent_of, digest_of, given, joiner_of
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, By, Label, Millis, PrincipalId, RoomId, agent_name, is_granted_id
from parlerd.core.room import Room
from parlerd.core.statements import ByGrant, Grant, Opening, Statement, Title, check, encode
from parlerd.core.tokens import Join, Token
from parlerd.engine.authors import Attested, Draft, LocalAuthor, Place, SignedEnvelope, Stated, composed
from parlerd.engine.bearers import Bearers
from parlerd.engine.callers import Caller
from parlerd.engine.deciding import home_itself
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.places import NAMED
from parlerd.engine.ports import NoSigners, Randomness
from parlerd.engine.reachable import NOBODY, owned_within, require_attached, stamp
from parlerd.engine.reading import handle_of
from parlerd.identity.proofs import signed
from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT

log = logging.getLogger(__name__)

_OVER: Final = frozenset({"no_such_room", "room_deleted", "room_closed", "token_invalid", "relay_equivocation"})
"""Why somebody cannot leave who does nothing in that room any more."""
MAX_OF_PERSON: Final = 64
"""Tokens of one person's agents that hold at a relay at a time."""
JOINS: Final = Label("joins")
"""What a grant that counts is called among the home's agents."""
_NAME_IN_HOME: Final = 40
"""Characters of an agent's name that its name among the home's agents begins with."""


class Voice(Protocol):
    """What a home has that speaks for agents without a key."""

    def admit(self, body: bytes) -> bytes:
        """The home's own signature over an envelope, under `parler/admitted`."""
        ...

    def admit_room(self, body: bytes) -> bytes:
        """The home's own signature over the opening of a room, under `parler/opened`."""
        ...

    @property
    def address(self) -> str:
        """Where it answers over HTTP, a host with its port; empty where it does not now."""
        ...

    @property
    def authority(self) -> str:
        """The certificate that clients trust to find it there, as PEM; empty where there is none."""
        ...


class HomeAuthor(LocalAuthor):
    """Composes for agents that have no key, and signs with the home's own. `stored` is told how many bytes a person's
    agent added."""

    def __init__(self, voice: Voice, random: Randomness, stored: Callable[[PrincipalId, int], None]) -> None:
        super().__init__(NoSigners(), random)
        self._voice = voice
        self._drawn = random
        self._stored = stored

    def sign(self, words: Draft, posted: e.MessagePosted, place: Place) -> SignedEnvelope:
        if not is_granted_id(place.by.actor):
            raise Refused("no_such_agent", "This home has no key for that agent.", agent=place.by.actor)
        body = encode_envelope(composed(words, posted, place, self._drawn.bytes(16)))
        self._stored(place.by.principal, len(body))
        return SignedEnvelope(body, self._voice.admit(body), "home")

    def attest(self, statement: Statement, by: object) -> Attested:
        raise Refused("needs_key")

    def gate(self, author: AgentId, body: bytes) -> bytes:
        raise Refused("needs_key")


class Granting:
    """The handlers of `link.grant`, `link.grant_many` and `link.ungrant`, and what begins and ends with an agent that
    has no key."""

    def __init__(self, desk: Desk, bearers: Bearers, voice: Voice | None) -> None:
        self._desk = desk
        self._bearers = bearers
        self._voice = voice
        self._by = home_itself(desk.keys.id)
        self._one = trio.Lock()
        """One grant is taken or ended at a time: that a token is not there yet, and to keep it, lie a commit apart."""

    @handles("link.grant")
    async def grant(self, caller: Caller, params: t.GrantAtRoom) -> t.GrantedAtRoom:
        desk, voice = self._desk, self._voice
        if voice is None:
            raise Refused("unknown_operation", operation="link.grant")
        principal = caller.facts.authority.principal
        actor, room = await owned_within(desk, caller, params.room)
        # By the person of this link: every member is shown the grants of others.
        grant = signed(Grant, params.grant, params.grant_signature, principal)
        if grant.approval:
            # Whose name the person signs, they decided about.
            raise Refused("statement_refused", what="approval")
        if grant.opens is not msgspec.UNSET:
            # Nobody makes an agent of another person the owner of a room, and so a member that never asked.
            require_attached(desk, caller, grant.opens.owner)
        name, gives = agent_name(params.name), given(params.grant, grant, params.name)
        agent = agent_of(gives.grant, name)
        command = c.AdmitGranted(
            operation="link.grant",
            agent=agent,
            name=name,
            grant=grant,
            gives=gives,
            principal=principal,
        )
        async with self._one:
            known = next((token for token in self._held() if token.agent == agent), None)
            if known is not None and known.digest != params.token:
                # It is another text than the one that was told, or that one was taken in another's place.
                raise Refused("statement_refused", what="used")
            if known is None:
                self._require_space(principal)
                await desk.quotas.take(room.state.owner, bytes=len(params.grant), person=principal)
            by, words = stamp(caller, NOBODY), Stated({Grant: Attested(params.grant, params.grant_signature)})
            with trio.CancelScope(shield=True):
                await actor.submit(command, by, words)
                await self._keep(agent, name, principal)
                if known is None:
                    await self._mint(agent, params, grant)
        state = (await actor.quiet()).state
        return t.GrantedAtRoom(
            agent=agent, handle=handle_of(state, agent), address=voice.address, authority=voice.authority
        )

    @handles("link.grant_many")
    async def grant_many(self, caller: Caller, params: t.GrantManyAtRoom) -> t.GrantedAtRoom:
        desk, voice = self._desk, self._voice
        if voice is None:
            raise Refused("unknown_operation", operation="link.grant_many")
        principal = caller.facts.authority.principal
        _, room = await owned_within(desk, caller, params.room)
        grant = signed(Grant, params.grant, params.grant_signature, principal)
        if not grant.count:
            raise Refused("statement_refused", what="count")
        joiner = joiner_of(digest_of(params.grant))
        require_grantable(room.state.lifecycle, grant, Millis(max(desk.clock.now(), room.last_at)))
        async with self._one:
            known = next((token for token in self._held() if token.agent == joiner), None)
            if known is not None and known.digest != params.token:
                raise Refused("statement_refused", what="used")
            if known is None:
                if joiner in desk.rooms.home.aggregate.state.agents:
                    # It was ended, and to show it again undoes nothing.
                    raise Refused("statement_refused", what="used")
                self._require_space(principal)
                await desk.quotas.take(room.state.owner, bytes=len(params.grant), person=principal)
                with trio.CancelScope(shield=True):
                    await self._keep(joiner, JOINS, principal)
                    await self._mint(joiner, params, grant)
        return t.GrantedAtRoom(agent=joiner, handle="", address=voice.address, authority=voice.authority)

    @handles("link.ungrant")
    async def ungrant(self, caller: Caller, params: t.UngrantAtRoom) -> t.Noted:
        agent, principal, room = AgentId(params.agent), caller.facts.authority.principal, RoomId(params.room)
        async with self._one:
            # Of another person's agent nothing is said, as of one that is not there.
            if self.person_of(agent) == principal:
                with trio.CancelScope(shield=True):
                    for each in await self._came_by(agent, room):
                        await self._leave(each, principal, room)
                        await self._end(room, each)
                    # Its token may be of rooms that it opened, in which it is as well.
                    await self._end(None, agent)
                    stands = [standing.room for standing in await self._desk.library.memberships(agent)]
                    # Of a room that another process has that one is asked.
                    here = [one for one in stands if self._desk.rooms.has(one)]
                    for one in dict.fromkeys((room, *here)):
                        await self._leave(agent, principal, one)
        return t.Noted()

    # -- who opens rooms with a token --------------------------------------------------------------------------

    def opens_with(self, token: str) -> tuple[Grant, ByGrant]:
        """The grant within which rooms are opened with a token, and how their openings bear it. Raises
        `Refused(token_invalid)`."""
        held = self._desk.rooms.home.aggregate.tokens.holding(token, self._desk.clock.now())
        if held is None:
            raise Refused("token_invalid")
        return check(held.grant, Grant), ByGrant(grant=held.grant, signature=held.grant_signature)

    def opened(self, opening: Opening, title: Title, signed: ByGrant) -> Stated:
        """What belongs to the facts of a room that an agent without a key opens: the home signs its opening."""
        assert self._voice is not None
        body = encode(opening)
        return Stated(
            {Opening: Attested(body, self._voice.admit_room(body)), Grant: Attested(signed.grant, signed.signature)},
            encode(title),
        )

    # -- who comes with a token that joins ---------------------------------------------------------------------

    async def create(self, token: Token, name: Label, room: Room) -> AgentRecord:
        """The agent of this name that comes by the grant of a token, where the room would let it in or ask about it.
        Raises `Refused`: `agent_exists`, `too_many_tokens`, and as the room refuses."""
        desk, command = self._desk, self._admission(token, name, "")
        if command.agent in room.state.members:
            # A grant makes an agent of one name once, also where that one is gone.
            raise Refused("agent_exists", agent=name)
        self._require_space(command.principal)
        # Before it is kept: whoever has the token could have any number of names kept.
        now = Millis(max(desk.clock.now(), room.last_at))
        room.decide(command, by=_by(command.principal), now=now, ids=desk.random)
        await self._keep(command.agent, name, command.principal)
        return desk.rooms.home.aggregate.state.agents[command.agent]

    async def come_in(self, handle: RoomHandle, token: Token, join: Join) -> str:
        """What the room says to an agent that comes by the grant of a token: `joined` or `member`; `pending` or
        `denied` where the person decides about each. Raises `Refused`: `token_invalid` where the token holds no more,
        and as the room refuses."""
        desk, command = self._desk, self._admission(token, Label(join.name), join.role)
        words = Stated({Grant: Attested(token.grant, token.grant_signature)})
        async with self._one:
            if desk.rooms.home.aggregate.tokens.holding(token.id, desk.clock.now()) is None:
                raise Refused("token_invalid")
            state = handle.aggregate.state
            if join.agent not in state.members and standing_request(state.requests, join.agent) is None:
                await desk.quotas.take(state.owner, bytes=len(token.grant), person=command.principal)
            return (await handle.submit(command, _by(command.principal), words)).decision.answer

    def _admission(self, token: Token, name: Label, role: str) -> c.AdmitGranted:
        """What lets the agent of this name in by the grant of a token."""
        principal = self._desk.rooms.home.aggregate.state.agents[token.agent].principal
        grant = signed(Grant, token.grant, token.grant_signature, principal)
        return c.AdmitGranted(
            operation="join.begin",
            agent=agent_of(digest_of(token.grant), name),
            name=name,
            role=role,
            grant=grant,
            gives=given(token.grant, grant, name),
            principal=principal,
        )

    async def _came_by(self, joiner: AgentId, room: RoomId) -> list[AgentId]:
        """Who is in a room that came with the token that joins of this id."""
        try:
            members = (await (await self._desk.rooms.get(room)).quiet()).state.members
        except Refused:
            return []
        gave = [member for member in members.values() if member.given is not None and member.present]
        return [member.agent for member in gave if member.given and joiner_of(member.given.grant) == joiner]

    async def _leave(self, agent: AgentId, principal: PrincipalId, room: RoomId) -> None:
        """Let an agent leave a room, as its person wants. Where that cannot be a fact any more, its token ends all the
        same."""
        by = By(actor=agent, principal=principal, session="home", host="", via="link")
        try:
            await (await self._desk.rooms.get(room)).submit(c.Leave(operation="room.leave"), by)
        except Refused as error:
            if error.code not in _OVER:
                raise

    def person_of(self, agent: AgentId) -> PrincipalId | None:
        """Whose an agent is that has no key; None for any other."""
        record = self._desk.rooms.home.aggregate.state.agents.get(agent) if is_granted_id(agent) else None
        return None if record is None else record.principal

    def require_kept(self, caller: Caller) -> None:
        """Refuse an agent without a key whose person keeps as much here as one may."""
        authority = caller.facts.authority
        has_no_key = authority.agent is not None and is_granted_id(authority.agent)
        if has_no_key and self._desk.kept.is_over(authority.principal, 0):
            raise self._desk.kept.refusal()

    def _held(self) -> list[Token]:
        now = self._desk.clock.now()
        return [token for token in self._desk.rooms.home.aggregate.tokens.all() if now < token.expires_at]

    def _require_space(self, principal: PrincipalId) -> None:
        """Refuse one token more than a person's agents may have here."""
        agents = self._desk.rooms.home.aggregate.state.agents
        held = sum(token.agent in agents and agents[token.agent].principal == principal for token in self._held())
        if held >= MAX_OF_PERSON:
            raise Refused("too_many_tokens", limit=MAX_OF_PERSON)

    async def _keep(self, agent: AgentId, name: Label, principal: PrincipalId) -> None:
        """Know the agent as one that acts here."""
        home = self._desk.rooms.home
        if agent in home.aggregate.state.agents:
            return
        # Names are unique in a home, and of two people's agents with one name neither learns that of the other.
        own = f"{name[:_NAME_IN_HOME]}.{agent[1:13].lower()}"
        await home.submit(c.CreateAgent(agent=agent, principal=principal, name=own, slot=NAMED), self._by)

    async def _mint(self, agent: AgentId, params: t.GrantAtRoom | t.GrantManyAtRoom, grant: Grant) -> None:
        """The token of an agent or, of a grant that counts, the one with which its agents come in."""
        mint = c.MintToken(
            operation="link.grant",
            digest=params.token,
            agent=agent,
            room=RoomId(params.room),
            access=grant.scopes,
            wall=self._desk.clock.now(),
            expires_at=grant.not_after,
            label=params.label,
            authority="grant",
            contract=CONTRACT,
        )
        if isinstance(params, t.GrantManyAtRoom):
            mint = msgspec.structs.replace(mint, kind="aj", uses=grant.count, admits=not grant.approval)
        elif grant.opens is not msgspec.UNSET:
            mint = msgspec.structs.replace(mint, kind="ah", rooms=(mint.room,), opens=grant.opens.rooms)
        if mint.kind != "as":
            mint = msgspec.structs.replace(mint, grant=params.grant, grant_signature=params.grant_signature)
        await self._desk.rooms.home.submit(mint, self._by)

    # -- what ends -----------------------------------------------------------------------------------------

    async def run(self, gone: trio.MemoryReceiveChannel[tuple[RoomId, AgentId]]) -> None:
        """Revoke the tokens of agents that are in their rooms no longer, and end what is under way with them."""
        async for room, agent in gone:
            try:
                await self._end(room, agent)
            except ParlerError as error:
                # The agent is in no room, so there is nothing that its token opens.
                log.warning("a token of somebody who left could not be revoked: %s", error.code)

    async def _end(self, room: RoomId | None, agent: AgentId) -> None:
        """Revoke what an agent has for a room, or with None for all of them, and end what is under way."""
        home = self._desk.rooms.home
        held = [each for each in home.aggregate.tokens.all() if each.agent == agent]
        mine = [each.id for each in held if room is None or each.room == room]
        ended = [each for token in mine for each in home.aggregate.tokens.tree(token)]
        await self._bearers.end(ended)
        for token in mine:
            # Another token may have taken its place, or it was revoked with the one that it was made of.
            if token in home.aggregate.tokens.state.tokens:
                try:
                    await home.submit(c.RevokeToken(operation="token.revoke", token=token, authority="home"), self._by)
                except Refused as error:
                    # Another relay that had a room of this agent was a moment faster.
                    if error.code != "no_such_token":
                        raise


def _by(principal: PrincipalId) -> By:
    """The stamp on what a person signed and a program shows over HTTP."""
    return By(actor=NOBODY, principal=principal, session="http", host="", via="http")


class Gone:
    """Who left, of the agents without a key, from where facts are told to where something is done about it."""

    def __init__(self) -> None:
        self._told, self.heard = trio.open_memory_channel[tuple[RoomId, AgentId]](float("inf"))

    def close(self) -> None:
        """Nobody is told of any more."""
        self._told.close()

    def note(self, room: RoomId, facts: Sequence[e.Header]) -> None:
        """Look at facts that are stored."""
        for fact in facts:
            if isinstance(fact.event, e.MemberLeft) and is_granted_id(fact.event.agent):
                self._told.send_nowait((room, fact.event.agent))
