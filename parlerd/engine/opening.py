"""Opening a room: `open_room`, `open_within` for an agent without a key, and the handler of `session.open`.

Not here: joining (`joining`), keys of a session that is there (`session_keys`), channels (`inviting`), how a room ends
(`departing`). Above: the
engine, `inviting`. Below: the home
room, which names a room, and the room's own line. Invariant: a retried opening is the same room with the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core import topics
from parlerd.core.approvals import KeyState
from parlerd.core.envelope import TextPart
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.grants import given
from parlerd.core.identities import AgentRecord
from parlerd.core.lifecycle import SEALED_KINDS
from parlerd.core.model import (
    HOME_ROOM,
    MAX_TOPIC,
    AgentId,
    Approver,
    By,
    History,
    HomeId,
    KeyId,
    Millis,
    Position,
    RoomId,
    RoomKind,
    Shown,
    first_free,
    is_granted_id,
    is_keyed_id,
    label,
    slug,
)
from parlerd.core.public_line import first_line
from parlerd.core.room import Room
from parlerd.core.scrub import listed, scrub
from parlerd.core.statements import KeyTerms, encode, sealed_with
from parlerd.core.words import check_text
from parlerd.engine.authors import Draft
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.granting import Granting
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.handling import handles
from parlerd.engine.inputs import input_digest
from parlerd.engine.key_text import handed_on, spelled, typed_key_of
from parlerd.engine.lookup import is_active
from parlerd.engine.person import require_person
from parlerd.engine.plans import Plan, planned, planned_within
from parlerd.engine.quota import OPENING
from parlerd.engine.reading import handle_of
from parlerd.operations import types as t

OPENING_FACTS: Final = 4
"""Facts that opening a room leads to at most: the room, its owner, its key, a recap."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A room that somebody asked for. The same request, by `idempotency_key`, is the same room."""

    operation: str
    idempotency_key: str
    digest: bytes
    """Of the request's parameters."""
    kind: RoomKind
    name: str
    """What the room is called, or something like it where the owner has another room of that name."""
    topic: str = ""
    recap: str = ""
    home: HomeId
    approval: bool
    approver: Approver = "person"
    history: History = "full"
    ref: str
    """The name of the room's first key in what is signed."""
    preapproved: tuple[AgentId, ...] = ()
    ttl_ms: Millis
    max_uses: int
    clear: bool = False
    """Whether the person said that a relay may read it."""
    is_exact: bool = False
    """Whether the room is called so and not otherwise."""
    token: str = ""
    """The token with which it is opened. Which session is its owner's active one is then left as it is."""


class Opened(NamedTuple):
    """A room that is open, and its first key. `removed` counts what was taken out of the recap."""

    handle: RoomHandle
    room: Room
    key: KeyState
    replayed: bool
    removed: dict[str, int]


def opening_token(desk: Desk, caller: Caller) -> str:
    """The token with which a caller opens a room, where its door says which rooms there are for it; empty for everybody
    else. How many it opened already the home room counts, where a retry is known. Raises `Refused`: `person_only`, and
    as `Tokens.require_opens` does."""
    authority = caller.facts.authority
    if authority.rooms is None:
        return ""
    if not authority.token:
        raise Refused("person_only", hint="Ask the person to open it.")
    return desk.rooms.home.aggregate.tokens.require_opens(authority.token, desk.clock.now()).id


