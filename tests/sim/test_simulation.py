"""The promises of rooms on a relay, over seeds: in bad weather nothing is lost, doubled or blamed on an honest relay,
and a relay that lies is found out or achieves nothing."""

from __future__ import annotations

import pytest

from tests.sim import lies
from tests.sim.world import Simulation

SEEDS = 100


@pytest.mark.parametrize("start", range(0, SEEDS, 20))
def test_in_bad_weather_every_promise_holds(start: int) -> None:
    kills = breaks = queued = 0
    for seed in range(start, start + 20):
        report = Simulation(seed).run()
        kills, breaks, queued = kills + report.kills, breaks + report.breaks, queued + report.queued
    assert min(kills, breaks, queued) > 0, "the weather was not bad enough to prove anything"


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
