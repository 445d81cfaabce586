"""What the application asks of the home that it stands before.

Above: `app`, `events`, `files`, `local`, `pages`. Below: the engine's callers, tokens and watch codes. Invariant:
nothing else of the engine is asked here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import trio

from parlerd.core.tokens import Token
from parlerd.core.watch_codes import WatchCode
from parlerd.engine.callers import Caller, PeerProcess
from parlerd.engine.telling import Told
from parlerd.operations import types as t

T = TypeVar("T")


class Serving(Protocol):
    """The engine, as far as this door needs it."""

    def admit(self, op: str, caller: Caller) -> None:
        """Refuse what this caller may not ask for, whatever it says: before its body is read, or a stream begins."""
        ...

    async def call(self, op: str, params: t.Params, caller: Caller) -> t.Result: ...

    async def aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """Do something beside the loop, such as to wait for a disk."""
        ...

    def events(self, room: str, after: str, caller: Caller) -> AbstractAsyncContextManager[AsyncIterator[Told]]:
        """All that happens in a room, after a place that this told."""
        ...

    def stream(
        self, op: str, params: t.Params, caller: Caller
    ) -> AbstractAsyncContextManager[AsyncIterator[t.Result]]: ...


class TokenBook(Protocol):
    """Who acts with a token: `engine.bearers.Bearers`."""

    async def caller_of(self, text: str, stranger: Caller, seen: PeerProcess = ...) -> tuple[Token, Caller]: ...

    def using(self, token: Token) -> AbstractContextManager[trio.CancelScope]: ...

    def count(self, token: Token) -> int: ...

    async def handle_of(self, token: Token, wanted: str) -> str: ...


class ViewerBook(Protocol):
    """Who looks on in a browser: `engine.viewers.Viewers`."""

    async def open(self, typed: str, stranger: Caller, *, is_own: bool) -> WatchCode: ...

    def caller_of(self, id: str) -> Caller: ...

    def using(self, id: str) -> AbstractContextManager[trio.CancelScope]: ...

    def count(self, id: str) -> int: ...


class Asker(NamedTuple):
    """Who asks: with which token, if with one."""

    token: Token | None
    caller: Caller
