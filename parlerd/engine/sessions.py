"""Opening, knocking, deciding, closing: the life of a session and of the keys that lead to it."""

from __future__ import annotations

from typing import Final

import msgspec
import trio

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import KeyState, find_request, standing_request
from parlerd.core.envelope import TextPart
from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.core.home import AgentRecord
from parlerd.core.model import (
    HOME_ROOM,
    MAX_TOPIC,
    PROOF_ORDER,
    AgentId,
    By,
    KeyId,
    Millis,
    PeerText,
    Position,
    Proof,
    RoomId,
    slug,
)
from parlerd.core.room import Room
from parlerd.core.scrub import scrub
from parlerd.engine import notifier
from parlerd.engine.actor import Content, RoomActor
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.desk import BEGINS, WITHHELD, Desk
from parlerd.engine.messaging import check_text, input_digest
from parlerd.engine.observers import is_person, observed_room, observed_rooms
from parlerd.engine.reading import Reading, handle_of
from parlerd.identity import codes
from parlerd.operations import types as t

CODE_TRIES: Final = 5
"""Wrong codes for one request before it takes none for a while."""
CODE_PAUSE_S: Final = 300.0
DOORS: Final = ("form", "cli", "terminal")
"""Where a code is typed, each with tries of its own: a form of an agent host, a command, a command at a terminal."""
SHORT_ID: Final = 8
"""Characters of a key's id that stand for it where the code may not be shown."""
MAX_COUNTED: Final = 4096
"""Requests whose wrong codes are remembered; only a person's own mistakes come here."""


