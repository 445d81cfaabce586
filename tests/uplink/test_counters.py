"""Counters of envelopes: greater than every one before, also after a crash, a restored backup and a clock set back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, Millis
from parlerd.uplink.counters import Counters, Signed

START = Millis(1_700_000_000_000)
ANN, BEN = AgentId("ann"), AgentId("ben")


def test_a_daemon_that_is_killed_and_back_at_once_uses_none_of_the_numbers_of_the_one_before() -> None:
    before, after = Counters(START), Counters(Millis(START + 300))
    used = [before.after(0) for _ in range(1000)]
    assert used == sorted(set(used))
    assert after.after(0) > used[-1]
    assert after.after(0) < 2**53


@given(st.lists(st.integers(0, 2**52), max_size=20), st.integers(0, 2**40))
def test_every_number_passes_what_was_acknowledged_and_every_number_before(seen: list[int], started: int) -> None:
    counters, newest = Counters(Millis(started)), -1
    for acknowledged in seen:
        number = counters.after(acknowledged)
        assert number > max(acknowledged, newest)
        newest = number


def test_an_envelope_that_only_somebody_else_can_have_signed_is_known() -> None:
    counters = Counters(START)
    mine = counters.after(0)
    counters.note(mine, Signed(ANN, b"mine", b"signature"))
    assert not counters.is_foreign(mine, b"mine")
    assert counters.is_foreign(mine, b"another")
    assert counters.is_foreign(mine + 1, b"later than any of mine")
    assert counters.is_foreign(Counters(Millis(START + 5000)).after(0), b"a copy that was started later")
    before = Counters(Millis(START - 5000)).after(0)
    assert not counters.is_foreign(before, b"of the daemon before this one")


def test_a_signature_is_this_daemons_own_only_as_it_was_made() -> None:
    counters = Counters(START)
    mine, signed = counters.after(0), Signed(ANN, b"envelope", b"signature")
    counters.note(mine, signed)
    assert counters.is_own(mine, signed)
    assert not counters.is_own(mine + 1, signed)
    assert not counters.is_own(mine, signed._replace(agent=BEN))
    assert not counters.is_own(mine, signed._replace(envelope=b"another"))
    assert not counters.is_own(mine, signed._replace(signature=b"another"))