async def open_room(desk: Desk, caller: Caller, me: AgentRecord, wanted: Wanted) -> Opened:
    """Open a room of which `me` is the owner. `desk` knows rooms that are not there yet. Raises `Refused`
    (`idempotency_conflict` among others)."""
    by, here = desk.by(caller, me), desk.keys.id
    if wanted.token and wanted.home != here:
        # Before the room counts as one that the token opened.
        await desk.homes.meet(wanted.home)
    plan, naming = await _named(desk, me, by, wanted, partial(_plan, desk, caller, me, wanted))
    home = naming.home or here
    if home != here and not await _is_open(desk, naming.room):
        # Until when the key is good is counted by the clock of the home, which is known once that answered.
        await desk.homes.meet(home)
    is_sealed = bool(sealed_with(plan.opening))
    command = c.OpenRoom(
        operation=wanted.operation,
        idempotency_key=wanted.idempotency_key,
        input=wanted.digest,
        room=naming.room,
        opening=plan.opening,
        title=plan.title,
        mint=desk.keys.key_id(spelled(desk, naming.room, wanted.ref, gated=wanted.approval, is_sealed=is_sealed).key),
        terms=KeyTerms(
            home=plan.opening.home,
            room=naming.room,
            ref=wanted.ref,
            gated=wanted.approval,
            expires_at=Millis(desk.now_at(home) + wanted.ttl_ms),
            max_uses=wanted.max_uses,
            preapproved=wanted.preapproved,
            nonce=b"",
        ),
        recap=bool(wanted.recap),
    )
    # Away from the loop: a long recap takes a while to look through.
    recap, removed = await desk.library.aside(lambda: scrub(wanted.recap))
    actor = await desk.rooms.create(naming.room, home)
    nothing = Shown(0, first_line(naming.room, home))
    settled = await actor.submit(command, by, Draft((TextPart(recap),), nothing))
    room = await actor.quiet()
    replayed = settled.decision.replay is not None or not settled.facts
    active = desk.rooms.home.aggregate.state.active.get(me.id)
    # A room of this home is active from its name on, but the agent may have gone on elsewhere before it was opened.
    is_begun = wanted.kind == "session" and not replayed
    begins = is_begun or (naming.home and not await is_active(desk, me))
    if not wanted.token and active != actor.room and begins:
        await desk.rooms.home.submit(c.Activate(agent=me.id, room=actor.room), by)
    # A room that was opened before has its key from then; the settings may ask for another kind of key today.
    facts: Sequence[e.Header] = settled.facts
    if not facts:
        facts = await desk.library.few_facts(actor.room, Position(0), OPENING_FACTS)
    return Opened(actor, room, room.state.keys[_minted(facts)], replayed, {} if replayed else removed)


async def open_within(
    desk: Desk, caller: Caller, me: AgentRecord, wanted: Wanted, granting: Granting
) -> tuple[RoomHandle, bool]:
    """Open a room at this relay as an agent without a key, within its grant; also whether it was open before. It has
    no key: the person makes one. Raises `Refused` as `open_room` does."""
    grant, signed = granting.opens_with(wanted.token)

    def plan_of(name: str, home: HomeId) -> Plan:
        return planned_within(_plan(desk, caller, me, wanted, name, home), grant, signed)

    by = desk.by(caller, me)
    plan, naming = await _named(desk, me, by, wanted, plan_of)
    command = c.OpenRoom(
        operation=wanted.operation,
        idempotency_key=wanted.idempotency_key,
        input=wanted.digest,
        room=naming.room,
        opening=plan.opening,
        title=plan.title,
        mint=KeyId(""),
        terms=None,
        grant=grant,
        gives=given(signed.grant, grant, grant.names[0]),
    )
    actor = await desk.rooms.create(naming.room)
    settled = await actor.submit(command, by, granting.opened(plan.opening, plan.title, signed))
    if settled.facts:
        desk.kept.add(me.principal, len(encode(plan.opening)) + len(encode(plan.title)) + len(signed.grant))
    # The links of the owner's daemon look for rooms that they do not follow.
    desk.notifier.publish([topics.pairs(plan.opening.owner)])
    return actor, settled.decision.replay is not None or not settled.facts


def _plan(desk: Desk, caller: Caller, me: AgentRecord, wanted: Wanted, name: str, home: HomeId) -> Plan:
    """The room that a request opens under a name in a home. The same request is the same room there, because nothing in
    its opening is drawn: the nonce and the salt follow from the idempotency key. A relay gets it sealed wherever its
    kind can be, unless the person said otherwise: no setting does. Source: sealed spec."""
    is_sealed = home != desk.keys.id and wanted.kind in SEALED_KINDS and not wanted.clear
    return planned(
        desk,
        me,
        wanted.idempotency_key,
        kind=wanted.kind,
        home=home,
        name=name,
        # The relay of a sealed room is not told on which agent host anybody is.
        host="" if is_sealed else caller.facts.host,
        approval=wanted.approval,
        topic=wanted.topic,
        history=wanted.history,
        approver=wanted.approver,
        sealed=is_sealed,
    )


async def _named(
    desk: Desk, me: AgentRecord, by: By, wanted: Wanted, planned: Callable[[str, HomeId], Plan]
) -> tuple[Plan, e.RoomNamed]:
    """As `_name`, where the name leads to the room of this very request. Raises `Refused(idempotency_conflict)`."""
    plan, naming = await _name(desk, me, by, wanted, planned)
    if plan.room != naming.room and not await _is_open(desk, naming.room):
        # This request took a name before, and the daemon ended before the room was opened. The settings changed
        # since, so that the request no longer leads to the room that has the name.
        raise Refused("idempotency_conflict", key=wanted.idempotency_key)
    if wanted.token and not _is_of(desk, wanted.token, naming.room):
        # The same request opened it, with another token or with none: for this one there is no such room.
        raise Refused("idempotency_conflict", key=wanted.idempotency_key)
    return plan, naming


