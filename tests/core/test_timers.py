"""Timers as they are asked for: one clock each, within bounds, and what can be begun again."""

from __future__ import annotations

from typing import Any

import pytest

from parlerd.core.model import Millis
from parlerd.core.timers import MAX_SPAN_MS, MAX_TICKS, Timer, TimerSpec, renewed, started
from tests.support.core import refused

NOW = Millis(1_700_000_000_000)
TURN = ("_shared", "turn")


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({}, "clock"),
        ({"ms": 1, "at": NOW + 1}, "clock"),
        ({"ms": 1, "ticks": 1, "watch": TURN}, "clock"),
        ({"ms": 1, "at": NOW, "ticks": 1}, "clock"),
        ({"ticks": 1}, "tick_on"),
        ({"ms": 1, "watch": TURN}, "tick_on"),
        ({"ticks": 0, "watch": TURN}, "ticks"),
        ({"ticks": MAX_TICKS + 1, "watch": TURN}, "ticks"),
        ({"ms": 0}, "ms"),
        ({"ms": -5}, "ms"),
        ({"ms": MAX_SPAN_MS + 1}, "ms"),
        ({"at": 0}, "at"),
        ({"at": -1}, "at"),
        ({"at": NOW + MAX_SPAN_MS + 1}, "at"),
    ],
)
def test_a_timer_has_one_clock_and_stays_within_its_bounds(asked: dict[str, Any], what: str) -> None:
    with refused("invalid_timer") as error:
        started(TimerSpec(effect="delete", **asked), NOW)
    assert error.value.details["what"] == what


@pytest.mark.parametrize(
    ("asked", "timer"),
    [
        ({"ms": 1}, Timer("delete", due=Millis(NOW + 1), span=Millis(1))),
        ({"ms": MAX_SPAN_MS}, Timer("delete", due=Millis(NOW + MAX_SPAN_MS), span=Millis(MAX_SPAN_MS))),
        ({"at": NOW + MAX_SPAN_MS}, Timer("delete", due=Millis(NOW + MAX_SPAN_MS))),
        # A moment that has passed is one: what has this timer is gone, or there, at once.
        ({"at": 1}, Timer("delete", due=Millis(1))),
        ({"ticks": MAX_TICKS, "watch": TURN}, Timer("delete", ticks=MAX_TICKS, watch=TURN)),
    ],
)
def test_a_timer_begins_when_it_is_set(asked: dict[str, Any], timer: Timer) -> None:
    assert started(TimerSpec(effect="delete", **asked), NOW) == timer


def test_only_what_waits_to_be_there_is_dormant() -> None:
    assert started(TimerSpec(effect="enable", ms=1), NOW).is_dormant
    assert not started(TimerSpec(effect="delete", ms=1), NOW).is_dormant


def test_only_a_timer_of_a_span_begins_again_and_for_the_same_span() -> None:
    timer = started(TimerSpec(effect="enable", ms=70), NOW)
    assert renewed(timer, Millis(NOW + 50)) == Timer("enable", due=Millis(NOW + 120), span=Millis(70))
    for spec in (TimerSpec(effect="delete", at=NOW + 70), TimerSpec(effect="delete", ticks=3, watch=TURN)):
        with refused("invalid_timer"):
            renewed(started(spec, NOW), NOW)
