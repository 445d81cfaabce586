"""Counters for envelopes that leave for another home: numbers that no crash and no restored backup gives out twice in
one thread.

    (milliseconds at which this daemon started) << 10 | k

Where the clock was set back since the daemon before it started, `Homes.begin_to_count` gives a later moment in place of
the clock's.

Each thread counts by itself: a number that counted what its author says to others would tell each reader how much that
is.

An envelope of an agent of this home that bears a number of this daemon, and that this daemon did not sign, was signed
by somebody else who has the agent's key: a copy of this home, say. Of a number from before this daemon started nobody
can tell, because the daemon before it may have died with an envelope on its way.

Pure: the time is handed in. Above: `composing`, `mirrors`. Invariant: each number is greater than every number before
it of this daemon in its thread, and than the one that it is asked to pass.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from parlerd.bounded import Bounded
from parlerd.core.model import AgentId, Millis, RoomId

MAX_SIGNED: Final = 10_000
"""Envelopes of which it is remembered what was signed. An older one is taken for this daemon's own."""
MAX_THREADS: Final = 10_000
"""Threads whose newest number is remembered by itself."""
_BITS: Final = 10
"""A daemon uses numbers of the milliseconds after its start too, and cannot sign a thousand envelopes in one. A daemon
that is killed is back within a second, so seconds would not do. The numbers last until the year 2248."""


class Threaded(NamedTuple):
    """A thread of an agent of this home: what the agent says in a room to one `audience_key`."""

    room: RoomId
    agent: AgentId
    audience: str


class Signed(NamedTuple):
    """What an agent of this home signed: the hash of the envelope, and the signature."""

    envelope: bytes
    signature: bytes


class Counters:
    """The counters of one daemon. `started` is when it started, and later than when any daemon before it did."""

    def __init__(self, started: Millis) -> None:
        self._first = started << _BITS
        self._newest: Bounded[Threaded, int] = Bounded(MAX_THREADS)
        """The newest number of each thread."""
        self._forgotten = self._first
        """The greatest number of a thread that is not remembered: such a thread goes on behind it."""
        self._signed: Bounded[tuple[Threaded, int], Signed] = Bounded(MAX_SIGNED)
        """The newest envelopes that were signed, by their counters."""

    def after(self, thread: Threaded, acknowledged: int) -> int:
        """A number that was never given out in a thread, greater than one that another home acknowledged."""
        number = max(self._newest.get(thread, self._forgotten), acknowledged) + 1
        if thread not in self._newest and len(self._newest) == MAX_THREADS:
            self._forgotten = max(self._forgotten, next(iter(self._newest.values())))
        self._newest[thread] = number
        return number

    def note(self, thread: Threaded, counter: int, signed: Signed) -> None:
        """An envelope with this counter was signed."""
        self._signed[thread, counter] = signed

    def is_own(self, thread: Threaded, counter: int, signed: Signed) -> bool:
        """Whether this daemon made exactly this signature under exactly this envelope: then nobody has to check it."""
        return self._signed.get((thread, counter)) == signed

    def is_foreign(self, thread: Threaded, counter: int, envelope: bytes) -> bool:
        """Whether somebody else must have signed an envelope of this home that has this counter and this hash."""
        if counter <= self._first:
            return False
        if counter > self._newest.get(thread, self._forgotten):
            return True
        known = self._signed.get((thread, counter))
        return known is not None and known.envelope != envelope
