"""Guessing keys costs time: a few tries for each caller, a budget for the whole home, bounded memory."""

from __future__ import annotations

from contextlib import suppress

import pytest
import trio

from parlerd.core.errors import Refused
from parlerd.core.model import PrincipalId, Via
from parlerd.engine import authority
from parlerd.engine import throttle as throttle_module
from parlerd.engine.callers import Caller, Facts, PeerProcess
from parlerd.engine.throttle import (
    CALLER_BURST,
    CALLER_PER_SECOND,
    HOME_BURST,
    HOME_PER_SECOND,
    MAX_CALLERS,
    MAX_DELAY,
    GuessThrottle,
)
from tests.support.callers import caller_of
from tests.support.engine import run
from tests.support.shared_counts import SharedCounts


def caller(n: int = 0) -> Caller:
    return caller_of("cli", session=f"s{n}")


async def guess(throttle: GuessThrottle, who: Caller) -> float:
    """Guess wrong once; how long the lookup was held back."""
    began = trio.current_time()
    await throttle.before(who)
    throttle.wrong(who)
    return trio.current_time() - began


def test_a_caller_has_a_few_wrong_guesses_and_is_then_refused_for_a_while() -> None:
    async def main() -> None:
        throttle, one = GuessThrottle(), caller()
        for _ in range(int(CALLER_BURST)):
            await guess(throttle, one)
        with pytest.raises(Refused) as refused:
            await throttle.before(one)
        assert refused.value.code == "throttled"
        assert refused.value.body().retryable
        wait_ms = refused.value.retry_after_ms or 0
        assert 0 < wait_ms <= 1000 / CALLER_PER_SECOND + 1
        await trio.sleep(wait_ms / 1000)
        await throttle.before(one)

    run(main)


def test_who_guessed_right_so_far_is_not_held_back_by_another_caller_below_the_budget() -> None:
    async def main() -> None:
        throttle = GuessThrottle()
        for _ in range(int(CALLER_BURST)):
            await guess(throttle, caller(1))
        began = trio.current_time()
        await throttle.before(caller(2))
        assert trio.current_time() == began

    run(main)


def test_an_agent_is_counted_across_its_connections() -> None:
    async def main() -> None:
        throttle = GuessThrottle()
        for n in range(int(CALLER_BURST)):
            one = caller(n)
            one.agent = "UONE"  # type: ignore[assignment]
            await guess(throttle, one)
        again = caller(99)
        again.agent = "UONE"  # type: ignore[assignment]
        with pytest.raises(Refused):
            await throttle.before(again)

    run(main)


@pytest.mark.parametrize(
    ("via", "first", "second", "one"),
    [
        ("cli", PeerProcess(pid=7, group=5), PeerProcess(pid=8, group=5), True),
        ("cli", PeerProcess(pid=7, group=5), PeerProcess(pid=8, group=6), False),
        ("cli", PeerProcess(pid=7), PeerProcess(pid=7), True),
        ("mcp", PeerProcess(pid=7, group=5), PeerProcess(pid=8, group=5), False),
    ],
)
def test_a_process_is_counted_under_whatever_names_and_commands_of_one_shell_together(
    via: Via, first: PeerProcess, second: PeerProcess, one: bool
) -> None:
    async def main() -> None:
        throttle, window = GuessThrottle(), "w" if via == "mcp" else ""
        for n in range(int(CALLER_BURST)):
            await guess(throttle, caller_of(via, session=f"s{n}", as_name=f"m{n}", window=window, peer=first))
        again = caller_of(via, session="again", as_name="again", window=window, peer=second)
        began = trio.current_time()
        if one:
            with pytest.raises(Refused):
                await throttle.before(again)
        else:
            await throttle.before(again)
        assert trio.current_time() == began
        await throttle.before(caller_of("hook", session="door", peer=first))

    run(main)


def test_the_home_allows_no_more_than_its_rate_however_many_connections_guess() -> None:
    async def main() -> None:
        throttle = GuessThrottle()
        began = trio.current_time()
        total = 220
        for n in range(total):
            await guess(throttle, caller(n))
        needed = (total - HOME_BURST) / HOME_PER_SECOND
        assert needed - 0.2 <= trio.current_time() - began <= needed + 0.2

    run(main)


