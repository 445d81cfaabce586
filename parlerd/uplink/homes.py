"""The relays that the person added: the only homes elsewhere that this daemon ever dials.

They stand in one file, `<home>/homes.json`, which holds keys and addresses and no secret. Not here: dialling (`link`)
and the line by which a relay is added (`identity.join_line`). Above: the daemon, and the link to each relay. Below:
paths. Invariant: the file is 0600 and is replaced as a whole; what is in memory is what is on the disk.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from parlerd.core.errors import ParlerError, Refused
from parlerd.core.model import AgentId, HomeId, Millis
from parlerd.identity.join_line import fits, home_name
from parlerd.paths import replace_private

LOCAL: Final = "local"
"""What this home is called. No relay gets this name."""
MAX_ADDRESSES: Final = 4
"""Addresses that are kept of a relay, the one that worked last first. Source: relay spec, The link."""
MAX_HOMES: Final = 64
COUNTED_AT_MOST_MS: Final = 24 * 3600 * 1000
"""Milliseconds behind the moment from which a daemon counts in which all its numbers lie, a thousand to each."""
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
"""How a relay may be called. What else stands behind the `@` of a key is never shown."""
MAX_OWED: Final = 200
"""Agents of which one relay may be owed a card: as many as a relay takes of one person."""
_MAX_BYTES: Final = 2 * 1024 * 1024


class AddedHome(msgspec.Struct, frozen=True):
    """A relay that the person added."""

    id: HomeId
    """Its key."""
    name: str
    """What people call it: its label and the beginning of its fingerprint."""
    addresses: tuple[str, ...]
    """Where it was reached (`wss://host:port`), the best first."""
    pin: str
    """What stood behind `#` in the line that the person typed."""
    cards: dict[AgentId, str] = {}
    """The agents whose card the relay does not have as it is: with the code with which the relay refused it, or with
    nothing where the relay did not answer."""
    log: str = ""
    """Which log the relay kept when it was last reached; empty before that. Another one under the same key has none of
    the rooms that were known."""


class _File(msgspec.Struct, frozen=True):
    """The file as it is written."""

    v: int
    homes: tuple[AddedHome, ...] = ()
    default: HomeId | None = None
    counted: Millis = Millis(0)
    """The moment from which the newest daemon counted what it signed (`counters`)."""


class Homes:
    """The file `path` in memory. Making one raises `ParlerError(invalid_settings)` for a file that cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        found = _read(path)
        self._homes: dict[HomeId, AddedHome] = {home.id: home for home in found.homes}
        """The relays by key, in the order in which they were added."""
        self._default = found.default if found.default in self._homes else None
        """Where a new session opens; None for this machine."""
        self.counted = found.counted
        """The moment from which the newest daemon counts what it signs."""

    def all(self) -> Sequence[AddedHome]:
        """Every relay, the one that was added first first."""
        return tuple(self._homes.values())

    def get(self, home: HomeId) -> AddedHome | None:
        return self._homes.get(home)

    def name_of(self, home: HomeId) -> str:
        """What people call a relay; a name that its key gives where it was not added, or was taken out."""
        added = self._homes.get(home)
        return home_name("home", home) if added is None else added.name

    @property
    def default(self) -> HomeId | None:
        """The relay on which a new session opens; None for this machine."""
        return self._default

    def named(self, name: str) -> AddedHome:
        """The relay of this name. Raises `Refused(home_not_trusted)`: nothing is looked up elsewhere."""
        wanted = name.casefold()
        for home in self._homes.values():
            if home.name.casefold() == wanted:
                return home
        if _NAME.match(name) is None:
            raise Refused("home_not_trusted")
        raise Refused("home_not_trusted", f"This belongs to the relay {name}, which was not added here.", host=name)

    def add(self, id: HomeId, called: str, address: str, pin: str, *, default: bool = False) -> AddedHome:
        """Keep a relay that proved its key, or one more address of a relay that is there already.

        `called` is the label that the relay calls itself by. Raises `Refused`: `home_not_trusted` where the key does
        not fit the pin, `invalid_name` for a label that is none, `invalid_param` past 64 relays.
        """
        if not fits(pin, id):
            raise Refused("home_not_trusted", "The relay that answered there has another key than the line names.")
        known = self._homes.get(id)
        if known is None:
            if len(self._homes) >= MAX_HOMES:
                raise Refused("invalid_param", f"This home knows {MAX_HOMES} relays, which is the most.", param="relay")
            added = AddedHome(id, self._free_name(called, id), (address,), pin)
        else:
            added = msgspec.structs.replace(known, addresses=_best_first(address, known.addresses), pin=pin)
        self._write({**self._homes, id: added}, id if default else self._default)
        return added

    def reached(self, id: HomeId, address: str, others: Sequence[str] = (), *, log: str = "") -> None:
        """The relay answered at `address`, keeps the log `log`, and names `others` where it can be reached, too."""
        known = self._homes.get(id)
        if known is None:
            return
        addresses = _best_first(address, (*others, *known.addresses))
        found = msgspec.structs.replace(known, addresses=addresses, log=log or known.log)
        if found != known:
            self._write({**self._homes, id: found}, self._default)

    def owe_card(self, id: HomeId, agent: AgentId, code: str) -> None:
        """The relay does not have the card of this agent as it is. Past `MAX_OWED` agents, the first is forgotten."""
        known = self._homes.get(id)
        if known is None or known.cards.get(agent) == code:
            return
        owed = {**known.cards, agent: code}
        if len(owed) > MAX_OWED:
            del owed[next(iter(owed))]
        self._write({**self._homes, id: msgspec.structs.replace(known, cards=owed)}, self._default)

    def card_sent(self, id: HomeId, agent: AgentId) -> None:
        """The relay has the card of this agent as it is."""
        known = self._homes.get(id)
        if known is not None and agent in known.cards:
            owed = {other: code for other, code in known.cards.items() if other != agent}
            self._write({**self._homes, id: msgspec.structs.replace(known, cards=owed)}, self._default)

    def remove(self, id: HomeId) -> None:
        """Forget a relay. Nothing happens to one that is not there."""
        if id in self._homes:
            left = {key: home for key, home in self._homes.items() if key != id}
            self._write(left, None if self._default == id else self._default)

    def set_default(self, id: HomeId | None) -> None:
        """Let new sessions open on this relay, or on this machine. Raises `Refused(home_not_trusted)`."""
        if id is not None and id not in self._homes:
            raise Refused("home_not_trusted", host=id[:64])
        self._write(self._homes, id)

    def begin_to_count(self, now: Millis) -> None:
        """Set `counted` for a daemon that starts: now, and where the clock was set back since the daemon before it, so
        much later than that one's moment that none of its numbers lies there. Raises `ParlerError(home_not_writable)`
        where this cannot be kept for the next daemon."""
        self.counted = now if now > self.counted else Millis(self.counted + COUNTED_AT_MOST_MS)
        if self._homes:
            self._write(self._homes, self._default)

    def _free_name(self, called: str, id: HomeId) -> str:
        """A name that no other relay has: whoever made a key whose fingerprint begins alike gets a longer name."""
        taken = {home.name.casefold() for home in self._homes.values()} | {LOCAL}
        length = 6
        while (name := home_name(called, id, length)).casefold() in taken:
            length += 2
        return name

    def _write(self, homes: dict[HomeId, AddedHome], default: HomeId | None) -> None:
        replace_private(self._path, msgspec.json.encode(_File(1, tuple(homes.values()), default, self.counted)))
        self._homes, self._default = homes, default


def _best_first(address: str, others: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((address, *others)))[:MAX_ADDRESSES]


def _read(path: Path) -> _File:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return _File(1)
    except OSError as error:
        raise _unreadable(path, error.strerror or "it cannot be opened") from error
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            # Whoever may write to the file could add a relay, which this daemon would then dial.
            raise _unreadable(path, "others can write to it")
        data = file.read(_MAX_BYTES + 1)
    try:
        decoded = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(path, "it is not what Parler wrote") from error
    if decoded.v != 1:
        raise _unreadable(path, "a newer Parler wrote it")
    return decoded


def _unreadable(path: Path, why: str) -> ParlerError:
    return ParlerError(
        "invalid_settings",
        f"{path} cannot be used: {why}.",
        hint="Move the file away and add the relays again.",
    )
