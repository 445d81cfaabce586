"""Giving the turn to another agent."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import (
    IDEMPOTENCY_ARGUMENT,
    IDEMPOTENT,
    IN_ROOM,
    ROOM_ARGUMENT,
    SENDS_AWAY,
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    Result,
    Short,
    ToolEntry,
)


class GiveHandoff(Params, frozen=True, kw_only=True):
    next: Annotated[str, Meta(min_length=1)]
    summary: str = ""
    for_: Short = msgspec.field(name="for", default="")
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class GivenHandoff(Result, frozen=True, kw_only=True):
    """`seq` is the giver's own number of it; `others` are how many beside the giver are in the room now. One that is
    `queued` is stored on this machine, and has no number until the relay of its room answers. `warning` names
    credentials that were taken out, as for a message."""

    id: str
    room: str
    name: str = ""
    for_: str | None = msgspec.field(name="for")
    replayed: bool = False
    idempotency_key: str = msgspec.field(name="key", default="")
    seq: int | None = None
    others: int = 0
    queued: bool = False
    warning: str | msgspec.UnsetType = msgspec.UNSET


FAMILY: Final = Family(
    operations=(
        Operation(
            name="handoff.give",
            summary="Give the turn to the next agent.",
            params=GiveHandoff,
            result=GivenHandoff,
            plane="agent",
            effect="write",
            needs_idempotency_key=True,
            errors=(
                *IN_ROOM,
                "text_too_long",
                "no_such_agent",
                "invalid_param",
                "room_closed",
                "throttled",
                *SENDS_AWAY,
                *IDEMPOTENT,
            ),
            facts=("message_posted",),
            example={"for": "webdev", "summary": "rotation done", "next": "wire the login UI"},
            answers=({"id": "m_6", "room": samples.ROOM, "name": samples.NAME, "for": samples.BOB},),
            tool=Offer(tool="parler_handoff"),
            command="parler handoff",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_handoff",
            title="Hand off the turn",
            arguments=(
                Argument(name="next", help="what the next agent should do", required=True, is_free=True),
                Argument(name="summary", help="what is done and decided", is_free=True),
                Argument(name="for", help="an agent in the room, or a role that one has; default: anyone"),
                ROOM_ARGUMENT,
                IDEMPOTENCY_ARGUMENT,
            ),
            example={"for": "webdev", "summary": "rotation done", "next": "wire the login UI"},
        ),
    ),
)
