"""What a call led to: how the answer of a write comes to name its fact.

    engine's face: a trail begins --> handler --> a room's line settles a command, which is noted
                   the answer of the write gets what the newest noted fact is called in receipts

Handlers know nothing of receipts, so a new write has one without a line of its own. Above: the engine's face,
`crossing`. Below: `submissions`, where steps are noted; the library, for what a repeated request led to the first time.
Invariant: a step belongs to the call in whose task it was noted.
"""

from __future__ import annotations

import msgspec
import trio

from parlerd.core.receipts import FactRef
from parlerd.engine.library import Library
from parlerd.engine.submissions import TRAIL, Step, Trail
from parlerd.operations import types as t


class trail:
    """While a call is under way: what rooms' lines settled for it. No generator: one of these is held by everybody who
    waits."""

    __slots__ = ("_token",)

    def __enter__(self) -> list[Step]:
        steps: list[Step] = []
        self._token = TRAIL.set(Trail(trio.lowlevel.current_task(), steps))
        return steps

    def __exit__(self, *_: object) -> None:
        TRAIL.reset(self._token)


async def with_receipt(result: t.Result, steps: list[Step], library: Library) -> t.Result:
    """The answer of a write with what its fact is called in receipts."""
    if not awaits_receipt(result):
        return result
    for step in reversed(steps):
        found = step.receipt
        if found is None and step.replay:
            found = await library.receipt_ref(step.room, step.replay)
        if found is not None:
            return msgspec.structs.replace(result, receipt=named(found))
    return result


def awaits_receipt(result: t.Result) -> bool:
    """Whether an answer is to name its fact, and does not yet."""
    return getattr(result, "receipt", None) is msgspec.UNSET


def named(found: FactRef) -> t.ReceiptRef:
    """What a fact is called, for an answer."""
    return t.ReceiptRef(fact=found.fact, number=found.number or msgspec.UNSET)
