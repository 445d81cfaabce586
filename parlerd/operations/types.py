"""Parameter and result shapes of every operation.

The results are the CLI's JSON, and what the texts of the MCP tools are written from. Times are epoch milliseconds;
fields whose name ends in `_ms` are spans. Peer-chosen text sits in fields typed `PeerText`; a surface must fence or
escape it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from parlerd.core.model import Approver, History, PeerText, Stage, Verified

MAX_PAGE = 500
"""Messages in one page at most; a larger limit means this. Source: CLI spec."""
MIN_TTL_MS = 60_000
"""A key that lives shorter than a minute is gone before it was passed on."""
MAX_TTL_MS = 30 * 86_400_000
"""A key that anybody may still hold is not left open for longer than a month."""
MAX_WAIT_MS = 3_600_000
"""A wait is at most an hour; callers that want more ask again."""

Key = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._:-]+\Z")]
Wait = Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)]
MAX_PARAMS = 640 * 1024
"""Bytes of all parameters of one call: what the largest of them has, a message with the longest text and as much data,
addressed to as many agents by id as it may name. More is refused before it is taken apart: the loop waits meanwhile."""
MAX_LIST = 1024
"""Agents that one request may name."""
Short = Annotated[str, Meta(max_length=256)]
"""A name, an id, a code or a position. None is longer, and errors may repeat it."""
Agents = Annotated[tuple[Short, ...], Meta(max_length=MAX_LIST)]


class Params(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of parameters. An unknown field is an error: it is a typo or a newer client."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """Base of results. Every field is always present in the JSON, unless it is `msgspec.UNSET`."""


# -- shared parts ------------------------------------------------------------------------------------------


class Author(Result, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    host: str


class Handoff(Result, frozen=True, kw_only=True):
    """The turn, given. `for_` is a handle, an id or a role; empty means anyone."""

    next: PeerText
    summary: PeerText
    for_: str = msgspec.field(name="for", default="")
    to_you: bool = False


class Message(Result, frozen=True, kw_only=True):
    """A message as its reader sees it. `reply_seq` is this reader's number of the message that `reply_to` names, where
    the reader may see that one."""

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
    private: bool | msgspec.UnsetType = msgspec.UNSET
    opening: bool | msgspec.UnsetType = msgspec.UNSET


class Request(Result, frozen=True, kw_only=True):
    """Someone knocks. `name` and `host` are what it says it is; `key` tells apart the keys of one room, without being
    one. `topic` is what the room is about, in its opener's words: the room's name is ASCII."""

    id: str
    room: str
    room_name: str
    agent: str
    name: str
    host: str
    requested: int
    fingerprint: str
    home: str
    key: str = ""
    topic: PeerText = PeerText("")


# -- sessions ----------------------------------------------------------------------------------------------


class OpenSession(Params, frozen=True, kw_only=True):
    context: str = ""
    topic: str = ""
    approval: bool | None = None
    approver: Approver = "person"
    preapprove: Agents = ()
    ttl_ms: Annotated[int, Meta(ge=MIN_TTL_MS, le=MAX_TTL_MS)] | None = None
    max_uses: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    history: History = "full"
    key: Key | None = None


class OpenedSession(Result, frozen=True, kw_only=True):
    """`line` is what a person says to an agent in any connected host. `join_command` is for a shell, and `mcp_command`
    for a machine on which no agent host is connected. A retry is given the same key again; all four are null for a key
    of an earlier version, of which nothing was kept. `you` is the handle of whoever opened it."""

    room: str
    name: str
    key: str | None
    line: str | None = None
    join_command: str | None
    mcp_command: str | None
    expires: int
    approval: bool
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    you: str = ""


class JoinSession(Params, frozen=True, kw_only=True):
    key: Annotated[str, Meta(min_length=1, max_length=256)]
    wait_ms: Wait = 0
    limit: int = 100
    """With 0 nothing is shown, and the context comes with the first read."""


class JoinedSession(Result, frozen=True, kw_only=True):
    """`status` is joined, already_member (the context is shown again), pending or denied. While pending, `code` is what
    the person is asked to type; null to a command that an agent host started. `cursor` is what to acknowledge with
    `message.commit`; empty when nothing is to be.
    `you` is the joiner's handle; `unread` counts what is new after the messages shown."""

    room: str
    status: str
    messages: list[Message]
    truncated: bool
    name: str | None = None
    code: str | None = None
    cursor: str = ""
    first_unshown: int = 0
    last_unshown: int = 0
    hint: str = ""
    you: str = ""
    unread: int = 0


class SessionRequests(Params, frozen=True, kw_only=True):
    room: Short | None = None


class RequestList(Result, frozen=True, kw_only=True):
    room: str | None
    requests: list[Request]


