"""The operations: name, shapes, who may call it, what it needs, what it can answer, what it leaves in the log.

Planes. `agent`: any agent, over any door. `person`: the person alone; absent from MCP, and refused to a caller with an
agent host among its ancestors. `local`: about this daemon; no identity is needed. `hook`: an agent host's hook, which
acts as nobody and learns how much waits for the agent beside it.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from parlerd.operations import types as t

Plane = Literal["agent", "person", "local", "hook"]
Effect = Literal["read", "write", "destructive"]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. `example` is parameters that decode; `facts` are event types; `tool` is (MCP tool, verb)."""

    name: str
    summary: str
    params: type[t.Params]
    result: type[t.Result]
    plane: Plane
    effect: Effect
    needs_key: bool = False
    stream: bool = False
    waits: bool = False
    errors: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    example: dict[str, Any] = {}
    tool: tuple[str, str] | None = None
    command: str = ""


_IN_ROOM = ("no_such_room", "no_active_session", "join_pending", "join_denied", "ambiguous_name")
_STORE = (
    "store_full",
    "store_locked",
    "store_readonly",
    "store_corrupt",
    "store_failed",
    "stale_position",
    "room_busy",
    "newer_log",
)
_IDEMPOTENT = ("idempotency_conflict", "idempotency_expired")

