"""The room of two agents: who is meant by a name, which room the two have, and how each of them comes into it.

    send --to NAME, no room named  ->  a member of the active session of that name: attention there, as ever
                                       otherwise: the one agent of that name that the caller can see (`meant`)
    the room of the pair           ->  the one that they have, unless it is over; else the caller opens it (`between`)

Whoever opens it names the other in the terms of its key, which is shown to nobody. The other comes in by a knock of its
own, as into any room: its home makes the knock for it, at once, or where its card says that it wants to be asked, when
its person agrees. So a direct room shows who is in it by the same signatures as every room.

Not here: which of two rooms counts (`core.pairs`), messages (`sending`), the decision about who asked (`approving`).
Above: `sending`, `approving`. Below: the directory, the desk. Invariants: a pair has one room at a time, however often
and from which side it is asked for; who cannot be seen looks like who does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from parlerd.core import commands as c
from parlerd.core.errors import Refused
from parlerd.core.home import HomeRoom
from parlerd.core.identities import AgentRecord
from parlerd.core.model import MAX_LABEL, AgentId, HomeId, Millis, RoomId
from parlerd.core.pairs import Ask
from parlerd.core.room import Room
from parlerd.core.statements import MAX_MOMENT, NONCE, KeyTerms, Title, encode, room_id_of, title_digest
from parlerd.core.statements import Opening as SignedOpening
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.directory import DirectoryHandlers
from parlerd.engine.handles import LOCAL, RoomHandle
from parlerd.engine.key_text import typed_key
from parlerd.engine.lookup import active_room
from parlerd.engine.person import is_person
from parlerd.engine.quota import OPENING
from parlerd.engine.rooms import pause_among

_PEER: Final = "peer"
"""What statements call the key of a direct room."""
_HINT: Final = (
    "An agent is found here that shares a room with you or has a card that you can see: `parler discover` lists cards, "
    "and the other makes one with `parler register --public`."
)
_TOOL_HINT: Final = (
    'An agent is found here that shares a room with you or has a card that you can see: parler_rooms {"action":'
    '"discover"} lists cards.'
)


@dataclass(slots=True)
class Acquaintance:
    """An agent that the caller can see."""

    id: AgentId
    name: str
    homes: set[str] = field(default_factory=set)
    """The names of the homes where the two know each other: `local`, or relays'."""


@dataclass(frozen=True, slots=True)
class Direct:
    """The room of a pair, for a message that goes there."""

    handle: RoomHandle
    to: tuple[str, ...]
    """The other agent, if it is in."""
    name: str
    """What the other is called."""
    is_new: bool
    """Whether this call opened the room."""
    is_awaited: bool
    """Whether the other is not in yet."""


