"""How an error reads to a model: its code, what is wrong, what to do, a valid example. Never a stack trace."""

from __future__ import annotations

from typing import Any

from mcp_server.fence import Fencer
from parlerd.core.errors import ParlerError


def failure(error: ParlerError, fencer: Fencer, key: str = "") -> str:
    """An error as text. `key` is the idempotency key of the write that failed: a retry with it is the same request."""
    lines = [f"{error.code}: {error.message}"]
    if error.tool_hint:
        lines.append(error.tool_hint)
    if error.retry_after_ms is not None:
        lines.append(f"Try again after {error.retry_after_ms} ms.")
    if error.example:
        lines.append(f"Example: {error.example}")
    for name, value in error.details.items():
        # The code is in the sentence, and the parameter in the message; a door has no name for who waits at it.
        if value not in ("", None) and name not in ("key", "join_code", "param", "door"):
            lines.append(f"{name}: {_line(value, fencer)}")
    key = key or str(error.details.get("key") or "")
    if key and error.spec.retryable:
        lines.append(f"To try again as the same request, pass key {fencer.name(key)}.")
    return "\n".join(lines)


def _line(value: Any, fencer: Fencer) -> str:
    if isinstance(value, dict):
        return " ".join(_line(item, fencer) for item in value.values())
    if isinstance(value, list | tuple):
        return ", ".join(_line(item, fencer) for item in value)
    return fencer.name(value) if isinstance(value, str) else str(value)
