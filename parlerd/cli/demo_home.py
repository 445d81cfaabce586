"""The throw-away home of a demo: a real daemon in a temporary directory, and nothing of it left afterwards.

Not here: what happens in the home (`demo_story`). The demo reaches the daemon as any command does. Invariant: after
`end` no process serves this home, however the demo went, and no other process was touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from parlerd import process
from parlerd.client import connect
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home

_STOP_SECONDS: Final = 5.0
"""How long a daemon that was asked to stop may take; it drains for 2 s at most."""
_KILL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02
_LOG_LINES: Final = 5


class DemoHome:
    """A new home in `place`, or else in the system's temporary directory. Every method blocks, so an event loop calls
    it in a thread."""

    def __init__(self, place: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="parler-demo-", dir=place))
        self.home = Home(root=self.directory / "home", explicit=True)

    def start(self) -> int:
        """Start the daemon if none runs; its pid. Raises `ParlerError`."""
        with connect(self.home) as client:
            return client.daemon_pid

    def daemon(self) -> int:
        """The pid of the daemon that serves this home now; 0 when none answers."""
        try:
            with connect(self.home, start=False) as client:
                return client.daemon_pid
        except ParlerError:
            return 0

    def shim_command(self, host: str) -> list[str]:
        """The command line of the entry that `parler connect` would write for an agent host."""
        root = str(self.home.root)
        return [sys.executable, "-I", "-S", str(self.home.shim), "--host", host, "--home", root]

    def log_tail(self) -> list[str]:
        """The last lines of the daemon's log: ids and codes, no content."""
        return last_lines(self.home.log)

    def end(self, *, keep: bool) -> None:
        """Stop the daemon and remove everything, unless `keep`. No shim runs any more. Raises `OSError`."""
        deadline = time.monotonic() + _STOP_SECONDS
        # Daemons are found by their command lines, because a daemon that has just been started does not answer yet.
        while running := [pid for pid in process.running_with(str(self.home.root)) if pid != os.getpid()]:
            if time.monotonic() > deadline + _KILL_SECONDS:
                break  # the daemon cannot be killed; the home is removed all the same
            if time.monotonic() > deadline:
                _kill(running)
            else:
                self._ask_to_stop()
            time.sleep(_LOOK_SECONDS)
        if not keep:
            remove(self.directory, self.home)

    def _ask_to_stop(self) -> None:
        with contextlib.suppress(ParlerError), connect(self.home, start=False) as client:
            client.call("daemon.stop", t.StopDaemon(reason="demo"), timeout=_STOP_SECONDS)


def last_lines(log: Path) -> list[str]:
    """The last lines of a log; none where it cannot be read."""
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return []


def remove(directory: Path, home: Home) -> None:
    """Remove a throw-away directory with the home in it, and the home's socket where that stands elsewhere. Raises
    `OSError`."""
    shutil.rmtree(directory)
    elsewhere = home.socket.parent
    if elsewhere != home.run:
        shutil.rmtree(elsewhere, ignore_errors=True)
        with contextlib.suppress(OSError):
            elsewhere.parent.rmdir()  # empty only if no other home has its socket there


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
