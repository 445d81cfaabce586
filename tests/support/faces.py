"""What stands before an engine and passes everything on: whoever watches or lies says in a subclass what is different.

Verified by `contract/test_engine_face.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from parlerd.engine.callers import Caller
from parlerd.engine.face import EngineFace, Outlet, Pending
from parlerd.operations import types as t


class PassingFace(EngineFace):
    """The engine behind it, as it is."""

    def __init__(self, engine: EngineFace) -> None:
        self._engine = engine

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result:
        return await self._engine.call(op, params, caller)

    def begin(self, op: str, params: t.Params, caller: Caller) -> Pending | None:
        return self._engine.begin(op, params, caller)

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        return self._engine.stream(op, params, caller, outlet)

    async def connect(self, caller: Caller) -> None:
        await self._engine.connect(caller)

    async def disconnect(self, caller: Caller) -> None:
        await self._engine.disconnect(caller)


@asynccontextmanager
async def retold(
    items: AbstractAsyncContextManager[AsyncIterator[t.Result]],
    tell: Callable[[t.Result], list[t.Result]],
) -> AsyncIterator[AsyncIterator[t.Result]]:
    """A stream with other items: `tell` says what is told in the place of each. What goes past the stream by an outlet
    is not seen here, so whoever changes items asks for a stream without one."""

    async def changed(honest: AsyncIterator[t.Result]) -> AsyncIterator[t.Result]:
        async for item in honest:
            for told in tell(item):
                yield told

    async with items as honest:
        yield changed(honest)