class DecideJoin(Params, frozen=True, kw_only=True):
    agent: Annotated[str, Meta(min_length=1, max_length=128)]
    room: Short | None = None
    code: Short | None = None
    terminal: bool = False


class Decided(Result, frozen=True, kw_only=True):
    """`name` is what the agent is called there: its handle once it is in, else what it says it is."""

    room: str
    agent: str
    status: str
    proof: str
    name: str = ""
    room_name: str = ""


class CloseSession(Params, frozen=True, kw_only=True):
    room: Short | None = None


class ClosedSession(Result, frozen=True, kw_only=True):
    room: str
    name: str
    status: str


class ListSessions(Params, frozen=True, kw_only=True):
    pass


class SessionKey(Result, frozen=True, kw_only=True):
    """`key` is what one knocks with, for the person's own shell alone; `begins` its first four characters, for the
    owner too. Both are empty for a key of an earlier version. `session.revoke` takes `key`, `begins` and `id`, which
    opens nothing."""

    id: str
    key: str = ""
    begins: str = ""
    approval: bool
    expires: int
    uses: int
    max_uses: int
    state: str


class SessionInfo(Result, frozen=True, kw_only=True):
    """`agents` are the caller's that are in it, by name. `keys` are shown to the owner, and to its person."""

    room: str
    name: str
    topic: PeerText
    owner: str
    owner_name: str = ""
    agents: list[str] = []
    state: str
    active: bool
    keys: list[SessionKey]


class SessionList(Result, frozen=True, kw_only=True):
    sessions: list[SessionInfo]


class RevokeKey(Params, frozen=True, kw_only=True):
    key: Annotated[str, Meta(min_length=1, max_length=256)]


class RevokedKey(Result, frozen=True, kw_only=True):
    """`id` is the key's, and opens nothing."""

    room: str
    id: str
    status: str
    name: str = ""
    begins: str = ""


# -- messages ----------------------------------------------------------------------------------------------


class Send(Params, frozen=True, kw_only=True):
    """`reply_to` is a message's id, or the caller's own number of it."""

    text: str
    room: Short | None = None
    to: Agents = ()
    kind: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._/-]+\Z")] = "text"
    reply_to: Short | None = None
    visible_to: Agents = ()
    data: Any = None
    key: Key | None = None


class Sent(Result, frozen=True, kw_only=True):
    """`readers` are those others who alone may ever see it, by handle; null when all may."""

    room: str
    id: str
    seq: int
    at: int
    replayed: bool
    key: str
    readers: list[str] | None = None
    name: str = ""


class Recv(Params, frozen=True, kw_only=True):
    """`since` and `all` look back without moving anything; `peek` is a read that is not to be acknowledged."""

    room: Short | None = None
    all_rooms: bool = False
    limit: Annotated[int, Meta(ge=1)] = 50
    wait_ms: Wait = 0
    since: Annotated[int, Meta(ge=0)] | None = None
    all: bool = False
    peek: bool = False
    take: bool = False
    mentions: bool = False
    kind: Short | None = None
    max_bytes: Annotated[int, Meta(ge=1024, le=8 * 1024 * 1024)] = 1024 * 1024


class Received(Result, frozen=True, kw_only=True):
    """`cursor` is what to acknowledge with `message.commit`; `unread` counts what is new after this page, `following`
    every message after it, the reader's own included. A page that is not whole (`truncated`) begins with the recap and
    goes on with the newest; `first_unshown` to `last_unshown` stand between and can be looked back at. `you` is the
    reader's handle."""

    room: str
    name: str
    messages: list[Message]
    cursor: str
    more: bool
    unread: int
    acknowledges: bool = True
    notice: str = ""
    you: str = ""
    following: int = 0
    truncated: bool = False
    first_unshown: int = 0
    last_unshown: int = 0


class ReceivedAll(Result, frozen=True, kw_only=True):
    rooms: list[Received]


class Commit(Params, frozen=True, kw_only=True):
    room: Short
    cursor: Short


class Committed(Result, frozen=True, kw_only=True):
    room: str
    cursor: str


class GiveHandoff(Params, frozen=True, kw_only=True):
    next: Annotated[str, Meta(min_length=1)]
    summary: str = ""
    for_: Short = msgspec.field(name="for", default="")
    room: Short | None = None
    key: Key | None = None


class GivenHandoff(Result, frozen=True, kw_only=True):
    """`seq` is the giver's own number of it; `others` are how many beside the giver are in the room now."""

    id: str
    room: str
    name: str = ""
    for_: str | None = msgspec.field(name="for")
    replayed: bool = False
    key: str = ""
    seq: int = 0
    others: int = 0


