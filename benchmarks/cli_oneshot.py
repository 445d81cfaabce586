"""How long a one-shot command takes, from its start to its exit. A script or a hook pays this every time."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common, peers

VERSION = "parler --version"
ONE_SHOT = "one-shot command with a running daemon"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=25)
    report = common.Report("cli_oneshot", given.place)
    with common.home(given.place) as made:
        common.room_of(made, "ann")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(made.directory),
            "PARLER_HOME": str(made.home.root),
            "PARLER_AGENT": "ann",
        }

        def run(*words: str) -> list[float]:
            return times(given.runs, [*parler(), *words], made.directory, environment)

        report.add(common.spread(VERSION, "ms", run("--version"), floor=40.0))
        report.add(common.spread(f"{ONE_SHOT}: send", "ms", run("send", common.TEXT), floor=100.0))
        report.add(common.spread(f"{ONE_SHOT}: recv", "ms", run("recv", "--json"), floor=100.0))
        report.add(common.spread(f"{ONE_SHOT}: rooms --json", "ms", run("rooms", "--json"), floor=100.0))
        bare = times(given.runs, [sys.executable, "-I", "-S", "-c", "pass"], made.directory, environment)
        report.add(common.spread("bare interpreter", "ms", bare, who="python"))
        report.growth.append(in_interpreters(report, bare))
    if given.compare:
        peers.commands(report, given.peers, VERSION, f"{ONE_SHOT}: send", f"{ONE_SHOT}: recv", given.runs)
    report.print()


def in_interpreters(report: common.Report, bare: list[float]) -> dict[str, object]:
    """Each figure in bare interpreters, which is what the machine itself takes to start a process of this kind."""
    ours = [figure for figure in report.figures if figure.who == "parler"]
    unit = statistics.median(bare)
    return {"what": "bare interpreters", **{figure.figure: round(figure.median / unit, 2) for figure in ours}}


def parler() -> list[str]:
    """The installed command, as a person starts it, or in a checkout without one the same entry point."""
    script = Path(sys.executable).with_name("parler")
    return [str(script)] if script.exists() else [sys.executable, "-c", "from parlerd.cli.main import entry; entry()"]


def times(runs: int, command: Sequence[str], directory: Path, environment: dict[str, str]) -> list[float]:
    """How many milliseconds each run takes, after a first run that does not count."""

    def once() -> None:
        subprocess.run(command, check=True, cwd=directory, env=environment, stdout=subprocess.DEVNULL)

    once()
    return [common.milliseconds(once) for _ in range(runs)]


if __name__ == "__main__":
    main()
