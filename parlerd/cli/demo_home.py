"""The throw-away home of a demo: a real daemon in a temporary directory, and nothing of it left afterwards.

Not here: what is done in it (`demo_story`). Its daemon is reached as any command reaches one. Invariant: `end` leaves
no process that serves this home, however the demo went, and touches no process that does not.
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
"""For a daemon that was asked to stop; it drains for 2 s at most."""
_KILL_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02
_LOG_LINES: Final = 5


class DemoHome:
    """Made anew in `place`, else in the system's temporary directory. Everything here blocks and belongs in a
    thread."""

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
        """What an agent host's config would say: the entry that `parler connect` prints."""
        root = str(self.home.root)
        return [sys.executable, "-I", "-S", str(self.home.shim), "--host", host, "--home", root]

    def log_tail(self) -> list[str]:
        """The last lines of the daemon's log: ids and codes, no content."""
        try:
            return self.home.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            return []

    def end(self, *, keep: bool) -> None:
        """Stop the daemon and remove everything, unless `keep`. No shim runs any more. Raises `OSError`."""
        deadline = time.monotonic() + _STOP_SECONDS
        # By its command line, because one that a shim has only just started does not answer yet.
        while running := [pid for pid in process.running_with(str(self.home.root)) if pid != os.getpid()]:
            if time.monotonic() > deadline + _KILL_SECONDS:
                break  # it cannot be killed; the home goes all the same
            if time.monotonic() > deadline:
                _kill(running)
            else:
                self._ask_to_stop()
            time.sleep(_LOOK_SECONDS)
        if not keep:
            self._remove()

    def _ask_to_stop(self) -> None:
        with contextlib.suppress(ParlerError), connect(self.home, start=False) as client:
            client.call("daemon.stop", t.StopDaemon(reason="demo"), timeout=_STOP_SECONDS)

    def _remove(self) -> None:
        shutil.rmtree(self.directory)
        elsewhere = self.home.socket.parent
        if elsewhere != self.home.run:
            shutil.rmtree(elsewhere, ignore_errors=True)
            with contextlib.suppress(OSError):
                elsewhere.parent.rmdir()  # the last home whose path was too long


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
