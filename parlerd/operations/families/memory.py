"""What a room remembers, and what an agent remembers for itself: writing, finding, forgetting."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from parlerd.core.model import PeerText, Verified
from parlerd.operations import samples
from parlerd.operations.entry import (
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
from parlerd.operations.shared import Author

MAX_FOUND: Final = 100
"""Facts in one answer at most; a larger limit means this."""


class Remember(Params, frozen=True, kw_only=True):
    """`if_version` is the version that the key must have, 0 for a key under which nothing is remembered. Without a
    room the fact goes to the active session, or else to the agent's private memory, as with `private`."""

    text: Annotated[str, Meta(min_length=1)]
    key: Short | None = None
    if_version: Annotated[int, Meta(ge=0)] | None = None
    room: Short | None = None
    private: bool = False
    idempotency_key: IdempotencyKey | None = None


class Recall(Params, frozen=True, kw_only=True):
    """Without a room the search is over the private memory and every room of the agent. `max_bytes` bounds the texts of
    the answer, but one fact always comes."""

    query: str
    room: Short | None = None
    limit: Annotated[int, Meta(ge=1)] = 10
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] = 64 * 1024


class Forget(Params, frozen=True, kw_only=True):
    """`id` is the id of a fact, or the caller's own number of its message in the room. Of a fact with a key every
    version goes."""

    id: Short | None = None
    key: Short | None = None
    room: Short | None = None
    private: bool = False
    idempotency_key: IdempotencyKey | None = None


class Fact(Result, frozen=True, kw_only=True):
    """One thing that is remembered. `room` is null for what only the agent itself may see. `at` and `version` are null
    for a fact that waits on this machine. A forgotten fact has no text. `score` says how well the fact answers the
    query, compared with the others of the same answer."""

    id: str
    key: str | None
    text: PeerText
    author: Author
    at: int | None
    version: int | None
    score: float = 0.0
    room: str | None
    name: str = ""
    verified: Verified = "valid"


class Remembered(Result, frozen=True, kw_only=True):
    """The fact as it is stored now. One that is `queued` waits on this machine until the relay of its room answers.
    `warning` names credentials that were taken out of the text before it left for that relay."""

    facts: list[Fact]
    replayed: bool
    idempotency_key: str
    queued: bool = False
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class Recalled(Result, frozen=True, kw_only=True):
    """What was found, the best first. `more` counts the facts that were found and are left out here. `partly` says that
    no fact has every word of the query, so these have some of them. `cut` says that only the newest facts were looked
    through. `notice` says what else may be missing."""

    facts: list[Fact]
    more: int = 0
    partly: bool = False
    cut: bool = False
    notice: str = ""


class Forgotten(Result, frozen=True, kw_only=True):
    """What was forgotten, as its newest version was."""

    facts: list[Fact]
    replayed: bool
    idempotency_key: str
    queued: bool = False
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


_AUTHOR: Final = {"id": samples.BOB, "name": "bob", "role": "member", "host": ""}
_FACT: Final = {
    "id": "m_7",
    "key": "deploy-strategy",
    "text": "blue-green",
    "author": _AUTHOR,
    "at": samples.AT,
    "version": 1,
    "score": 0.0,
    "room": samples.ROOM,
    "name": samples.NAME,
    "verified": "valid",
}
_WRITING: Final = (
    *IN_ROOM,
    "invalid_param",
    "room_closed",
    "agent_disabled",
    "throttled",
    *SENDS_AWAY,
    *IDEMPOTENT,
)
_FACTS: Final = ("message_posted", "room_opened", "member_joined")

FAMILY: Final = Family(
    operations=(
        Operation(
            name="memory.remember",
            summary="Keep a fact for everyone in the room.",
            params=Remember,
            result=Remembered,
            plane="agent",
            http=Route("POST /rooms/{room}/memory", "post"),
            effect="write",
            needs_idempotency_key=True,
            errors=(*_WRITING, "text_too_long", "version_conflict", "memory_full"),
            facts=_FACTS,
            example={"text": "blue-green", "key": "deploy-strategy"},
            answers=({"facts": [_FACT], "replayed": False, "idempotency_key": "k_7"},),
            tool=Offer(
                tool="parler_memory",
                verb="remember",
                arguments=(
                    Argument(name="text", is_free=True),
                    Argument(name="if_version", kind="integer"),
                ),
            ),
            command="parler remember",
        ),
        Operation(
            name="memory.recall",
            summary="Find what was remembered, by its words or its key.",
            params=Recall,
            result=Recalled,
            plane="agent",
            http=Route("GET /rooms/{room}/memory", "read"),
            effect="read",
            errors=(*IN_ROOM, "invalid_param"),
            example={"query": "deploy"},
            answers=({"facts": [{**_FACT, "score": 1011.0}]},),
            tool=Offer(
                tool="parler_memory",
                verb="recall",
                arguments=(
                    Argument(name="query", is_free=True),
                    Argument(name="offset", kind="integer"),
                ),
            ),
            command="parler recall",
        ),
        Operation(
            name="memory.forget",
            summary="Take a fact's words away for good.",
            params=Forget,
            result=Forgotten,
            plane="agent",
            http=Route("POST /rooms/{room}/memory/forget", "post"),
            effect="destructive",
            needs_idempotency_key=True,
            errors=(*_WRITING, "no_such_message", "no_such_fact", "not_your_fact"),
            facts=("message_posted",),
            example={"key": "deploy-strategy"},
            answers=({"facts": [{**_FACT, "text": ""}], "replayed": False, "idempotency_key": "k_8"},),
            tool=Offer(tool="parler_memory", verb="forget", arguments=(Argument(name="id", is_number=True),)),
            command="parler forget",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_memory",
            title="Memory",
            does="Remember a fact for everyone in the room, recall facts by their words or key, forget one.",
            arguments=(
                Argument(name="key"),
                Argument(name="room", help="to recall, default: all"),
                Argument(name="private", kind="boolean", help="for yourself alone"),
            ),
            default="recall",
            example={"action": "remember", "key": "deploy", "text": "blue-green"},
            is_core=False,
        ),
    ),
)
