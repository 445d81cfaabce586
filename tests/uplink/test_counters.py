"""Counters of envelopes: greater than every one before, also after a crash, a restored backup and a clock set back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import AgentId, Millis, RoomId
from parlerd.uplink.counters import MAX_THREADS, Counters, Signed, Threaded

START = Millis(1_700_000_000_000)
THREAD = Threaded(RoomId("room"), AgentId("ann"), "")
OTHERS = [
    THREAD._replace(room=RoomId("another")),
    THREAD._replace(agent=AgentId("ben")),
    THREAD._replace(audience="some readers"),
]


def test_a_daemon_that_is_killed_and_back_at_once_uses_none_of_the_numbers_of_the_one_before() -> None:
    before, after = Counters(START), Counters(Millis(START + 300))
    used = [before.after(THREAD, 0) for _ in range(1000)]
    assert used == sorted(set(used))
    assert after.after(THREAD, 0) > used[-1]
    assert after.after(THREAD, 0) < 2**53


@given(st.lists(st.integers(0, 2**52), max_size=20), st.integers(0, 2**40))
def test_every_number_passes_what_was_acknowledged_and_every_number_before(seen: list[int], started: int) -> None:
    counters, newest = Counters(Millis(started)), -1
    for acknowledged in seen:
        number = counters.after(THREAD, acknowledged)
        assert number > max(acknowledged, newest)
        newest = number


def test_a_number_tells_nothing_of_what_was_said_in_other_threads() -> None:
    counters, quiet = Counters(START), Counters(START)
    for other in OTHERS:
        assert counters.after(other, START << 12) > START << 12
    assert counters.after(THREAD, 0) == quiet.after(THREAD, 0)


def test_a_thread_that_was_forgotten_gets_none_of_its_numbers_again() -> None:
    counters = Counters(START)
    used = [counters.after(THREAD, 0) for _ in range(3)]
    for number in range(MAX_THREADS):
        counters.after(THREAD._replace(audience=str(number)), 0)
    assert counters.after(THREAD, 0) > used[-1]


def test_an_envelope_that_only_somebody_else_can_have_signed_is_known() -> None:
    counters = Counters(START)
    mine = counters.after(THREAD, 0)
    counters.note(THREAD, mine, Signed(b"mine", b"signature"))
    assert not counters.is_foreign(THREAD, mine, b"mine")
    assert counters.is_foreign(THREAD, mine, b"another")
    assert counters.is_foreign(THREAD, mine + 1, b"later than any of mine")
    assert counters.is_foreign(
        THREAD, Counters(Millis(START + 5000)).after(THREAD, 0), b"a copy that was started later"
    )
    before = Counters(Millis(START - 5000)).after(THREAD, 0)
    assert not counters.is_foreign(THREAD, before, b"of the daemon before this one")


def test_a_signature_is_this_daemons_own_only_as_it_was_made() -> None:
    counters = Counters(START)
    mine, signed = counters.after(THREAD, 0), Signed(b"envelope", b"signature")
    counters.note(THREAD, mine, signed)
    assert counters.is_own(THREAD, mine, signed)
    assert not counters.is_own(THREAD, mine + 1, signed)
    assert not any(counters.is_own(other, mine, signed) for other in OTHERS)
    assert not counters.is_own(THREAD, mine, signed._replace(envelope=b"another"))
    assert not counters.is_own(THREAD, mine, signed._replace(signature=b"another"))
