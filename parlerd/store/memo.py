"""Answers of the store that every call asks for, remembered until a commit changes them.

Above: `sqlite`. A memo supposes that this process alone writes what it remembers. Invariants: what is remembered was
committed; nothing that a commit changed is remembered after `forget`; a read that overlaps a commit is answered and not
remembered. Several threads may use a memo, as they may use the store.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar

MAX_REMEMBERED: Final = 4_096
"""How many answers are remembered. One more drops all of them, because those that are in use come back at once."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Memo(Generic[K, V]):
    """Values by key. `load` reads the value of a key that is not remembered."""

    def __init__(self, load: Callable[[K], V]) -> None:
        self._load = load
        self._known: dict[K, V] = {}
        # How often `forget` was called: a value that was read before the last call is not remembered.
        self._changes = 0
        # Held to change the two above; reading a remembered value takes no lock.
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
        """Forget these keys, which a commit changed, or (None) all of them. Call this before anyone is told of the
        commit."""
        with self._lock:
            self._changes += 1
            if keys is None:
                self._known.clear()
            else:
                for key in keys:
                    self._known.pop(key, None)
