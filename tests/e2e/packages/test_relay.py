"""The relay as its image and its unit start it: the same words, no capability, one folder for all that it writes.

The image itself is built and run by `test_systems`, which takes minutes.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import parlerd
from tests.support.packaged import NEWER, Environment, Machine
from tests.support.processes import until
from tests.support.team import free_port, skip_below_an_agent_host

pytestmark = pytest.mark.e2e


class Relay:
    """A relay with its volume, and two people who have it in a home each."""

    def __init__(self, machine: Machine, words: list[str], health: list[str]) -> None:
        self.environment = Environment(machine, machine.home / "opt")
        self._machine, self._words, self._health = machine, words, health
        self._volume = machine.home / "volume"
        self._volume.mkdir()

    @contextmanager
    def runs(self) -> Iterator[dict[str, Any]]:
        """While it runs: how it says it is, once the image's health check finds it well."""
        child = subprocess.Popen(
            [*self._rights(), str(self.environment.bin / "parler"), *self._words],
            env=self._variables(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: self._ask(*self._health).returncode == 0 or child.poll() is not None, "healthy relay")
            assert child.poll() is None, child.communicate()
            yield json.loads(self._ask("relay", "status", "--json").stdout)
        finally:
            child.terminate()
            child.communicate(timeout=60)

    def refuses(self) -> str:
        """What the relay says that does not start."""
        ran = self._ask(*self._words)
        assert ran.returncode != 0
        return ran.stderr + ran.stdout

    def restores(self) -> None:
        """Put the newest copy that an upgrade made in the place of the store, as the page says."""
        folder = self._volume / "parler" / "relay"
        newest = max((folder / "backups").glob("*.db"))
        for file in folder.glob("parler.db*"):
            file.unlink()
        shutil.copy(newest, folder / "parler.db")

    def secret(self) -> str:
        return (self._volume / "parler" / "relay" / "join-secret").read_text()

    def _ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self._rights(), str(self.environment.bin / "parler"), *words]
        return subprocess.run(command, env=self._variables(), cwd="/", capture_output=True, text=True, check=False)

    def _rights(self) -> list[str]:
        if os.geteuid():
            return []
        return ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]

    def _variables(self) -> dict[str, str]:
        return {"HOME": str(self._volume), "PARLER_HOME": f"{self._volume}/parler", "PATH": "/usr/bin:/bin"}


@pytest.fixture
def relay(machine: Machine, packages: Path) -> Relay:
    skip_below_an_agent_host()
    image = (packages / "relay" / "Dockerfile").read_text()
    unit = (packages / "relay" / "parler-relay.service").read_text()
    (health,) = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", image, re.MULTILINE)
    (started,) = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    (line,) = re.findall(r"^ExecStart=/usr/bin/parler (.*)$", unit, re.MULTILINE)
    words = json.loads(started)
    assert shlex.split(line) == words
    assert words[-2:] == ["--port", "7777"]
    # Another port, because these tests run side by side; and the loopback, because the machine's address is its own.
    one = Relay(machine, [*words[:-1], str(free_port()), "--bind", "127.0.0.1"], json.loads(health)[1:])
    (wheel,) = packages.glob("*.whl")
    one.environment.installs(wheel)
    return one


def test_two_people_meet_on_it_and_go_on_after_an_upgrade_and_a_way_back_with_the_same_folder(
    relay: Relay, machine: Machine, packages: Path, newer: Path, tmp_path: Path
) -> None:
    parler = [relay.environment.bin / "parler"]

    def person(name: str, *words: str, expect: int = 0) -> Any:
        return machine.asks([*parler, "--home", str(machine.home / name)], *words, expect=expect, agent=name)

    with relay.runs() as status:
        secret = tmp_path / "secret"
        secret.write_text(relay.secret())
        for name in ("ann", "ben"):
            person(name, "connect", "--relay", status["join_line"], "--join-secret-file", str(secret))
        opened = person("ann", "session", "open", "--topic", "auth", "--context", "Chose PKCE.")
        assert opened["key"].endswith(f"@{status['name']}")
        knock = person("ben", "session", "join", opened["key"], "--no-wait", expect=4)
        person("ann", "session", "approve", "ben", "--code", knock["code"])
        person("ben", "session", "join", opened["key"])
        person("ben", "send", "on it")
        assert [each["text"] for each in person("ann", "recv", "--wait", "60")["messages"]] == ["on it"]

    (wheel,) = newer.glob("*.whl")
    relay.environment.installs(wheel)
    with relay.runs() as status:
        assert status["version"] == NEWER
        person("ben", "send", "still here")
        assert "still here" in [each["text"] for each in person("ann", "recv", "--wait", "60")["messages"]]

    # Back again: the older relay refuses the store of the newer one, and the backup that the upgrade made is its own.
    (wheel,) = packages.glob("*.whl")
    relay.environment.installs(wheel)
    assert NEWER in relay.refuses()
    relay.restores()
    with relay.runs() as status:
        assert status["version"] == parlerd.__version__

        def is_told() -> bool:
            return "relay_rolled_back" in json.dumps(person("ann", "rooms"))

        # What was said after the upgrade is gone at the relay: whoever opened the room lets it go on.
        until(is_told, "that the relay holds less than it told")
        person("ann", "room", "rewind", opened["room"], "--yes")
        until(lambda: person("ben", "send", "once more").get("seq"), "the room that goes on")
        assert "once more" in [each["text"] for each in person("ann", "recv", "--wait", "60")["messages"]]
