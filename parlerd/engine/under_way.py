"""What is under way with something that can end at any moment: a token, a watch code.

Above: `bearers`, `viewers`. Below: trio's scopes. Invariant: nothing is kept of what has nothing under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio


class UnderWay:
    """What is under way, by the id of that with which it is."""

    def __init__(self) -> None:
        self._scopes: dict[str, set[trio.CancelScope]] = {}
        """The scopes of it."""

    @contextmanager
    def entered(self, id: str) -> Iterator[trio.CancelScope]:
        """While something is under way with this: `cancel` ends it."""
        with trio.CancelScope() as scope:
            scopes = self._scopes.setdefault(id, set())
            scopes.add(scope)
            try:
                yield scope
            finally:
                scopes.discard(scope)
                if not scopes:
                    self._scopes.pop(id, None)

    def count(self, id: str) -> int:
        """How much is under way with this."""
        return len(self._scopes.get(id, ()))

    def cancel(self, id: str) -> None:
        """End all that is under way with this."""
        for scope in self._scopes.get(id, ()):
            scope.cancel()