class Why(Params, frozen=True, kw_only=True):
    """`id` is a message's id, or the caller's own number of it in `room`."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    room: Short | None = None


class StageReached(Result, frozen=True, kw_only=True):
    stage: Stage
    at: int


class ReaderLadder(Result, frozen=True, kw_only=True):
    agent: str
    name: str
    stages: list[StageReached]
    stopped: str | msgspec.UnsetType = msgspec.UNSET
    stopped_since: int = 0


class WhyResult(Result, frozen=True, kw_only=True):
    id: str
    room: str
    readers: list[ReaderLadder]


# -- looking around ----------------------------------------------------------------------------------------


class Knocking(Result, frozen=True, kw_only=True):
    """A session that the agent asked to come into and where it waits for a person, who types `code`; null where that
    is not shown: to a command that an agent host started. `begins` are the first characters of the key that it used."""

    room: str
    code: str | None
    begins: str = ""


class ListRooms(Params, frozen=True, kw_only=True):
    pass


class RoomInfo(Result, frozen=True, kw_only=True):
    """`agents` are the caller's that are in it, by name: a person has several. `unread` and `last_at` are of the first
    of them, which is the acting agent wherever that is in; `active` says that it is the acting agent's session."""

    room: str
    name: str
    topic: PeerText
    kind: str
    home: str
    owner: str
    owner_name: str = ""
    agents: list[str] = []
    members: int
    unread: int
    last_at: int
    active: bool
    state: str
    pending: int = 0


class RoomList(Result, frozen=True, kw_only=True):
    """`you` is the name of the agent that asks; `waits` are the sessions whose door it waits at."""

    rooms: list[RoomInfo]
    you: str = ""
    waits: list[Knocking] = []


class Roster(Params, frozen=True, kw_only=True):
    room: Short | None = None


class RosterMember(Result, frozen=True, kw_only=True):
    id: str
    name: str
    role: str
    host: str
    owner: bool
    state: str
    presence: str
    since: int


class RosterResult(Result, frozen=True, kw_only=True):
    room: str
    name: str
    members: list[RosterMember]
    you: str = ""


class WhoAmI(Params, frozen=True, kw_only=True):
    pass


class Me(Result, frozen=True, kw_only=True):
    id: str
    name: str
    host: str
    home: str
    principal: str
    workspace: str = ""
    active: str | None = None


class ListApprovals(Params, frozen=True, kw_only=True):
    pass


class WatchApprovals(Params, frozen=True, kw_only=True):
    """A stream: one `RequestList` now, and one at every change."""


class WatchRoom(Params, frozen=True, kw_only=True):
    """A stream for a person: one `WatchItem` for each message their agents may see, from the newest `tail` on, and for
    what happens to the room meanwhile."""

    room: Short | None = None
    tail: Annotated[int, Meta(ge=0, le=MAX_PAGE)] = 20


class WatchItem(Result, frozen=True, kw_only=True):
    """`number` counts the items of this stream, from 1, and is the `seq` of its message too: each agent numbers a room
    for itself, so the numbers of several would repeat. `event` is message, joined, left, knocked, denied or closed;
    `agent` is who came, went or knocked, by name."""

    room: str
    name: str
    event: str
    number: int = 0
    message: Message | msgspec.UnsetType = msgspec.UNSET
    agent: str | msgspec.UnsetType = msgspec.UNSET
    at: int = 0


# -- hooks -------------------------------------------------------------------------------------------------


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


# -- the daemon --------------------------------------------------------------------------------------------


class DaemonStatus(Params, frozen=True, kw_only=True):
    pass


class DaemonInfo(Result, frozen=True, kw_only=True):
    running: bool
    pid: int
    socket: str
    version: str
    uptime_ms: int
    rooms: int
    connections: int
    windows: int
    store: str
    home: str


class SeenHosts(Params, frozen=True, kw_only=True):
    """`look`: what is connected was changed, so the daemon reads anew which files it keeps an eye on."""

    look: bool = False


class SeenHost(Result, frozen=True, kw_only=True):
    """When a window of this agent host last reached the daemon, since the daemon started, and how many are open."""

    host: str
    at: int
    windows: int


class SeenHostList(Result, frozen=True, kw_only=True):
    hosts: list[SeenHost]


class StopDaemon(Params, frozen=True, kw_only=True):
    """Drain and exit: no new calls, waits answer `draining`, at most 2 s."""

    reason: Short = "stop"


class Stopping(Result, frozen=True, kw_only=True):
    pid: int


class CheckStore(Params, frozen=True, kw_only=True):
    """The daemon's own checks, for `doctor`: no side effects."""


class Check(Result, frozen=True, kw_only=True):
    name: str
    ok: bool
    detail: str
    fix: str


class CheckList(Result, frozen=True, kw_only=True):
    checks: list[Check]
