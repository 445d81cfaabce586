"""A session from its opening to its end: the key that leads to it, who knocks, who decides, who leaves."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from parlerd.core.model import MAX_PREAPPROVED, Approver, History, PeerText
from parlerd.operations import samples
from parlerd.operations.entry import (
    AWAY,
    IDEMPOTENT,
    IN_ROOM,
    WAIT_ARGUMENT,
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
    Wait,
)
from parlerd.operations.shared import (
    DECIDING,
    MAX_TTL_MS,
    MIN_TTL_MS,
    REQUESTS_OF_ROOM,
    Decided,
    Message,
    RequestList,
    SessionRequests,
)

APPROVE: Final = "parler_approve"
"""The tool that only asks the person. It stands for `session.approve`, which belongs to the person plane: an agent
never calls that operation, and this tool carries out what a person typed into a form."""


class AskApproval(Params, frozen=True, kw_only=True):
    """Whom to ask the person about; an empty `agent` is whoever knocks, if it is only one."""

    agent: str = ""
    room: str | None = None


class OpenSession(Params, frozen=True, kw_only=True):
    """`home` is where the session opens, by name: `local` for this machine. Empty means what the person chose for new
    sessions. `name` is what it is called, and no other name; without one it is called like its topic.

    A session that opens on a relay is sealed: the relay carries its words and cannot read them. With `clear` the relay
    can read them, which only the person says. Neither ever changes. A session of this machine is read here alone, and
    is never sealed."""

    context: str = ""
    topic: str = ""
    name: Short | None = None
    approval: bool | None = None
    approver: Approver = "person"
    preapprove: Annotated[tuple[Short, ...], Meta(max_length=MAX_PREAPPROVED)] = ()
    ttl_ms: Annotated[int, Meta(ge=MIN_TTL_MS, le=MAX_TTL_MS)] | None = None
    max_uses: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    history: History = "full"
    home: Short = ""
    clear: bool = False
    idempotency_key: IdempotencyKey | None = None


class OpenedSession(Result, frozen=True, kw_only=True):
    """`line` is what a person says to an agent in any connected host. `join_command` is for a shell, and `mcp_command`
    for a machine on which no agent host is connected. A retry is given the same key again; all four are null for a key
    of an earlier version, of which nothing was kept. `connect_command` adds the relay that the session lives on, on a
    machine that does not know it; null for a session of this machine. A room that is opened at a relay with a token has
    no key yet: `expires` is 0. `sealed` says whether its relay cannot read it. `you` is the handle of whoever opened
    it."""

    room: str
    name: str
    session_key: str | None = msgspec.field(name="key")
    line: str | None = None
    join_command: str | None
    mcp_command: str | None
    connect_command: str | None = None
    expires: int
    approval: bool
    replayed: bool = False
    idempotency_key: str = ""
    warning: str | msgspec.UnsetType = msgspec.UNSET
    you: str = ""
    sealed: bool = False


class JoinSession(Params, frozen=True, kw_only=True):
    """`role` is what the agent is to be in the room, as it says: whoever hands over the turn, or asks for work, may
    name a role. Where none is given, an agent that was never in the room has the role of its card. An agent that is in
    keeps the role that it has, and so does one whose role the owner locked (`room.role`)."""

    session_key: Annotated[str, Meta(min_length=1, max_length=256)]
    role: str = ""
    wait_ms: Wait = 0
    limit: int = 100
    """With 0 nothing is shown, and the context comes with the first read."""


class JoinedSession(Result, frozen=True, kw_only=True):
    """`status` is joined, already_member (the context is shown again), pending or denied. While pending, `join_code` is
    what the person is asked to type; null to a command that an agent host started. `cursor` is what to acknowledge with
    `message.commit`; empty when nothing is to be.
    `you` is the joiner's handle; `unread` counts what is new after the messages shown. `remembers` are the newest keys
    of the room's memory whose facts the joiner may see, and `more_keys` counts the others."""

    room: str
    status: str
    messages: list[Message]
    truncated: bool
    name: str | None = None
    join_code: str | None = msgspec.field(name="code", default=None)
    cursor: str = ""
    first_unshown: int = 0
    last_unshown: int = 0
    hint: str = ""
    you: str = ""
    unread: int = 0
    remembers: list[str] = []
    more_keys: int = 0


