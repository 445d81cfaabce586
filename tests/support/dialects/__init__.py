"""What a model is asked and what it answers, in the words of four makers: one module each, with the same face.

    read(body)             what the model sees of a request
    render(blocks, ...)    what it says, as the body of the answer

`blocks` has the shapes that stand between; `of(path)` finds the dialect of a request by where it was sent. Not here:
the server (`model_server`) and what a model says (the tests).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from tests.support.dialects import chat, gemini, messages, responses
from tests.support.dialects.blocks import Block, Reply, Request


class Dialect(Protocol):
    """One way to talk with a model."""

    def read(self, body: Mapping[str, Any]) -> Request:
        """The request as the model sees it."""

    def render(self, blocks: Sequence[Block], body: Mapping[str, Any], path: str) -> Reply:
        """These blocks as the answer to that request."""


_BY_END: Final[tuple[tuple[str, Dialect], ...]] = (
    ("/messages", messages),
    ("/chat/completions", chat),
    ("/responses", responses),
    (":generateContent", gemini),
    (":streamGenerateContent", gemini),
)


def of(path: str) -> Dialect | None:
    """The dialect that is spoken at a path, without its query; None when none is."""
    return next((dialect for end, dialect in _BY_END if path.endswith(end)), None)
