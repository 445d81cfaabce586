"""Offering the turn to another agent, and what becomes of the offer."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    SENDS_AWAY,
    Argument,
    Family,
    IdempotencyKey,
    Offer,
    Operation,
    Params,
    ReceiptRef,
    Result,
    Route,
    Short,
    ToolEntry,
)
from parlerd.operations.shared import HandoffEntry, Message

Points = Annotated[tuple[str, ...], Meta(max_length=64)]
"""What a list of a hand-off holds."""


class GiveHandoff(Params, frozen=True, kw_only=True):
    """`summary` is what is done, in short, beside or in place of what the others say at length. `failed` is what was
    tried and did not work, `refs` are branches, commits and addresses."""

    next: Annotated[str, Meta(min_length=1)]
    summary: str = ""
    goal: str = ""
    state: str = ""
    decisions: Points = ()
    failed: Points = ()
    questions: Points = ()
    files: Points = ()
    refs: Points = ()
    for_: Short = msgspec.field(name="for", default="")
    bundle: Short | None = None
    """Code that goes along: the number or the id of a message of the room that brings it, or the blob's id."""
    transcript: Annotated[int, Meta(ge=0, le=100)] = 0
    """So many of the newest messages that everyone in the room may read go along: named where whoever may take the
    turn can read them there, and else quoted."""
    ttl_ms: Annotated[int, Meta(ge=60_000, le=2_592_000_000)] | None = None
    """How long the offer stands; a day if it is not said."""
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class SentTranscript(Result, frozen=True, kw_only=True):
    """How many messages go along with an offer, whether as quotations, and how many more could not be quoted."""

    count: int
    quoted: bool
    left_out: int = 0


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
    transcript: SentTranscript | msgspec.UnsetType = msgspec.UNSET
    expires: int = 0
    """Until when the offer stands, by the room's time; 0 of one that is `queued`."""
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class AcceptHandoff(Params, frozen=True, kw_only=True):
    """`id` is the offer: the agent's own number of the message, or its id."""

    id: Short
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class DeclineHandoff(Params, frozen=True, kw_only=True):
    id: Short
    reason: str = ""
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class WithdrawHandoff(Params, frozen=True, kw_only=True):
    id: Short
    reason: str = ""
    room: Short | None = None
    idempotency_key: IdempotencyKey | None = None


class AnsweredHandoff(Result, frozen=True, kw_only=True):
    """`id` and `seq` are those of the message that says it, `handoff` is the id of the offer and `offer_seq` the
    agent's own number of it; `holder` has the turn now, by name."""

    id: str
    seq: int
    handoff: str
    offer_seq: int = 0
    room: str
    name: str = ""
    status: Literal["accepted", "declined", "withdrawn"]
    giver: str = ""
    holder: str = ""
    replayed: bool = False
    idempotency_key: str = msgspec.field(name="key", default="")
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ShowHandoffs(Params, frozen=True, kw_only=True):
    """All offers that the agent may see, or with `id` one, with its messages."""

    id: Short | None = None
    room: Short | None = None


class HandoffList(Result, frozen=True, kw_only=True):
    """Open offers stand first, then the newest; `more` are left out. `messages` are the trail of the one that was asked
    for: the offer and the answers to it, in order."""

    room: str
    name: str
    you: str
    handoffs: list[HandoffEntry]
    more: int = 0
    messages: list[Message] = []
    notice: str = ""


_ANSWERING: Final = (
    "agent_disabled",
    *IN_ROOM,
    "no_such_message",
    "no_such_handoff",
    "handoff_not_yours",
    "handoff_taken",
    "handoff_over",
    "handoff_expired",
    "text_too_long",
    "invalid_param",
    "room_closed",
    "throttled",
    *AWAY,
    "key_used_elsewhere",
    "too_many_bytes",
    *IDEMPOTENT,
)
"""Why an offer is not answered."""
_ANSWERED: Final = {
    "id": "m_7",
    "seq": 7,
    "handoff": "m_6",
    "offer_seq": 6,
    "room": samples.ROOM,
    "name": samples.NAME,
    "giver": samples.ANN,
}

