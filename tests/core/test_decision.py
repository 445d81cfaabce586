"""A request that was accepted before is answered, not done again."""

from __future__ import annotations

from parlerd.core.commands import Command
from parlerd.core.decision import Decision, replayed
from parlerd.core.model import Position, Prior
from tests.support.core import refused


def test_a_request_that_was_not_seen_before_is_no_replay() -> None:
    assert replayed(Command(idempotency_key="k", input=b"i")) is None


def test_the_same_key_and_input_point_to_the_fact_that_was_accepted() -> None:
    decision = replayed(Command(idempotency_key="k", input=b"i", prior=Prior(Position(7), b"i")))
    assert decision == Decision(replay=Position(7))


def test_the_same_key_with_another_input_is_a_conflict_that_names_the_key() -> None:
    with refused("idempotency_conflict") as caught:
        replayed(Command(idempotency_key="k", input=b"other", prior=Prior(Position(7), b"i")))
    assert caught.value.details == {"key": "k"}


def test_a_decision_without_events_commits_nothing() -> None:
    assert Decision(answer="pending").events == ()
    assert Decision().replay is None
