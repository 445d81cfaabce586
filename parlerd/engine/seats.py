"""Which agent a connection acts as: by conversation or (host, workspace, slot) for windows, by name for commands.

A conversation of a host that is resumed gets the agent that it had, whichever windows are open beside it; one that is
open twice is two agents. Where the host names no conversation, the first window in a workspace gets slot 0, a second
one open at the same time slot 1, and whoever comes back gets the same again. Nothing is leased before the first call
that needs it, so a host that only checks health never becomes an agent. Names, seats and conversations are facts of the
home room; leases are not.

Not here: keeping a seat over a restart (`leases`), making an agent (`agents`), how present it is (`presence`), whose
hook it is (`beside`). Above: the desk. Invariant: no two windows that are there act as one agent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import count

import trio

from parlerd.core.errors import Refused
from parlerd.core.home import HomeRoom
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, Millis, label, person_name
from parlerd.engine.agents import Agents, may_act
from parlerd.engine.callers import Caller
from parlerd.engine.connected import Connected
from parlerd.engine.leases import Leases
from parlerd.engine.places import NAMED, first_free, host_of, numbered, place_name, place_of, slots_of
from parlerd.engine.ports import Clock
from parlerd.engine.rooms import Rooms
from parlerd.engine.seen_hosts import SeenHosts
from parlerd.store.port import Lease


class Seats:
    """Decides who each caller is. `user` names the agent of a command that names none; `seated` is called when a window
    became an agent, for hooks that wait for that."""

    def __init__(
        self,
        *,
        rooms: Rooms,
        agents: Agents,
        leases: Leases,
        connected: Connected,
        hosts: SeenHosts,
        clock: Clock,
        user: str,
        seated: Callable[[], None],
        acted: Callable[[AgentId], None],
        left: Callable[[AgentId], None],
    ) -> None:
        self._rooms = rooms
        self._agents = agents
        self._leases = leases
        self._connected = connected
        self._hosts = hosts
        self._clock = clock
        self._seated = seated
        self._acted = acted
        self._left = left
        self._user = person_name(user)
        # One caller sits down at a time: choosing a seat and taking it lie a commit apart.
        self._sitting_down = trio.Lock()

    @property
    def _home(self) -> HomeRoom:
        """The home room as it is now. A commit that fails puts another object in its place, so it is never kept over an
        await."""
        return self._rooms.home.aggregate

    # -- connections ---------------------------------------------------------------------------------------

    def connect(self, caller: Caller) -> None:
        """A connection is there. It is no agent yet."""
        self._connected.add(caller)
        self._leases.came_back(caller.facts.window)
        self._hosts.note(caller)
        # A name that a window was given is its own from the hello on, long before a call that needs it.
        if caller.facts.window and caller.facts.as_name and self._leases.get(caller.facts.window) is None:
            with suppress(Refused):  # a name that cannot be one is refused at the first call
                self._leases.promise(caller, self._free_name(caller))

    def introduce(self, caller: Caller, host: str) -> None:
        """The window says that it is of another host than the one it was started for: hosts read each other's files."""
        if caller.facts.host != host and caller.agent is None:
            caller.facts = replace(caller.facts, host=host)
            self._hosts.note(caller)

    async def disconnect(self, caller: Caller, *, restarting: bool = False) -> None:
        """A connection ended: its window's seat is free at once, unless it is this daemon that goes away."""
        self._connected.remove(caller)
        if caller.agent is not None:
            self._left(caller.agent)
        if caller.facts.window and not restarting and not self._connected.is_open(caller.facts.window):
            await self._leases.release(caller.facts.window)

    # -- identity ------------------------------------------------------------------------------------------

    async def identify(self, caller: Caller) -> AgentRecord:
        """The agent this caller acts as. Raises `Refused` with `invalid_name` for a name that cannot be one, and with
        `not_permitted` where the authority names an agent that is not here or is another person's."""
        now = self._clock.now()
        if caller.agent is None:
            async with self._sitting_down:
                if caller.agent is None:
                    record = await self._sit_down(caller)
                    caller.agent = record.id
        # Looked up after the await, because the home room may be another object since then.
        record = self._its_own(caller, caller.agent)
        self._act(caller, record.id, now)
        await self._agents.renew(record, now)
        return record

    def known(self, caller: Caller) -> AgentRecord | None:
        """The agent of a caller that was identified before and whose delegation needs no renewal now. Raises as
        `identify` does."""
        if caller.agent is None:
            return None
        record = self._its_own(caller, caller.agent)
        now = self._clock.now()
        if not may_act(record, now):
            return None
        self._act(caller, record.id, now)
        return record

    def _act(self, caller: Caller, agent: AgentId, now: Millis) -> None:
        caller.last_act = now
        self._acted(agent)

    def acts_as(self, caller: Caller) -> AgentId | None:
        """The agent of a connection, if it has one. A window that came back after a restart has its lease before its
        first call, and one that was given a name has the agent of that name."""
        if caller.agent is not None or not caller.facts.window:
            return caller.agent
        held = self._leases.get(caller.facts.window)
        if held is not None:
            return held.agent
        if caller.facts.as_name and self._leases.promised(caller.facts.window) is not None:
            named = self._home.by_name(self._promised_name(caller))
            return None if named is None else named.id
        return None

    def existing(self, caller: Caller) -> AgentRecord | None:
        """The agent this caller acts as, or would at its first call, if there is one already. Leases and creates
        nothing. Raises as `identify` does."""
        home = self._home
        if caller.agent is not None:
            return self._its_own(caller, caller.agent)
        self._check_person(caller)
        if not caller.facts.window:
            return home.by_name(self._name_of(caller))
        held = self._held(caller)
        if held is not None:
            return held
        if caller.facts.as_name:
            return home.by_name(self._promised_name(caller))
        if caller.facts.conversation:
            return self._had_conversation(caller, self._acted_by_others(caller))[0]
        return home.by_seat(*place_of(caller), self._slot_without_conversation(caller, self._leases))

    def next_in_place(self, caller: Caller) -> AgentRecord | None:
        """The agent that one more window in this caller's place would act as, if there is one already. Leases and
        creates nothing."""
        home, place = self._home, place_of(caller)
        here = {window.facts.window for window in self._connected.windows()}
        leases = [lease for lease in self._leases if lease.window in here]
        if caller.facts.as_name:
            return home.by_name(numbered(place[1], first_free(place, leases)))
        if caller.facts.conversation:
            # Not the agent of a window that has the conversation open: one more window in it would be another agent.
            known, _ = self._had_conversation(caller, self._acted_by_others(caller))
            if known is not None:
                return known
        # A place without a workspace is shared by whatever runs there.
        return home.by_seat(*place, self._slot_without_conversation(caller, leases)) if caller.facts.workspace else None

    # -- sitting down --------------------------------------------------------------------------------------

    def _its_own(self, caller: Caller, agent: AgentId) -> AgentRecord:
        """An agent that a caller acts as: always one of its own person."""
        record = self._home.state.agents.get(agent)
        if record is None or record.principal != caller.facts.authority.principal:
            raise _nobody()
        return record

    def _check_person(self, caller: Caller) -> None:
        """A caller whose door names no agent is one of this home's own person: nobody else's are found by name or
        place."""
        if not self._agents.makes_for(caller.facts.authority.principal):
            raise _nobody()

    async def _sit_down(self, caller: Caller) -> AgentRecord:
        """The agent of a caller whose door named none, made if it is a new one."""
        self._check_person(caller)
        return await (self._lease(caller) if caller.facts.window else self._named(caller))

    async def _named(self, caller: Caller) -> AgentRecord:
        """The agent of a command, by its name."""
        name = self._name_of(caller)
        found = self._home.by_name(name)
        return found or await self._agents.create(name, host=caller.facts.host, workspace="", slot=NAMED)

    async def _lease(self, caller: Caller) -> AgentRecord:
        """The agent of this window's lease, of its conversation, or of the first free slot of its place."""
        await self._leases.release_lapsed()
        held = self._held(caller)
        if held is not None:
            return held
        place = place_of(caller)
        if caller.facts.as_name:
            slot = self._free_name(caller, rather=self._leases.promised(caller.facts.window) or 0)
            wanted = numbered(place[1], slot)
            record = self._home.by_name(wanted)
            record = record or await self._agents.create(wanted, host=host_of(caller), workspace="", slot=NAMED)
        elif caller.facts.conversation:
            record = await self._of_conversation(caller)
            slot = record.slot
        else:
            slot = self._slot_without_conversation(caller, self._leases)
            record = self._home.by_seat(*place, slot) or await self._new_agent(caller, slot)
        now = self._clock.now()
        await self._leases.take(
            Lease(
                window=caller.facts.window, agent=record.id, host=place[0], workspace=place[1], slot=slot, taken_at=now
            )
        )
        self._seated()
        return record

    async def _of_conversation(self, caller: Caller) -> AgentRecord:
        """The agent that this conversation had; while another window has it open, the one beside it."""
        # Windows that a restart keeps a seat for take no conversation from whoever resumes it now.
        known, beside = self._had_conversation(caller, self._acted_by_others(caller))
        if known is not None:
            return known
        record = await self._new_agent(caller, self._new_slot(caller))
        await self._agents.bind(record.id, host=host_of(caller), conversation=caller.facts.conversation, place=beside)
        return record

    async def _new_agent(self, caller: Caller, slot: int) -> AgentRecord:
        """A new agent for a slot of the caller's place."""
        host = host_of(caller)
        free = self._home.free_name(numbered(place_name(host, caller.facts.workspace), slot))
        return await self._agents.create(free, host=host, workspace=caller.facts.workspace, slot=slot)

    # -- which seat ----------------------------------------------------------------------------------------

    def _name_of(self, caller: Caller) -> str:
        """The name of a command's agent."""
        return label(caller.facts.as_name) if caller.facts.as_name else self._user

    def _held(self, caller: Caller) -> AgentRecord | None:
        """The agent of the window's lease, if the window is still in the place of that lease and may go on as that
        agent: no window that is there took the agent up meanwhile, and the agent has the conversation that the window
        names, if the window names one."""
        held = self._leases.get(caller.facts.window)
        if held is None or (held.host, held.workspace) != place_of(caller):
            return None
        if held.agent in self._acted_by_others(caller):
            return None
        if caller.facts.conversation and not caller.facts.as_name and not self._has_conversation(caller, held.agent):
            return None
        return self._home.state.agents[held.agent]

    def _has_conversation(self, caller: Caller, agent: AgentId) -> bool:
        """Whether the agent is one of those that had the caller's conversation."""
        home, host = self._home, host_of(caller)
        for place in count():
            known = home.by_conversation(host, caller.facts.conversation, place)
            if known is None or known.id == agent:
                return known is not None
        raise AssertionError("counting ended")

    def _had_conversation(self, caller: Caller, acted: set[AgentId]) -> tuple[AgentRecord | None, int]:
        """The first agent that had this conversation and that nobody of `acted` is, and its place among those that had
        it; without one the place for a new agent beside them."""
        home, host, place = self._home, host_of(caller), 0
        while (known := home.by_conversation(host, caller.facts.conversation, place)) is not None:
            if known.id not in acted:
                return known, place
            place += 1
        return None, place

    def _acted_by_others(self, caller: Caller) -> set[AgentId]:
        """The agents that other windows act as that are there now."""
        others = (other for other in self._connected.windows() if other.facts.window != caller.facts.window)
        return {agent for other in others if (agent := self.acts_as(other)) is not None}

    def _promised_name(self, caller: Caller) -> str:
        """The name that a window has or gets by what it was given."""
        slot = self._leases.promised(caller.facts.window)
        return numbered(place_of(caller)[1], self._free_name(caller) if slot is None else slot)

    def _free_name(self, caller: Caller, *, rather: int = 0) -> int:
        """A number behind the name that a window was given, whose agent nobody else has or was promised, be it by that
        name or by its place: `rather` if that is free, else the first that is."""
        home, others, place = self._home, self._acted_by_others(caller), place_of(caller)
        taken = slots_of(place, self._leases.taken(but=caller.facts.window))

        def is_free(slot: int) -> bool:
            record = home.by_name(numbered(place[1], slot))
            return slot not in taken and (record is None or record.id not in others)

        return rather if is_free(rather) else next(slot for slot in count() if is_free(slot))

    def _new_slot(self, caller: Caller) -> int:
        """The first slot of a place that no agent ever had."""
        home, place = self._home, place_of(caller)
        return next(slot for slot in count() if home.by_seat(*place, slot) is None)

    def _slot_without_conversation(self, caller: Caller, leases: Iterable[Lease]) -> int:
        """The first slot of the caller's place that no lease has and whose agent no conversation has. A host that goes
        on with its newest conversation without naming it means the agent of this place that acted last."""
        home, place = self._home, place_of(caller)
        taken = slots_of(place, leases)
        if caller.facts.continues:
            free = [
                record
                for slot in range(self._new_slot(caller))
                if slot not in taken and (record := home.by_seat(*place, slot)) is not None
            ]
            if free:
                newest = max(free, key=lambda record: (self._connected.last_seen(record.id), record.created_at))
                return newest.slot
        slot = 0
        while slot in taken or ((record := home.by_seat(*place, slot)) is not None and home.is_bound(record.id)):
            slot += 1
        return slot


def _nobody() -> Refused:
    said = "The agent that this connection stands for is none of its person's here."
    return Refused("not_permitted", said, hint="Ask the person who gave you this way in for another.")
