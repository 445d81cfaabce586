"""Points in time and lengths of time, as expressions compute with them: in whole nanoseconds, in UTC.

Not here: what time it is, which the context says as `now`, and time zones by name, whose rules change and differ from
machine to machine: an offset (`+02:00`) is accepted. Above: `values`, `gates`. Below: `expressions`. Invariant: a point
in time is within the years 1 to 9999, and a length of time within 292 years.
"""

from __future__ import annotations

import re
from typing import Final

from parlerd.core.expressions import Failed, Moment, Span

SECOND: Final = 1_000_000_000
MILLISECOND: Final = 1_000_000
_MINUTE: Final = 60 * SECOND
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_FIRST: Final = -62_135_596_800 * SECOND
"""The first of January of the year 1."""
_LAST: Final = 253_402_300_800 * SECOND - 1
"""The last nanosecond of the year 9999."""
_LONGEST: Final = 2**63 - 1
"""292 years. Source: the CEL library, whose lengths of time are nanoseconds in 64 bits."""
_MAX_TEXT: Final = 64
"""Characters of a text that is read as a time."""
_UNITS: Final = {"h": _HOUR, "m": _MINUTE, "s": SECOND, "ms": MILLISECOND, "us": 1_000, "µs": 1_000, "ns": 1}
_RFC3339: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_SPAN: Final = re.compile(r"(\d*)(?:\.(\d*))?(ns|us|µs|ms|h|m|s)", re.ASCII)
_OFFSET: Final = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)


def moment(ns: int, at: int) -> Moment:
    """The point in time. Raises `Failed` outside the years 1 to 9999."""
    if _FIRST <= ns <= _LAST:
        return Moment(ns)
    raise Failed("the time is outside the years 1 to 9999", at)


def span(ns: int, at: int) -> Span:
    """The length of time. Raises `Failed` beyond 292 years."""
    if -_LONGEST <= ns <= _LONGEST:
        return Span(ns)
    raise Failed("the length of time is beyond 292 years", at)


def parse_moment(text: str, at: int) -> Moment:
    """A point in time as RFC 3339 writes it. Raises `Failed`."""
    found = _RFC3339.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None:
        raise Failed("a time is written like 2026-03-01T00:00:00Z", at)
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= _month_days(year, month) or hour > 23 or minute > 59:
        raise Failed("there is no such day or time of day", at)
    if second > 59:
        raise Failed("there is no such day or time of day", at)
    fraction = int((found[7] or "").ljust(9, "0"))
    offset = 0 if found[8] in "zZ" else parse_offset(found[8], at)
    days = _days(year, month, day)
    return moment(days * _DAY + hour * _HOUR + minute * _MINUTE + second * SECOND + fraction - offset, at)


def parse_offset(text: str, at: int) -> int:
    """A distance from UTC like +02:00, in nanoseconds. Raises `Failed`."""
    if text == "UTC":
        return 0
    found = _OFFSET.fullmatch(text)
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        raise Failed('a time zone is "UTC" or a distance from UTC like "+02:00"', at)
    ns = int(found[2]) * _HOUR + int(found[3]) * _MINUTE
    return -ns if found[1] == "-" else ns


def parse_span(text: str, at: int) -> Span:
    """A length of time like 1h30m or -1.5s. Raises `Failed`."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    if unsigned == "0":
        return Span(0)
    ns = 0
    position = 0
    while position < len(unsigned) <= _MAX_TEXT:
        found = _SPAN.match(unsigned, position)
        if found is None or not (found[1] or found[2]):
            break
        unit = _UNITS[found[3]]
        ns += int(found[1] or 0) * unit
        if found[2]:
            ns += int(found[2]) * unit // 10 ** len(found[2])
        position = found.end()
    if not unsigned or position < len(unsigned):
        raise Failed("a length of time is written like 1h30m, 90s or 1500ms", at)
    return span(-ns if text[0] == "-" else ns, at)


def moment_text(value: Moment) -> str:
    """The point in time as RFC 3339 writes it, in UTC."""
    days, rest = divmod(value.ns, _DAY)
    year, month, day = _date(days)
    clock = f"{rest // _HOUR:02}:{rest // _MINUTE % 60:02}:{rest // SECOND % 60:02}"
    return f"{year:04}-{month:02}-{day:02}T{clock}{_fraction(rest % SECOND)}Z"


def span_text(value: Span) -> str:
    """The length of time in seconds, like 90s or 1.500s."""
    seconds, rest = divmod(abs(value.ns), SECOND)
    return f"{'-' if value.ns < 0 else ''}{seconds}{_fraction(rest)}s"


def _fraction(ns: int) -> str:
    """Nothing, or three, six or nine digits behind a point."""
    if ns == 0:
        return ""
    for digits in (3, 6):
        if ns % 10 ** (9 - digits) == 0:
            return f".{ns // 10 ** (9 - digits):0{digits}}"
    return f".{ns:09}"


MOMENT_PARTS: Final = (
    "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours", "getMilliseconds",
    "getMinutes", "getMonth", "getSeconds",
)  # fmt: skip
SPAN_PARTS: Final = ("getHours", "getMilliseconds", "getMinutes", "getSeconds")


def part_of_moment(value: Moment, part: str, offset: int) -> int:
    """A part of a date or of a time of day. Months, days of the month (`getDayOfMonth`), of the year and of the week
    count from 0, and the week begins on Sunday; `getDate` counts from 1. Source: the CEL specification."""
    days, rest = divmod(value.ns + offset, _DAY)
    if part == "getHours":
        return rest // _HOUR
    if part == "getMinutes":
        return rest // _MINUTE % 60
    if part == "getSeconds":
        return rest // SECOND % 60
    if part == "getMilliseconds":
        return rest // MILLISECOND % 1_000
    if part == "getDayOfWeek":
        return (days + 4) % 7
    year, month, day = _date(days)
    if part == "getFullYear":
        return year
    if part == "getMonth":
        return month - 1
    if part == "getDayOfYear":
        return days - _days(year, 1, 1)
    return day if part == "getDate" else day - 1


def part_of_span(value: Span, part: str) -> int:
    """A length of time in whole hours, minutes or seconds, or its milliseconds beyond whole seconds."""
    sign = -1 if value.ns < 0 else 1
    length = abs(value.ns)
    if part == "getMilliseconds":
        return sign * (length // MILLISECOND % 1_000)
    return sign * (length // {"getHours": _HOUR, "getMinutes": _MINUTE, "getSeconds": SECOND}[part])


# Days since 1970 and dates, in the calendar of ISO 8601, by counting years from March: the leap day comes last then.


def _days(year: int, month: int, day: int) -> int:
    if month <= 2:
        year -= 1
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: int) -> tuple[int, int, int]:
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (month <= 2), month, day


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31
