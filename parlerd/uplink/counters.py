"""Counters for envelopes that leave for another home: numbers that no crash and no restored backup gives out twice.

    (milliseconds at which this daemon started) << 10 | k

Where the clock was set back since the daemon before it started, `Homes.begin_to_count` gives a later moment in place of
the clock's.

An envelope of an agent of this home that bears a number of this daemon, and that this daemon did not sign, was signed
by somebody else who has the agent's key: a copy of this home, say. Of a number from before this daemon started nobody
can tell, because the daemon before it may have died with an envelope on its way.

Pure: the time is handed in. Above: `composing`, `mirrors`. Invariant: each number is greater than every number before
it of this daemon, and than the one that it is asked to pass.
"""

from __future__ import annotations

from typing import Final

from parlerd.bounded import Bounded
from parlerd.core.model import Millis

MAX_SIGNED: Final = 10_000
"""Envelopes whose hashes are remembered. An older one is taken for this daemon's own."""
_BITS: Final = 10
"""A daemon uses numbers of the milliseconds after its start too, and cannot sign a thousand envelopes in one. A daemon
that is killed is back within a second, so seconds would not do. The numbers last until the year 2248."""


class Counters:
    """The counters of one daemon. `started` is when it started, and later than when any daemon before it did."""

    def __init__(self, started: Millis) -> None:
        self._first = self._newest = started << _BITS
        self._signed: Bounded[int, bytes] = Bounded(MAX_SIGNED)
        """The hashes of the newest envelopes that were signed, by their counters."""

    def after(self, acknowledged: int) -> int:
        """A number that was never given out, greater than one that another home acknowledged."""
        self._newest = max(self._newest, acknowledged) + 1
        return self._newest

    def note(self, counter: int, envelope: bytes) -> None:
        """An envelope with this counter was signed; `envelope` is its hash."""
        self._signed[counter] = envelope

    def is_foreign(self, counter: int, envelope: bytes) -> bool:
        """Whether somebody else must have signed an envelope of this home that has this counter and this hash."""
        if counter <= self._first:
            return False
        if counter > self._newest:
            return True
        return self._signed.get(counter, envelope) != envelope