def test_when_the_budget_is_spent_a_right_key_waits_as_long_as_a_wrong_one() -> None:
    async def main() -> None:
        throttle = GuessThrottle()
        for n in range(int(HOME_BURST)):
            await guess(throttle, caller(n))
        began = trio.current_time()
        # `before` is all that a right key costs: it is called before anyone knows which it is.
        await throttle.before(caller(1000))
        assert trio.current_time() - began > 0

    run(main)


def test_many_at_the_same_time_are_refused_rather_than_left_hanging() -> None:
    async def main() -> None:
        throttle = GuessThrottle()
        refused: list[str] = []

        async def one(n: int) -> None:
            try:
                await guess(throttle, caller(n))
            except Refused as error:
                refused.append(error.code)

        for wave in range(3):
            async with trio.open_nursery() as nursery:
                for n in range(200):
                    nursery.start_soon(one, wave * 1000 + n)
        began = trio.current_time()
        with pytest.raises(Refused) as error:
            await throttle.before(caller(9999))
        assert trio.current_time() == began
        assert (error.value.retry_after_ms or 0) > MAX_DELAY * 1000
        assert "throttled" in refused
        # The debt is paid off at the home's rate, and then everyone is served again.
        await trio.sleep((error.value.retry_after_ms or 0) / 1000)
        await throttle.before(caller(9999))

    run(main)


def test_memory_is_bounded_and_forgets_who_guessed_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle_module, "MAX_CALLERS", 3)
    assert MAX_CALLERS >= 1024

    async def main() -> None:
        throttle = GuessThrottle()
        for n in range(3):
            throttle.wrong(caller(n))
        throttle.wrong(caller(0))
        throttle.wrong(caller(3))
        assert list(throttle._callers) == ["s2", "s0", "s3"]
        await trio.lowlevel.checkpoint()

    run(main)


# -- where several relays draw from the same budgets -------------------------------------------------------


def daemon() -> Caller:
    return Caller(Facts("s1", "link", authority.of_link(PrincipalId("AMIA"))))


def test_guesses_at_several_relays_are_of_one_budget_and_a_right_key_is_given_back() -> None:
    async def main() -> None:
        counts = SharedCounts()
        first, second = GuessThrottle(counts.way()), GuessThrottle(counts.way())
        for _ in range(3 * int(CALLER_BURST)):
            await (await first.before(daemon())).right()
        for number in range(int(CALLER_BURST)):
            await guess((first, second)[number % 2], daemon())
        for each in (first, GuessThrottle(counts.way())):
            with pytest.raises(Refused):
                await each.before(daemon())
        with pytest.raises(Refused) as refused:
            await second.before(daemon())
        assert refused.value.code == "throttled"
        assert 0 < (refused.value.retry_after_ms or 0) <= 1000 / CALLER_PER_SECOND + 1
        await trio.sleep((refused.value.retry_after_ms or 0) / 1000)
        await second.before(daemon())

    run(main)


def test_strangers_at_several_relays_wait_for_one_budget_and_no_longer_than_anybody() -> None:
    async def main() -> None:
        counts = SharedCounts()
        relays = [GuessThrottle(counts.way()) for _ in range(2)]
        began = trio.current_time()
        total = 220
        for n in range(total):
            await guess(relays[n % 2], caller(n))
        needed = (total - HOME_BURST) / HOME_PER_SECOND
        assert needed - 0.2 <= trio.current_time() - began <= needed + 0.2
        # Who proved who they are does not wait for strangers.
        at = trio.current_time()
        await relays[0].before(daemon())
        assert trio.current_time() == at

        waits: list[float] = []

        async def one(n: int) -> None:
            at = trio.current_time()
            with suppress(Refused):
                await guess(relays[n % 2], caller(1000 + n))
            waits.append(trio.current_time() - at)

        async with trio.open_nursery() as nursery:
            for n in range(200):
                nursery.start_soon(one, n)
        assert max(waits) <= MAX_DELAY
        assert len(waits) == 200

    run(main)
