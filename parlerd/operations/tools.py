"""The operations as MCP tools: which operation a call means, and what a host is told.

    families --ToolEntry, Offer--> Tool --definition--> the `tools/list` answer
                                    `----resolve-----> (Operation, Params) of one call

Not here: which tools there are and what their arguments mean (`families`), running anything, or how results read
(`mcp_server.tools`). What an operation does is said by its summary; a tool adds how its arguments are meant and nothing
else. Invariants: a tool is one flat object of optional properties without `oneOf`, `anyOf` or `$ref` (agent hosts
reject those); a tool says of its effect what is true of the verb that does most; what `resolve` lets through is typed.
That there are no other properties goes without saying: `resolve` refuses them by name, and names those that there are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

import msgspec

from parlerd.core.errors import Refused
from parlerd.operations.entry import (
    IDEMPOTENCY_ARGUMENT,
    MAX_WAIT_MS,
    Argument,
    Effect,
    Family,
    Operation,
    Params,
    ToolEntry,
)
from parlerd.operations.families.sessions import APPROVE as APPROVE
from parlerd.operations.registry import FAMILIES, by_name, operations_of

_EFFECTS: Final[tuple[Effect, ...]] = ("read", "write", "destructive")
"""From the least on."""


class Meaning(msgspec.Struct, frozen=True, kw_only=True):
    """What one call of a tool asks for. `offset` is where the first text of the answer begins, in characters."""

    operation: Operation
    params: Params
    offset: int = 0


class Tool(ToolEntry, frozen=True, kw_only=True):
    """A declared tool with its operations, by verb; `arguments` are those of every verb, and of single verbs too."""

    operations: Mapping[str, Operation]

    @property
    def effect(self) -> Effect:
        """The most that one of its verbs does. A host asks its person about a tool, and not about a verb."""
        return max((operation.effect for operation in self.operations.values()), key=_EFFECTS.index)


def tools_of(families: Iterable[Family]) -> dict[str, Tool]:
    """The tools of families, by name: first those that a host always loads.

    Raises `ValueError` for a set that cannot be: two tools of one name, an operation that names no tool or a verb that
    is taken, or a tool without an operation.
    """
    families = tuple(families)
    operations = operations_of(families)
    entries = by_name(entry for family in families for entry in family.tools)
    verbs: dict[str, dict[str, Operation]] = {
        name: {"": operations[entry.stands_for]} if entry.stands_for else {} for name, entry in entries.items()
    }
    arguments = {name: list(entry.arguments) for name, entry in entries.items()}
    for operation in operations.values():
        if (offer := operation.tool) is None:
            continue
        if offer.tool not in verbs or offer.verb in verbs[offer.tool]:
            raise ValueError(f"{operation.name} names no tool, or a verb that is taken: {offer.tool} {offer.verb}")
        verbs[offer.tool][offer.verb] = operation
        arguments[offer.tool] += [msgspec.structs.replace(each, only=(offer.verb,)) for each in offer.arguments]
    for name, found in verbs.items():
        if not found:
            raise ValueError(f"no operation names {name}")
        if bool(entries[name].default) != (set(found) != {""}) or entries[name].default not in found:
            raise ValueError(f"{name} has no verb {entries[name].default!r}, which a call without one means")
    ordered = sorted(entries.values(), key=lambda entry: not entry.is_core)
    return {
        entry.name: Tool(
            **{**msgspec.structs.asdict(entry), "arguments": tuple(arguments[entry.name])},
            operations=verbs[entry.name],
        )
        for entry in ordered
    }


TOOLS: Final = tools_of(FAMILIES)
"""By name, in the order in which a host is told of them."""


def description(tool: Tool) -> str:
    """What a host tells its model: what it does, how it is meant, one example; three sentences at most."""
    if tool.does:
        does = tool.does
    elif len(tool.operations) == 1:
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
        properties.setdefault(argument.name, _property(argument))
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required := [argument.name for argument in tool.arguments if argument.required]:
        schema["required"] = required
    shown: dict[str, Any] = {
        "name": tool.name,
        "title": tool.title,
        "description": description(tool),
        "inputSchema": schema,
    }
    if annotations := _annotations(tool):
        shown["annotations"] = annotations
    if tool.is_core:
        shown["_meta"] = {"anthropic/alwaysLoad": True}
    return shown


_UNSAID: Final = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": False, "openWorldHint": True}
"""What a host takes for granted of a tool that does not say it. Source: the schema of MCP, `ToolAnnotations`."""


def _annotations(tool: Tool) -> dict[str, bool]:
    """What a tool says of its effect, without what goes without saying."""
    if tool.effect == "read":
        # The other hints say something of tools that change something alone. Source: as above.
        said = {"readOnlyHint": True, "openWorldHint": tool.reaches_others}
        return {name: value for name, value in said.items() if value != _UNSAID[name]}
    said = {
        "destructiveHint": tool.effect == "destructive",
        # Sending twice posts twice unless a key is given, so only what reads or what knocks is safe to repeat.
        "idempotentHint": not any(each.needs_idempotency_key for each in tool.operations.values()),
        "openWorldHint": tool.reaches_others,
    }
    return {name: value for name, value in said.items() if value != _UNSAID[name]}


def takes_key(tool: Tool) -> bool:
    """Whether a caller may name the idempotency key itself."""
    return IDEMPOTENCY_ARGUMENT in tool.arguments


def resolve(tool: Tool, arguments: Mapping[str, Any]) -> Meaning:
    """What a call means. Raises `Refused(invalid_param)`, naming what is wrong and what is allowed."""
    given = {name: value for name, value in arguments.items() if value is not None}
    verb = ""
    if tool.default:
        verb = given.pop("action", tool.default) or tool.default
        if verb not in tool.operations:
            raise _refuse(tool, "action", f"action is one of: {', '.join(sorted(tool.operations))}.")
    operation = tool.operations[verb]
    # Two verbs may mean different parameters by one name.
    known = {each.name: each for each in sorted(tool.arguments, key=lambda each: not each.only or verb in each.only)}
    fields: dict[str, Any] = {}
    for name, value in given.items():
        argument = known.get(name)
        if argument is None:
            raise _refuse(tool, name, f"{tool.name} has no argument {_shown(name)}.")
        if value == "" and not argument.is_free and not argument.required:
            continue
        if value == [] and argument.kind == "lines":
            continue
        if value == [] and argument.kind == "strings":
            # Left out, a list of readers would show the message to everybody.
            raise _refuse(tool, name, f"{name} names nobody: name the agents who may see it, or leave it out.")
        if argument.only and verb not in argument.only:
            raise _refuse(tool, name, f"{name} goes with the action {' or '.join(argument.only)}.")
        worth = _value(tool, argument, value)
        if argument.spreads:
            fields |= {each: inner for each, inner in worth.items() if each not in fields}
        else:
            fields[argument.field or name] = worth
    for argument in tool.arguments:
        if argument.required and argument.name not in given:
            raise _refuse(tool, argument.name, f"{argument.name} is missing.")
        if argument.beside and fields.get(argument.name) and argument.beside not in fields:
            raise _refuse(tool, argument.name, f"{argument.name} goes with {argument.beside}.")
        if argument.most is not None:
            fields[argument.name] = min(fields.get(argument.name, argument.most), argument.most)
    offset = fields.pop("offset", 0)
    return Meaning(operation=operation, params=_params(tool, operation, fields), offset=offset)


def _params(tool: Tool, operation: Operation, fields: dict[str, Any]) -> Params:
    shape = tool.params or operation.params
    for name in fields:
        if name not in _accepted(shape):
            filled = _argument_of(tool, name)
            shown = _shown(name if filled is None else filled.name)
            raise _refuse(tool, shown, f"{shown} does not go with this action.")
    try:
        return msgspec.convert(fields, shape)
    except msgspec.ValidationError as error:
        raise _refuse(tool, "", _plainly(tool, shape, str(error))) from None


def _argument_of(tool: Tool, field: str) -> Argument | None:
    """The argument that fills this parameter; None for one that came as a member of an object."""
    return next((each for each in tool.arguments if field == (each.field or each.name)), None)


_MISSING: Final = re.compile(r"Object missing required field `(\w+)`")
_AT: Final = re.compile(r" - at `\$\.(\w+)")
_BOUND: Final = re.compile(r"Expected `int` (<=|>=) (-?\d+)")


def _plainly(tool: Tool, shape: type[Params], said: str) -> str:
    """What a validator says of a tool's parameters, in words for whoever made the call."""
    if missing := _MISSING.search(said):
        return f"{missing[1]} is missing."
    at = _AT.search(said)
    if at is None:
        return said
    argument, problem = _argument_of(tool, at[1]), said.partition(" - at ")[0]
    if argument is None:
        return f"{at[1]} is not valid: {problem}."
    if argument.rule:
        return argument.rule
    if bound := _BOUND.match(problem):
        return f"{argument.name} is {'at most' if bound[1] == '<=' else 'at least'} {bound[2]}."
    if problem.startswith("Invalid enum value") and (words := _words_of(shape, at[1])):
        return f"{argument.name} is one of: {', '.join(words)}."
    return f"{argument.name} is not valid: {problem}."


