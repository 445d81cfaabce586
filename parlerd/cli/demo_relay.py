"""The throw-away relay of a demo: a real `python -m relay` on the loopback, with TLS and a join secret, in a temporary
directory.

Not here: what happens over the relay (`demo_team`), the homes of its people (`demo_home`). The demo makes no service of
the system, so the relay is a child of the demo. Invariant: after `end` the relay does not run, however the demo went.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from parlerd.cli.demo_home import last_lines, remove
from parlerd.client import connect
from parlerd.client.launch import last_failure, spawn
from parlerd.core.errors import ParlerError
from parlerd.operations import types as t
from parlerd.paths import Home, prepare, relay_home
from relay import place as places

_ADDRESS: Final = "127.0.0.1"
_NAME: Final = "demo"
_STOP_SECONDS: Final = 5.0
"""How long a relay that was asked to stop may take; it drains for 2 s at most."""
_START_SECONDS: Final = 12.0
"""How long a relay may take to answer. Its program makes a key and a certificate first."""
_LOOK_SECONDS: Final = 0.02


class DemoRelay:
    """A relay in `place`, or else in the system's temporary directory. Every method blocks, so an event loop calls it
    in a thread."""

    def __init__(self, place: Path | None = None) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="parler-demo-", dir=place))
        self._owner = Home(root=self.directory / "home", explicit=True)
        self.home = relay_home(self._owner)
        # The relay's process; None before the first start.
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> t.RelayInfo:
        """Start the relay, again at the address that it had, and wait until it answers. Raises `ParlerError`."""
        prepare(self._owner)
        prepare(self.home)
        if places.load(self.home) is None:
            places.store(self.home, places.Place(name=_NAME, address=_ADDRESS, port=_free_port()))
        self._child = spawn(
            self.home, [sys.executable, "-I", "-m", "_parler", "relay", "--home", str(self._owner.root)]
        )
        deadline = time.monotonic() + _START_SECONDS
        while (found := self._status()) is None:
            if self._child.poll() is not None:
                raise last_failure(self.home, program="relay") or ParlerError(
                    "relay_not_running", "The relay ended while it started."
                )
            if time.monotonic() > deadline:
                raise ParlerError("relay_not_running", f"The relay did not answer within {_START_SECONDS:.0f} s.")
            time.sleep(_LOOK_SECONDS)
        return found

    def secret(self) -> str:
        """The secret that enrols a person. Raises `OSError`."""
        return places.secret_of(self.home).read_text(encoding="ascii").strip()

    def kill(self) -> None:
        """End the relay as a power cut does: nothing is told to anybody."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def log_tail(self) -> list[str]:
        """The last lines of the relay's log: ids and codes, no content."""
        return last_lines(self.home.log)

    def end(self, *, keep: bool) -> None:
        """Stop the relay and remove everything, unless `keep`. Raises `OSError`."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        if not keep:
            remove(self.directory, self.home)

    def _status(self) -> t.RelayInfo | None:
        try:
            with connect(self.home, host="cli", start=False) as client:
                found = client.call("relay.status", t.RelayStatus())
        except ParlerError as error:
            if error.code in ("unreachable", "connection_lost", "draining"):
                return None
            raise
        assert isinstance(found, t.RelayInfo)
        return found


def _free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server((_ADDRESS, 0)) as probe:
        return int(probe.getsockname()[1])
