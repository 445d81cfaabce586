"""How long `parler connect --list` takes, from its start to its exit, where every agent host is installed.

Half of them are connected, and each file holds the servers of others too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import common
from benchmarks.cli_oneshot import parler, times
from configs.hosts import HOSTS
from configs.model import SERVER, Host, Shim, candidates, this_system
from configs.snippet import snippet

NEIGHBOURS = 6
"""Servers of others in each file, as large as ours: more than most people have."""


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=25)
    report = common.Report("connect_list", given.place)
    with common.empty_home(given.place) as made:
        environment = {"PATH": os.environ["PATH"], "HOME": str(made.directory), "PARLER_HOME": str(made.home.root)}
        fill(made.directory, made.home.root)

        def run(*words: str) -> list[float]:
            return times(given.runs, [*parler(), *words], made.directory, environment)

        listed = run("connect", "--list", "--json")
        report.add(common.spread(f"connect --list, {len(HOSTS)} hosts", "ms", listed, floor=300.0))
        one = run("connect", "--list", "--json", HOSTS[0].id)
        report.add(common.spread("connect --list, one host", "ms", one))
    report.print()


def fill(directory: Path, home: Path) -> None:
    """Every host's settings below `directory`; every second one has our entry."""
    for index, host in enumerate(HOSTS):
        path = candidates(host, this_system(), {"HOME": str(directory)})[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        shim = Shim(python=sys.executable, shim=str(home / "run" / "shim.py"), host=host.id, home=str(home))
        names = [f"server-{number}" for number in range(NEIGHBOURS)]
        path.write_text(_settings(host, shim, [*names, SERVER] if index % 2 else names))


def _settings(host: Host, shim: Shim, names: list[str]) -> str:
    """A file of this host with servers of these names."""
    ours = snippet(host, shim)
    if host.format == "toml":
        return "\n".join(ours.replace(SERVER, name, 1) for name in names)
    if host.format == "yaml":
        table, _, entry = ours.partition("\n")
        return table + "\n" + "".join(entry.replace(SERVER, name, 1) for name in names)
    whole: Any = {name: host.entry(shim) for name in names}
    for key in reversed(host.key_path):
        whole = {key: whole}
    return json.dumps(whole, indent=2) + "\n"


if __name__ == "__main__":
    main()
