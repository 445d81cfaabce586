"""Play seeds, and say which promise broke in which.

python -m tests.sim 2000              seeds 0 to 1999
python -m tests.sim 500 --from 10000  seeds 10000 to 10499
python -m tests.sim --seed 17         one seed, with what happened in it
python -m tests.sim --fault NAME      where a planted fault is caught; --fault all: where each of them is
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback

from tests.sim.broken import Broken
from tests.sim.faults import FAULTS, SEEDS, catch
from tests.sim.world import Simulation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("seeds", nargs="?", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--fault", choices=[*FAULTS, "all"])
    args = parser.parse_args()
    # What dies in a simulation says so in the log, again and again.
    logging.disable()
    if args.fault is not None:
        return _catch(list(FAULTS) if args.fault == "all" else [args.fault], args.first)
    seeds = [args.seed] if args.seed is not None else range(args.first, args.first + args.seeds)
    began, failed = time.perf_counter(), 0
    for number, seed in enumerate(seeds, 1):
        try:
            report = Simulation(seed).run()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            step = f" ({error.step})" if isinstance(error, Broken) else ""
            print(f"seed {seed}: {type(error).__name__}: {error}{step}")
            if args.seed is not None:
                traceback.print_exception(error)
        else:
            if args.seed is not None:
                print(report)
        if number % 500 == 0:
            print(f"{number} seeds, {failed} failed, {time.perf_counter() - began:.0f} s", flush=True)
    print(f"{len(seeds)} seeds, {failed} failed, {time.perf_counter() - began:.1f} s")
    return 1 if failed else 0


def _catch(names: list[str], first: int) -> int:
    """Play faults until each is caught. Whether one never was."""
    escaped = 0
    for name in names:
        began = time.perf_counter()
        caught = catch(FAULTS[name], range(first, first + SEEDS))
        print(f"{name}: {FAULTS[name].what}")
        if caught is None:
            escaped += 1
            print(f"  not caught in {SEEDS} seeds")
        else:
            print(f"  caught in seed {caught.seed}, at {caught.broken.step}: {caught.broken}")
        print(f"  {time.perf_counter() - began:.1f} s", flush=True)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main())
