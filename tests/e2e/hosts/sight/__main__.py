"""The long run: `python -m tests.e2e.hosts.sight --kills --kept FOLDER --record docs/delivery.json`.

Every host goes through every case, some hosts beside each other and each with one case at a time; a line says how far
the run is. A case that did not get through is played once more. With `--kept` each host has a file in FOLDER, and the
same command goes on where the last one was ended. At the end the table of what was said against what is true is
printed. The exit code is 1 when something was said to be shown that was not, 2 when a case did not get through.
`--records` judges the hosts' records afterwards instead of asking Parler; `--minutes 0` sums up what earlier runs kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import platform
import sys
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from configs.hosts import find_host
from tests.e2e.hosts.drivers import DRIVERS
from tests.e2e.hosts.programs import find, missing, version
from tests.e2e.hosts.sight.cases import CASES, KILLS
from tests.e2e.hosts.sight.kept import Kept, Played
from tests.e2e.hosts.sight.playing import Unit, play
from tests.e2e.hosts.sight.truth import summary, table

BESIDE: Final = 2
"""Hosts beside each other. A host is busy for a third of a case and waits for the rest; with more, those that are about
to start make the others late."""


def units(asked: argparse.Namespace, kept: Kept) -> dict[str, list[Unit]]:
    """What is to be played, by program."""
    found: dict[str, list[Unit]] = {}
    for turn, case, driver in itertools.product(range(asked.turns), CASES, DRIVERS):
        program, seed = driver.program, asked.seed + turn
        if (
            find_host(driver.host).sight is None
            or missing(program) is not None
            or (asked.host and program not in asked.host)
            or (case.name not in asked.case if asked.case else case.name in KILLS and not asked.kills)
            or (case.programs and program not in case.programs)
            or kept.has(program, version(program), case.name, seed)
        ):
            continue
        found.setdefault(program, []).append(Unit(program, case.name, seed, asked.records))
    return found


def run(left: dict[str, list[Unit]], kept: Kept, beside: int, minutes: float) -> None:
    """Play all that, or as much as the time lets."""
    began = time.monotonic()
    count, done = sum(map(len, left.values())), 0
    running: dict[Future[Played], Unit] = {}
    # Each worker has an environment of its own, which a case changes.
    with ProcessPoolExecutor(beside, multiprocessing.get_context("spawn")) as pool:
        try:
            while True:
                busy = {unit.program for unit in running.values()}
                idle = sorted(
                    (each for each in left if left[each] and each not in busy), key=lambda each: -len(left[each])
                )
                for program in idle[: beside - len(running)]:
                    if time.monotonic() - began < minutes * 60:
                        unit = left[program].pop(0)
                        running[pool.submit(play, unit)] = unit
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    unit, played = running.pop(future), future.result()
                    kept.add(played)
                    if played.failed and not unit.again:
                        left[unit.program].append(unit._replace(again=True))
                        count += 1
                    done += 1
                    print(_line(played, done, count, time.monotonic() - began), flush=True)
        except KeyboardInterrupt:
            # The workers were told as well, and end what they began.
            pool.shutdown(wait=True, cancel_futures=True)


def _line(played: Played, done: int, count: int, spent_s: float) -> str:
    said = played.failed or f"{len(played.outcomes)} messages"
    wrong = [each for each in played.outcomes if each.is_false_shown]
    spent_m = spent_s / 60
    return (
        f"[{done}/{count}, {spent_m:.0f} min, about {spent_m / done * (count - done):.0f} min left] "
        f"{played.program}, {played.case}: {said}, {played.took_s} s" + (f"  FALSE: {wrong}" if wrong else "")
    )


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.hosts.sight", description=__doc__)
    parser.add_argument(
        "--turns", type=int, default=1, help="how often each case is played, with other texts each time"
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="begin nothing after that time")
    parser.add_argument("--kills", action="store_true", help="also kill hosts, daemons and shims")
    parser.add_argument("--host", action="append", help="only this program (may be repeated)")
    parser.add_argument("--case", action="append", help="only this case (may be repeated)")
    parser.add_argument("--records", action="store_true", help="judge the records afterwards, and do not ask Parler")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--beside", type=int, default=BESIDE, help=f"hosts beside each other (default: {BESIDE})")
    parser.add_argument("--kept", type=Path, help="a folder with what earlier runs found, to which this one adds")
    parser.add_argument("--record", type=Path, help="write the sums to this file, as docs/delivery.json has them")
    asked = parser.parse_args(words)
    kept = Kept(asked.kept)
    run(units(asked, kept), kept, asked.beside, asked.minutes)
    found = [each for played in kept.played for each in played.outcomes]
    outcomes = [each for each in found if each.is_evidence]
    print(table(outcomes))
    print(f"{len(found) - len(outcomes)} messages were in no answer")
    if asked.record:
        releases = {find(played.program).host: played.release for played in kept.played}
        today, system = datetime.now(UTC).date().isoformat(), f"{platform.system()} {platform.machine()}"
        asked.record.write_text(json.dumps(summary(outcomes, releases, today, system), indent=1) + "\n", "utf-8")
    failed = [f"{each.program}, {each.case}: {each.failed}" for each in kept.played if each.failed]
    print(f"{len(failed)} cases did not get through", *failed, sep="\n  ")
    return 1 if any(each.is_false_shown for each in outcomes) else 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
