"""What an MCP session needs of the engine: a face without code.

`parlerd.engine.engine.Engine` is the real engine; tests pass a small fake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import trio

from parlerd.core.model import RoomId
from parlerd.engine.callers import Caller
from parlerd.engine.readers import NOTHING, Said
from parlerd.operations import types as t

Say = Callable[[bytes], Awaitable[None]]
"""Send one line to the host. It waits while too much is on its way there."""


class EnginePort(Protocol):
    """The engine as a session sees it. Every method may raise `ParlerError`."""

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Run an operation."""
        ...

    async def acknowledge_shown(self, caller: Caller) -> None:
        """The window made its next call: the pages that the host has are acknowledged."""
        ...

    async def notice(self, caller: Caller, said: Said = NOTHING) -> str:
        """One line when something changed for this caller's agent, else ''. Names and counts only. What the answer that
        the line goes with `said` itself is not in it."""
        ...

    async def connect(self, caller: Caller) -> None:
        """A further conversation of a window is there."""
        ...

    async def disconnect(self, caller: Caller) -> None:
        """A conversation that was connected ended with its window."""
        ...

    def introduce(self, caller: Caller, host: str) -> None:
        """The window says which host it is of, before it acts as anybody."""
        ...

    async def find_request(self, params: t.DecideJoin, caller: Caller) -> tuple[t.RequestInfo, bool]:
        """The request a form would be about, and whether the room lets its owner decide without a person."""
        ...

    async def decide_by_form(self, params: t.DecideJoin, caller: Caller, *, admit: bool) -> t.Decided:
        """Carry out what a person typed into a form. The engine checks the code and who owns the room."""
        ...

    def changes(self, caller: Caller) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[RoomId]]:
        """Room ids as something this caller may see is posted in them; nothing posted after it was entered is missed.

        Raises `ParlerError` when it is entered or left.
        """
        ...
