"""How long to wait before a relay is dialled again: full jitter, so that the daemons of a relay that was restarted do
not all come back in one moment.

Pure: no clock, and randomness is handed in. Above: `link`. Invariant: every wait is between `LEAST_S` and `MOST_S`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LEAST_S: Final = 0.5
MOST_S: Final = 60.0
"""Source: relay spec, The link."""
_DOUBLINGS: Final = 8
"""Past so many failures the longest wait no longer grows."""


class Backoff:
    """The waits of one link. `draw` gives bytes that nobody can foresee."""

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        self._draw = draw
        self._failures = 0
        """How often dialling failed since the last success."""

    def next(self) -> float:
        """Dialling failed: the seconds until the next attempt, anything up to a bound that doubles each time."""
        self._failures = min(self._failures + 1, _DOUBLINGS)
        most = min(MOST_S, LEAST_S * 2.0**self._failures)
        part = int.from_bytes(self._draw(4), "big") / 2**32
        return LEAST_S + part * (most - LEAST_S)

    def succeeded(self) -> None:
        """The relay answered: the next failure is the first again."""
        self._failures = 0