def _words_of(shape: type[Params], field: str) -> list[str]:
    """The words that a parameter takes, where it takes certain words alone."""
    (wanted,) = [each.type for each in msgspec.structs.fields(shape) if each.encode_name == field]
    about = msgspec.inspect.type_info(wanted)
    kinds = about.types if isinstance(about, msgspec.inspect.UnionType) else (about,)
    return [str(word) for kind in kinds if isinstance(kind, msgspec.inspect.LiteralType) for word in kind.values]


@cache
def _accepted(shape: type[Params]) -> frozenset[str]:
    return frozenset(field.encode_name for field in msgspec.structs.fields(shape))


def _value(tool: Tool, argument: Argument, value: Any) -> Any:
    name = argument.name
    if argument.kind == "json":
        return _json(tool, argument, value)
    if argument.kind == "string":
        if isinstance(value, int) and not isinstance(value, bool) and argument.is_number:
            value = str(value)
        if not isinstance(value, str):
            raise _refuse(tool, name, f"{name} is a string.")
        return (value,) if argument.is_list else value
    if argument.kind == "lines" and isinstance(value, str):
        return tuple(line.strip() for line in value.splitlines() if line.strip())
    if argument.kind in ("strings", "lines"):
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _refuse(tool, name, f"{name} is a list of strings.")
        return tuple(value)
    if argument.kind == "boolean":
        if not isinstance(value, bool):
            raise _refuse(tool, name, f"{name} is true or false.")
        return value
    # True is an int to Python and never a count to a caller; 45.0 is what some hosts make of 45.
    if isinstance(value, bool) or not isinstance(value, int | float) or value < argument.least or value != value // 1:
        raise _refuse(tool, name, f"{name} is a whole number, {argument.least} or more.")
    if argument.kind == "seconds":
        return min(int(value) * 1000, MAX_WAIT_MS)
    return int(value)


def _json(tool: Tool, argument: Argument, value: Any) -> Any:
    """What JSON says. A host may give it as a text, or as what the text says."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            if not argument.is_free:
                raise _refuse(tool, argument.name, f"{argument.name} is JSON.") from None
    if argument.spreads and not isinstance(value, dict):
        raise _refuse(tool, argument.name, f"{argument.name} is a JSON object.")
    return value


def _property(argument: Argument) -> dict[str, Any]:
    shape: dict[str, Any] = {"type": "string"}
    if argument.kind == "strings":
        shape = {"type": "array", "items": {"type": "string"}}
    elif argument.kind == "boolean":
        shape = {"type": "boolean"}
    elif argument.kind == "json":
        shape = {}
    elif argument.kind not in ("string", "lines"):
        shape = {"type": "integer"}
        if argument.least:
            # That a count is not negative needs no words.
            shape["minimum"] = argument.least
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
