"""The parts of one engine that its handlers share, who a caller acts as, and the stamp on what it does.

Not here: any lookup (`lookup`, `observers`, `knocks`, `key_text`), any rule. Above: every handler. Below: the parts
themselves. Invariant: the parts are put together once, by `open_engine`, and stay until the engine ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from parlerd.core.errors import Refused
from parlerd.core.home import AgentRecord
from parlerd.core.model import By
from parlerd.engine.budget import TurnBudget
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.driver import Driver
from parlerd.engine.notifier import Notifier, Waiter
from parlerd.engine.ports import Clock, HostFiles, Keys, Randomness
from parlerd.engine.quota import Quotas
from parlerd.engine.rooms import Rooms
from parlerd.engine.seats import Seats
from parlerd.engine.throttle import GuessThrottle
from parlerd.settings import Settings

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
