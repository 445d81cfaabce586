"""The home room as a whole: replay and snapshots."""

from __future__ import annotations

from typing import get_args

import pytest

from parlerd.core.events import HomeEvent
from parlerd.core.home import HomeRoom
from tests.support.core import HomeDriver
from tests.support.scripts import HOME_SCENES, scripted_home

# -- folding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [0, 150])
def test_replay_and_snapshot_give_the_home_that_memory_holds(seed: int, steps: int) -> None:
    home = scripted_home(seed, steps)
    assert {type(header.event) for header in home.log} == set(get_args(HomeEvent))
    home.verify()


def test_every_type_of_fact_of_a_home_has_its_scene_in_the_scripts() -> None:
    assert set(HOME_SCENES) == set(get_args(HomeEvent))


def test_a_restored_home_finds_agents_by_name_and_seat(home: HomeDriver) -> None:
    restored = HomeRoom.restore(home.aggregate.snapshot())
    for name in ("olive", "ben", "cat"):
        assert restored.by_name(name) == home.aggregate.by_name(name)
    assert restored.by_seat("codex", "/w/a", 1) == home.aggregate.by_seat("codex", "/w/a", 1)
    assert (restored.position, restored.last_at) == (home.aggregate.position, home.aggregate.last_at)
