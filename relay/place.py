"""Where a relay listens and what it is called: one small file in its home, which a person's command writes.

A relay on a machine that gets its address from the network keeps the name of the interface and takes the address that
the interface has when the relay starts. A relay never listens on all addresses: the certificate, the line for others
and whoever reads the status would have none to name.

Not here: the relay's key, certificate and secret, which its own program makes. Above: the command line, which writes
the file, and the relay, which reads it. Below: `network`, `parlerd.paths`. Invariant: the file is 0600 and is replaced
whole.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Literal

import msgspec

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import LOCAL_HOME, RESERVED, label
from parlerd.paths import Home, replace_private
from relay.network import Network, default_route, holder, is_everywhere, is_literal

DEFAULT_PORT: Final = 7777
DEFAULT_NAME: Final = "team"
MAX_NAME: Final = 32
"""Characters of a relay's label. Behind it stand a dash and six more in the relay's name."""
_MAX_BYTES: Final = 4096
FILE: Final = "place.json"
ACCEPTED: Final = "accept-restore"
"""The file by which a person says that the database is to be served in the state in which it is."""
SECRET: Final = "join-secret"  # noqa: S105 - the name of a file
"""The file with the secret that enrols a person, which the relay's own program makes."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a relay listens: at `address` where the person named one, and otherwise at whatever address `interface` has
    when the relay starts. Its rooms stand in a file of its folder, or in the database whose URL the folder keeps
    (`store_url`); a relay of an older version takes no place of the latter kind, and so begins no second file."""

    v: int = 1
    name: str = DEFAULT_NAME
    address: str = ""
    interface: str = ""
    port: int = DEFAULT_PORT
    store: Literal["file", "postgresql"] = "file"

    def __post_init__(self) -> None:
        if (self.v == 2) is not (self.store == "postgresql"):
            raise ValueError("a place of version 2 has its rooms in a database, and no other has")
        if not 1 <= self.port <= 65_535:
            raise ValueError("a port is 1 to 65535")
        if bool(self.address) is bool(self.interface):
            raise ValueError("a place has an address or an interface")


def choose(
    network: Network, known: Place | None, *, bind: str | None = None, port: int | None = None, name: str | None = None
) -> Place:
    """The place that a person asks for: what is not named stays as it was, or is the default.

    Raises `Refused`: `invalid_param` for an address that is none, stands for all, or is not this machine's;
    `invalid_name`; `no_address` where the machine has no route to others and `bind` names none.
    """
    place = known
    if bind is not None:
        _check_bind(network, bind)
        place = Place(address=bind) if place is None else msgspec.structs.replace(place, address=bind, interface="")
    elif place is None:
        reached = default_route(network)
        if reached is None:
            raise Refused("no_address")
        place = Place(interface=reached.interface)
    if name is not None:
        place = msgspec.structs.replace(place, name=_label(name))
    return place if port is None else msgspec.structs.replace(place, port=port)


def resolve(network: Network, place: Place) -> str:
    """The address at which a relay at this place listens now. Raises `Refused(no_address)` where the machine does not
    have it at this moment."""
    if place.address:
        if holder(network, place.address) is None:
            raise Refused("no_address", f"This machine has no address {place.address} now.", address=place.address)
        return place.address
    addresses = network.interfaces().get(place.interface, ())
    if not addresses:
        raise Refused("no_address", f"The interface {place.interface} has no address now.", interface=place.interface)
    # The address on the default route first: an interface may have several, and others reach this one.
    usual = network.default()
    return usual if usual is not None and usual in addresses else addresses[0]


def load(home: Home) -> Place | None:
    """The place of the relay whose home this is; None where none was made. Raises `ParlerError(invalid_settings)`."""
    path = file_of(home)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise _unreadable(path, "others can write to it")
        data = file.read(_MAX_BYTES + 1)
    try:
        place = msgspec.json.decode(data, type=Place)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _unreadable(path, "it is not what Parler wrote") from error
    if place.v not in (1, 2):
        raise _unreadable(path, "a newer Parler wrote it")
    return place


def store(home: Home, place: Place) -> None:
    """Write the file, whole or not at all. `paths.prepare(home)` comes first. Raises `ParlerError`."""
    replace_private(file_of(home), msgspec.json.format(msgspec.json.encode(place)) + b"\n")


def file_of(home: Home) -> Path:
    return home.root / FILE


def accepted_file(home: Home) -> Path:
    """The file by which a person says that the database is to be served as it is."""
    return home.root / ACCEPTED


def accept_restore(home: Home) -> None:
    """Say that the database is to be served as it is when the relay starts next. Raises `ParlerError`."""
    path = accepted_file(home)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ParlerError("home_not_writable", f"{path} cannot be written: {error.strerror}.") from error


def in_database(home: Home, place: Place) -> Place:
    """The same place, with the rooms in a database. Raises `Refused(invalid_param)` for a relay that has its rooms in a
    file: nothing would carry them over."""
    if place.store == "file" and home.database.exists():
        raise Refused(
            "invalid_param",
            "This relay keeps its rooms in a file, and they would not be in the database.",
            hint="Make the relay over a database with another home: parler relay --home DIR --store URL",
            param="store",
        )
    return msgspec.structs.replace(place, v=2, store="postgresql")


def secret_of(home: Home) -> Path:
    """The file with the join secret."""
    return home.root / SECRET


def _check_bind(network: Network, bind: str) -> None:
    if not is_literal(bind):
        raise Refused("invalid_param", f"{bind} is no IP address of this machine.", param="bind")
    if is_everywhere(bind):
        raise Refused(
            "invalid_param",
            "A relay listens at one address and never at all of them.",
            hint="Name the address by which the others reach this machine, or leave --bind out.",
            param="bind",
        )
    if holder(network, bind) is None:
        here = [each for addresses in network.interfaces().values() for each in addresses]
        raise Refused(
            "invalid_param",
            f"{bind} is not an address of this machine.",
            hint=f"Its addresses: {', '.join(here)}",
            param="bind",
        )


def _label(name: str) -> str:
    """A name that may stand outside a fence. Raises `Refused(invalid_name)`."""
    hint = f"Use 1 to {MAX_NAME} of: ASCII letters, digits, and . _ -"
    try:
        found = label(name)
    except Refused as error:
        raise Refused("invalid_name", hint=hint) from error
    if found.casefold() in {LOCAL_HOME, *RESERVED}:
        raise Refused("invalid_name", f"{found} means something else in Parler.", hint="Take another word.")
    if len(found) > MAX_NAME or any(mark in found for mark in "@#/"):
        raise Refused("invalid_name", hint=hint)
    return found


def _unreadable(path: Path, why: str) -> ParlerError:
    return ParlerError(
        "invalid_settings",
        f"{path} cannot be used: {why}.",
        hint="Move the file away and set the relay up again: parler connect --team",
    )
