"""How many turns of agents may begin without a person in an hour: the brake on agents that keep each other awake.

One budget per home, because a home has one person. A wake spends from it; reading never does. It is kept in memory: it
frees itself as the hour passes, and the person lets it begin anew by restarting the daemon. Source: security spec E20.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import trio

TURNS: Final = 60
HOUR_S: Final = 3600.0


class TurnBudget:
    """Turns begun in the last hour. Time is trio's clock, in seconds."""

    def __init__(self) -> None:
        self._begun: deque[float] = deque()

    def seconds_until_free(self) -> float:
        """How long until one more turn may begin; 0 when it may now."""
        now = trio.current_time()
        while self._begun and now - self._begun[0] >= HOUR_S:
            self._begun.popleft()
        return 0.0 if len(self._begun) < TURNS else self._begun[0] + HOUR_S - now

    @property
    def spent(self) -> bool:
        """Whether wakes pause now."""
        return self.seconds_until_free() > 0.0

    def spend(self) -> None:
        """Note that a turn begins. Ask `seconds_until_free` first."""
        self._begun.append(trio.current_time())
