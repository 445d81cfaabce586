"""The budget of turns that no person began: so many an hour, and they come back one by one."""

from __future__ import annotations

import trio

from parlerd.engine.budget import HOUR_S, TURNS, TurnBudget
from tests.support.engine import run


def test_an_hour_has_so_many_turns_and_each_comes_back_an_hour_after_it_began() -> None:
    async def main() -> None:
        budget = TurnBudget()
        for _ in range(TURNS):
            assert not budget.spent
            budget.spend()
            await trio.sleep(1)
        assert budget.spent
        assert budget.seconds_until_free() == HOUR_S - TURNS
        await trio.sleep(HOUR_S - TURNS)
        assert budget.seconds_until_free() == 0.0
        budget.spend()
        assert budget.seconds_until_free() == 1.0

    run(main)


def test_what_was_not_spent_does_not_add_up() -> None:
    async def main() -> None:
        budget = TurnBudget()
        await trio.sleep(10 * HOUR_S)
        for _ in range(TURNS):
            budget.spend()
        assert budget.seconds_until_free() == HOUR_S

    run(main)
