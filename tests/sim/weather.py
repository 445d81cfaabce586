"""What happens on the way between daemons and a relay: a link that is slow, breaks off, or carries nothing for a while.

A carrier stands in the middle of each stream. Messages arrive in the order in which they were sent, as over TCP, each
after a time of its own. From time to time a link breaks off, at once or after it has been silent for as long as it
takes to find out. The relay then hears nothing of a message that was sent, or the daemon nothing of an answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import trio

from parlerd.connections.stream import StreamEnded
from parlerd.core.errors import ParlerError
from tests.support.message_streams import MemoryStream, pair
from tests.support.relayed import CERTIFICATE, Wires

SILENCE_S: Final = 30.0
"""How long it takes until both ends know that the other is gone: a ping and its time."""


class Weather(Wires):
    """The wires of a simulation. While it is `calm`, everything arrives."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.calm = True
        self.breaks = 0
        """How often a link was broken off."""

    @asynccontextmanager
    async def dial(self, address: str, home: str = "") -> AsyncIterator[MemoryStream]:
        await trio.sleep(self._latency())
        if self.links is None or self.nursery is None or self.is_cut or (not self.calm and self._random.random() < 0.2):
            raise ParlerError("home_unreachable")
        ours, near = pair(CERTIFICATE)
        far, theirs = pair(CERTIFICATE)
        both = ours, theirs
        self.open.append(both)
        self.nursery.start_soon(self.links.serve, theirs)
        # How many messages pass before this link breaks off, if the weather is bad then.
        left = [self._random.randrange(2, 60)]
        for source, target in ((near, far), (far, near)):
            self.nursery.start_soon(self._carry, source, target, left)
        try:
            yield ours
        finally:
            self.open.remove(both)
            for end in (ours, far):
                end.cut()

    async def _carry(self, source: MemoryStream, target: MemoryStream, left: list[int]) -> None:
        try:
            while (message := await source.receive()) is not None:
                await trio.sleep(self._latency())
                left[0] -= 1
                if left[0] < 0 and not self.calm:
                    self.breaks += 1
                    fate = self._random.random()
                    if fate < 0.3:
                        await trio.sleep(SILENCE_S)
                    elif fate < 0.6:
                        await self._pass_on(target, message)
                    break
                if not await self._pass_on(target, message):
                    break
        finally:
            # The relay's program is gone where this task is cancelled.
            code = source.close_code or 1006
            with trio.CancelScope(shield=True):
                await target.close(code)
                await source.close(code)

    async def _pass_on(self, target: MemoryStream, message: bytes) -> bool:
        try:
            await target.send(message)
        except StreamEnded:
            return False
        return True

    def _latency(self) -> float:
        return 0.005 if self.calm else self._random.choice((0.001, 0.02, 0.2, 2.0))
