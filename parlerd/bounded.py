"""A dict with a bound on its keys, for what is remembered of others: it forgets the key that was set longest ago.

Not here: forgetting by age, or telling somebody that a key was forgotten. Above: every layer may use this module, which
is plain Python. Invariant: there are never more keys than the bound.
"""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(dict[K, V]):
    """Set values only with `[key] = value`. To set a key makes it the newest, and forgets the oldest if that is one too
    many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: K, value: V) -> None:
        self.pop(key, None)
        super().__setitem__(key, value)
        if len(self) > self.most:
            del self[next(iter(self))]
