"""Who may come to a relay's door next: bounds for one address, for strangers together, and none for those who are known
from what strangers do."""

from __future__ import annotations

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.engine.throttle import CALLER_BURST, CALLER_PER_SECOND, HOME_BURST
from relay import turnstile
from relay.turnstile import KNOWN_SECONDS, Limits, Turnstile, Visit
from tests.support.links import run
from tests.support.shared_counts import SharedCounts

HOME = "192.0.2.1"


def come(door: Turnstile, address: str) -> Visit:
    visit = door.admit(address)
    assert visit is not None
    return visit


def meet(door: Turnstile, address: str = HOME) -> None:
    come(door, address).proven()


def elsewhere(number: int) -> str:
    return f"198.51.{number // 250}.{number % 250 + 1}"


async def guess(visit: Visit) -> int:
    """Ask to be enrolled with a wrong secret; how many milliseconds the guess is held back instead, where it is."""
    try:
        await visit.before_secret()
    except Refused as error:
        return error.retry_after_ms or 0 if error.code == "throttled" else 0
    return 0


async def know(visit: Visit) -> None:
    """Ask to be enrolled with the right secret."""
    await visit.before_secret()
    await visit.right_secret()


def test_an_address_has_so_many_at_once_and_so_many_a_second() -> None:
    async def main() -> None:
        door = Turnstile(Limits(unproven_of_one=100, rate_of_one=10.0, burst_of_one=5))
        assert [door.admit(HOME) is not None for _ in range(7)] == [True] * 5 + [False] * 2
        await trio.sleep(0.25)
        assert [door.admit(HOME) is not None for _ in range(4)] == [True] * 2 + [False] * 2
        await trio.sleep(3_600)
        assert [door.admit(HOME) is not None for _ in range(7)] == [True] * 5 + [False] * 2

    run(main)


def test_a_place_is_free_again_once_somebody_leaves_or_proves() -> None:
    async def main() -> None:
        door = Turnstile(Limits(unproven_of_one=2))
        first, second = come(door, HOME), come(door, HOME)
        assert door.admit(HOME) is None
        door.leave(first)
        third = come(door, HOME)
        assert door.admit(HOME) is None
        third.proven()
        come(door, HOME)
        assert (door.unproven, second in door.visits()) == (2, True)

    run(main)


def test_strangers_who_hold_all_places_keep_nobody_out_whose_address_is_known() -> None:
    async def main() -> None:
        door = Turnstile(Limits(unproven=16))
        meet(door)
        for number in range(16):
            come(door, elsewhere(number))
        assert door.admit("203.0.113.1") is None
        for _ in range(8):
            come(door, HOME)
        # It has no more places than any address.
        assert door.admit(HOME) is None

    run(main)


def test_strangers_who_come_without_end_slow_nobody_down_whose_address_is_known() -> None:
    async def main() -> None:
        door = Turnstile(Limits(unproven=10_000))
        meet(door)
        admitted = sum(door.admit(elsewhere(number)) is not None for number in range(400))
        assert admitted == Limits().burst - 1
        assert door.admit("203.0.113.1") is None
        door.leave(come(door, HOME))

    run(main)


def test_an_address_is_known_for_a_day() -> None:
    async def main() -> None:
        door = Turnstile(Limits(unproven=1))
        meet(door)
        come(door, elsewhere(0))
        await trio.sleep(KNOWN_SECONDS - 1)
        door.leave(come(door, HOME))
        await trio.sleep(1)
        assert door.admit(HOME) is None

    run(main)


def test_an_address_that_guesses_the_secret_is_held_back_and_no_other_one_is() -> None:
    async def main() -> None:
        door = Turnstile(Limits())
        other = come(door, elsewhere(0))
        held: list[int] = []
        for _ in range(int(CALLER_BURST) + 2):
            visit = come(door, HOME)
            held.append(await guess(visit))
            door.leave(visit)
        assert held[: int(CALLER_BURST)] == [0] * int(CALLER_BURST)
        assert all(0 < wait <= 1000 / CALLER_PER_SECOND + 1 for wait in held[int(CALLER_BURST) :])
        for _ in range(50):
            await know(other)
        # A right secret waits as long as a wrong one, and then both are looked at.
        with pytest.raises(Refused):
            await know(come(door, HOME))
        await trio.sleep(held[-1] / 1000)
        await know(come(door, HOME))

    run(main)


def test_strangers_who_guess_from_many_addresses_hold_back_strangers_alone() -> None:
    async def main() -> None:
        door = Turnstile(Limits())
        meet(door)
        held = []
        for number in range(60):
            visit = door.admit(elsewhere(number))
            assert visit is not None
            held.append(await guess(visit))
            door.leave(visit)
        assert held.count(0) == HOME_BURST
        with pytest.raises(Refused):
            await know(come(door, "203.0.113.1"))
        known = come(door, HOME)
        await know(known)
        # What is guessed from a known address counts for that address, and takes nothing from strangers.
        await trio.sleep(60)
        for _ in range(int(CALLER_BURST)):
            assert await guess(known) == 0
        assert await guess(known) > 0
        await know(come(door, "203.0.113.1"))

    run(main)


def test_memory_is_bounded_and_what_strangers_share_holds_beyond_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turnstile, "MAX_ADDRESSES", 3)

    async def main() -> None:
        door = Turnstile(Limits(unproven=10_000))
        for number in range(400):
            visit = door.admit(elsewhere(number))
            if visit is not None:
                await guess(visit)
        assert [len(kept) for kept in (door._paces, door._guesses_of)] == [3, 3]
        assert door.admit("203.0.113.1") is None

    run(main)


def test_an_address_that_guesses_at_several_relays_has_one_budget() -> None:
    async def main() -> None:
        counts = SharedCounts()
        doors = [Turnstile(Limits(), counts.way()) for _ in range(2)]
        for _ in range(3 * int(CALLER_BURST)):
            await know(come(doors[0], HOME))
            doors = doors[::-1]
            for door in doors:
                for visit in door.visits():
                    door.leave(visit)
            await trio.sleep(1)
        held = []
        for number in range(int(CALLER_BURST) + 4):
            door = doors[number % 2]
            visit = come(door, HOME)
            held.append(await guess(visit))
            door.leave(visit)
        assert held[: int(CALLER_BURST)] == [0] * int(CALLER_BURST)
        assert all(0 < wait <= 1000 / CALLER_PER_SECOND + 1 for wait in held[int(CALLER_BURST) :])
        with pytest.raises(Refused):
            await know(come(Turnstile(Limits(), counts.way()), HOME))
        await know(come(doors[0], elsewhere(0)))

    run(main)


def test_strangers_who_guess_at_several_relays_have_one_budget_and_known_addresses_do_not_draw_on_it() -> None:
    async def main() -> None:
        counts = SharedCounts()
        doors = [Turnstile(Limits(), counts.way()) for _ in range(2)]
        meet(doors[0])
        held = []
        for number in range(60):
            door = doors[number % 2]
            visit = door.admit(elsewhere(number))
            assert visit is not None
            held.append(await guess(visit))
            door.leave(visit)
        assert held.count(0) == HOME_BURST
        with pytest.raises(Refused):
            await know(come(doors[1], "203.0.113.1"))
        await know(come(doors[0], HOME))

    run(main)
