"""New agents of the person that come over HTTP: how one comes to be, and that one at a time comes into a room.

    Visitors (no token, where every program is let in)  --.
                                                          |--> Newcomers --> Agents, which make the key
    Joins    (a token that joins, or a session key)     --'

Such an agent has a key of its own in the person's key ring, as every other agent of the person has, so what it says is
signed. In the room it has the name that it said; in this home another agent may have that name already.

Not here: how it comes into the room (`visitors`, `joins`), its token (`bearers`). Above: those two. Below: the desk.
Invariant: two who come at once with one name are not both told that the name is free.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, Label, RoomId, agent_name
from parlerd.core.room import RoomState
from parlerd.core.tokens import MAX_TOKENS
from parlerd.engine.callers import Caller
from parlerd.engine.desk import Desk

HOST: Final = "http"
"""The host of the agents that come so."""
MAX_NEWCOMERS: Final = MAX_TOKENS // 2
"""Tokens of agents that came so: the person's own have the rest."""


def in_a_path(name: Label) -> Label:
    """A name that can stand in a path, which dots alone cannot. Raises `Refused(invalid_name)`."""
    if set(name) == {"."}:
        raise Refused("invalid_name", "A name of dots alone leads elsewhere in a path.")
    return name


def name_of(text: str) -> Label:
    """The name of a newcomer. Raises `Refused(invalid_name)`."""
    return in_a_path(agent_name(text))


def require_free(state: RoomState, name: str) -> None:
    """Refuse a name that an agent has, or had, in a room, or that one asked for who waits: the first has it. Raises
    `Refused(agent_exists)`."""
    is_had = any(member.handle == name for member in state.members.values())
    if is_had or any(request.name == name and request.state == "pending" for request in state.requests.values()):
        raise Refused("agent_exists", agent=name)


class Newcomers:
    """Makes the agents that come over HTTP. One for all callers of a home."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._coming: dict[RoomId, trio.Lock] = {}
        """Held while somebody comes into a room: that a name is free, and to take it, lie a commit apart."""
        self._making = trio.Lock()
        """Held while an agent is made, for the same reason."""

    @asynccontextmanager
    async def one_at_a_time(self, room: RoomId) -> AsyncIterator[None]:
        """While somebody comes into this room, nobody else does."""
        lock = self._coming.setdefault(room, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.statistics().tasks_waiting and not lock.locked():
                self._coming.pop(room, None)

    def require_space(self) -> None:
        """Refuse a newcomer where those who came so have as many tokens as they may: the person's own need some too.
        Raises `Refused(too_many_tokens)`."""
        home = self._desk.rooms.home.aggregate
        agents, now = home.state.agents, self._desk.clock.now()
        held = [each for each in home.tokens.all() if now < each.expires_at]
        if sum(each.agent in agents and agents[each.agent].host == HOST for each in held) >= MAX_NEWCOMERS:
            raise Refused("too_many_tokens", limit=MAX_NEWCOMERS)

    async def create(self, name: str, room: RoomId) -> AgentRecord:
        """A new agent, for a room. Raises `Refused(invalid_name)` before anything is made."""
        home = self._desk.rooms.home
        async with self._making:
            slot = 0
            while home.aggregate.by_seat(HOST, room, slot) is not None:
                slot += 1
            return await self._desk.agents.create(home.aggregate.free_name(name), host=HOST, workspace=room, slot=slot)

    def by(self, caller: Caller, me: AgentRecord) -> By:
        """The stamp on what a newcomer does as it comes."""
        return By(actor=me.id, principal=me.principal, session=caller.facts.session, host=HOST, via="http")
