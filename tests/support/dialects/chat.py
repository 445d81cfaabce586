"""OpenAI's Chat Completions, which most hosts speak to a server of somebody's own.

Source: the public description of the Chat Completions API and its streaming chunks.
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
    by_role: dict[str, list[str]] = {}
    for message in body.get("messages", ()):
        by_role.setdefault(message["role"], []).append(text_of(message.get("content")))
    functions = [tool["function"] for tool in body.get("tools") or () if "function" in tool]
    tools = {each["name"]: each.get("description", "") for each in functions}
    system = "\n".join((*by_role.get("system", ()), *by_role.get("developer", ())))
    return Request(tools, system, by_role.get("user", []), by_role.get("tool", []), body)


def render(blocks: Sequence[Block], body: Mapping[str, Any], path: str) -> Reply:
    del path
    if body.get("stream"):
        return Reply(STREAM, b"".join(_chunks(blocks, body)))
    message: dict[str, Any] = {"role": "assistant", "content": _text(blocks)}
    if made := _calls(blocks):
        message["tool_calls"] = made
    choice = {"index": 0, "message": message, "finish_reason": _reason(blocks)}
    return document({**_head(body), "object": "chat.completion", "choices": [choice], "usage": _usage(blocks)})


def _chunks(blocks: Sequence[Block], body: Mapping[str, Any]) -> Iterator[bytes]:
    head = {**_head(body), "object": "chat.completion.chunk"}

    def chunk(delta: Mapping[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return f"data: {json.dumps({**head, 'choices': [choice]})}\n\n".encode()

    yield chunk({"role": "assistant", "content": _text(blocks)})
    for index, call in enumerate(_calls(blocks)):
        yield chunk({"tool_calls": [{"index": index, **call}]})
    yield chunk({}, _reason(blocks))
    yield f"data: {json.dumps({**head, 'choices': [], 'usage': _usage(blocks)})}\n\n".encode()
    yield b"data: [DONE]\n\n"


def _usage(blocks: Sequence[Block]) -> dict[str, int]:
    tokens = tokens_of(blocks)
    return {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}


def _head(body: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": reply_id("chatcmpl-"), "created": 1, "model": body.get("model", "scripted")}


def _text(blocks: Sequence[Block]) -> str:
    return "".join(block.text for block in blocks)


def _calls(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    return [
        {"id": block.id, "type": "function", "function": {"name": block.tool, "arguments": arguments_of(block)}}
        for block in blocks
        if block.tool
    ]


def _reason(blocks: Sequence[Block]) -> str:
    return "tool_calls" if any(block.tool for block in blocks) else "stop"
