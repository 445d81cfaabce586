"""Which agent a connection acts as: leases by conversation or (host, workspace, slot) for windows, names for commands.

A conversation of a host that is resumed gets the agent that it had, whichever windows are open beside it; one that is
open twice is two agents. Where the host names no conversation, the first window in a workspace gets slot 0, a second
one open at the same time slot 1, and whoever comes back gets the same again. A lease is durable: after a daemon restart
a slot is kept for its window for 30 s, and an orderly or broken connection frees it at once. Nothing is leased before
the first call that needs it, so a host that only checks health never becomes an agent. Names, seats and conversations
are facts of the home room; leases are not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from pathlib import PurePath
from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core import commands as c
from parlerd.core.errors import Refused, StoreError
from parlerd.core.identities import AgentRecord
from parlerd.core.model import AgentId, By, Label, Millis, PrincipalId, agent_name, label, person_name, slug
from parlerd.engine.authors import Attested
from parlerd.engine.callers import Caller
from parlerd.engine.deadlines import ACTIVE_MS
from parlerd.engine.driver import Driver
from parlerd.engine.ports import Clock, Keys
from parlerd.engine.rooms import Rooms
from parlerd.identity.delegation import DELEGATION_TTL_MS, issue
from parlerd.operations import types as t
from parlerd.store.port import DropLease, Lease, PutLease

KEPT_MS: Final = 30_000
"""How long a slot waits for its window after a restart. Source: decision 9."""
NAMED: Final = -1
"""The slot of an agent that is found by its name and not by its place."""
MAX_HOSTS: Final = 64
"""Agent hosts whose last window is remembered; a connection says itself which host it is of."""


class Seats:
    """Callers, leases and the agents behind them."""

    def __init__(
        self,
        *,
        driver: Driver,
        rooms: Rooms,
        keys: Keys,
        clock: Clock,
        user: str,
        seated: Callable[[], None],
        acted: Callable[[AgentId], None],
        left: Callable[[AgentId], None],
    ) -> None:
        self._driver = driver
        self._rooms = rooms
        self._keys = keys
        self._clock = clock
        self._seated = seated
        self._acted = acted
        self._left = left
        self._user = person_name(user)
        self._lock = trio.Lock()
        self._leases: dict[str, Lease] = {}
        self._kept_until: dict[str, float] = {}
        self._promised: dict[str, int] = {}
        self._callers: set[Caller] = set()
        self._last_seen: dict[AgentId, Millis] = {}
        self._dialled: Bounded[str, Millis] = Bounded(MAX_HOSTS)

    def start(self) -> None:
        """Read the leases of the last run; each is kept for its window for a while."""
        # On the loop's clock: the wall clock may be set back by years.
        until = trio.current_time() + KEPT_MS / 1000
        for lease in self._driver.store.leases():
            self._leases[lease.window] = lease
            self._kept_until[lease.window] = until

    # -- connections ---------------------------------------------------------------------------------------

    def connect(self, caller: Caller) -> None:
        """A connection is there. It is no agent yet."""
        self._callers.add(caller)
        self._kept_until.pop(caller.window, None)
        self._note_host(caller)
        self._promise(caller)

    def _promise(self, caller: Caller) -> None:
        """A name that a window was given is its own from the hello on, long before a call that needs it."""
        if not (caller.window and caller.as_name) or caller.window in self._leases:
            return
        with suppress(Refused):  # no name at all is said at the first call
            self._promised[caller.window] = self._free_name(caller)

    def _taken(self, *, but: str) -> list[Lease]:
        """The leases that count of other windows than `but`, those promised to them included."""
        now = trio.current_time()
        found = [
            lease
            for window, lease in self._leases.items()
            if window != but and self._kept_until.get(window, now) >= now
        ]
        for caller in self._callers:
            if caller.window != but and caller.window in self._promised and caller.as_name:
                host, workspace = _place(caller)
                slot = self._promised[caller.window]
                found.append(
                    Lease(
                        caller.window, agent=AgentId(""), host=host, workspace=workspace, slot=slot, taken_at=Millis(0)
                    )
                )
        return found

    def _promised_name(self, caller: Caller) -> str:
        """The name that a window has or gets by what it was given."""
        slot = self._promised.get(caller.window)
        return f"{_place(caller)[1]}{_suffix(self._free_name(caller) if slot is None else slot)}"

    def _note_host(self, caller: Caller) -> None:
        if caller.window and caller.host:
            self._dialled[caller.host] = self._clock.now()

    def introduce(self, caller: Caller, host: str) -> None:
        """The window says that it is of another host than the one it was started for: hosts read each other's files."""
        if caller.host != host and caller.agent is None:
            caller.host = host
            self._note_host(caller)

    async def disconnect(self, caller: Caller, *, restarting: bool = False) -> None:
        """A connection ended: its window's slot is free at once, unless it is this daemon that goes away."""
        self._callers.discard(caller)
        if caller.agent is not None:
            self._last_seen[caller.agent] = self._clock.now()
            self._left(caller.agent)
        if caller.window and not restarting and not any(other.window == caller.window for other in self._callers):
            self._promised.pop(caller.window, None)
            await self._release(caller.window)

    async def _release(self, window: str) -> None:
        self._kept_until.pop(window, None)
        if self._leases.pop(window, None) is not None:
            await self._driver.commit([DropLease(window)])

    @property
    def connections(self) -> int:
        return len(self._callers)

    @property
    def windows(self) -> int:
        return sum(1 for caller in self._callers if caller.window)

    def hosts(self) -> list[t.SeenHost]:
        """The agent hosts whose windows have come to this daemon, health checks among them, by name."""
        open_now = Counter(caller.host for caller in self._callers if caller.window)
        return [t.SeenHost(host=host, at=at, windows=open_now[host]) for host, at in sorted(self._dialled.items())]

    # -- hooks ---------------------------------------------------------------------------------------------

    def beside(self, hook: Caller) -> tuple[AgentRecord | None, list[Caller], bool]:
        """The agent that a host's hook runs beside, the windows that act as it, and whether it is sure that the hook is
        that host's own. Leases and creates nothing.

        The window is one of the same host: below a process that the hook descends from too, which at the furthest is
        the host itself. Where there is such a window, no other one counts, whatever conversation the hook names; of
        several, the conversation picks, else the workspace. Where there is none, the window is the one in the same
        conversation, else the one in the same workspace. Where no window has become an agent yet, it is the agent that
        the next one in this place would be. None when that leaves more than one: the wrong one must not be told.

        It is sure of a hook below the process that started the window, and of one below a program of its host, for a
        host may run its servers elsewhere. Whoever else names a conversation or stands in a workspace may be anything.
        """
        windows = [caller for caller in self._callers if caller.window and caller.host == hook.host]
        below_one = [window for window in windows if not hook.parents.isdisjoint(window.parents)]
        likeness = {
            window: _likeness(hook, window) for window in below_one or windows if not _is_elsewhere(hook, window)
        }
        best = max(likeness.values(), default=(False, False))
        near = [window for window, like in likeness.items() if like == best] if below_one or any(best) else []
        # What cannot be seen (another pid namespace) is believed, as it always was.
        sure = bool(below_one) or not hook.peer.pid or (hook.below != "" and hook.below == hook.host)
        agents = {agent for window in near if (agent := self._acts_as(window)) is not None}
        home = self._rooms.home.aggregate
        if len(agents) > 1:
            return None, [], False
        if agents:
            agent = agents.pop()
            mine = [caller for caller in self._callers if caller.window and self._acts_as(caller) == agent]
            return home.state.agents[agent], mine, sure
        open_windows = {caller.window for caller in self._callers}
        place = _place(hook)
        leases = [lease for lease in self._leases.values() if lease.window in open_windows]
        if place[0] == "as":
            return home.by_name(f"{place[1]}{_suffix(_free_slot(place, leases))}"), [], sure
        if hook.conversation:
            # Not the agent of a window that has the conversation open: that window is not the hook's.
            known, _ = self._had_conversation(hook, self._acted_by_others(hook))
            if known is not None:
                return known, [], sure
        slot = self._slot_without_conversation(hook, leases)
        # Without a workspace the place is shared by whatever runs there.
        return (home.by_seat(*place, slot) if hook.workspace else None), [], sure

    # -- identity ------------------------------------------------------------------------------------------

    async def identify(self, caller: Caller) -> AgentRecord:
        """The agent this caller acts as. Raises `Refused(invalid_name)` for a name that cannot be one."""
        now = self._clock.now()
        if caller.agent is None:
            async with self._lock:
                if caller.agent is None:
                    record = await (self._lease(caller) if caller.window else self._named(caller))
                    caller.agent = record.id
        # Not any sooner: a commit that fails meanwhile puts another home in the place of this one.
        record = self._rooms.home.aggregate.state.agents[caller.agent]
        self._act(caller, record.id, now)
        until = record.delegated_until
        if not _holds(until, now):
            try:
                await self._delegate(record)
            except StoreError:
                # Nothing can be written now; a delegation that still holds must not stop a read.
                if until <= now:
                    raise
        return record

    def known(self, caller: Caller) -> AgentRecord | None:
        """The agent of a caller that was identified before and whose delegation needs no renewal now."""
        if caller.agent is None:
            return None
        record = self._rooms.home.aggregate.state.agents[caller.agent]
        now = self._clock.now()
        if not _holds(record.delegated_until, now):
            return None
        self._act(caller, record.id, now)
        return record

    def _act(self, caller: Caller, agent: AgentId, now: Millis) -> None:
        caller.last_act = now
        self._acted(agent)

    def held_by_window(self, agent: AgentId) -> bool:
        """Whether a live window acts as this agent now, or will at its next call."""
        return any(caller.window and self._acts_as(caller) == agent for caller in self._callers)

    def presence(self, agent: AgentId) -> tuple[str, Millis]:
        """(active, waiting, idle or offline; since when): derived, never stated."""
        mine = [caller for caller in self._callers if self._acts_as(caller) == agent]
        last = self._last_seen.get(agent, Millis(0))
        if not mine:
            return "offline", last
        last = Millis(max(last, *(caller.last_act for caller in mine)))
        if any(caller.waiting for caller in mine):
            return "waiting", last
        # Either way: who acted while the clock stood ahead is not active for years.
        return ("active" if abs(self._clock.now() - last) < ACTIVE_MS else "idle"), last

    def _acts_as(self, caller: Caller) -> AgentId | None:
        """A connection's agent. A window that came back after a restart has its lease before its first call."""
        if caller.agent is not None or not caller.window:
            return caller.agent
        held = self._leases.get(caller.window)
        if held is not None:
            return held.agent
        if caller.as_name and caller.window in self._promised:
            named = self._rooms.home.aggregate.by_name(self._promised_name(caller))
            return None if named is None else named.id
        return None

    def existing(self, caller: Caller) -> AgentRecord | None:
        """The agent this caller acts as, or would at its first call, if there is one already. Leases and creates
        nothing. Raises `Refused(invalid_name)`."""
        home = self._rooms.home.aggregate
        if caller.agent is not None:
            return home.state.agents[caller.agent]
        if not caller.window:
            return home.by_name(label(caller.as_name) if caller.as_name else self._user)
        place = _place(caller)
        held = self._leases.get(caller.window)
        if held is not None and (held.host, held.workspace) == place and self._is_its_own(caller, held.agent):
            return home.state.agents[held.agent]
        if place[0] == "as":
            return home.by_name(self._promised_name(caller))
        if caller.conversation:
            return self._had_conversation(caller, self._acted_by_others(caller))[0]
        return home.by_seat(*place, self._slot_without_conversation(caller, self._leases.values()))

    async def _named(self, caller: Caller) -> AgentRecord:
        name = label(caller.as_name) if caller.as_name else self._user
        found = self._rooms.home.aggregate.by_name(name)
        return found or await self._create(name, host=caller.host, workspace="", slot=NAMED)

    async def _lease(self, caller: Caller) -> AgentRecord:
        """The agent of this window's lease, of its conversation, or of the first free slot of its place."""
        for window in [window for window, until in self._kept_until.items() if until < trio.current_time()]:
            # Not one that came back while another was being released.
            if window in self._kept_until:
                await self._release(window)
        home = self._rooms.home.aggregate
        place = _place(caller)
        held = self._leases.get(caller.window)
        if held is not None and (held.host, held.workspace) == place and self._is_its_own(caller, held.agent):
            return home.state.agents[held.agent]
        if place[0] == "as":
            slot = self._free_name(caller, rather=self._promised.get(caller.window, 0))
            wanted = f"{place[1]}{_suffix(slot)}"
            record = home.by_name(wanted)
            record = record or await self._create(wanted, host=_host_of(caller), workspace="", slot=NAMED)
        elif caller.conversation:
            record = await self._of_conversation(caller)
            slot = record.slot
        else:
            slot = self._slot_without_conversation(caller, self._leases.values())
            record = home.by_seat(*place, slot) or await self._seat(caller, slot)
        now = self._clock.now()
        lease = Lease(window=caller.window, agent=record.id, host=place[0], workspace=place[1], slot=slot, taken_at=now)
        # Only what the next daemon knows of the seat is lost when nothing can be written: looking goes on.
        with suppress(StoreError):
            await self._driver.commit([PutLease(lease)])
        self._leases[caller.window] = lease
        self._promised.pop(caller.window, None)
        self._seated()
        return record

    async def _of_conversation(self, caller: Caller) -> AgentRecord:
        """The agent that this conversation had; while another window has it open, the one beside it."""
        # Not those of windows that a restart keeps a seat for: who resumes a conversation is it, whoever had it before.
        known, place = self._had_conversation(caller, self._acted_by_others(caller))
        if known is not None:
            return known
        host = _host_of(caller)
        record = await self._seat(caller, self._new_slot(caller))
        await self._rooms.home.submit(
            c.BindConversation(agent=record.id, host=host, conversation=caller.conversation, place=place),
            self._home_by(record.id),
        )
        return record

    def _acted_by_others(self, caller: Caller) -> set[AgentId]:
        """The agents that other windows act as that are there now."""
        others = (other for other in self._callers if other.window and other.window != caller.window)
        return {agent for other in others if (agent := self._acts_as(other)) is not None}

    def _is_its_own(self, caller: Caller, agent: AgentId) -> bool:
        """Whether a window may go on as the agent of its lease: nobody else took it up meanwhile, and the agent has
        the conversation that the window names, if the window names one."""
        if agent in self._acted_by_others(caller):
            return False
        if not caller.conversation or caller.as_name:
            return True
        home, host, place = self._rooms.home.aggregate, _host_of(caller), 0
        while (known := home.by_conversation(host, caller.conversation, place)) is not None:
            if known.id == agent:
                return True
            place += 1
        return False

    def _had_conversation(self, caller: Caller, leased: set[AgentId]) -> tuple[AgentRecord | None, int]:
        """The agent that this conversation had and nobody acts as, or the first place beside those that are taken."""
        host, place = _host_of(caller), 0
        while (known := self._rooms.home.aggregate.by_conversation(host, caller.conversation, place)) is not None:
            if known.id not in leased:
                return known, place
            place += 1
        return None, place

    def _free_name(self, caller: Caller, *, rather: int = 0) -> int:
        """A number behind the name that a window was given, whose agent nobody else has or was promised, be it by that
        name or by its place: `rather` if that is free, else the first that is."""
        home, others, place = self._rooms.home.aggregate, self._acted_by_others(caller), _place(caller)
        taken = {lease.slot for lease in self._taken(but=caller.window) if (lease.host, lease.workspace) == place}

        def is_free(slot: int) -> bool:
            record = home.by_name(f"{place[1]}{_suffix(slot)}")
            return slot not in taken and (record is None or record.id not in others)

        return rather if is_free(rather) else next(slot for slot in count() if is_free(slot))

    def _new_slot(self, caller: Caller) -> int:
        """The first slot of a place that no agent ever had."""
        home, slot = self._rooms.home.aggregate, 0
        while home.by_seat(*_place(caller), slot) is not None:
            slot += 1
        return slot

    def _slot_without_conversation(self, caller: Caller, leases: Iterable[Lease]) -> int:
        """The first free slot whose agent no conversation has. A host that goes on with its newest conversation without
        naming it means the agent of this place that acted last."""
        home, place = self._rooms.home.aggregate, _place(caller)
        taken = {lease.slot for lease in leases if (lease.host, lease.workspace) == place}
        if caller.continues:
            free = [
                record
                for slot in range(self._new_slot(caller))
                if slot not in taken and (record := home.by_seat(*place, slot)) is not None
            ]
            if free:
                newest = max(free, key=lambda record: (self._last_seen.get(record.id, Millis(0)), record.created_at))
                return newest.slot
        slot = 0
        while slot in taken or ((record := home.by_seat(*place, slot)) is not None and home.is_bound(record.id)):
            slot += 1
        return slot

    async def _seat(self, caller: Caller, slot: int) -> AgentRecord:
        """A new agent for a slot of the caller's place."""
        host = _host_of(caller)
        name = f"{_place_name(host, caller.workspace)}{_suffix(slot)}"
        free = self._rooms.home.aggregate.free_name(name)
        return await self._create(free, host=host, workspace=caller.workspace, slot=slot)

    async def _create(self, name: str, *, host: str, workspace: str, slot: int) -> AgentRecord:
        agent_name(name)  # before a key is made for it
        agent = await self._driver.read(lambda _: self._keys.create_agent())
        await self._rooms.home.submit(
            c.CreateAgent(
                agent=agent,
                principal=self._keys.principal,
                name=label(name),
                host=host,
                workspace=workspace,
                slot=slot,
            ),
            self._home_by(agent),
        )
        record = self._rooms.home.aggregate.state.agents[agent]
        await self._delegate(record)
        return record

    async def _delegate(self, record: AgentRecord) -> None:
        """Let an agent act for its person for another 30 days. Source: security spec D17."""
        now = self._clock.now()
        text, signature = issue(self._keys, record.id, now)
        await self._rooms.home.submit(
            c.RenewDelegation(agent=record.id, principal=record.principal, expires_at=Millis(now + DELEGATION_TTL_MS)),
            self._home_by(record.id),
            Attested(text, signature),
        )

    def _home_by(self, agent: AgentId) -> By:
        principal: PrincipalId = self._keys.principal
        return By(actor=agent, principal=principal, session="home", host="home", via="cli")


