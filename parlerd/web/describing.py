"""Makes the OpenAPI description of the contract of today from the registry.

    python -m parlerd.web.describing             writes it into `contracts`, where those of earlier contracts stand too
    python -m parlerd.web.describing --freeze    notes that nothing of it changes any more, in `contracts/frozen.txt`

A test fails while the file of the contract of today is old, and while a frozen file is another than it was. What
changes then needs a new date (`operations.contracts`), and the contract before is served beside it.

Not here: serving it (`app`). Below: the registry, msgspec's schemas, which a running daemon does not load
(`parlerd.lean`). Invariants: the same registry gives the same bytes; a frozen file is never written.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any, Final

import msgspec

from parlerd.operations import types as t
from parlerd.operations.contracts import CONTRACT
from parlerd.web.description import contract_file, served, summary_of

_FILES: Final = ("blob.put", "blob.get")
_REF: Final = "#/components/schemas/{name}"
FROZEN: Final = contract_file("frozen").with_suffix(".txt")
"""Which contracts are frozen, each with the SHA-256 of its file."""
_EVENTS: Final = (t.Message, t.StateChange, t.BoardTask, t.WatchItem, t.RequestInfo, t.RosterMember, t.Resync)
"""What an event of a room holds."""
STATUSES: Final = (400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 417, 421, 426, 429, 431, 500, 503, 505, 507)
"""What may be answered beside what was asked for, the door's own answers among them."""


def openapi() -> dict[str, Any]:
    """The description as OpenAPI 3.1."""
    operations = served()
    shapes = [*(each.params for each in operations), *(each.result for each in operations), *_EVENTS]
    _, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    for shape in components.values():
        # It is the name under which the shape stands.
        shape.pop("title", None)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        assert operation.http is not None
        paths.setdefault(f"/v1{operation.http.path}", {})[operation.http.method.lower()] = _described(
            operation, components
        )
    components["Error"] = {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "action", "scope", "retryable", "request"],
                "properties": {
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                    "action": {"type": "string"},
                    "scope": {"type": "string"},
                    "retryable": {"type": "boolean"},
                    "retry_after_ms": {"type": ["integer", "null"]},
                    "hint": {"type": "string"},
                    "request": {"type": "string"},
                },
            }
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Parler", "version": CONTRACT, "description": "Rooms in which coding agents meet."},
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def _described(operation: t.Operation, components: dict[str, Any]) -> dict[str, Any]:
    assert operation.http is not None
    if operation.name in _FILES:
        return _file(operation)
    shape = components[operation.params.__name__]
    properties: dict[str, Any] = shape.get("properties", {})
    required = set(shape.get("required", ()))
    in_path = operation.http.fields
    is_query = operation.http.method in ("GET", "DELETE")
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in in_path
    ]
    others = {name: schema for name, schema in properties.items() if name not in (*in_path, "idempotency_key")}
    if operation.has_receipt:
        others["receipt"] = {"enum": ["text"]}
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": summary_of(operation),
        "x-access": operation.http.access,
        "responses": {
            **({} if operation.effect == "read" else {"201": _answer(operation)}),
            "200": _answer(operation),
            "default": _refusal(),
        },
    }
    if is_query:
        parameters += [
            {"name": name, "in": "query", "required": name in required, "schema": schema}
            for name, schema in others.items()
        ]
    elif others:
        body = {"type": "object", "properties": others, "additionalProperties": False}
        if needed := sorted(required - set(in_path) - {"idempotency_key"}):
            body["required"] = needed
        described["requestBody"] = {"required": bool(needed), "content": {"application/json": {"schema": body}}}
    if "idempotency_key" in properties:
        parameters.append({"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string"}})
    if parameters:
        described["parameters"] = parameters
    return described


def _file(operation: t.Operation) -> dict[str, Any]:
    """A call by which the bytes of a file come or go."""
    assert operation.http is not None
    binary = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    is_upload = operation.http.method == "PUT"
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": summary_of(operation),
        "x-access": operation.http.access,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in operation.http.fields
        ],
        "responses": {
            **({"201": _answer(operation)} if is_upload else {"200": {"description": summary_of(operation), **binary}}),
            "default": _refusal(),
        },
    }
    if is_upload:
        described["requestBody"] = {"required": True, **binary}
    return described


def _refusal() -> dict[str, Any]:
    return {
        "description": ", ".join(map(str, STATUSES)),
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="Error")}}},
    }


def _answer(operation: t.Operation) -> dict[str, Any]:
    media = "text/event-stream" if operation.stream else "application/json"
    schema: dict[str, Any] = {"$ref": _REF.format(name=operation.result.__name__)}
    if operation.result is t.WatchItem:
        # What is told of a room is told as the reads say it (`events`).
        schema = {"oneOf": [{"$ref": _REF.format(name=shape.__name__)} for shape in _EVENTS]}
    return {"description": summary_of(operation), "content": {media: {"schema": schema}}}


def generate() -> str:
    """The file of today's contract."""
    return json.dumps(openapi(), separators=(",", ":"), sort_keys=True) + "\n"


def frozen() -> dict[str, str]:
    """The SHA-256 of the file of each contract that is frozen, by its date."""
    lines = FROZEN.read_text(encoding="utf-8").splitlines()
    return {date: digest for date, _, digest in (line.partition("  ") for line in lines)}


def digest_of(contract: str) -> str:
    """The SHA-256 of the file of a contract."""
    return hashlib.sha256(contract_file(contract).read_bytes()).hexdigest()


def main(asked: list[str]) -> str | None:
    """Write the file of the contract of today, or freeze it; or say why that cannot be."""
    text = generate()
    if CONTRACT in frozen():
        is_same = contract_file(CONTRACT).read_text(encoding="utf-8") == text
        return None if is_same else f"The contract of {CONTRACT} is frozen. Give `operations.contracts` a new date."
    contract_file(CONTRACT).write_text(text, encoding="utf-8")
    if asked == ["--freeze"]:
        with FROZEN.open("a", encoding="utf-8") as file:
            file.write(f"{CONTRACT}  {digest_of(CONTRACT)}\n")
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
