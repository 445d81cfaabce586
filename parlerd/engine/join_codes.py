"""Checks the code that a person types for a newcomer, and counts the wrong ones.

Each door counts for itself, so that what is typed at one does not keep the person out at another. Where several relays
share the rooms, the tries are rows (`ports.SharedCounts`), so whoever takes a room over gives none anew; there one try
comes back after each `CODE_PAUSE_S`. Not here: how much
a code proves (`approving`). Above: `approving`. Below: the home's keys, from which each request's code follows.
Invariant: after `CODE_TRIES` wrong codes for a request, its door takes none for `CODE_PAUSE_S`.
"""

from __future__ import annotations

from typing import Final

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import Refused
from parlerd.core.model import RequestId
from parlerd.engine.ports import HomeKeys, SharedCounts
from parlerd.engine.throttle import draw
from parlerd.identity import codes
from parlerd.store.counts import Ask

CODE_TRIES: Final = 5
"""Wrong codes for one request before it takes none for a while."""
CODE_PAUSE_S: Final = 300.0
DOORS: Final = ("form", "cli", "terminal")
"""Where a code is typed, each with tries of its own: a form of an agent host, a command, a command at a terminal."""
TRIES: Final = "Too many wrong codes for this request."
MAX_COUNTED: Final = 4096
"""Requests whose wrong codes are remembered; only a person's own mistakes come here."""


class JoinCodes:
    """The wrong codes of one home, by request and door: how many, and since when (seconds of the loop's clock). Kept
    in memory alone, unless other processes share the store, which `counts` says: a restart forgives them."""

    def __init__(self, keys: HomeKeys, counts: SharedCounts | None = None) -> None:
        self._keys = keys
        self._counts = counts
        self._wrong: Bounded[tuple[str, str], tuple[int, float]] = Bounded(MAX_COUNTED)

    async def check(self, request: RequestId, typed: str, *, door: str, code: str | None = None) -> None:
        """Raise `Refused(code_mismatch)` for a wrong code, and `throttled` after a few of them at the same door: what
        is typed at one must not keep the person out at another. `code` is the right one of a request whose code does
        not follow from the keys of this home."""
        if self._counts is not None:
            await self._check_shared(self._counts, request, typed, door, code)
            return
        now = trio.current_time()
        counted = (request, door)
        tries, since = self._wrong.get(counted, (0, now))
        if tries >= CODE_TRIES:
            left = since + CODE_PAUSE_S - now
            if left > 0:
                raise Refused("throttled", TRIES, retry_after_ms=int(left * 1000))
            tries = 0
        if not self._matches(request, typed, code):
            self._wrong[counted] = (tries + 1, now)
            raise Refused("code_mismatch")

    async def _check_shared(
        self, counts: SharedCounts, request: RequestId, typed: str, door: str, code: str | None
    ) -> None:
        """`check`, where others count the same tries: one is taken before the code is looked at, and given back where
        the code was right."""
        one = Ask(_name(request, door), 1 / CODE_PAUSE_S, CODE_TRIES)
        await draw(counts, [one], TRIES)
        if not self._matches(request, typed, code):
            raise Refused("code_mismatch")
        await counts.give([one])

    def _matches(self, request: RequestId, typed: str, code: str | None) -> bool:
        try:
            return codes.normalise(typed) == (self.code(request) if code is None else code)
        except Refused:
            return False

    def code(self, request: RequestId) -> str:
        """The code that a person types for a request."""
        return self._keys.join_code(request)

    async def forget(self, request: RequestId) -> None:
        """The request was decided: what was typed for it does not count any more."""
        if self._counts is not None:
            await self._counts.forget([_name(request, door) for door in DOORS])
            return
        for door in DOORS:
            self._wrong.pop((request, door), None)


def _name(request: RequestId, door: str) -> str:
    """The name of the tries of a request at a door, among all budgets."""
    return f"codes {request} {door}"
