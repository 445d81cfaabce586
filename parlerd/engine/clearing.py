"""Deleted rooms, taken out of the file a little at a time while everybody else goes on writing.

A room that is deleted is gone with one commit, and its rows are still in the file. This takes them away in steps of
some hundred facts, each a commit of its own among those of others: what waits for the writer waits for one step and
never for a room. What a daemon did not get to is done by the next one, because the store says what is left.

Not here: what may be deleted (`deleting`), what a step takes (`parlerd.store.deleting`). Above: `engine` runs it.
Below: the driver. Invariant: at any time at most one step is at the writer.
"""

from __future__ import annotations

import logging
from typing import Final

import trio

from parlerd.core.errors import ParlerError
from parlerd.core.model import RoomId
from parlerd.engine.driver import Driver
from parlerd.store.port import ClearRoom

log = logging.getLogger(__name__)

STEP: Final = 256
"""Facts that one step takes away, in about as long as it took to store them."""
RETRY_S: Final = 60.0
"""Between two attempts while the store cannot be written."""


class Clearing:
    """One for a home."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._due = trio.Event()
        """Set when there is something to clear, or when the engine stops. Made anew each time."""
        self._cleared = trio.Event()
        """Set when nothing is left of some room. Made anew each time."""
        self._closing = False

    def begin(self) -> None:
        """A room was deleted."""
        self._due.set()

    def close(self) -> None:
        """End the task after the step that it is at."""
        self._closing = True
        self._due.set()

    async def is_clear(self, room: RoomId, *, within_s: float) -> bool:
        """Whether nothing is left of a deleted room, now or within so many seconds."""
        with trio.move_on_after(within_s):
            while True:
                cleared = self._cleared
                if room not in await self._driver.look(lambda store: store.uncleared()):
                    return True
                await cleared.wait()
        return False

    async def run(self) -> None:
        """Clear what is left and what is deleted from now on, until `close`."""
        while not self._closing:
            self._due = trio.Event()
            try:
                await self._clear()
            except ParlerError as error:
                log.warning("deleted rooms are not taken out of the file now: %s", error.code)
                with trio.move_on_after(RETRY_S):
                    await self._due.wait()
                self._due.set()
            await self._due.wait()

    async def _clear(self) -> None:
        while not self._closing and (left := await self._driver.read(lambda store: store.uncleared())):
            # One step for each, so that a small room does not wait for a large one.
            for room in left:
                await self._driver.commit([ClearRoom(room, STEP)])
            now_left = await self._driver.look(lambda store: store.uncleared())
            if set(left) - set(now_left):
                log.info("took %d deleted rooms out of the file", len(set(left) - set(now_left)))
                self._cleared.set()
                self._cleared = trio.Event()
