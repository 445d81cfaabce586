"""A HOME that a real agent host is wired in by `parler connect`, as a person would, and asked in.

The host's file has other servers in it before, which must be there after. Nothing of the environment of the tests
reaches the host: HOME, PATH, a terminal that can do nothing, and what keeps it off the network.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from configs.hosts import find_host
from configs.model import candidates
from tests.e2e.hosts.programs import NODE, QUIET, command, file_of, find, missing
from tests.support.processes import NONE, PARLER, ROOT, Somebody, Variables

LIMIT_S: Final = 60.0
"""For one question to a host. On an idle machine none takes longer than three."""
OFFLINE: Final[Variables] = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
"""A proxy at the port of `discard`, where nobody listens: what a host asks of the world is refused at once."""
OTHER: Final[dict[str, Any]] = {"command": "/nonexistent/weather-server", "args": ["--city", "Zürich"]}
"""A server that somebody has configured and that does not start."""


class Sandbox:
    """One program in somebody's HOME, with a folder to be started in."""

    def __init__(self, somebody: Somebody, name: str) -> None:
        if reason := missing(name):
            pytest.skip(reason)
        self.somebody = somebody
        self.program = find(name)
        self.folder = somebody.user / "project"
        self.folder.mkdir(exist_ok=True)

    @property
    def file(self) -> Path:
        """The host's file of servers."""
        return candidates(find_host(self.program.host), "linux", {"HOME": str(self.somebody.user)})[0]

    def has(self, text: str) -> bytes:
        """Let that be the host's file, as it was before Parler came."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")
        return text.encode()

    def connect(self, text: str) -> None:
        """Wire the host whose file holds `text`; and see first that taking us out gives back every byte."""
        before = self.has(text)
        assert self._connect("added") != before
        assert self.remove() == before
        self._connect("added")

    def allow(self) -> None:
        """Wire the host, and let it use the tools that read and talk without asking, where that has a setting."""
        document = self.somebody.asks("connect", self.program.host, "--allow", "--yes")
        assert [outcome["status"] for outcome in document["hosts"]] == ["added"], document
        assert {outcome["status"] for outcome in document["allowed"]} <= {"added", "skipped"}, document

    def writes(self, path: str, text: str) -> None:
        """Let a file of HOME hold that."""
        file = self.somebody.user / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def remove(self) -> bytes:
        """Take our entry out again; what the file holds then."""
        (outcome,) = self.somebody.asks("connect", "--remove", self.program.host)["hosts"]
        assert (outcome["host"], outcome["status"]) == (self.program.host, "removed"), outcome
        return self.file.read_bytes()

    def environment(self) -> dict[str, str]:
        """All that the host gets."""
        path = f"{file_of(NODE).parent}:/usr/bin:/bin"
        return {"HOME": str(self.somebody.user), "PATH": path, "TERM": "dumb", "LANG": "C.UTF-8", **OFFLINE, **QUIET}

    def asks(self, *words: str, expect: int | None = 0, variables: Variables = NONE, answers: str = "") -> str:
        """What the host says to that, out and err; `answers` is what the person types."""
        ran = subprocess.run(
            [*command(self.program.name), *words],
            cwd=self.folder,
            env={**self.environment(), **variables},
            input=answers,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert expect is None or ran.returncode == expect, ran.stdout
        return ran.stdout

    @contextmanager
    def talking(self, *words: str, variables: Variables = NONE) -> Iterator[subprocess.Popen[str]]:
        """The host as a process to talk with, until the talk is over. Some take half a minute to end by themselves."""
        with subprocess.Popen(
            [*command(self.program.name), *words],
            cwd=self.folder,
            env={**self.environment(), **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as child:
            try:
                yield child
            finally:
                child.kill()

    def begins(
        self,
        words: Sequence[str],
        out: Path,
        variables: Variables = NONE,
        *,
        brings: Sequence[str] = (),
        path: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """The host as a process of its own group that writes all it says to a file; with `brings` that command of
        Parler's starts it, by way of PATH."""
        environment = self.environment()
        if path is not None:
            environment |= {"PATH": f"{path}:{environment['PATH']}", "PYTHONPATH": str(ROOT)}
        with out.open("wb") as file:
            return subprocess.Popen(
                [*PARLER, *brings] if brings else [*command(self.program.name), *words],
                cwd=self.folder,
                env={**environment, **variables},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def entry_command(self) -> list[str]:
        """How Parler is started, as `connect --print` says it."""
        (printed,) = self.somebody.asks("connect", "--print", "claude-code")["hosts"]
        entry = json.loads(printed["snippet"])["mcpServers"]["parler"]
        return [entry["command"], *entry["args"]]

    def _connect(self, expected: str) -> bytes:
        (outcome,) = self.somebody.asks("connect", self.program.host)["hosts"]
        assert (outcome["host"], outcome["status"]) == (self.program.host, expected), outcome
        assert outcome["path"] == str(self.file)
        return self.file.read_bytes()


def without_parler(document: Any, *path: str) -> Any:
    """A document without our key in the table at `path`."""
    copy = json.loads(json.dumps(document))
    table = copy
    for key in path:
        table = table[key]
    del table["parler"]
    return copy
