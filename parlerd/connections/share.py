"""How much of one conversation each agent may have under way, where several speak over it.

An agent that has its share under way is told `busy` for each further call until some are answered; the others of the
conversation go on. Not here: what all of them together may have under way (`calls`, and the door). Above: `calls`.
Below: nothing. Invariant: what was taken is given back once, when the call is answered.
"""

from __future__ import annotations

from typing import Final

from parlerd.core.errors import ParlerError

RETRY_MS: Final = 100
"""When to try again: about as long as a batch takes on a slow disk."""


class Share:
    """The calls and the bytes of parameters that each agent of one conversation has under way. The name of an agent is
    the caller's word here, so nobody else's share may be kept in the same object."""

    __slots__ = ("_bytes", "_calls", "_under_way")

    def __init__(self, calls: int, bytes: int) -> None:
        self._calls = calls
        self._bytes = bytes
        # How many calls, and how many bytes, of each agent that has some.
        self._under_way: dict[str, tuple[int, int]] = {}

    def take(self, agent: str, size: int) -> None:
        """Count a call. A call that alone is larger than the share is let through, because the conversation bounds it.
        Raises `ParlerError(busy)`, and then nothing was counted."""
        calls, held = self._under_way.get(agent, (0, 0))
        if calls >= self._calls or (calls and held + size > self._bytes):
            said = f"Too many requests of one agent are under way: {calls} with {held} bytes."
            raise ParlerError("busy", said, hint="Wait for some of them to answer.", retry_after_ms=RETRY_MS)
        self._under_way[agent] = calls + 1, held + size

    def give_back(self, agent: str, size: int) -> None:
        """A call that was counted is answered."""
        calls, held = self._under_way[agent]
        if calls > 1:
            self._under_way[agent] = calls - 1, held - size
        else:
            del self._under_way[agent]
