"""OpenAI's Responses: the conversation is a list of items, and tools may stand in name spaces.

Source: the public description of the Responses API and its streaming events; name spaces as Codex sends them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.dialects.blocks import (
    STREAM,
    Block,
    Reply,
    Request,
    arguments_of,
    document,
    reply_id,
    text_of,
    tokens_of,
)


def read(body: Mapping[str, Any]) -> Request:
    users, results, system = [], [], [text_of(body.get("instructions"))]
    items = body.get("input", ())
    for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
        kind = item.get("type", "message")
        if kind in ("function_call_output", "custom_tool_call_output"):
            results.append(_output(item["output"]))
        elif kind == "tool_search_output":
            results.append(json.dumps(item["tools"]))
        elif kind == "message" and item["role"] == "user":
            users.append(text_of(item["content"]))
        elif kind == "message" and item["role"] in ("system", "developer"):
            system.append(text_of(item["content"]))
    return Request(dict(_tools(body.get("tools") or ())), "\n".join(system), users, results, body)


def _output(output: Any) -> str:
    # The parts of an output are shown as items of their own.
    return output if isinstance(output, str) else "\n".join(map(text_of, output))


def _tools(tools: Sequence[Mapping[str, Any]], space: str = "") -> Iterator[tuple[str, str]]:
    for tool in tools:
        if tool["type"] == "namespace":
            yield from _tools(tool["tools"], f"{tool['name']}.")
        else:
            yield space + tool.get("name", tool["type"]), tool.get("description", "")


def render(blocks: Sequence[Block], body: Mapping[str, Any], path: str) -> Reply:
    del path
    id = reply_id("resp_")
    whole = _response(blocks, "completed", body, id)
    return Reply(STREAM, b"".join(_events(blocks, whole, body, id))) if body.get("stream") else document(whole)


def _response(blocks: Sequence[Block], status: str, body: Mapping[str, Any], id: str) -> dict[str, Any]:
    tokens = tokens_of(blocks)
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": id,
        "object": "response",
        "created_at": 1,
        "model": body.get("model", "scripted"),
        "status": status,
        "output": [_item(block) for block in blocks],
        "usage": {**usage, **details},
    }


def _item(block: Block) -> dict[str, Any]:
    if block.tool == "tool_search":
        # The one tool that is part of the dialect.
        return {
            "type": "tool_search_call",
            "call_id": block.id,
            "execution": "client",
            "status": "completed",
            "arguments": dict(block.arguments),
        }
    if block.tool:
        named = {"name": block.tool, **({"namespace": block.space} if block.space else {})}
        return {
            "type": "function_call",
            "id": f"fc_{block.id}",
            "call_id": block.id,
            "status": "completed",
            **named,
            "arguments": arguments_of(block),
        }
    return {
        "type": "message",
        "id": f"msg_{block.id}",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": block.text, "annotations": []}],
    }


def _events(blocks: Sequence[Block], whole: Mapping[str, Any], body: Mapping[str, Any], id: str) -> Iterator[bytes]:
    yield _event("response.created", response=_response((), "in_progress", body, id))
    for index, block in enumerate(blocks):
        item = _item(block)
        yield _event("response.output_item.added", output_index=index, item=item)
        if block.text:
            place = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield _event("response.output_text.delta", **place, delta=block.text)
        elif item["type"] == "function_call":
            place = {"item_id": item["id"], "output_index": index}
            yield _event("response.function_call_arguments.delta", **place, delta=item["arguments"])
            yield _event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        yield _event("response.output_item.done", output_index=index, item=item)
    yield _event("response.completed", response=whole)


def _event(type: str, **data: Any) -> bytes:
    return f"event: {type}\ndata: {json.dumps({'type': type, **data})}\n\n".encode()
