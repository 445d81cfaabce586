"""Opening a session and ending one: the handlers of `session.open` and `session.close`.

Not here: joining (`joining`), keys of a session that is there (`session_keys`). Above: the engine. Below: the home
room, which names a room, and the room's own line. Invariant: a retried opening is the same room with the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.approvals import KeyState
from parlerd.core.envelope import TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import (
    HOME_ROOM,
    MAX_TOPIC,
    AgentId,
    By,
    HomeId,
    KeyId,
    Millis,
    Position,
    RoomId,
    Shown,
    first_free,
    is_agent_id,
    slug,
)
from parlerd.core.public_line import first_line
from parlerd.core.room import Room
from parlerd.core.scrub import listed, scrub
from parlerd.core.statements import NONCE, KeyTerms, Title, encode, room_id_of, title_digest
from parlerd.core.statements import Opening as SignedOpening
from parlerd.core.words import check_text
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.key_text import handed_on, typed_key, typed_key_of
from parlerd.engine.lookup import active_room, room_of
from parlerd.engine.observers import observed_room
from parlerd.engine.person import is_person, require_person
from parlerd.engine.quota import OPENING
from parlerd.engine.reading import handle_of
from parlerd.operations import types as t

OPENING_FACTS: Final = 4
"""Facts that opening a room leads to at most: the room, its owner, its key, a recap."""


class Plan(NamedTuple):
    """A room that is about to be opened: its id, and what it follows from."""

    room: RoomId
    opening: SignedOpening
    title: Title


class Opening:
    """The handlers of `session.open` and `session.close`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @handles("session.open")
    async def open_session(self, caller: Caller, params: t.OpenSession) -> t.OpenedSession:
        desk = self._desk
        if caller.facts.authority.rooms is not None:
            # The caller's door says which rooms there are for the caller, and a new room is none of them.
            raise Refused("person_only", hint="Ask the person to open it.")
        me = await desk.me(caller)
        size = len(params.context.encode("utf-8", "surrogatepass"))
        desk.quotas.take(me.id, bytes=size, messages=OPENING)
        check_text(params.context, "context")
        if len(params.topic) > MAX_TOPIC:
            raise Refused("invalid_param", f"A topic has at most {MAX_TOPIC} characters.", param="topic")
        approval = desk.settings.approval_default if params.approval is None else params.approval
        weaker = (desk.settings.approval_default and not approval) or params.approver == "agent" or params.preapprove
        if weaker:
            # Only the person may open a room that asks less of newcomers than their settings do, whichever agent is
            # its owner. Source: security spec A1.
            require_person(self._desk, caller)
        preapproved = tuple(dict.fromkeys(_agent_id(who) for who in params.preapprove))
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
        planned = self._planner(caller, me, params, idempotency_key, approval=approval)
        wanted, where = slug(params.topic, fallback="session"), self._where(params.home)
        plan, naming = await self._name(me, by, planned, wanted, where, idempotency_key, digest)
        if plan.room != naming.room and not await self._is_open(naming.room):
            # This request took a name before, and the daemon ended before the room was opened. The settings changed
            # since, so that the request no longer leads to the room that has the name.
            raise Refused("idempotency_conflict", key=idempotency_key)
        home = naming.home or desk.keys.id
        if home != desk.keys.id and not await self._is_open(naming.room):
            # Until when the key is good is counted by the clock of the home, which is known once that answered.
            await desk.homes.meet(home)
        now = desk.now_at(home)
        session_key = typed_key(desk, naming.room, gated=approval)
        command = c.OpenRoom(
            operation="session.open",
            idempotency_key=idempotency_key,
            input=digest,
            room=naming.room,
            opening=plan.opening,
            title=plan.title,
            mint=desk.keys.key_id(session_key),
            terms=KeyTerms(
                home=plan.opening.home,
                room=naming.room,
                ref=desk.random.new("k"),
                gated=approval,
                expires_at=Millis(now + (params.ttl_ms or desk.settings.key_ttl_ms)),
                max_uses=params.max_uses or desk.settings.key_max_uses,
                preapproved=preapproved,
                nonce=b"",
            ),
            recap=bool(params.context),
        )
        # Away from the loop: a long recap takes a while to look through.
        recap, removed = await desk.library.aside(lambda: scrub(params.context))
        actor = await desk.rooms.create(naming.room, home)
        nothing = Shown(0, first_line(naming.room, home))
        settled = await actor.submit(command, by, Draft((TextPart(recap),), nothing))
        room = await actor.quiet()
        replayed = settled.decision.replay is not None or not settled.facts
        if naming.home and (not replayed or desk.rooms.home.aggregate.state.active.get(me.id) is None):
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), by)
        # A room that was opened before has its key from then; the settings may ask for another kind of key today.
        facts: Sequence[e.Header] = settled.facts
        if not facts:
            facts = await desk.library.few_facts(actor.room, Position(0), OPENING_FACTS)
        return await self._opened(
            actor,
            room,
            room.state.keys[_minted(facts)],
            idempotency_key=idempotency_key,
            replayed=replayed,
            removed={} if replayed else removed,
        )

    def _where(self, wanted: str) -> HomeId:
        """The home that a session opens in, by its name. Raises `Refused(home_not_trusted)`."""
        desk = self._desk
        if wanted == LOCAL:
            return desk.keys.id
        return desk.homes.named(wanted) if wanted else desk.homes.default or desk.keys.id

    def _planner(
        self,
        caller: Caller,
        me: AgentRecord,
        params: t.OpenSession,
        idempotency_key: str,
        *,
        approval: bool,
    ) -> Callable[[str, HomeId], Plan]:
        """Gives the room that this request opens under a name in a home. The same request is the same room there,
        because nothing in its opening is drawn: the nonce and the salt follow from the idempotency key."""
        secret = self._desk.keys.opening_secret(me.id, idempotency_key)
        nonce, salt = secret[:NONCE], secret[NONCE : 2 * NONCE]

        def planned(name: str, home: HomeId) -> Plan:
            title = Title(salt=salt, name=name, topic=params.topic)
            opening = SignedOpening(
                home=home,
                kind="session",
                history=params.history,
                owner=me.id,
                principal=me.principal,
                handle=me.name,
                host=caller.facts.host,
                approval=approval,
                approver=params.approver,
                title=title_digest(encode(title)),
                nonce=nonce,
            )
            return Plan(room_id_of(encode(opening)), opening, title)

        return planned

    async def _name(
        self,
        me: AgentRecord,
        by: By,
        planned: Callable[[str, HomeId], Plan],
        wanted: str,
        where: HomeId,
        idempotency_key: str,
        digest: bytes,
    ) -> tuple[Plan, e.RoomNamed]:
        """The room that is opened, under the name and in the home that this request took now or when it was first made:
        the first free name of `wanted`, `wanted-2` and so on, and the home `where`."""
        home, here = self._desk.rooms.home, self._desk.keys.id
        while True:
            plan = planned(first_free(wanted, home.aggregate.state.room_names.get(me.id, {})), where)
            named = await home.submit(
                c.NameRoom(
                    operation="session.open",
                    idempotency_key=idempotency_key,
                    input=digest,
                    owner=me.id,
                    room=plan.room,
                    name=plan.title.name,
                    home=HomeId("") if where == here else where,
                ),
                by,
            )
            if named.decision.answer == "taken":
                continue  # another opening of this owner took the name in the same moment
            naming = await self._naming(named.facts[0] if named.facts else None, named.decision.replay)
            return (plan if named.facts else planned(naming.name, naming.home or here)), naming

    async def _is_open(self, room: RoomId) -> bool:
        try:
            await self._desk.rooms.get(room)
        except Refused:
            return False
        return True

    async def _naming(self, header: e.Header | None, replay: Position | None) -> e.RoomNamed:
        """The name this request took: now, or when it was first made."""
        if header is None:
            assert replay is not None
            [header] = await self._desk.library.few_facts(HOME_ROOM, Position(replay - 1), 1)
        if not isinstance(header.event, e.RoomNamed):
            raise Refused("idempotency_expired")
        return header.event

    async def _opened(
        self,
        actor: RoomHandle,
        room: Room,
        opened: KeyState,
        *,
        idempotency_key: str,
        replayed: bool,
        removed: dict[str, int],
    ) -> t.OpenedSession:
        typed, gated = typed_key_of(self._desk, actor.room, opened), opened.gated
        session_key = None if typed is None else await handed_on(self._desk, actor, typed)
        is_here = self._desk.rooms.is_here(room)
        warnings = []
        state = opened.state(self._desk.now_at(room.state.home))
        if state != "live":
            warnings.append(f"Nobody new can knock with this key: it is {_words(state)}.")
        if not gated:
            warnings.append("Whoever has this key comes in without being asked about. Do not paste it in public.")
        if removed:
            warnings.append(f"Taken out of the recap: {listed(removed)}")
        return t.OpenedSession(
            room=actor.room,
            name=room.state.name,
            session_key=session_key,
            line=None if session_key is None else f"Join the Parler session {session_key}.",
            join_command=None if session_key is None else f"parler session join {session_key}",
            mcp_command=self._mcp_command(session_key) if session_key and gated and is_here else None,
            connect_command=None if is_here else self._desk.homes.join_line(room.state.home),
            expires=opened.expires_at,
            approval=gated,
            replayed=replayed,
            idempotency_key=idempotency_key,
            warning=" ".join(warnings) or msgspec.UNSET,
            you=handle_of(room.state, room.state.owner),
        )

    def _mcp_command(self, session_key: str) -> str | None:
        """Where no agent host has Parler yet: an ungated key never comes here, for it is a secret, and a command to
        paste ends up in a host's config; nor does a key of a relay, with which no window knocks by itself. In a
        connected host it would add a second Parler beside the first."""
        if self._desk.host_files.is_connected():
            return None
        return f"claude mcp add parler -e PARLER_SESSION_KEY={session_key} -- parler mcp"

    @handles("session.close")
    async def close_session(self, caller: Caller, params: t.CloseSession) -> t.ClosedSession:
        """End it as its owner or the owner's person; leave it as a member."""
        desk = self._desk
        me = await desk.me(caller)
        if params.room is None:
            # A look may guess that the person means the only room of their agents. Ending a session may not: without a
            # name it is the caller's own active session that ends.
            actor, room = await room_of(desk, me, None)
            agents = [me]
        else:
            actor, room, agents = await observed_room(desk, caller, me, params.room)
        by = desk.by(caller, me)
        inside = any(record.id == me.id for record in agents)
        principal = None
        if is_person(caller) and room.state.owner_principal == me.principal and room.state.owner != me.id:
            if not desk.inspect(caller.facts.peer).agent_host:
                principal = me.principal
            elif not inside:
                require_person(self._desk, caller, in_editor=True)
        settled = await actor.submit(c.CloseRoom(operation="session.close", principal=principal), by)
        if active_room(desk, me.id) == actor.room:
            await desk.rooms.home.submit(c.Activate(agent=me.id, room=None), by)
        return t.ClosedSession(room=actor.room, name=room.state.name, status=settled.decision.answer)


def _minted(opening: Sequence[e.Header]) -> KeyId:
    """The key that an opening minted, from the facts that it led to."""
    return next(header.event.key for header in opening if isinstance(header.event, e.KeyMinted))


def _agent_id(who: str) -> AgentId:
    """A pre-approved agent: by id alone, never by a name it chose itself. Source: rooms spec."""
    if not is_agent_id(who):
        raise Refused("invalid_param", "Pre-approval takes agent ids (U...), not names.", param="preapprove")
    return AgentId(who)


def _words(state: str) -> str:
    return state.replace("_", " ")
