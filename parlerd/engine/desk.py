"""What every operation's handler works with, in one place, and the few lookups all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from parlerd.core.errors import Refused
from parlerd.core.home import AgentRecord
from parlerd.core.membership import present
from parlerd.core.model import By, RoomId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.budget import TurnBudget
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.driver import Driver
from parlerd.engine.notifier import Notifier
from parlerd.engine.ports import Clock, HostFiles, Keys, Randomness
from parlerd.engine.quota import Quotas
from parlerd.engine.rooms import Rooms
from parlerd.engine.seats import Seats
from parlerd.engine.throttle import GuessThrottle
from parlerd.settings import Settings

WITHHELD: Final = (
    "The code that a person types for it is not shown to what an agent host runs: in a terminal of their own they see "
    "it with `parler session join KEY --as NAME`."
)
"""Said in place of a code to a command that an agent host started."""
Inspect = Callable[[PeerProcess], PeerProcess]


@dataclass(slots=True)
class Desk:
    """The engine's parts. `settings_now` reads what a daemon that starts now would serve, and may raise;
    `home_path` is where this home lives; `default_home` says whether that is `~/.parler`."""

    driver: Driver
    rooms: Rooms
    seats: Seats
    notifier: Notifier
    clock: Clock
    random: Randomness
    keys: Keys
    settings: Settings
    throttle: GuessThrottle
    inspect: Inspect
    settings_now: Callable[[], Settings]
    host_files: HostFiles
    version: str
    home_path: str
    default_home: bool
    draining: bool = False
    budget: TurnBudget = field(default_factory=TurnBudget)
    quotas: Quotas = field(init=False)

    def __post_init__(self) -> None:
        self.quotas = Quotas(self.settings)

    # -- who -----------------------------------------------------------------------------------------------

    async def me(self, caller: Caller) -> AgentRecord:
        """The agent this caller acts as, leased or created on first use."""
        return await self.seats.identify(caller)

    def by(self, caller: Caller, agent: AgentRecord) -> By:
        """The stamp on what this caller does."""
        return By(
            actor=agent.id,
            principal=agent.principal,
            session=caller.window or caller.session,
            host=caller.host,
            via=caller.via,
            pid=caller.peer.pid,
            program=caller.peer.program,
        )

    # -- where ---------------------------------------------------------------------------------------------

    async def room_of(self, agent: AgentRecord, wanted: str | None) -> tuple[RoomActor[Room], Room]:
        """The room a member means by an id, a name, or nothing (its active session).

        Raises `Refused` with `no_such_room` (also for an outsider), `ambiguous_name`, and for an agent without an
        active session `join_pending`, `join_denied` or `no_active_session`.
        """
        if wanted is None:
            active = self.rooms.home.aggregate.state.active.get(agent.id)
            if active is None:
                raise await self._nowhere(agent)
            try:
                return await self.member_room(agent, active)
            except Refused:
                raise await self._nowhere(agent) from None
        inside = {m.room for m in self.driver.store.memberships(agent.id) if m.state == "member"}
        if RoomId(wanted) in inside:
            return await self.member_room(agent, RoomId(wanted))
        matching = [room for room in self._named(wanted) if room in inside]
        return await self.member_room(agent, self.only(matching, wanted))

    def is_active(self, agent: AgentRecord) -> bool:
        """Whether it has an active session."""
        return agent.id in self.rooms.home.aggregate.state.active

    def doors(self, agent: AgentRecord) -> list[RoomId]:
        """The rooms at whose door it waits for a person's decision."""
        return [m.room for m in self.driver.store.memberships(agent.id) if m.state == "pending"]

    def shows_code(self, caller: Caller) -> bool:
        """Whether this door may show an agent the code that a person types for it: the agent's own window, or a command
        of the person's. What an agent host runs in a shell may belong to the very side that approves. Source: security
        spec A2."""
        return caller.via == "mcp" or (caller.via == "cli" and not self.inspect(caller.peer).agent_host)

    async def with_code(self, caller: Caller, error: Refused) -> Refused:
        """A `join_pending` as this caller may hear it: with its code, where that may be shown."""
        door = error.details.get("door")
        if caller.agent is None or door is None or not self.shows_code(caller):
            return error
        code = await self.code_at(self.rooms.home.aggregate.state.agents[caller.agent], RoomId(door))
        if code is None:
            return error  # it was decided this moment
        said = f"Your request to come in waits for a person; your code is {code}."
        return Refused("join_pending", said, join_code=code, door=door)

    async def code_at(self, agent: AgentRecord, room: RoomId) -> str | None:
        """What a person is asked to type for an agent's request to come in; None when it was decided a moment ago."""
        pending = (await self.rooms.get(room)).aggregate.pending()
        request = next((request for request in pending if request.agent == agent.id), None)
        return None if request is None else self.keys.join_code(request.id)

    async def _nowhere(self, agent: AgentRecord) -> Refused:
        """Why there is no active session: what became of the agent's knocks is part of the answer."""
        for room in self.doors(agent):
            code = await self.code_at(agent, room)
            if code is not None:
                # The code itself is added at the engine's face, for those who may see it.
                return Refused("join_pending", hint=WITHHELD, tool_hint=WITHHELD, door=room)
        for membership in self.driver.store.memberships(agent.id):
            if membership.state == "denied":
                return Refused("join_denied", door=membership.room)
        return Refused("no_active_session")

    async def owned_rooms(self, agent: AgentRecord, wanted: str | None, *, person: bool) -> list[RoomId]:
        """Rooms whose requests this caller may see: one that is named, or all. As a person, those of all their
        agents."""
        rooms = self.driver.store.owned(agent.principal)
        if wanted is not None:
            named = [RoomId(wanted)] if RoomId(wanted) in rooms else self._named(wanted)
            rooms = [room for room in named if room in rooms]
        if not person:
            others = rooms
            rooms = [room for room in others if (await self.rooms.get(room)).aggregate.state.owner == agent.id]
            if wanted is not None and not rooms and any(self._inside(agent, room) for room in others):
                raise Refused("not_owner")
        return rooms if wanted is None else [self.only(rooms, wanted)]

    async def member_room(self, agent: AgentRecord, room: RoomId) -> tuple[RoomActor[Room], Room]:
        actor = await self.rooms.get(room)
        state = await actor.quiet()
        present(state.state.members, agent.id)
        return actor, state

    def only(self, rooms: list[RoomId], wanted: str) -> RoomId:
        """The one room of a list. Raises `Refused` with `no_such_room`, or `ambiguous_name` and the candidates."""
        if not rooms:
            raise Refused("no_such_room")
        if len(rooms) > 1:
            raise Refused("ambiguous_name", f"More than one of your rooms is called {wanted!r}.", candidates=rooms)
        return rooms[0]

    def name_of(self, room: RoomId) -> str:
        """A room's name as its owner has it."""
        for names in self.rooms.home.aggregate.state.room_names.values():
            for name, named in names.items():
                if named == room:
                    return name
        return room

    def _named(self, wanted: str) -> list[RoomId]:
        names = self.rooms.home.aggregate.state.room_names
        return [owned[wanted] for owned in names.values() if wanted in owned]

    def _inside(self, agent: AgentRecord, room: RoomId) -> bool:
        return any(m.room == room and m.state == "member" for m in self.driver.store.memberships(agent.id))
