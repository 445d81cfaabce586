"""Mistakes that are planted in the product are caught by the promises of the simulation, and hostile stories hold
without them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim import faults_of_relays as faults_of_relays
from tests.sim import faults_of_sealing as faults_of_sealing
from tests.sim import hostile
from tests.sim.faults import FAULTS, SEEDS, Fault, catch
from tests.sim.world import Simulation


@pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in FAULTS.items()])
def test_a_planted_fault_is_caught(fault: Fault) -> None:
    assert catch(fault, range(SEEDS)) is not None, f"no promise broke in {SEEDS} seeds"


@pytest.mark.parametrize("story", hostile.STORIES)
def test_somebody_hostile_achieves_nothing(story: Callable[[int], Simulation]) -> None:
    for seed in range(3):
        story(seed).run()
