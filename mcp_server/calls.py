"""Tool calls: each is checked, answered by its conversation's window, and told of while it waits.

    session --tools/call--> Calls -> Window.call_tool -> one answer, or none when the host withdrew the call

They do not pass the MCP library. Through it a call takes some ten tasks and four model conversions, 0.6 ms of the 2 ms
in which a waiting agent is to be woken. A host that wants to hear of progress hears of it from here, because some hosts
give up a call that is silent for a minute. Not here: what a tool does (`window`), forms (`forms`). Above: `session`.
Invariant: a call is answered once, or not at all when the host withdrew it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from mcp_server import static
from mcp_server.forms import AnswerForm, Form
from mcp_server.repeats import CallId
from mcp_server.window import Answer, Window
from parlerd.operations.tools import TOOLS

PROGRESS_SECONDS: Final = 10.0
"""Between two words of progress. Source: MCP spec, Waits."""
HELD: Final = 8 * 1024 * 1024
"""Bytes of requests of one window that are under way at once; what they are taken apart into is a few times that."""
LEAST: Final = 16 * 1024
"""What the smallest request counts for: its answer may wait for a host that does not read."""


class Held:
    """What a window's requests hold until their answers are on their way. Past the bound no more lines are read, which
    holds back that host alone; what is under way ends without another line from the host, or ends the window."""

    def __init__(self) -> None:
        # The bytes of each request that is under way, and of all together.
        self._sizes: dict[CallId, int] = {}
        self._bytes = 0
        # Set when bytes became free; a waiting reader makes a new one before each wait.
        self._freed = trio.Event()

    async def room_for(self, size: int) -> None:
        """Wait until a line of so many bytes may be taken in; a line above the bound is taken in alone."""
        while self._bytes and self._bytes + size > HELD:
            self._freed = trio.Event()
            await self._freed.wait()

    def take(self, id: CallId, size: int) -> None:
        """A request is under way."""
        size = max(size, LEAST)
        self._sizes[id] = self._sizes.get(id, 0) + size
        self._bytes += size

    def free(self, id: CallId) -> None:
        """The request was answered, or nobody wants the answer. Safe to repeat."""
        self._bytes -= self._sizes.pop(id, 0)
        self._freed.set()


def fault_of(params: object) -> str:
    """What is wrong with the parameters of a `tools/call`, in the library's words where it would refuse them; '' when
    they can be answered."""
    if not isinstance(params, dict) or not isinstance(params.get("name"), str):
        return "Invalid request parameters"
    if not isinstance(params.get("arguments"), dict | None) or not isinstance(params.get("_meta"), dict | None):
        return "Invalid request parameters"
    if params["name"] not in TOOLS:
        return f"Unknown tool. The tools are: {', '.join(TOOLS)}"
    return ""


class _Running:
    """A call under way: `scope` cancels it, unless `is_answered` says that its answer is being written."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.is_answered = False


class Calls:
    """The calls of one connection that are under way. `answer` sends a result with the stamp that the envelope era adds
    to it, `progress` a progress token and how many times it was told."""

    def __init__(
        self,
        answer: Callable[[CallId, bytes, str], Awaitable[None]],
        progress: Callable[[CallId, int], Awaitable[None]],
    ) -> None:
        self._answer = answer
        self._progress = progress
        # By id; more than one where a host gives the same id to two calls, which the protocol forbids.
        self._running: dict[CallId, list[_Running]] = {}

    async def run(self, id: CallId, params: dict[str, Any], window: Window, form: Form) -> None:
        """Answer a call in which `fault_of` found nothing, for one of the connection's conversations."""
        call = _Running()
        running = self._running.setdefault(id, [])
        running.append(call)
        try:
            with call.scope:
                answer = await self._call(id, params, window, form)
                call.is_answered = True
                if isinstance(form, AnswerForm) and form.required is not None:
                    await self._answer(id, msgspec.json.encode(form.required), static.REQUIRED_STAMP)
                else:
                    result = {"content": [{"type": "text", "text": answer.text}], "isError": answer.is_error}
                    await self._answer(id, msgspec.json.encode(result), static.RESULT_STAMP)
            # A host that withdraws a call in the very moment of its answer drops the answer.
            window.settled(id, written=not call.scope.cancel_called)
        finally:
            running.remove(call)
            if not running:
                del self._running[id]

    async def _call(self, id: CallId, params: dict[str, Any], window: Window, form: Form) -> Answer:
        name, arguments = params["name"], params.get("arguments") or {}
        token = _progress_token(params) if window.traits.progress else None
        meta = params.get("_meta") or {}
        if token is None:
            return await window.call_tool(id, name, arguments, form, meta=meta)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell, token)
            answer = await window.call_tool(id, name, arguments, form, progress=True, meta=meta)
            nursery.cancel_scope.cancel()
        return answer

    async def _tell(self, token: CallId) -> None:
        times = 0
        while True:
            await trio.sleep(PROGRESS_SECONDS)
            times += 1
            await self._progress(token, times)

    def withdraw(self, id: CallId) -> bool:
        """The host does not want the answer any more. Whether a call of this id is under way here."""
        running = self._running.get(id, [])
        for call in running:
            if not call.is_answered:
                call.scope.cancel()
        return bool(running)


def _progress_token(params: dict[str, Any]) -> CallId | None:
    """The token under which the host wants to hear of progress; None when it does not."""
    meta = params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None
