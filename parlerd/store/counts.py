"""What is counted once for all relays that share a store: links, budgets, and the bytes that people keep.

    links     a number for each daemon, which each newer link of it raises: the link with the greatest one counts
    budgets   an amount that comes back steadily, from which several relays draw
    kept      the bytes of each person, as far as relays told of them

A budget is a row and not the memory of one relay that the others ask. Who asks for the row needs nobody but the store,
without which nothing happens anyway; and what was drawn stays drawn, whichever relay dies or takes rooms over. Whoever
draws often draws much at once (`engine.quota`), so a row is seldom written.

Not here: which budgets there are (`engine.throttle`, `engine.quota`, `engine.join_codes`, `relay.enrolment`,
`relay.turnstile`). Above: `relay.counting`. Below: nothing; `postgres.counts` and `memory_counts` are two of these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from parlerd.core.model import PrincipalId

ROUNDED: Final = 1e-6
"""So little is missing for no other reason than that sums of fractions are rounded."""
FORGOTTEN_AFTER_S: Final = 24 * 3600
"""A budget from which nothing was drawn for so long may be forgotten: each is whole again by then."""


class Ask(msgspec.Struct, frozen=True):
    """What somebody wants of one budget. `rate` is how much comes back in a second, up to `burst`. At least `least` has
    to be there; as much as there is, and no more than `most`, is drawn."""

    name: str
    rate: float
    burst: float
    least: float = 1.0
    most: float = 1.0


class Drawn(msgspec.Struct, frozen=True):
    """What was drawn of each budget that was asked for, and what is left of it now. Where one of them had too little,
    nothing was drawn of any, and `wait_s` says after how many seconds there would be enough; else that is 0."""

    amounts: Sequence[float]
    left: Sequence[float]
    wait_s: float = 0.0


class KeptBytes(msgspec.Struct, frozen=True):
    """How many bytes people keep: all of them, or those for whom it changed. `mark` says of which moment this is, and
    `counting` how often everything was counted."""

    bytes: Mapping[PrincipalId, int]
    mark: float
    counting: int


class Counts(Protocol):
    """Every method raises `StoreError`, and is one transaction. One thread at a time may use it."""

    def claim(self, principal: PrincipalId) -> int:
        """The number of a link that begins now: greater than that of every link of this daemon before."""
        ...

    def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]:
        """The greatest number of each of these daemons that has one."""
        ...

    def draw(self, asks: Sequence[Ask]) -> Drawn:
        """Draw from budgets, from all or from none. Their names differ."""
        ...

    def give(self, asks: Sequence[Ask]) -> None:
        """Give back `most` of each."""
        ...

    def forget(self, names: Sequence[str]) -> None:
        """Let these budgets be whole again."""
        ...

    def forget_old(self) -> None:
        """Forget the budgets from which nothing was drawn for so long that they are whole."""
        ...

    def keep(self, changes: Mapping[PrincipalId, int], since: float) -> KeptBytes:
        """Add to what people keep, and say for whom that changed since the mark `since`, or somewhat before; 0 for
        everybody."""
        ...

    def correct(self, changes: Mapping[PrincipalId, int], counting: int) -> bool:
        """Add what a count of everything found to be missing, unless another count was done since the `counting`th:
        whether it was added."""
        ...


def drawn_of(asks: Sequence[Ask], left: Sequence[float]) -> Drawn:
    """What is drawn of budgets of which so much is left."""
    short = [(ask.least - there, ask.rate) for ask, there in zip(asks, left, strict=True)]
    wait_s = max((lack / rate for lack, rate in short if lack > ROUNDED), default=0.0)
    if wait_s > 0:
        return Drawn((), left, wait_s)
    # What is missing by less than sums are exact is there.
    amounts = [max(ask.least, min(ask.most, max(0.0, there))) for ask, there in zip(asks, left, strict=True)]
    return Drawn(amounts, [there - amount for there, amount in zip(left, amounts, strict=True)])
