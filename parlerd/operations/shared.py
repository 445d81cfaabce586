"""The shapes that results of several families hold: a message, its author, a hand-off, a request to come
in and what was decided on it.

Times are epoch milliseconds; fields whose name ends in `_ms` are spans. Text that another party chose is `PeerText`; a
surface must fence or escape it. Above: the families. Below: `entry`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.expressions import MAX_SOURCE
from parlerd.core.model import (
    LABEL,
    MAX_LABEL,
    MAX_LEASE_MS,
    MAX_STATUS_TEXT,
    MIN_LEASE_MS,
    PeerText,
    SecretKind,
    Sighted,
    Stage,
    Verified,
)
from parlerd.operations.entry import AWAY, IDEMPOTENT, IN_ROOM, Params, ReceiptRef, Result, Short

HandoffStatus = Literal["offered", "accepted", "declined", "withdrawn", "expired"]
"""How the offer of a turn stands."""


Lease = Annotated[int, Meta(ge=MIN_LEASE_MS, le=MAX_LEASE_MS)]
"""How long a claim holds, in milliseconds."""
MIN_TTL_MS: Final = 60_000
"""A key that lives shorter than a minute is gone before it was passed on."""
MAX_TTL_MS: Final = 30 * 86_400_000
"""A key that anybody may still hold is not left open for longer than a month."""


class Noted(Result, frozen=True, kw_only=True):
    """It is done, and there is nothing to say of it."""


class Author(Result, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    host: str


class QuotedMessage(Result, frozen=True, kw_only=True):
    """A message as whoever offers the turn quotes it: nobody else says that these are its words."""

    id: str
    author: PeerText
    at: int
    kind: str
    text: PeerText


class HandoffTranscript(Result, frozen=True, kw_only=True):
    """`count` messages of the room that belong to an offer of the turn, from `first` to `last`. `first_seq` and
    `last_seq` are the reader's own numbers of these two, 0 for one that it cannot see. `quoted` has their words where
    the giver put them in, and `left_out` counts older ones that did not fit."""

    first: str
    last: str
    count: int
    first_seq: int = 0
    last_seq: int = 0
    left_out: int = 0
    quoted: list[QuotedMessage] | msgspec.UnsetType = msgspec.UNSET


class Handoff(Result, frozen=True, kw_only=True):
    """The turn, offered. `for_` is a handle, an id or a role; empty means anyone. `status` is what became of the offer
    by now, `to_you` whether this reader is meant, and `taken_by` the handle of the one who has the turn. Lists are left
    out where they are empty, and `status` where the room knows nothing of the offer."""

    next: PeerText
    summary: PeerText
    for_: str = msgspec.field(name="for", default="")
    to_you: bool = False
    goal: PeerText | msgspec.UnsetType = msgspec.UNSET
    state: PeerText | msgspec.UnsetType = msgspec.UNSET
    decisions: list[PeerText] | msgspec.UnsetType = msgspec.UNSET
    failed: list[PeerText] | msgspec.UnsetType = msgspec.UNSET
    questions: list[PeerText] | msgspec.UnsetType = msgspec.UNSET
    files: list[PeerText] | msgspec.UnsetType = msgspec.UNSET
    refs: list[PeerText] | msgspec.UnsetType = msgspec.UNSET
    transcript: HandoffTranscript | msgspec.UnsetType = msgspec.UNSET
    status: HandoffStatus | msgspec.UnsetType = msgspec.UNSET
    taken_by: str | msgspec.UnsetType = msgspec.UNSET


class HandoffAnswer(Result, frozen=True, kw_only=True):
    """What became of the offer that a message replies to."""

    answer: Literal["accepted", "declined", "withdrawn"]
    reason: PeerText


class HandoffEntry(Result, frozen=True, kw_only=True):
    """One offer. `seq` is the reader's own number of its message, 0 where it has none; `holder` is who has the turn, by
    name: the giver until somebody took it. `declined` are those who declined an offer that others may still take."""

    id: str
    seq: int
    giver: str
    for_: str | None = msgspec.field(name="for")
    status: HandoffStatus
    holder: str
    at: int
    expires: int
    ended: int | msgspec.UnsetType = msgspec.UNSET
    to_you: bool = False
    yours: bool = False
    declined: list[str] | msgspec.UnsetType = msgspec.UNSET


TaskStatus = Literal["open", "claimed", "accepted", "working", "awaiting", "done", "failed", "cancelled"]
"""How a task stands."""


class TaskEntry(Result, frozen=True, kw_only=True):
    """How a task stands. `holder` and `lease_until` are null for a task that nobody holds. `open_until` is until when
    it may be claimed, where its author set a time; a task that is over has it when nobody had the task then."""

    state: TaskStatus
    holder: str | None
    lease_until: int | None
    ended_by: str | msgspec.UnsetType = msgspec.UNSET
    open_until: int | msgspec.UnsetType = msgspec.UNSET


class MemoryMark(Result, frozen=True, kw_only=True):
    """The message is a fact that the room remembers, or it forgets one."""

    key: str
    version: int
    forgets: bool = False


class BlobInfo(Result, frozen=True, kw_only=True):
    """The file or the code that a message brings. `name` is what its author calls it. What has a `tip` is a bundle of
    commits, for `parler apply`; `base` is the commit that it stands on, where it does not hold all, and `left_out`
    counts files that its author had and that are not in it."""

    blob: str
    size: int
    name: PeerText
    tip: str | msgspec.UnsetType = msgspec.UNSET
    base: str | msgspec.UnsetType = msgspec.UNSET
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class BlobAt(Result, frozen=True, kw_only=True):
    """So many bytes of a file are where they go, from the first on."""

    room: str
    offset: int


class BlobPiece(Result, frozen=True, kw_only=True):
    """Bytes of a file; fewer than were asked for at its end."""

    data: bytes


class SharedBlob(Result, frozen=True, kw_only=True):
    """The message that brings the file. `sha256` is the same as `blob`; `queued` as a message is."""

    blob: str
    size: int
    sha256: str
    room: str
    name: str
    id: str
    seq: int | None
    at: int | None
    replayed: bool
    idempotency_key: str = msgspec.field(name="key")
    queued: bool = False
    warning: str | msgspec.UnsetType = msgspec.UNSET
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class SecretFound(Result, frozen=True, kw_only=True):
    """In this file, or commit, stands something of this kind that is recognised as a secret."""

    path: PeerText
    kind: SecretKind


class SharedFile(SharedBlob, frozen=True, kw_only=True):
    """`secrets` are places in what was shared at which something is recognised as a secret; `more_secrets` counts those
    beyond the list, and without `secrets_complete` not everything was looked through."""

    secrets: list[SecretFound]
    more_secrets: int = 0
    secrets_complete: bool = True


class Message(Result, frozen=True, kw_only=True):
    """A message as its reader sees it. `reply_seq` is this reader's number of the message that `reply_to` names, where
    the reader may see that one. `erased` says that the words went by retention, because there were too many, and `lost`
    that the room's relay has the message no more. `again` says that the reader was given the message before, and that
    its agent host cut it or did not show it."""

    id: str
    seq: int
    at: int
    author: Author
    verified: Verified
    via: str
    kind: str
    text: PeerText
    to: list[str] | msgspec.UnsetType = msgspec.UNSET
    reply_to: str | msgspec.UnsetType = msgspec.UNSET
    reply_seq: int | msgspec.UnsetType = msgspec.UNSET
    data: Any = msgspec.UNSET
    handoff: Handoff | msgspec.UnsetType = msgspec.UNSET
    memory: MemoryMark | msgspec.UnsetType = msgspec.UNSET
    handoff_answer: HandoffAnswer | msgspec.UnsetType = msgspec.UNSET
    brings: BlobInfo | msgspec.UnsetType = msgspec.UNSET
    private: bool | msgspec.UnsetType = msgspec.UNSET
    opening: bool | msgspec.UnsetType = msgspec.UNSET
    erased: bool | msgspec.UnsetType = msgspec.UNSET
    lost: bool | msgspec.UnsetType = msgspec.UNSET
    again: Literal["cut", "not_shown"] | msgspec.UnsetType = msgspec.UNSET


class SightSaid(Result, frozen=True, kw_only=True):
    """What the record of the reader's agent host says of a message: `verdict`, for this `reason`, since `at`. `again`
    is how often the message was shown once more because the host had cut it or not shown it. `evidence` names
    the host with its version and the kinds of entries that decided. With `elsewhere` all of this is the word of the
    reader's own machine, which is not this one."""

    verdict: Sighted
    reason: str
    host: str
    at: int
    again: int = 0
    evidence: str = ""
    elsewhere: bool = False


