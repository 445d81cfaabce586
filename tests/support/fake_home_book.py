"""The relays that a person added, in memory: relays that answer as a test says, and what waits for each.

It obeys what the handlers lean on: nothing is stored where anything does not hold, the newest is the default, and one
that is taken out is the default no more. Verified by `tests/contract/test_home_book.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import LOCAL_HOME
from parlerd.operations import types as t

LINE = "wss://192.168.1.20:7777/#7f3k2qabcdefghijklmnopqrstuvwxyz"
SECRET = "A3KE7-DJRQ2-9FHT4-WXC6M-0BNV50"


def entry(name: str = "team-7f3k2q", **about: object) -> t.HomeEntry:
    """A relay as the person has it."""
    fields = {
        "name": name,
        "id": "N" + name.upper(),
        "url": "wss://192.168.1.20:7777",
        "fingerprint": LINE.partition("#")[2],
        "state": "connected",
        "default": False,
        **about,
    }
    return msgspec.convert(fields, t.HomeEntry)


@dataclass
class FakeHomeBook:
    """`relays` says what answers at which line: an entry, or the code of the error."""

    relays: dict[str, t.HomeEntry | str] = field(default_factory=lambda: {LINE: entry()})
    known: set[str] = field(default_factory=set)
    """The lines whose relay knows this person already."""
    homes: list[t.HomeEntry] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)

    def listed(self) -> list[t.HomeEntry]:
        return list(self.homes)

    async def add(self, line: str, secret: str) -> t.HomeAdded:
        await trio.lowlevel.checkpoint()
        self.secrets.append(secret)
        answer = self.relays.get(line, "invalid_param")
        if isinstance(answer, str):
            raise Refused(answer)
        if line not in self.known:
            if not secret:
                raise Refused("not_enrolled")
            if secret != SECRET:
                raise Refused("wrong_secret")
        self.known.add(line)
        was_there = any(home.id == answer.id for home in self.homes)
        if not was_there:
            self.homes.append(answer)
        self._choose(answer.id)
        (home,) = [home for home in self.homes if home.id == answer.id]
        return t.HomeAdded(home=home, status="unchanged" if was_there else "added")

    async def remove(self, name: str) -> t.HomeRemoved:
        await trio.lowlevel.checkpoint()
        home = self._named(name)
        self.homes.remove(home)
        default = next((each.name for each in self.homes if each.default), LOCAL_HOME)
        return t.HomeRemoved(name=home.name, rooms=1, dropped=home.waiting, default=default)

    def choose(self, name: str) -> t.HomeEntry | None:
        if name == LOCAL_HOME:
            self._choose("")
            return None
        self._choose(self._named(name).id)
        return self._named(name)

    def _named(self, name: str) -> t.HomeEntry:
        for home in self.homes:
            if name in (home.name, home.id):
                return home
        raise Refused("no_such_home", home=name)

    def _choose(self, id: str) -> None:
        self.homes = [msgspec.structs.replace(home, default=home.id == id) for home in self.homes]
