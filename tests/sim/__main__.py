"""Play seeds, say which promise broke in which, and how much happened in them.

python -m tests.sim 2000              seeds 0 to 1999
python -m tests.sim 2000 --jobs 2     the same in two processes
python -m tests.sim 500 --from 10000  seeds 10000 to 10499
python -m tests.sim --seed 17         one seed, with what happened in it
python -m tests.sim --fault NAME      where a planted fault is caught; --fault all: where each of them is
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Final, NamedTuple

from tests.sim import faults_of_relays as faults_of_relays
from tests.sim import faults_of_sealing as faults_of_sealing
from tests.sim.broken import Broken
from tests.sim.faults import FAULTS, SEEDS, catch
from tests.sim.world import Simulation

CHUNK: Final = 50
"""How many seeds a process plays before it says how they went."""


class Played(NamedTuple):
    seeds: int
    failed: list[str]
    counts: Counter[str]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("seeds", nargs="?", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--fault", choices=[*FAULTS, "all"])
    args = parser.parse_args()
    # What dies in a simulation says so in the log, again and again.
    logging.disable()
    if args.fault is not None:
        return _catch(list(FAULTS) if args.fault == "all" else [args.fault], args.first)
    if args.seed is not None:
        return _one(args.seed)
    began = time.perf_counter()
    failed, counts, seeds = 0, Counter[str](), 0
    for played in _all(range(args.first, args.first + args.seeds), args.jobs):
        for line in played.failed:
            print(line, flush=True)
        failed += len(played.failed)
        before, seeds = seeds, seeds + played.seeds
        counts += played.counts
        if before // 1000 < seeds // 1000:
            print(f"{seeds} seeds, {failed} failed, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{seeds} seeds, {failed} failed, {time.perf_counter() - began:.1f} s, {args.jobs} process(es)")
    print("On average a seed has:")
    for what, many in sorted(counts.items()):
        print(f"{many / max(1, seeds):8.2f} {what}")
    return 1 if failed else 0


def _one(seed: int) -> int:
    try:
        print(Simulation(seed).run())
    except Exception as error:
        traceback.print_exception(error)
        return 1
    return 0


def _all(seeds: range, jobs: int) -> Iterator[Played]:
    chunks = [seeds[n : n + CHUNK] for n in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(_play, chunks)
        return
    with multiprocessing.Pool(jobs, initializer=partial(logging.disable, logging.CRITICAL)) as pool:
        yield from pool.imap_unordered(_play, chunks)


def _play(seeds: range) -> Played:
    failed, counts = [], Counter[str]()
    for seed in seeds:
        try:
            counts += Simulation(seed).run().counts
        except Exception as error:
            failed.append(f"seed {seed}: {_said(error)}")
    return Played(len(seeds), failed, counts)


def _said(error: BaseException) -> str:
    """What went wrong, in one line; what several tasks raised, after each other."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_said, error.exceptions))
    step = f" ({error.step})" if isinstance(error, Broken) else ""
    return f"{type(error).__name__}: {error}{step}"


def _catch(names: list[str], first: int) -> int:
    """Play faults until each is caught. Whether one never was."""
    escaped = 0
    for name in names:
        began = time.process_time()
        caught = catch(FAULTS[name], range(first, first + SEEDS))
        print(f"{name}: {FAULTS[name].what}")
        if caught is None:
            escaped += 1
            print(f"  not caught in {SEEDS} seeds")
        else:
            print(f"  caught in seed {caught.seed}, at {caught.broken.step}: {caught.broken}")
        print(f"  {time.process_time() - began:.1f} s of the processor", flush=True)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
