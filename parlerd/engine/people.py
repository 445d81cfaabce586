"""The people who may open links to this home: let in, listed, and sent away.

A relay asks this; a person's own home has no people. Not here: the proof of a person, the join secret, and ending the
links that are open (`relay`). Above: the relay's program. Below: the home room, and the line of every room. Invariant:
each room is changed by its own rules, so every reader's mirror follows. Whoever sends somebody away puts them out
before anything is taken from them: a crash in between leaves nobody who could come back, and taking away once more
takes the rest.
"""

from __future__ import annotations

from typing import NamedTuple

from parlerd.core import commands as c
from parlerd.core import events as e
from parlerd.core.enrolment import Person
from parlerd.core.errors import Refused
from parlerd.core.model import PrincipalId
from parlerd.engine.deciding import home_itself
from parlerd.engine.library import Library
from parlerd.engine.rooms import RoomDoor, pause_among


class TakenAway(NamedTuple):
    """What a person had in rooms: places of their agents, and keys of rooms of theirs."""

    memberships: int
    keys: int


class People:
    """Everybody who was ever enrolled here."""

    def __init__(self, rooms: RoomDoor, library: Library, by: PrincipalId) -> None:
        self._rooms = rooms
        self._library = library
        self._by = home_itself(by)
        """The home itself: no agent acts here."""

    def find(self, principal: PrincipalId) -> Person | None:
        """Whoever has this key, if they were ever enrolled; also after they were sent away."""
        return self._rooms.home.aggregate.state.people.get(principal)

    def all(self) -> list[Person]:
        """Everybody who was ever enrolled, in the order in which they first came."""
        return list(self._rooms.home.aggregate.state.people.values())

    async def enrol(self, principal: PrincipalId, name: str) -> None:
        """Let a person in; on the disk when this returns. Harmless for one who is in. Raises
        `Refused(invalid_name)`."""
        await self._rooms.home.submit(c.EnrolPerson(principal=principal, name=name), self._by)

    async def put_out(self, principal: PrincipalId) -> None:
        """Let a person in no longer; on the disk when this returns. Raises `Refused(no_such_agent)` for one who was
        never enrolled."""
        await self._rooms.home.submit(c.KickPerson(principal=principal), self._by)

    async def take_away(self, principal: PrincipalId) -> TakenAway:
        """Take away what a person has in rooms. Raises `ParlerError` where a room cannot be written; what was taken
        before stays so, and calling this again takes the rest."""
        memberships = keys = 0
        home = self._rooms.home
        agents = home.aggregate.state.agents
        for token in list(home.aggregate.tokens.all()):
            # Those by which others act end as those leave; nobody leaves for one with which somebody may come in.
            if token.kind == "aj" and token.agent in agents and agents[token.agent].principal == principal:
                await home.submit(c.RevokeToken(operation="token.revoke", token=token.id, authority="home"), self._by)
        for number, name in enumerate(await self._library.all_rooms(), 1):
            await pause_among(number)
            try:
                settled = await (await self._rooms.get(name)).submit(c.Expel(principal=principal), self._by)
            except Refused as error:
                if error.code not in ("newer_log", "room_moved"):
                    raise
                # A newer Parler wrote there, or another relay has the room: it sends the person away.
                continue
            facts = [header.event for header in settled.facts]
            memberships += sum(isinstance(event, e.MemberLeft) for event in facts)
            keys += sum(isinstance(event, e.KeyRevoked) for event in facts)
        return TakenAway(memberships, keys)
