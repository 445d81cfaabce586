"""Run a command line in this process, against a fake daemon, with nothing of the real environment."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from parlerd.cli.main import main, wants_json
from parlerd.cli.output import Output
from tests.support.fake_client import FakeDaemon


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Keyboard(io.BytesIO):
    """A stdin that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; fails when there is anything else."""
        assert self.stdout.count("\n") == 1
        assert self.stdout.isascii()
        return json.loads(self.stdout)

    @property
    def items(self) -> list[Any]:
        """The objects of a stream, one a line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


@dataclass
class Shell:
    """Where commands are run: a fake daemon, an own home."""

    home: Path
    daemon: FakeDaemon = field(default_factory=FakeDaemon)

    def run(
        self,
        *argv: str,
        stdin: bytes = b"",
        terminal: bool = False,
        width: int = 100,
        env: Mapping[str, str] | None = None,
        stdout: io.StringIO | None = None,
    ) -> Ran:
        """Run `parler` with these arguments."""
        written = stdout if stdout is not None else Terminal() if terminal else io.StringIO()
        errors = Terminal() if terminal else io.StringIO()
        out = Output(written, errors, json=wants_json(argv), width=width)
        environment = {"HOME": str(self.home), **(env or {})}
        source = Keyboard(stdin) if terminal else io.BytesIO(stdin)
        code = main(argv, out=out, env=environment, open_client=self.daemon.connect, stdin=source)
        return Ran(code, written.getvalue(), errors.getvalue())
