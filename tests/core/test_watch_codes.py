"""Watch codes: used once, by a time, and over when they are revoked or expire."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.model import Millis
from parlerd.core.watch_codes import HOLDS_MS, HOME_USE_MS, MAX_CODES, WatchCodes, is_open
from tests.support.core import HomeDriver, agent, outcome, refused

ANN = agent("ann")


def home() -> tuple[HomeDriver, WatchCodes]:
    driver = HomeDriver()
    driver.create(ANN)
    return driver, driver.aggregate.watch_codes


def test_a_code_opens_once_and_what_it_opened_holds_until_it_expires() -> None:
    driver, codes = home()
    id = driver.mint_watch_code(ANN, use_by=HOME_USE_MS)
    found = codes.find(b"a code", Millis(driver.now))
    assert found is not None
    assert (found.id, found.used_at) == (id, 0)
    driver.use_watch_code(ANN, id)
    codes = driver.aggregate.watch_codes
    assert codes.find(b"a code", Millis(driver.now)) is None
    assert outcome(lambda: driver.use_watch_code(ANN, id)) == "watch_code_invalid"
    began = driver.now
    assert codes.holding(id, Millis(began + HOLDS_MS - 1)) is not None
    assert codes.holding(id, Millis(began + HOLDS_MS)) is None
    driver.verify()


def test_a_code_that_nobody_used_in_time_opens_nothing() -> None:
    driver, codes = home()
    id = driver.mint_watch_code(ANN, use_by=HOME_USE_MS)
    last = Millis(driver.now + HOME_USE_MS)
    assert codes.find(b"a code", Millis(last - 1)) is not None
    assert codes.find(b"a code", last) is None
    assert codes.holding(id, last) is None
    driver.now = last
    assert outcome(lambda: driver.use_watch_code(ANN, id)) == "watch_code_invalid"
    driver.verify()


@pytest.mark.parametrize("used", [False, True])
def test_a_code_that_was_revoked_holds_no_more_used_or_not(used: bool) -> None:
    driver, _ = home()
    id = driver.mint_watch_code(ANN)
    if used:
        driver.use_watch_code(ANN, id)
    driver.revoke_watch_code(ANN, id)
    codes = driver.aggregate.watch_codes
    assert codes.find(b"a code", Millis(driver.now)) is None
    assert list(codes.all(Millis(driver.now))) == []
    assert outcome(lambda: driver.use_watch_code(ANN, id)) == "watch_code_invalid"
    assert outcome(lambda: driver.revoke_watch_code(ANN, id)) == "no_such_watch_code"
    driver.verify()


def test_a_text_that_is_no_code_finds_nothing() -> None:
    driver, codes = home()
    driver.mint_watch_code(ANN)
    assert codes.find(b"another", Millis(driver.now)) is None


def test_a_home_has_so_many_codes_that_hold_and_those_that_expired_make_way() -> None:
    driver, _ = home()
    for number in range(MAX_CODES):
        driver.mint_watch_code(ANN, text=f"code {number}")
    with refused("too_many_watch_codes"):
        driver.mint_watch_code(ANN, text="one more")
    for _ in range(3):
        driver.now += HOLDS_MS
        for number in range(MAX_CODES):
            driver.mint_watch_code(ANN, text=f"code {driver.now} {number}")
    assert len(driver.aggregate.state.watch_codes.codes) <= 2 * MAX_CODES
    driver.verify()


@given(st.integers(-2, HOLDS_MS + 2), st.integers(-2, HOLDS_MS + 2))
def test_no_code_holds_longer_than_a_day_or_can_be_used_longer_than_it_holds(use_by: int, expires_at: int) -> None:
    driver, _ = home()
    said = outcome(lambda: driver.mint_watch_code(ANN, use_by=use_by, expires_at=expires_at))
    assert said == ("ok" if 0 < use_by <= expires_at <= HOLDS_MS else "invalid_param")
    for code in driver.aggregate.watch_codes.all(Millis(driver.now)):
        assert is_open(code, Millis(driver.now))
