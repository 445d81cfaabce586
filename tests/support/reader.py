"""What a careful model does with the text of a result that a host gave it: the calls that the text names, as calls.

Hosts put words of their own around a text. Not here: taking the text apart (`mcp_server.heard`), where it came from
(`model_server`).
"""

from __future__ import annotations

import re
from typing import Final

from mcp_server.heard import hear
from parlerd.core.errors import ERRORS
from tests.support.dialects.blocks import Block, calls

_ERROR: Final = re.compile(r"(?:^|\W)([a-z_]+): ")


def named_calls(text: str) -> list[Block]:
    """The calls that our lines write out with their arguments, in order."""
    return [calls(tool, **arguments) for tool, arguments in hear(text).calls]


def next_read(text: str) -> Block | None:
    """The call that brings what is there already; None when nothing more is. One that waits is none of these."""
    reads = (call for call in named_calls(text) if call.tool == "parler_recv" and "wait_secs" not in call.arguments)
    return next(reads, None)


def error_in(text: str) -> str | None:
    """The code of the error that our lines say, wherever in a line the host left it; None when they say none."""
    return next((code for code in _ERROR.findall(hear(text).said) if code in ERRORS), None)


def brought_nothing(text: str) -> bool:
    """Whether a read brought neither a message nor word of anything else."""
    heard = hear(text)
    return not heard.parts and "Nothing new." in heard.said and not heard.news


def key_in(text: str) -> str:
    """The key of the session that the text says was opened."""
    key = hear(text).session_key
    assert key, text
    return key
