"""A command's context on a bench: a clock that moves when somebody sleeps, and a daemon whose hosts dial in on time."""

from __future__ import annotations

import io
from pathlib import Path

from configs.outcome import Outcome
from parlerd.cli.connect import place_of
from parlerd.cli.connect_verify import wait
from parlerd.cli.connect_view import Seen
from parlerd.cli.context import Context
from parlerd.cli.output import Output
from parlerd.operations import types as t
from parlerd.paths import Home
from tests.support.cli import Terminal
from tests.support.fake_client import FakeDaemon

BEGUN_MS = 1_700_000_000_000


class Bench:
    """A command's context with a clock of its own, and a daemon whose hosts dial in at given moments."""

    def __init__(self, home: Path, *, terminal: bool = False, json: bool = False) -> None:
        self.clock = 0.0
        self.comes: dict[str, tuple[float, int]] = {}
        self.daemon = FakeDaemon().answers("hosts.seen", self.seen)
        self.stdout = Terminal() if terminal else io.StringIO()
        out = Output(self.stdout, io.StringIO(), json=json, width=100)
        self.ctx = Context(out, Home(home / ".parler"), {"HOME": str(home)}, self.daemon.connect)
        self.ctx.monotonic = lambda: self.clock
        self.ctx.now = lambda: BEGUN_MS / 1000 + self.clock
        self.ctx.sleep = self._sleep

    def dials(self, host: str, *, after: float, windows: int = 1) -> None:
        """A window of `host` comes so many seconds after the wait began; before, if that is below 0."""
        self.comes[host] = (after, windows)

    def wait(self, *outcomes: Outcome, seconds: float = 10) -> dict[str, Seen]:
        return wait(self.ctx, place_of(self.ctx), outcomes, round(seconds * 1000))

    def _sleep(self, seconds: float) -> None:
        self.clock += seconds

    def seen(self, _params: t.Params) -> t.SeenHostList:
        return t.SeenHostList(
            hosts=[
                t.SeenHost(host=host, at=BEGUN_MS + round(after * 1000), windows=windows)
                for host, (after, windows) in self.comes.items()
                if after <= self.clock
            ]
        )
