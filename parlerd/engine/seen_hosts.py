"""Which agent hosts have opened a window at this daemon, and when the last one came. For `hosts.seen`.

Not here: which agent a window acts as (`seats`). Above: `seats`, which notes a host, and `status`, which lists them.
Invariant: at most `MAX_HOSTS` are remembered, because a connection says itself which host it is of.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from parlerd.bounded import Bounded
from parlerd.core.model import Millis
from parlerd.engine.callers import Caller
from parlerd.engine.connected import Connected
from parlerd.engine.ports import Clock
from parlerd.operations import types as t

MAX_HOSTS: Final = 64
"""Agent hosts whose last window is remembered."""


class SeenHosts:
    """The agent hosts whose windows came to this daemon, health checks among them."""

    def __init__(self, clock: Clock, connected: Connected) -> None:
        self._clock = clock
        self._connected = connected
        # By host. Of too many, the host that was seen longest ago is forgotten.
        self._seen: Bounded[str, Millis] = Bounded(MAX_HOSTS)

    def note(self, caller: Caller) -> None:
        """A window came, or said anew which host it is of."""
        if caller.facts.window and caller.facts.host:
            self._seen[caller.facts.host] = self._clock.now()

    def listed(self) -> list[t.SeenHost]:
        """All of them by name, each with its last window's time and how many windows are open now."""
        open_now = Counter(caller.facts.host for caller in self._connected.windows())
        return [t.SeenHost(host=host, at=at, windows=open_now[host]) for host, at in sorted(self._seen.items())]
