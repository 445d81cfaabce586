"""What each agent of one conversation may have under way."""

from __future__ import annotations

import pytest

from parlerd.connections.share import RETRY_MS, Share
from parlerd.core.errors import ParlerError


def refused(share: Share, agent: str, size: int) -> ParlerError:
    with pytest.raises(ParlerError) as caught:
        share.take(agent, size)
    return caught.value


def test_an_agent_with_its_calls_under_way_is_told_to_wait_and_goes_on_when_one_is_answered() -> None:
    share = Share(2, 1_000)
    share.take("ann", 1)
    share.take("ann", 1)
    error = refused(share, "ann", 1)
    assert (error.code, error.spec.retryable, error.retry_after_ms) == ("busy", True, RETRY_MS)
    share.take("ben", 1)
    share.give_back("ann", 1)
    share.take("ann", 1)
    assert refused(share, "ann", 1).code == "busy"


def test_the_bytes_of_an_agent_are_bounded_but_one_call_of_any_size_is_let_through() -> None:
    share = Share(100, 1_000)
    share.take("ann", 5_000)
    assert refused(share, "ann", 1).code == "busy"
    share.give_back("ann", 5_000)
    share.take("ann", 600)
    share.take("ann", 400)
    assert refused(share, "ann", 1).code == "busy"
    share.give_back("ann", 600)
    share.take("ann", 600)


def test_of_an_agent_with_nothing_under_way_nothing_is_kept() -> None:
    share = Share(2, 1_000)
    for number in range(10_000):
        share.take(f"agent {number}", 7)
        share.give_back(f"agent {number}", 7)
    assert share._under_way == {}
