"""How an error reads to a model: its code, what is wrong, what to do, a valid example. Never a stack trace."""

from __future__ import annotations

from typing import Any, Final

from mcp_server.fence import is_name
from mcp_server.tools.results import WAIT, Scribe, clock
from parlerd.core.errors import ERRORS, ParlerError
from parlerd.core.model import is_moment

MAX_LISTED: Final = 10
"""Candidates and the like that an error names."""
_IN_THE_SENTENCE: Final = frozenset({"key", "join_code", "param", "door", "agent", "id", "limit", "near"})
"""Details that the message or a line of its own says already, or that only repeat what was asked."""

_MOMENTS: Final = frozenset({"until", "available_at"})
"""Details that are moments."""


def failure(error: ParlerError, scribe: Scribe, key: str = "") -> str:
    """An error as text. `key` is the idempotency key of the write that failed: a retry with it is the same request."""
    lines = [f"{error.code}: {error.message}"]
    # The usual hint says that a parameter is to be corrected. The message says so already, and says what is wrong.
    if error.tool_hint and not (error.code == "invalid_param" and error.tool_hint == ERRORS["invalid_param"].hint):
        lines.append(error.tool_hint.replace(WAIT, scribe.wait))
    if error.retry_after_ms is not None:
        lines.append(f"Try again after {_span(error.retry_after_ms)}.")
    if error.example:
        lines.append(f"Example: {error.example}")
    key = key or str(error.details.get("key") or "")
    if key and error.spec.retryable:
        lines.append(f"To try again as the same request, pass key {scribe.name(key)}.")
    left = scribe.budget.error - sum(scribe.budget.size(line) + 1 for line in lines)
    for name, value in error.details.items():
        if value in ("", None, [], ()) or name in _IN_THE_SENTENCE:
            continue
        items = list(value) if isinstance(value, list | tuple) else [value]
        more = f", and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
        words = [_words(item) for item in items[:MAX_LISTED]]
        said = ", ".join(" ".join(each) for each in words)
        are_names = all(is_name(word) for each in words for word in each)
        # A relay may have sent the detail, so it may be no moment.
        if name in _MOMENTS and is_moment(value):
            said, are_names = clock(value), True
        line = f"{name}: {said}{more}" if are_names else f"{name}{more}:\n{scribe.fencer.wrap(said)}"
        left -= scribe.budget.size(line) + 1
        if left > 0:
            # Details may be left out, for they only save the caller a look elsewhere. What is wrong and what to do are
            # never cut.
            lines.append(line)
    return "\n".join(lines)


def _span(ms: int) -> str:
    """A span as a person says it."""
    if ms < 2_000:
        return f"{ms} ms"
    return f"{-(-ms // 1000)} s" if ms < 120_000 else f"{-(-ms // 60_000)} minutes"


def _words(value: Any) -> list[str]:
    """What a detail holds, one after the other, with the names of what has one. When something was is left out: only
    what is there now helps."""
    if isinstance(value, dict):
        named = ((name, item) for name, item in value.items() if not str(name).endswith("_at"))
        return [word for name, item in named for word in (str(name), *_words(item))]
    return [str(value)]
