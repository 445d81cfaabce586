"""How somebody comes over HTTP who is no agent yet: with a token that joins, as a new agent of the person."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.operations import samples
from parlerd.operations.entry import AWAY, IDEMPOTENT, Family, Operation, Params, Result, Route, Short, Wait

JoinKey = Annotated[str, Meta(min_length=16, max_length=128, pattern=r"^[A-Za-z0-9._:-]+\Z")]
"""The idempotency key of a join. Whoever repeats the request is told the agent's token again, so it is as long as a
secret."""
JOINS: Final = ("joined", "pending", "denied", "closed")


class BeginJoin(Params, frozen=True, kw_only=True):
    """`name` is what the new agent is called in the room, and `role` what it is there, as it says; `label` is what its
    token is called. Whoever shows no token names a `session_key`, with which the agent knocks: a person decides. `room`
    is the room that is meant, by its id or its name: it is refused where another stands behind the token."""

    name: Short
    room: Short | None = None
    role: Short = ""
    label: Annotated[str, Meta(max_length=64)] = ""
    session_key: Short = ""
    wait_ms: Wait = 0
    idempotency_key: JoinKey | None = None


class FindJoin(Params, frozen=True, kw_only=True):
    id: Short
    wait_ms: Wait = 0


class JoinInfo(Result, frozen=True, kw_only=True):
    """`status`: `joined`; `pending` while a person has to decide; `denied`, as `hint` says; or `closed` where the room
    ended before. Once it is joined, `agent` is the newcomer's handle in the room, before that the name that it asked
    for; `token` is the text with which it acts, `token_id` its id and `expires_at` its end: all three are null until
    then, and where it was told and replaced or revoked since. `join_code` is what the person is asked to type; null
    where whoever asks may be of the side that decides."""

    id: str
    status: Literal["joined", "pending", "denied", "closed"]
    room: str
    agent: str
    name: str | None = None
    role: str = ""
    token: str | None = None
    token_id: str | None = None
    expires_at: int | None = None
    join_code: str | None = msgspec.field(name="code", default=None)
    hint: str = ""


class BegunJoin(JoinInfo, frozen=True, kw_only=True):
    """`join_token` is the token with which to ask how the join stands, for whoever showed none."""

    join_token: str | None = None
    replayed: bool
    idempotency_key: str


_JOINED: Final = {
    "id": "jn_0123456789abcdefghij",
    "status": "joined",
    "room": samples.ROOM,
    "name": samples.NAME,
    "agent": "build-bot",
    "role": "worker",
    "token": "as_...",
    "token_id": "tk_0123456789abcdefghij",
    "expires_at": samples.AT + 30 * 24 * 3600 * 1000,
}
_ERRORS: Final = ("token_invalid", "no_such_room", "room_deleted", "too_many_tokens", *AWAY)

FAMILY: Final = Family(
    operations=(
        Operation(
            name="join.begin",
            summary="Join a room as a new agent, and be given its token; or wait for the person.",
            params=BeginJoin,
            result=BegunJoin,
            plane="joiner",
            effect="write",
            needs_idempotency_key=True,
            waits=True,
            errors=(
                *_ERRORS,
                *IDEMPOTENT,
                "token_used_up",
                "agent_exists",
                "room_closed",
                "unknown_key",
                "too_many_pending",
                "knock_over",
                "invalid_name",
                "invalid_param",
                "statement_refused",
                "token_required",
                "needs_person",
                "throttled",
            ),
            facts=(
                "join_begun",
                "join_ended",
                "member_joined",
                "join_requested",
                "join_approved",
                "session_activated",
                "token_minted",
            ),
            example={"name": "build-bot", "role": "worker"},
            answers=(
                {**_JOINED, "replayed": False, "idempotency_key": "0123456789abcdef"},
                {
                    "id": "jn_0123456789abcdefghij",
                    "status": "pending",
                    "room": samples.ROOM,
                    "agent": "build-bot",
                    "code": "K7QX",
                    "hint": "A person has to approve this. Tell them this code: K7QX",
                    "replayed": False,
                    "idempotency_key": "0123456789abcdef",
                },
            ),
            http=Route("POST /joins", "join"),
        ),
        Operation(
            name="join.find",
            summary="Show what became of a request to come in; once a person let the agent in, take its token.",
            params=FindJoin,
            result=JoinInfo,
            plane="joiner",
            effect="write",
            waits=True,
            errors=(*_ERRORS, "no_such_join", "room_closed", "unknown_key", "knock_over"),
            facts=("join_ended", "join_approved", "member_joined", "session_activated", "token_minted"),
            example={"id": "jn_0123456789abcdefghij"},
            answers=(_JOINED,),
            http=Route("GET /joins/{id}", "join"),
        ),
    ),
)
