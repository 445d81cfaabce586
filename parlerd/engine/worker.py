"""A thread beside the event loop: it takes everything that waits for it, runs it as one batch, and wakes the loop once.

The drivers use one such thread for commits and one for long reads. Going through `trio.to_thread` for each piece would
cost 122 us a call, and pieces that wait could not become one batch (measured). Not here: what an errand asks for, and
how a store does it (`driver`). Invariant: an errand that was handed over is done and told, whether or not anybody still
waits for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import trio

from parlerd.core.errors import StoreError

Told = Callable[[Any, BaseException | None], None]
"""Hears what became of an errand: the answer, or why there is none. Called on the loop; must not raise."""


class Errand:
    """One thing that was handed over: what is `asked`, and the `answer` or `error` that whoever does it writes down."""

    __slots__ = ("_told", "answer", "asked", "error")

    def __init__(self, asked: Any, told: Told) -> None:
        self.asked = asked
        self.answer: Any = None
        self.error: BaseException | None = None
        self._told = told

    def tell(self) -> None:
        """Say what became of the errand. Called once, on the loop."""
        self._told(self.answer, self.error)


def tell(errands: list[Errand]) -> None:
    """Say of each errand what became of it, in order."""
    for errand in errands:
        errand.tell()


class Awaited:
    """What became of an errand, for a task that waits for it: pass `hear` as the errand's `told`, then await `get`."""

    __slots__ = ("_answer", "_error", "_known")

    def __init__(self) -> None:
        self._known = trio.Event()
        self._answer: Any = None
        self._error: BaseException | None = None

    def hear(self, answer: Any, error: BaseException | None) -> None:
        """Take the answer, and wake the task."""
        self._answer, self._error = answer, error
        self._known.set()

    async def get(self) -> Any:
        """The answer. Raises the errand's error."""
        await self._known.wait()
        if self._error is not None:
            raise self._error
        return self._answer


class Worker:
    """A thread of its own. `run` does a batch of errands in the thread, and writes down in each what became of it;
    `done` is then called on the loop with the batch; `afterwards` runs in the thread after each batch, when the answers
    are on their way. With `most`, a batch ends with the errand by which it weighs so much. Make it inside the trio run
    that uses it."""

    def __init__(
        self,
        name: str,
        run: Callable[[list[Errand]], None],
        *,
        done: Callable[[list[Errand]], None] = tell,
        afterwards: Callable[[], None] = lambda: None,
        most: int | None = None,
        weigh: Callable[[Errand], int] = lambda errand: 1,
    ) -> None:
        self._run = run
        self._done = done
        self._afterwards = afterwards
        self._most = most
        self._weigh = weigh
        self._token = trio.lowlevel.current_trio_token()
        self._waiting: SimpleQueue[Errand | None] = SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, errand: Errand) -> None:
        """Let the thread do an errand. Raises `StoreError(draining)` once the worker is closing."""
        if self._closing:
            raise StoreError("draining")
        self._waiting.put(errand)

    def nudge(self) -> None:
        """Run `afterwards` soon, also when no errand waits."""
        self._waiting.put(None)

    def _work(self) -> None:
        while not self._closing or not self._waiting.empty():
            if batch := self._take():
                self._run(batch)
                with suppress(trio.RunFinishedError):
                    self._token.run_sync_soon(self._done, batch)
            self._afterwards()

    def _take(self) -> list[Errand]:
        """Everything that waits, or as much as one batch may weigh, once there is something."""
        taken: list[Errand] = []
        weight = 0
        errand = self._waiting.get()
        with suppress(Empty):
            while True:
                if errand is not None:
                    taken.append(errand)
                    if self._most is not None and (weight := weight + self._weigh(errand)) >= self._most:
                        break
                errand = self._waiting.get_nowait()
        return taken

    async def close(self) -> None:
        """Do what waits, then end the thread."""
        self._closing = True
        self.nudge()
        await trio.to_thread.run_sync(self._thread.join)
