"""A dict of at most so many keys, for what is remembered of others: it forgets the key that was set longest ago.

Not here: what is forgotten by age, or has to be told that it goes. Plain Python, and every layer may use it. Invariant:
there are never more keys than the bound, whoever sends them.
"""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """Set values with `[key] = value` alone: setting a key makes it the newest, and lets go of the oldest one too
    many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self.most:
            del self[next(iter(self))]
