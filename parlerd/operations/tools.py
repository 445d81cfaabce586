"""The operations as MCP tools: which arguments a tool has, which operation a call means, what a host is told.

    OPERATIONS (registry) --Operation.tool--> Tool --definition--> the `tools/list` answer
                                               `----resolve-----> (Operation, Params) of one call

Not here: running anything, or how results read (`mcp_server.tools`). What an operation does is said by its summary in
the registry; a tool adds how its arguments are meant and nothing else. Invariant: a tool is one flat object of optional
properties without `oneOf`, `anyOf` or `$ref` (agent hosts reject those), and what `resolve` lets through is typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Literal

import msgspec

from parlerd.core.errors import Refused
from parlerd.operations import types as t
from parlerd.operations.registry import OPERATIONS, Operation

PAGE_MAX: Final = 100
"""Messages in one tool result at most; a larger limit means this. The size limit of a result is usually reached
before."""

Kind = Literal["string", "integer", "seconds", "strings"]


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """One property of a tool. `field` is the parameter it fills, if that has another name; `only` the verbs that take
    it."""

    name: str
    help: str = ""
    kind: Kind = "string"
    field: str = ""
    required: bool = False
    free: bool = False
    """Free text: the empty string is a value. Elsewhere it means "not given", as hosts fill in what a model left
    out."""
    least: int = 0
    """The smallest number that is taken."""
    only: tuple[str, ...] = ()


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of a tool asks for. `offset` is where the first text of the answer begins, in characters."""

    operation: Operation
    params: t.Params
    offset: int = 0


class AskApproval(t.Params, frozen=True, kw_only=True):
    """Whom to ask the person about; an empty `agent` is whoever knocks, if it is only one."""

    agent: str = ""
    room: str | None = None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """One MCP tool. `operations` maps each verb to its operation; a tool with one operation has the verb `""`."""

    name: str
    title: str
    operations: Mapping[str, Operation]
    arguments: tuple[Argument, ...]
    params: type[t.Params] | None = None
    """Another shape than the operation's own, for a tool that finds out the rest itself."""
    usage: str = ""
    """A sentence beside the summary: what the arguments cannot say."""
    default: str = ""
    """The verb that a call without `action` means."""
    example: Mapping[str, Any] = {}
    core: bool = True
    """Whether a host should always load it. Source: MCP spec, Tools."""
    reaches_others: bool = True
    """Whether what others wrote comes back or what is said goes to others."""


_NUMBERED: Final = frozenset({"reply_to", "id"})
"""Arguments that name a message by its number, which a model may write as one."""
_ROOM: Final = Argument(name="room", help="id or name; default: the active session")
_KEY: Final = Argument(name="key", field="idempotency_key", help="idempotency key, to retry safely")


def _by_tool(name: str) -> dict[str, Operation]:
    return {entry.tool[1]: entry for entry in OPERATIONS.values() if entry.tool and entry.tool[0] == name}


_OPEN = "parler_open_session"
_JOIN = "parler_join_session"
_SEND = "parler_send"
_RECV = "parler_recv"
_HANDOFF = "parler_handoff"
_ROOMS = "parler_rooms"
_LEAVE = "parler_leave"
APPROVE: Final = "parler_approve"
"""The tool that only asks the person. It stands for `session.approve`, which belongs to the person plane: an agent
never calls that operation, and this tool carries out what a person typed into a form."""

