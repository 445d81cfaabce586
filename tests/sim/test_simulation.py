"""The promises of rooms on a relay, over seeds: in bad weather nothing is lost, doubled or blamed on an honest relay,
and a relay that lies is found out or achieves nothing."""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

from tests.sim import lies
from tests.sim.world import TROUBLE, Simulation

SEEDS: Final = 2_000
AT_ONCE: Final = 100
"""How many seeds one test plays, so that several workers share them."""


@pytest.mark.parametrize("start", range(0, SEEDS, AT_ONCE))
def test_in_bad_weather_every_promise_holds(start: int) -> None:
    counts: Counter[str] = Counter()
    for seed in range(start, start + AT_ONCE):
        counts += Simulation(seed).run().counts
    missing = [what for what in TROUBLE if not counts[what]]
    assert not missing, f"the weather was not bad enough to prove anything: no {missing}"


def test_a_seed_is_the_same_story_each_time() -> None:
    first, again = Simulation(7).run(), Simulation(7).run()
    assert first == again


@pytest.mark.parametrize(
    "liar",
    [
        lies.Dropping,
        lies.Withholding,
        lies.Reordering,
        lies.Repeating,
        lies.Altering,
        lies.Swapping,
        lies.Inventing,
    ],
)
def test_a_lie_is_found_out_or_achieves_nothing(liar: type[lies.Liar]) -> None:
    told = [outcome for seed in range(5) if (outcome := lies.lie(seed, liar)).has_lied]
    assert len(told) >= 2, "the relay had no occasion to lie"
    found_out = [bool(outcome.contradicted) for outcome in told]
    assert all(found_out), found_out
