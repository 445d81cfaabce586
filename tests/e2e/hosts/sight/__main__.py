"""The long run: `python -m tests.e2e.hosts.sight --messages 10000 --kills`.

Every host goes through every case, again and again with other texts, until so many messages were sent or the time is
over; then the table of what was said against what is true is printed. The exit code is 1 when something was said to be
shown that was not. `--records` judges the hosts' records afterwards instead of asking Parler; `--minutes 0` sums up
what earlier runs kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.hosts import find_host
from tests.e2e.hosts.drivers import DRIVERS, Driver
from tests.e2e.hosts.programs import missing, version
from tests.e2e.hosts.sight.bench import bench
from tests.e2e.hosts.sight.cases import CASES, KILLS, Case
from tests.e2e.hosts.sight.truth import Outcome, summary, table
from tests.support.processes import somebody


def play(driver: Driver, case: Case, seed: int, *, records: bool) -> list[Outcome]:
    """One case with one host in a HOME of its own."""
    with (
        pytest.MonkeyPatch.context() as patch,
        somebody(patch) as person,
        bench(person, driver, seed, watched=not records) as one,
    ):
        case.play(one)
        one.settles()
        return one.outcomes(case.name, one.judged()) if records else one.found(case.name)


def kept(path: Path | None) -> list[Outcome]:
    """What earlier runs found."""
    if path is None or not path.exists():
        return []
    return [Outcome(*json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.hosts.sight", description=__doc__)
    parser.add_argument(
        "--messages", type=int, default=1, help="go on until so many were sent (default: each case once)"
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="but not longer than this")
    parser.add_argument("--kills", action="store_true", help="also kill hosts, daemons and shims")
    parser.add_argument("--host", action="append", help="only this program (may be repeated)")
    parser.add_argument("--case", action="append", help="only this case (may be repeated)")
    parser.add_argument("--records", action="store_true", help="judge the records afterwards, and do not ask Parler")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kept", type=Path, help="a file with what earlier runs found; what this one finds is appended"
    )
    parser.add_argument("--record", type=Path, help="write the sums to this file, as docs/delivery.json has them")
    asked = parser.parse_args(words)
    pairs = [
        (driver, case)
        for case in CASES
        for driver in DRIVERS
        if find_host(driver.host).sight is not None
        and missing(driver.program) is None
        and (not asked.host or driver.program in asked.host)
        and (case.name in asked.case if asked.case else asked.kills or case.name not in KILLS)
        and (not case.programs or driver.program in case.programs)
    ]
    outcomes = kept(asked.kept)
    failed: list[str] = []
    ends = time.monotonic() + asked.minutes * 60
    for turn in itertools.count():
        if time.monotonic() > ends:
            break
        for driver, case in pairs:
            if time.monotonic() > ends or (turn and len(outcomes) >= asked.messages):
                break
            began = time.monotonic()
            try:
                found = play(driver, case, asked.seed + turn, records=asked.records)
            except KeyboardInterrupt:
                ends = 0.0
                break
            except Exception as error:  # a case that did not get through is counted, and the run goes on
                failed.append(f"{driver.program}, {case.name}: {type(error).__name__}: {str(error)[:200]}")
                print(failed[-1], flush=True)
                continue
            outcomes += found
            wrong = [each for each in found if each.is_false_shown]
            print(
                f"{driver.program:9} {case.name:16} {len(found):3} messages, {time.monotonic() - began:5.1f} s"
                + (f"  FALSE: {wrong}" if wrong else ""),
                flush=True,
            )
            if asked.kept:
                with asked.kept.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(each) + "\n" for each in found)
        else:
            if len(outcomes) < asked.messages:
                continue
        break
    never = sum(not each.is_evidence for each in outcomes)
    outcomes = [each for each in outcomes if each.is_evidence]
    print(table(outcomes))
    print(f"{never} messages were in no answer")
    if asked.record:
        versions = {driver.host: version(driver.program) for driver, _ in pairs}
        today, system = datetime.now(UTC).date().isoformat(), f"{platform.system()} {platform.machine()}"
        asked.record.write_text(json.dumps(summary(outcomes, versions, today, system), indent=1) + "\n", "utf-8")
    print(f"{len(failed)} cases did not get through", *failed, sep="\n  ")
    return 1 if any(each.is_false_shown for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