TOOLS: Final[dict[str, Tool]] = {
    tool.name: tool
    for tool in (
        Tool(
            name=_OPEN,
            title="Open a session",
            operations=_by_tool(_OPEN),
            usage="It becomes your active session; give the person the line to hand over.",
            arguments=(
                Argument(name="context", help="the recap others start from", free=True),
                Argument(name="topic", help="short name"),
            ),
            example={"topic": "auth-redesign", "context": "Chose PKCE. Left: token rotation."},
        ),
        Tool(
            name=_JOIN,
            title="Join a session",
            operations=_by_tool(_JOIN),
            usage="If a person has to decide first, you get a code to tell your user.",
            arguments=(
                Argument(name="key", field="session_key", required=True),
                Argument(name="wait_secs", kind="seconds", field="wait_ms", help="0 answers at once"),
            ),
            example={"key": "A3KE7DJR"},
        ),
        Tool(
            name=_SEND,
            title="Send a message",
            operations=_by_tool(_SEND),
            usage="The answer carries messages that arrived meanwhile.",
            arguments=(
                Argument(name="text", required=True, free=True),
                _ROOM,
                Argument(name="to", help="whose attention: an agent in the room"),
                Argument(name="visible_to", kind="strings", help="only these agents may ever see it"),
                Argument(name="kind", help="text, question, task, ..."),
                Argument(name="reply_to", help="message number"),
                _KEY,
            ),
            example={"text": "on it, taking token rotation"},
        ),
        Tool(
            name=_RECV,
            title="Receive messages",
            operations=_by_tool(_RECV),
            usage="Do not poll: wait with wait_secs, act, call again.",
            arguments=(
                Argument(name="wait_secs", kind="seconds", field="wait_ms", help="0 answers at once"),
                _ROOM,
                Argument(name="limit", kind="integer", least=1),
                Argument(name="since", kind="integer", help="look back: what follows this number; marks nothing read"),
                Argument(name="offset", kind="integer", help="with since: the character to go on from"),
            ),
            example={"wait_secs": 600},
        ),
        Tool(
            name=_HANDOFF,
            title="Hand off the turn",
            operations=_by_tool(_HANDOFF),
            arguments=(
                Argument(name="next", help="what the next agent should do", required=True, free=True),
                Argument(name="summary", help="what is done and decided", free=True),
                Argument(name="for", help="an agent in the room, or a role that one has; default: anyone"),
                _ROOM,
                _KEY,
            ),
            example={"for": "webdev", "summary": "rotation done", "next": "wire the login UI"},
        ),
        Tool(
            name=_ROOMS,
            title="Look around",
            operations=_by_tool(_ROOMS),
            arguments=(
                _ROOM,
                Argument(name="id", help="message number, for why", only=("why",)),
            ),
            default="list",
            example={"action": "roster"},
            reaches_others=False,
        ),
        Tool(
            name=_LEAVE,
            title="Leave or end a session",
            operations=_by_tool(_LEAVE),
            arguments=(_ROOM,),
            example={"room": "auth-redesign"},
            core=False,
            reaches_others=False,
        ),
        Tool(
            name=APPROVE,
            title="Ask the person to admit",
            operations={"": OPERATIONS["session.approve"]},
            params=AskApproval,
            usage="This only asks: the person types the joiner's code into a form, or you learn what they run.",
            arguments=(
                Argument(name="agent", help="who knocks; default: the only one"),
                Argument(name="room", help="id or name"),
            ),
            example={"agent": "codex@repo"},
            core=False,
            reaches_others=False,
        ),
    )
}


def description(tool: Tool) -> str:
    """What a host tells its model: what it does, how it is meant, one example; three sentences at most."""
    if len(tool.operations) == 1:
        (operation,) = tool.operations.values()
        does = operation.summary
    else:
        verbs = (f"{verb}: {_lower(entry.summary)}" for verb, entry in sorted(tool.operations.items()))
        does = "; ".join(verbs) + "."
    return " ".join(part for part in (does, tool.usage, f"Example: {_compact(tool.example)}") if part)


def definition(tool: Tool) -> dict[str, Any]:
    """The tool as `tools/list` shows it. Keys that carry nothing are left out: the whole answer is paid for in
    tokens."""
    properties: dict[str, Any] = {}
    if tool.default:
        properties["action"] = {"type": "string", "enum": sorted(tool.operations)}
    for argument in tool.arguments:
        properties[argument.name] = _property(argument)
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if required := [argument.name for argument in tool.arguments if argument.required]:
        schema["required"] = required
    effects = {entry.effect for entry in tool.operations.values()}
    shown: dict[str, Any] = {
        "name": tool.name,
        "title": tool.title,
        "description": description(tool),
        "inputSchema": schema,
        "annotations": {
            "readOnlyHint": effects == {"read"},
            "destructiveHint": "destructive" in effects,
            # Sending twice posts twice unless a key is given, so only what reads or what knocks is safe to repeat.
            "idempotentHint": not any(entry.needs_idempotency_key for entry in tool.operations.values()),
            "openWorldHint": tool.reaches_others,
        },
    }
    if tool.core:
        shown["_meta"] = {"anthropic/alwaysLoad": True}
    return shown


def takes_key(tool: Tool) -> bool:
    """Whether a caller may name the idempotency key itself."""
    return _KEY in tool.arguments


