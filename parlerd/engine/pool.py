"""Some threads beside the event loop that each do one errand at a time: for questions to a store over a network, where
most of the time is spent waiting for an answer.

Short errands go first, and long ones never have every thread, so that a point read does not wait for a fold. `worker`
is the one thread for what is done in order. Not here: what an errand asks for (`network_driver`). Invariant: an errand
that was handed over is told what became of it, whether or not anybody still waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

import trio

from parlerd.core.errors import StoreError
from parlerd.engine.worker import Errand


class Pool:
    """`threads` threads, at least two. `run` does one errand in a thread and writes down in it what became of it. At
    most `most` errands wait. Make it inside the trio run that uses it."""

    def __init__(self, name: str, run: Callable[[Errand], None], *, threads: int, most: int) -> None:
        self._run = run
        self._most = most
        self._token = trio.lowlevel.current_trio_token()
        self._changed = threading.Condition()
        """Guards everything below."""
        self._short: deque[Errand] = deque()
        self._long: deque[Errand] = deque()
        self._free_for_long = threads - 1
        """How many threads may begin a long errand now."""
        self._closing = False
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, errand: Errand, *, is_long: bool) -> None:
        """Let a thread do an errand. Raises `StoreError`: `draining` once the pool is closing, `store_busy` while too
        many wait."""
        with self._changed:
            if self._closing:
                raise StoreError("draining")
            if len(self._short) + len(self._long) >= self._most:
                raise StoreError("store_busy")
            (self._long if is_long else self._short).append(errand)
            self._changed.notify()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            errand, is_long = taken
            self._run(errand)
            settled = [errand]
            with self._changed:
                if is_long:
                    self._free_for_long += 1
                    self._changed.notify()
                if self._closing and isinstance(errand.error, StoreError):
                    # Whoever ends does not wait for a store that is gone once for each that asked it something.
                    settled += self._give_up(errand.error)
            with suppress(trio.RunFinishedError):
                for each in settled:
                    self._token.run_sync_soon(each.tell)

    def _give_up(self, error: StoreError) -> list[Errand]:
        """Let every errand that waits end with this error; which these are."""
        waited = [*self._short, *self._long]
        self._short.clear()
        self._long.clear()
        for each in waited:
            each.error = error
        return waited

    def _take(self) -> tuple[Errand, bool] | None:
        """The next errand, and whether it is a long one; None once the pool is closing and nothing waits."""
        with self._changed:
            while True:
                if self._short:
                    return self._short.popleft(), False
                if self._long and self._free_for_long:
                    self._free_for_long -= 1
                    return self._long.popleft(), True
                if self._closing and not self._long:
                    # Another thread may wait for the same.
                    self._changed.notify()
                    return None
                self._changed.wait()

    async def close(self) -> None:
        """Do what waits, until the store fails one of these; then end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await trio.to_thread.run_sync(thread.join)
