"""How long an agent window takes to be ready, and how much memory it keeps, where a daemon runs already.

A window is ready from its spawn to its answered `tools/list`, which every window of every agent host pays once. Beside
this stands a bare interpreter, which is the part that no Python program can save.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import common, peers

START_FLOOR_MS = 30.0
MEMORY_FLOOR_MB = 5.0
SETTLE_S = 0.3
"""How long to wait after a window's last answer before its memory is looked at."""
READY = "spawn to answered tools/list"
PRIVATE = "private memory of a window"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=30, windows=20)
    report = common.Report("shim_start", given.place)
    with common.home(given.place) as made:
        measure(report, lambda: common.shim(made, "window"), given.runs, "parler", START_FLOOR_MS, MEMORY_FLOOR_MB)
        report.add(common.spread("bare interpreter", "ms", [_bare() for _ in range(given.runs)], who="python -I -S"))
        with ExitStack() as others:
            for count in range(given.windows):
                common.ready_ms(others.enter_context(common.shim(made, f"other{count}")))
            times = [_ready(lambda: common.shim(made, "window")) for _ in range(given.runs)]
            crowded = common.spread(f"{READY}, {given.windows} others open", "ms", times)
        report.add(crowded)
        report.growth.append(
            {"what": "ready, with others open", "0": report.figures[0].median, str(given.windows): crowded.median}
        )
    if given.compare:
        few = max(3, given.runs // 5)
        peers.windows(report, given.peers, lambda spawn, who: measure(report, spawn, few, who))
    report.print()


def measure(
    report: common.Report,
    spawn: Callable[[], common.RawWindow],
    runs: int,
    who: str,
    start_floor: float | None = None,
    memory_floor: float | None = None,
) -> None:
    """Measure both figures of one kind of window."""
    _ready(spawn)
    times = [_ready(spawn) for _ in range(runs)]
    report.add(common.spread(READY, "ms", times, floor=start_floor, who=who))
    sizes = [_private(spawn) for _ in range(3)]
    report.add(common.spread(PRIVATE, "MB", sizes, floor=memory_floor, who=who))


def _ready(spawn: Callable[[], common.RawWindow]) -> float:
    with spawn() as window:
        return common.ready_ms(window)


def _private(spawn: Callable[[], common.RawWindow]) -> float:
    with spawn() as window:
        common.ready_ms(window)
        time.sleep(SETTLE_S)
        found = common.memory(window.process.pid)
        return found.get("private", found["resident"])


def _bare() -> float:
    command = [sys.executable, "-I", "-S", "-c", "pass"]
    return common.milliseconds(lambda: subprocess.run(command, check=True, cwd=Path("/")))


if __name__ == "__main__":
    main()
