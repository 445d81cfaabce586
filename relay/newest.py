"""Which link of each daemon counts, where it has links at several relays: the newest, and every relay knows the same.

    a daemon begins to ask over a link    the database raises the daemon's number, and the link has it (`claim`)
    the link's lanes say the number       a relay that hears a greater one ends what it has with a lesser one
    every `LOOK_S`                        each relay asks the database for the numbers of the daemons that it has

A daemon that lost a link comes again, maybe to another relay, up to 45 s before the old link is found dead. From then
on the old link is one of nobody: it is ended, with `draining` (1012), and what still comes over it is not taken.

The order is a row of the database because all relays reach it, whichever of them is stopped or unreachable, and because
two links that begin at the same moment get two numbers there. The lanes carry it because a row is looked at now and
then, while the attach of a newer link goes to every relay that lives anyway: so the relay of a room takes nothing more
of the older link from then on, also where that link's relay is stopped and hears nothing. Not here: links (`link`),
lanes (`peers`). Above: `routing`, `peers`, which enter what they have. Below: `counting`. Invariants: of a daemon's
links that are entered here one number is there, the greatest that was heard; a number never comes down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

import trio

from parlerd.bounded import Bounded
from parlerd.core.errors import ParlerError, StoreError
from parlerd.core.model import PrincipalId
from relay.outage import Outage

LOOK_S: Final = 2.0
"""How often a relay asks for the numbers of the daemons that it has."""
MAX_HEARD: Final = 65_536
"""Daemons whose number is remembered while nothing of them is here. Of one that was forgotten the database still
knows."""


class Numbers(Protocol):
    """Where the numbers are: `counting.Counting`. Every method raises `StoreError`."""

    async def claim(self, principal: PrincipalId) -> int: ...

    async def newest(self, principals: Collection[PrincipalId]) -> dict[PrincipalId, int]: ...


class _Entry:
    """A link or a lane that is here, with its number."""

    __slots__ = ("end", "is_told", "number")

    def __init__(self, number: int, end: Callable[[], None]) -> None:
        self.number = number
        self.end = end
        """Ends it: once, for it leaves when it has ended."""
        self.is_told = False


class Newest:
    """The newest links, as one relay knows them. `run` it as long as links and lanes are served."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._heard: Bounded[PrincipalId, int] = Bounded(MAX_HEARD)
        """The greatest number of each daemon."""
        self._here: dict[PrincipalId, list[_Entry]] = {}
        self._outage = Outage("which links are the newest")
        self.ended = 0
        """Links and lanes that were ended for a newer link."""

    async def claim(self, principal: PrincipalId) -> int:
        """A number for a link of this daemon that begins now. Raises `StoreError`."""
        return await self._numbers.claim(principal)

    @contextmanager
    def entered(self, principal: PrincipalId, number: int, end: Callable[[], None]) -> Iterator[None]:
        """Have a link or a lane here for as long as the block lasts. `end` is called once a newer link of the daemon is
        heard of. Raises `ParlerError(draining)` where one was before."""
        self.hear(principal, number)
        if number < self._heard[principal]:
            self.ended += 1
            raise ParlerError("draining")
        entry = _Entry(number, end)
        self._here.setdefault(principal, []).append(entry)
        try:
            yield
        finally:
            here = self._here[principal]
            here.remove(entry)
            if not here:
                del self._here[principal]

    def hear(self, principal: PrincipalId, number: int) -> None:
        """A link of a daemon has this number."""
        here = self._here.get(principal, [])
        # The number of one that is here may be remembered no more.
        known = max((entry.number for entry in here), default=0)
        greatest = self._heard[principal] = max(number, known, self._heard.get(principal, 0))
        for entry in here:
            if entry.number < greatest and not entry.is_told:
                entry.is_told = True
                self.ended += 1
                entry.end()

    async def run(self) -> None:
        """Ask for the numbers again and again, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask for the numbers of the daemons that are here."""
        if not self._here:
            return
        try:
            found = await self._numbers.newest(list(self._here))
        except StoreError as error:
            self._outage.failed(error)
            return
        self._outage.answered()
        for principal, number in found.items():
            self.hear(principal, number)
