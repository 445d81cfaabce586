"""A store that takes a round trip breaks nothing: the engine's own tests, over a store that is not at hand.

Between a question to such a store and its answer everything else goes on: rooms change, others are told, members come
and go. The tests are those of the modules named below, each as it stands there.
"""

from __future__ import annotations

import importlib

import pytest

import tests.support.engine
from tests.support.engine import FarDriver

MODULES = (
    "test_admitting",
    "test_approving",
    "test_checks",
    "test_following",
    "test_handoffs",
    "test_joining",
    "test_ladder",
    "test_letting_in",
    "test_linking",
    "test_lookup",
    "test_notices",
    "test_observers",
    "test_opening",
    "test_overview",
    "test_people",
    "test_pulling",
    "test_quota",
    "test_reading",
    "test_receiving",
    "test_seats",
    "test_sending",
    "test_session_keys",
    "test_status",
    "test_streams",
    "test_waking",
)


AT_A_MOMENT = frozenset(
    {
        "test_a_private_message_wakes_those_it_is_for_and_nobody_else",
        "test_a_slow_watcher_holds_up_neither_the_room_nor_the_engines_end",
        "test_a_wait_ends_with_the_message_and_not_a_moment_later",
        "test_a_wait_for_nothing_ends_at_its_time_with_an_empty_page",
        "test_a_waiter_hears_of_a_message_a_private_one_and_a_knock_at_once_and_else_at_the_end",
        "test_a_waiter_that_was_paused_begins_its_turn_when_the_hour_has_passed",
        "test_draining_answers_waits_at_once_and_refuses_new_calls",
        "test_every_room_with_something_new_is_shown_and_a_new_room_counts",
        "test_one_message_wakes_every_reader_who_waits",
        "test_one_persons_guesses_are_slowed_down_and_delay_nobody_else",
        "test_the_daemon_says_how_it_is_without_making_the_caller_an_agent",
        "test_who_waits_sees_nothing_learns_nothing_and_is_woken_by_the_decision",
    }
)
"""They say at which moment something happens, or lean on what happens first; here that moment is some round trips
later."""
AT_HAND = frozenset({"test_a_pipelined_send_is_counted_too_and_its_refusal_carries_its_key"})
"""Of what is done without a task only where the store is at hand."""


@pytest.fixture(autouse=True)
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tests.support.engine, "DRIVER", FarDriver)


for _module in MODULES:
    for _name, _test in vars(importlib.import_module(f"tests.engine.{_module}")).items():
        if _name.startswith("test_") and _name not in AT_A_MOMENT | AT_HAND:
            globals()[_name] = _test


def test_what_is_left_out_exists() -> None:
    known = {name for module in MODULES for name in vars(importlib.import_module(f"tests.engine.{module}"))}
    assert known >= AT_A_MOMENT | AT_HAND
