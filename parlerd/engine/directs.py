"""Whom a message is for that names an agent and no room.

    send --to NAME  ->  somebody in the active session: attention there, as ever
                        otherwise the one agent of that name that the caller can see: a direct message (`meant`)

Not here: the room that the two have (`pair_rooms`), messages (`sending`). Above: `sending`. Below: `pair_rooms`, the
directory, the desk. Invariant: who cannot be seen looks like who does not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.home import HomeRoom
from parlerd.core.identities import AgentRecord
from parlerd.core.model import MAX_LABEL, AgentId, HomeId
from parlerd.core.room import Room
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk
from parlerd.engine.directory import DirectoryHandlers
from parlerd.engine.handles import LOCAL
from parlerd.engine.lookup import active_room
from parlerd.engine.pair_rooms import Direct, PairRooms
from parlerd.engine.person import is_person
from parlerd.engine.rooms import pause_among

_HINT: Final = (
    "An agent is found here that shares a room with you or has a card that you can see: `parler discover` lists cards, "
    "and the other makes one with `parler register --public`."
)
_TOOL_HINT: Final = (
    "An agent is found here that shares a room with you or has a card that you can see: parler_discover lists cards."
)


@dataclass(slots=True)
class Acquaintance:
    """An agent that the caller can see."""

    id: AgentId
    name: str
    homes: set[str] = field(default_factory=set)
    """The names of the homes where the two know each other: `local`, or relays'."""


class Directs:
    """Finds agents by name and makes the rooms of pairs."""

    def __init__(self, desk: Desk, directory: DirectoryHandlers) -> None:
        self._desk = desk
        self._directory = directory
        self.rooms = PairRooms(desk)

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
        name = await active_room(self._desk, me.id)
        if name is None:
            return None
        try:
            room = (await self._desk.rooms.get(name)).aggregate
        except Refused:
            return None  # it was deleted meanwhile
        member = room.state.members.get(me.id)
        return room if member is not None and member.present else None

    async def _find(self, caller: Caller, me: AgentRecord, who: str, active: Room | None) -> Acquaintance | None:
        found, silent = await self._named(caller, me, who)
        name, at, home = who.rpartition("@")
        if not found and at:
            named, silent = await self._named(caller, me, name, everywhere=home != LOCAL)
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
            raise unknown(Refused("no_such_agent", said, agent=who[:MAX_LABEL], candidates=[], silent=silent))
        return found[0]

    async def _named(
        self, caller: Caller, me: AgentRecord, who: str, *, everywhere: bool = False
    ) -> tuple[list[Acquaintance], list[str]]:
        """Everybody whom the caller can see and who goes by this name or id, and which relays did not answer. Who is
        known on this machine goes before who only stands in the directory of a relay, unless `everywhere` is asked for:
        nobody there can make a name here mean somebody else."""
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
        silent: list[str] = []
        if everywhere or (not found and who not in (me.id, me.name)):
            elsewhere, silent = await self._directory.seen_elsewhere(me, who)
            for agent in elsewhere:
                note(AgentId(agent.id), agent.name, agent.home)
        return list(found.values()), sorted(silent)

    @staticmethod
    def _handle_in(active: Room | None, agent: AgentId) -> str | None:
        return None if active is None else active.state.members[agent].handle

    def _name_of(self, agent: AgentId) -> str | None:
        record = self._home.state.agents.get(agent)
        return None if record is None else record.name

    # -- their room ----------------------------------------------------------------------------------------

    async def between(self, caller: Caller, me: AgentRecord, other: Acquaintance, *, is_answer: bool = False) -> Direct:
        """The room of the caller and another agent, with the caller in it. Raises as `PairRooms.between` does."""
        by = self._desk.by(caller, me)
        return await self.rooms.between(me, by, other.id, other.name, self._where(other), is_answer=is_answer)

    def _where(self, other: Acquaintance) -> HomeId:
        """Where a new room of the two lives: on this machine if both are here; else on a relay where they know each
        other, of several the one where sessions open, or the first by its name."""
        desk = self._desk
        if LOCAL in other.homes:
            return desk.keys.id
        homes = [desk.homes.named(name) for name in sorted(other.homes)]
        return next((home for home in homes if home == desk.homes.default), homes[0])


def unknown(error: Refused) -> Refused:
    """What somebody hears who wrote to a name that means nobody it can see: `error`, and how to look for others."""
    silent = error.details.get("silent")
    unheard = f" {', '.join(silent)} did not answer, so agents there may be missing." if silent else ""
    found = Refused("no_such_agent", error.message, hint=_HINT + unheard, tool_hint=_TOOL_HINT + unheard)
    found.details = error.details
    return found


def addressed(room: Room, names: tuple[str, ...]) -> tuple[str, ...]:
    """Whose attention a message asks for. In a room of two it has the other's anyway: who is named there is left out,
    so that the same message is the same request before the other came in and after."""
    if room.state.kind != "dm":
        return names
    known = {name for member in room.state.members.values() for name in (member.agent, member.handle)}
    return tuple(name for name in names if name not in known)


def are_in_session(room: Room, author: AgentId, names: Sequence[str]) -> bool:
    """Whether each of these ids and handles is of somebody who is in the author's active session. An author who names
    nobody but itself means no session. A direct room is none: which room two agents have is said by their pair."""
    if not names:
        return True
    if room.state.kind == "dm":
        return False
    present = [member for member in room.state.members.values() if member.present]
    if len(names) == 1:
        present = [member for member in present if member.agent != author]
    known = {member.agent for member in present} | {member.handle for member in present}
    return known.issuperset(names)
