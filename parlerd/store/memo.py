"""Answers of the store that every call asks for, remembered until a commit changes them.

Invariant: what is remembered was committed, and nothing that a commit changed is remembered after `forget`; a read
that overlaps a commit is answered and not remembered. Threads may use it as they use the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

MAX_REMEMBERED: Final = 4_096
"""Answers; past it all of them are dropped, for the busy ones are back at once."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key; `load` reads one."""

    def __init__(self, load: Callable[[K], V]) -> None:
        self._load = load
        self._known: dict[K, V] = {}
        self._changes = 0
        self._lock = threading.Lock()

    def __call__(self, key: K) -> V:
        try:
            return self._known[key]
        except KeyError:
            pass
        before = self._changes
        value = self._load(key)
        with self._lock:
            if self._changes == before:
                if len(self._known) >= MAX_REMEMBERED:
                    self._known.clear()
                self._known[key] = value
        return value

    def forget(self, keys: Iterable[K] | None = None) -> None:
        """A commit changed these, or (None) it is not known which. Call it before anyone is told of the commit."""
        with self._lock:
            self._changes += 1
            if keys is None:
                self._known.clear()
            else:
                for key in keys:
                    self._known.pop(key, None)