class DecideJoin(Params, frozen=True, kw_only=True):
    agent: Annotated[str, Meta(min_length=1, max_length=128)]
    room: Short | None = None
    join_code: Short | None = None
    terminal: bool = False


class CloseSession(Params, frozen=True, kw_only=True):
    room: Short | None = None


class ClosedSession(Result, frozen=True, kw_only=True):
    room: str
    name: str
    status: str
    receipt: ReceiptRef | msgspec.UnsetType = msgspec.UNSET


class ListSessions(Params, frozen=True, kw_only=True):
    pass


class SessionKey(Result, frozen=True, kw_only=True):
    """`session_key` is what one knocks with, for the person's own shell alone; `begins` its first four characters, for
    the owner too. Both are empty for a key of an earlier version. `session.revoke` takes either of them, and `key_ref`,
    which opens nothing."""

    key_ref: str = msgspec.field(name="id")
    session_key: str = msgspec.field(name="key", default="")
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


class RevokeSessionKey(Params, frozen=True, kw_only=True):
    """`session_key` is the whole key, its first four characters, or its `key_ref`."""

    session_key: Annotated[str, Meta(min_length=1, max_length=256)]


class RevokedKey(Result, frozen=True, kw_only=True):
    """`key_ref` is the key's, and opens nothing."""

    room: str
    key_ref: str = msgspec.field(name="id")
    status: str
    name: str = ""
    begins: str = ""


class WithdrawKnock(Params, frozen=True, kw_only=True):
    """`session_key` is the key with which the agent knocked; without one, its only request is meant."""

    session_key: Annotated[str, Meta(max_length=256)] = ""


class WithdrawnKnock(Result, frozen=True, kw_only=True):
    """`begins` is how the key begins."""

    room: str
    status: Literal["withdrawn"] = "withdrawn"
    begins: str = ""


