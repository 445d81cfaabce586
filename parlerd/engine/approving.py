"""Who knocks, and what a person decides about it: the handlers of `rooms.requests`, `approvals.list`, `session.approve`
and `session.deny`, and decisions made in an agent host's form.

Not here: what a knock is (`joining`), counting wrong codes (`join_codes`). Above: the engine, and `streams` for the
list that is watched. Below: the room's own line, where a request is decided. Invariant: a decision is recorded with
the proof that was given for it, and never with a stronger one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from parlerd.core import commands as c
from parlerd.core.approvals import Request, find_request
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import PROOF_ORDER, By, PeerText, Proof, RoomId
from parlerd.core.pairs import Ask
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle, SpentKey
from parlerd.engine.handling import handles
from parlerd.engine.key_text import SHORT_ID
from parlerd.engine.lookup import owned_rooms
from parlerd.engine.pair_rooms import PairRooms
from parlerd.engine.person import is_person, require_person
from parlerd.engine.reading import handle_of, silence_of
from parlerd.identity import codes
from parlerd.operations import types as t


@dataclass(frozen=True, slots=True)
class _Asked:
    """Somebody asked to write to an agent of this home, and the room of the two."""

    ask: Ask
    handle: RoomHandle


class Approving:
    """The handlers about requests to come in, and about direct messages to agents that want their person to be
    asked."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._pairs = PairRooms(desk)

    @handles("session.requests", "rooms.requests")
    async def requests(self, caller: Caller, params: t.SessionRequests) -> t.RequestList:
        me = await self._desk.me(caller)
        asks = await self._asks(caller, me, params.room)
        rooms = await self._rooms(caller, me, params.room, asks)
        found, notice = await self._requests_of(rooms)
        found = sorted([*found, *map(self._shown, asks)], key=_by_age)
        room = rooms[0] if params.room is not None and rooms else None
        return t.RequestList(room=room, requests=found, notice=notice)

    @handles("approvals.list")
    async def approvals(self, caller: Caller, params: t.Params) -> t.RequestList:
        me = await self._desk.me(caller)
        rooms = await owned_rooms(self._desk, me, None, person=is_person(caller))
        found, notice = await self._requests_of(rooms)
        asks = await self._asks(caller, me, None)
        return t.RequestList(room=None, requests=sorted([*found, *map(self._shown, asks)], key=_by_age), notice=notice)

    async def _requests_of(self, rooms: list[RoomId]) -> tuple[list[t.RequestInfo], str]:
        """Who knocks at these rooms, and what is said of homes that were not heard from. Waits for none of them."""
        found: list[t.RequestInfo] = []
        silent: dict[str, None] = {}
        for name in rooms:
            handle = await self._desk.rooms.get(name)
            room = await handle.quiet()
            if not room.state.closed:
                found += [request_shown(handle, request) for request in room.pending()]
                silent |= dict.fromkeys(map(partial(_spent, room), handle.spent_keys()))
                if room.state.alarm is None:
                    handle.begin_to_catch_up()
                    now = self._desk.clock.now()
                    silent[silence_of(handle, now, "newer requests there may be missing here.")] = None
        return found, " ".join(filter(None, silent))

    async def _rooms(self, caller: Caller, me: AgentRecord, room: str | None, asks: list[_Asked]) -> list[RoomId]:
        """The rooms whose requests are meant beside these of others who asked to write: none where a room is named
        that is the room of one of those."""
        if room is not None and asks:
            return []
        return await owned_rooms(self._desk, me, room, person=is_person(caller))

    async def _asks(
        self, caller: Caller, me: AgentRecord, room: str | None, who: str | None = None, *, denied: bool = False
    ) -> list[_Asked]:
        """Who asked to write to the caller, or as the person to any of their agents, and was not answered; with
        `denied` also who was refused. Where a room or somebody is named, those that are meant."""
        found = []
        for ask in self._desk.rooms.home.aggregate.pairs.asks():
            is_asked = ask.agent == me.id or is_person(caller)
            is_open = ask.state == "pending" or (denied and ask.state == "denied")
            if not is_asked or not is_open or who not in (None, ask.request, ask.asker, ask.name):
                continue
            handle = await self._pairs.room_of(ask)
            if handle is not None and room in (None, handle.room, handle.aggregate.state.name):
                found.append(_Asked(ask, handle))
        return found

    def _shown(self, asked: _Asked) -> t.RequestInfo:
        ask, state = asked.ask, asked.handle.aggregate.state
        return t.RequestInfo(
            id=ask.request,
            room=state.room,
            room_name=state.name,
            agent=ask.asker,
            name=ask.name,
            host=ask.host,
            requested=ask.at,
            fingerprint=codes.fingerprint(ask.asker),
            home=asked.handle.home_name,
            direct_to=self._desk.rooms.home.aggregate.state.agents[ask.agent].name,
        )

    @handles("session.approve")
    async def approve(self, caller: Caller, params: t.DecideJoin) -> t.Decided:
        return await self._decide_as_person(caller, params, admit=True)

    @handles("session.deny")
    async def deny(self, caller: Caller, params: t.DecideJoin) -> t.Decided:
        return await self._decide_as_person(caller, params, admit=False)

    async def _decide_as_person(self, caller: Caller, params: t.DecideJoin, *, admit: bool) -> t.Decided:
        me = await self._desk.me(caller)
        # What is typed in an editor's terminal may come from the editor's agent. It counts for a refusal, which lets
        # nobody in, and with a code, which that agent was never told.
        peer = require_person(
            self._desk,
            caller,
            in_editor=not admit or params.join_code is not None,
            instead="Give the code that the newcomer shows (--code), or run it in a terminal outside the editor.",
        )
        asks = await self._asks(caller, me, params.room, params.agent, denied=True)
        rooms = await self._rooms(caller, me, params.room, asks)
        found = await self._find(rooms, params.agent, asks)
        door = "terminal" if peer.terminal else "cli"
        proof: Proof = "cli"
        if params.join_code is not None and admit:
            proof = "terminal" if params.terminal and peer.terminal else "cli"
        if caller.facts.authority.proof_ceiling == "form":
            # A page in a browser: its form asks for the code.
            door = proof = "form"
            if admit and params.join_code is None:
                raise Refused("form_undecided")
        if isinstance(found, _Asked):
            if params.join_code is not None and admit:
                await self._check(found, params.join_code, door=door)
            return await self._decide_ask(caller, me, found, proof, admit=admit)
        actor, request = found
        if params.join_code is not None and admit:
            await actor.check_code(request, params.join_code, door=door)
        proof = caller.facts.authority.at_most(proof)
        require_proof(self._desk, proof, admit=admit)
        return await self.decide(self._desk.by(caller, me), actor, request, admit=admit, proof=proof)

    @handles("window.decide")
    async def decide_by_form(self, caller: Caller, params: t.DecideByForm) -> t.Decided:
        """A decision made in an agent host's form: it counts only with the joiner's code, which that host's agent
        never saw.

        In a room whose person chose the policy `agent`, its owner decides without one.
        """
        me = await self._desk.me(caller)
        found = await self._meant(caller, me, params.room, params.agent)
        if isinstance(found, _Asked):
            if params.join_code is None:
                raise Refused("form_undecided")
            await self._check(found, params.join_code, door="form")
            return await self._decide_ask(caller, me, found, "form", admit=params.admit)
        actor, request = found
        proof: Proof = "none"
        if params.join_code is not None:
            await actor.check_code(request, params.join_code, door="form")
            proof = caller.facts.authority.at_most("form")
        elif (await actor.quiet()).state.approver != "agent":
            raise Refused("form_undecided")
        if proof != "none":
            require_proof(self._desk, proof, admit=params.admit)
        return await self.decide(self._desk.by(caller, me), actor, request, admit=params.admit, proof=proof)

    async def _check(self, asked: _Asked, typed: str, *, door: str) -> None:
        """Raise what a wrong code raises."""
        code = await self._pairs.code_of(asked.handle)
        await self._desk.codes.check(asked.ask.request, typed, door=door, code=code)

    async def _decide_ask(
        self, caller: Caller, me: AgentRecord, asked: _Asked, given: Proof, *, admit: bool
    ) -> t.Decided:
        proof = caller.facts.authority.at_most(given)
        require_proof(self._desk, proof, admit=admit)
        ask = asked.ask
        command = c.DecideDirect(
            operation="session.approve" if admit else "session.deny", request=ask.request, admit=admit, proof=proof
        )
        by = self._desk.by(caller, me)
        await self._desk.rooms.home.submit(command, by)
        await self._desk.codes.forget(ask.request)
        if admit:
            await self._pairs.admit(ask, by, asked.handle)
        return t.Decided(
            room=asked.handle.room,
            agent=ask.asker,
            status="approved" if admit else "denied",
            proof=proof,
            name=ask.name,
            room_name=asked.handle.aggregate.state.name,
            direct_to=self._desk.rooms.home.aggregate.state.agents[ask.agent].name,
        )

    async def decide(
        self, by: By, actor: RoomHandle, request: Request, *, admit: bool, proof: Proof, operation: str = ""
    ) -> t.Decided:
        """Record what `by`'s person decided about a request, with the proof that was given for it. `operation` is the
        one by which they did, where that is not the deciding itself."""
        command = c.DecideRequest(
            operation=operation or ("session.approve" if admit else "session.deny"),
            request=request.id,
            admit=admit,
            proof=proof,
            principal=by.principal,
        )
        await actor.submit(command, by)
        await self._desk.codes.forget(request.id)
        if admit and request.agent in self._desk.rooms.home.aggregate.state.agents:
            # The newcomer asked to come in, so the session becomes its active one without another word of its own. If
            # the daemon dies before this commit, the newcomer is told to join once more. An agent of another home is
            # that home's to seat.
            await self._desk.rooms.home.submit(c.Activate(agent=request.agent, room=actor.room), by)
        room = await actor.quiet()
        return t.Decided(
            room=actor.room,
            agent=request.agent,
            status="approved" if admit else "denied",
            proof=proof,
            name=handle_of(room.state, request.agent) if admit else request.name,
            room_name=room.state.name,
        )

    @handles("window.find_request")
    async def find(self, caller: Caller, params: t.FindRequest) -> t.FoundRequest:
        """The one request a form would be about, and whether the room's policy lets its owner decide without a person.

        Raises as deciding would.
        """
        me = await self._desk.me(caller)
        found = await self._meant(caller, me, params.room, params.agent)
        if isinstance(found, _Asked):
            return t.FoundRequest(request=self._shown(found), owner_decides=False)
        actor, request = found
        room = await actor.quiet()
        return t.FoundRequest(request=request_shown(actor, request), owner_decides=room.state.approver == "agent")

    async def _meant(
        self, caller: Caller, me: AgentRecord, room: str | None, who: str
    ) -> tuple[RoomHandle, Request] | _Asked:
        """The knock that is meant at a room of this agent, or whoever asked to write to it. Who was refused is let
        through by the person alone, and not in a form."""
        asks = await self._asks(caller, me, room, who)
        rooms = [] if room is not None and asks else await owned_rooms(self._desk, me, room, person=False)
        return await self._find(rooms, who, asks)

    async def _find(self, rooms: list[RoomId], who: str, asks: list[_Asked]) -> tuple[RoomHandle, Request] | _Asked:
        """The knock that is meant, across rooms, or whoever of these asked: what waits before what was decided on."""
        found: list[tuple[RoomHandle, Request]] = []
        for name in rooms:
            actor = await self._desk.rooms.get(name)
            try:
                found.append((actor, find_request((await actor.quiet()).state.requests, who)))
            except Refused as error:
                if error.code != "no_such_request":
                    raise
        waiting = [pair for pair in found if pair[1].state == "pending"]
        asking = [each for each in asks if each.ask.state == "pending"]
        if len(waiting) + len(asking) > 1:
            candidates = [
                {"id": request.agent, "name": request.name, "host": request.host, "room": actor.room}
                for actor, request in waiting
            ]
            candidates += [
                {"id": ask.request, "name": ask.name, "host": ask.host, "room": each.handle.room}
                for each in asking
                for ask in [each.ask]
            ]
            raise Refused(
                "ambiguous_name",
                "More than one request matches.",
                hint="Name the id that is listed, or the room.",
                candidates=candidates,
            )
        if waiting:
            return waiting[0]
        if asking:
            return asking[0]
        if found:
            return found[-1]
        if asks:
            return asks[-1]
        raise Refused("no_such_request")


