"""What the local door needs of the engine, and of whoever serves windows: two faces and no code.

The daemon passes the engine and the MCP session in. So this package imports neither the session nor the MCP library,
and tests pass in small fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.wire.messages import Hello


class Posting(Protocol):
    """An operation that was begun."""

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the line move, and call `then` on the loop once the outcome is known; it must not raise."""
        ...

    def outcome(self) -> t.Result:
        """Its result, once it is durable. Raises `ParlerError`."""
        ...


class EngineFace(Protocol):
    """The engine, as a door sees it. Every method may raise `ParlerError`."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Run an operation. Cancelled when the caller withdraws or goes away."""
        ...

    def begin(self, op: str, params: t.Params, caller: Caller) -> Posting | None:
        """Begin an operation that only needs a place in a line; None for one that must be called."""
        ...

    def stream(self, op: str, params: t.Params, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        """Follow an operation, in the task that iterates; the end of it is the stream's orderly end."""
        ...

    async def connect(self, caller: Caller) -> None:
        """A connection began. Called once, before anything else of this caller."""
        ...

    async def disconnect(self, caller: Caller) -> None:
        """It ended. Called once, last, also when `connect` failed half way."""
        ...

    async def acknowledge_shown(self, caller: Caller) -> None:
        """What the last page of this window showed has reached its host."""
        ...


Say = Callable[[bytes], Awaitable[None]]
"""Send one line to the host of a window. The call waits while too many bytes wait to be sent."""
StdioHost = Callable[[Hello, Caller, AsyncIterator[bytes], Say], Awaitable[None]]
"""Serve one window: the lines of its host come in, and lines for it go out. Returning ends the connection; when the
incoming lines end, the host has closed its stdin or the shim is gone."""