class Sessions:
    """The handlers of `session.*`, `rooms.requests` and `approvals.list`."""

    def __init__(self, desk: Desk, reading: Reading) -> None:
        self._desk = desk
        self._reading = reading
        self._wrong_codes: dict[tuple[str, str], tuple[int, float]] = {}

    # -- opening -------------------------------------------------------------------------------------------

    async def open_session(self, caller: Caller, params: t.OpenSession) -> t.OpenedSession:
        desk = self._desk
        me = await desk.me(caller)
        check_text(params.context, "context")
        if len(params.topic) > MAX_TOPIC:
            raise Refused("invalid_param", f"A topic has at most {MAX_TOPIC} characters.", param="topic")
        approval = desk.settings.approval_default if params.approval is None else params.approval
        weaker = (desk.settings.approval_default and not approval) or params.approver == "agent" or params.preapprove
        if weaker:
            # Lowering the gate is the person's to do, whichever agent opens the room. Source: security spec A1.
            self._require_person(caller)
        preapproved = tuple(self._agent_id(who) for who in params.preapprove)
        idempotency_key = params.idempotency_key or desk.random.new("k")
        try:
            return await self._open(caller, me, params, idempotency_key, approval=approval, preapproved=preapproved)
        except ParlerError as error:
            # The idempotency key travels with the failure too, so that a retry can be the same request.
            error.details.setdefault("key", idempotency_key)
            raise

    async def _open(
        self,
        caller: Caller,
        me: AgentRecord,
        params: t.OpenSession,
        idempotency_key: str,
        *,
        approval: bool,
        preapproved: tuple[AgentId, ...],
    ) -> t.OpenedSession:
        desk = self._desk
        digest = input_digest(params)
        by = desk.by(caller, me)
        named = await desk.rooms.home.submit(
            c.NameRoom(
                operation="session.open",
                idempotency_key=idempotency_key,
                input=digest,
                owner=me.id,
                wanted=slug(params.topic, fallback="session"),
            ),
            by,
        )
        naming = self._naming(named.facts[0] if named.facts else None, named.decision.replay)
        now = desk.clock.now()
        session_key = desk.session_key(naming.room, gated=approval)
        command = c.OpenRoom(
            operation="session.open",
            idempotency_key=idempotency_key,
            input=digest,
            room=naming.room,
            kind="session",
            name=naming.name,
            topic=params.topic,
            handle=me.name,
            host=caller.host,
            history=params.history,
            approval=approval,
            approver=params.approver,
            mint=desk.keys.key_id(session_key),
            expires_at=Millis(now + (params.ttl_ms or desk.settings.key_ttl_ms)),
            max_uses=params.max_uses or desk.settings.key_max_uses,
            preapproved=preapproved,
            recap=bool(params.context),
        )
        # Away from the loop: a long recap takes a while to look through.
        recap, removed = await desk.driver.read(lambda _: scrub(params.context))
        actor = await desk.rooms.create(naming.room)
        settled = await actor.submit(command, by, Content(parts=(TextPart(recap),)))
        room = await actor.quiet()
        replayed = settled.decision.replay is not None or not settled.facts
        return self._opened(
            actor, room, idempotency_key=idempotency_key, replayed=replayed, removed={} if replayed else removed
        )

    def _naming(self, header: e.Header | None, replay: Position | None) -> e.RoomNamed:
        """The name this request took: now, or when it was first made."""
        if header is None:
            assert replay is not None
            header = self._desk.driver.store.facts(HOME_ROOM, Position(replay - 1), 1)[0]
        if not isinstance(header.event, e.RoomNamed):
            raise Refused("idempotency_expired")
        return header.event

    def _opened(
        self,
        actor: RoomActor[Room],
        room: Room,
        *,
        idempotency_key: str,
        replayed: bool,
        removed: dict[str, int],
    ) -> t.OpenedSession:
        opened = next(iter(room.state.keys.values()))
        session_key, gated = self._desk.session_key_of(actor.room, opened), opened.gated
        warnings = []
        state = opened.state(self._desk.clock.now())
        if state != "live":
            warnings.append(f"Nobody new can knock with this key: it is {_words(state)}.")
        if not gated:
            warnings.append("Whoever has this key comes in without being asked about. Do not paste it in public.")
        if removed:
            listed = ", ".join(f"{name} ({count})" for name, count in removed.items())
            warnings.append(f"Taken out of the recap: {listed}. Only what is recognised is; look through the rest.")
        return t.OpenedSession(
            room=actor.room,
            name=room.state.name,
            session_key=session_key,
            line=None if session_key is None else f"Join the Parler session {session_key}.",
            join_command=None if session_key is None else f"parler session join {session_key}",
            mcp_command=self._mcp_command(session_key) if session_key and gated else None,
            expires=opened.expires_at,
            approval=gated,
            replayed=replayed,
            idempotency_key=idempotency_key,
            warning=" ".join(warnings) or msgspec.UNSET,
            you=handle_of(room.state, room.state.owner),
        )

    def _mcp_command(self, session_key: str) -> str | None:
        """Where no agent host has Parler yet: an ungated key never comes here, for it is a secret, and a command to
        paste ends up in a host's config. In a connected host it would add a second Parler beside the first."""
        if self._desk.host_files.is_connected():
            return None
        return f"claude mcp add parler -e PARLER_SESSION_KEY={session_key} -- parler mcp"

    # -- joining -------------------------------------------------------------------------------------------

    async def join(self, caller: Caller, params: t.JoinSession) -> t.JoinedSession:
        desk = self._desk
        known = desk.seats.existing(caller)
        key_id, room_id = await self._find_key(caller, known, params.session_key)
        if known is None:
            await self._would_knock(caller, key_id, room_id)
        me = await desk.me(caller)
        deadline = trio.current_time() + params.wait_ms / 1000
        topics = (notifier.decision(room_id, me.id), notifier.life(room_id))
        with desk.notifier.listen(*topics) as waiter:
            while True:
                waiter.clear()
                # Each time anew: a room nobody uses is closed, and this may wait for long.
                actor = await desk.rooms.get(room_id)
                knock = c.Knock(
                    operation="session.join", key_id=key_id, name=me.name, host=caller.host, wall=desk.clock.now()
                )
                try:
                    settled = await actor.submit(knock, desk.by(caller, me))
                except Refused as error:
                    if error.code == "unknown_key":
                        raise self._unknown_key(caller) from error
                    raise
                answer = settled.decision.answer
                if answer in ("member", "joined"):
                    return await self._land(caller, me, actor, params)
                if answer == "denied":
                    return self._waiting(
                        room_id,
                        "denied",
                        None,
                        "The person declined. It stays so until the person approves it after all.",
                    )
                await actor.quiet()
                waits = await desk.knock_at(me, room_id)
                if waits is None:
                    continue
                left = deadline - trio.current_time()
                if left <= 0:
                    if not desk.shows_code(caller):
                        return self._waiting(room_id, "pending", None, f"A person has to approve this. {WITHHELD}")
                    hint = f"A person has to approve this. Tell them this code: {waits.join_code}"
                    return self._waiting(room_id, "pending", waits.join_code, hint)
                await desk.wait(caller, waiter, left)

    def _waiting(self, room: RoomId, status: str, join_code: str | None, hint: str) -> t.JoinedSession:
        return t.JoinedSession(room=room, status=status, messages=[], truncated=False, join_code=join_code, hint=hint)

    async def _land(
        self, caller: Caller, me: AgentRecord, actor: RoomActor[Room], params: t.JoinSession
    ) -> t.JoinedSession:
        """Come up in the room with its context: the recap and the newest tail, with the gap between them stated.

        Who is in already is shown it again: the answer to its first join may have been lost, or it forgot. That moves
        its cursor over nothing that it was not shown.
        """
        desk = self._desk
        room = await actor.quiet()
        stood = room.position
        acknowledged = desk.driver.store.cursor(actor.room, me.id).acknowledged
        again = me.id == room.state.owner or acknowledged >= room.state.members[me.id].entered
        status = "already_member" if again else "joined"
        if params.limit <= 0:
            # Nobody will see a page now: what comes with the next read is new, and nothing is on record as read. And
            # nobody asked for this room just now, so one that is in keeps the session it went on to.
            if not again or desk.rooms.home.aggregate.state.active.get(me.id) is None:
                await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), desk.by(caller, me))
            return t.JoinedSession(
                room=actor.room,
                name=room.state.name,
                status=status,
                messages=[],
                truncated=False,
                cursor="0",
                you=handle_of(room.state, me.id),
            )
        limit = max(1, min(params.limit, t.MAX_PAGE))
        found = await self._reading.context(room, me.id, Position(0), stood=stood, limit=limit, fits=caller.fits)
        # A page that one who is in asked for anew acknowledges nothing it leaves out, and nothing of a live window's.
        held = caller.via == "cli" and bool(caller.as_name) and desk.seats.held_by_window(me.id)
        moves = not (again and held)
        if found.truncated:
            moves = moves and (not again or acknowledged >= found.spans[-1][0])
        await self._reading.mark(actor.room, me.id, found.spans)
        self._reading.note_seen(actor.room, me.id, found.newest)
        await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), desk.by(caller, me))
        if caller.via == "mcp" and moves:
            # Last: what is answered with an error was not shown.
            caller.shown[actor.room] = found.end
        hint = "This session is closed; it can still be read." if room.state.closed else ""
        if found.truncated:
            first, last = found.first_unshown, found.last_unshown
            hint = f"{last - first + 1} messages before these are not shown: {first} to {last}."
        return t.JoinedSession(
            room=actor.room,
            name=room.state.name,
            status=status,
            messages=found.messages,
            truncated=found.truncated,
            cursor=str(found.end_seq) if moves else "",
            first_unshown=found.first_unshown,
            last_unshown=found.last_unshown,
            hint=hint,
            you=handle_of(room.state, me.id),
            unread=self._reading.unread(room, room.view(me.id), found.end),
        )

    async def _find_key(self, caller: Caller, me: AgentRecord | None, text: str) -> tuple[KeyId, RoomId]:
        """A typed key and the room it leads to. A key of another home is refused before anything is looked up. Source:
        security spec D12. Who came to this door with this key before is no guesser, and waits for none."""
        desk = self._desk
        try:
            session_key, host = codes.split_home(text)
            key_id = desk.keys.key_id(session_key) if host is None else None
        except Refused as error:
            await desk.throttle.before(caller)
            raise self._unknown_key(caller) from error
        if key_id is None:
            raise Refused("home_not_trusted", host=(host or "")[:64])
        room = desk.driver.store.room_of_key(key_id)
        if room is None or me is None or not await self._has_used(me, key_id, room):
            await desk.throttle.before(caller)
        if room is None:
            raise self._unknown_key(caller)
        return key_id, room

    async def _has_used(self, me: AgentRecord, key_id: KeyId, room: RoomId) -> bool:
        """Whether this agent is in the room, or knocked with this very key: another key of the room is still a
        guess."""
        if not any(membership.room == room for membership in self._desk.driver.store.memberships(me.id)):
            return False
        state = (await self._desk.rooms.get(room)).aggregate.state
        member, request = state.members.get(me.id), standing_request(state.requests, me.id)
        return (member is not None and member.present) or (request is not None and request.key_id == key_id)

    async def _would_knock(self, caller: Caller, key_id: KeyId, room: RoomId) -> None:
        """Raise what a new agent's knock would be refused with: an agent, and its key, is made for none that is."""
        desk = self._desk
        now = desk.clock.now()
        by = By(AgentId(""), desk.keys.principal, caller.session, caller.host, caller.via)
        knock = c.Knock(operation="session.join", key_id=key_id, name="new", host=caller.host, wall=now)
        aggregate = (await desk.rooms.get(room)).aggregate
        try:
            aggregate.decide(knock, by=by, now=Millis(max(now, aggregate.last_at)), ids=desk.random)
        except Refused as error:
            if error.code == "unknown_key":
                raise self._unknown_key(caller) from error
            raise

    def _unknown_key(self, caller: Caller) -> Refused:
        self._desk.throttle.wrong(caller)
        if self._desk.default_home or caller.via != "cli":
            # Which home it is and what to do about it concerns whoever types commands.
            return Refused("unknown_key")
        return Refused(
            "unknown_key",
            tool_hint=ERRORS["unknown_key"].hint,
            hint=f"This is the home {self._desk.home_path}, not ~/.parler: two homes are two users. "
            "On one machine a second agent is --as NAME, never a second home.",
        )

    # -- deciding ------------------------------------------------------------------------------------------

    async def requests(self, caller: Caller, params: t.SessionRequests) -> t.RequestList:
        me = await self._desk.me(caller)
        rooms = await self._desk.owned_rooms(me, params.room, person=is_person(caller))
        found = await self._requests_of(rooms)
        room = rooms[0] if params.room is not None and rooms else None
        return t.RequestList(room=room, requests=found)

    async def approvals(self, caller: Caller, params: t.Params) -> t.RequestList:
        me = await self._desk.me(caller)
        rooms = await self._desk.owned_rooms(me, None, person=is_person(caller))
        return t.RequestList(room=None, requests=await self._requests_of(rooms))

    async def _requests_of(self, rooms: list[RoomId]) -> list[t.RequestInfo]:
        found: list[t.RequestInfo] = []
        for name in rooms:
            room = await (await self._desk.rooms.get(name)).quiet()
            if not room.state.closed:
                found += [self._request(room, request) for request in room.pending()]
        return sorted(found, key=lambda request: (request.requested, request.id))

    def _request(self, room: Room, request: c.Request) -> t.RequestInfo:
        return t.RequestInfo(
            id=request.id,
            room=room.state.room,
            room_name=room.state.name,
            agent=request.agent,
            name=request.name,
            host=request.host,
            requested=request.at,
            fingerprint=codes.fingerprint(request.agent),
            home="local",
            key_ref=request.key_id[:SHORT_ID],
            topic=PeerText(room.state.topic),
        )

    async def approve(self, caller: Caller, params: t.DecideJoin) -> t.Decided:
        return await self._decide_as_person(caller, params, admit=True)

    async def deny(self, caller: Caller, params: t.DecideJoin) -> t.Decided:
        return await self._decide_as_person(caller, params, admit=False)

    async def _decide_as_person(self, caller: Caller, params: t.DecideJoin, *, admit: bool) -> t.Decided:
        me = await self._desk.me(caller)
        # A refusal opens nothing, and a code is what an agent in the editor was never told.
        peer = self._require_person(caller, in_editor=not admit or params.join_code is not None)
        rooms = await self._desk.owned_rooms(me, params.room, person=is_person(caller))
        actor, request = await self._find(rooms, params.agent)
        proof: Proof = "cli"
        if params.join_code is not None and admit:
            self._check_code(request, params.join_code, door="terminal" if peer.terminal else "cli")
            proof = "terminal" if params.terminal and peer.terminal else "cli"
        self._require_proof(proof, admit=admit)
        return await self._decide(caller, me, actor, request, admit=admit, proof=proof)

    async def decide_by_form(self, caller: Caller, params: t.DecideByForm) -> t.Decided:
        """A decision made in an agent host's form: it counts only with the joiner's code, which that host's agent
        never saw.

        In a room whose person chose the policy `agent`, its owner decides without one.
        """
        me = await self._desk.me(caller)
        rooms = await self._desk.owned_rooms(me, params.room, person=False)
        actor, request = await self._find(rooms, params.agent)
        proof: Proof = "none"
        if params.join_code is not None:
            self._check_code(request, params.join_code, door="form")
            proof = "form"
        elif (await actor.quiet()).state.approver != "agent":
            raise Refused("form_undecided")
        if proof != "none":
            self._require_proof(proof, admit=params.admit)
        return await self._decide(caller, me, actor, request, admit=params.admit, proof=proof)

    async def _decide(
        self, caller: Caller, me: AgentRecord, actor: RoomActor[Room], request: c.Request, *, admit: bool, proof: Proof
    ) -> t.Decided:
        command = c.DecideRequest(
            operation="session.approve" if admit else "session.deny",
            who=request.id,
            admit=admit,
            proof=proof,
            principal=me.principal,
        )
        by = self._desk.by(caller, me)
        await actor.submit(command, by)
        for door in DOORS:
            self._wrong_codes.pop((request.id, door), None)
        if admit:
            # Whoever asked to come in goes on there: a session that it is let into is its active one without a word
            # of its own. A crash before this leaves an agent that joins once more, and is told how.
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

    async def find(self, caller: Caller, params: t.FindRequest) -> t.FoundRequest:
        """The one request a form would be about, and whether the room's policy lets its owner decide without a person.

        Raises as deciding would.
        """
        me = await self._desk.me(caller)
        rooms = await self._desk.owned_rooms(me, params.room, person=False)
        actor, request = await self._find(rooms, params.agent)
        room = await actor.quiet()
        return t.FoundRequest(request=self._request(room, request), owner_decides=room.state.approver == "agent")

    async def _find(self, rooms: list[RoomId], who: str) -> tuple[RoomActor[Room], c.Request]:
        """The request meant, across rooms: one that waits before one that was decided on."""
        found: list[tuple[RoomActor[Room], c.Request]] = []
        for name in rooms:
            actor = await self._desk.rooms.get(name)
            try:
                found.append((actor, find_request((await actor.quiet()).state.requests, who)))
            except Refused as error:
                if error.code != "no_such_request":
                    raise
        waiting = [pair for pair in found if pair[1].state == "pending"]
        if len(waiting) > 1:
            candidates = [
                {"id": request.agent, "name": request.name, "host": request.host, "room": actor.room}
                for actor, request in waiting
            ]
            raise Refused(
                "ambiguous_name",
                "More than one request matches.",
                hint="Name the id that is listed, or the room.",
                candidates=candidates,
            )
        if waiting:
            return waiting[0]
        if found:
            return found[-1]
        raise Refused("no_such_request")

    def _require_person(self, caller: Caller, *, in_editor: bool = False) -> PeerProcess:
        """What is known of the process behind a person's decision. Raises `Refused(person_only)` for an agent's door
        and `needs_person` for a command that an agent host started. A speed bump under one uid, and the docs say
        so.

        The terminal of an editor is its person's own place and its agent's at once. What was typed there counts only
        where `in_editor` says so.
        """
        if caller.via != "cli":
            raise Refused("person_only")
        peer = self._desk.inspect(caller.peer)
        if peer.agent_host:
            raise Refused("needs_person", f"This was started by an agent host ({peer.agent_host}).")
        if peer.editor and not in_editor:
            raise Refused(
                "needs_person",
                f"This was typed inside an editor ({peer.editor}) whose agent has the same terminal.",
                hint="Give the code that the newcomer shows (--code), or run it in a terminal outside the editor.",
            )
        return peer

    def _require_proof(self, proof: Proof, *, admit: bool) -> None:
        minimum = self._desk.settings.approval_minimum
        if admit and PROOF_ORDER.index(proof) < PROOF_ORDER.index(minimum):
            raise Refused("needs_proof", f"This home asks for the proof {minimum!r}; this one is {proof!r}.")

    def _check_code(self, request: c.Request, typed: str, *, door: str) -> None:
        """Raise `Refused(code_mismatch)` for a wrong code, and `throttled` after a few of them at the same door: what
        is typed at one must not keep the person out at another."""
        now = trio.current_time()
        counted = (request.id, door)
        tries, since = self._wrong_codes.get(counted, (0, now))
        if tries >= CODE_TRIES:
            left = since + CODE_PAUSE_S - now
            if left > 0:
                raise Refused("throttled", "Too many wrong codes for this request.", retry_after_ms=int(left * 1000))
            tries = 0
        try:
            matches = codes.normalise(typed) == self._desk.keys.join_code(request.id)
        except Refused:
            matches = False
        if not matches:
            self._wrong_codes.pop(counted, None)
            self._wrong_codes[counted] = (tries + 1, now)
            if len(self._wrong_codes) > MAX_COUNTED:
                del self._wrong_codes[next(iter(self._wrong_codes))]
            raise Refused("code_mismatch")

    # -- closing, listing, revoking ------------------------------------------------------------------------

    async def close_session(self, caller: Caller, params: t.CloseSession) -> t.ClosedSession:
        """End it as its owner or the owner's person; leave it as a member."""
        desk = self._desk
        me = await desk.me(caller)
        if params.room is None:
            # Never one that nobody named: the only room of a person's agents is good enough to look at alone.
            actor, room = await desk.room_of(me, None)
            agents = [me]
        else:
            actor, room, agents = await observed_room(desk, caller, me, params.room)
        by = desk.by(caller, me)
        inside = any(record.id == me.id for record in agents)
        principal = None
        if is_person(caller) and room.state.owner_principal == me.principal and room.state.owner != me.id:
            if not desk.inspect(caller.peer).agent_host:
                principal = me.principal
            elif not inside:
                self._require_person(caller, in_editor=True)
        settled = await actor.submit(c.CloseRoom(operation="session.close", principal=principal), by)
        if desk.rooms.home.aggregate.state.active.get(me.id) == actor.room:
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=None), by)
        return t.ClosedSession(room=actor.room, name=room.state.name, status=settled.decision.answer)

    async def list_sessions(self, caller: Caller, params: t.ListSessions) -> t.SessionList:
        desk = self._desk
        me = await desk.me(caller)
        active = desk.rooms.home.aggregate.state.active.get(me.id)
        now = desk.clock.now()
        # A command that an agent host started is an agent's: a key of an open door is nothing for its transcript.
        whole = is_person(caller) and not desk.inspect(caller.peer).agent_host
        sessions = []
        for name, agents in observed_rooms(desk, caller, me).items():
            state = (await (await desk.rooms.get(name)).quiet()).state
            inside = [record.name for record in agents if state.members[record.id].present]
            if not inside:
                continue  # it left meanwhile
            owns = state.owner == me.id or (is_person(caller) and state.owner_principal == me.principal)
            keys = [self._key_info(name, key, now, whole=whole) for key in state.keys.values()] if owns else []
            sessions.append(
                t.SessionInfo(
                    room=state.room,
                    name=state.name,
                    topic=PeerText(state.topic),
                    owner=state.owner,
                    owner_name=handle_of(state, state.owner),
                    agents=inside,
                    state="closed" if state.closed else "open",
                    active=state.room == active,
                    keys=keys,
                )
            )
        return t.SessionList(sessions=sessions)

    async def revoke(self, caller: Caller, params: t.RevokeSessionKey) -> t.RevokedKey:
        desk = self._desk
        known = desk.seats.existing(caller)
        if known is None and not is_person(caller):
            # Nobody yet, so it owns nothing, and is made nobody for a guess.
            await self._find_key(caller, None, params.session_key)
        me = await desk.me(caller)
        own = await self._own_key(caller, me, params.session_key)
        if own is not None:
            room_id, key_id = own
        else:
            key_id, room_id = await self._find_key(caller, me, params.session_key)
        actor = await desk.rooms.get(room_id)
        principal = me.principal if is_person(caller) else None
        try:
            await actor.submit(
                c.RevokeKey(operation="session.revoke", revoke=key_id, principal=principal), desk.by(caller, me)
            )
        except Refused as error:
            if error.code == "unknown_key":
                raise self._unknown_key(caller) from error
            raise
        room = await actor.quiet()
        begins = (self._desk.session_key_of(actor.room, room.state.keys[key_id]) or "")[:BEGINS]
        return t.RevokedKey(
            room=actor.room, key_ref=key_id[:SHORT_ID], status="revoked", name=room.state.name, begins=begins
        )

    async def _own_key(self, caller: Caller, me: AgentRecord, typed: str) -> tuple[RoomId, KeyId] | None:
        """The key of one of the caller's own rooms that is meant by the whole session key, the first characters of it,
        or its short id; None when none is. Asked before any throttle: whoever guesses does not keep an owner from
        shutting a door. Raises `Refused(ambiguous_name)`.
        """
        rooms = await self._desk.owned_rooms(me, None, person=is_person(caller))
        try:
            session_key = codes.normalise(typed)
        except Refused:
            return None
        whole = self._desk.keys.key_id(session_key)
        room = self._desk.driver.store.room_of_key(whole)
        if room in rooms:
            return room, whole
        found: list[tuple[RoomId, KeyState, str]] = []
        for name in rooms:
            state = (await (await self._desk.rooms.get(name)).quiet()).state
            for key in state.keys.values():
                begins = len(session_key) >= BEGINS and (self._desk.session_key_of(name, key) or "").startswith(
                    session_key
                )
                if begins or typed.strip().lower() == key.id[:SHORT_ID]:
                    found.append((name, key, state.name))
        # A door that is shut already is hardly the one that is meant.
        found = [each for each in found if not each[1].revoked] or found
        if len(found) > 1:
            candidates = [f"{key.id[:SHORT_ID]} of {name}" for _, key, name in found]
            raise Refused("ambiguous_name", "More than one of your keys begins so.", candidates=candidates)
        return (found[0][0], found[0][1].id) if found else None

    def _key_info(self, room: RoomId, key: KeyState, now: Millis, *, whole: bool) -> t.SessionKey:
        session_key = self._desk.session_key_of(room, key) or ""
        return t.SessionKey(
            key_ref=key.id[:SHORT_ID],
            session_key=session_key if whole else "",
            begins=session_key[:BEGINS],
            approval=key.gated,
            expires=key.expires_at,
            uses=key.uses,
            max_uses=key.max_uses,
            state=key.state(now),
        )

    def _agent_id(self, who: str) -> AgentId:
        """A pre-approved agent: by id alone, never by a name it chose itself. Source: rooms spec."""
        if len(who) != 56 or not who.startswith("U"):
            raise Refused("invalid_param", "Pre-approval takes agent ids (U...), not names.", param="preapprove")
        return AgentId(who)


def _words(state: str) -> str:
    return state.replace("_", " ")
