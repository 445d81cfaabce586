"""Packages as people get them, and an empty machine to install them on.

`built` makes all packages once for a whole run of tests, of this version and of one that comes after it. A `Machine`
has an empty HOME, the tools that are named and nothing of the environment of the tests but how a package index is
reached. Not here: what is tried on it (`tests/e2e/packages`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from configs.package.__main__ import make
from mcp_server.heard import hear
from parlerd.store.upgrade import shipped_schema
from tests.support.processes import NONE, Variables, command_lines, kill
from tests.support.reader import key_in

NEWER: Final = "99.0.0"
"""A version to come, whose database has one table more."""
NEWER_SCHEMA: Final = {
    f"parlerd/store/schema/{shipped_schema().version + 1}.sql": "CREATE TABLE yet_to_come (x INTEGER) STRICT;\n"
}
"""The file that it has beside those of today."""
LIMIT_S: Final = 240.0
"""For one installation. With an empty cache it takes twenty seconds."""
_TRIES: Final = 3
"""Calls that are under way while a daemon is replaced may fail, and say that they can be made again."""
_INDEX: Final = re.compile(r"(?i)(PIP|UV|SSL|REQUESTS)_|.*_PROXY$")
"""Variables that say how a package index is reached."""


def built(shared: Path, version: str = "") -> Path:
    """The folder of all packages of this version, or of `NEWER`; made by whoever comes first."""
    folder = shared / f"packages-{version or 'now'}"
    more = NEWER_SCHEMA if version else {}
    with (shared / "packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "SHA256SUMS").exists():
            shutil.rmtree(folder, ignore_errors=True)
            make(folder, version, more)
    return folder


@cache
def index_is_reached() -> bool:
    """Whether packages can be fetched from the Python package index."""
    with tempfile.TemporaryDirectory(prefix="parler-index-") as folder:
        target = ["--target", folder, "--no-deps", "--no-cache", "--quiet", "outcome"]
        tool = [sys.executable, "-I", "-m", "uv", "pip", "install"]
        return subprocess.run([*tool, *target], capture_output=True, timeout=60, check=False).returncode == 0


def needs_index() -> None:
    """Skip the test where nothing can be fetched."""
    if not index_is_reached():
        pytest.skip("the Python package index is not reached from here")


class Window:
    """The host's side of a window: it asks a line and gets a line."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        about = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "a-client", "version": "1"},
        }
        self.server = self._ask("initialize", about)["serverInfo"]
        self._say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def call(self, tool: str, **arguments: Any) -> str:
        """The text that a tool answers. A call that the host may make again, after an upgrade, is made again."""
        text = ""
        for _ in range(_TRIES):
            result = self._ask("tools/call", {"name": tool, "arguments": arguments})
            text = str(result["content"][0]["text"])
            if not result.get("isError"):
                return text
        raise AssertionError(text)

    def _ask(self, method: str, params: Any) -> Any:
        self._say({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        assert self._child.stdout is not None
        for line in self._child.stdout:
            said = json.loads(line)
            if said.get("id") == 1:
                return said["result"]
        raise AssertionError("the window is closed")

    def _say(self, message: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(message) + "\n")
        self._child.stdin.flush()


class Machine:
    """An empty HOME in `folder`. `bin` is in front of PATH, and `tools` are linked into it."""

    def __init__(self, folder: Path, shared: Path, **tools: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name, path in {"python3": Path(sys.executable).resolve(), **tools}.items():
            (self.bin / name).symlink_to(path)
        self._cache = shared / "cache"
        self.variables: dict[str, str] = {}
        """What the environment also says."""

    def environment(self, **more: str) -> dict[str, str]:
        reached = {name: value for name, value in os.environ.items() if _INDEX.match(name)}
        return {
            **reached,
            "HOME": str(self.home),
            "PATH": f"{self.home}/.local/bin:{self.bin}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            # What was fetched once is fetched from here again; that is no part of what is installed.
            "UV_CACHE_DIR": str(self._cache / "uv"),
            "PIP_CACHE_DIR": str(self._cache / "pip"),
            "UV_PYTHON_PREFERENCE": "only-system",
            # Python compiles what runs; to compile all that is installed takes pip a quarter of a minute.
            "PIP_NO_COMPILE": "1",
            **self.variables,
            **more,
        }

    def runs(
        self, *words: str | Path, expect: int = 0, cwd: Path | None = None, variables: Variables = NONE
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine."""
        ran = subprocess.run(
            [str(word) for word in words],
            cwd=cwd or self.home,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert ran.returncode == expect, (words, ran.returncode, ran.stdout[-4000:], ran.stderr[-4000:])
        return ran

    def asks(self, parler: Sequence[str | Path], *words: str, expect: int = 0, agent: str = "") -> Any:
        """A command of Parler with `--json`: its document."""
        variables = {"PARLER_AGENT": agent} if agent else NONE
        return json.loads(self.runs(*parler, *words, "--json", expect=expect, variables=variables).stdout)

    def two_agents_talk(self, parler: Sequence[str | Path], topic: str = "auth") -> None:
        """The main job: ann opens, ben knocks, a person types his code, and both hear each other."""
        opened = self.asks(parler, "session", "open", "--topic", topic, "--context", "Chose PKCE.", agent="ann")
        knock = self.asks(parler, "session", "join", opened["key"], expect=4, agent="ben")
        assert knock["status"] == "pending"
        self.asks(parler, "session", "approve", "ben", "--room", topic, "--code", knock["code"], agent="ann")
        joined = self.asks(parler, "session", "join", opened["key"], agent="ben")
        assert [each["text"] for each in joined["messages"]] == ["Chose PKCE."]
        self.asks(parler, "send", "--room", topic, "on it", agent="ben")
        heard = self.asks(parler, "recv", "--room", topic, agent="ann")["messages"]
        assert [each["text"] for each in heard] == ["on it"]

    def two_windows_talk(self, parler: Sequence[str | Path], *server: str | Path) -> None:
        """The same by the tools of a server: two windows that are started alike, and the person at a terminal."""
        with self.window(*server, agent="ann") as ann, self.window(*server, agent="ben") as ben:
            key = key_in(ann.call("parler_open_session", topic="auth", context="Chose PKCE."))
            code = hear(ben.call("parler_join_session", key=key)).join_code
            assert code
            self.asks(parler, "session", "approve", "ben", "--room", "auth", "--code", code, agent="ann")
            assert "Chose PKCE." in ben.call("parler_recv", wait_secs=5)
            ben.call("parler_send", text="on it")
            assert "on it" in ann.call("parler_recv", wait_secs=5)

    def still_talks(self, parler: Sequence[str | Path], topic: str = "auth", text: str = "still here") -> None:
        """The conversation that was opened before goes on."""
        self.asks(parler, "send", "--room", topic, text, agent="ann")
        heard = self.asks(parler, "recv", "--room", topic, agent="ben")["messages"]
        assert text in [each["text"] for each in heard]

    def left(self) -> set[str]:
        """Every file of ours in HOME outside of Parler's home: what has our name in its own, or in its text."""
        found = set()
        for path in self.home.rglob("*"):
            inside = path.relative_to(self.home)
            if inside.parts[0] == ".parler" or path.is_dir():
                continue
            if "parler" in str(inside) or (path.is_file() and b"parler" in path.read_bytes()):
                found.add(str(inside))
        return found

    @contextmanager
    def window(self, *command: str | Path, agent: str) -> Iterator[Window]:
        """A window of that agent, which a program of this machine serves."""
        child = subprocess.Popen(
            [str(word) for word in command],
            cwd=self.home,
            env=self.environment(PARLER_AGENT=agent),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield Window(child)
        finally:
            child.kill()
            child.communicate()

    def processes(self) -> list[int]:
        """The living processes whose command line names a path of this machine."""
        return [pid for pid, words in command_lines() if any(str(self.home) in word for word in words)]

    def end(self) -> None:
        """End everything that runs here."""
        for pid in self.processes():
            kill(pid)


class Environment:
    """An environment of Python on a machine, which borrows what Parler runs on from the one of the tests: nothing is
    fetched."""

    def __init__(self, machine: Machine, root: Path) -> None:
        self.machine = machine
        self.bin = root / "bin"
        venv.EnvBuilder(symlinks=True, with_pip=False).create(root)
        (self.site,) = root.glob("lib/python*/site-packages")
        # Behind the environment's own packages, as a system's packages are.
        (self.site / "lent.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def installs(self, wheel: Path) -> None:
        """Put a wheel in, in the place of another version."""
        self._pip("install", "--no-deps", "--reinstall", str(wheel))

    def removes(self, name: str) -> None:
        self._pip("uninstall", name)

    def _pip(self, *words: str) -> None:
        uv = [sys.executable, "-I", "-m", "uv", "pip"]
        self.machine.runs(*uv, *words, "--offline", "--python", str(self.bin / "python"))
