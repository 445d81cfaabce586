"""Results of operations, filled in: tests say only what they are about."""

from __future__ import annotations

from typing import Any

import parlerd
from parlerd.core.model import PeerText
from parlerd.operations import types as t

ROOM = "r_0123456789abcdefghij"
ALICE = "UALICE" + "A" * 50
BOB = "UBOB" + "B" * 52


def author(name: str = "alice", **more: Any) -> t.Author:
    return t.Author(**{"id": ALICE, "name": name, "role": "", "host": "codex", **more})


def message(text: str = "hello", **more: Any) -> t.Message:
    fields: dict[str, Any] = {
        "id": "m_0123456789abcdefghij",
        "seq": 1,
        "at": 1_700_000_000_000,
        "author": author(),
        "verified": "valid",
        "via": "mcp",
        "kind": "text",
        "text": PeerText(text),
    }
    return t.Message(**{**fields, **more})


def page(*messages: t.Message, **more: Any) -> t.Received:
    fields: dict[str, Any] = {
        "room": ROOM,
        "name": "auth-redesign",
        "messages": list(messages),
        "cursor": str(len(messages)),
        "more": False,
        "unread": 0,
    }
    return t.Received(**{**fields, **more})


def opened(**more: Any) -> t.OpenedSession:
    fields: dict[str, Any] = {
        "room": ROOM,
        "name": "auth-redesign",
        "session_key": "A3KE7DJR",
        "line": "Join the Parler session A3KE7DJR.",
        "join_command": "parler session join A3KE7DJR",
        "mcp_command": "claude mcp add parler -e PARLER_SESSION_KEY=A3KE7DJR -- parler mcp",
        "expires": 4_000_000_000_000,
        "approval": True,
    }
    return t.OpenedSession(**{**fields, **more})


def joined(status: str = "joined", **more: Any) -> t.JoinedSession:
    fields: dict[str, Any] = {"room": ROOM, "status": status, "messages": [], "truncated": False}
    if status == "pending":
        fields["join_code"] = "K7QM"
    return t.JoinedSession(**{**fields, **more})


def request(name: str = "codex@repo", **more: Any) -> t.RequestInfo:
    fields: dict[str, Any] = {
        "id": f"q_{name}",
        "room": ROOM,
        "room_name": "auth-redesign",
        "agent": BOB,
        "name": name,
        "host": "codex",
        "requested": 1_700_000_000_000,
        "fingerprint": "ABCD-EFGH-IJKL",
        "home": "local",
    }
    return t.RequestInfo(**{**fields, **more})


def sent(**more: Any) -> t.Sent:
    fields: dict[str, Any] = {
        "room": ROOM,
        "id": "m_0123456789abcdefghij",
        "seq": 7,
        "at": 1_700_000_000_000,
        "replayed": False,
        "idempotency_key": "k1",
    }
    return t.Sent(**{**fields, **more})


def room_info(name: str, **more: Any) -> t.RoomInfo:
    fields: dict[str, Any] = {
        "room": ROOM,
        "name": name,
        "topic": PeerText("x"),
        "kind": "session",
        "home": "local",
        "owner": "UA",
        "members": 1,
        "unread": 0,
        "last_at": 1_700_000_000_000,
        "active": False,
        "state": "open",
    }
    return t.RoomInfo(**{**fields, **more})


def daemon_info(**more: Any) -> t.DaemonInfo:
    fields: dict[str, Any] = {
        "running": True,
        "pid": 4242,
        "socket": "/home/a/.parler/run/parlerd.sock",
        "version": "0.0.0",
        "uptime_ms": 90_000,
        "rooms": 1,
        "connections": 2,
        "windows": 1,
        "store": "ok",
        "home": "/home/a/.parler",
    }
    return t.DaemonInfo(**{**fields, **more})


def relay_info(**more: Any) -> t.RelayInfo:
    fields: dict[str, Any] = {
        "running": True,
        "pid": 4343,
        "version": parlerd.__version__,
        "home": "N" + "A" * 55,
        "name": "team-7f3k2q",
        "url": "wss://192.168.1.20:7777/",
        "fingerprint": "7f3k2qabcdefghijklmnopqrstuvwxyz",
        "join_line": "wss://192.168.1.20:7777/#7f3k2qabcdefghijklmnopqrstuvwxyz",
        "join_secret_file": "/home/a/.parler/relay/join-secret",
        "addresses": ["192.168.1.20:7777"],
        "rooms": 1,
        "daemons": 2,
        "people": 3,
        "uptime_ms": 90_000,
    }
    return t.RelayInfo(**{**fields, **more})
