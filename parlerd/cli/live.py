"""A screen that is drawn anew while something goes on: single keys from the terminal, and updates from the daemon.

Not here: what is drawn, and what a key does. Above: `approvals`, `board`. Below: `context`. Invariants: the terminal is
put back, however the block ends; a connection is used by one thread; an update that comes together with a key goes
first.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import signal
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

from parlerd.cli.context import AGAIN_S
from parlerd.core.errors import ParlerError

if TYPE_CHECKING:
    from rich.live import Live

    from parlerd.cli.context import ClientLike, Context

T = TypeVar("T")

TICK_S: Final = 1.0
"""How often a screen is drawn again when nothing happens, for the times on it."""


class Follower(Generic[T]):
    """Follows something in a thread of its own, on a connection of its own. `updates` gives what comes over that
    connection; where it ends or fails it is begun again on a new one."""

    def __init__(self, ctx: Context, name: str, updates: Callable[[ClientLike], Iterator[T]]) -> None:
        self._ctx = ctx
        self._of = updates
        # What came from the daemon, or why the connection was lost.
        self._updates: queue.SimpleQueue[T | ParlerError] = queue.SimpleQueue()
        # One byte for each update, so that `select` can wait for updates and keys at once.
        self._read_end, self._write_end = os.pipe()
        # Set when the screen is closed; the thread then ends when it next wakes.
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=name, daemon=True)

    def __enter__(self) -> Follower[T]:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        # A connection belongs to one thread, so this thread must not close it. It ends with the process, at once.
        self._over.set()

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to take."""
        return self._read_end

    def take(self) -> Iterator[T | ParlerError]:
        """Everything that came since the last time."""
        os.read(self._read_end, 4096)
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._updates.get_nowait()

    def _give(self, update: T | ParlerError) -> None:
        self._updates.put(update)
        os.write(self._write_end, b".")

    def _follow(self) -> None:
        # When somebody stopped the daemon, this thread looks for it and does not start it. Only a person's act does.
        while not self._over.is_set():
            try:
                client = self._ctx.another_client(start=False)
                for update in self._of(client):
                    self._give(update)
            except ParlerError as error:
                self._give(error)
            self._over.wait(AGAIN_S)


class Screen(Generic[T]):
    """The loop that takes what comes from the keyboard and from the daemon, one after the other, and draws. Who has a
    screen derives a class from this one and says what an update and a key do, and how the screen looks."""

    def __init__(self, ctx: Context, follower: Follower[T], keyboard: int) -> None:
        from rich.console import Console

        self._ctx, self._follower, self._keyboard = ctx, follower, keyboard
        self._console = Console(file=ctx.out.stdout, highlight=False, markup=False, no_color=not ctx.out.colour)

    def run(self) -> None:
        """Draw until a key ends it."""
        from rich.live import Live

        follower = self._follower.fileno()
        with Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            self._draw(live)
            while True:
                ready, _, _ = select.select([self._keyboard, follower], [], [], TICK_S)
                # Updates go first: a key that arrives together with a change must not decide what it did not show.
                if follower in ready:
                    self._take_updates()
                if self._keyboard in ready and not self._take_keys(live):
                    return
                self._draw(live)

    def _take_updates(self) -> None:
        """Take in what the follower gave. Raises `ParlerError` where the screen cannot go on."""
        raise NotImplementedError

    def _take_keys(self, live: Live) -> bool:
        """Do what was typed; False when that was to quit."""
        raise NotImplementedError

    def _draw(self, live: Live) -> None:
        raise NotImplementedError


def read_keys(keyboard: int) -> bytes:
    """What was typed. Raises `KeyboardInterrupt` where the terminal is gone."""
    data = os.read(keyboard, 1024)
    if not data:
        raise KeyboardInterrupt
    return data


def can_draw(ctx: Context) -> bool:
    """Whether there is a terminal that draws where it is told to, and somebody who types at it."""
    return ctx.out.terminal and ctx.at_terminal() and ctx.env.get("TERM") not in ("dumb", "")


@contextlib.contextmanager
def single_keys(keyboard: int) -> Iterator[None]:
    """Let the terminal give single keys without echo, and put it back however the block ends, also by a signal."""
    before = termios.tcgetattr(keyboard)
    handlers = {number: signal.signal(number, _end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setcbreak(keyboard)
        attributes = termios.tcgetattr(keyboard)
        # A suspended command would leave the shell on the alternate screen.
        attributes[6][termios.VSUSP] = b"\x00"
        termios.tcsetattr(keyboard, termios.TCSANOW, attributes)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
