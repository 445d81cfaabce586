"""The one room of two agents: found, opened where it is to live, and how each of the two comes into it.

    an agent here writes first        it opens the room (`between`); the other comes in at once if it is of this home
    an agent elsewhere wrote first    the relay says so over the link (`invited`), and the agent here comes in

Whoever opens the room names the other in the terms of its key, which is shown to nobody. The other comes in by a knock
of its own, as into any room: its home makes the knock for it, at once, or where its card says that it wants to be
asked, when its person agrees. So a direct room shows who is in it by the same signatures as every room.

Not here: whom a name means (`directs`), which of two rooms counts (`core.pairs`), the decision about who asked
(`approving`). Above: `directs`, `approving`, and the links to relays. Below: the desk. Invariants: a pair has one room
at a time, however often and from which side it is asked for; no agent comes into a room that its card does not let it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core.approvals import opened_for
from parlerd.core.errors import ParlerError, Refused
from parlerd.core.home import HomeRoom
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import Member
from parlerd.core.model import (
    MAX_LABEL,
    AgentId,
    By,
    HomeId,
    Millis,
    Position,
    PrincipalId,
    RoomId,
    is_granted_id,
)
from parlerd.core.pairs import Ask
from parlerd.core.room import Room
from parlerd.core.statements import MAX_MOMENT, KeyTerms, decode_opened
from parlerd.engine.desk import Desk
from parlerd.engine.handles import RoomHandle
from parlerd.engine.key_text import spelled
from parlerd.engine.lookup import active_room
from parlerd.engine.plans import planned
from parlerd.engine.quota import OPENING
from parlerd.engine.rooms import pause_among
from parlerd.identity.codes import direct_code

MAX_DELETED: Final = 100
"""How many rooms of one pair may have been deleted, one after the other, until the two get no other: a relay that says
so of every room would be asked for ever."""
OPENED: Final = Position(1)
"""Where in a log the fact stands that the room was opened."""
PEER: Final = "peer"
"""What statements call the key of a direct room."""


@dataclass(frozen=True, slots=True)
class Direct:
    """The room of a pair, for a message that goes there."""

    handle: RoomHandle
    is_new: bool
    """Whether this call opened the room."""
    is_awaited: bool
    """Whether the other is not in yet."""
    needs_both: bool
    """Whether no key of the other is known, so that it reads nothing before both machines were connected."""


class PairRooms:
    """The rooms of pairs, as the agents of this home have them."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    @property
    def _home(self) -> HomeRoom:
        return self._desk.rooms.home.aggregate

    # -- an agent of this home writes ------------------------------------------------------------------------

    async def between(
        self, me: AgentRecord, by: By, other: AgentId, name: str, where: HomeId, *, is_answer: bool
    ) -> Direct:
        """The room of the acting agent `me` and `other`, who is called `name`, with `me` in it. A new one is opened in
        `where`, but not for a message that `is_answer`: in a new room there is nothing to answer. Raises
        `Refused(no_such_message)` for that, and what opening a room raises."""
        async with self._desk.pair_lines.alone(me.id, other):
            handle, is_new = await self._opened(me, by, other, name, where, is_answer=is_answer)
            await self._bring_in(me, by, handle)
            peer = self._home.state.agents.get(other)
            if peer is not None and await self._is_let(peer, by, me.id, me.principal, me.name, by.host, handle):
                await self._bring_in(peer, by, handle)
                await self._seat(peer.id, by, handle.room)
            await self._seat(me.id, by, handle.room)
            room = await handle.quiet()
            return Direct(handle, is_new, not is_in(room, other), needs_both(room, other))

    async def _opened(
        self, me: AgentRecord, by: By, other: AgentId, name: str, where: HomeId, *, is_answer: bool
    ) -> tuple[RoomHandle, bool]:
        """The room that the two have, or a new one in the place of one that is over."""
        desk = self._desk
        known = self._home.pairs.room_of(me.id, other)
        before = None if known is None else await self._room(known)
        if before is not None and _serves(before.aggregate, me.id, other):
            return before, False
        met = await self._met(me.id, other)
        if met is not None:
            await self._pair(by, me.id, other, met.room, instead=known)
            return met, False
        if is_answer:
            raise Refused("no_such_message", hint="You and this agent have no room yet: leave out what it answers.")
        if where != desk.keys.id and is_granted_id(other):
            said = f"{name} has only a token at that relay and no key of its own, so nobody else can be kept out."
            raise Refused("invalid_param", said, hint="Write to it in a room where it is: --room ROOM", param="to")
        await desk.quotas.take(me.id, bytes=0, messages=OPENING)
        follows = known
        for left in reversed(range(MAX_DELETED)):
            command = self._opening(me, other, name, where, follows, None if before is None else before.aggregate)
            try:
                return await self._open(by, other, command, known)
            except Refused as error:
                # Nothing is left that says that the two had this room but its own end: the next follows it.
                if error.code != "room_deleted" or not left:
                    raise
                follows = command.room
        raise AssertionError("the last try ends it")

    async def _open(self, by: By, other: AgentId, command: c.OpenRoom, known: RoomId | None) -> tuple[RoomHandle, bool]:
        """A new room where it is to live. Raises `Refused(room_deleted)` where that very room was deleted."""
        desk = self._desk
        if command.opening.home != desk.keys.id:
            return await self._opened_elsewhere(by, other, command, known)
        handle = await desk.rooms.create(command.room)
        await self._pair(by, by.actor, other, command.room, instead=known)
        await handle.submit(command, by)
        return handle, True

    async def live_room(self, me: AgentId, other: AgentId) -> RoomHandle | None:
        """The room in which the two talk already; None where they have none."""
        known = self._home.pairs.room_of(me, other)
        handle = None if known is None else await self._room(known)
        if handle is not None and _serves(handle.aggregate, me, other):
            return handle
        return await self._met(me, other)

    async def _met(self, me: AgentId, other: AgentId) -> RoomHandle | None:
        """The direct room in which the two met by a code, which named nobody when the room was opened."""
        for number, room in enumerate(await self._desk.library.my_rooms(me), 1):
            await pause_among(number)
            handle = await self._desk.rooms.get(room)
            state = handle.aggregate.state
            if state.kind == "dm" and other in state.members and _serves(handle.aggregate, me, other):
                return handle
        return None

    async def _opened_elsewhere(
        self, by: By, other: AgentId, command: c.OpenRoom, known: RoomId | None
    ) -> tuple[RoomHandle, bool]:
        """The room that the home where it is to live says the two have: what is asked for here or, where the other was
        faster, the other's."""
        desk, home, me = self._desk, command.opening.home, by.actor
        handle, is_new = await desk.rooms.create(command.room, home), True
        try:
            await handle.submit(command, by)
        except Refused as error:
            if error.code != "pair_has_room":
                raise
            room = RoomId(str(error.details.get("room", "")))
            is_new = False
            there = await self._room(room)
            if there is None or not _is_of(there.aggregate, me, other):
                opening = await desk.homes.find_direct(home, room, me)
                if opening.owner != other:
                    # The relay would have the message read by somebody else.
                    raise Refused("relay_equivocation", what="owner") from None
                there = await desk.rooms.get(room)
            handle = there
        await self._pair(by, me, other, handle.room, instead=known)
        return handle, is_new

    def _opening(
        self, me: AgentRecord, other: AgentId, name: str, home: HomeId, follows: RoomId | None, before: Room | None
    ) -> c.OpenRoom:
        """The command that opens the room of the two which follows one that they had; `before` is that room, if it is
        still there. The same two after the same room give the same room, because nothing in the opening is drawn."""
        desk = self._desk
        # No idempotency key holds a blank, so no session has this opening.
        words = f"{follows or 'direct'} {other}"
        called = _name_of_room(me.name, name, "" if before is None else before.state.name)
        is_sealed = is_to_be_sealed(desk, home)
        room, opening, title = planned(
            desk,
            me,
            words,
            kind="dm",
            home=home,
            name=called,
            # Not the host of this call: a repeat may come through another door, and is the same room.
            host="" if is_sealed else me.host,
            approval=True,
            sealed=is_sealed,
        )
        return c.OpenRoom(
            operation="message.send",
            idempotency_key=f"direct:{room}",
            input=room.encode(),
            room=room,
            opening=opening,
            title=title,
            mint=desk.keys.key_id(spelled(desk, room, PEER, gated=True, is_sealed=is_sealed).key),
            terms=KeyTerms(
                home=home,
                room=room,
                ref=PEER,
                gated=True,
                expires_at=Millis(MAX_MOMENT),
                max_uses=1,
                preapproved=(other,),
                nonce=title.salt,
            ),
            peer=name,
        )

    async def _pair(self, by: By, one: AgentId, other: AgentId, room: RoomId, *, instead: RoomId | None) -> None:
        pair = c.PairAgents(operation="message.send", one=one, other=other, room=room, instead=instead)
        await self._desk.rooms.home.submit(pair, by)

    # -- an agent of another home wrote ----------------------------------------------------------------------

    async def invited(self, home: HomeId, room: RoomId, agent: AgentId) -> None:
        """Another home says that somebody there has a direct room with an agent of this home that is not in it: the
        agent comes in, or its person is asked. Raises `ParlerError`."""
        me = self._home.state.agents[agent]
        by = By(agent, me.principal, "", me.host, "link")
        there = await self._room(room)
        if there is not None and is_in(there.aggregate, agent):
            return
        opening = await self._desk.homes.find_direct(home, room, agent)
        async with self._desk.pair_lines.alone(agent, opening.owner):
            handle = await self._desk.rooms.get(room)
            known = self._home.pairs.room_of(agent, opening.owner)
            before = None if known is None else await self._room(known)
            # Where the two wrote to each other on two relays at once, both sides go on in the same of the two rooms.
            gives_way = known is not None and (before is None or is_over(before.aggregate) or room < known)
            await self._pair(by, agent, opening.owner, room, instead=known if gives_way else None)
            name, host = opening.handle, opening.host
            if await self._is_let(me, by, opening.owner, opening.principal, name, host, handle):
                await self._bring_in(me, by, handle)
                await self._seat(agent, by, room)

    # -- whom the person lets write --------------------------------------------------------------------------

    async def room_of(self, ask: Ask) -> RoomHandle | None:
        """The room in which the message of somebody waits who asked; None once it is over, or the agent that was asked
        came in of its own, by writing back."""
        known = self._home.pairs.room_of(ask.agent, ask.asker)
        handle = None if known is None else await self._room(known)
        if handle is None or is_over(handle.aggregate) or is_in(handle.aggregate, ask.agent):
            return None
        return handle

    async def code_of(self, handle: RoomHandle) -> str:
        """What the one of the two shows who opened the room, and the person of the other types. '' where the log here
        does not hold the opening."""
        stored = (await self._desk.library.bodies(handle.room, [OPENED])).get(OPENED)
        if stored is None or not stored.body:
            return ""
        try:
            return direct_code(decode_opened(stored.body)[0])
        except Refused:
            return ""

    async def admit(self, ask: Ask, by: By, handle: RoomHandle) -> None:
        """The person agreed, as `by`: the agent that was asked comes into the room, now or as soon as the room's home
        lets it in."""
        async with self._desk.pair_lines.alone(ask.agent, ask.asker):
            agent = self._home.state.agents[ask.agent]
            try:
                await self._bring_in(agent, by, handle)
            except ParlerError as error:
                if not error.spec.retryable:
                    raise
                # A home says once on each link who is waited for, and this link may last.
                self._desk.homes.bring_in_later(handle.aggregate.state.home, handle.room, agent.id)
                return
            await self._seat(agent.id, by, handle.room)

    async def _is_let(
        self,
        agent: AgentRecord,
        by: By,
        asker: AgentId,
        principal: PrincipalId,
        name: str,
        host: str,
        handle: RoomHandle,
    ) -> bool:
        """Whether an agent of this home comes into this room now. One that wants to be asked does not before its person
        agreed: the person is asked, and the message waits in the room until then."""
        card = self._home.card_of(agent.id)
        if is_in(await handle.quiet(), agent.id) or card is None or card.direct == "open":
            return True
        asked = c.AskDirect(
            operation="message.send", agent=agent.id, asker=asker, principal=principal, name=name, host=host
        )
        settled = await self._desk.rooms.home.submit(asked, by)
        return settled.decision.answer == "approved"

    # -- coming in -------------------------------------------------------------------------------------------

    async def _room(self, room: RoomId) -> RoomHandle | None:
        """The room of this id; None for one that was deleted, or named and never opened, because the daemon ended in
        between."""
        try:
            return await self._desk.rooms.get(room)
        except Refused:
            return None

    async def _bring_in(self, who: AgentRecord, by: By, handle: RoomHandle) -> None:
        """Let an agent of this home come into a direct room that is open to it, if it is not in. `by` says what led to
        this."""
        room = await handle.quiet()
        if is_in(room, who.id):
            return
        # The one key of the room; its owner never needs it, for an owner who leaves closes the room.
        key = next(iter(room.state.keys))
        wall = self._desk.now_at(room.state.home)
        knock = c.Knock(operation="message.send", key_id=key, name=who.name, host=who.host, wall=wall)
        await handle.submit(knock, msgspec.structs.replace(by, actor=who.id, principal=who.principal, host=who.host))

    async def _seat(self, agent: AgentId, by: By, room: RoomId) -> None:
        """An agent without an active session, or with a direct room that is over, goes on in this room, so that a plain
        `recv` reads it."""
        active = await active_room(self._desk, agent)
        handle = None if active is None else await self._room(active)
        if handle is None or (handle.aggregate.state.kind == "dm" and is_over(handle.aggregate)):
            await self._desk.rooms.home.submit(c.Activate(agent=agent, room=room), by)


