"""Tool calls that need nothing of the host but its request: answered without the MCP library.

Through the library a call passes some ten tasks and four model conversions, 0.6 ms of the 2 ms in which a waiting agent
is to be woken. A host that wants to hear of progress hears of it from here, because some hosts give up a call that is
silent for a minute. Not here: tools that show the person a form, and windows whose client must name its roots first;
those go through `sdk`, and both end in the same `Window`. Above: `session`. Invariant: a call is answered once, or not
at all when the host withdrew it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from mcp_server.window import Answer, RequestId, Window
from parlerd.operations import types as t
from parlerd.operations.tools import TOOLS

_FORMLESS: Final = frozenset(name for name, tool in TOOLS.items() if tool.params is not t.AskApproval)


class NoForm:
    """A host that is asked nothing: `_FORMLESS` tools never look."""

    offered = False

    async def ask_code(self, message: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return None


_NO_FORM: Final = NoForm()


PROGRESS_SECONDS: Final = 10.0
"""Between two words of progress. Source: MCP spec, Waits."""


HELD: Final = 8 * 1024 * 1024
"""Bytes of requests of one window that are under way at once; what they are taken apart into is a few times that."""
LEAST: Final = 16 * 1024
"""What the smallest request counts for: its answer may wait for a host that does not read."""


class Held:
    """What a window's requests hold until their answers are on their way. Past the bound no more lines are read, which
    holds back that host alone; whatever is under way ends without another line of it, or ends the window."""

    def __init__(self) -> None:
        self._sizes: dict[RequestId, int] = {}
        self._bytes = 0
        self._freed = trio.Event()

    async def room_for(self, size: int) -> None:
        """Wait until a line of so many bytes may be taken in; a larger one than all is taken in alone."""
        while self._bytes and self._bytes + size > HELD:
            self._freed = trio.Event()
            await self._freed.wait()

    def take(self, id: RequestId, size: int) -> None:
        """A request is under way."""
        size = max(size, LEAST)
        self._sizes[id] = self._sizes.get(id, 0) + size
        self._bytes += size

    def free(self, id: RequestId) -> None:
        """It was answered, or nobody wants the answer. Safe to repeat."""
        self._bytes -= self._sizes.pop(id, 0)
        self._freed.set()


class Calls:
    """The calls of one connection that are under way here. `answer` sends a result, `progress` a progress token and how
    many times it was told."""

    def __init__(
        self,
        answer: Callable[[RequestId, bytes], Awaitable[None]],
        progress: Callable[[str | int, int], Awaitable[None]],
    ) -> None:
        self._answer = answer
        self._progress = progress
        self._scopes: dict[RequestId, trio.CancelScope] = {}

    def takes(self, id: RequestId, params: object) -> bool:
        """Whether `run` can answer this `tools/call`; anything irregular is the library's to refuse."""
        if not isinstance(params, dict) or id in self._scopes:
            return False
        name, arguments = params.get("name"), params.get("arguments", {})
        return isinstance(name, str) and name in _FORMLESS and isinstance(arguments, dict)

    async def run(self, id: RequestId, params: dict[str, Any], window: Window) -> None:
        """Answer a call that `takes` accepted, for one of the connection's conversations."""
        token = _progress_token(params) if window.traits.progress else None
        with trio.CancelScope() as scope:
            self._scopes[id] = scope
            try:
                if token is None:
                    answer = await self._call(id, params, window)
                else:
                    answer = await self._call_telling(id, params, window, token)
            finally:
                del self._scopes[id]
            result = {"content": [{"type": "text", "text": answer.text}], "isError": answer.is_error}
            await self._answer(id, msgspec.json.encode(result))
        # Withdrawn in the very moment of its answer: the host drops that.
        window.settled(id, written=not scope.cancel_called)

    async def _call(self, id: RequestId, params: dict[str, Any], window: Window, *, progress: bool = False) -> Answer:
        return await window.call_tool(id, params["name"], params.get("arguments", {}), _NO_FORM, progress=progress)

    async def _call_telling(self, id: RequestId, params: dict[str, Any], window: Window, token: str | int) -> Answer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, token)
            answer = await self._call(id, params, window, progress=True)
            nursery.cancel_scope.cancel()
        return answer

    async def _tell(self, token: str | int) -> None:
        times = 0
        while True:
            await trio.sleep(PROGRESS_SECONDS)
            times += 1
            await self._progress(token, times)

    def withdraw(self, id: RequestId) -> None:
        """The host does not want the answer any more. Unknown or answered ids are nothing."""
        scope = self._scopes.get(id)
        if scope is not None:
            scope.cancel()


def _progress_token(params: dict[str, Any]) -> str | int | None:
    """What the host wants to hear of progress by."""
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None