class StageReached(Result, frozen=True, kw_only=True):
    stage: Stage
    at: int


class RequestInfo(Result, frozen=True, kw_only=True):
    """Someone knocks. `name`, `host` and `role` are what it says it is; `key_ref` tells apart the keys of one room,
    without being one. `topic` is what the room is about, in its opener's words: the room's name is ASCII.

    With `direct_to`, nobody knocks: the agent wrote to that agent of yours, which wants you to be asked first, and its
    message waits in the room of the two."""

    id: str
    room: str
    room_name: str
    agent: str
    name: str
    host: str
    requested: int
    fingerprint: str
    home: str
    key_ref: str = msgspec.field(name="key", default="")
    topic: PeerText = PeerText("")
    role: str = ""
    direct_to: str = ""


class StatedStatus(Result, frozen=True, kw_only=True):
    """What an agent says that it is doing, since `at`: one word, and perhaps a text in its own words."""

    status: Annotated[str, Meta(pattern=f"^{LABEL}")]
    text: Annotated[PeerText, Meta(max_length=MAX_STATUS_TEXT)] = PeerText("")
    at: Annotated[int, Meta(ge=0)]


class SessionRequests(Params, frozen=True, kw_only=True):
    room: Short | None = None


class RequestList(Result, frozen=True, kw_only=True):
    """`notice` says which homes were not heard from, so that newer requests there may be missing."""

    room: str | None
    requests: list[RequestInfo]
    notice: str = ""