def is_to_be_sealed(desk: Desk, home: HomeId) -> bool:
    """Whether a new direct room is sealed there: always, but at home. Nobody says otherwise: what two agents write to
    each other is for nobody who carries it."""
    return home != desk.keys.id


def is_in(room: Room, agent: AgentId) -> bool:
    """Whether an agent is in a room now."""
    member = room.state.members.get(agent)
    return member is not None and member.present


def _is_of(room: Room, agent: AgentId, other: AgentId) -> bool:
    """Whether an agent is in a direct room that it opened for the other."""
    state = room.state
    named = opened_for(state.lifecycle, state.keys.values())
    return state.owner == agent and named == {other} and is_in(room, agent)


def _serves(room: Room, one: AgentId, other: AgentId) -> bool:
    """Whether two agents can talk in a room: it is not over, and each of them is in, or is named by its key and so can
    come in. Whoever left a room that they met in by a code cannot come back with the code."""
    named = opened_for(room.state.lifecycle, room.state.keys.values())
    return not is_over(room) and all(is_in(room, agent) or agent in named for agent in (one, other))


def is_over(room: Room) -> bool:
    """Whether nothing more is said in a room, so that the two need another."""
    return room.state.closed or room.state.alarm is not None


def needs_both(room: Room, agent: AgentId) -> bool:
    """Whether an agent is not in a sealed room, and the record in force does not hold it either: it reads what is said
    once it came in and the machine of the room's owner made another record."""
    return room.state.is_sealed and not is_in(room, agent) and agent not in room.state.epochs.roster


def awaited(room: Room) -> list[AgentId]:
    """Whom a direct room waits for, of those that it names: who never came in, and who left and was written to
    since."""
    state = room.state
    if state.closed:
        return []
    named = opened_for(state.lifecycle, state.keys.values())
    return [agent for agent in sorted(named) if _is_awaited(room, state.members.get(agent))]


def _is_awaited(room: Room, member: Member | None) -> bool:
    return member is None or (not member.present and room.state.membership.public > member.left_at)


def _name_of_room(opener: str, other: str, before: str) -> str:
    """What the room of two is called: after the two, and from the second on (`before` is the name of the room that they
    had) with a number, whoever of them opened it."""
    suffix = ""
    if before:
        had, _, number = before.rpartition("-")
        is_numbered = (
            bool(had)
            and number.isdecimal()
            and any(
                name != before and name.startswith(had)
                for name in (_pair_name(opener, other), _pair_name(other, opener))
            )
        )
        suffix = f"-{int(number) + 1 if is_numbered else 2}"
    return _pair_name(opener, other)[: MAX_LABEL - len(suffix)] + suffix


def _pair_name(opener: str, other: str) -> str:
    return f"dm/{opener}/{other}"[:MAX_LABEL]
