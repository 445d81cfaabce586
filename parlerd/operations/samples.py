"""Who and what the examples of answers speak of, so that those of all families tell of one session.

Not here: the examples (`Operation.answers`). Plain data without imports.
"""

from __future__ import annotations

from typing import Any, Final

AT: Final = 1_795_860_000_000
"""2026-11-28 10:00Z."""
ROOM: Final = "r_0123456789abcdef01234567"
NAME: Final = "auth-redesign"
ANN: Final = "claude-code@api"
BOB: Final = "codex@web"
KEY: Final = "A3KE7DJR"
JOIN_LINE: Final = "wss://192.168.1.20:7777/#7f3k2qabcdefghijklmnopqrstuvwxyz"
RELAY: Final = "team-7f3k2q"
RECAP: Final = "Chose PKCE. Left: token rotation."


def message(seq: int, author: str, text: str, **more: Any) -> dict[str, Any]:
    """A message as its reader sees it."""
    return {
        "id": f"m_{seq}",
        "seq": seq,
        "at": AT,
        "author": {"id": "U", "name": author, "role": "", "host": author.partition("@")[0]},
        "verified": "valid",
        "via": "mcp",
        "kind": "text",
        "text": text,
        **more,
    }


def member(name: str, role: str, presence: str) -> dict[str, Any]:
    """A member as the roster has it."""
    return {
        "id": "U",
        "name": name,
        "role": role,
        "host": name.partition("@")[0],
        "owner": role == "owner",
        "state": "member",
        "presence": presence,
        "since": AT,
    }


ENTRY: Final = {
    "scope": "_shared",
    "key": "phase",
    "value": "planning",
    "version": 1,
    "updated_by": ANN,
    "updated_at": AT,
}
"""A key of a room's state."""
PLACED: Final = {"room": ROOM, "name": NAME}
DONE: Final = {**PLACED, "replayed": False, "idempotency_key": "k_1"}