async def _name(
    desk: Desk, me: AgentRecord, by: By, wanted: Wanted, planned: Callable[[str, HomeId], Plan]
) -> tuple[Plan, e.RoomNamed]:
    """The room that is opened, under the name and in the home that this request took now or when it was first made: the
    first free name of `wanted`, `wanted-2` and so on, and the home that it wants."""
    home, here = desk.rooms.home, desk.keys.id
    while True:
        activates = not wanted.token and (wanted.kind == "session" or not await is_active(desk, me))
        state = home.aggregate.state
        name = wanted.name if wanted.is_exact else first_free(wanted.name, state.room_names.get(me.id, {}))
        plan = planned(name, wanted.home)
        named = await home.submit(
            c.NameRoom(
                operation=wanted.operation,
                idempotency_key=wanted.idempotency_key,
                input=wanted.digest,
                owner=me.id,
                room=plan.room,
                name=plan.title.name,
                home=HomeId("") if wanted.home == here else wanted.home,
                activates=activates,
                token=wanted.token,
                wall=desk.clock.now(),
            ),
            by,
        )
        if named.decision.answer == "taken":
            if wanted.is_exact:
                raise Refused("room_exists", name=wanted.name)
            continue  # another opening of this owner took the name in the same moment
        naming = await _naming(desk, named.facts[0] if named.facts else None, named.decision.replay)
        return (plan if named.facts else planned(naming.name, naming.home or here)), naming


async def _naming(desk: Desk, header: e.Header | None, replay: Position | None) -> e.RoomNamed:
    """The name this request took: now, or when it was first made."""
    if header is None:
        assert replay is not None
        [header] = await desk.library.few_facts(HOME_ROOM, Position(replay - 1), 1)
    if not isinstance(header.event, e.RoomNamed):
        raise Refused("idempotency_expired")
    return header.event


def _is_of(desk: Desk, token: str, room: RoomId) -> bool:
    held = desk.rooms.home.aggregate.tokens.holding(token, desk.clock.now())
    return held is not None and room in held.within


async def _is_open(desk: Desk, room: RoomId) -> bool:
    try:
        await desk.rooms.get(room)
    except Refused:
        return False
    return True


def home_for(desk: Desk, wanted: str) -> HomeId:
    """The home that a new room opens in, by its name; an empty name means what the person chose. Raises
    `Refused(home_not_trusted)`."""
    if wanted == LOCAL:
        return desk.keys.id
    return desk.homes.named(wanted) if wanted else desk.homes.default or desk.keys.id


def require_clear(desk: Desk, caller: Caller, home: HomeId) -> None:
    """Refuse that whoever keeps a relay reads a new room there, unless the person says so. Raises `Refused` as
    `require_person` does."""
    if home != desk.keys.id:
        require_person(desk, caller)


