"""How benchmarks report. What they measure is no business of a test."""

from __future__ import annotations

import json

import pytest

from benchmarks import common


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(share: float, expected: int) -> None:
    assert common.percentile([float(value) for value in range(100, 0, -1)], share) == expected


def test_a_tail_is_said_only_where_there_are_enough_runs_for_one() -> None:
    few, some, many = (common.spread("f", "ms", [1.0] * runs) for runs in (9, 10, 100))
    assert (few.p90, few.p99) == (None, None)
    assert (some.p90, some.p99) == (1.0, None)
    assert (many.p90, many.p99) == (1.0, 1.0)


def test_a_report_is_one_document_with_ratios_to_parler_and_the_conditions(capsys: pytest.CaptureFixture[str]) -> None:
    report = common.Report("sample")
    report.add(common.spread("wake", "ms", [1.0, 2.0, 3.0], floor=2.0))
    report.add(common.spread("wake", "ms", [10.0], who="peer"))
    report.add(common.spread("wake", "ms", [12.0], quoted=5.0, who="quoted"))
    report.add(common.spread("only of the peer", "ms", [10.0], who="peer"))
    report.leave_out("other", "it cannot be installed")
    report.print()
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["figures"][0] == {
        "figure": "wake",
        "unit": "ms",
        "median": 2.0,
        "runs": 3,
        "floor": 2.0,
        "who": "parler",
    }
    assert document["ratios"] == [
        {"who": "peer", "figure": "wake", "times_parler": 5.0},
        {"who": "quoted", "figure": "wake", "times_parler": 6.0, "times_floor_as_quoted": 2.5},
    ]
    assert document["left_out"] == [{"who": "other", "why": "it cannot be installed"}]
    assert {"python", "sqlite", "kernel", "cpus", "date", "fdatasync_ms"} <= set(document["conditions"])
    assert "parler: wake: 2 ms (floor 2)" in printed.err
