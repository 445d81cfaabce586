"""The answers to the calls of one end of a connection, by call, until whoever waits for them takes them.

    open(id)  a call was sent        put(event)  something came for it        next_of(id)  the next that came
    close(id) nobody waits for it    lose(error) nothing more comes at all

Above: `uplink.connection` and `relay.peers`, the two ends that ask over a link and over a lane. Not here: the frames
and the credit of streams (`wire.link`). Invariants: every wait ends, with an answer or with why none can come; what
came before the end is taken before the end is told.
"""

from __future__ import annotations

from collections import deque

import trio

from parlerd.wire.messages import Failure, Item, Reply

Answer = Reply | Failure | Item


class Inbox:
    """What came for the calls that somebody waits for. Whoever sends has to bound how many items wait here."""

    def __init__(self) -> None:
        self._came: dict[int, deque[Answer]] = {}
        """For each call that somebody waits for: the answers that came and were not taken yet."""
        self._news: dict[int, trio.Event] = {}
        """For each of them: what wakes who waits."""
        self.lost: Exception | None = None
        """Why nothing more comes; None while more may come."""

    def open(self, id: int) -> None:
        """Somebody waits for the answers to this call from now on: before the first of them can come."""
        self._came[id] = deque()
        self._news[id] = trio.Event()

    def close(self, id: int) -> None:
        """Nobody waits for this call any more: what comes for it is dropped. It may be closed already."""
        self._came.pop(id, None)
        self._news.pop(id, None)

    def untaken(self, id: int) -> int:
        """How many answers to a call came and were not taken yet."""
        return len(self._came.get(id, ()))

    def put(self, answer: Answer) -> bool:
        """Something came. Whether somebody waits for it."""
        came = self._came.get(answer.id)
        if came is None:
            return False
        came.append(answer)
        self._news[answer.id].set()
        return True

    async def next_of(self, id: int) -> Answer:
        """The next answer to a call that is open. Raises what `lose` was given where none can come."""
        came = self._came[id]
        while not came:
            if self.lost is not None:
                raise self.lost
            self._news[id] = trio.Event()
            await self._news[id].wait()
        return came.popleft()

    def lose(self, error: Exception) -> None:
        """Nothing more comes, and this is why. The first reason counts."""
        if self.lost is None:
            self.lost = error
            for news in self._news.values():
                news.set()
