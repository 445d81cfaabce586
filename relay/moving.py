"""A relay's rooms carried from its file into a database, or back, and used from there.

    copy      every row into a store that nobody uses          a relay that starts meanwhile has the one of before
    look      at every fact of the copy
    switch    one small file, the place, says where the rooms are: before it is replaced that is the one store, and
              after it the other

So whatever ends this, one of the two is in charge, and it is done again by the same command. The file that was left is
kept under another name, and a database that was left stays as it is. Not here: the copying, which is the store's
(`postgres.moving`). Above: the relay's program, which a command starts and which holds the lock of the relay's folder.
Below: both stores.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from parlerd.core.errors import ParlerError, Refused, StoreError
from parlerd.groups import unwrapped
from parlerd.identity.relay_keys import RelayKeys
from parlerd.paths import Home
from parlerd.store.sqlite import SqliteStore
from relay import place as places
from relay import seen as seen_file
from relay import store_url
from relay.place import Place
from relay.seen import Seen

if TYPE_CHECKING:
    from relay.database import Database

Say = Callable[[str], None]

SAY_S: Final = 1.0
"""How often it is said how far the work is."""
_COPY: Final = "parler.db.moving"
LEFT: Final = "parler.db.moved"
"""The file of before, once a database is used."""


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the rooms are to be: in the database at `url`, whose owner's URL is `owner`; or, where both are empty, in a
    file of the relay's folder."""

    url: str = ""
    owner: str = ""


def move(home: Home, asked: str, say: Say = print) -> None:
    """Carry the rooms of the relay whose home this is to where a `Wanted`, as JSON, says. The caller holds the lock.
    Raises `ParlerError`."""
    place = places.load(home)
    if place is None:
        raise ParlerError("relay_not_running", "No relay was made in this home.")
    try:
        wanted = msgspec.json.decode(asked, type=Wanted)
    except msgspec.DecodeError as error:
        raise ParlerError("invalid_param", "What is asked for cannot be read.") from error
    try:
        if wanted.url:
            _to_database(home, place, wanted, _Progress(say))
        else:
            _to_file(home, place, _Progress(say))
    except OSError as error:
        raise ParlerError("home_not_writable", f"{home.root} cannot be written: {error.strerror}.") from error
    except ImportError as error:
        if error.name != "psycopg":
            raise
        raise ParlerError("store_driver_missing") from None


class _Progress:
    """Says now and then how far the copying is."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said = time.monotonic()

    def __call__(self, table: str, rows: int) -> None:
        now = time.monotonic()
        if now - self._said >= SAY_S:
            self._said = now
            done = "rooms that are checked" if table == "checked" else f"rows of {table} that are copied"
            self._say(f"{done}: {rows:,}")


# -- into a database ---------------------------------------------------------------------------------------


def _to_database(home: Home, place: Place, wanted: Wanted, note: _Progress) -> None:
    from parlerd.store.postgres import PostgresStore, moving, roles
    from parlerd.store.postgres.relays import Relays

    if place.store != "file":
        raise Refused("invalid_param", "The rooms of this relay are in a database already.", param="to")
    if not home.database.exists():
        raise Refused(
            "invalid_param",
            "This relay has no rooms to carry.",
            hint="Name the database when you start it: parler relay --store URL",
            param="to",
        )
    url = store_url.parse(wanted.url, may_hold_password=True)
    owner = store_url.parse(wanted.owner, may_hold_password=True)
    if not (role := store_url.role(url)):
        raise Refused("invalid_param", "The URL of the store names no role.", hint="Write ROLE@HOST.", param="to")
    with closing(SqliteStore(home.database, backups=home.backups)) as source:
        heads = moving.heads_of(source)
    roles.prepare(owner, role)
    key = RelayKeys(home.keys).id
    # A run that broke off may have come so far.
    if moving.heads_in_database(url) != heads:
        meta = {"home": str(key), "log_id": (home.root / "log.id").read_text(encoding="ascii").strip()}
        moving.into_database(home.database, owner, meta, note)
    with closing(PostgresStore(url)) as target:
        target.rebuild_index()
        moving.check(target, heads, note)
    with closing(Relays(url)) as relays:
        # It is this relay's, and no other's that has the same logs.
        relays.claim(key, secrets.token_hex(16))
        mark = relays.mark()
    known = seen_file.load(home)
    seen_file.store(home, Seen(relay=known.relay if known is not None else secrets.token_hex(16), mark=mark))
    store_url.keep(home, url)
    places.store(home, msgspec.structs.replace(place, v=2, store="postgresql"))
    _leave_file(home)


def _leave_file(home: Home) -> None:
    """Put the file aside, so that nobody takes it for the store."""
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.replace(f"{home.database}{ending}", home.root / f"{LEFT}{ending}")


# -- into a file -------------------------------------------------------------------------------------------


def _to_file(home: Home, place: Place, note: _Progress) -> None:
    from relay.database import open_database

    if place.store != "postgresql":
        raise Refused("invalid_param", "The rooms of this relay are in a file already.", param="to")
    keys = RelayKeys(home.keys)
    opened = open_database(home, keys.id, keys.mark())

    async def main() -> None:
        try:
            async with trio.open_nursery() as nursery:
                # No other relay decides over the database meanwhile.
                await trio.to_thread.run_sync(opened.take_all)
                nursery.start_soon(opened.beats.run)
                copy = await trio.to_thread.run_sync(_copied, home, opened, note)
                if not opened.beats.may_decide():
                    raise StoreError("store_unreachable")
                _use(home, place, copy, opened.log_id)
                nursery.cancel_scope.cancel()
        finally:
            opened.store.close()
            await opened.leave()

    try:
        trio.run(main)
    except ExceptionGroup as group:
        raise unwrapped(group) from None


def _copied(home: Home, opened: Database, note: _Progress) -> Path:
    """A file with everything of the database, looked at fact by fact."""
    from parlerd.store.postgres import moving

    copy = home.root / _COPY
    for ending in ("", "-wal", "-shm"):
        Path(f"{copy}{ending}").unlink(missing_ok=True)
    heads = moving.heads_of(opened.store)
    SqliteStore(copy, backups=home.backups).close()
    moving.into_file(store_url.load(home), copy, note)
    with closing(SqliteStore(copy, backups=home.backups)) as target:
        target.rebuild_index()
        moving.check(target, heads, note)
    return copy


def _use(home: Home, place: Place, copy: Path, log_id: str) -> None:
    """From now on the rooms are in the file."""
    (home.root / "log.id").unlink(missing_ok=True)
    descriptor = os.open(
        home.root / "log.id", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(log_id)
        file.flush()
        os.fsync(descriptor)
    os.replace(copy, home.database)
    places.store(home, msgspec.structs.replace(place, v=1, store="file"))
    store_url.file_of(home).unlink(missing_ok=True)
    seen_file.file_of(home).unlink(missing_ok=True)
