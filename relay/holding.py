"""Which rooms this relay decides in, and which relay has the others: shards taken, handed over and given up.

    every 2 s   look who lives and who has what; take what is free and falls to this relay; hand over what falls to
                another that lives
    drained     every shard goes to a relay that stays, and what waited in its rooms is answered first

A shard changes hands in the store alone (`store.relays.SharedOut`), which raises its term. What is kept here is what
the store last said; a relay that believes it has a shard of which the term moved on is refused with its next append.
After a time in which it did not beat others may have taken its shards, so it shows no room until it looked.

Not here: when a relay must not decide (`beats`), what becomes of rooms (`engine.owning`). Above: `routing`, the relay's
program. Below: `core.shards`, the store. Invariants: a room is this relay's only with a tenure that the store gave it;
a shard is handed over after the last answer in its rooms; of a shard whose relay does not live nobody is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol, TypeVar

import trio

from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import HOME_ROOM, RoomId
from parlerd.core.shards import SHARDS, shard_of, shares
from parlerd.store.relays import Row, Seen, SharedOut, Tenure
from relay.outage import Outage

log = logging.getLogger("relay")

LOOK_S: Final = 2.0
"""How often a relay looks who has what. Source: scale spec, One owner a room at a time."""
SOON_S: Final = 0.2
"""The shortest time between two looks that are asked for in between."""

T = TypeVar("T")


class Follows(Protocol):
    """Who is told that rooms came or went: `engine.owning.Owning`."""

    async def took(self) -> None: ...

    async def let_go(self) -> None: ...


async def in_a_thread(work: Callable[[], T]) -> T:
    """Ask the store away from the loop. A server that is silent answers nothing, and whoever stops does not wait."""
    return await trio.to_thread.run_sync(work, abandon_on_cancel=True)


class Holding:
    """The shards of one relay, which is in the store as `row`. It is `engine.ports.Ownership`."""

    def __init__(
        self,
        shared: SharedOut,
        row: Row,
        *,
        may_decide: Callable[[], bool] = lambda: True,
        gaps: Callable[[], int] = lambda: 0,
        aside: Callable[[Callable[[], object]], Awaitable[object]] = in_a_thread,
    ) -> None:
        self._shared = shared
        self._row = row
        self._may_decide = may_decide
        self._gaps = gaps
        """How often others may have taken what this relay has, without its knowing."""
        self._looked_after = 0
        """How often that had been when the last look began."""
        self._aside = aside
        self._mine: dict[int, Tenure] = {}
        """The shards of this relay, each with the tenure that the store gave."""
        self._leaving: set[int] = set()
        """Those among them that are being handed over: nothing is begun there any more."""
        self._seen = Seen([], [])
        self._living: dict[str, Row] = {}
        self._found: tuple[frozenset[str], dict[int, str]] = frozenset(), {}
        """How the shards fall to relays, of those that it was last asked about."""
        self._is_draining = False
        self._one = trio.Lock()
        """One look at a time."""
        self._looked_at = float("-inf")
        self._outage = Outage("who has which rooms")
        self._news = trio.Event()
        self.follows: Follows | None = None
        """Who is told that rooms came or went, once there is an engine."""
        self.taken = 0
        """Shards that were taken, ever."""
        self.given = 0
        """Shards that were handed over."""
        self.lost = 0
        """Shards that others took."""

    # -- what the engine asks ------------------------------------------------------------------------------

    def has(self, room: RoomId) -> bool:
        shard = shard_of(room)
        is_mine = shard in self._mine and shard not in self._leaving
        return is_mine and not self.is_cut_off and self._gaps() == self._looked_after

    def tenure(self, room: RoomId) -> Tenure | None:
        if room == HOME_ROOM:
            # Every relay may decide there: the position of its log says who was faster.
            return None
        found = self._mine.get(shard_of(room))
        if found is None:
            raise Refused("room_moved", room=room)
        return found

    # -- what others ask -----------------------------------------------------------------------------------

    @property
    def relay(self) -> str:
        """This relay's id."""
        return self._row.relay

    @property
    def is_cut_off(self) -> bool:
        """Whether others may have the rooms of this relay because they take it to be dead. Who lives, as the store last
        said, is no answer: one may have come since, and whoever cannot beat is not among them itself."""
        return not self._may_decide()

    @property
    def living(self) -> list[Row]:
        """The relays that live, this one among them, as the store last said."""
        return list(self._living.values())

    @property
    def shards(self) -> int:
        """How many shards this relay has."""
        return len(self._mine)

    @property
    def is_older(self) -> bool:
        """Whether a newer version wrote facts of which this relay knows nothing, so that it takes no rooms."""
        return self.knows_less(self._row)

    def knows_less(self, row: Row) -> bool:
        """The same of any relay."""
        return row.kinds < self._seen.written

    async def begin(self, kinds: int) -> bool:
        """Ask whether facts of the kinds up to this number may be written: every relay that lives knows them. Whoever
        writes the first of a new kind asks before. Raises `StoreError`."""
        return kinds <= self._seen.written or await self._do(lambda: self._shared.begin(kinds))

    @property
    def epoch(self) -> str:
        """The epoch of the secret that enrols people; empty before the first look."""
        return self._seen.epoch

    @property
    def newest_term(self) -> int:
        """The highest term of any shard."""
        return max((each.term for each in self._seen.shards), default=0)

    @property
    def unowned(self) -> int:
        """How many shards no living relay has."""
        return SHARDS - sum(self._is_alive(each) for each in self._seen.shards)

    def shards_of(self, relay: str) -> int:
        """How many shards a relay has, as the store last said."""
        return sum(each.relay == relay for each in self._seen.shards)

    def owner_of(self, room: RoomId) -> Row | None:
        """The relay that has a room; None where none that lives has it."""
        if not self._seen.shards:
            return None
        tenure = self._seen.shards[shard_of(room)]
        return self._living.get(tenure.relay) if self._is_alive(tenure) else None

    async def changed(self) -> None:
        """Wait until something is other than it was."""
        await self._news.wait()

    def _is_alive(self, tenure: Tenure) -> bool:
        row = self._living.get(tenure.relay)
        return row is not None and row.incarnation == tenure.incarnation

    # -- following the store -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._try_to_look()
            await trio.sleep(LOOK_S)

    async def look_soon(self) -> None:
        """Look now, unless somebody did a moment ago. Where the store cannot be read what was known stays."""
        if trio.current_time() - self._looked_at >= SOON_S:
            await self._try_to_look()

    async def _try_to_look(self) -> None:
        try:
            await self.look()
        except StoreError as error:
            self._outage.failed(error)
        else:
            self._outage.answered()

    async def look(self) -> None:
        """Look who lives and who has what, take what falls to this relay, and hand over what falls to another. Raises
        `StoreError`."""
        async with self._one:
            self._looked_at = trio.current_time()
            gaps = self._gaps()
            await self._follow(await self._do(self._shared.look))
            self._looked_after = gaps
            takers = self._takers()
            if self._is_draining or not self._may_decide() or self._row.relay not in takers:
                return
            falls = self._shares(takers)
            free = [
                each.shard
                for each in self._seen.shards
                if falls[each.shard] == self._row.relay and not self._is_alive(each)
            ]
            if free:
                got = await self._do(lambda: self._shared.take(self._row, free))
                self.taken += len(got)
                await self._follow(await self._do(self._shared.look))
            others = {shard: falls[shard] for shard in self._mine if falls[shard] != self._row.relay}
            await self._hand_over(others)

    async def drain(self) -> None:
        """Hand every shard to a relay that stays, as far as there is one, and take none any more."""
        self._is_draining = True
        async with self._one:
            try:
                # It is the others' before they look who has what: else they would give it back.
                await self._do(lambda: self._shared.step_back(self._row))
                await self._follow(await self._do(self._shared.look))
                falls = self._shares(self._takers() - {self._row.relay})
                await self._hand_over({shard: falls.get(shard, "") for shard in self._mine})
            except StoreError as error:
                log.warning("the shards stay until others take them: %s", error.code)

    def _takers(self) -> set[str]:
        """The relays to which rooms may fall: those that listen for the others, and know what may be in the rooms."""
        return {row.relay for row in self._living.values() if row.inner and row.kinds >= self._seen.written}

    def _shares(self, relays: Collection[str]) -> dict[int, str]:
        """The relay that each shard falls to, which takes some milliseconds to find."""
        names = frozenset(relays)
        if self._found[0] != names:
            self._found = names, shares(names)
        return self._found[1]

    async def _follow(self, seen: Seen) -> None:
        """Take in what the store says."""
        before = set(self._mine)
        changed = seen != self._seen
        self._seen, self._living = seen, {row.relay: row for row in seen.living}
        own = (self._row.relay, self._row.incarnation)
        mine = {each.shard: each for each in seen.shards if (each.relay, each.incarnation) == own}
        # A shard that came back with another term was another's meanwhile, who may have decided there.
        gone = {shard for shard, tenure in self._mine.items() if mine.get(shard) != tenure}
        came = mine.keys() - (before - gone)
        self.lost += len(gone)
        self._mine = {shard: tenure for shard, tenure in mine.items() if shard not in gone}
        self._leaving -= gone
        if gone:
            await self._let_go()
        self._mine = mine
        if came and self.follows is not None:
            await self.follows.took()
        if changed:
            news, self._news = self._news, trio.Event()
            news.set()

    async def _hand_over(self, to: dict[int, str]) -> None:
        if not to:
            return
        self._leaving |= to.keys()
        try:
            await self._let_go()
            await self._give(to)
        finally:
            if not self._is_draining:
                self._leaving.clear()
        await self._follow(await self._do(self._shared.look))

    async def _give(self, to: dict[int, str]) -> None:
        given: list[Tenure] = []
        for relay in sorted(set(to.values())):
            terms = {shard: self._mine[shard].term for shard, taker in to.items() if taker == relay}
            given += await self._do(lambda relay=relay, terms=terms: self._shared.give(self._row, terms, relay))  # type: ignore[misc]
        for tenure in given:
            del self._mine[tenure.shard]
        self.given += len(given)

    async def _let_go(self) -> None:
        if self.follows is not None:
            await self.follows.let_go()

    async def _do(self, work: Callable[[], T]) -> T:
        return await self._aside(work)  # type: ignore[return-value]
