"""The home room as a whole: replay and snapshots."""

from __future__ import annotations

import pytest

from parlerd.core.events import AgentCreated, ConversationBound, DelegationIssued, RoomNamed, SessionActivated
from parlerd.core.home import HomeRoom
from tests.support.core import BEN, OWNER, HomeDriver, scripted_home


@pytest.fixture
def home() -> HomeDriver:
    home = HomeDriver()
    home.create(OWNER, host="claude-code", workspace="/w/a")
    home.create(BEN, host="codex", workspace="/w/a", slot=1)
    return home


# -- folding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_replay_and_snapshot_give_the_home_that_memory_holds(seed: int) -> None:
    home = scripted_home(seed, 150)
    assert {AgentCreated, ConversationBound, DelegationIssued, RoomNamed, SessionActivated} == {
        type(h.event) for h in home.log
    }
    home.verify()


def test_a_restored_home_finds_agents_by_name_and_seat(home: HomeDriver) -> None:
    restored = HomeRoom.restore(home.aggregate.snapshot())
    for name in ("olive", "ben", "cat"):
        assert restored.by_name(name) == home.aggregate.by_name(name)
    assert restored.by_seat("codex", "/w/a", 1) == home.aggregate.by_seat("codex", "/w/a", 1)
    assert (restored.position, restored.last_at) == (home.aggregate.position, home.aggregate.last_at)
