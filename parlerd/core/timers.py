"""A timer: what happens to an entry, a message or an action once a moment came, or once a key was written so often.

    effect delete    the thing is there until the timer runs out, and gone then
    effect enable    the thing is dormant until the timer runs out, and there then

A timer runs on one of two clocks: the room's time, or the writes of one key of the state. Each successful write of that
key is a tick, counted after the last write of its batch; the batch that set the timer is not counted.

Not here: what runs out (the facets), and looking when (the engine). Above: `events`, `state`. Below: `model`.
Invariant: a timer has a moment or a key that it watches, and never both.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from parlerd.core.errors import Refused
from parlerd.core.model import Millis

Effect = Literal["delete", "enable"]
MAX_SPAN_MS: Final = 366 * 24 * 3600 * 1000
"""The longest span of a timer, and how far ahead a moment may lie: a year."""
MAX_TICKS: Final = 1_000_000


class Timer(msgspec.Struct, frozen=True, array_like=True):
    """A timer as it was set. `due` is when it runs out, 0 for one that counts ticks. `span` is for how long it was set,
    0 for one that was set for a moment. `ticks` is for how many ticks it was set (`Entry.ticks` is how many are left),
    and `watch` the scope and the key that it counts writes of."""

    effect: Effect
    due: Millis = Millis(0)
    span: Millis = Millis(0)
    ticks: int = 0
    watch: tuple[str, str] | None = None

    @property
    def is_dormant(self) -> bool:
        """Whether what has this timer is not there yet."""
        return self.effect == "enable"


class TimerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A timer as it is asked for: exactly one of `ms`, `at`, and `ticks` with `watch`. `at` is a moment of the wall
    clock."""

    effect: Effect
    ms: int | None = None
    at: int | None = None
    ticks: int | None = None
    watch: tuple[str, str] | None = None


def started(spec: TimerSpec, now: Millis) -> Timer:
    """The timer of a request that is carried out at `now`. Raises `Refused(invalid_timer)`."""
    given = [each is not None for each in (spec.ms, spec.at, spec.ticks)]
    if sum(given) != 1:
        raise Refused("invalid_timer", "A timer has exactly one of ms, at and ticks.", what="clock")
    if (spec.ticks is None) is not (spec.watch is None):
        raise Refused("invalid_timer", "ticks and tick_on go together.", what="tick_on")
    if spec.ticks is not None:
        if not 1 <= spec.ticks <= MAX_TICKS:
            raise Refused("invalid_timer", f"A timer counts 1 to {MAX_TICKS} ticks.", what="ticks")
        return Timer(spec.effect, ticks=spec.ticks, watch=spec.watch)
    if spec.ms is not None:
        if not 1 <= spec.ms <= MAX_SPAN_MS:
            raise Refused("invalid_timer", f"A timer runs for 1 to {MAX_SPAN_MS} milliseconds.", what="ms")
        return Timer(spec.effect, due=Millis(now + spec.ms), span=Millis(spec.ms))
    at = spec.at or 0
    if not 0 < at <= now + MAX_SPAN_MS:
        raise Refused("invalid_timer", "The moment of a timer is at most a year ahead.", what="at")
    return Timer(spec.effect, due=Millis(at))


def renewed(timer: Timer, now: Millis) -> Timer:
    """The same timer, begun again. Raises `Refused(invalid_timer)` for one that does not run for a span."""
    if not timer.span:
        raise Refused("invalid_timer", "Only a timer that runs for a span can be renewed.", what="ms")
    return msgspec.structs.replace(timer, due=Millis(now + timer.span))
