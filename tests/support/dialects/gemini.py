"""Gemini's generateContent: turns of parts, the results of tools among them.

Source: the public description of the Gemini API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.support.dialects.blocks import STREAM, Block, Reply, Request, document, text_of, tokens_of


def read(body: Mapping[str, Any]) -> Request:
    users, results = [], []
    for turn in body.get("contents", ()):
        for part in turn["parts"] if turn.get("role") == "user" else ():
            if "functionResponse" in part:
                results.append(_result(part["functionResponse"]["response"]))
            elif "text" in part:
                users.append(part["text"])
    tools = {
        each["name"]: each.get("description", "")
        for tool in body.get("tools") or ()
        for each in tool.get("functionDeclarations", ())
    }
    system = text_of((body.get("systemInstruction") or {}).get("parts"))
    return Request(tools, system, users, results, body)


def _result(response: Mapping[str, Any]) -> str:
    known = next((response[name] for name in ("output", "error") if isinstance(response.get(name), str)), None)
    return json.dumps(response) if known is None else known


def render(blocks: Sequence[Block], body: Mapping[str, Any], path: str) -> Reply:
    del body
    candidate = {"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [_part(b) for b in blocks]}}
    tokens = tokens_of(blocks)
    usage = {"promptTokenCount": tokens, "candidatesTokenCount": 1, "totalTokenCount": tokens + 1}
    whole = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "scripted"}
    if path.endswith(":streamGenerateContent"):
        return Reply(STREAM, f"data: {json.dumps(whole)}\n\n".encode())
    return document(whole)


def _part(block: Block) -> dict[str, Any]:
    if block.tool:
        return {"functionCall": {"id": block.id, "name": block.tool, "args": dict(block.arguments)}}
    return {"text": block.text}
