"""`parler bring`: the program of an agent host that the person starts, and what became of the start.

How the agent itself comes in is `window.arrive`, which its window's door calls.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import AWAY, IN_ROOM, Family, Operation, Params, Result, Short


class BringAgent(Params, frozen=True, kw_only=True):
    """The calling process is about to become, or to start, the program of the agent host `host`. `context` opens a new
    session with this recap instead of `room`; with `check` nothing is opened and nobody will be let in."""

    host: Annotated[str, Meta(min_length=1, max_length=64)]
    room: Short | None = None
    context: str | None = None
    check: bool = False


class Bringing(Result, frozen=True, kw_only=True):
    """The room that the agent will be in; null for one that a check did not open."""

    room: str | None
    name: str | None


class AskBrought(Params, frozen=True, kw_only=True):
    """The calling process asks about its own start."""


class Brought(Result, frozen=True, kw_only=True):
    """`status` is `joined`, and then `agent` is who came, by `name`; `absent` while nobody did; `refused` with the
    error `code`; or `unknown`, where this daemon knows of no start by this process."""

    status: Literal["joined", "absent", "refused", "unknown"]
    agent: str | None = None
    name: str = ""
    code: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="session.bring",
            summary="Start an agent program here, in your session, with a first prompt.",
            params=BringAgent,
            result=Bringing,
            plane="person",
            effect="write",
            errors=(
                *IN_ROOM,
                *AWAY,
                "not_owner",
                "room_closed",
                "too_many_keys",
                "unknown_key",
                "wrong_room",
                "needs_proof",
                "invalid_param",
                "text_too_long",
                "throttled",
                "too_many_bytes",
                "too_many_rooms",
            ),
            facts=("room_named", "session_activated", "room_opened", "member_joined", "key_minted", "message_posted"),
            example={"host": "codex", "room": "auth-redesign"},
            answers=({"room": samples.ROOM, "name": samples.NAME},),
            command="parler bring",
        ),
        Operation(
            name="session.brought",
            summary="Show who came in by the start that this process made.",
            params=AskBrought,
            result=Brought,
            plane="person",
            effect="read",
            answers=({"status": "joined", "agent": "U", "name": samples.BOB, "code": ""},),
            command="parler bring",
        ),
    ),
)
