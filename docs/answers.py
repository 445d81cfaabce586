"""What the tools answer, for `render`: examples of their results, written by the code that writes the real ones.

    Operation.answers -> mcp_server.tools.results -> mcp.md

Not here: the examples, which stand beside each operation's entry. Above: `render`. Invariant: the mark of the fence is
always the same, so the page changes only when the text of an answer changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from mcp_server.fence import Fencer
from mcp_server.tools.results import Scribe
from parlerd.operations import samples
from parlerd.operations import types as t
from parlerd.operations.tools import Tool

MARK: Final = "4k0m9t2x"


def answers(tool: Tool) -> Iterator[str]:
    """The lines of a page that show how a tool answers."""
    for verb, operation in sorted(tool.operations.items()):
        which = "An answer" if len(operation.answers) == 1 else "Answers"
        yield f"{which} to `{verb}`:" if verb else f"{which}:"
        for answer in operation.answers:
            yield from ("", "```text", _written(msgspec.convert(answer, operation.result)).rstrip("\n"), "```")
        yield ""


def _written(result: t.Result) -> str:
    scribe = Scribe(Fencer(lambda: MARK))
    scribe.met.add(samples.ROOM)
    return scribe.write(result).text
