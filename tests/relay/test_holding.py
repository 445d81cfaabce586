"""Which rooms a relay decides in: what it takes, hands over and loses, as the store says it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock

from parlerd.core.errors import Refused, StoreError
from parlerd.core.model import HOME_ROOM, RoomId
from parlerd.core.shards import SHARDS, shard_of, shares
from parlerd.store.memory_relays import MemoryRelays
from parlerd.store.relays import DEAD_AFTER_S, Row, Seen
from relay.beats import DECIDES_S
from relay.holding import LOOK_S, Holding

ROOM = RoomId("a room")
ONE = Row("one", "i1", "192.0.2.1:7777", "1.0", "10.0.0.1:7778")
TWO = Row("two", "i2", "192.0.2.2:7777", "1.0", "10.0.0.2:7778")


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=MockClock(autojump_threshold=0))


async def at_once(work: Callable[[], object]) -> object:
    await trio.lowlevel.checkpoint()
    return work()


@dataclass
class Told:
    """What the engine is told, and which rooms it had then."""

    holding: Holding
    said: list[tuple[str, bool]] = field(default_factory=list)

    async def took(self) -> None:
        self.said.append(("took", self.holding.has(ROOM)))

    async def let_go(self) -> None:
        self.said.append(("let go", self.holding.has(ROOM)))


def holding_of(relays: MemoryRelays, row: Row, may_decide: Callable[[], bool] = lambda: True) -> tuple[Holding, Told]:
    holding = Holding(relays, row, may_decide=may_decide, aside=at_once)
    holding.follows = told = Told(holding)
    return holding, told


def beaten(relays: MemoryRelays, *rows: Row) -> None:
    for row in rows:
        relays.beat(row)


def test_a_relay_alone_takes_every_shard_and_the_engine_is_told_once_it_has_them() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        holding, told = holding_of(relays, ONE)
        assert not holding.has(ROOM)
        assert holding.owner_of(ROOM) is None
        await holding.look()
        assert (holding.shards, holding.taken, holding.unowned) == (SHARDS, SHARDS, 0)
        assert told.said == [("took", True)]
        assert holding.owner_of(ROOM) == ONE
        tenure = holding.tenure(ROOM)
        assert tenure is not None
        assert (tenure.shard, tenure.relay, tenure.term) == (shard_of(ROOM), "one", 1)
        assert relays.holds(tenure)

    run(main)


def test_a_relay_that_comes_is_given_what_falls_to_it_after_the_engine_let_go() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        first, told = holding_of(relays, ONE)
        await first.look()
        relays.join(TWO)
        falls = shares(["one", "two"])
        await first.look()
        assert first.given == sum(relay == "two" for relay in falls.values())
        assert ("let go", falls[shard_of(ROOM)] == "one") in told.said
        second, _ = holding_of(relays, TWO)
        await second.look()
        assert second.shards == first.given
        assert second.taken == 0
        assert first.shards + second.shards == SHARDS
        assert first.owner_of(ROOM) == second.owner_of(ROOM)

    run(main)


def test_what_a_dead_relay_had_is_taken_with_a_higher_term_and_it_learns_that() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        late, told = holding_of(relays, ONE)
        await late.look()
        old = late.tenure(ROOM)
        await trio.sleep(DEAD_AFTER_S)
        relays.join(TWO)
        next, _ = holding_of(relays, TWO)
        await next.look()
        assert next.shards == SHARDS
        assert late.tenure(ROOM) == old
        assert old is not None
        assert not relays.holds(old)
        await late.look()
        assert (late.shards, late.lost, late.newest_term) == (0, SHARDS, 2)
        assert told.said[-1] == ("let go", False)
        with pytest.raises(Refused, match="room_moved"):
            late.tenure(ROOM)

    run(main)


def test_a_shard_that_came_back_with_another_term_was_anothers_meanwhile() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        relays.join(TWO)
        holding, told = holding_of(relays, ONE)
        await holding.look()
        mine = next(shard for shard, relay in shares(["one", "two"]).items() if relay == "one")
        relays.give(ONE, {mine: 1}, "two")
        relays.give(TWO, {mine: 2}, "one")
        told.said.clear()
        await holding.look()
        assert [said for said, _ in told.said] == ["let go", "took"]
        assert holding.lost == 1

    run(main)


def test_a_relay_that_may_not_decide_takes_no_room() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        may = [False]
        holding, _ = holding_of(relays, ONE, lambda: may[0])
        await holding.look()
        assert holding.shards == 0
        may[0] = True
        await holding.look()
        assert holding.has(ROOM)

    run(main)


@pytest.mark.parametrize("others", [[], [TWO]])
def test_a_relay_that_could_not_beat_shows_no_room_whoever_else_it_saw(others: list[Row]) -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        may = [True]
        holding, _ = holding_of(relays, ONE, lambda: may[0])
        await holding.look()
        for row in others:
            relays.join(row)
            await holding.look()
        kept = next(room for n in range(100) if holding.has(room := RoomId(f"r_{n}")))
        # It is as it was once it beat again, if nobody took its place.
        for may[0] in (False, True, False):
            assert (holding.has(kept), holding.is_cut_off) == (may[0], not may[0])

    run(main)


def test_a_relay_that_can_read_and_cannot_beat_is_cut_off_although_it_sees_one_relay_alone() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        beaten_at = 0.0
        holding, _ = holding_of(relays, ONE, lambda: trio.current_time() - beaten_at < DECIDES_S)
        relays.join(ONE)
        relays.join(TWO)
        await holding.look()
        await trio.sleep(DECIDES_S - 0.1)
        assert any(holding.has(RoomId(f"r_{n}")) for n in range(100))
        await trio.sleep(DEAD_AFTER_S - DECIDES_S)
        relays.beat(TWO)
        await trio.sleep(1)
        await holding.look()
        # It is dead to the store, so the only one that lives is the other.
        assert holding.living == [TWO]
        assert holding.is_cut_off
        assert not any(holding.has(RoomId(f"r_{n}")) for n in range(100))

    run(main)


def test_a_relay_that_did_not_beat_for_a_while_shows_no_room_until_it_looked_who_has_it() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        gaps = [0]
        holding = Holding(relays, ONE, gaps=lambda: gaps[0], aside=at_once)
        await holding.look()
        assert holding.has(ROOM)
        # Nobody beat for so long that whoever was first afterwards took everything.
        await trio.sleep(DEAD_AFTER_S)
        relays.join(TWO)
        relays.take(TWO, range(SHARDS))
        relays.beat(ONE)
        gaps[0] += 1
        assert not holding.has(ROOM), "what it knows may be old"
        assert not holding.is_cut_off, "and nobody is sent away for that"
        await holding.look()
        owner = holding.owner_of(ROOM)
        assert owner is not None
        assert (holding.has(ROOM), owner.relay) == (False, TWO.relay)

    run(main)


def test_in_the_homes_own_room_every_relay_decides_without_a_tenure() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        holding, _ = holding_of(relays, ONE)
        assert holding.tenure(HOME_ROOM) is None
        await holding.look()
        assert holding.tenure(HOME_ROOM) is None

    run(main)


def test_a_relay_that_is_drained_gives_everything_to_those_that_stay_and_takes_nothing_again() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        relays.join(TWO)
        goes, told = holding_of(relays, ONE)
        stays, _ = holding_of(relays, TWO)
        await goes.look()
        await stays.look()
        told.said.clear()
        await goes.drain()
        assert goes.shards == 0
        assert told.said[0] == ("let go", False)
        await stays.look()
        assert stays.shards == SHARDS
        await goes.look()
        await stays.look()
        assert (goes.shards, stays.shards) == (0, SHARDS)

    run(main)


def test_the_last_relay_that_is_drained_leaves_rooms_that_the_next_takes_at_once() -> None:
    async def main() -> None:
        relays = MemoryRelays(trio.current_time)
        relays.join(ONE)
        holding, _ = holding_of(relays, ONE)
        await holding.look()
        await holding.drain()
        relays.leave(ONE)
        relays.join(TWO)
        next, _ = holding_of(relays, TWO)
        await next.look()
        assert next.shards == SHARDS

    run(main)


class Failing(MemoryRelays):
    """A store that can be told to fail."""

    fails = False

    def look(self) -> Seen:
        if self.fails:
            raise StoreError("store_unreachable")
        return super().look()


def test_while_the_store_cannot_be_read_what_was_known_stays_and_it_is_asked_again() -> None:
    async def main() -> None:
        relays = Failing(trio.current_time)
        relays.join(ONE)
        holding, _ = holding_of(relays, ONE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(holding.run)
            await trio.sleep(LOOK_S / 2)
            relays.fails = True
            await trio.sleep(2 * LOOK_S)
            assert holding.has(ROOM)
            beaten(relays, ONE)
            relays.join(TWO)
            relays.fails = False
            await trio.sleep(2 * LOOK_S)
            assert holding.given > 0
            nursery.cancel_scope.cancel()

    run(main)
