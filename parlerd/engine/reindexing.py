"""The index of what rooms remember, brought up to date a little at a time while everybody else goes on writing.

    an upgrade     a file of an older schema has an index that this Parler does not use. Making another takes a minute
                   and a half for a million facts. The upgrade itself puts in the newest (`parlerd.store.upgrade`),
                   which are all in most homes, and this puts in the others: the newest first, some hundred in a commit.
                   Until then a search says that it looked through the newest alone.
    a fact goes    nothing leads to it from that commit on. Its words go out of the index in the same commit too, unless
                   the index is large: merging that of two million facts takes six seconds (measured). This merges it.

What a daemon did not get to is done by the next one, because the store says what is left.

Not here: what the index is (`parlerd.store.searching`), the search (`recalling`). Above: `engine` runs it. Below: the
driver. Invariant: at any time at most one step is at the writer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio

from parlerd.core import events as e
from parlerd.core.errors import ParlerError
from parlerd.core.memory import MAX_VERSIONS
from parlerd.engine.driver import Driver
from parlerd.store.port import IndexMemory

log = logging.getLogger(__name__)

STEP: Final = 256
"""Facts that one step puts in: 8 ms of a processor, and 0.1 s where FTS5 merges at the same time (measured)."""
PAUSE_S: Final = 0.05
"""Between two steps, so that most of what is sent meanwhile comes between them."""
RETRY_S: Final = 60.0
"""Between two attempts while the store cannot be written."""
AGAIN_S: Final = 3600.0
"""Between two looks: words go by retention and by the bounds of mirrors too, which nobody waits for."""


class Reindexing:
    """One for a home."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._due = trio.Event()
        """Set when there is something to look at, or when the engine stops. Made anew each time."""
        self._closing = trio.Event()

    def note(self, facts: Sequence[e.Header]) -> None:
        """Facts of any room were stored."""
        notes = [fact.event.memory for fact in facts if isinstance(fact.event, e.MessagePosted)]
        if any(note is not None and (note.forgets or note.version > MAX_VERSIONS) for note in notes):
            self._due.set()

    def close(self) -> None:
        """End the task after the step that it is at."""
        self._closing.set()
        self._due.set()

    async def run(self) -> None:
        """Do what is left and what comes up from now on, until `close`."""
        while not self._closing.is_set():
            self._due = trio.Event()
            pause = AGAIN_S
            try:
                await self._tend()
            except ParlerError as error:
                log.warning("the index of what rooms remember is not looked after now: %s", error.code)
                pause = RETRY_S
            if not self._closing.is_set():
                with trio.move_on_after(pause):
                    await self._due.wait()

    async def _tend(self) -> None:
        steps = 0
        while not self._closing.is_set():
            if await self._driver.read(lambda store: store.is_memory_indexed()):
                if steps:
                    log.info("the index of what rooms remember is up to date after %d steps", steps)
                return
            await self._driver.commit([IndexMemory(STEP)])
            steps += 1
            with trio.move_on_after(PAUSE_S):
                await self._closing.wait()