class Decided(Result, frozen=True, kw_only=True):
    """`name` is what the agent is called there: its handle once it is in, else what it says it is. With `direct_to` the
    decision is whether it may write to that agent of yours."""

    room: str
    agent: str
    status: str
    proof: str
    name: str = ""
    room_name: str = ""
    direct_to: str = ""


REQUESTS_OF_ROOM: Final = ("no_such_room", "room_deleted", "ambiguous_name", "not_owner")
"""Why nobody who knocks can be named: which room is meant is not clear, or another agent owns it."""
DECIDING: Final = (*REQUESTS_OF_ROOM, *AWAY, "room_closed", "no_such_request", "already_decided", "knock_unfinished")
"""Why nothing can be decided on a request."""


# -- the state of a room ---------------------------------------------------------------------------------

Key = Annotated[str, Meta(min_length=1, max_length=MAX_LABEL)]
"""The name of a key of the state, or of an action."""
GATING: Final = ("too_many_gated", "state_full", "expression_invalid", "scope_denied", "invalid_timer")
"""Why a message is refused that is to wait for a condition or a timer."""
Source = Annotated[str, Meta(max_length=2 * MAX_SOURCE)]
"""The text of an expression. One that is too long for an expression is refused as an expression."""


Whole = Annotated[int, Meta(ge=-(2**53), le=2**53)]
"""A number that every reader of JSON takes whole."""


class TimerAsked(Params, frozen=True, kw_only=True):
    """A timer: exactly one of `ms`, a span, `at`, a moment (ISO 8601, or epoch milliseconds), and `ticks` with
    `tick_on`, the path of a key (`state._shared.turn`) whose writes are counted. With the effect `delete` the thing is
    there until the timer runs out, and with `enable` from then on."""

    effect: Literal["delete", "enable"] = "delete"
    ms: Whole | None = None
    at: Whole | Annotated[str, Meta(max_length=64)] | None = None
    ticks: Whole | None = None
    tick_on: Short | None = None


class TimerShown(Result, frozen=True, kw_only=True):
    """A timer that runs: `at` is when it runs out, or `ticks_left` how many writes of `tick_on` it waits for. `ms` is
    for how long it was set."""

    effect: str
    at: int | msgspec.UnsetType = msgspec.UNSET
    ms: int | msgspec.UnsetType = msgspec.UNSET
    ticks_left: int | msgspec.UnsetType = msgspec.UNSET
    tick_on: str | msgspec.UnsetType = msgspec.UNSET


class StateEntry(Result, frozen=True, kw_only=True):
    """What stands under a key. `value` is null, and `deleted` true, for a key that was just deleted. Of a view the
    value is what its expression (`expr`) is worth to whoever asks, or null, and then `error` says why. `dormant` is
    that the entry is not there for whoever asks, who wrote it just now, or looks at the board of the room."""

    scope: str
    key: str
    value: Any
    version: int
    updated_by: str
    updated_at: int
    deleted: bool | msgspec.UnsetType = msgspec.UNSET
    expr: str | msgspec.UnsetType = msgspec.UNSET
    enabled: str | msgspec.UnsetType = msgspec.UNSET
    timer: TimerShown | msgspec.UnsetType = msgspec.UNSET
    error: str | msgspec.UnsetType = msgspec.UNSET
    dormant: bool | msgspec.UnsetType = msgspec.UNSET


class Availability(Result, frozen=True, kw_only=True):
    """`reason` is the code with which an invocation of an action would be refused now, or `needs_params` where that
    depends on parameters that have no default."""

    available: bool
    reason: str | msgspec.UnsetType = msgspec.UNSET


STATE_READING: Final = (*IN_ROOM, "invalid_param", "no_such_agent", "not_a_worker", "expression_budget", *AWAY)
EXPRESSIONS: Final = ("expression_invalid", "expression_failed")
STATE_WRITING: Final = (
    *STATE_READING,
    "room_closed",
    "scope_denied",
    "agent_disabled",
    "version_conflict",
    "wrong_type",
    "secret_refused",
    "value_too_large",
    "state_full",
    "precondition_failed",
    "invalid_timer",
    "throttled",
    "too_many_bytes",
    *EXPRESSIONS,
    *IDEMPOTENT,
)
"""The codes of everything that is written to the state."""
STATE_WRITES: Final = ("state_written", "timers_ticked", "timer_fired")


class TransferEntry(Result, frozen=True, kw_only=True):
    """The room got another owner: the statement that was signed (`core.statements`). Where a sealed room was taken
    over, `record` is the epoch record that names whoever did, which the owner before signed."""

    statement: bytes
    signature: bytes
    record: bytes = b""
    record_signature: bytes = b""
