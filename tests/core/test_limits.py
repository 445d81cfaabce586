"""The limits of single rooms, and that the smaller of two holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.limits import NO_LIMIT
from parlerd.core.model import RoomId, RoomLimit
from tests.support.core import HomeDriver, agent

ANN = agent("ann")
A, B = RoomId("r_a"), RoomId("r_b")
FEW = RoomLimit(messages=5, days=2)


def home() -> HomeDriver:
    driver = HomeDriver()
    driver.create(ANN)
    return driver


def test_a_room_has_the_limit_that_was_set_last_and_another_room_none() -> None:
    driver = home()
    limits = driver.aggregate.limits
    driver.limit(ANN, FEW)
    driver.limit(ANN, RoomLimit(bytes=7))
    assert (limits.of(A), limits.of(B)) == (RoomLimit(bytes=7), NO_LIMIT)
    driver.verify()


def test_setting_what_holds_already_leaves_no_fact_and_taking_away_leaves_nothing() -> None:
    driver = home()
    assert driver.limit(ANN, NO_LIMIT).events == ()
    assert len(driver.limit(ANN, FEW).events) == 1
    assert driver.limit(ANN, FEW).events == ()
    assert len(driver.limit(ANN, NO_LIMIT).events) == 1
    assert driver.aggregate.state.limits.rooms == {}
    driver.limit(ANN, FEW)
    driver.delete(A, ANN)
    assert driver.aggregate.state.limits.rooms == {}
    driver.verify()


@pytest.mark.parametrize(
    ("own", "most", "holds"),
    [
        (NO_LIMIT, NO_LIMIT, NO_LIMIT),
        (FEW, NO_LIMIT, FEW),
        (NO_LIMIT, FEW, FEW),
        (FEW, RoomLimit(messages=9, bytes=1, days=1), RoomLimit(messages=5, bytes=1, days=1)),
    ],
)
def test_of_two_limits_the_smaller_holds(own: RoomLimit, most: RoomLimit, holds: RoomLimit) -> None:
    assert own.within(most) == holds


@given(*[st.builds(RoomLimit, *[st.integers(0, 5)] * 3)] * 2)
def test_no_limit_of_a_room_is_more_than_that_of_the_home(own: RoomLimit, most: RoomLimit) -> None:
    both = own.within(most)
    assert both == most.within(own)
    for name in ("messages", "bytes", "days"):
        assert not getattr(most, name) or 0 < getattr(both, name) <= getattr(most, name)
