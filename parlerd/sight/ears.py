"""Hears what changes in a list of folders, by the system's own notices.

Folders are named one by one and never followed into: a link among them could lead anywhere. Between two questions the
system collects what changed, so that nothing runs while nobody asks. Not here: which folders (`trail`), when to ask
(`watching`). Above: `watching`. Below: watchfiles, trio. Invariant: a path that changed after `open_ears` returned is
told once, by `changed` or by `now`, also when the question before it was cancelled. The library breaks this in one
narrow place, between its last look and the end of its time: so whoever waits for a file also looks by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from parlerd.sight.trail import Change

if TYPE_CHECKING:
    from watchfiles._rust_notify import RustNotify

STEP_MS: Final = 80
"""How often the thread looks for notices while somebody waits for one. Two looks stand between a notice and its
telling; see benchmarks/sight.py for what they cost."""
DEBOUNCE_MS: Final = 200
"""How long a batch may grow while changes go on."""
TIMEOUT_MS: Final = 400
"""How long the thread stays in the library when nothing changes. The library throws away what it has heard where it is
told to stop, so it is left to end by itself."""
ADDED: Final = 1
"""What watchfiles calls a path that came into being."""


class Ears(Protocol):
    """A list of folders that is listened to."""

    async def changed(self) -> list[Change]:
        """What changed since the last question, as soon as there is something. Raises `OSError` where the system gave
        up."""
        ...

    def now(self) -> list[Change]:
        """What changed since the last question; blocks for some milliseconds. Raises as `changed` does."""
        ...

    def close(self) -> None:
        """Listen no more. Idempotent."""
        ...


def open_ears(folders: Sequence[str]) -> Ears:
    """`Ears` of the real file system. Blocks. A folder that is not there is left out. Raises `OSError` where the system
    watches no more folders."""
    return _Ears(folders)


class _Ears:
    def __init__(self, folders: Sequence[str]) -> None:
        # Imported here, so that a daemon that watches nothing never pays for the import.
        from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

        self._failure = WatchfilesRustInternalError
        self._lock = threading.Lock()
        """Held by the thread that asks the library: what it takes from there is put aside before another asks."""
        self._aside: list[Change] = []
        """What was heard and not told yet."""
        self._stop = threading.Event()
        """Ends the thread that waits."""
        self._limiter = trio.CapacityLimiter(1)
        try:
            self._notify: RustNotify | None = RustNotify(
                list(folders),
                debug=False,
                force_polling=False,
                poll_delay_ms=0,
                recursive=False,
                ignore_permission_denied=True,
            )
        except (WatchfilesRustInternalError, UnicodeEncodeError) as error:
            # The library takes no path that is not UTF-8.
            raise OSError("these folders cannot be watched") from error

    async def changed(self) -> list[Change]:
        while self._notify is not None:
            stop = self._stop = threading.Event()
            try:
                await trio.to_thread.run_sync(self._wait, stop, limiter=self._limiter, abandon_on_cancel=True)
            finally:
                stop.set()
            if told := self._told():
                return told
        raise OSError("nobody listens any more")

    def now(self) -> list[Change]:
        with self._lock:
            # The library sleeps a step before it looks, and takes 0 for no limit.
            self._ask(1, 1)
        return self._told()

    def close(self) -> None:
        self._stop.set()
        self._notify = None

    def _wait(self, stop: threading.Event) -> None:
        with self._lock:
            # Something is there already where the question before was cancelled.
            while not self._aside and not stop.is_set() and self._notify is not None:
                self._ask(STEP_MS, TIMEOUT_MS)

    def _ask(self, step_ms: int, timeout_ms: int) -> None:
        if self._notify is None:
            return
        try:
            batch = self._notify.watch(DEBOUNCE_MS, step_ms, timeout_ms, None)
        except self._failure as error:
            raise OSError("these folders are not watched any more") from error
        # Without a change the library answers with a word.
        if isinstance(batch, set):
            self._aside += [Change(name, kind == ADDED) for kind, name in batch]

    def _told(self) -> list[Change]:
        with self._lock:
            told, self._aside = self._aside, []
        return told