def _holds(until: Millis, now: Millis) -> bool:
    """Whether a delegation needs no renewal. One that ends later than any may was made while the clock stood ahead."""
    return DELEGATION_TTL_MS // 2 <= until - now <= DELEGATION_TTL_MS


def _place(caller: Caller) -> tuple[str, str]:
    """Where a window is seated: by the name it was given, else by its host and workspace."""
    if caller.as_name:
        return "as", str(label(caller.as_name))
    return _host_of(caller), caller.workspace


def _host_of(caller: Caller) -> Label:
    return slug(caller.host, fallback="agent")


def _free_slot(place: tuple[str, str], leases: Iterable[Lease]) -> int:
    """The first slot of a place that none of the leases has."""
    taken = {lease.slot for lease in leases if (lease.host, lease.workspace) == place}
    return next(n for n in range(len(taken) + 1) if n not in taken)


def _suffix(slot: int) -> str:
    return f"#{slot + 1}" if slot else ""


def _is_elsewhere(hook: Caller, window: Caller) -> bool:
    """Whether a window is for certain another conversation than the hook's: where calls name theirs, one process has
    several, and having a parent in common says nothing."""
    return window.is_exact and bool(hook.conversation) and window.conversation != hook.conversation


def _likeness(hook: Caller, window: Caller) -> tuple[bool, bool]:
    """What a hook and a window have in common, the surest first. A host gives its processes new conversations while
    they run, and two windows can stand in one workspace."""
    return (
        bool(hook.conversation) and hook.conversation == window.conversation,
        bool(hook.workspace) and hook.workspace == window.workspace,
    )


def _place_name(host: str, workspace: str) -> Label:
    """`claude-code@repo`, or the host alone where there is no workspace."""
    if not workspace:
        return label(host)
    return label(f"{host}@{slug(PurePath(workspace).name, fallback='workspace')}"[:56])
