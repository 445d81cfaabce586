"""The database of a relay whose rooms stand in PostgreSQL: opened for this relay alone, or refused in plain words.

    whose is it?      its first relay wrote its key there; another relay's is refused
    is it the one?    its state is the one that was last seen, or a later one; else a person says so first (`seen`)
    is it free?       no other relay lives there; then this relay's row is put in, and beats from now on (`beats`)

Not here: rooms (`parlerd.store`). Above: the relay's program, which imports this where a database is asked for, because
the driver for it need not be installed. Below: `seen`, `beats`, the store. Invariant: nothing of a database that was
refused is changed, but for the tables of an empty one.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from parlerd import __version__
from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import HomeId
from parlerd.core.shards import SHARDS
from parlerd.paths import Home
from parlerd.store.port import Store
from parlerd.store.postgres import PostgresStore
from parlerd.store.postgres.counts import Counts
from parlerd.store.postgres.relays import CODES, EPOCH, Relays
from parlerd.store.relays import Mark, Row
from relay import seen as seen_file
from relay import store_url
from relay.beats import Beats, since_boot
from relay.counting import Counting
from relay.holding import Holding
from relay.place import accepted_file
from relay.seen import Seen

log = logging.getLogger("relay")

REACHED_WITHIN_S: Final = 10.0
"""How long a relay that starts waits for a server that cannot be reached: one that starts at the same time is there by
then. After that it ends, and the service manager starts it again."""
_AGAIN_S: Final = 0.5
_LEAVE_S: Final = 3.0
"""How long a relay that ends waits for its row to go. Without that it is dead to the others a little later."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database that was opened, with the name of the log in it, and where it is, for people."""

    store: Store
    beats: Beats
    holding: Holding
    """Which rooms are this relay's. It asks over a connection of its own, so that a beat does not wait for it."""
    epoch: str
    """From which the secret follows that enrols people; `renew` begins another, and gives it."""
    renew: Callable[[], str]
    log_id: str
    shown: str
    counting: Counting
    """What is counted once for all relays of the database, over a connection of its own."""
    _relays: Relays
    _shared: Relays
    _counts: Counts

    def take_all(self) -> None:
        """Have every room, so that no other relay decides anywhere while this one lives. Raises
        `StoreError(store_in_use)` where other relays have rooms."""
        row = self.beats.row
        others = [each for each in self._shared.look().living if each.relay != row.relay]
        if others or len(self._shared.take(row, range(SHARDS))) < SHARDS:
            raise StoreError("store_in_use", "Other relays serve this database now.", hint="Stop them first.")

    async def leave(self) -> None:
        """Let another relay begin at once. The store was closed before."""
        with trio.move_on_after(_LEAVE_S, shield=True):
            await trio.to_thread.run_sync(self.beats.end, abandon_on_cancel=True)
            await trio.to_thread.run_sync(self._relays.close, abandon_on_cancel=True)
            await trio.to_thread.run_sync(self._shared.close, abandon_on_cancel=True)
            await trio.to_thread.run_sync(self._counts.close, abandon_on_cancel=True)


def open_database(home: Home, keys: HomeId, codes: str, *, wait: Callable[[float], None] = time.sleep) -> Database:
    """Open the database whose URL the relay's folder keeps. Raises `ParlerError`: `invalid_settings`,
    `store_unreachable` and other codes of a store, `store_of_another_relay`, `store_in_use`, `store_went_back`."""
    url = store_url.load(home)
    store = _reached(lambda: PostgresStore(url), wait)
    relays = Relays(url)
    try:
        beats, mark = _join(home, keys, codes, relays)
        epoch = relays.agree(EPOCH, secrets.token_hex(16))
    except BaseException:
        store.close()
        relays.close()
        raise
    shared = Relays(url)
    holding = Holding(shared, beats.row, may_decide=beats.may_decide, gaps=lambda: beats.gaps)

    def renew() -> str:
        begun = secrets.token_hex(16)
        with closing(Relays(url)) as alone:
            alone.renew(begun)
        return begun

    counts = Counts(url)
    return Database(
        store,
        beats,
        holding,
        epoch,
        renew,
        mark.log,
        store_url.shown(url),
        Counting(counts),
        relays,
        shared,
        counts,
    )


def _reached(make: Callable[[], Store], wait: Callable[[float], None]) -> Store:
    until = since_boot() + REACHED_WITHIN_S
    while True:
        try:
            return make()
        except StoreError as error:
            if error.code != "store_unreachable" or since_boot() > until:
                raise
            log.warning("%s", error.message)
        wait(_AGAIN_S)


def _join(home: Home, keys: HomeId, codes: str, relays: Relays) -> tuple[Beats, Mark]:
    seen = seen_file.load(home) or Seen(relay=secrets.token_hex(16))
    accepted = accepted_file(home)
    mark = relays.mark()
    if not mark.log and not accepted.exists():
        # One that is nobody's yet is left so, where another was served before.
        seen_file.check(mark, seen.mark)
    relays.claim(keys, secrets.token_hex(16))
    if relays.agree(CODES, codes) != codes:
        # Of one key, and with another secret behind the codes: what one relay tells people the other would not know.
        raise StoreError(
            "store_of_another_relay",
            "This relay has the key of those that serve the database, and not all of their secrets.",
            hint="Copy the whole folder `keys` from the first relay's home, while no relay runs here.",
        )
    mark = relays.mark()
    if not accepted.exists():
        seen_file.check(mark, seen.mark)
    row = Row(seen.relay, secrets.token_hex(16), "", __version__)
    began = since_boot()
    relays.join(row)
    if accepted.exists():
        log.warning("a person accepted the database as it is")
    seen = Seen(relay=seen.relay, mark=mark)
    seen_file.store(home, seen)
    _forget(accepted)
    return Beats(relays, row, home, seen, began=began), mark


def _forget(file: Path) -> None:
    try:
        with suppress(FileNotFoundError):
            file.unlink()
    except OSError as error:
        raise ParlerError("home_not_writable", f"{file} cannot be removed: {error.strerror}.") from error
