"""An engine whose calls wait no longer than the person allows, for hosts that end a tool call before its 50 s are over.

Not here: how long a call asks to wait (`parlerd.operations.tools`). Above: `session`, for windows only: commands of a
person wait as long as they say. Invariant: nothing but the wait of a call is changed.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast

import msgspec
import trio

from mcp_server.port import EnginePort
from parlerd.core.model import Millis, RoomId
from parlerd.engine.callers import Caller
from parlerd.operations import types as t
from parlerd.operations.tools import WAIT_MAX_SECS

LONGEST: Final = Millis(WAIT_MAX_SECS * 1000)
"""What no tool call exceeds by itself."""


class BriefEngine:
    """`engine` with every wait at most `limit_ms`; an `EnginePort`."""

    def __init__(self, engine: EnginePort, limit_ms: Millis) -> None:
        self._engine = engine
        self._limit_ms = limit_ms

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        """Run an operation."""
        if getattr(params, "wait_ms", 0) > self._limit_ms:
            params = cast(t.Params, msgspec.structs.replace(cast(Any, params), wait_ms=self._limit_ms))
        return await self._engine.call(op, params, caller)

    async def acknowledge_shown(self, caller: Caller) -> None:
        """As the engine does it."""
        await self._engine.acknowledge_shown(caller)

    async def notice(self, caller: Caller) -> str:
        """As the engine does it."""
        return await self._engine.notice(caller)

    async def find_request(self, params: t.DecideJoin, caller: Caller) -> tuple[t.Request, bool]:
        """As the engine does it."""
        return await self._engine.find_request(params, caller)

    async def decide_by_form(self, params: t.DecideJoin, caller: Caller, *, admit: bool) -> t.Decided:
        """As the engine does it."""
        return await self._engine.decide_by_form(params, caller, admit=admit)

    def changes(self, caller: Caller) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[RoomId]]:
        """As the engine does it."""
        return self._engine.changes(caller)
