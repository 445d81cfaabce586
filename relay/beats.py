"""How a relay says that it lives, and when it must not decide any more.

    every 2 s        it beats: a row of the database, with the time by the server's clock
    6 s without one  it stops deciding, and shows no room as it is now, by its own clock, which goes on while the
                     machine sleeps
    10 s             it is dead to the others, by the server's clock, and another may take its place

So whoever is taken to be dead has stopped four seconds before. After a pause in which nobody took its place a relay
goes on by itself. With each beat it looks which state the database is in, and keeps the newest that it saw. Not here:
the rows (`parlerd.store.postgres.relays`). Above: the relay's program. Below: `seen`. Invariant: `may_decide` counts
from when the last beat that was answered was sent, and never from its answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import trio

from parlerd.core.errors import ParlerError, StoreError
from parlerd.paths import Home
from parlerd.store.relays import Mark, Numbers, Row
from relay import seen as seen_file
from relay.seen import Seen

log = logging.getLogger("relay")

BEAT_S: Final = 2.0
COUNT_EVERY: Final = 5
"""With every so many beats it is asked how the database is."""
DECIDES_S: Final = 6.0
"""So long after its last beat a relay still decides. Source: spec, one owner a room."""


class Rows(Protocol):
    """The rows of the relays. `parlerd.store.postgres.relays.Relays` are the real ones."""

    def beat(self, row: Row) -> tuple[bool, Mark]: ...

    def numbers(self) -> Numbers: ...

    def leave(self, row: Row) -> None: ...


def since_boot() -> float:
    """Seconds by a clock that is never set, and goes on while the machine sleeps where the system has such a one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Beats:
    """The beats of one relay, which has just put its row in at `began`, on the clock `now`."""

    def __init__(
        self,
        rows: Rows,
        row: Row,
        home: Home,
        seen: Seen,
        *,
        began: float,
        address: Callable[[], str] = lambda: "",
        now: Callable[[], float] = since_boot,
    ) -> None:
        self._rows = rows
        self.row = row
        """This relay, as it joined."""
        self._home = home
        self._seen = seen
        self._now = now
        self._last = began
        """When the last beat was sent that was answered."""
        self.gaps = 0
        """How often so long passed between two beats that another may have taken what this relay has: whoever shows it
        looks first who has it."""
        self._is_over = False
        """Whether another took this relay's place, or the database is not the one any more."""
        self.address = address
        """Where the relay listens now, as `host:port`."""
        self.inner = ""
        """Where it listens for the other relays of its home."""
        self.sent = 0
        """Beats that were answered."""
        self.missed = 0
        """Beats that were not."""
        self.numbers: Numbers | None = None
        """How the database was lately; None while nobody knows."""

    @property
    def seconds_since(self) -> float:
        """Since the last beat that was answered."""
        return self._now() - self._last

    def may_decide(self) -> bool:
        """Whether the others still take this relay to be alive, so that what it has is its own."""
        return not self._is_over and self.seconds_since < DECIDES_S

    async def run(self) -> None:
        """Beat until cancelled. Raises `StoreError`, after which nothing is decided any more: `store_in_use` where
        another process took this relay's place, `store_went_back` where the database is not what it was."""
        while True:
            await trio.sleep(BEAT_S)
            await self.beat()

    async def beat(self) -> None:
        """Beat now, once. Raises `StoreError` as `run` does."""
        sent_at = self._now()
        try:
            # A server that is silent answers nothing, and whoever stops the relay does not wait for it.
            answer = await trio.to_thread.run_sync(self._rows.beat, self._placed(), abandon_on_cancel=True)
        except StoreError as error:
            if not self.missed or self.may_decide():
                log.warning("no beat: %s %s", error.code, error.message)
            self.missed += 1
            return
        self._heard(sent_at, *answer)
        await self._keep(answer[1])
        if self.sent % COUNT_EVERY == 1:
            await self._count()

    def _heard(self, sent_at: float, is_there: bool, mark: Mark) -> None:
        try:
            seen_file.check(mark, self._seen.mark)
            if not is_there:
                raise StoreError("store_in_use", "Another process took the place of this relay at its database.")
        except StoreError:
            self._is_over = True
            raise
        if not self.may_decide():
            log.warning("the database is reached again, after %.0f s", self.seconds_since)
            self.gaps += 1
        self._last = sent_at
        self.sent += 1

    async def _keep(self, mark: Mark) -> None:
        if mark == self._seen.mark:
            return
        self._seen = msgspec.structs.replace(self._seen, mark=mark)
        try:
            await trio.to_thread.run_sync(seen_file.store, self._home, self._seen)
        except ParlerError as error:
            log.warning("which state of the database was seen is not kept now: %s", error.code)

    async def _count(self) -> None:
        try:
            self.numbers = await trio.to_thread.run_sync(self._rows.numbers, abandon_on_cancel=True)
        except StoreError as error:
            log.warning("how the database is, is not known now: %s", error.code)
            self.numbers = None

    def _placed(self) -> Row:
        return msgspec.structs.replace(self.row, address=self.address(), inner=self.inner)

    def end(self) -> None:
        """Take the relay's row away: nothing is decided any more, and another may begin at once."""
        self._is_over = True
        try:
            self._rows.leave(self.row)
        except StoreError as error:
            log.warning("the relay's row stays until it is dead to the others: %s", error.code)
