"""Tool calls that need nothing of the host but its request: answered without the MCP library.

Through the library a call passes some ten tasks and four model conversions, 0.6 ms of the 2 ms in which a waiting agent
is to be woken. Not here: tools that show the person a form, and windows whose client must name its roots first; those
go through `sdk`, and both end in the same `Window`. Above: `session`. Invariant: a call is answered once, or not at all
when the host withdrew it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from mcp_server.window import RequestId, Window
from parlerd.operations.tools import TOOLS, AskApproval

_FORMLESS: Final = frozenset(name for name, tool in TOOLS.items() if tool.params is not AskApproval)


class NoForm:
    """A host that is asked nothing: `_FORMLESS` tools never look."""

    offered = False

    async def ask_code(self, message: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return None


_NO_FORM: Final = NoForm()


class Calls:
    """The calls of one window that are under way here."""

    def __init__(self, window: Window, answer: Callable[[RequestId, bytes], Awaitable[None]]) -> None:
        self._window = window
        self._answer = answer
        self._scopes: dict[RequestId, trio.CancelScope] = {}

    def takes(self, id: RequestId, params: object) -> bool:
        """Whether `run` can answer this `tools/call`; anything irregular is the library's to refuse."""
        if not isinstance(params, dict) or id in self._scopes:
            return False
        name, arguments = params.get("name"), params.get("arguments", {})
        return isinstance(name, str) and name in _FORMLESS and isinstance(arguments, dict)

    async def run(self, id: RequestId, params: dict[str, Any]) -> None:
        """Answer a call that `takes` accepted."""
        with trio.CancelScope() as scope:
            self._scopes[id] = scope
            try:
                answer = await self._window.call_tool(id, params["name"], params.get("arguments", {}), _NO_FORM)
            finally:
                del self._scopes[id]
            result = {
                "content": [{"type": "text", "text": answer.text}],
                "structuredContent": answer.content,
                "isError": answer.is_error,
            }
            await self._answer(id, msgspec.json.encode(result))
            self._window.settled(id, written=True)

    def withdraw(self, id: RequestId) -> None:
        """The host does not want the answer any more. Unknown or answered ids are nothing."""
        scope = self._scopes.get(id)
        if scope is not None:
            scope.cancel()