FAMILY: Final = Family(
    operations=(
        Operation(
            name="handoff.give",
            summary="Give the turn to the next agent, who takes it or leaves it.",
            params=GiveHandoff,
            result=GivenHandoff,
            plane="agent",
            http=Route("POST /rooms/{room}/handoffs", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=(
                *IN_ROOM,
                "text_too_long",
                "no_such_agent",
                "invalid_param",
                "room_closed",
                "throttled",
                "too_many_handoffs",
                "no_such_blob",
                "no_such_message",
                "bundle_refused",
                "upload_unfinished",
                *SENDS_AWAY,
                "agent_disabled",
                *IDEMPOTENT,
            ),
            facts=("message_posted",),
            example={"for": "webdev", "summary": "rotation done", "next": "wire the login UI"},
            answers=({"id": "m_6", "room": samples.ROOM, "name": samples.NAME, "for": samples.BOB},),
            tool=Offer(tool="parler_handoff", verb="offer"),
            command="parler handoff",
        ),
        Operation(
            name="handoff.accept",
            summary="Take the turn that was offered.",
            params=AcceptHandoff,
            result=AnsweredHandoff,
            plane="agent",
            http=Route("POST /rooms/{room}/handoffs/{id}/accept", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=_ANSWERING,
            facts=("message_posted",),
            example={"id": "6"},
            answers=({**_ANSWERED, "status": "accepted", "holder": samples.BOB},),
            tool=Offer(tool="parler_handoff", verb="accept"),
            command="parler handoff accept",
        ),
        Operation(
            name="handoff.decline",
            summary="Refuse the turn that was offered.",
            params=DeclineHandoff,
            result=AnsweredHandoff,
            plane="agent",
            http=Route("POST /rooms/{room}/handoffs/{id}/decline", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=_ANSWERING,
            facts=("message_posted",),
            example={"id": "6", "reason": "no access to the web repository"},
            answers=({**_ANSWERED, "status": "declined", "holder": samples.ANN},),
            tool=Offer(tool="parler_handoff", verb="decline"),
            command="parler handoff decline",
        ),
        Operation(
            name="handoff.withdraw",
            summary="End an own offer that nobody took.",
            params=WithdrawHandoff,
            result=AnsweredHandoff,
            plane="agent",
            http=Route("POST /rooms/{room}/handoffs/{id}/withdraw", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=_ANSWERING,
            facts=("message_posted",),
            example={"id": "6"},
            answers=({**_ANSWERED, "status": "withdrawn", "holder": samples.ANN},),
            tool=Offer(tool="parler_handoff", verb="withdraw"),
            command="parler handoff withdraw",
        ),
        Operation(
            name="handoff.show",
            summary="Show the offers of the turn in a room, or the trail of one.",
            params=ShowHandoffs,
            result=HandoffList,
            plane="agent",
            http=Route("GET /rooms/{room}/handoffs", "read"),
            effect="read",
            errors=(*IN_ROOM, "no_such_message", "no_such_handoff"),
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "you": samples.BOB,
                    "handoffs": [
                        {
                            "id": "m_6",
                            "seq": 6,
                            "giver": samples.ANN,
                            "for": samples.BOB,
                            "status": "offered",
                            "holder": samples.ANN,
                            "at": samples.AT,
                            "expires": samples.AT + 86_400_000,
                            "to_you": True,
                        }
                    ],
                },
            ),
            tool=Offer(tool="parler_rooms", verb="handoffs"),
            command="parler handoff show",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_handoff",
            title="Hand off the turn",
            does="Offer the turn, with shared code (bundle); accept, decline, withdraw an offer.",
            arguments=(
                Argument(name="for", help="agent or role, else anyone"),
                Argument(name="next", is_free=True),
                Argument(name="goal", is_free=True),
                Argument(name="state", is_free=True),
                Argument(name="decisions", kind="lines", is_free=True),
                Argument(name="failed", kind="lines", is_free=True),
                Argument(name="questions", kind="lines", is_free=True),
                Argument(name="files", kind="lines", is_free=True),
                Argument(name="refs", kind="lines", is_free=True),
                Argument(name="bundle", is_number=True),
                Argument(name="transcript", kind="integer"),
                Argument(name="id", help="the offer", is_number=True),
                Argument(name="reason", is_free=True),
                Argument(name="room"),
            ),
            default="offer",
            example={"for": "webdev", "next": "wire the UI"},
        ),
    ),
)
