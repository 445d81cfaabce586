"""The idempotency keys of one conversation's writes: a write that is asked for again carries the key of the first time.

    call -> Repeats.keyed -> the same call with a key

A write that names no key gets one that follows from the request alone, so that the key survives this daemon. The shim
hands over the calls whose answer was lost with the last connection (`stdio.requests`); whoever makes such a call again
within `REPLAY_SECONDS` means the same write (decision 16). So does whoever repeats a call that failed and may have been
done, in a tool in which a model can name no key.

Not here: what a repeated write is answered with (`parlerd.engine`). Above: `window`, `conversations`. Invariant: two
requests of a host never share a key unless one repeats the other.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import trio

from parlerd.bounded import Bounded
from parlerd.engine.callers import Caller
from parlerd.operations.tools import TOOLS, Meaning, Tool

CallId = str | int
Lost = Mapping[tuple[str, bytes], str]
"""Calls whose answer was lost: what was asked, as `_input` has it, and the key that it was asked with."""

REPLAY_SECONDS: Final = 600.0
"""How long a repeated request is taken for the one whose answer was lost. Source: decision 16."""
_REMEMBERED: Final = 4096


class Repeats:
    """The keys of one conversation. `lost` are forgotten at `lost_until`, on trio's clock."""

    def __init__(self, caller: Caller, lost: Lost, lost_until: float | None) -> None:
        self._caller = caller
        # When the calls are forgotten whose answer was lost with the last connection.
        self._until = trio.current_time() + REPLAY_SECONDS if lost_until is None else lost_until
        # The calls that may have been done without an answer, each with its key and when it is forgotten.
        self._lost: Bounded[tuple[str, bytes], tuple[str, float]] = Bounded(_REMEMBERED)
        self.add(lost)
        # How often a key was drawn. Ids are unique by the protocol, but a host that repeats one must not have its
        # second message swallowed.
        self._drawn: Bounded[str, int] = Bounded(_REMEMBERED)

    def keyed(
        self, request: CallId, tool: Tool, arguments: Mapping[str, Any], meaning: Meaning
    ) -> tuple[Meaning, bool]:
        """`meaning` with an idempotency key, and whether it repeats a request whose answer was lost."""
        lost, until = self._lost.pop(_input(tool.name, arguments), (None, 0.0))
        if trio.current_time() > until:
            lost = None
        if not meaning.operation.needs_idempotency_key:
            return meaning, lost is not None
        key = getattr(meaning.params, "idempotency_key", None)
        is_repeated = key is None and lost is not None
        if key is None:
            key = lost if lost is not None else self._drawn_key(request)
        params = msgspec.structs.replace(meaning.params, idempotency_key=key)
        return msgspec.structs.replace(meaning, params=params), is_repeated

    def _drawn_key(self, request: CallId) -> str:
        key = idempotency_key(self._caller.facts.window or self._caller.facts.session, request)
        times = self._drawn.get(key, 0)
        self._drawn[key] = times + 1
        return f"{key}:{times + 1}" if times else key

    def failed(self, tool: str, arguments: Mapping[str, Any], key: str) -> None:
        """A call brought no result. It may have been done all the same, so the next one repeats it."""
        self._lost[_input(tool, arguments)] = key, trio.current_time() + REPLAY_SECONDS

    def add(self, lost: Lost) -> None:
        """These calls were lost too: only now it is known that they are of this conversation."""
        for call, key in lost.items():
            self._lost[call] = key, self._until


def idempotency_key(window: str, request: CallId) -> str:
    """The key of a write that named none, which follows from the window and the request."""
    scope = f"mcp:{window[:16]}"
    if isinstance(request, int):
        return f"{scope}:{request}"
    if re.fullmatch(r"[A-Za-z0-9._-]{1,64}", request):
        return f"{scope}:s.{request}"
    return f"{scope}:h.{hashlib.sha256(request.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def lost_writes(
    window: str, lines: tuple[bytes, ...], is_mine: Callable[[Mapping[str, Any]], bool] = lambda params: True
) -> dict[tuple[str, bytes], str]:
    """Tool calls whose answer was lost with the last connection, and the key each was made with; newest last.
    `is_mine` says by a call's parameters whether it is of this conversation."""
    lost: dict[tuple[str, bytes], str] = {}
    for line in lines:
        try:
            message = msgspec.json.decode(line)
            params = message["params"]
            name, request = params["name"], message["id"]
            arguments = params.get("arguments") or {}
            if message["method"] != "tools/call" or name not in TOOLS or not isinstance(request, str | int):
                continue
            if is_mine(params):
                lost[_input(name, arguments)] = arguments.get("key") or idempotency_key(window, request)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError, AttributeError):
            continue
    return lost


def _input(tool: str, arguments: Mapping[str, Any]) -> tuple[str, bytes]:
    """What makes two calls the same request: the tool and its arguments, whatever their order."""
    given = {name: value for name, value in arguments.items() if value is not None}
    return tool, hashlib.sha256(msgspec.json.encode(given, order="deterministic")).digest()
