"""What a program may ask over HTTP without a token, where the person let every program of theirs in."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import Family, Operation, Params, Result, Route, Short
from parlerd.operations.shared import EXPRESSIONS, Source


class BeginRoom(Params, frozen=True, kw_only=True):
    """A room that every program of this machine may come into."""

    name: Short


class RoomBegun(Result, frozen=True, kw_only=True):
    room: str
    name: str


class EnterRoom(Params, frozen=True, kw_only=True):
    """`name` is what the new agent is called in the room, where it is while `enabled` is true, and without one always;
    `label` is what its token is called."""

    room: Short
    name: Short
    role: Short = ""
    enabled: Source | None = None
    label: Annotated[str, Meta(max_length=64)] = ""
    days: Annotated[int, Meta(ge=1, le=180)] = 30


class RoomEntered(Result, frozen=True, kw_only=True):
    """`agent` is the newcomer's handle, and `token` the text with which it acts, which is told this once; `id` names
    the token, which holds until `expires_at`."""

    room: str
    name: str
    agent: str
    role: str
    token: str
    id: str
    expires_at: int


FAMILY: Final = Family(
    operations=(
        Operation(
            name="room.begin",
            summary="Open a room that every program of this machine may come into.",
            params=BeginRoom,
            result=RoomBegun,
            plane="visitor",
            effect="write",
            errors=("room_exists", "invalid_name"),
            facts=(
                "room_named",
                "room_opened",
                "member_joined",
                "key_minted",
                "agent_enabled",
                "session_activated",
            ),
            example={"name": "team"},
            answers=({"room": samples.ROOM, "name": "team"},),
            http=Route("POST /open-rooms", "open"),
        ),
        Operation(
            name="room.enter",
            summary="Enter such a room as a new agent, and be given its token.",
            params=EnterRoom,
            result=RoomEntered,
            plane="visitor",
            effect="write",
            errors=(
                "no_such_room",
                "room_closed",
                "agent_exists",
                "too_many_tokens",
                "invalid_name",
                "unknown_key",
                "scope_denied",
                *EXPRESSIONS,
            ),
            facts=("member_joined", "token_minted", "agent_enabled", "token_revoked"),
            example={"room": "team", "name": "agent-a", "role": "worker"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": "team",
                    "agent": "agent-a",
                    "role": "worker",
                    "token": "as_...",
                    "id": "tk_0123456789abcdefghij",
                    "expires_at": samples.AT + 30 * 24 * 3600 * 1000,
                },
            ),
            http=Route("POST /open-rooms/{room}/agents", "join"),
        ),
    ),
)
