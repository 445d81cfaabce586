"""Points in time and lengths of time: what Python's calendar says, and nothing outside of the bounds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parlerd.core.expressions import Failed, Moment, Span
from parlerd.core.moments import (
    MOMENT_PARTS,
    moment,
    moment_text,
    parse_moment,
    parse_offset,
    parse_span,
    part_of_moment,
    part_of_span,
    span,
    span_text,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DATES = st.datetimes(timezones=st.just(UTC))


def ns(date: datetime) -> int:
    return (date - EPOCH) // timedelta(microseconds=1) * 1_000


@given(DATES, st.integers(-14 * 60, 14 * 60))
def test_a_date_in_any_zone_is_the_point_in_time_that_python_says(date: datetime, minutes: int) -> None:
    try:
        local = date.astimezone(timezone(timedelta(minutes=minutes)))
    except OverflowError:
        return
    assert parse_moment(local.isoformat(), 0) == Moment(ns(date))
    assert parse_moment(moment_text(Moment(ns(date))), 0) == Moment(ns(date))


@given(DATES)
def test_the_parts_of_a_date_are_those_that_python_says(date: datetime) -> None:
    expected = {
        "getDate": date.day,
        "getDayOfMonth": date.day - 1,
        "getDayOfWeek": date.isoweekday() % 7,
        "getDayOfYear": date.timetuple().tm_yday - 1,
        "getFullYear": date.year,
        "getHours": date.hour,
        "getMilliseconds": date.microsecond // 1_000,
        "getMinutes": date.minute,
        "getMonth": date.month - 1,
        "getSeconds": date.second,
    }
    assert {part: part_of_moment(Moment(ns(date)), part, 0) for part in MOMENT_PARTS} == expected


def test_a_part_is_that_of_the_zone_which_is_asked_for() -> None:
    midnight = parse_moment("2026-03-01T00:00:00Z", 0)
    assert part_of_moment(midnight, "getHours", parse_offset("+02:30", 0)) == 2
    assert part_of_moment(midnight, "getDate", parse_offset("-01:00", 0)) == 28
    assert parse_offset("UTC", 0) == 0


@pytest.mark.parametrize(
    "text",
    ["", "2026-03-01", "2026-02-29T00:00:00Z", "2026-03-01T24:00:00Z", "2026-13-01T00:00:00Z", "2026-03-01T00:00:60Z",
     "2026-03-01 00:00:00Z", "2026-03-01T00:00:00", "0000-01-01T00:00:00Z", "2026-03-01T00:00:00.Z", "9" * 10**6,
     "2026-03-01T00:60:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "٢٠٢٦-03-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_fails(text: str) -> None:
    with pytest.raises(Failed):
        parse_moment(text, 0)


@pytest.mark.parametrize("text", ["Europe/Berlin", "", "+2:00", "+15:00", "+01:60", "local"])
def test_a_zone_by_name_fails(text: str) -> None:
    with pytest.raises(Failed, match="UTC"):
        parse_offset(text, 0)


@pytest.mark.parametrize(
    ("text", "expected", "written"),
    [
        ("1h30m", 5_400_000_000_000, "5400s"),
        ("-1.5s", -1_500_000_000, "-1.500s"),
        ("0", 0, "0s"),
        ("+90s", 90_000_000_000, "90s"),
        ("1ms", 1_000_000, "0.001s"),
        ("1us", 1_000, "0.000001s"),
        ("1ns", 1, "0.000000001s"),
        (".5m", 30_000_000_000, "30s"),
    ],
)
def test_a_length_of_time_is_read_and_written(text: str, expected: int, written: str) -> None:
    assert parse_span(text, 0) == Span(expected)
    assert span_text(Span(expected)) == written


@pytest.mark.parametrize("text", ["", "-", "1", "1x", "h", ".s", "1h ", "1d", "1e3s", "1s" * 10**5, "99999999999999h"])
def test_what_is_no_length_of_time_fails(text: str) -> None:
    with pytest.raises(Failed):
        parse_span(text, 0)


@given(st.integers(-(10**18), 10**18))
def test_a_length_of_time_is_read_as_it_was_written(length: int) -> None:
    assert parse_span(span_text(Span(length)), 0) == Span(length)


def test_a_length_of_time_is_in_whole_units_toward_zero() -> None:
    length = parse_span("-90m1.5s", 0)
    assert part_of_span(length, "getHours") == -1
    assert part_of_span(length, "getMinutes") == -90
    assert part_of_span(length, "getSeconds") == -5_401
    assert part_of_span(length, "getMilliseconds") == -500


def test_times_have_bounds() -> None:
    for number in (ns(datetime(1, 1, 1, tzinfo=UTC)) - 1, ns(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)) + 10**9):
        with pytest.raises(Failed):
            moment(number, 0)
    with pytest.raises(Failed):
        span(-(2**63), 0)
