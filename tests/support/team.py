"""A team of several people: empty HOMEs, and a relay that the first of them runs.

Everything is real: on the loopback (`people`), there with a wire of its own for each (`wired`), or on machines of their
own (`apart`). Not here: one person's home and its processes (`processes`), windows of agent hosts (`mcp_windows`).
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from configs.hosts import recognised
from parlerd import process
from parlerd.identity import codes
from tests.support import machines
from tests.support.machines import Machine
from tests.support.processes import Somebody, somebody, until
from tests.support.releases import Change, Release
from tests.support.wires import Wire


def skip_below_an_agent_host() -> None:
    """Skip where what only a person may do is refused: a test that runs below an agent host is nobody's person."""
    if host := process.surroundings_of(os.getpid(), recognised()).agent_host:
        pytest.skip(f"these tests run below {host}: use a terminal outside of it")


class Team:
    """Ann, whose relay runs, and two others."""

    def __init__(self, ann: Somebody, ben: Somebody, cara: Somebody) -> None:
        self.ann, self.ben, self.cara = ann, ben, cara
        self.relay: dict[str, Any] = ann.asks("relay", "status")
        """How the relay is, as its status says it."""
        self.wires: dict[Somebody, Wire] = {}
        """The wire by which somebody's daemon comes to the relay, for those who have one."""

    @property
    def port(self) -> str:
        return str(self.relay["addresses"][0].rpartition(":")[2])

    def line(self, one: Somebody) -> str:
        """The line by which somebody adds the relay."""
        if (wire := self.wires.get(one)) is not None:
            return f"{wire.url}#{self.relay['fingerprint']}"
        return str(self.relay["join_line"])

    def joins(self, one: Somebody) -> Any:
        file = self.relay["join_secret_file"]
        return one.asks("connect", "--relay", self.line(one), "--join-secret-file", file)

    def relay_pid(self) -> int:
        return int(self.ann.asks("relay", "status")["pid"])


EPHEMERAL: Final = 32_768
"""From here the kernel gives numbers to connections that name none, so a port found there is soon somebody else's.
Linux' default."""


def free_port(address: str = "127.0.0.1") -> int:
    """A port of the loopback that nobody listens on now, and that no connection is given meanwhile."""
    while True:
        with contextlib.suppress(OSError), socket.create_server((address, random.randrange(10_000, EPHEMERAL))) as sock:
            return int(sock.getsockname()[1])


def texts(page: Any) -> list[str]:
    return [message["text"] for message in page["messages"]]


def spellings(code: str) -> set[bytes]:
    """Every way a key may be written down. Of the key of a sealed room the secret part alone counts too, and the route
    does not: the relay finds the room by it."""
    if "U" in code:
        return {each.encode() for text in (code, code.partition("U")[2]) for each in (text, text.lower())}
    plain = codes.normalise(code)
    return {each.encode() for text in (code, plain) for each in (text, text.lower())}


def enters(team: Team, one: Somebody, name: str, opened: Any) -> None:
    """Knock from another machine, and be let in by Ann, who types the code."""
    waits = one.asks("--as", name, "session", "join", opened["key"], "--no-wait", expect=4)
    assert waits["status"] == "pending"
    assert waits["messages"] == []
    team.ann.asks("session", "approve", name, "--code", waits["code"])


@contextlib.contextmanager
def people(patch: pytest.MonkeyPatch) -> Iterator[Team]:
    """The team on one machine, with its relay running. Whatever any of them started is ended afterwards."""
    skip_below_an_agent_host()
    with contextlib.ExitStack() as stack:
        ann, ben, cara = (stack.enter_context(somebody(patch)) for _ in range(3))
        words = ("--bind", "127.0.0.1", "--port", str(free_port()))
        ann.asks("connect", "--team", *words)
        yield Team(ann, ben, cara)


class Apart(NamedTuple):
    """The team on machines of their own, which a network connects."""

    team: Team
    ann: Machine
    ben: Machine
    cara: Machine


@contextlib.contextmanager
def apart(patch: pytest.MonkeyPatch) -> Iterator[Apart]:
    """The team, each with a machine; Ann's has a second interface, and she says nothing of addresses when she makes the
    relay. The test is skipped where there can be no such machines."""
    skip_below_an_agent_host()
    if reason := machines.missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        network = stack.enter_context(machines.network())
        persons = [stack.enter_context(somebody(patch)) for _ in range(3)]
        places = [network.machine(name, number) for number, name in enumerate(("ann", "ben", "cara"), 1)]
        for person, place in zip(persons, places, strict=True):
            person.machine = place.words
        places[0].has_another_interface("10.178.0.1")
        persons[0].asks("connect", "--team")
        yield Apart(Team(*persons), *places)


NO_ADDRESS: Final = Change(
    "relay/standing.py", "return [spelled(self._address, self._place.port)] if self._address else []", "return []"
)
"""A relay that does not know where others reach it. Daemons would go past a wire to an address that they were told."""


@contextlib.contextmanager
def wired(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[Team]:
    """The team on one machine, where each daemon comes to the relay by a wire and an address of its own. `folder` is
    for the relay's program."""
    skip_below_an_agent_host()
    with contextlib.ExitStack() as stack:
        ann, ben, cara = (stack.enter_context(somebody(patch)) for _ in range(3))
        port = free_port()
        release = Release(folder / "release", NO_ADDRESS)
        ann.starts("relay", "--bind", "127.0.0.1", "--port", str(port), program=release.parler)
        until(lambda: ann.asks("relay", "status", expect=None)["running"], "relay")
        team = Team(ann, ben, cara)
        for number, one in enumerate((ann, ben, cara), 2):
            address = f"127.0.0.{number}" if sys.platform == "linux" else "127.0.0.1"
            team.wires[one] = stack.enter_context(Wire(address, ("127.0.0.1", port)))
        team.joins(ann)
        yield team
