"""The engine's face: everything that a surface may ask of it. There is one for all of them, and no code here.

`parlerd.engine.engine.Engine` is the real one. The doors (`parlerd.ipc`, `mcp_server`) are built against this, and
tests pass small fakes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from parlerd.engine.callers import Caller
from parlerd.operations import types as t


class Pending(Protocol):
    """An operation that was begun."""

    def when_done(self, then: Callable[[], None]) -> None:
        """Let the line move, and call `then` on the loop once the outcome is known; it must not raise."""
        ...

    def outcome(self) -> t.Result:
        """Its result, once it is durable. Raises `ParlerError`."""
        ...


class Outlet(Protocol):
    """Where items of a stream may go past its task, while that task waits: see `EngineFace.stream`."""

    @property
    def is_ready(self) -> bool:
        """Whether the reader takes one more item now, and few bytes wait for it."""
        ...

    def give(self, item: bytes) -> None:
        """Send one item, encoded, after all that was sent before. Only while `is_ready`."""
        ...


class EngineFace(Protocol):
    """The engine, as every surface sees it. Every method may raise `ParlerError`."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Run an operation. Cancelled when the caller withdraws or goes away."""
        ...

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        """Begin an operation that only needs a place in a line; None for one that must be called."""
        ...

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        """Follow an operation, in the task that iterates; the end of it is the stream's orderly end. While that task
        waits for the next item, items may be given to `outlet` instead."""
        ...

    async def connect(self, caller: Caller) -> None:
        """A connection began, or one more conversation of a window. Called once, before anything else of this
        caller."""
        ...

    async def disconnect(self, caller: Caller) -> None:
        """It ended. Called once, last, also when `connect` failed half way."""
        ...
