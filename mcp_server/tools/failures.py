"""How an error reads to a model: its code, what is wrong, what to do, a valid example. Never a stack trace."""

from __future__ import annotations

from typing import Any

from mcp_server.fence import Fencer
from mcp_server.tools.results import Shown
from parlerd.core.errors import ErrorBody


def failure(body: ErrorBody, fencer: Fencer, key: str = "") -> Shown:
    """An error in both forms. `key` is the idempotency key of the write that failed: a retry with it is the same
    request."""
    details = {name: _plain(value, fencer) for name, value in body.details.items() if value not in ("", None)}
    error: dict[str, Any] = {
        "code": body.code,
        "message": body.message,
        "action": body.action,
        "scope": body.scope,
        "retryable": body.retryable,
    }
    lines = [f"{body.code}: {body.message}"]
    if body.hint:
        error["hint"] = body.hint
        lines.append(body.hint)
    if body.retry_after_ms is not None:
        error["retry_after_ms"] = body.retry_after_ms
        lines.append(f"Try again after {body.retry_after_ms} ms.")
    if body.example:
        error["example"] = body.example
        lines.append(f"Example: {body.example}")
    details.pop("key", None)
    if details:
        error["details"] = details
        lines += [f"{name}: {_line(value)}" for name, value in details.items()]
    key = key or str(body.details.get("key") or "")
    if key:
        error["key"] = fencer.name(key)
        if body.retryable:
            lines.append(f"To try again as the same request, pass key {fencer.name(key)}.")
    return Shown("\n".join(lines), {"error": error})


def _plain(value: Any, fencer: Fencer) -> Any:
    if isinstance(value, str):
        return fencer.name(value)
    if isinstance(value, dict):
        return {str(name): _plain(item, fencer) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, fencer) for item in value]
    return value


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(item) for item in value.values())
    if isinstance(value, list):
        return ", ".join(_line(item) for item in value)
    return str(value)