_ENTRIES: Final = (
    Operation(
        name="session.open",
        summary="Open a session seeded with a recap, and get the key that lets others knock.",
        params=t.OpenSession,
        result=t.OpenedSession,
        plane="agent",
        effect="write",
        needs_key=True,
        errors=("text_too_long", "invalid_param", "invalid_name", "throttled", *_IDEMPOTENT, *_STORE),
        facts=("room_named", "session_activated", "room_opened", "member_joined", "key_minted", "message_posted"),
        example={"topic": "auth-redesign", "context": "Chose PKCE and refresh tokens. Left: rotation."},
        tool=("parler_open_session", ""),
        command="parler session open",
    ),
    Operation(
        name="session.join",
        summary="Knock with a key; once a person admits you, come up with the context.",
        params=t.JoinSession,
        result=t.JoinedSession,
        plane="agent",
        effect="write",
        waits=True,
        errors=("unknown_key", "home_not_trusted", "too_many_pending", "throttled", *_STORE),
        facts=("join_requested", "member_joined", "session_activated"),
        example={"key": "A3KE7DJR", "wait_ms": 30000},
        tool=("parler_join_session", ""),
        command="parler session join",
    ),
    Operation(
        name="session.requests",
        summary="Who is knocking.",
        params=t.SessionRequests,
        result=t.RequestList,
        plane="agent",
        effect="read",
        errors=(*_IN_ROOM, "not_owner"),
        example={"room": "auth-redesign"},
        command="parler session requests",
    ),
    Operation(
        name="session.approve",
        summary="Admit who knocks: a person's decision.",
        params=t.DecideJoin,
        result=t.Decided,
        plane="person",
        effect="write",
        errors=(
            *_IN_ROOM,
            "no_such_request",
            "already_decided",
            "needs_person",
            "needs_proof",
            "code_mismatch",
            "throttled",
            *_STORE,
        ),
        facts=("join_approved", "member_joined"),
        example={"agent": "codex@repo", "room": "auth-redesign"},
        command="parler session approve",
    ),
    Operation(
        name="session.deny",
        summary="Refuse who knocks: a person's decision, final until lifted.",
        params=t.DecideJoin,
        result=t.Decided,
        plane="person",
        effect="write",
        errors=(*_IN_ROOM, "no_such_request", "already_decided", "needs_person", *_STORE),
        facts=("join_denied",),
        example={"agent": "codex@repo", "room": "auth-redesign"},
        command="parler session deny",
    ),
    Operation(
        name="session.close",
        summary="The owner ends a session for all; a member leaves it.",
        params=t.CloseSession,
        result=t.ClosedSession,
        plane="agent",
        effect="destructive",
        errors=(*_IN_ROOM, "room_closed", *_STORE),
        facts=("room_closed", "member_left", "session_activated"),
        example={"room": "auth-redesign"},
        tool=("parler_leave", ""),
        command="parler session close",
    ),
    Operation(
        name="session.list",
        summary="Your sessions and the state of their keys.",
        params=t.ListSessions,
        result=t.SessionList,
        plane="agent",
        effect="read",
        command="parler session list",
    ),
    Operation(
        name="session.revoke",
        summary="Make a key useless.",
        params=t.RevokeKey,
        result=t.RevokedKey,
        plane="agent",
        effect="destructive",
        errors=("unknown_key", "ambiguous_name", "home_not_trusted", "not_owner", "throttled", *_STORE),
        facts=("key_revoked",),
        example={"key": "A3KE7DJR"},
        command="parler session revoke",
    ),
    Operation(
        name="message.send",
        summary="Post to a room.",
        params=t.Send,
        result=t.Sent,
        plane="agent",
        effect="write",
        needs_key=True,
        errors=(
            *_IN_ROOM,
            "text_too_long",
            "no_such_agent",
            "no_such_message",
            "room_closed",
            "throttled",
            *_IDEMPOTENT,
            *_STORE,
        ),
        facts=("message_posted",),
        example={"text": "on it, taking token rotation", "room": "auth-redesign"},
        tool=("parler_send", ""),
        command="parler send",
    ),
    Operation(
        name="message.recv",
        summary="What is new for you in a room, waiting for it if you ask.",
        params=t.Recv,
        result=t.Received,
        plane="agent",
        effect="read",
        waits=True,
        errors=(*_IN_ROOM, *_STORE),
        example={"room": "auth-redesign", "wait_ms": 30000},
        tool=("parler_recv", ""),
        command="parler recv",
    ),
    Operation(
        name="message.recv_all",
        summary="What is new for you in every room.",
        params=t.Recv,
        result=t.ReceivedAll,
        plane="agent",
        effect="read",
        waits=True,
        errors=_STORE,
        example={"all_rooms": True},
        command="parler recv --all-rooms",
    ),
    Operation(
        name="message.commit",
        summary="Acknowledge a page: what it showed is not new any more.",
        params=t.Commit,
        result=t.Committed,
        plane="agent",
        effect="write",
        errors=(*_IN_ROOM, "cursor_ahead", "invalid_cursor", *_STORE),
        example={"room": "auth-redesign", "cursor": "12"},
    ),
    Operation(
        name="handoff.give",
        summary="Give the turn to the next agent.",
        params=t.GiveHandoff,
        result=t.GivenHandoff,
        plane="agent",
        effect="write",
        needs_key=True,
        errors=(
            *_IN_ROOM,
            "text_too_long",
            "no_such_agent",
            "invalid_name",
            "invalid_param",
            "room_closed",
            "throttled",
            *_IDEMPOTENT,
            *_STORE,
        ),
        facts=("message_posted",),
        example={"for": "webdev", "summary": "rotation done", "next": "wire the login UI"},
        tool=("parler_handoff", ""),
        command="parler handoff",
    ),
    Operation(
        name="message.why",
        summary="Where a message got to, reader by reader.",
        params=t.Why,
        result=t.WhyResult,
        plane="agent",
        effect="read",
        errors=("no_such_message",),
        example={"id": "m_0123456789abcdefghij"},
        tool=("parler_rooms", "why"),
        command="parler why",
    ),
    Operation(
        name="rooms.list",
        summary="Your rooms, with what is unread.",
        params=t.ListRooms,
        result=t.RoomList,
        plane="agent",
        effect="read",
        tool=("parler_rooms", "list"),
        command="parler rooms",
    ),
    Operation(
        name="rooms.roster",
        summary="Who is in a room.",
        params=t.Roster,
        result=t.RosterResult,
        plane="agent",
        effect="read",
        errors=_IN_ROOM,
        example={"room": "auth-redesign"},
        tool=("parler_rooms", "roster"),
        command="parler roster",
    ),
    Operation(
        name="rooms.requests",
        summary="Who knocks at the rooms this agent owns, without the joiner's code.",
        params=t.SessionRequests,
        result=t.RequestList,
        plane="agent",
        effect="read",
        errors=(*_IN_ROOM, "not_owner"),
        tool=("parler_rooms", "requests"),
    ),
    Operation(
        name="agent.whoami",
        summary="Which agent this call acts as.",
        params=t.WhoAmI,
        result=t.Me,
        plane="agent",
        effect="read",
        command="parler whoami",
    ),
    Operation(
        name="wake.check",
        summary="How much waits for the agent that a host's hook runs beside, in counts and ids.",
        params=t.WakeCheck,
        result=t.Waiting,
        plane="hook",
        effect="read",
        waits=True,
        errors=("hook_only",),
        example={"turn": True},
    ),
    Operation(
        name="approvals.list",
        summary="Everything that waits for this person, across rooms.",
        params=t.ListApprovals,
        result=t.RequestList,
        plane="agent",
        effect="read",
        command="parler approvals --once",
    ),
    Operation(
        name="approvals.watch",
        summary="The same, live.",
        params=t.WatchApprovals,
        result=t.RequestList,
        plane="agent",
        effect="read",
        stream=True,
        command="parler approvals",
    ),
    Operation(
        name="room.watch",
        summary="Follow a room live, as a person.",
        params=t.WatchRoom,
        result=t.WatchItem,
        plane="agent",
        effect="read",
        stream=True,
        errors=_IN_ROOM,
        command="parler watch",
    ),
    Operation(
        name="daemon.status",
        summary="How the daemon is.",
        params=t.DaemonStatus,
        result=t.DaemonInfo,
        plane="local",
        effect="read",
        command="parler daemon status",
    ),
    Operation(
        name="daemon.stop",
        summary="Drain and stop.",
        params=t.StopDaemon,
        result=t.Stopping,
        plane="local",
        effect="destructive",
        errors=("needs_person",),
        command="parler daemon stop",
    ),
    Operation(
        name="hosts.seen",
        summary="Which agent hosts have reached the daemon since it started, and when.",
        params=t.SeenHosts,
        result=t.SeenHostList,
        plane="local",
        effect="read",
        example={"look": True},
        command="parler connect --verify",
    ),
    Operation(
        name="daemon.check",
        summary="The daemon's own checks, without side effects.",
        params=t.CheckStore,
        result=t.CheckList,
        plane="local",
        effect="read",
        command="parler doctor",
    ),
)

OPERATIONS: Final[dict[str, Operation]] = {entry.name: entry for entry in _ENTRIES}
