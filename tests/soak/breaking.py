"""What a soak breaks, and how it is whole again.

    kill     the relay is killed, and starts again a little later
    stop     the relay stands still for longer than it may decide, and goes on
    drain    the relay is asked to end, and starts again
    server   the database's server is killed as when memory is short, and starts again
    power    the server ends as when power fails, and starts again
    hang     every process of the server stands still for a while
    daemon   a daemon is killed; the next message of its agent starts another

Not here: who talks meanwhile (`talking`). Invariant: what was broken is whole again when a break returns.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from tests.support.processes import Somebody, kill, until
from tests.tools.postgres.server import Server

AWAY_S: Final = (0.2, 3.0)
"""How long what was killed stays away."""
STILL_S: Final = (1.0, 14.0)
"""How long what stands still does so: a relay decides for 6 s after its last beat, and is dead to others after 10."""


@dataclass
class Relay:
    """A relay's process, its person, and how it is started."""

    person: Somebody
    words: Sequence[str]
    child: subprocess.Popen[str] | None = field(default=None, init=False)

    def start(self) -> None:
        """Start it, and return once it says that it runs. One whose database is just starting ends; it is started again
        then, as a service manager does."""

        said = [""]

        def runs() -> bool:
            if self.child is not None and self.child.poll() is not None:
                said.append(self.person.ends(self.child, None).stderr)
            if self.child is None or self.child.poll() is not None:
                self.child = self.person.starts(*self.words)
            return bool(self.person.asks("relay", "status", expect=None).get("running"))

        try:
            until(runs, "relay that runs")
        except AssertionError as error:
            error.add_note(said[-1])
            raise

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid


@dataclass
class Breaking:
    """Everything that may be broken."""

    draw: random.Random
    relays: Sequence[Relay]
    server: Server
    people: Sequence[Somebody]
    only: Sequence[str] = ()
    """The names of what may be broken; everything where none is named."""
    done: dict[str, int] = field(default_factory=dict)
    """How often each thing was broken."""

    def one(self) -> str:
        """Break one thing, and say what it was."""
        ways: Mapping[str, Callable[[], None]] = {
            "kill": self._kill,
            "stop": self._stop,
            "drain": self._drain,
            "server": self._server,
            "power": self._power,
            "hang": self._hang,
            "daemon": self._daemon,
        }
        name = self.draw.choice(sorted(self.only or ways))
        ways[name]()
        self.done[name] = self.done.get(name, 0) + 1
        return name

    def _kill(self) -> None:
        relay = self.draw.choice(self.relays)
        kill(relay.pid)
        self._wait(AWAY_S)
        relay.start()

    def _stop(self) -> None:
        relay = self.draw.choice(self.relays)
        os.kill(relay.pid, signal.SIGSTOP)
        self._wait(STILL_S)
        os.kill(relay.pid, signal.SIGCONT)
        relay.start()

    def _drain(self) -> None:
        relay = self.draw.choice(self.relays)
        assert relay.child is not None
        os.kill(relay.pid, signal.SIGTERM)
        until(lambda: relay.child is None or relay.child.poll() is not None, "end of a relay")
        relay.start()

    def _server(self) -> None:
        self.server.kill()
        self._wait(AWAY_S)
        self._back()

    def _power(self) -> None:
        self.server.stop(at_once=True)
        self._wait(AWAY_S)
        self._back()

    def _hang(self) -> None:
        assert self.server.pid is not None
        first = psutil.Process(self.server.pid)
        every = [first, *first.children(recursive=True)]
        for one in every:
            one.suspend()
        self._wait(STILL_S)
        for one in every:
            one.resume()

    def _daemon(self) -> None:
        for pid in self.draw.choice(self.people).daemons():
            kill(pid)

    def _back(self) -> None:
        self.server.start()
        for relay in self.relays:
            relay.start()

    def _wait(self, between: tuple[float, float]) -> None:
        time.sleep(self.draw.uniform(*between))
