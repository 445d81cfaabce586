"""What every operation's handler works with, in one place, and the few lookups all of them share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

import trio

from parlerd.core.approvals import KeyState
from parlerd.core.errors import Refused
from parlerd.core.identities import AgentRecord
from parlerd.core.membership import MAX_COMPARED, present
from parlerd.core.model import MAX_LABEL, By, RoomId
from parlerd.core.room import Room
from parlerd.engine.actor import RoomActor
from parlerd.engine.budget import TurnBudget
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.driver import Driver
from parlerd.engine.notifier import Notifier, Waiter
from parlerd.engine.ports import Clock, HostFiles, Keys, Randomness
from parlerd.engine.quota import Quotas
from parlerd.engine.rooms import Rooms
from parlerd.engine.seats import Seats
from parlerd.engine.throttle import GuessThrottle
from parlerd.identity import codes
from parlerd.operations import types as t
from parlerd.settings import Settings

BEGINS: Final = 4
"""Characters of a key that tell it from the others of one person: with 100 keys of 32 letters it is unlikely (one in
200) that two begin alike, and the other half of a key that admits unasked stays secret."""
WITHHELD: Final = (
    "The code that a person types for it is not shown to what an agent host runs: in a terminal of their own they see "
    "it with `parler session join KEY --as NAME`."
)
"""Said in place of a code to a command that an agent host started."""
AT_ONCE: Final = 100
"""Rooms that a call looks through before it lets others have the loop: some 10 ms of work."""
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

    async def wait(self, caller: Caller, waiter: Waiter, seconds: float) -> None:
        """Until the waiter is woken or the time is over; meanwhile the caller counts as one that waits.

        Raises `Refused` with `draining` when the daemon stops.
        """
        if self.draining:
            raise Refused("draining")
        caller.waiting += 1
        try:
            with trio.move_on_after(seconds):
                await waiter.wait()
        finally:
            caller.waiting -= 1

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
        matching = [room for room in self.named(wanted) if room in inside]
        if not matching:
            owned = self.rooms.home.aggregate.state.room_names.values()
            names = sorted(
                {name for named in owned for name, room in named.items() if room in inside},
                key=lambda name: (wanted not in name, name),
            )
            near = get_close_matches(wanted[:MAX_LABEL], names[:MAX_COMPARED], n=1)
            raise Refused("no_such_room", f"You are in no room of that name. Did you mean {near[0]}?" if near else None)
        return await self.member_room(agent, self.only(matching, wanted))

    def is_active(self, agent: AgentRecord) -> bool:
        """Whether it has an active session."""
        return agent.id in self.rooms.home.aggregate.state.active

    def doors(self, agent: AgentRecord) -> list[RoomId]:
        """The rooms at whose door it waits for a person's decision."""
        return [m.room for m in self.driver.store.memberships(agent.id) if m.state == "pending"]

    async def knock_at(self, agent: AgentRecord, room: RoomId) -> t.Knocking | None:
        """An agent's request to come in: what the person is asked to type for it, and how the key begins that it came
        with; None when it was decided a moment ago."""
        state = (await self.rooms.get(room)).aggregate
        request = next((request for request in state.pending() if request.agent == agent.id), None)
        if request is None:
            return None
        begins = (self.session_key_of(room, state.state.keys[request.key_id]) or "")[:BEGINS]
        return t.Knocking(room=room, join_code=self.keys.join_code(request.id), begins=begins)

    async def knocks(self, agent: AgentRecord) -> list[t.Knocking]:
        """Every request of an agent that waits for a person."""
        return [knock for room in self.doors(agent) if (knock := await self.knock_at(agent, room)) is not None]

    def session_key(self, room: RoomId, *, gated: bool) -> str:
        """The key of a room as it is typed."""
        return self.keys.session_key(room, codes.GATED_LENGTH if gated else codes.OPEN_LENGTH)

    def session_key_of(self, room: RoomId, key: KeyState) -> str | None:
        """A key as it is typed; None for one that an earlier version drew at random, of which nothing is kept."""
        session_key = self.session_key(room, gated=key.gated)
        return session_key if self.keys.key_id(session_key) == key.id else None

    def shows_code(self, caller: Caller) -> bool:
        """Whether this door may show an agent the code that a person types for it: the agent's own window, or a command
        of the person's. What an agent host runs in a shell may belong to the very side that approves. Source: security
        spec A2."""
        return caller.via == "mcp" or (caller.via == "cli" and not self.inspect(caller.peer).agent_host)

    async def with_code(self, caller: Caller, error: Refused) -> Refused:
        """A `join_pending` as this caller may hear it: with its code, where that may be shown."""
        if caller.agent is None or not self.shows_code(caller):
            return error
        knocks = await self.knocks(self.rooms.home.aggregate.state.agents[caller.agent])
        if not knocks:
            return error  # it was decided this moment
        typed = [knock.join_code or "" for knock in knocks]
        if len(knocks) > 1:
            typed = [f"{knock.join_code} (key {knock.begins}...)" for knock in knocks]
        said = f"Your request to come in waits for a person; your code is {', '.join(typed)}."
        return Refused("join_pending", said, join_code=knocks[0].join_code, door=knocks[0].room)

    async def _nowhere(self, agent: AgentRecord) -> Refused:
        """Why there is no active session: what became of the agent's knocks is part of the answer."""
        knocks = await self.knocks(agent)
        if knocks:
            # The code itself is added at the engine's face, for those who may see it.
            return Refused("join_pending", hint=WITHHELD, tool_hint=WITHHELD, door=knocks[0].room)
        memberships = self.driver.store.memberships(agent.id)
        if memberships and all(membership.state == "denied" for membership in memberships):
            # Later it had a session of its own, and lost that: then this is not why it has none.
            return Refused("join_denied", door=memberships[-1].room)
        return Refused("no_active_session")

    async def owned_rooms(self, agent: AgentRecord, wanted: str | None, *, person: bool) -> list[RoomId]:
        """Rooms whose requests this caller may see: one that is named, or all. As a person, those of all their
        agents."""
        rooms = self.driver.store.owned(agent.principal)
        if wanted is not None:
            named = [RoomId(wanted)] if RoomId(wanted) in rooms else self.named(wanted)
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

    def named(self, wanted: str) -> list[RoomId]:
        """Every room of this home that its owner has under this name."""
        names = self.rooms.home.aggregate.state.room_names
        return [owned[wanted] for owned in names.values() if wanted in owned]

    def _inside(self, agent: AgentRecord, room: RoomId) -> bool:
        return any(m.room == room and m.state == "member" for m in self.driver.store.memberships(agent.id))


async def pause_among(number: int) -> None:
    """Called with 1, 2, 3 and so on by a loop over rooms: from time to time the event loop is given to others."""
    if number % AT_ONCE == 0:
        await trio.lowlevel.checkpoint()