class Opening:
    """The handler of `session.open`."""

    def __init__(self, desk: Desk, everywhere: Desk, granting: Granting) -> None:
        self._desk = desk
        self._granting = granting
        self._everywhere = everywhere
        """Also where the desk knows certain rooms alone: a new room is none of them."""

    @handles("session.open")
    async def open_session(self, caller: Caller, params: t.OpenSession) -> t.OpenedSession:
        desk = self._desk
        token = opening_token(desk, caller)
        me = await desk.me(caller)
        size = len(params.context.encode("utf-8", "surrogatepass"))
        await desk.quotas.take(me.id, bytes=size, messages=OPENING)
        check_text(params.context, "context")
        if len(params.topic) > MAX_TOPIC:
            raise Refused("invalid_param", f"A topic has at most {MAX_TOPIC} characters.", param="topic")
        if is_granted_id(me.id):
            return await self._open_within(caller, me, params, token)
        if params.clear:
            require_clear(desk, caller, home_for(desk, params.home))
        approval = desk.settings.approval_default if params.approval is None else params.approval
        weaker = (desk.settings.approval_default and not approval) or params.approver == "agent" or params.preapprove
        if weaker:
            # Only the person may open a room that asks less of newcomers than their settings do, whichever agent is
            # its owner. Source: security spec A1.
            require_person(self._desk, caller)
        idempotency_key = params.idempotency_key or desk.random.new("k")
        try:
            wanted = msgspec.structs.replace(
                self._empty(params, idempotency_key, token),
                recap=params.context,
                approval=approval,
                approver=params.approver,
                ref=desk.random.new("k"),
                preapproved=tuple(dict.fromkeys(_agent_id(who) for who in params.preapprove)),
                ttl_ms=Millis(params.ttl_ms or desk.settings.key_ttl_ms),
                max_uses=params.max_uses or desk.settings.key_max_uses,
            )
            return await self._opened(await open_room(self._everywhere, caller, me, wanted), idempotency_key)
        except ParlerError as error:
            # The idempotency key travels with the failure too, so that a retry can be the same request.
            error.details.setdefault("key", idempotency_key)
            raise

    def _empty(self, params: t.OpenSession, idempotency_key: str, token: str) -> Wanted:
        """The room that is asked for, with no words and no key, where nobody comes in unasked."""
        return Wanted(
            operation="session.open",
            idempotency_key=idempotency_key,
            digest=input_digest(params),
            kind="session",
            name=slug(params.topic, fallback="session") if params.name is None else label(params.name),
            is_exact=params.name is not None,
            token=token,
            topic=params.topic,
            home=home_for(self._desk, params.home),
            approval=True,
            history=params.history,
            clear=params.clear,
            ref="",
            ttl_ms=Millis(0),
            max_uses=0,
        )

    async def _open_within(self, caller: Caller, me: AgentRecord, params: t.OpenSession, token: str) -> t.OpenedSession:
        """Open a room at this relay for an agent without a key: empty, and nobody comes in unasked."""
        desk = self._desk
        beyond = {
            "context": params.context,
            "approval": params.approval is False,
            "approver": params.approver == "agent",
            "preapprove": params.preapprove,
            "ttl_ms": params.ttl_ms,
            "max_uses": params.max_uses,
        }
        if (param := next((name for name, is_said in beyond.items() if is_said), None)) is not None:
            said = (
                "A room that is opened at a relay with a token begins with no words and no key, and its person decides."
            )
            raise Refused("invalid_param", said, param=param)
        idempotency_key = params.idempotency_key or desk.random.new("k")
        wanted = self._empty(params, idempotency_key, token)
        try:
            actor, replayed = await open_within(self._everywhere, caller, me, wanted, self._granting)
        except ParlerError as error:
            error.details.setdefault("key", idempotency_key)
            raise
        state = (await actor.quiet()).state
        return t.OpenedSession(
            room=actor.room,
            name=state.name,
            session_key=None,
            join_command=None,
            mcp_command=None,
            expires=0,
            approval=True,
            replayed=replayed,
            idempotency_key=idempotency_key,
            you=handle_of(state, me.id),
        )

    async def _opened(self, opened: Opened, idempotency_key: str) -> t.OpenedSession:
        actor, room, key = opened.handle, opened.room, opened.key
        typed, gated = typed_key_of(self._everywhere, room.state, key), key.gated
        session_key = None if typed is None else await handed_on(self._everywhere, actor, typed)
        is_here = self._desk.rooms.is_here(room)
        warnings = []
        state = key.state(self._desk.now_at(room.state.home))
        if state != "live":
            warnings.append(f"Nobody new can knock with this key: it is {_words(state)}.")
        if not gated:
            warnings.append("Whoever has this key comes in without being asked about. Do not paste it in public.")
        if opened.removed:
            warnings.append(f"Taken out of the recap: {listed(opened.removed)}")
        return t.OpenedSession(
            room=actor.room,
            name=room.state.name,
            session_key=session_key,
            line=None if session_key is None else f"Join the Parler session {session_key}.",
            join_command=None if session_key is None else f"parler session join {session_key}",
            mcp_command=self._mcp_command(session_key) if session_key and gated and is_here else None,
            connect_command=None if is_here else self._desk.homes.join_line(room.state.home),
            expires=key.expires_at,
            approval=gated,
            replayed=opened.replayed,
            idempotency_key=idempotency_key,
            warning=" ".join(warnings) or msgspec.UNSET,
            you=handle_of(room.state, room.state.owner),
            sealed=bool(room.state.lifecycle.sealed),
        )

    def _mcp_command(self, session_key: str) -> str | None:
        """Where no agent host has Parler yet: an ungated key never comes here, for it is a secret, and a command to
        paste ends up in a host's config; nor does a key of a relay, with which no window knocks by itself. In a
        connected host it would add a second Parler beside the first."""
        if self._desk.host_files.is_connected():
            return None
        return f"claude mcp add parler -e PARLER_SESSION_KEY={session_key} -- parler mcp"


def _minted(opening: Sequence[e.Header]) -> KeyId:
    """The key that an opening minted, from the facts that it led to."""
    return next(header.event.key for header in opening if isinstance(header.event, e.KeyMinted))


def _agent_id(who: str) -> AgentId:
    """A pre-approved agent: by id alone, never by a name it chose itself. Source: rooms spec."""
    if not is_keyed_id(who):
        said = "Pre-approval takes agent ids (U...), not names."
        hint = "Names can be taken by anybody. `parler --as NAME whoami` shows the id of an agent of yours."
        raise Refused("invalid_param", said, hint=hint, param="preapprove")
    return AgentId(who)


def _words(state: str) -> str:
    return state.replace("_", " ")
