"""Which state of its database a relay last saw: one small file in its folder, so that a database that was brought back
from a backup, or is another one, is not served as if nothing had happened.

    another server, database or log    it is not the one that was served
    an earlier position                commits that were acknowledged are not in it any more

What people did after that state is gone from the database and is still on their machines. A person decides whether it
is served nevertheless (`parler relay accept-restore`). A database that holds the same log keeps its name: each machine
compares each room, and a room that lost something goes on once its owner rewinds it. One with another log tells every
machine by that log's name that the rooms of before are archives.
Not here: reading the state (`parlerd.store.postgres.relays`). Above: `beats`, `database`. Invariant: the file is
replaced whole, and its position only grows but by that decision.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec

from parlerd.core.errors import ParlerError, StoreError
from parlerd.paths import Home, replace_private
from parlerd.store.relays import Mark

FILE: Final = "database.json"
_MAX_BYTES: Final = 4096


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """The newest state that the relay saw, and the relay's own id among those that serve the database."""

    v: int = 1
    relay: str
    mark: Mark | None = None


def load(home: Home) -> Seen | None:
    """What was seen; None for a relay that saw no database yet. Raises `ParlerError(invalid_settings)`."""
    path = file_of(home)
    try:
        with open(path, "rb", opener=_without_links) as file:
            data = file.read(_MAX_BYTES)
        seen = msgspec.json.decode(data, type=Seen)
        if seen.v != 1 or not seen.relay:
            raise ValueError("a newer Parler wrote it")
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ParlerError(
            "invalid_settings",
            f"{path} does not say which state of the database this relay last saw.",
            hint="Where you know that the database is the right one, move the file away.",
        ) from error
    return seen


def store(home: Home, seen: Seen) -> None:
    """Write the file, whole or not at all. Raises `ParlerError(home_not_writable)`."""
    replace_private(file_of(home), msgspec.json.encode(seen) + b"\n")


def check(mark: Mark, seen: Mark | None) -> None:
    """Raises `StoreError(store_went_back)` for a database that is not in the state in which it was `seen`, or a later
    one."""
    if seen is None:
        return
    if (mark.system, mark.database) != (seen.system, seen.database):
        raise StoreError("store_went_back", "This is not the database that this relay served before.")
    if mark.log != seen.log:
        raise StoreError("store_went_back", "The database holds another log than this relay served before.")
    if mark.position < seen.position:
        raise StoreError("store_went_back", "The database was brought back to a state before the one that was served.")


def file_of(home: Home) -> Path:
    return home.root / FILE


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
