"""What the daemon asks of an agent host: requests of ours on one connection, and the answers to them.

Only the handshake era has such requests. Not here: what is asked (`forms`, `session`). Above: `session`. Invariant:
requests of ours carry ids that no other connection ever used, so that an answer to a form that was open before a
restart can never answer a new one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

Message = dict[str, Any]

WITHDRAW_S: Final = 1.0
"""For telling a host that its answer is not wanted any more, while the call that asked is being cancelled."""


class _Question:
    """A request of ours that has no answer yet."""

    def __init__(self) -> None:
        self.answered = trio.Event()
        self.result: Message | None = None


class Asking:
    """The requests of ours on one connection. `session` is the connection's id, `send` writes a message to the host."""

    def __init__(self, session: str, send: Callable[[Message], Awaitable[None]]) -> None:
        # What the ids of our requests begin with, and how many there were.
        self._prefix = f"parler-{session}-"
        self._count = 0
        self._send = send
        # The requests without an answer, by id.
        self._open: dict[str, _Question] = {}

    async def ask(self, method: str, params: Message | None = None) -> Message | None:
        """The result of a request; None when the host refused it or answered with something else. A request that is
        cancelled is withdrawn at the host."""
        self._count += 1
        id = f"{self._prefix}{self._count}"
        question = self._open[id] = _Question()
        request: Message = {"jsonrpc": "2.0", "id": id, "method": method}
        try:
            await self._send(request if params is None else {**request, "params": params})
            await question.answered.wait()
        except trio.Cancelled:
            withdrawn = {"requestId": id, "reason": "caller cancelled"}
            with trio.move_on_after(WITHDRAW_S, shield=True):
                await self._send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": withdrawn})
            raise
        finally:
            del self._open[id]
        return question.result

    def answered(self, message: Message) -> None:
        """Take an answer of the host. One to a request that is not open here is nothing."""
        id = message.get("id")
        question = self._open.get(id) if isinstance(id, str) else None
        if question is None:
            return
        result = message.get("result")
        # An answer that says nothing decides nothing, at once: nobody waits for a better one.
        question.result = result if isinstance(result, dict) and "error" not in message else None
        question.answered.set()
