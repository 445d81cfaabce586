"""What stands between the dialects: a request as the model sees it, and the blocks of an answer.

Not here: how a dialect writes them (its own module).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

_NUMBERS: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of an answer: `text`, or the call of a `tool` with `arguments`. `space` is the name space of the tool,
    in the one dialect that has them. `tokens` is how many the server says were in the request that a block answers: a
    host that sees many makes a summary of the conversation."""

    text: str = ""
    tool: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    space: str = ""
    id: str = field(default_factory=lambda: f"call_{next(_NUMBERS)}")
    """Of a call. It differs from those of all turns before, or a host takes the call for one of them."""
    tokens: int = 1


def says(text: str) -> Block:
    """A piece of text."""
    return Block(text=text)


def calls(tool: str, **arguments: Any) -> Block:
    """A call of a tool by the name that the host gives it."""
    return Block(tool=tool, arguments=arguments)


class Request(NamedTuple):
    """What a model sees of a request.

    `tools` has the description of each tool that is offered, by name (`space.name` where there are name spaces);
    `results` the text of every tool result of the conversation in order, as it was received; `users` what was said to
    the model as the user. `raw` is the request itself.
    """

    tools: Mapping[str, str]
    system: str
    users: Sequence[str]
    results: Sequence[str]
    raw: Mapping[str, Any]


class Reply(NamedTuple):
    """The body of an answer, and its media type."""

    kind: str
    data: bytes


STREAM: Final = "text/event-stream"
JSON: Final = "application/json"


def reply_id(prefix: str) -> str:
    """The id of one reply. Makers give each its own, and hosts tell replies apart by that."""
    return f"{prefix}{next(_NUMBERS)}"


def document(body: Mapping[str, Any]) -> Reply:
    """An answer in one piece."""
    return Reply(JSON, json.dumps(body).encode())


def arguments_of(block: Block) -> str:
    """The arguments of a call as the JSON text that several dialects carry."""
    return json.dumps(block.arguments)


def tokens_of(blocks: Sequence[Block]) -> int:
    """What the server says of the length of the request that these blocks answer."""
    return max((block.tokens for block in blocks), default=1)


def text_of(content: Any) -> str:
    """The text in a content that is a string, a part, or a list of parts; other kinds of parts are left out."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return text_of(content.get("text") or "")
    return "".join(map(text_of, content or ()))
