"""What a window's door asks of the engine beside the tools: what it showed was seen, what else is new, which form to
show and what the person typed into it.

Only the door of an agent host's window reaches these. Nobody calls them by name: a tool call or a notification of the
host leads to them, and no client of the socket may.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from parlerd.core.model import Sighted
from parlerd.operations import samples
from parlerd.operations.entry import AWAY, MAX_PAGE, Family, Operation, Params, Result, Short
from parlerd.operations.shared import DECIDING, REQUESTS_OF_ROOM, Decided, Noted, RequestInfo

News = Literal["unread", "knock", "people", "waits", "answer", "refused", "lost", "handoff", "loop", "sight"]
"""Messages that wait; somebody knocks; somebody came, went or was declined; one's own knock waits; its answer; a
message that was queued will never arrive; a relay lost some of one's own; an offer of the turn expired; the agent and
another woke each other too often; a host cut a message, or no model was shown one of one's own."""


class AcknowledgeShown(Params, frozen=True, kw_only=True):
    """What this window was shown has reached the model: its next tool call says so, or its orderly end."""


class Arrive(Params, frozen=True, kw_only=True):
    """Let the window in where a person's `parler bring` started it; nothing happens to every other window."""


class AskNotice(Params, frozen=True, kw_only=True):
    """`said` are the kinds of news that the answer beside the notice says itself, of `room` or of all rooms."""

    said: tuple[News, ...] = ()
    room: str = ""


class Notice(Result, frozen=True, kw_only=True):
    """One line of counts and names where something changed for this window's agent, else empty."""

    line: str


class SightTold(Params, frozen=True, kw_only=True):
    """What is known now of whether this window's model was shown a message, and why that is known."""

    id: Short
    verdict: Sighted
    reason: Short = ""
    evidence: Annotated[str, Meta(max_length=256)] = ""


class TellSights(Params, frozen=True, kw_only=True):
    """What became of messages that the window's agent was given, in the order in which it became known."""

    sights: Annotated[tuple[SightTold, ...], Meta(max_length=MAX_PAGE)]


class Introduce(Params, frozen=True, kw_only=True):
    """The window says of which host it is, before it acts as anybody."""

    host: Short


class FindRequest(Params, frozen=True, kw_only=True):
    """`agent` is an id, or a name that one of those who knock has alone."""

    agent: Short
    room: Short | None = None


class FoundRequest(Result, frozen=True, kw_only=True):
    """The request that a form would be about, and whether the room lets its owner decide without a person."""

    request: RequestInfo
    owner_decides: bool


class DecideByForm(Params, frozen=True, kw_only=True):
    """What a person typed into a form of the host. Without `join_code` the owner decides, where the room lets it."""

    agent: Short
    room: Short | None = None
    join_code: Short | None = None
    admit: bool = True


class WatchChanges(Params, frozen=True, kw_only=True):
    """A stream: one `RoomChanged` without a room at its begin, and one whenever something that the caller may see is
    posted in a room. Nothing that is posted after the first is left out."""


class RoomChanged(Result, frozen=True, kw_only=True):
    room: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="window.acknowledge",
            summary="Acknowledge what the window was shown.",
            params=AcknowledgeShown,
            result=Noted,
            plane="window",
            effect="write",
        ),
        Operation(
            name="window.arrive",
            summary="Let the window's agent in where the person's own start led to it.",
            params=Arrive,
            result=Noted,
            plane="window",
            effect="write",
            errors=(
                *AWAY,
                "no_such_room",
                "room_closed",
                "no_live_key",
                "too_many_pending",
                "knock_unfinished",
                "knock_over",
            ),
            facts=("join_requested", "join_approved", "member_joined", "session_activated"),
        ),
        Operation(
            name="window.notice",
            summary="Show in one line what else is new for the window's agent.",
            params=AskNotice,
            result=Notice,
            plane="window",
            effect="read",
            example={"said": ["unread"], "room": "auth-redesign"},
        ),
        Operation(
            name="window.sighted",
            summary="Tell what the agent host's own record says of messages that the window was given.",
            params=TellSights,
            result=Noted,
            plane="window",
            effect="write",
            example={"sights": [{"id": "m_4", "verdict": "shown", "reason": "reply"}]},
        ),
        Operation(
            name="window.introduce",
            summary="Tell the engine of which agent host the window is.",
            params=Introduce,
            result=Noted,
            plane="window",
            effect="write",
            example={"host": "shell"},
        ),
        Operation(
            name="window.find_request",
            summary="Show the one request that a form would be about.",
            params=FindRequest,
            result=FoundRequest,
            plane="window",
            effect="read",
            errors=(*REQUESTS_OF_ROOM, "no_such_request"),
            example={"agent": samples.BOB, "room": "auth-redesign"},
        ),
        Operation(
            name="window.decide",
            summary="Admit or refuse an agent by what a person typed into a form of the agent host.",
            params=DecideByForm,
            result=Decided,
            plane="window",
            effect="write",
            errors=(*DECIDING, "form_undecided", "needs_proof", "code_mismatch", "throttled"),
            facts=("session_activated", "join_approved", "join_denied", "member_joined", "direct_decided"),
            example={"agent": samples.BOB, "room": "auth-redesign", "join_code": "K7QM"},
        ),
        Operation(
            name="window.changes",
            summary="Follow in which rooms something is posted for the window's agent.",
            params=WatchChanges,
            result=RoomChanged,
            plane="window",
            effect="read",
            stream=True,
        ),
    )
)
