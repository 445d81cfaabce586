"""One case with one host, played from its beginning to what is said in the end.

Not here: which cases are played, and when (`__main__`), what a case does (`cases`). Invariant: whatever goes wrong, the
case ends, and nothing of it is left.
"""

from __future__ import annotations

import signal
import time
from typing import Final, NamedTuple, NoReturn

import pytest

from tests.e2e.hosts.drivers import DRIVERS
from tests.e2e.hosts.programs import version
from tests.e2e.hosts.sight.bench import bench
from tests.e2e.hosts.sight.cases import CASES
from tests.e2e.hosts.sight.kept import Played
from tests.e2e.hosts.sight.truth import Outcome
from tests.support.processes import somebody

CASE_S: Final = 300
"""For one case. The longest takes a minute on two busy cores; one that hangs must not hold up the run."""


class Unit(NamedTuple):
    """One case with one host, to be played."""

    program: str
    case: str
    seed: int
    records: bool
    again: bool = False


class TookTooLong(Exception):
    """A case was not over in time."""


def play(unit: Unit) -> Played:
    """One case with one host in a HOME of its own, in a process that plays nothing else meanwhile."""
    driver = next(each for each in DRIVERS if each.program == unit.program)
    case = next(each for each in CASES if each.name == unit.case)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    failed = ""
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(CASE_S)
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            somebody(patch) as person,
            bench(person, driver, unit.seed, watched=not unit.records) as one,
        ):
            case.play(one)
            outcomes = one.outcomes(case.name, one.judged()) if unit.records else one.found(case.name)
    except Exception as error:  # a case that did not get through is counted, and the run goes on
        failed = f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)
    took_s = round(time.monotonic() - began, 1)
    return Played(unit.program, version(unit.program), unit.case, unit.seed, took_s, outcomes, failed)


def _late(number: int, frame: object) -> NoReturn:
    del number, frame
    raise TookTooLong(f"it was not over in {CASE_S} s")
