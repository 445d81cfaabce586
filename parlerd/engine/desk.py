"""The parts of one engine that its handlers share, who a caller acts as, and the stamp on what it does.

Not here: any lookup (`lookup`, `observers`, `knocks`, `key_text`), any rule. Above: every handler. Below: the parts
themselves. Invariant: the parts are put together once, by `open_engine`, and stay until the engine ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parlerd.core.identities import AgentRecord
from parlerd.core.model import By, HomeId, Millis
from parlerd.engine.agents import Agents
from parlerd.engine.bindings import Bindings
from parlerd.engine.callers import Caller, PeerProcess, ProcessId
from parlerd.engine.clearing import Clearing
from parlerd.engine.connected import Connected
from parlerd.engine.handles import Homes
from parlerd.engine.join_codes import JoinCodes
from parlerd.engine.kept import Kept
from parlerd.engine.library import Library
from parlerd.engine.links import Links
from parlerd.engine.pair_lines import PairLines
from parlerd.engine.ports import Clock, HomeBook, HomeKeys, HostFiles, Notifier, Randomness, SharedCounts
from parlerd.engine.presence import Presence
from parlerd.engine.quota import Quotas
from parlerd.engine.retaining import Retaining
from parlerd.engine.rooms import RoomDoor
from parlerd.engine.seats import Seats
from parlerd.engine.seen_hosts import SeenHosts
from parlerd.engine.shelf import HomeShelf
from parlerd.engine.sightings import Sightings
from parlerd.engine.starts import Starts
from parlerd.engine.tending import Tending
from parlerd.engine.throttle import GuessThrottle
from parlerd.engine.waits import Waits
from parlerd.engine.watching import Watching
from parlerd.settings import Settings

Inspect = Callable[[PeerProcess], PeerProcess]
Lineage = Callable[[PeerProcess], Sequence[ProcessId]]


@dataclass(slots=True)
class Desk:
    """The engine's parts."""

    library: Library
    """What is stored."""
    rooms: RoomDoor
    """The open rooms, the home room among them."""
    homes: Homes
    """The other homes that rooms may live in."""
    agents: Agents
    """Makes agents."""
    seats: Seats
    connected: Connected
    links: Links
    """The agents that speak over links, of other homes."""
    presence: Presence
    tending: Tending
    """The leases of tasks."""
    seen_hosts: SeenHosts
    notifier: Notifier
    clock: Clock
    random: Randomness
    keys: HomeKeys
    shelf: HomeShelf
    """The files of the rooms of this home."""
    quotas: Quotas
    """How much each agent may still write."""
    settings: Settings
    """As this daemon read them at its start."""
    throttle: GuessThrottle
    inspect: Inspect
    """Looks a process up anew: its agent host, its editor, its terminal. About a millisecond."""
    lineage: Lineage
    """The process on the other side and all above it, itself first; nothing where they cannot be seen."""
    starts: Starts
    """The programs that the person started with `parler bring`."""
    settings_now: Callable[[], Settings]
    """What a daemon that starts now would serve; may raise."""
    host_files: HostFiles
    home_book: HomeBook
    """The relays that the person added."""
    codes: JoinCodes
    """The codes that were typed wrong, whoever typed them."""
    retaining: Retaining
    """Lets the words go that are too much."""
    clearing: Clearing
    """Takes deleted rooms out of the file."""
    copies: Callable[[], list[str]]
    """The copies of the database that this program made itself, by their paths."""
    version: str
    home_path: str
    """Where this home lives."""
    default_home: bool
    """Whether that is `~/.parler`."""
    counts: SharedCounts | None = None
    """What is counted once for all processes that share the store, where there may be others."""
    pair_lines: PairLines = field(default_factory=PairLines)
    """The calls about pairs of agents, one after the other."""
    sightings: Sightings = field(default_factory=Sightings)
    """What is known of messages whose readers' agent hosts are watched."""
    bindings: Bindings = field(init=False)
    """What binds keys to rooms on relays."""
    kept: Kept = field(init=False)
    """How much each person of another home keeps here."""
    waits: Waits = field(init=False)
    """Everyone who waits for a change."""
    watching: Watching = field(init=False)
    """Everyone who waits for a condition over a room's state, through whichever door."""

    def __post_init__(self) -> None:
        self.kept = Kept(self.settings.quota_person_kept_bytes, self.counts)
        self.bindings = Bindings(self.keys, self.library.aside)
        self.waits = Waits(self.notifier)
        self.watching = Watching(self.presence, self.notifier, self.clock)

    @property
    def draining(self) -> bool:
        """Whether the daemon is about to stop: no new calls, and nobody waits any longer."""
        return self.waits.draining

    def now_at(self, home: HomeId) -> Millis:
        """The time by the clock of the home of a room: until when a key is good is counted by that one."""
        ahead = 0 if home == self.keys.id else self.homes.ahead_ms(home)
        return Millis(self.clock.now() + ahead)

    async def me(self, caller: Caller) -> AgentRecord:
        """The agent this caller acts as, leased or created on first use."""
        return await self.seats.identify(caller)

    def by(self, caller: Caller, agent: AgentRecord) -> By:
        """The stamp on what this caller does."""
        return By(
            actor=agent.id,
            principal=agent.principal,
            session=caller.facts.window or caller.facts.session,
            host=caller.facts.host,
            via=caller.facts.via,
            pid=caller.facts.peer.pid,
            program=caller.facts.peer.program,
        )
