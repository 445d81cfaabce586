"""What is under way with something that can end at any moment: a token, a watch code.

Above: `bearers`, `viewers`. Below: trio's scopes. Invariant: nothing is kept of what has nothing under way.
"""

from __future__ import annotations

from types import TracebackType

import trio


class UnderWay:
    """What is under way, by the id of that with which it is."""

    def __init__(self) -> None:
        self._scopes: dict[str, set[trio.CancelScope]] = {}
        """The scopes of it."""

    def entered(self, id: str) -> _Entered:
        """While something is under way with this: `cancel` ends it."""
        return _Entered(self._scopes, id)

    def count(self, id: str) -> int:
        """How much is under way with this."""
        return len(self._scopes.get(id, ()))

    def cancel(self, id: str) -> None:
        """End all that is under way with this."""
        for scope in self._scopes.get(id, ()):
            scope.cancel()


class _Entered:
    """One thing under way. No generator: one of these is held by everybody who waits over HTTP."""

    __slots__ = ("_id", "_scope", "_scopes")

    def __init__(self, scopes: dict[str, set[trio.CancelScope]], id: str) -> None:
        self._scopes = scopes
        self._id = id
        self._scope = trio.CancelScope()

    def __enter__(self) -> trio.CancelScope:
        self._scopes.setdefault(self._id, set()).add(self._scope)
        return self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        scopes = self._scopes[self._id]
        scopes.discard(self._scope)
        if not scopes:
            del self._scopes[self._id]
        return self._scope.__exit__(kind, error, trace)
