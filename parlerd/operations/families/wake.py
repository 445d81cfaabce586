"""Turns that begin without a person: what an agent host's hook is told, which is counts and ids of what waits for the
agent beside it, how often two agents may wake each other, and how a person lets them go on after that."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import MAX_WAKES_OF_PAIR
from parlerd.operations import samples
from parlerd.operations.entry import IDEMPOTENT, IN_ROOM, SENDS_AWAY, Family, Operation, Params, Result, Short, Wait


class WakeCheck(Params, frozen=True, kw_only=True):
    """`turn`: the answer would begin a turn of the agent that no person asked for. With `wait_ms` the answer comes when
    there is news, or at the end of the wait."""

    wait_ms: Wait = 0
    turn: bool = False


class Waiting(Result, frozen=True, kw_only=True):
    """Counts and ids, nothing that anybody wrote. `rooms` are the first few with something unread; `wake` says that a
    turn may begin now, for news that began none before; `paused` that this hour's automatic turns are used up."""

    agent: str
    unread: int
    rooms: list[str]
    handoffs: int
    requests: int
    wake: bool
    paused: bool


class ContinueRoom(Params, frozen=True, kw_only=True):
    """Let the person's agents wake each other in a room again; with `message`, an id or a number, only in its
    conversation. With `without_owner` it is a sealed room that goes on though its owner is gone: whom the owner named
    takes it over, and anybody else opens another with the same people to ask."""

    room: Short | None = None
    message: Short = ""
    without_owner: bool = False


class WokenPair(Result, frozen=True, kw_only=True):
    """Two agents, by name, whose messages to each other in one conversation began so many turns of the two."""

    one: str
    other: str
    turns: int


class ContinuedRoom(Result, frozen=True, kw_only=True):
    """`pairs` are the counts that begin anew, the highest first; `was_paused` says that the turns of this hour were
    used up, which begin anew as well. `turns` are how many each pair may begin in a conversation there; with 0 nobody
    goes on. `status` is `nothing` where nothing was counted. Of a room that goes on without its owner, `owner` is the
    agent that owns it now; where it is `reopened`, this is another room, with the `key` that was told to everybody in
    the old one."""

    room: str
    name: str
    status: Literal["continued", "nothing", "taken_over", "reopened"]
    turns: int
    pairs: list[WokenPair] = []
    was_paused: bool = False
    owner: str = ""
    session_key: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="key")


class TurnsInRoom(Params, frozen=True, kw_only=True):
    """How many turns two agents may begin by their messages in each conversation of a room; with 0 no message of an
    agent begins one there. Without `turns` nothing changes."""

    room: Short | None = None
    turns: Annotated[int, Meta(ge=0, le=MAX_WAKES_OF_PAIR)] | Literal["default"] | None = None


class RoomTurns(Result, frozen=True, kw_only=True):
    """What holds in the room for the agents of this person."""

    room: str
    name: str
    turns: int
    is_default: bool


FAMILY: Final = Family(
    operations=(
        Operation(
            name="wake.check",
            summary="Count what waits for the agent that a host's hook runs beside, with ids.",
            params=WakeCheck,
            result=Waiting,
            plane="hook",
            effect="write",
            waits=True,
            facts=("agent_woken",),
            example={"turn": True},
        ),
        Operation(
            name="room.continue",
            summary="Let your agents go on waking each other in a room, after they did so too often.",
            params=ContinueRoom,
            result=ContinuedRoom,
            plane="person",
            effect="write",
            errors=(
                *IN_ROOM,
                *SENDS_AWAY,
                "no_such_message",
                "not_sealed",
                "room_closed",
                "owner_is_there",
                "not_successor",
                "no_such_agent",
                "invalid_param",
                "statement_refused",
                "too_many_transfers",
                "throttled",
                *IDEMPOTENT,
            ),
            facts=(
                "wakes_continued",
                "owner_changed",
                "room_named",
                "session_activated",
                "room_opened",
                "member_joined",
                "epoch_turned",
                "key_minted",
                "message_posted",
            ),
            example={"room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "status": "continued",
                    "turns": 20,
                    "pairs": [{"one": samples.ANN, "other": samples.BOB, "turns": 20}],
                },
            ),
            command="parler room continue",
        ),
        Operation(
            name="room.turns",
            summary="Say how many turns two agents may begin by their messages in each conversation of a room.",
            params=TurnsInRoom,
            result=RoomTurns,
            plane="person",
            effect="write",
            errors=IN_ROOM,
            facts=("wakes_bounded",),
            example={"room": "auth-redesign", "turns": 40},
            answers=({"room": samples.ROOM, "name": samples.NAME, "turns": 40, "is_default": False},),
            command="parler room turns",
        ),
    )
)