def request_shown(handle: RoomHandle, request: Request) -> t.RequestInfo:
    """A knock as lists of requests show it."""
    room = handle.aggregate
    return t.RequestInfo(
        id=request.id,
        room=room.state.room,
        room_name=room.state.name,
        agent=request.agent,
        name=request.name,
        host=handle.host_of(request),
        requested=request.at,
        fingerprint=codes.fingerprint(request.agent),
        home=handle.home_name,
        key_ref=request.key_id[:SHORT_ID],
        topic=PeerText(room.state.topic),
        role=request.role,
    )


def _spent(room: Room, spent: SpentKey) -> str:
    key, where = spent.key.id[:SHORT_ID], room.state.name
    if spent.person:
        said = f"The person of {spent.person} tried a wrong key too often with the key {key} of {where}"
        return f"{said}, and comes in with that one no more. Make another one if you want that person in."
    return (
        f"The key {key} of {where} is dead: a wrong key was tried too often. Make another one for whoever you want in."
    )


def require_proof(desk: Desk, proof: Proof, *, admit: bool) -> None:
    """Raise `Refused(needs_proof)` where this home asks for more."""
    minimum = desk.settings.approval_minimum
    # A refusal lets nobody in, so any proof is enough for a refusal; but there must be one.
    if proof == "none" or (admit and PROOF_ORDER.index(proof) < PROOF_ORDER.index(minimum)):
        raise Refused("needs_proof", f"This home asks for the proof {minimum!r}; this one is {proof!r}.")


def _by_age(request: t.RequestInfo) -> tuple[int, str]:
    return request.requested, request.id
