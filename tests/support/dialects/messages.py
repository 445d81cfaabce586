"""Anthropic's Messages: one request a turn, an answer as a message or as a stream of events.

Source: the public description of the Messages API and its streaming events.
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
    users, results = [], []
    for message in body.get("messages", ()):
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts if message["role"] == "user" else ():
            if part["type"] == "tool_result":
                results.append(text_of(part.get("content")))
            elif part["type"] == "text":
                users.append(part["text"])
    tools = {tool["name"]: tool.get("description", "") for tool in body.get("tools", ())}
    return Request(tools, text_of(body.get("system")), users, results, body)


def render(blocks: Sequence[Block], body: Mapping[str, Any], path: str) -> Reply:
    del path
    if body.get("stream"):
        return Reply(STREAM, b"".join(_events(blocks)))
    return document(_message(blocks, _reason(blocks), tokens_of(blocks)))


def _reason(blocks: Sequence[Block]) -> str:
    return "tool_use" if any(block.tool for block in blocks) else "end_turn"


def _message(blocks: Sequence[Block], reason: str | None, tokens: int) -> dict[str, Any]:
    return {
        "id": reply_id("msg_"),
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": [_content(block) for block in blocks],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": tokens, "output_tokens": 1},
    }


def _content(block: Block) -> dict[str, Any]:
    if block.tool:
        return {"type": "tool_use", "id": block.id, "name": block.tool, "input": dict(block.arguments)}
    return {"type": "text", "text": block.text}


def _events(blocks: Sequence[Block]) -> Iterator[bytes]:
    yield _event({"type": "message_start", "message": _message((), None, tokens_of(blocks))})
    for index, block in enumerate(blocks):
        if block.tool:
            start = {**_content(block), "input": {}}
            delta = {"type": "input_json_delta", "partial_json": arguments_of(block)}
        else:
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block.text}
        yield _event({"type": "content_block_start", "index": index, "content_block": start})
        yield _event({"type": "content_block_delta", "index": index, "delta": delta})
        yield _event({"type": "content_block_stop", "index": index})
    end = {"stop_reason": _reason(blocks), "stop_sequence": None}
    yield _event({"type": "message_delta", "delta": end, "usage": {"output_tokens": 1}})
    yield _event({"type": "message_stop"})


def _event(data: Mapping[str, Any]) -> bytes:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
