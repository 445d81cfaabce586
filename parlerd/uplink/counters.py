"""Counters for envelopes that leave for another home: numbers that no crash and no restored backup gives out twice.

    (seconds at which this daemon started) << 20 | k

Pure: the time is handed in. Above: `lanes`. Invariant: each number is greater than every number before it of this
daemon, and than the one that it is asked to pass.
"""

from __future__ import annotations

from typing import Final

from parlerd.core.model import Millis

_BITS: Final = 20
"""A daemon that sends more than a million envelopes uses numbers of the seconds after its start."""


class Counters:
    """The counters of one daemon. `started` is when it started, by the wall clock."""

    def __init__(self, started: Millis) -> None:
        self._newest = (started // 1000) << _BITS

    def after(self, acknowledged: int) -> int:
        """A number that was never given out, greater than one that another home acknowledged."""
        self._newest = max(self._newest, acknowledged) + 1
        return self._newest