class Directs:
    """Finds agents by name and makes the rooms of pairs."""

    def __init__(self, desk: Desk, directory: DirectoryHandlers) -> None:
        self._desk = desk
        self._directory = directory

    @property
    def _home(self) -> HomeRoom:
        return self._desk.rooms.home.aggregate

    # -- who is meant --------------------------------------------------------------------------------------

    async def meant(self, caller: Caller, me: AgentRecord, to: Sequence[str]) -> Acquaintance | None:
        """The agent that a message for `to` goes to directly; None where it goes to the active session, because all of
        them are members there, or because the caller's door lets it into certain rooms only. The message goes there
        also where nobody else has that name: the session then says who is in it, and `unknown` who else might be meant.

        Raises `Refused`: `no_such_agent` for a caller without an active session and a name that means nobody it can
        see, `ambiguous_name`, and `invalid_param` for the caller itself and for more than one name.
        """
        if caller.facts.authority.rooms is not None:
            return None
        active = await self._active(me)
        if active is not None and are_in_session(active, me.id, to):
            return None
        if len(to) > 1:
            said = "A direct message goes to one agent; these are not all members of your active session."
            raise Refused(
                "invalid_param", said, hint="Name the room with --room, or send one message to each.", param="to"
            )
        return await self._find(caller, me, to[0], active)

    async def _active(self, me: AgentRecord) -> Room | None:
        """The caller's active session, if it is in one."""
        name = active_room(self._desk, me.id)
        if name is None:
            return None
        room = (await self._desk.rooms.get(name)).aggregate
        member = room.state.members.get(me.id)
        return room if member is not None and member.present else None

    async def _find(self, caller: Caller, me: AgentRecord, who: str, active: Room | None) -> Acquaintance | None:
        found = await self._named(caller, me, who)
        name, at, home = who.rpartition("@")
        if not found and at:
            named = await self._named(caller, me, name)
            found = [each for each in named if home in each.homes]
        if not found and who in (me.id, me.name, f"{me.name}@{LOCAL}", self._handle_in(active, me.id)):
            raise Refused("invalid_param", "That is yourself: a direct message goes to another agent.", param="to")
        if len(found) > 1:
            apart = [f"{each.name}@{home}" for each in found for home in sorted(each.homes)[:1]]
            candidates = apart if len(set(apart)) == len(apart) else [each.id for each in found]
            said = f"More than one agent that you can see is called {who[:MAX_LABEL]!r}."
            raise Refused("ambiguous_name", said, candidates=candidates)
        if not found:
            if active is not None:
                return None
            said = f"No one that you can see goes by {who[:MAX_LABEL]!r}."
            raise unknown(Refused("no_such_agent", said, agent=who[:MAX_LABEL], candidates=[]))
        return found[0]

    async def _named(self, caller: Caller, me: AgentRecord, who: str) -> list[Acquaintance]:
        """Everybody whom the caller can see and who goes by this name or id. Who is known on this machine goes before
        who only stands in the directory of a relay: nobody there can make a name here mean somebody else."""
        found: dict[AgentId, Acquaintance] = {}

        def note(id: AgentId, name: str, home: str) -> None:
            if id != me.id:
                known = found.setdefault(id, Acquaintance(id, name))
                known.homes.add(LOCAL if id in self._home.state.agents else home)

        for number, room in enumerate(await self._desk.library.my_rooms(me.id), 1):
            await pause_among(number)
            handle = await self._desk.rooms.get(room)
            for member in handle.aggregate.state.members.values():
                if member.present and who in (member.agent, member.handle, self._name_of(member.agent)):
                    note(member.agent, member.handle, handle.home_name)
        own = self._home.by_name(who) or self._home.state.agents.get(AgentId(who))
        if own is not None and is_person(caller):
            note(own.id, own.name, LOCAL)
        for card in await self._directory.seen_here(caller, me, who):
            note(card.agent, card.name, LOCAL)
        return list(found.values())

    @staticmethod
    def _handle_in(active: Room | None, agent: AgentId) -> str | None:
        return None if active is None else active.state.members[agent].handle

    def _name_of(self, agent: AgentId) -> str | None:
        record = self._home.state.agents.get(agent)
        return None if record is None else record.name

    # -- their room ----------------------------------------------------------------------------------------

    async def between(self, caller: Caller, me: AgentRecord, other: Acquaintance, *, is_answer: bool = False) -> Direct:
        """The room of the caller and another agent, with the caller in it. For a message that `is_answer` no room is
        opened: in a new one there is nothing to answer. Raises `Refused(no_such_message)` for that, and what opening a
        room raises."""
        desk = self._desk
        async with desk.pair_lines.alone(me.id, other.id):
            handle, is_new = await self._opened(caller, me, other, is_answer=is_answer)
            await self._bring_in(caller, me, handle)
            peer = self._home.state.agents.get(other.id)
            if peer is not None:
                await self._let_in(caller, me, peer, handle)
            room = await handle.quiet()
            is_in = _is_in(room, other.id)
            for agent in (me.id, other.id):
                if _is_in(room, agent) and agent in self._home.state.agents:
                    await self._seat(caller, me, agent, handle.room)
            return Direct(handle, (other.id,) if is_in else (), other.name, is_new, not is_in)

    async def _opened(
        self, caller: Caller, me: AgentRecord, other: Acquaintance, *, is_answer: bool
    ) -> tuple[RoomHandle, bool]:
        """The room that the two have, or a new one in the place of one that is over."""
        desk, by = self._desk, self._desk.by(caller, me)
        known = self._home.pairs.room_of(me.id, other.id)
        before = None if known is None else await self._room(known)
        if before is not None and not _is_over(before.aggregate):
            return before, False
        if is_answer:
            raise Refused("no_such_message", hint="You and this agent have no room yet: leave out what it answers.")
        desk.quotas.take(me.id, bytes=0, messages=OPENING)
        command = self._opening(caller, me, other, None if before is None else before.aggregate)
        pair = c.PairAgents(operation="message.send", one=me.id, other=other.id, room=command.room, instead=known)
        await desk.rooms.home.submit(pair, by)
        handle = await desk.rooms.create(command.room)
        await handle.submit(command, by)
        return handle, True

    async def room_of(self, ask: Ask) -> RoomHandle | None:
        """The room in which the message of somebody waits who asked; None once it is over, or the agent that was asked
        came in of its own, by writing back."""
        known = self._home.pairs.room_of(ask.agent, ask.asker)
        handle = None if known is None else await self._room(known)
        if handle is None or _is_over(handle.aggregate) or _is_in(handle.aggregate, ask.agent):
            return None
        return handle

    async def admit(self, caller: Caller, ask: Ask, handle: RoomHandle) -> None:
        """The person agreed: the agent that was asked comes into the room."""
        async with self._desk.pair_lines.alone(ask.agent, ask.asker):
            agent = self._home.state.agents[ask.agent]
            await self._bring_in(caller, agent, handle)
            await self._seat(caller, agent, agent.id, handle.room)

    async def _room(self, room: RoomId) -> RoomHandle | None:
        """The room of this id; None for one that was named and never opened, because the daemon ended in between."""
        try:
            return await self._desk.rooms.get(room)
        except Refused:
            return None

    def _opening(self, caller: Caller, me: AgentRecord, other: Acquaintance, before: Room | None) -> c.OpenRoom:
        """The command that opens the room of the two, after the one that they had. The same two after the same room
        give the same room, because nothing in the opening is drawn."""
        desk = self._desk
        # No idempotency key holds a blank, so no session has this opening.
        follows = "direct" if before is None else before.state.room
        secret = desk.keys.opening_secret(me.id, f"{follows} {other.id}")
        name = _name_of_room(me.name, other.name, "" if before is None else before.state.name)
        title = Title(salt=secret[NONCE : 2 * NONCE], name=name, topic="")
        home = HomeId(desk.keys.id)
        opening = SignedOpening(
            home=home,
            kind="dm",
            history="full",
            owner=me.id,
            principal=me.principal,
            handle=me.name,
            host=caller.facts.host,
            approval=True,
            approver="person",
            title=title_digest(encode(title)),
            nonce=secret[:NONCE],
        )
        room = room_id_of(encode(opening))
        return c.OpenRoom(
            operation="message.send",
            room=room,
            opening=opening,
            title=title,
            mint=desk.keys.key_id(typed_key(desk, room, _PEER, gated=True)),
            terms=KeyTerms(
                home=home,
                room=room,
                ref=_PEER,
                gated=True,
                expires_at=Millis(MAX_MOMENT),
                max_uses=1,
                preapproved=(other.id,),
                nonce=secret[NONCE : 2 * NONCE],
            ),
        )

    # -- coming in -----------------------------------------------------------------------------------------

    async def _let_in(self, caller: Caller, me: AgentRecord, peer: AgentRecord, handle: RoomHandle) -> None:
        """Bring in the other agent, which is of this home too, unless it wants to be asked first: then its person is
        asked, and the message waits in the room until they agree."""
        if _is_in(await handle.quiet(), peer.id):
            return
        card = self._home.card_of(peer.id)
        if card is not None and card.direct == "ask":
            asked = c.AskDirect(
                operation="message.send",
                agent=peer.id,
                asker=me.id,
                principal=me.principal,
                name=me.name,
                host=caller.facts.host,
            )
            settled = await self._desk.rooms.home.submit(asked, self._desk.by(caller, me))
            if settled.decision.answer != "approved":
                return
        await self._bring_in(caller, peer, handle)

    async def _bring_in(self, caller: Caller, who: AgentRecord, handle: RoomHandle) -> None:
        """Let an agent of this home come into a direct room that is open to it, if it is not in."""
        room = await handle.quiet()
        if _is_in(room, who.id):
            return
        # The one key of the room; its owner never needs it, for an owner who leaves closes the room.
        key = next(iter(room.state.keys))
        knock = c.Knock(
            operation="message.send", key_id=key, name=who.name, host=who.host, wall=self._desk.now_at(room.state.home)
        )
        by = msgspec.structs.replace(self._desk.by(caller, who), host=who.host)
        await handle.submit(knock, by)

    async def _seat(self, caller: Caller, me: AgentRecord, agent: AgentId, room: RoomId) -> None:
        """An agent without an active session, or with a direct room that is over, goes on in this room, so that a plain
        `recv` reads it."""
        active = self._home.state.active.get(agent)
        handle = None if active is None else await self._room(active)
        if handle is None or (handle.aggregate.state.kind == "dm" and _is_over(handle.aggregate)):
            await self._desk.rooms.home.submit(c.Activate(agent=agent, room=room), self._desk.by(caller, me))


def unknown(error: Refused) -> Refused:
    """What somebody hears who wrote to a name that means nobody it can see: `error`, and how to look for others."""
    found = Refused("no_such_agent", error.message, hint=_HINT, tool_hint=_TOOL_HINT)
    found.details = error.details
    return found


def are_in_session(room: Room, author: AgentId, names: Sequence[str]) -> bool:
    """Whether each of these ids and handles is of somebody who is in the author's active session. An author who names
    nobody but itself means no session, and whoever writes to the other of two whose room is over means a new one."""
    if not names:
        return True
    if room.state.kind == "dm" and _is_over(room):
        return False
    present = [member for member in room.state.members.values() if member.present]
    if len(names) == 1:
        present = [member for member in present if member.agent != author]
    known = {member.agent for member in present} | {member.handle for member in present}
    return known.issuperset(names)


def _is_in(room: Room, agent: AgentId) -> bool:
    member = room.state.members.get(agent)
    return member is not None and member.present


def _is_over(room: Room) -> bool:
    """Whether nothing more is said in a room, so that the two need another."""
    return room.state.closed or room.state.alarm is not None


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
