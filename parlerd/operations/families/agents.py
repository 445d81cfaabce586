"""Agents: as whom a call acts, and what may begin a turn of this agent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import MAX_STATUS_TEXT, Attention, RoomAttention
from parlerd.operations import samples
from parlerd.operations.entry import (
    IN_ROOM,
    Argument,
    Family,
    Offer,
    Operation,
    Params,
    Result,
    Route,
    Short,
    ToolEntry,
)
from parlerd.operations.shared import StatedStatus


class WhoAmI(Params, frozen=True, kw_only=True):
    pass


class Me(Result, frozen=True, kw_only=True):
    """`fingerprint` is a short form of the id, which others are shown when this agent knocks."""

    id: str
    name: str
    host: str
    home: str
    principal: str
    workspace: str = ""
    active: str | None = None
    fingerprint: str = ""


class SetAttention(Params, frozen=True, kw_only=True):
    """`mode` is `open`, `dnd` or `focus`, and with a `room` what holds there: `quiet`, `muted` or, to take that back,
    `inherit`. Without a mode nothing changes."""

    mode: Literal["open", "dnd", "focus", "quiet", "muted", "inherit"] | None = None
    room: Short | None = None


class AttentionIn(Result, frozen=True, kw_only=True):
    room: str
    name: str
    mode: RoomAttention


class AttentionIs(Result, frozen=True, kw_only=True):
    """What begins a turn of the agent: `open` every message, `dnd` what is for it, `focus` hand-offs to it. In a
    `quiet` room only what is for the agent does, in a `muted` one nothing. Reading is never held back."""

    name: str
    mode: Attention
    rooms: list[AttentionIn]


class StatePresence(Params, frozen=True, kw_only=True):
    """`status` is one word (letters, digits and . _ @ # / -), and `text` goes with it; the word `none` takes both back.
    Without a status nothing changes."""

    status: Short = ""
    text: Annotated[str, Meta(max_length=MAX_STATUS_TEXT)] = ""


class PresenceIs(Result, frozen=True, kw_only=True):
    """`presence` is what Parler found out, `stated` what the agent says, until it was offline for ten minutes or the
    daemon was restarted."""

    name: str
    presence: str
    since: int
    stated: StatedStatus | msgspec.UnsetType = msgspec.UNSET


FAMILY: Final = Family(
    operations=(
        Operation(
            name="agent.whoami",
            summary="Show which agent this call acts as.",
            params=WhoAmI,
            result=Me,
            plane="agent",
            http=Route("GET /me", "read"),
            effect="read",
            command="parler whoami",
        ),
        Operation(
            name="agent.attention",
            summary="Choose what may begin a turn of this agent while it is idle.",
            params=SetAttention,
            result=AttentionIs,
            plane="agent",
            http=Route("PUT /attention", "post"),
            effect="write",
            errors=("invalid_param", *IN_ROOM),
            facts=("attention_set",),
            example={"mode": "dnd"},
            answers=(
                {
                    "name": samples.ANN,
                    "mode": "dnd",
                    "rooms": [{"room": samples.ROOM, "name": samples.NAME, "mode": "muted"}],
                },
            ),
            tool=Offer(
                tool="parler_act",
                verb="attention",
                arguments=(Argument(name="mode", help="open, dnd, focus; with room: quiet, muted, inherit"),),
            ),
            command="parler attention",
        ),
        Operation(
            name="agent.presence",
            summary="Say what this agent is doing, for others to see beside its name.",
            params=StatePresence,
            result=PresenceIs,
            plane="agent",
            http=Route("PUT /presence", "post"),
            effect="write",
            errors=("invalid_param",),
            example={"status": "busy", "text": "running the long tests"},
            answers=(
                {
                    "name": samples.ANN,
                    "presence": "active",
                    "since": samples.AT,
                    "stated": {"status": "busy", "text": "running the long tests", "at": samples.AT},
                },
            ),
            tool=Offer(
                tool="parler_act",
                verb="presence",
            ),
            command="parler presence",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_act",
            title="Work",
            does="Serve a queue; claim a task, say its status (task: working, failed...), end it; list room actions, "
            "invoke one; state presence, what wakes you (attention).",
            arguments=(
                Argument(name="room"),
                Argument(name="service"),
                Argument(name="id", is_number=True),
                Argument(name="text", is_free=True),
                Argument(name="status"),
                Argument(name="blob", is_number=True),
            ),
            default="attention",
            example={"action": "claim", "service": "review"},
            is_core=False,
        ),
    ),
)
