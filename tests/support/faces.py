"""What stands before an engine and passes everything on: whoever watches or lies says in a subclass what is different.

Verified by `contract/test_engine_face.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from parlerd.core.model import PrincipalId
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


class RetellingFace(PassingFace):
    """Stands before a relay's engine. `tell` says what the home of a person is told in the place of an item of a room
    that it follows."""

    def __init__(self, engine: EngineFace, tell: Callable[[PrincipalId, t.LinkItem], list[t.LinkItem]]) -> None:
        super().__init__(engine)
        self._tell = tell

    def stream(
        self, op: str, params: t.Params, caller: Caller, outlet: Outlet | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]:
        if op != "link.follow":
            return self._engine.stream(op, params, caller, outlet)
        return retold(self._engine.stream(op, params, caller), partial(self._told, caller.facts.authority.principal))

    def _told(self, principal: PrincipalId, item: t.Result) -> list[t.Result]:
        assert isinstance(item, t.LinkItem)
        return [*self._tell(principal, item)]


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