FAMILY: Final = Family(
    operations=(
        Operation(
            name="session.open",
            summary="Open a session seeded with a recap, and get the key that lets others knock.",
            params=OpenSession,
            result=OpenedSession,
            plane="agent",
            http=Route("POST /rooms", "open"),
            effect="write",
            needs_idempotency_key=True,
            errors=(
                "person_only",
                "needs_person",
                "text_too_long",
                "invalid_param",
                "throttled",
                "too_many_bytes",
                "too_many_rooms",
                "room_exists",
                "token_used_up",
                *AWAY,
                *IDEMPOTENT,
            ),
            facts=("room_named", "session_activated", "room_opened", "member_joined", "key_minted", "message_posted"),
            example={"topic": "auth-redesign", "context": "Chose PKCE and refresh tokens. Left: rotation."},
            answers=(
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "key": samples.KEY,
                    "line": f"Join the Parler session {samples.KEY}.",
                    "join_command": f"parler session join {samples.KEY}",
                    "mcp_command": f"claude mcp add parler -e PARLER_SESSION_KEY={samples.KEY} -- parler mcp",
                    "expires": samples.AT + 86_400_000,
                    "approval": True,
                    "you": samples.ANN,
                },
            ),
            tool=Offer(tool="parler_open_session"),
            command="parler session open",
        ),
        Operation(
            name="session.join",
            summary="Knock with a key; once a person admits you, you get the context.",
            params=JoinSession,
            result=JoinedSession,
            plane="agent",
            http=Route("POST /me/joins", "join"),
            effect="write",
            waits=True,
            errors=(
                "room_closed",
                "unknown_key",
                "wrong_room",
                "needs_person",
                *AWAY,
                "too_many_pending",
                "knock_over",
                "throttled",
                "no_such_room",
                "room_deleted",
            ),
            facts=("join_requested", "member_joined", "session_activated"),
            example={"session_key": "A3KE7DJR", "wait_ms": 30000},
            answers=(
                {"room": samples.ROOM, "status": "pending", "messages": [], "truncated": False, "code": "K7QM"},
                {
                    "room": samples.ROOM,
                    "name": samples.NAME,
                    "status": "joined",
                    "messages": [samples.message(1, samples.ANN, samples.RECAP, opening=True)],
                    "truncated": False,
                    "you": samples.BOB,
                },
            ),
            tool=Offer(tool="parler_join_session"),
            command="parler session join",
        ),
        Operation(
            name="session.withdraw",
            summary="Take your request to come in back.",
            params=WithdrawKnock,
            result=WithdrawnKnock,
            plane="agent",
            http=Route("POST /me/joins/withdraw", "join"),
            effect="write",
            errors=(*AWAY, "no_such_request", "ambiguous_name", "already_decided"),
            facts=("knock_ended",),
            example={"session_key": "A3KE7DJR"},
            answers=({"room": samples.ROOM, "status": "withdrawn", "begins": "A3KE"},),
            command="parler session withdraw",
        ),
        Operation(
            name="session.requests",
            summary="Show who wants to join.",
            params=SessionRequests,
            result=RequestList,
            plane="agent",
            http=Route("GET /rooms/{room}/requests", "read"),
            effect="read",
            errors=REQUESTS_OF_ROOM,
            example={"room": "auth-redesign"},
            command="parler session requests",
        ),
        Operation(
            name="session.approve",
            summary="Admit an agent that knocks; only a person decides this.",
            params=DecideJoin,
            result=Decided,
            plane="person",
            effect="write",
            errors=(*DECIDING, "invalid_param", "needs_proof", "code_mismatch", "throttled"),
            facts=("session_activated", "join_approved", "member_joined", "direct_decided"),
            example={"agent": "codex@repo", "room": "auth-redesign"},
            answers=(
                {
                    "room": samples.ROOM,
                    "room_name": samples.NAME,
                    "agent": "U",
                    "name": samples.BOB,
                    "status": "approved",
                    "proof": "form",
                },
            ),
            command="parler session approve",
        ),
        Operation(
            name="session.deny",
            summary="Refuse an agent that knocks; only a person decides this, and may approve that agent later.",
            params=DecideJoin,
            result=Decided,
            plane="person",
            effect="write",
            errors=(*DECIDING, "invalid_param", "needs_proof"),
            facts=("join_denied", "direct_decided"),
            example={"agent": "codex@repo", "room": "auth-redesign"},
            command="parler session deny",
        ),
        Operation(
            name="session.close",
            summary="End a session as its owner, or leave it as a member.",
            params=CloseSession,
            result=ClosedSession,
            plane="agent",
            http=Route("DELETE /rooms/{room}", "open"),
            effect="destructive",
            errors=(*IN_ROOM, *AWAY, "room_closed", "needs_person"),
            facts=("room_closed", "member_left", "session_activated"),
            example={"room": "auth-redesign"},
            answers=({"room": samples.ROOM, "name": samples.NAME, "status": "left"},),
            tool=Offer(tool="parler_leave"),
            command="parler session close",
        ),
        Operation(
            name="session.list",
            summary="List your sessions and the state of their keys.",
            params=ListSessions,
            result=SessionList,
            plane="agent",
            http=Route("GET /sessions", "read"),
            effect="read",
            command="parler session list",
        ),
        Operation(
            name="session.revoke",
            summary="Make a key useless.",
            params=RevokeSessionKey,
            result=RevokedKey,
            plane="agent",
            http=Route("POST /keys/revoke", "open"),
            effect="destructive",
            errors=("unknown_key", "wrong_room", "ambiguous_name", *AWAY, "not_owner", "throttled"),
            facts=("key_revoked",),
            example={"session_key": "A3KE7DJR"},
            command="parler session revoke",
        ),
    ),
    tools=(
        ToolEntry(
            name="parler_open_session",
            title="Open a session",
            usage="Give the person the line to hand over.",
            arguments=(
                Argument(name="context", help="the recap others start from", is_free=True),
                Argument(name="topic", help="short name"),
            ),
            example={"topic": "auth-redesign", "context": "Chose PKCE."},
        ),
        ToolEntry(
            name="parler_join_session",
            title="Join a session",
            usage="Until then you have a code for your user.",
            arguments=(Argument(name="key", field="session_key", required=True), Argument(name="role"), WAIT_ARGUMENT),
            example={"key": "A3KE7DJR"},
        ),
        ToolEntry(
            name="parler_leave",
            title="Leave or end",
            arguments=(Argument(name="room"),),
            example={"room": "auth-redesign"},
            is_core=False,
            reaches_others=False,
        ),
        ToolEntry(
            name=APPROVE,
            title="Ask to admit",
            stands_for="session.approve",
            params=AskApproval,
            usage="It asks the person, or says what they run.",
            arguments=(
                Argument(name="agent", help="who knocks; default: the only one"),
                Argument(name="room"),
            ),
            example={"agent": "codex@repo"},
            errors=("no_form", "form_undecided", "busy"),
            is_core=False,
            reaches_others=False,
        ),
    ),
)
