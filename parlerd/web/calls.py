"""Texts that name tools of MCP, as texts that name calls over HTTP.

    parler_recv {"since":0}              -->  GET /v1/rooms/{room}/messages?since=0
    parler_rooms with action roster      -->  GET /v1/rooms/{room}/agents

A hint is written once, for models that have tools. Here too: an error as it is answered, what an agent may do with its
calls, and how long a call waits. Above: `app`, `events`. Below: the registry, which knows by which tool and by
which route an operation is reached. Invariant: a text that names no tool stays as it is.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from parlerd.core.errors import ERRORS, ParlerError, Refused
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS
from parlerd.operations.tools import TOOLS, resolve

MAX_WAIT_MS: Final = 55_000
"""How long a call over HTTP waits at most. Source: contract spec, Waiting."""
_NAMED: Final = re.compile(r"\b(parler_[a-z_]+)(?: with action (\w+)| ?(\{[^{}]*\}))?")
_OPERATIONS: Final = {(each.tool.tool, each.tool.verb): each for each in OPERATIONS.values() if each.tool is not None}


def error_of(error: ParlerError) -> bytes:
    """An error as the command line's JSON has it, with hints for whoever has HTTP and an id of its own."""
    body = {"retryable": False, **msgspec.to_builtins(error.body()), "hint": over_http(error.tool_hint)}
    return msgspec.json.encode({"error": {**body, "request": secrets.token_hex(8)}})


def over_http(text: str) -> str:
    """The text for whoever has HTTP and no tool."""
    return _NAMED.sub(_call, text)


def _call(found: re.Match[str]) -> str:
    name, verb, written = found.groups()
    if name not in TOOLS:
        return found.group()
    tool = TOOLS[name]
    if written is None:
        verb = verb or ("" if "" in tool.operations else tool.default)
        return _line(_OPERATIONS[name, verb], {})
    try:
        meant = resolve(tool, json.loads(written))
    except (ValueError, Refused):
        return found.group()
    return _line(meant.operation, msgspec.to_builtins(meant.params))


def _line(operation: t.Operation, params: Mapping[str, Any]) -> str:
    """How an operation is asked for with these parameters."""
    call = call_of(operation, params)
    body = f" {json.dumps(call.body, separators=(',', ':'))}" if call.body else ""
    return f"{call.method} {call.path}{body}"


class Call(NamedTuple):
    """A call over HTTP. What is missing of its path stands there in braces."""

    method: str
    path: str
    body: dict[str, Any] | None


def call_of(operation: t.Operation, params: Mapping[str, Any]) -> Call:
    """The call that asks for an operation with these parameters."""
    assert operation.http is not None
    method, path = operation.http.method, f"/v1{operation.http.path}"
    given = {name: value for name, value in params.items() if name != "idempotency_key"}
    for field in operation.http.fields:
        if field in given:
            path = path.replace(f"{{{field}}}", quote(str(given.pop(field)), safe="@"))
    if "wait_ms" in given:
        given["wait_ms"] = min(given["wait_ms"], MAX_WAIT_MS)
    if method not in ("GET", "DELETE"):
        return Call(method, path, given)
    said = {name: json.dumps(value) if isinstance(value, bool) else value for name, value in given.items()}
    return Call(method, f"{path}?{urlencode(said, doseq=True)}" if said else path, None)


MAX_AFFORDANCES: Final = 8 * 1024
"""Bytes of an answer that says what an agent may do. Source: contract spec, Affordances."""
_EXAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "message.send": {"text": "on it"},
    "handoff.give": {"next": "wire the login UI"},
    "memory.remember": {"text": "blue-green", "key": "deploy-strategy"},
    "task.claim": {},
    "state.list": {},
    "state.set": {"key": "phase", "value": "planning"},
    "state.evaluate": {"expr": "has(state._shared.phase)"},
    "state.wait": {"condition": "size(agents) > 0", "wait_ms": 1000},
    "action.list": {},
    "action.register": {"id": "stoke_fire", "writes": [{"key": "wood", "value": -1, "increment": True}]},
}
"""Parameters with which what is listed can be called as it stands, in any room."""


def with_calls(found: t.Affordances, access: Collection[str]) -> t.Affordances:
    """What an agent may do, with the calls by which it is done. `access` is what its token is for."""
    here = {"room": found.room}
    rows = [_with_call(row, here, access) for row in found.affordances]
    steps = []
    for step in found.next:
        if step.operation:
            call = call_of(OPERATIONS[step.operation], {**step.params, **here})
            body = msgspec.UNSET if call.body is None else call.body
            steps.append(msgspec.structs.replace(step, method=call.method, path=call.path, body=body))
        else:
            steps.append(step)
    told = msgspec.structs.replace(found, affordances=rows, next=steps)
    actions = found.actions
    if isinstance(actions, list):
        # Half of them as long as the answer is too long: most rooms have few.
        kept = len(actions)
        while kept and len(msgspec.json.encode(told)) > MAX_AFFORDANCES:
            kept //= 2
            told = msgspec.structs.replace(told, actions=actions[:kept], left_out=len(actions) - kept)
    return told


def _with_call(row: t.Affordance, here: Mapping[str, str], access: Collection[str]) -> t.Affordance:
    operation = OPERATIONS[row.operation]
    call = call_of(operation, here)
    row = msgspec.structs.replace(row, method=call.method, path=call.path)
    if row.operation in _EXAMPLES:
        row = msgspec.structs.replace(row, example=_line(operation, {**_EXAMPLES[row.operation], **here}))
    if isinstance(row.reason, str):
        assert operation.http is not None
        wanted = operation.http.access
        unlock = f"Ask the person for a token that is for `{wanted}`." if wanted not in access else _unlock(row.reason)
        row = msgspec.structs.replace(row, unlock=unlock)
    return row


def _unlock(reason: str) -> str:
    spec = ERRORS[reason]
    return over_http(spec.tool_hint or spec.hint)
