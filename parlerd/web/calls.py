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
from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from parlerd.core.errors import ParlerError, Refused
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


def with_calls(found: t.Affordances) -> t.Affordances:
    """What an agent may do, with the calls by which it is done."""
    here = {"room": found.room}
    rows = []
    for row in found.affordances:
        call = call_of(OPERATIONS[row.operation], here)
        rows.append(msgspec.structs.replace(row, method=call.method, path=call.path))
    steps = []
    for step in found.next:
        if step.operation:
            call = call_of(OPERATIONS[step.operation], {**step.params, **here})
            body = msgspec.UNSET if call.body is None else call.body
            steps.append(msgspec.structs.replace(step, method=call.method, path=call.path, body=body))
        else:
            steps.append(step)
    return msgspec.structs.replace(found, affordances=rows, next=steps)
