"""How long the daemon takes to come up, and how much memory it keeps.

The daemon is up from its spawn to its first answered call. Beside this stands how long an agent window waits where
nothing ran yet, from its spawn to its first answered tool call.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from benchmarks import common, peers
from parlerd.cli.demo_home import DemoHome
from parlerd.client.launch import daemon_command
from parlerd.operations import types as t

START_FLOOR_MS = 900.0
MEMORY_FLOOR_MB = 90.0
POLL_S = 0.001
SETTLE_S = 0.5
FIRST_S = 1.0
UP = "spawn to first answered call"
RESIDENT = "resident memory"


def main() -> None:
    """Measure and print."""
    given = common.arguments(__doc__, runs=7, windows=20)
    report = common.Report("daemon_start", given.place)
    ups: list[float] = []
    tools: list[float] = []
    for _ in range(given.runs):
        with common.empty_home(given.place) as made:
            ups.append(first_answer(made))
        with common.empty_home(given.place) as made:
            tools.append(first_tool_call(made))
    report.add(common.spread(UP, "ms", ups, floor=START_FLOOR_MS))
    report.add(common.spread("spawn of shim and daemon to first answered tool call", "ms", tools))
    with common.empty_home(given.place) as made:
        report.add(common.spread(f"durable send in its first {FIRST_S:g} s", "ms", first_calls(made)))
    grown = memory_with(given.windows, given.place)
    for count, size in grown.items():
        floor = MEMORY_FLOOR_MB if count == str(given.windows) else None
        report.add(common.Figure(f"{RESIDENT}, {count} windows", "MB", size["resident"], 1, floor=floor))
    report.growth.append({"what": "MB with windows attached", **grown})
    if given.compare:
        peers.daemons(report, given.peers, UP, f"{RESIDENT}, {given.windows} windows", given.windows)
    report.print()


def first_answer(made: DemoHome) -> float:
    """Milliseconds from the daemon's spawn to an answered call."""
    made.home.log.parent.mkdir(mode=0o700)
    made.home.run.mkdir(mode=0o700)
    begun = time.perf_counter()
    environment = {"PATH": os.environ["PATH"], "HOME": str(made.directory)}
    daemon = subprocess.Popen(daemon_command(made.home), cwd="/", env=environment, start_new_session=True)
    try:
        deadline = begun + common.PATIENCE_S
        while time.perf_counter() < deadline:
            with suppress(OSError), common.RawConnection(made) as connection:
                connection.call("daemon.status", t.DaemonStatus())
                return (time.perf_counter() - begun) * 1000
            time.sleep(POLL_S)
        raise RuntimeError("the daemon did not come up")
    finally:
        daemon.terminate()
        daemon.wait()


def first_tool_call(made: DemoHome) -> float:
    """Milliseconds from a shim's spawn to an answered tool call, where no daemon runs: the shim starts it."""
    made.start()
    made.end(keep=True)  # the daemon has put the shim where hosts look for it, as any earlier use would have
    with common.shim(made, "window") as window:
        window.handshake()
        window.call("parler_rooms")
        return (time.perf_counter() - window.spawned) * 1000


def first_calls(made: DemoHome) -> list[float]:
    """Milliseconds of sends one after another, while the daemon still imports the windows' face beside them."""
    made.start()
    until = time.perf_counter() + FIRST_S
    found: list[float] = []
    with common.RawConnection(made, as_name="ann") as connection:
        connection.call("session.open", t.OpenSession(context="benchmark", topic="bench"))
        while time.perf_counter() < until:
            found.append(common.milliseconds(lambda: connection.call("message.send", t.Send(text=common.TEXT))))
    return found


def memory_with(windows: int, place: Path | None) -> dict[str, dict[str, float]]:
    """The daemon's memory with no window, one, half of them and all of them attached, each having made a call, and
    what all shims and the daemon take together; then with the MCP library too, which a first prompt loads."""
    found: dict[str, dict[str, float]] = {}
    shims: list[int] = []
    with common.empty_home(place) as made, ExitStack() as stack:
        made.start()
        pid = made.daemon()
        for count in range(windows + 1):
            if count in (0, 1, windows // 2, windows):
                time.sleep(SETTLE_S)
                found[str(count)] = everything(pid, shims)
            if count < windows:
                window = stack.enter_context(common.shim(made, f"window{count}"))
                window.handshake()
                window.tools()
                window.call("parler_rooms")
                shims.append(window.process.pid)
        last = stack.enter_context(common.shim(made, "asks"))
        last.handshake()
        last.hear(last.ask("prompts/get", {"name": "catch-up"}))
        time.sleep(SETTLE_S)
        found[f"{windows} and the MCP library"] = everything(pid, shims)
    return found


def everything(daemon: int, shims: Sequence[int]) -> dict[str, float]:
    """The daemon's memory, and as `all` the shares of the daemon and its shims, where this system tells them."""
    found = common.memory(daemon)
    shares = [common.memory(pid).get("pss") for pid in (daemon, *shims)]
    known = [share for share in shares if share is not None]
    return {**found, "all": round(sum(known), 1)} if len(known) == len(shares) else found


if __name__ == "__main__":
    if sys.platform == "win32":
        sys.exit("Parler runs on Linux and macOS.")
    main()