def resolve(tool: Tool, arguments: Mapping[str, Any]) -> Meaning:
    """What a call means. Raises `Refused(invalid_param)`, naming what is wrong and what is allowed."""
    given = {name: value for name, value in arguments.items() if value is not None}
    verb = ""
    if tool.default:
        verb = given.pop("action", tool.default) or tool.default
        if verb not in tool.operations:
            raise _refuse(tool, "action", f"action is one of: {', '.join(sorted(tool.operations))}.")
    operation = tool.operations[verb]
    known = {argument.name: argument for argument in tool.arguments}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        argument = known.get(name)
        if argument is None:
            raise _refuse(tool, name, f"{tool.name} has no argument {_shown(name)}.")
        if value == "" and not argument.free and not argument.required:
            continue
        if value == [] and name == "visible_to":
            raise _refuse(tool, name, "visible_to names nobody: name the agents who may see it, or leave it out.")
        if argument.only and verb not in argument.only:
            raise _refuse(tool, name, f"{name} goes with the action {' or '.join(argument.only)}.")
        fields[argument.field or name] = _value(tool, argument, value)
    for argument in tool.arguments:
        if argument.required and argument.name not in given:
            raise _refuse(tool, argument.name, f"{argument.name} is missing.")
    offset = fields.pop("offset", 0)
    if offset and "since" not in fields:
        raise _refuse(tool, "offset", "offset goes with since.")
    if tool.name == _RECV:
        fields["limit"] = min(fields.get("limit", PAGE_MAX), PAGE_MAX)
    return Meaning(operation=operation, params=_params(tool, operation, fields), offset=offset)


def _params(tool: Tool, operation: Operation, fields: dict[str, Any]) -> t.Params:
    shape = tool.params or operation.params
    for name in fields:
        if name not in _accepted(shape):
            raise _refuse(tool, name, f"{_shown(_argument_of(tool, name))} does not go with this action.")
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise _refuse(tool, "", _plainly(tool, str(error))) from None


def _argument_of(tool: Tool, field: str) -> str:
    """The argument that fills this parameter, by the name that the caller knows."""
    return next((argument.name for argument in tool.arguments if argument.field == field), field)


_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `\$\.(\w+)")
_RULES: Final = {
    "kind": "kind is one word of letters, digits and . _ / -, at most 64 characters.",
    "idempotency_key": "key is 1 to 128 of letters, digits and . _ : -",
}


def _plainly(tool: Tool, said: str) -> str:
    """What a validator says of a tool's parameters, in words for whoever made the call."""
    if missing := _MISSING.search(said):
        return f"{_argument_of(tool, missing[1])} is missing."
    at = _AT.search(said)
    if at is None:
        return said
    return _RULES.get(at[1]) or f"{_argument_of(tool, at[1])} is not valid: {said.partition(' - at ')[0]}."


@cache
def _accepted(shape: type[t.Params]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape))


def _value(tool: Tool, argument: Argument, value: Any) -> Any:
    name = argument.name
    if argument.kind == "string":
        if isinstance(value, int) and not isinstance(value, bool) and name in _NUMBERED:
            value = str(value)
        if not isinstance(value, str):
            raise _refuse(tool, name, f"{name} is a string.")
        return (value,) if name == "to" else value
    if argument.kind == "strings":
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _refuse(tool, name, f"{name} is a list of strings.")
        return tuple(value)
    # True is an int to Python and never a count to a caller; 45.0 is what some hosts make of 45.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < argument.least or value != value // 1:
        raise _refuse(tool, name, f"{name} is a whole number, {argument.least} or more.")
    if argument.kind == "seconds":
        return min(int(value) * 1000, t.MAX_WAIT_MS)
    return int(value)


def _property(argument: Argument) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "string"}
    if argument.kind == "strings":
        shape = {"type": "array", "items": {"type": "string"}}
    elif argument.kind != "string":
        shape = {"type": "integer", "minimum": argument.least}
    if argument.help:
        shape["description"] = argument.help
    return shape


def _refuse(tool: Tool, param: str, message: str) -> Refused:
    names = [argument.name for argument in tool.arguments]
    if tool.default:
        names.insert(0, "action")
    return Refused(
        "invalid_param",
        message,
        hint=f"{tool.name} takes: {', '.join(names)}.",
        example=f"{tool.name} {_compact(tool.example)}",
        param=_shown(param),
    )


def _shown(name: str) -> str:
    """A name the caller made up, short and plain enough to repeat."""
    return ascii(name[:40])[1:-1]


def _lower(summary: str) -> str:
    return (summary[0].lower() + summary[1:]).rstrip(".")


def _compact(value: Mapping[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
