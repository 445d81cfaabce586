"""What an agent may do in a room now, and what is best done next."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from parlerd.operations import samples
from parlerd.operations.entry import AWAY, IN_ROOM, Family, Offer, Operation, Params, Result, Route, Short
from parlerd.operations.shared import Availability

MAX_NEXT: Final = 3
"""Steps that are named as the next ones. Source: contract spec, Affordances."""

NextReason = Literal["offer", "claim_ends", "unread", "knock", "open_work", "wait"]
"""Why a step is the next one: an offer of the turn to you; a claim of yours that is in its last third; messages that
you have not read; somebody who knocks at a room of yours, on which your person decides; open work; or nothing but
waiting is left."""


class ListAffordances(Params, frozen=True, kw_only=True):
    room: Short | None = None


class Affordance(Result, frozen=True, kw_only=True):
    """An operation, and whether whoever asks may do it in this room now. `reason` is the code with which it would be
    refused. Over HTTP `method` and `path` say how it is asked for, what stands in braces there being a parameter;
    `example` is such a call whole, and `unlock` says what would have to be so, or who can do it."""

    operation: str
    allowed: bool
    reason: str | msgspec.UnsetType = msgspec.UNSET
    method: str | msgspec.UnsetType = msgspec.UNSET
    path: str | msgspec.UnsetType = msgspec.UNSET
    example: str | msgspec.UnsetType = msgspec.UNSET
    unlock: str | msgspec.UnsetType = msgspec.UNSET


class ActionAffordance(Availability, frozen=True, kw_only=True):
    id: str


class NextStep(Result, frozen=True, kw_only=True):
    """An operation that is best done next, with these parameters; an empty operation is a matter of the person.
    Over HTTP `method` and `path` have the call whole, but for a `body` of a POST or PUT."""

    operation: str
    params: dict[str, Any]
    why: NextReason
    method: str | msgspec.UnsetType = msgspec.UNSET
    path: str | msgspec.UnsetType = msgspec.UNSET
    body: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET


class Affordances(Result, frozen=True, kw_only=True):
    """`actions` are those of the room; left out where its home could not be asked, and then `notice` says so. `epoch`
    is another one whenever what is allowed is. `left_out` counts actions that would have made the answer too long."""

    affordances: list[Affordance]
    actions: list[ActionAffordance] | msgspec.UnsetType = msgspec.UNSET
    next: list[NextStep]
    you: str
    room: str
    name: str = ""
    notice: str = ""
    epoch: str = ""
    left_out: int = 0


FAMILY: Final = Family(
    operations=(
        Operation(
            name="room.affordances",
            summary="List what you may do in a room now, and what is best done next.",
            params=ListAffordances,
            result=Affordances,
            plane="agent",
            http=Route("GET /rooms/{room}/affordances", "read"),
            effect="read",
            errors=(*IN_ROOM, *AWAY),
            facts=("timer_fired",),
            example={},
            answers=(
                {
                    "affordances": [
                        {"operation": "message.send", "allowed": True},
                        {"operation": "room.kick", "allowed": False, "reason": "not_owner"},
                    ],
                    "actions": [{"id": "stoke_fire", "available": True}],
                    "next": [{"operation": "message.recv", "params": {}, "why": "unread"}],
                    "you": samples.BOB,
                    **samples.PLACED,
                },
            ),
            tool=Offer(tool="parler_act", verb="can"),
            command="parler affordances",
        ),
    )
)
